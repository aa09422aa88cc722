"""Bars with what the liquidation map of the lake said when each of them became known, where a strategy asks for it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from data.schema import interval_ms
from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS, OI_STATE
from research.bars import Bars
from research.clusters.columns import BREAK_REACH, MAX_MAP_AGE, cluster_columns
from research.clusters.maps import of_current_maps
from research.features import cluster_columns_of

if TYPE_CHECKING:
    from data.lake import Lake

# Rows of a map are found by what they describe, which is before they were known.
READ_BEFORE = BREAK_REACH + MAX_MAP_AGE


def with_clusters(bars: Bars, clusters: pl.DataFrame, events: pl.DataFrame, oi_state: pl.DataFrame) -> Bars:
    """The bars with ``CLUSTER_COLUMNS`` beside their own; ``cluster_columns`` tells what the frames hold."""
    at_ms = bars.frame["avail_time"].dt.epoch("ms").to_numpy()
    columns = cluster_columns(clusters, events, oi_state, at_ms, interval_ms=interval_ms(bars.interval))
    return replace(bars, frame=bars.frame.hstack(columns))


def with_clusters_asked_for(bars: Bars, lake: "Lake", names: Sequence[str], *, venue: str = "aster") -> Bars:
    """The bars with the columns of the lake's liquidation maps where a feature of these names needs one.

    Of a source with maps of several settings the one counts that ``aster clusters`` would build now by default.

    Parameters
    ----------
    venue : where the map's prices hold, not whose open interest it is made of.

    Raises
    ------
    LookupError
        When they are asked for and the lake has no map of the symbol in the range.
    ValueError
        When a source has maps of several settings and none of them is that one.
    """
    if not cluster_columns_of(names):
        return bars
    start, end = bars.frame["avail_time"][0], bars.frame["avail_time"][-1] + timedelta(milliseconds=1)
    start -= READ_BEFORE
    tables = CLUSTERS, CLUSTER_EVENTS, OI_STATE
    frames = [lake.scan(each.name, symbols=[bars.symbol], start=start, end=end, venue=venue) for each in tables]
    if all(frame.is_empty() for frame in frames):
        raise LookupError(
            f"no liquidation map of {bars.symbol} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} in {lake.root}: "
            f"build it with `aster clusters --symbol {bars.symbol} --start ... --end ...`"
        )
    return with_clusters(bars, *of_current_maps(frames, lake, bars.symbol))
