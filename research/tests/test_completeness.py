"""What was seen too little is not judged, and what was hardly recorded is named."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from research.bars import BARS, Bars
from research.completeness import coverage_of, require_coverage, require_inputs, starved

START = datetime(2026, 1, 5, tzinfo=UTC)


def bars(gaps: str) -> Bars:
    """A minute per letter; a dot is one that nobody saw."""
    times = [START + number * timedelta(minutes=1) for number in range(len(gaps))]
    frame = pl.DataFrame(
        {
            "open_time": times,
            "close_time": [time + timedelta(minutes=1) for time in times],
            "is_gap": [letter == "." for letter in gaps],
        },
        schema={name: BARS[name] for name in ("open_time", "close_time", "is_gap")},
    )
    return Bars(symbol="BTCUSDT", interval="1m", frame=frame, instrument={})


def test_coverage_is_the_fraction_of_bars_that_somebody_saw():
    assert coverage_of(bars("xx..xxxx.x")) == pytest.approx(0.7)
    assert coverage_of(bars("xx..xxxx.x"), 4, 8) == 1.0
    assert coverage_of(replace(bars("x"), frame=bars("x").frame.clear())) == 1.0


def test_enough_is_enough():
    require_coverage(bars("xx.x"), 0.75)
    require_coverage(bars("...."), 0.0)
    require_coverage(bars("..xx"), 1.0, 2)


def test_too_little_is_refused_with_the_longest_hole_and_what_fills_it():
    with pytest.raises(ValueError, match="min_coverage") as refused:
        require_coverage(bars("x.xx...xxx"), 0.999)
    said = str(refused.value)
    assert "BTCUSDT: 60.0000% of the 1m bars from 2026-01-05 00:00 to 2026-01-05 00:10 were seen" in said
    assert "asks for 99.9000%" in said
    assert "the longest of 2 holes is 2026-01-05 00:04 to 2026-01-05 00:07 (3 bars)" in said
    assert "aster repair --symbols BTCUSDT" in said
    assert "--start 2026-01-05T00:04 --end 2026-01-05T00:07" in said


@pytest.mark.parametrize(
    ("gaps", "hole"), [("xx...", "00:02 to 2026-01-05 00:05"), ("...xx", "00:00 to 2026-01-05 00:03")]
)
def test_a_hole_may_begin_or_end_with_the_range(gaps, hole):
    with pytest.raises(ValueError, match=hole):
        require_coverage(bars(gaps), 0.5)


MOMENTUM = ("return_bps", "volatility_bps_10", "spread_ticks", "funding_bps", "funding_interval_hours", "mark_age_ms")
FADE = (*MOMENTUM, "forced_sell_usdt_3", "forced_buy_usdt_3")


def known(**columns) -> Bars:
    """A thousand rows on which everything is known, others where named."""
    row = {"quote_age_ms": 100.0, "mark_age_ms": 100.0, "funding_rate": 1e-4, "funding_interval_hours": 8.0}
    row |= {"can_enter": True, "forced_sell_usdt": 0.0, "forced_buy_usdt": 9.0}
    frame = pl.select(row=pl.int_range(1_000)).with_columns(**(row | columns))
    return Bars(symbol="BTCUSDT", interval="1m", frame=frame, instrument={})


def test_where_all_is_recorded_nothing_starves():
    assert starved("momentum", MOMENTUM, known()) == starved("liquidation_fade", FADE, known()) == ()
    half = pl.when(pl.col("row") < 500).then(100.0).otherwise(float("nan"))
    assert starved("momentum", MOMENTUM, known(quote_age_ms=half)) == ()


def test_one_recorded_quote_that_switched_the_assumed_spread_off_is_named_with_what_to_do():
    one = pl.when(pl.col("row") == 7).then(100.0).otherwise(float("nan"))
    (told,) = starved("momentum", MOMENTUM, known(quote_age_ms=one))
    assert told.startswith("momentum enters only with a quote no older than 2 s, which 0.10% of the bars have: record ")
    assert "spread_ticks in [substitutions] stands in only where not one quote was recorded" in told


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"mark_age_ms": 3_001.0}, "a mark no older than 3 s, which none of the bars have"),
        ({"funding_rate": float("nan")}, "a funding rate, which none of the bars have: .* `aster backfill"),
        ({"funding_interval_hours": float("nan")}, r"a funding interval, .* set funding_interval_hours in \[sub"),
        ({"forced_buy_usdt": 0.0}, "goes by liquidations, and none of BTCUSDT was recorded in the range"),
        ({"can_enter": False, "forced_buy_usdt": 0.0}, "which none of the bars have"),
    ],
)
def test_every_input_that_is_missing_is_named(columns, told):
    assert re.search(told, "; ".join(starved("liquidation_fade", FADE, known(**columns))))


def test_bars_on_which_nothing_could_ever_be_entered_are_refused():
    with pytest.raises(ValueError, match="BTCUSDT: liquidation_fade goes by liquidations, and none of BTCUSDT was rec"):
        require_inputs("liquidation_fade", FADE, known(forced_buy_usdt=0.0))
    with pytest.raises(ValueError, match=r"a funding rate, which none of the bars have: .* funding_rate_bps in \[sub"):
        require_inputs("momentum", MOMENTUM, known(funding_rate=float("nan")))
    one = pl.when(pl.col("row") == 7).then(100.0).otherwise(float("nan"))
    require_inputs("momentum", MOMENTUM, known(quote_age_ms=one))  # little is not nothing
    require_inputs("liquidation_fade", FADE, known(can_enter=False, forced_buy_usdt=0.0))  # for another reason


def test_what_a_strategy_does_not_ask_for_is_not_missed():
    assert starved("other", ("return_bps",), known(quote_age_ms=9_000.0, mark_age_ms=9_000.0)) == ()
