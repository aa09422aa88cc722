"""How much of a range was seen, and the refusal to judge a strategy on less than the user asked for.

And why a strategy never entered where what it asks for was hardly recorded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from research.bars import Bars
from research.features import feature_of
from research.forced_orders import FORCED_SIDES
from research.strategies.gates import MAX_MARK_AGE_MS, MAX_QUOTE_AGE_MS

MIN_COVERAGE = 0.999  # of the bars of a range; a sweep's TOML sets its own


def coverage_of(bars: Bars, first: int = 0, last: int | None = None) -> float:
    """Fraction of the slots [first, last) that somebody saw; 1.0 for no slot at all."""
    is_gap = bars.frame["is_gap"][first:last]
    return 1.0 - is_gap.sum() / len(is_gap) if len(is_gap) else 1.0


def require_coverage(bars: Bars, min_coverage: float, first: int = 0, last: int | None = None) -> None:
    """Refuse bars of which too few were seen.

    Raises
    ------
    ValueError
        Naming the longest hole and what fills it.
    """
    covered = coverage_of(bars, first, last)
    if covered >= min_coverage:
        return
    rows = bars.frame[first:last]
    is_gap = np.concatenate([[False], rows["is_gap"].to_numpy(), [False]])
    edges = np.flatnonzero(np.diff(is_gap.astype(np.int8))).reshape(-1, 2)  # first slot of each hole, first after it
    begin, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    missed_from, missed_to = rows["open_time"][int(begin)], rows["close_time"][int(end) - 1]
    raise ValueError(
        f"{bars.symbol}: {covered:.4%} of the {bars.interval} bars from {rows['open_time'][0]:%Y-%m-%d %H:%M} to "
        f"{rows['close_time'][-1]:%Y-%m-%d %H:%M} were seen, min_coverage asks for {min_coverage:.4%}; the longest of "
        f"{len(edges)} holes is {missed_from:%Y-%m-%d %H:%M} to {missed_to:%Y-%m-%d %H:%M} ({end - begin} bars). "
        f"Run `aster repair --symbols {bars.symbol}`, or `aster backfill --symbols {bars.symbol} --start "
        f"{missed_from:%Y-%m-%dT%H:%M} --end {missed_to:%Y-%m-%dT%H:%M}`; change start and end; or set min_coverage"
    )


class _Input(NamedTuple):
    """Something that strategies ask for: its columns, the rows on which it is there, and what brings it."""

    what: str
    columns: tuple[str, ...]
    is_there: pl.Expr
    remedy: str


MIN_THERE = 0.5  # of the rows that could be entered on
_INPUTS = (
    _Input(
        "a quote no older than 2 s", ("bid_price", "ask_price", "quote_age_ms"),
        pl.col("quote_age_ms") <= MAX_QUOTE_AGE_MS,
        "record bookTicker over the whole range, or move start and end to where it was recorded; spread_ticks in "
        "[substitutions] stands in only where not one quote was recorded",
    ),
    _Input(
        "a mark no older than 3 s", ("mark_price", "mark_age_ms"), pl.col("mark_age_ms") <= MAX_MARK_AGE_MS,
        "record markPrice over the whole range, or move start and end to where it was recorded; mark in "
        "[substitutions] stands in only where not one mark was recorded",
    ),
    _Input(
        "a funding rate", ("funding_rate",), pl.col("funding_rate").is_not_nan(),
        "record markPrice, run `aster backfill --tables funding`, or set funding_rate_bps in [substitutions]",
    ),
    _Input(
        "a funding interval", ("funding_interval_hours",), pl.col("funding_interval_hours").is_not_nan(),
        "set funding_interval_hours in [substitutions]",
    ),
)  # fmt: skip


def starved(strategy: str, names: Sequence[str], bars: Bars) -> tuple[str, ...]:
    """Sentences on what a strategy asks for before it enters and most rows do not have; empty where there is nothing.

    Parameters
    ----------
    names : every feature that its configs read.
    """
    return tuple(_lacking(strategy, names, bars))


def require_inputs(strategy: str, names: Sequence[str], bars: Bars) -> None:
    """Refuse bars on which no config of a strategy could ever enter: something it asks for was not recorded at all.

    Parameters
    ----------
    names : every feature that its configs read.

    Raises
    ------
    ValueError
        Naming what is missing and what brings it.
    """
    lacking = _lacking(strategy, names, bars)
    if any(share == 0.0 for share in lacking.values()) and bars.frame["can_enter"].any():
        raise ValueError(f"{bars.symbol}: {'; '.join(lacking)}")


def _lacking(strategy: str, names: Sequence[str], bars: Bars) -> dict[str, float]:
    """``starved``, each sentence with the share of the rows that have what it misses."""
    rows = bars.frame.filter("can_enter")
    asked = {column for name in names for column in feature_of(name)[0].inputs}
    told = {}
    for each in _INPUTS:
        there = rows.select(each.is_there.mean()).item() or 0.0
        if not asked.isdisjoint(each.columns) and there < MIN_THERE:
            sentence = f"{strategy} enters only with {each.what}, which {_share(there)} of the bars have: {each.remedy}"
            told[sentence] = there
    forced = list(FORCED_SIDES.values())
    if not asked.isdisjoint(forced) and not rows.select(pl.sum_horizontal(pl.col(forced).sum())).item():
        sentence = (
            f"{strategy} goes by liquidations, and none of {bars.symbol} was recorded in the range: record forceOrder, "
            "or move start and end to where it was recorded"
        )
        told[sentence] = 0.0
    return told


def _share(fraction: float) -> str:
    return "none" if fraction == 0.0 else f"{fraction:.2%}"
