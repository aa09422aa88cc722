"""Liquidation maps from the lake into the lake: build what is missing, read what is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl

from data.lake import Lake
from pipelines import cluster_inputs
from pipelines.cluster_pieces import make_piece
from pipelines.cluster_store import MapState, building, load, save
from research.clusters import tables
from research.clusters.inputs import Unavailable
from research.clusters.maps import ALL_SOURCES, MapKey, MapSettings, best_source, map_key, minute
from research.clusters.profiles import Profiles

_PIECE = timedelta(days=7)
_HOUR = timedelta(hours=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredMap:
    """A map as the lake has it, of the snapshots of [start, end).

    Parameters
    ----------
    until : how far it is built; what is later is not known yet.
    clusters, events, oi_state : rows of these tables, of this map only, in order of time.
    substituted : sentences on what stood in for missing data, where this call built something.
    late : sentences on rows of its past that came after it was built, where that was asked for.
    """

    key: MapKey
    until: datetime
    clusters: pl.DataFrame
    events: pl.DataFrame
    oi_state: pl.DataFrame
    heatmap: pl.DataFrame
    substituted: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    @property
    def map_id(self) -> str:
        """Hash of the settings."""
        return self.key.map_id

    @property
    def profiles(self) -> Profiles:
        """The map itself, decoded; raises ValueError without snapshots."""
        return tables.stored_profiles(self.heatmap, self.oi_state)

    @property
    def newest(self) -> pl.DataFrame:
        """The clusters of the last snapshot."""
        return self.clusters.filter(pl.col("ts") == pl.col("ts").max())


def read_map(
    lake: Lake,
    symbol: str,
    source: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    settings: MapSettings | None = None,
    cluster_columns: Sequence[str] | None = None,
    tell_late: bool = False,
    progress: Tell | None = None,
) -> StoredMap | Unavailable:
    """A map over [start, end): what is missing of it is built first, the rest is read.

    Parameters
    ----------
    source : one of ``ALL_SOURCES``; None for the first of ``SINGLE_SOURCES`` that the lake has data of.
    start, end : UTC; None for the beginning of the map and for now. A map is always built from the beginning of its
        data, as positions stay open for weeks; ``start`` only says what is read.
    cluster_columns : of ``clusters``, beside those that say which map it is; None for all.
    tell_late : look too for rows that came late; all that the map is made of is counted for it.

    Raises
    ------
    ValueError
        On an unknown source, or when another process builds this map.
    """
    built = build_map(lake, symbol, source, end, settings=settings, progress=progress)
    if isinstance(built, Unavailable):
        return built
    key, until, substituted = built
    tables_read = {"clusters": cluster_columns} | dict.fromkeys(("cluster_events", "oi_state", "heatmap"))
    rows = {name: _rows(lake, name, key, start, end, columns) for name, columns in tables_read.items()}
    rows["events"] = rows.pop("cluster_events")
    keys = (*key.layers, key) if tell_late and is_writable(lake) else ()
    late = tuple(said for each in keys if (said := _late(lake, each)) is not None)
    return StoredMap(key=key, until=until, substituted=substituted, late=late, **rows)


def build_map(
    lake: Lake,
    symbol: str,
    source: str | None = None,
    end: datetime | None = None,
    *,
    settings: MapSettings | None = None,
    again: bool = False,
    progress: Tell | None = None,
) -> tuple[MapKey, datetime, tuple[str, ...]] | Unavailable:
    """Bring a map up to ``end``, or to where its data ends: which it is, how far it is built, what was substituted.

    Piece by piece, each with its state: interrupted, the next call goes on. Without real data one row of ``clusters``
    says so, and no map is made.

    What a map told stays told: rows of its past that come after it was built are not in it.

    Parameters
    ----------
    end : UTC; None for now.
    again : from its beginning. With rows that came late that is another map beside the first, its next revision; else
        what the lake still has is not added twice.
    """
    settings = settings or MapSettings()
    end = minute(min(end or datetime.now(UTC), datetime.now(UTC)))
    if source is not None and source not in ALL_SOURCES:
        raise ValueError(f"unknown source {source!r}; expected one of {', '.join(ALL_SOURCES)}")
    source = source or best_source(lake, symbol)
    found = map_key(lake, symbol, source, settings)
    if isinstance(found, Unavailable):
        _tell_unavailable(lake, symbol, source, settings, end, found.reason)
        return found
    if not is_writable(lake):
        return found[0], end, ()
    for layer in found[0].layers:
        until = min(end, found[1])
        build_map(lake, symbol, layer.source, until, settings=settings, again=again, progress=progress)
    key, last = map_key(lake, symbol, source, settings) if found[0].layers else found
    if again and _late(lake, key) is not None:
        key = key.revised
    end = min(end, last)
    with building(lake.root, key):
        state = None if again else load(lake.root, key)
        state = state or MapState(until=key.begin)
        substituted: dict[str, None] = {}
        first = state.until
        while state.until < end:
            until = min(state.until + _PIECE, end)
            inputs = _inputs(lake, key, state, until)  # before they are read: what comes meanwhile may be in or not
            piece = make_piece(lake, key, state, until)
            lake.append_all(piece.tables, origin=f"map {source} {key.map_id}")
            state = replace(piece.state, inputs=inputs)
            save(lake.root, key, state)
            substituted |= dict.fromkeys(piece.substituted)
            if progress is not None:
                progress(f"{symbol} {source}", (state.until - first) // _HOUR, (end - first) // _HOUR)
    return key, state.until, tuple(substituted)


def _inputs(lake: Lake, key: MapKey, state: MapState, end: datetime) -> dict[str, int]:
    """What a map will be made of at ``end``, as its state knows it and as the lake has what is new."""
    start = key.begin - cluster_inputs.REACH if state.inputs is None else state.until
    more = cluster_inputs.count(lake, key, start, end)
    known = state.inputs or {}
    return known | {name: known.get(name, 0) + rows for name, rows in more.items()}


def _late(lake: Lake, key: MapKey) -> str | None:
    """What of a map's past came after it was built, and what to do about it; None where nothing did."""
    state = load(lake.root, key)
    if state is None or state.inputs is None:
        return None
    now = cluster_inputs.count(lake, key, key.begin - cluster_inputs.REACH, state.until)
    more = cluster_inputs.added(state.inputs, now)
    if not more:
        return None
    told = ", ".join(f"{rows} rows of {table} from {first} on" for table, (rows, first) in more.items())
    return (
        f"{told} came after map {key.map_id} of {key.source} was built and are not in it: it stays what it told; "
        f"`aster clusters --symbol {key.symbol} --source {key.source} --again` makes one with them beside it"
    )


def is_writable(lake: Lake) -> bool:
    """False for a lake in object storage: its maps are read as they were pushed."""
    return type(lake) is Lake


def _rows(
    lake: Lake, table: str, key: MapKey, start: datetime | None, end: datetime | None, columns: Sequence[str] | None
) -> pl.DataFrame:
    if columns is not None:
        columns = ["source", "map_id", *columns]
    rows = lake.scan(table, symbols=[key.symbol], start=start, end=end, columns=columns, venue=key.venue)
    return rows.filter(pl.col("map_id") == key.map_id, pl.col("source") == key.source)


def _tell_unavailable(lake: Lake, symbol: str, source: str, settings: MapSettings, at: datetime, reason: str) -> None:
    if is_writable(lake):
        key = MapKey(symbol=symbol, source=source, venue="aster", begin=_NEVER, settings=settings)
        lake.append("clusters", tables.unavailable_row(symbol, source, key.map_id, at, reason), origin="map")
