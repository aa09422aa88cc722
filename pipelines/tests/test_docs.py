"""The documents are true: what they name exists, what they show runs."""

import doctest
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from data import schema_page
from data.schema import TRADES
from live.runner import main as live
from pipelines.cli import cli
from pipelines.identity import CHECKOUT
from pipelines.tests.test_settings_import import CURRENT, GRID, SETTINGS
from research.strategies.registry import STRATEGIES

DOCS = sorted(CHECKOUT.glob("*/docs/*.md"))
MADE_LATER = (
    "data/lake",
    "pipelines/runs",
    "live/configs/chosen.toml",
    "live/journals/first.sqlite",
    "data/venues/NAME.py",
    "research/strategies/reversal.py",
)
MIGRATING = (CHECKOUT / "pipelines" / "docs" / "migrating.md").read_text()


def shown(page: str) -> list[tuple[str, list[str]]]:
    """Commands of a page's sessions, each with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line != "...":
            found[-1][1].append(line)
    return found


def named(page: str) -> list[list[str]]:
    """Every ``aster`` command line that a page shows or names, as words."""
    spans = re.findall(r"`(aster [^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    return [shlex.split(line.removesuffix(" &")) for line in (*spans, *(line for line, _ in shown(page)))]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_command_and_option_that_a_page_names_exists(path):
    for program, *words in named(path.read_text()):
        options = [word for word in words if word.startswith("--") and word != "--"]
        command = live if program == "aster-live" else cli
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not cli, words
        known = {option for each in command.params for option in each.opts}
        if "--" not in words:  # what is behind it is another program's
            assert set(options) <= known, (path.name, command.name)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_path_that_a_page_names_exists(path):
    names = re.findall(r"`((?:data|research|live|pipelines|notebooks)/[\w/.]+)`", path.read_text())
    assert [name for name in names if not (CHECKOUT / name).exists() and name not in MADE_LATER] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_name_of_a_module_that_a_page_mentions_is_there(path):
    for name, module in re.findall(r"`(\w+)` of\s+`([\w/]+\.py)`", path.read_text()):
        assert re.search(rf"^(def |class )?{name}\b", (CHECKOUT / module).read_text(), flags=re.MULTILINE), name


def test_the_lakes_page_is_that_of_the_schema():
    assert schema_page.PAGE.read_text() == schema_page.page(), "write it again: python -m data.schema_page"


def test_the_lakes_page_says_what_every_column_of_trades_means():
    (trades,) = re.findall(r"^## trades\n(.*?)^##", schema_page.page(), flags=re.DOTALL | re.MULTILINE)
    assert "| `is_buyer_maker` | true or false | m: true means an aggressive sell |" in trades
    assert all(f"| `{name}` |" in trades for name in TRADES.columns)


def test_the_strategies_page_has_every_strategy_and_its_parameters_and_computes_as_shown():
    page = CHECKOUT / "research" / "docs" / "strategies.md"
    told = page.read_text()
    assert set(re.findall(r"^## ([a-z_]+)$", told, flags=re.MULTILINE)) == set(STRATEGIES)
    names = {name for module in STRATEGIES.values() for name in module.Params._fields}
    assert {name for name in names if f"`{name}`" not in told} == set()
    assert doctest.testfile(str(page), module_relative=False) == (0, 12)


def test_the_questions_of_the_new_venue_are_questions():
    page = (CHECKOUT / "data" / "docs" / "new_venue.md").read_text()
    made = {}
    exec(textwrap.dedent(re.search(r" *```python\n(.*?) *```", page, flags=re.DOTALL)[1]), made)
    (question,) = made["open_interest_questions"]()
    assert (question.path, question.venue) == ("/perpetualMarkets", "dydx")


def test_migrating_goes_as_shown(real_data, tmp_path, monkeypatch):
    first_rows(real_data / "collector-2025-09-24", tmp_path / "ASTER_data", "*_ASTERUSDT.csv")
    first_rows(real_data / "midfreq-logs", tmp_path / "logs", "[bk]*.csv")
    for name, text in {"settings": SETTINGS, "config_current": CURRENT, "config_grid": GRID}.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "pipelines").symlink_to(CHECKOUT / "pipelines")
    monkeypatch.setenv("ASTER_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    for command, lines in shown(MIGRATING):
        done = CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert [line for line in lines if line not in done.output] == []


def first_rows(theirs: Path, ours: Path, names: str) -> None:
    """A folder of CSV files as it was soon after its first row."""
    ours.mkdir()
    for path in theirs.glob(names):
        (ours / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:50]))
