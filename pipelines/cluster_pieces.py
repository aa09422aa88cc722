"""One piece of a map's time: from the lake's market data to the rows of its tables, and the state to go on with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from data.lake import Lake
from data.schema_clusters import CLUSTERS
from data.table import TIME_MS, conform
from pipelines.cluster_store import MapState
from research.clusters import inputs, tables
from research.clusters.anchoring import MAX_MARK_AGE_MS, anchored
from research.clusters.confidence import ConfidenceConfig, with_confidence
from research.clusters.extraction import find
from research.clusters.grid import BUCKETS, first_bucket
from research.clusters.hybrid import cluster_inputs, hybrid
from research.clusters.inputs import ReadBars, Unavailable
from research.clusters.lifecycle import follow, marks_of
from research.clusters.maps import HYBRID, MapKey
from research.clusters.outcomes import Question
from research.clusters.predictive import predictive_map
from research.clusters.prints import PAST, with_liquidation_count
from research.clusters.profiles import SOURCES, Profiles
from research.clusters.reactive import SOURCE as FORCE_ORDERS
from research.clusters.reactive import reactive_map

MINUTE_MS = 60_000
_BEFORE = timedelta(milliseconds=MAX_MARK_AGE_MS) + timedelta(minutes=1)  # marks that a piece's first basis needs
_LATE = timedelta(days=1)  # a forced order that was told late belongs to the piece in which it became known
_AFTER = timedelta(minutes=1)  # what happened after a bar's close may be known with it


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """What one piece adds.

    Parameters
    ----------
    tables : rows per table of the lake.
    substituted : sentences on what stood in for missing data.
    """

    tables: dict[str, pl.DataFrame]
    state: MapState
    substituted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """A map's snapshots of a piece, the bars and marks they are of, and what completes its clusters."""

    profiles: Profiles
    bars: ReadBars
    marks: pl.DataFrame
    state: MapState
    complete: Callable[[pl.DataFrame], pl.DataFrame] = lambda clusters: clusters


def make_piece(lake: Lake, key: MapKey, state: MapState, end: datetime) -> Piece:
    """The map from where its state stopped until ``end``."""
    made = _MAKERS[key.source](lake, key, state, end)
    if state.clusters is None:  # nothing is told of the time before the first mark
        seen = np.isfinite(made.profiles.mark)
        made = replace(made, profiles=made.profiles.rows(np.logical_or.accumulate(seen)))
    profiles, marks = made.profiles, made.marks
    orders = _orders(lake, key, state.until - PAST - _LATE, end)
    new = None if orders is None else orders.filter(pl.col("event_time") >= state.until - _LATE)
    found = find(profiles, key.settings.top)
    clusters, events, followed = follow(found, profiles, marks, new, state=state.clusters)
    crowd = next((venue for venue in SOURCES if lake.span("ratios", key.symbol, venue)), key.venue)
    oi_state = tables.oi_rows(
        profiles,
        made.bars,
        key.map_id,
        before_base=state.oi_base,
        ratios=inputs.ratios(lake, key.symbol, crowd, state.until, end),
        funding=inputs.funding(lake, key.symbol, key.venue, state.until, end),
        venue=key.venue,
    )
    completed = with_liquidation_count(_with_age(made.complete(clusters), oi_state), orders)
    rows = {
        "clusters": _confident(
            lake, key, tables.cluster_rows(completed, profiles, key.map_id, venue=key.venue), state.until, end
        ),
        "cluster_events": tables.event_rows(events, key.map_id, venue=key.venue),
        "oi_state": oi_state,
        "heatmap": tables.heatmap_rows(profiles, key.map_id, venue=key.venue),
    }
    last_base = oi_state["oi_base"][-1] if oi_state.height else state.oi_base
    after = replace(made.state, until=end, oi_base=last_base, clusters=followed)
    return Piece(tables=rows, state=after, substituted=made.bars.substituted)


def _predicted(lake: Lake, key: MapKey, state: MapState, end: datetime) -> _Made:
    """A map of open interest, on the prices of ``key.venue``; every minute is a bar, so snapshots keep the clock."""
    bars = inputs.source_bars(lake, key.symbol, key.source, state.until, end, begun=True)
    profiles, book = predictive_map(bars, key.settings.map, every_bars=key.settings.every_minutes, state=state.book)
    state = replace(state, book=book)
    if key.venue == key.source:
        return _Made(profiles=profiles, bars=bars, marks=marks_of(bars), state=state)
    marks = _marks(lake, key, state.until - _BEFORE, end)
    moved, basis = anchored(
        profiles,
        marks["avail_time"].dt.epoch("ms").to_numpy(),
        marks["mark_close"].to_numpy(),
        symbol=key.symbol,
        source_time_ms=bars.avail_ms,
        source_mark=bars.mark_close,
        state=state.basis,
    )
    moved = _once_followed(moved, marks)
    return _Made(
        profiles=moved,
        bars=bars,
        marks=marks.filter(pl.col("ts") > state.until),
        state=replace(state, basis=basis),
        complete=lambda clusters: _converted(clusters, _share_of_aster(lake, key, moved, state.until, end)),
    )


