"""The synthetic market's doors: the same rows every time, holes, limits and filling a lake."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from data import synthetic
from data.lake import Lake
from data.synthetic import ALT_LIKE, BTC_LIKE, Hole, MarketSpec, fill_lake, generate

MARKET = MarketSpec(
    symbols=(BTC_LIKE, ALT_LIKE), start=datetime(2026, 1, 1, tzinfo=UTC), days=3, seed=7, depth_interval_s=10
)
FIRST, SECOND = MARKET.dates[:2]


class InterruptedLake(Lake):
    """Stops, as a keyboard interrupt does, once a few tables have landed."""

    tables_left = 4

    def append(self, table, frame, *, origin):
        if self.tables_left == 0:
            raise KeyboardInterrupt
        self.tables_left -= 1
        return super().append(table, frame, origin=origin)


@pytest.fixture
def an_hour():
    return MarketSpec(symbols=(BTC_LIKE,), start=datetime(2026, 1, 1, tzinfo=UTC), days=1 / 24, seed=1)


def test_the_same_spec_gives_the_same_rows_whichever_day_is_asked_for_first():
    forwards = {day: generate(MARKET, "BTCUSDT", day) for day in MARKET.dates}
    synthetic._remembered_market.cache_clear()
    for day in reversed(MARKET.dates):
        for table, frame in generate(MARKET, "BTCUSDT", day).items():
            assert frame.equals(forwards[day][table], null_equal=True), (day, table)


def test_more_days_more_symbols_and_holes_change_no_other_row():
    hole = Hole(table="mark_price", symbol="BTCUSDT", start=MARKET.start, end=MARKET.start + timedelta(minutes=1))
    short = replace(MARKET, days=2, symbols=(BTC_LIKE,), holes=(hole,))
    for table, frame in generate(short, "BTCUSDT", SECOND).items():
        assert frame.equals(generate(MARKET, "BTCUSDT", SECOND)[table], null_equal=True), table


def test_another_seed_gives_another_market():
    other = replace(MARKET, seed=8)
    assert not generate(other, "BTCUSDT", FIRST)["klines"].equals(generate(MARKET, "BTCUSDT", FIRST)["klines"])


def test_a_hole_drops_its_rows_and_nothing_else():
    hole = Hole(
        table="trades",
        symbol="BTCUSDT",
        start=datetime(2026, 1, 1, 5, tzinfo=UTC),
        end=datetime(2026, 1, 1, 6, tzinfo=UTC),
    )
    with_hole = generate(replace(MARKET, holes=(hole,)), "BTCUSDT", FIRST)
    without = generate(MARKET, "BTCUSDT", FIRST)
    dropped = without["trades"].join(with_hole["trades"], on="agg_trade_id", how="anti")
    assert dropped["event_time"].dt.hour().unique().to_list() == [5]
    assert with_hole["trades"].filter(pl.col("event_time").dt.hour() == 5).height == 0
    assert with_hole["klines"].equals(without["klines"])


def test_a_market_may_start_and_end_within_a_day():
    spec = replace(MARKET, start=datetime(2026, 1, 1, 22, 30, tzinfo=UTC), days=0.125)
    assert spec.dates == [date(2026, 1, 1), date(2026, 1, 2)]
    klines = pl.concat([generate(spec, "BTCUSDT", day)["klines"] for day in spec.dates])
    assert klines.height == 180
    assert klines["open_time"][0] == spec.start
    instruments = generate(spec, "BTCUSDT", FIRST)["instruments"]
    assert instruments["event_time"].to_list() == [spec.start]
    assert "instruments" not in generate(spec, "BTCUSDT", SECOND)


def test_brackets_continue_without_a_step():
    brackets = generate(MARKET, "BTCUSDT", FIRST)["instruments"]["brackets"][0]
    first, second = brackets
    edge = first["notional_cap_usdt"]
    assert (
        edge * first["maintenance_margin_rate"]
        == edge * second["maintenance_margin_rate"] - second["maintenance_amount_usdt"]
    )


def rows_in(lake: Lake) -> dict[str, int]:
    """Rows per table of the files the lake knows."""
    counts = {}
    for entry in lake.files():
        counts[entry.table] = counts.get(entry.table, 0) + entry.rows
    return counts


def test_filling_twice_lands_everything_once(an_hour, tmp_path):
    lake = Lake(tmp_path, create=True)
    steps = []
    landed = fill_lake(lake, an_hour, progress=lambda done, total: steps.append((done, total)))
    assert landed["klines"] == 60
    assert landed == rows_in(lake)
    assert steps == [(1, 1)]
    assert fill_lake(lake, an_hour) == {}
    assert landed == rows_in(lake)


def test_an_interrupted_filling_goes_on_where_it_was(an_hour, tmp_path):
    whole = fill_lake(Lake(tmp_path / "whole", create=True), an_hour)
    with pytest.raises(KeyboardInterrupt):
        fill_lake(InterruptedLake(tmp_path / "broken", create=True), an_hour)
    lake = Lake(tmp_path / "broken")
    before = rows_in(lake)
    rest = fill_lake(lake, an_hour)
    assert len(before) == 4
    assert before | rest == whole == rows_in(lake)


def test_another_market_does_not_fit_into_the_same_lake(an_hour, tmp_path):
    lake = Lake(tmp_path, create=True)
    fill_lake(lake, an_hour)
    with pytest.raises(ValueError, match="fill an empty lake"):
        fill_lake(lake, replace(an_hour, seed=2))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"start": datetime(2026, 1, 1)}, "pass tzinfo=UTC"),
        ({"days": 0}, "at least a minute"),
        ({"symbols": (BTC_LIKE, BTC_LIKE)}, "different"),
        ({"mark_interval_s": 7}, "mark_interval_s"),
        ({"quote_interval_s": 5, "depth_interval_s": 2}, "multiple of quote_interval_s 5, got 2"),
        ({"depth_levels": 7}, "expected 5, 10 or 20, got 7"),
        ({"holes": (Hole(table="ratios", symbol="BTCUSDT", start=MARKET.start, end=MARKET.end),)}, "no 'ratios'"),
        ({"holes": (Hole(table="trades", symbol="BTCUSDT", start=MARKET.end, end=MARKET.start),)}, "start before end"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_way_out(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(MARKET, **change)


def test_an_unknown_symbol_or_day_is_a_lookup_error_that_says_what_there_is():
    with pytest.raises(LookupError, match="BTCUSDT"):
        generate(MARKET, "ETHUSDT", FIRST)
    with pytest.raises(LookupError, match="runs from 2026-01-01"):
        generate(MARKET, "BTCUSDT", date(2026, 2, 1))


def test_a_leverage_beyond_the_bracket_is_refused():
    with pytest.raises(ValueError, match="expected at most 50"):
        replace(ALT_LIKE, leverages=(100.0,))
