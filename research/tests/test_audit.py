"""Planted cheats are found in the line that holds them; code that keeps to what it could know is left in peace."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from research.audit.examine import audit, examine
from research.audit.market import audit_bars, cut, scrambled, short
from research.execution_bars import EXECUTION
from research.strategies.registry import STRATEGIES

HERE = Path(__file__).parent
CHEATS = sorted(path.name for path in (HERE / "cheats").iterdir() if path.suffix in (".py", ".ipynb"))
PLANTED = "# cheat"


def planted_lines(path: Path) -> list[str]:
    """The lines of a file that cheat, as they stand there."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return sorted(line.strip() for line in text.splitlines() if line.endswith(PLANTED))


def written(folder: Path, body: str) -> Path:
    """A file of the user's."""
    path = folder / "mine.py"
    path.write_text("import numpy as np\nimport polars as pl\n\n\n" + body)
    return path


@pytest.mark.parametrize("name", CHEATS)
def test_every_planted_cheat_is_found_in_its_line_and_nothing_else(name):
    path = HERE / "cheats" / name
    assert sorted(finding.text for finding in audit(path)) == planted_lines(path)


def test_there_are_more_than_twenty_cheats():
    assert sum(len(planted_lines(HERE / "cheats" / name)) for name in CHEATS) > 30


@pytest.mark.parametrize("name", ["columns", "engine"])
def test_the_same_questions_without_the_future_are_left_in_peace(name):
    found = examine(HERE / "honest" / f"{name}.py")
    assert found.findings == ()
    assert all(subject["outputs"] for subject in found.subjects)


@pytest.mark.parametrize("name", STRATEGIES)
def test_our_own_strategies_are_left_in_peace_and_wanted_positions(name):
    found = examine(Path(STRATEGIES[name].__file__))
    assert found.findings == ()
    assert found.notes == ()


def test_our_own_features_are_left_in_peace():
    assert audit(HERE.parent / "features.py") == []


def test_a_finding_says_row_time_column_and_line(tmp_path):
    path = written(tmp_path, "def ahead(bars):\n    return bars['close'].shift(-1)\n")
    (finding,) = audit(path)
    assert (finding.columns, finding.line, finding.text) == (
        ("ahead",),
        (str(path), 6),
        "return bars['close'].shift(-1)",
    )
    bars = audit_bars().frame
    assert finding.time == bars["open_time"][finding.row]
    assert f"is {bars['close'][finding.row + 1]:.6g}, and" in finding.sentence
    assert str(finding).startswith(f"ahead, row {finding.row} ({finding.time:%Y-%m-%d %H:%M} UTC) is")


def test_the_future_comes_in_by_a_helper_and_the_way_out_is_told(tmp_path):
    path = written(
        tmp_path,
        "def _usual(values):\n    mean = np.nanmean(values)\n    return mean\n\n\n"
        "def strange(volume):\n    usual = _usual(volume)\n    return volume / usual\n",
    )
    (finding,) = audit(path)
    assert [line.line for line in finding.through] == [6, 7, 11, 12]


def test_more_history_than_declared_is_a_finding_and_without_declaration_a_note(tmp_path):
    body = "def slow(bars):\n    return bars['close'].rolling_mean(50)\n"
    assert examine(written(tmp_path, body)).notes == ("no LOOKBACK_BARS, so the short buffer was not tried: slow",)
    (finding,) = audit(written(tmp_path, body + "\n\nLOOKBACK_BARS = 20\n"))
    assert "from the 20 bars it declares" in finding.sentence
    assert audit(written(tmp_path, body + "\n\nLOOKBACK_BARS = 50\n")) == []


def test_what_differs_from_run_to_run_is_a_finding(tmp_path):
    (finding,) = audit(written(tmp_path, "def luck(close):\n    return close + np.random.random(len(close))\n"))
    assert "asked again on the same bars" in finding.sentence


def test_labels_look_ahead_on_purpose(tmp_path):
    label = "def future_return(bars):\n    return bars['close'].shift(-1)\n\n\n"
    found = examine(written(tmp_path, label + "def past(bars):\n    return bars['close'].shift(1)\n"))
    assert (found.findings, [row["subject"] for row in found.subjects]) == ((), ["past"])


def test_a_file_that_offers_nothing_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="expected a strategy, FEATURES, or a public function of `bars`"):
        audit(written(tmp_path, "def mean(values):\n    return values.mean()\n"))


def test_code_that_fails_on_whole_bars_is_an_error_with_its_line(tmp_path):
    path = written(tmp_path, "def broken(bars):\n    return bars['klose']\n")
    with pytest.raises(ValueError, match=r"mine\.py, line 6: broken fails .* ColumnNotFoundError"):
        audit(path)


def test_a_notebook_without_bars_says_so(tmp_path):
    path = tmp_path / "empty.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ["x = 1"]}]}))
    with pytest.raises(ValueError, match="expected a cell that assigns the variable `bars`"):
        audit(path)


def test_the_cut_bars_end_before_the_window_of_their_newest_row():
    bars = audit_bars()
    newest = cut(bars, 700).frame[-1]
    assert newest["open_time"][0] == bars.frame["open_time"][699]
    prices = [name for name, dtype in EXECUTION.items() if dtype.is_float()]
    assert np.isnan(newest.select(prices).to_numpy()).all()
    assert short(bars, 700, 30).frame.equals(cut(bars, 700).frame[670:])


@pytest.mark.parametrize("keeps_open", [False, True])
def test_another_future_leaves_the_past_and_is_a_market_of_its_own(keeps_open):
    bars = audit_bars()
    other = scrambled(bars, 700, keeps_open=keeps_open).frame
    assert other[:699].equals(bars.frame[:699])
    assert other["open_time"].equals(bars.frame["open_time"])
    assert (other["exec_open"][699] == bars.frame["exec_open"][699]) is keeps_open
    seen = other.filter(~pl.col("is_gap"))
    assert (seen["low"] <= seen["high"]).all()
    assert seen.select((pl.col("close") != bars.frame.filter(~pl.col("is_gap"))["close"]).tail(500).all()).item()
    assert other["exec_close"][800] == other["close"][801]
