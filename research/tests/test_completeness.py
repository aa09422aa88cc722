"""What was seen too little is not judged."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from research.bars import BARS, Bars
from research.completeness import coverage_of, require_coverage

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
