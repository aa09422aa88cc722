"""Which data a result was computed from. Two runs with one identity of data and code give the same bytes."""

from datetime import datetime
from pathlib import Path

from data.lake import Lake
from research.cluster_bars import READ_BEFORE

CHECKOUT = Path(__file__).resolve().parent.parent

# Tables a sweep's bars are built from.
BAR_TABLES = (
    "klines",
    "trades",
    "book_ticker",
    "mark_price",
    "mark_klines",
    "index_klines",
    "funding",
    "force_orders",
    "instruments",
)
# And those that the columns of a liquidation map come from.
MAP_TABLES = ("clusters", "cluster_events", "oi_state")


def data_identity(lake: Lake, start: datetime, end: datetime, *, with_map: bool) -> dict[str, str]:
    """Sha256 per lake file that bars of [start, end) may read; instruments of any date.

    Parameters
    ----------
    with_map : the bars carry the columns of a liquidation map.
    """
    chosen = [
        entry
        for table in BAR_TABLES
        for entry in lake.files(table)
        if table == "instruments" or start.date() <= entry.dt <= end.date()
    ]
    if with_map:
        first = (start - READ_BEFORE).date()
        chosen += [entry for table in MAP_TABLES for entry in lake.files(table) if first <= entry.dt <= end.date()]
    return {str(entry.path): entry.sha256 for entry in sorted(chosen, key=lambda entry: str(entry.path))}
