"""The lake's benchmark measures what it says, on something small."""

from datetime import timedelta

import pytest

from data.benchmarks import bench_lake, year
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
    assert told[-1] == ("done", 5, 5)


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
