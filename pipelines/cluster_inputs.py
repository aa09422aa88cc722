"""How many rows a map is made of, by table and day: what comes late is noticed by it.

A row counts on the day on which it became known. So one that is received after a map was built belongs to what is still
to be built, while history that nobody says was late would have been in the map, had it been there.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from data.lake import Lake
from data.schema import TABLES
from research.clusters.contracts import asset
from research.clusters.inputs import INTERVAL
from research.clusters.maps import HYBRID, MapKey
from research.clusters.profiles import SOURCES

REACH = timedelta(days=1)  # what became known later than that after it happened counts for nothing in a map

_DAY_MS = 86_400_000
_MARKS = ("mark_klines", "mark_price", "force_orders")
_OF_SOURCES = (*_MARKS, "open_interest", "klines", "ratios", "funding")
_TIMES = {"klines": "open_time", "mark_klines": "open_time"}


def count(lake: Lake, key: MapKey, start: datetime, end: datetime) -> dict[str, int]:
    """Rows of a map's inputs that became known in [start, end), by table and day: {"klines 2026-01-03": 1440}.

    Those of a hybrid map are the snapshots of its layers.
    """
    names = [_layers(key)] if key.source == HYBRID else []
    for table in _OF_SOURCES if key.source in SOURCES else _MARKS:
        names.append(_rows(table, (*SOURCES,) if table == "ratios" else ("aster", key.venue, key.source)))
    start_ms, end_ms = (int(moment.timestamp() * 1_000) for moment in (start, end))
    query = f"""
        SELECT name, known_ms // {_DAY_MS} AS day, count(*) AS rows FROM ({" UNION ALL ".join(names)})
        WHERE known_ms >= {start_ms} AND known_ms < {end_ms} AND known_ms < at_ms + {REACH // timedelta(milliseconds=1)}
        GROUP BY ALL
    """
    found = lake.sql(query, symbols=_contracts(lake, key), start=start - REACH, end=end)
    return {f"{name} {datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}": rows for name, day, rows in found.rows()}


def added(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, tuple[int, date]]:
    """Per table how many rows more there are now, and the first day with more; nothing where there are none."""
    more: dict[str, tuple[int, date]] = {}
    for named in sorted(now):
        table, day = named.rsplit(" ", 1)
        rows = now[named] - before.get(named, 0)
        if rows > 0:
            known, first = more.get(table, (0, date.fromisoformat(day)))
            more[table] = known + rows, first
    return more


def _rows(table: str, venues: tuple[str, ...]) -> str:
    at_ms = f"epoch_ms({_TIMES.get(table, 'event_time')})"
    named = ", ".join(f"'{venue}'" for venue in sorted(set(venues)))
    received = "epoch_ns(recv_time) // 1000000" if "recv_time" in TABLES[table].columns else "NULL"
    only = f" AND interval = '{INTERVAL}'" if table in _TIMES else ""
    return f"""
        SELECT '{table}' AS name, {at_ms} AS at_ms,
            greatest({at_ms}, coalesce({received}, {at_ms})) AS known_ms
        FROM {table} WHERE venue IN ({named}){only}
    """


def _layers(key: MapKey) -> str:
    """A stale snapshot is none: a source that was not heard may become known later."""
    maps = ", ".join(f"'{layer.map_id}'" for layer in key.layers)
    return f"""
        SELECT 'map ' || map_id AS name, epoch_ms(ts) AS at_ms, epoch_ms(avail_time) AS known_ms
        FROM oi_state WHERE map_id IN ({maps}) AND NOT is_stale
    """


def _contracts(lake: Lake, key: MapKey) -> list[str]:
    """What the asset is called, here and there."""
    names = {name for table in (*_OF_SOURCES, "oi_state") for name in lake.symbols(table)}
    return sorted(name for name in names if asset(name) == asset(key.symbol))
