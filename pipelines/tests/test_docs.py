"""The documents are true: what they name exists, what they show runs."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from live.runner import main as live
from pipelines.cli import cli
from pipelines.identity import CHECKOUT
from pipelines.tests.test_settings_import import CURRENT, GRID, SETTINGS

DOCS = sorted(CHECKOUT.glob("*/docs/*.md"))
MADE_LATER = ("data/lake", "pipelines/runs", "live/configs/chosen.toml", "live/journals/first.sqlite")
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
