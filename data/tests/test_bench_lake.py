"""The lake's benchmark measures what it says, on something small."""

import json
from datetime import timedelta

import pytest

from data.benchmarks import bench_lake, memory, year
from data.lake import Lake

FIGURE = {"what", "value", "unit", "baseline", "baseline_value", "ratio", "target", "holds"}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Everything a thousandth of its size."""
    monkeypatch.setattr(bench_lake, "_FRAMES", 6_000)
    monkeypatch.setattr(bench_lake, "_FILES", 6)
    monkeypatch.setattr(bench_lake, "_FILE_ROWS", 50)
    monkeypatch.setattr(bench_lake, "_FLIPPED", 5)
    monkeypatch.setattr(bench_lake, "_REPEATS", 1)
    monkeypatch.setattr(year, "TRADES_A_DAY", 2_880)
    monkeypatch.setattr(year, "SYMBOLS", year.SYMBOLS[:8])

    def two_days(folder, tell):
        lake = Lake(folder, create=True)
        for number in range(2):
            tables = zip(("trades", "klines"), year.day_rows(year.FIRST_DAY + timedelta(days=number)), strict=True)
            lake.append_all(dict(tables), origin="synthetic year")
        return lake, True

    monkeypatch.setattr(bench_lake, "year", lambda folder, tell, days: two_days(folder, tell))
    monkeypatch.setattr(bench_lake, "DAYS", 2)
    monkeypatch.setattr(bench_lake, "memory_figures", lambda folder: [])  # minutes; what they measure is tested below
    return tmp_path


def test_every_figure_says_what_was_measured_and_whether_its_target_holds(small):
    told = []
    figures = bench_lake.bench_lake(small, None, lambda *how_far: told.append(how_far))
    assert all(set(figure) == FIGURE for figure in figures)
    exact = {figure["what"]: figure["value"] for figure in figures if figure["unit"] in ("of 1", "files")}
    assert exact == {
        "the same bytes when merged again": 1.0,
        "found: one flipped bit in each of 5 files": 1.0,
        "found where nothing is wrong": 0.0,
    }
    assert any(figure["what"].startswith("raw: 6,000 frames") and figure["holds"] for figure in figures)
    assert told[0] == ("queries over a year", 0, 6)
    assert told[-1] == ("done", 6, 6)


def test_a_synthetic_day_has_no_holes_and_bars_that_agree_with_its_trades():
    trades, klines = year.day_rows(year.FIRST_DAY)
    next_trades, _ = year.day_rows(year.FIRST_DAY + timedelta(days=1))
    one = trades.filter(symbol="S03USDT")
    bars = klines.filter(symbol="S03USDT")
    assert one["agg_trade_id"].to_list() == list(range(year.TRADES_A_DAY))
    assert next_trades.filter(symbol="S03USDT")["agg_trade_id"][0] == year.TRADES_A_DAY
    assert bars.height == 1_440
    assert bars["volume"].sum() == pytest.approx(one["quantity"].sum())
    assert bars["trade_count"].sum() == year.TRADES_A_DAY
    assert (bars["low"] <= bars["open"]).all()


def test_the_peak_of_a_process_is_its_own_and_not_that_of_who_asks(tmp_path):
    held = b"x" * 300_000_000  # of this process
    assert 5 < memory._peak_mb("json.tool", "--help") < len(held) / 1e6
    (tmp_path / "told.json").write_text(json.dumps("y" * 100_000_000))
    assert memory._peak_mb("json.tool", str(tmp_path / "told.json"), str(tmp_path / "again.json")) > 100


def test_a_process_that_fails_ends_the_benchmark_with_its_words():
    with pytest.raises(RuntimeError, match=r"json\.tool nowhere ended with status"):
        memory._peak_mb("json.tool", "nowhere")