def _once_followed(profiles: Profiles, marks: pl.DataFrame) -> Profiles:
    """The snapshots as they may be used: clusters are followed by aster's bar of the same minute, which may come later
    than the source's."""
    if marks.is_empty():
        return profiles
    time_ms, known_ms = (marks[name].dt.epoch("ms").to_numpy() for name in ("ts", "avail_time"))
    row = np.searchsorted(time_ms, profiles.time_ms, side="right") - 1
    followed_ms = np.where(row >= 0, known_ms[row], 0)
    return replace(profiles, avail_ms=np.maximum(profiles.avail_ms, followed_ms))


def _share_of_aster(lake: Lake, key: MapKey, profiles: Profiles, start: datetime, end: datetime) -> pl.DataFrame:
    """Per snapshot aster's open interest over the source's, in USDT, as known then; NaN where either is not."""
    share = np.full(len(profiles), np.nan)
    # A minute more: aster's bar of the first snapshot may come later than the snapshot.
    bars = inputs.source_bars(lake, key.symbol, "aster", start - timedelta(minutes=1), end, begun=True)
    if not isinstance(bars, Unavailable):
        row = np.searchsorted(bars.avail_ms, profiles.avail_ms, side="right") - 1  # begun: every minute is a bar
        with np.errstate(divide="ignore", invalid="ignore"):
            share = bars.open_interest[row] * bars.mark_close[row] / profiles.open_interest_usdt
    return pl.DataFrame({"ts": pl.Series(profiles.time_ms).cast(TIME_MS), "share": share})


def _converted(clusters: pl.DataFrame, shares: pl.DataFrame) -> pl.DataFrame:
    """What another venue has at risk, as if aster's positions stood where that venue's do; null where nobody knows."""
    share = pl.when(pl.col("share").is_finite()).then("share")
    return (
        clusters.join(shares, on="ts", how="left", maintain_order="left")
        .with_columns(open_interest=pl.col("mass_src_usd") * share)
        .drop("share")
    )


def _observed(lake: Lake, key: MapKey, state: MapState, end: datetime) -> _Made:
    """A map of forced orders: a snapshot wherever the grid of the clock has a mark."""
    marks = _marks(lake, key, state.until, end)
    bars = _without_open_interest(marks, key)
    shown = _on_the_clock(bars, key)
    made = reactive_map(
        inputs.liquidations(lake, key.symbol, state.until - _LATE, end + _AFTER),
        bars.time_ms[shown],
        bars.mark_close[shown],
        symbol=key.symbol,
        avail_ms=bars.avail_ms[shown],
        half_life_s=key.settings.half_life_s,
        state=state.orders,
    )
    return _Made(profiles=made.profiles, bars=bars, marks=marks, state=replace(state, orders=made.state))


def _together(lake: Lake, key: MapKey, state: MapState, end: datetime) -> _Made:
    """A map of all the others, as the lake has them. The snapshots just before the piece say what happened since."""
    reach = 2 * timedelta(seconds=key.settings.hybrid.max_age_s)
    bars = _without_open_interest(_marks(lake, key, state.until - reach / 2, end), key)
    shown = _on_the_clock(bars, key)
    layers = [layer for own in key.layers if (layer := _layer(lake, own, state.until - reach, end)) is not None]
    made = hybrid(
        key.symbol,
        bars.time_ms[shown],
        bars.mark_close[shown],
        [layer for layer in layers if layer.source != FORCE_ORDERS],
        next((layer for layer in layers if layer.source == FORCE_ORDERS), None),
        avail_ms=bars.time_ms[shown] + inputs.WAIT_MS,  # the others' snapshots of the same moment are known by then
        config=key.settings.hybrid,
    )
    until_ms = int(state.until.timestamp() * 1_000)
    new = bars.rows(bars.time_ms > until_ms)
    if isinstance(made, Unavailable):
        return _Made(profiles=_blind(key, new), bars=new, marks=marks_of(new), state=state)
    profiles = made.profiles.rows(made.profiles.time_ms > until_ms)
    # To the cent: what was swept is a difference of running sums, whose last bits depend on where they began.
    profiles = replace(profiles, swept_usdt=np.round(profiles.swept_usdt, 2))

    def complete(clusters: pl.DataFrame) -> pl.DataFrame:
        return cluster_inputs(clusters, made).select(CLUSTERS.columns.names())

    return _Made(profiles=profiles, bars=new, marks=marks_of(new), state=state, complete=complete)


