"""How much of a range was seen, and the refusal to judge a strategy on less than the user asked for."""

import numpy as np

from research.bars import Bars

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