_MAKERS: dict[str, Callable] = dict.fromkeys(SOURCES, _predicted) | {FORCE_ORDERS: _observed, HYBRID: _together}


def _marks(lake: Lake, key: MapKey, start: datetime, end: datetime) -> pl.DataFrame:
    """Aster's marks; no rows where there are none."""
    marks = inputs.marks(lake, key.symbol, start, end)
    return inputs.MARKS.to_frame() if isinstance(marks, Unavailable) else marks


def _orders(lake: Lake, key: MapKey, start: datetime, end: datetime) -> pl.DataFrame | None:
    """Forced orders on Aster; None where nobody recorded any of this symbol."""
    if lake.span("force_orders", key.symbol) is None:
        return None
    return inputs.liquidations(lake, key.symbol, start, end + _AFTER)


def _without_open_interest(marks: pl.DataFrame, key: MapKey) -> ReadBars:
    """Aster's marks as bars; nothing is known of volume and open interest."""
    unknown = np.full(marks.height, np.nan)
    return ReadBars(
        symbol=key.symbol,
        source=key.source,
        time_ms=marks["ts"].dt.epoch("ms").to_numpy(),
        avail_ms=marks["avail_time"].dt.epoch("ms").to_numpy(),
        **{name: marks[name].to_numpy() for name in ("mark_high", "mark_low", "mark_close")},
        volume_usdt=unknown,
        open_interest=unknown,
        is_new=np.zeros(marks.height, bool),
        open_interest_ms=np.full(marks.height, -1),
    )


def _on_the_clock(bars: ReadBars, key: MapKey) -> np.ndarray:
    """True for the bars after which a snapshot is due."""
    return bars.time_ms % (key.settings.every_minutes * MINUTE_MS) == 0


def _layer(lake: Lake, own: MapKey, start: datetime, end: datetime) -> Profiles | None:
    """A map's snapshots of (start, end] as they are stored; None without any."""
    span = {"symbols": [own.symbol], "start": start, "end": end + timedelta(milliseconds=1), "venue": own.venue}
    stored = (lake.scan(table, **span).filter(pl.col("map_id") == own.map_id) for table in ("heatmap", "oi_state"))
    heatmap, oi_state = stored
    return None if heatmap.is_empty() else tables.stored_profiles(heatmap, oi_state)


def _blind(key: MapKey, bars: ReadBars) -> Profiles:
    """Snapshots that show nothing, as no source was there."""
    shown = bars.rows(_on_the_clock(bars, key))
    unknown = np.full(len(shown), np.nan)
    return Profiles(
        symbol=key.symbol,
        source=key.source,
        time_ms=shown.time_ms,
        avail_ms=shown.time_ms + inputs.WAIT_MS,
        first_bucket=first_bucket(shown.mark_close),
        mass_usdt=np.zeros((len(shown), 2, BUCKETS), np.float32),
        mark=shown.mark_close,
        swept_usdt=np.zeros((len(shown), 2)),
        open_interest_usdt=unknown,
        placed_share=unknown,
        is_stale=np.ones(len(shown), bool),
    )


def _with_age(clusters: pl.DataFrame, oi_state: pl.DataFrame) -> pl.DataFrame:
    """The clusters with the age of the open interest they are made of."""
    age = oi_state.select("ts", oi_age_s=pl.col("age_s").fill_nan(None))
    return conform(clusters.drop("oi_age_s").join(age, on="ts", how="left", maintain_order="left"), CLUSTERS)


def _confident(lake: Lake, key: MapKey, rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """The rows with the chances that the past gives them; the past is told by the rows that are stored.

    Fits are of whole days and of everything since the map began, so they do not depend on where pieces are cut. Where
    forced orders were not recorded for long enough, only the chance of being reached is told, and no past is read.
    """
    if rows["cluster_id"].null_count() == rows.height:
        return rows
    settings = key.settings
    config = ConfidenceConfig(question=Question(horizon_s=settings.horizon_s, min_print_usdt=settings.min_print_usdt))
    if key.venue == "aster":
        marks = _marks(lake, key, key.begin, end)
    else:
        marks = marks_of(inputs.source_bars(lake, key.symbol, key.source, key.begin, end, begun=True))
    orders = _orders(lake, key, key.begin, end)
    past = CLUSTERS.empty()
    recorded = lake.span("force_orders", key.symbol)
    if recorded is not None and end - recorded[0] >= timedelta(days=config.min_days):
        stored = lake.scan("clusters", symbols=[key.symbol], end=start + timedelta(milliseconds=1), venue=key.venue)
        past = stored.filter(pl.col("map_id") == key.map_id, pl.col("source") == key.source)
    scored = with_confidence(pl.concat([past, rows]), marks, orders, config)
    return conform(scored.clusters.tail(rows.height), CLUSTERS)
