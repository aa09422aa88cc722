"""Notes of the raw log as rows: most are told to people and to the ledger of gaps, some are rows themselves."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from data.gaps import HOLES, gap_rows
from data.schema import CLOCK_OFFSETS, GAPS, KLINES, conform, interval_ms
from data.table import Table
from data.wal import Record

_NS_PER_MS = 1_000_000


def turn_note(record: Record, venue: str) -> tuple[Table, pl.DataFrame] | None:
    """(table, rows) of a note that has some; a bar that was given up is a gap for good.

    Raises
    ------
    LookupError, TypeError, ValueError
        When the note is none, or lacks what its kind must tell.
    """
    told = json.loads(record.payload)
    turn = _ROWS.get(told["note"])
    return turn(told, record.recv_ns, venue) if turn else None


def _clock(told: Mapping[str, Any], recv_ns: int, venue: str) -> tuple[Table, pl.DataFrame]:
    """The clocks compared at ``event_ms``, or when the note was written; without offset the exchange did not answer."""
    row = {name: told[name] for name in ("offset_ms", "round_trip_ms", "step_ms")}
    row |= {"venue": venue, "event_time": told.get("event_ms", recv_ns // _NS_PER_MS)}
    schema = {**CLOCK_OFFSETS.columns, "event_time": pl.Int64}
    return CLOCK_OFFSETS, conform(pl.DataFrame([row], schema=schema, strict=False), CLOCK_OFFSETS)


def _gave_up(told: Mapping[str, Any], recv_ns: int, venue: str) -> tuple[Table, pl.DataFrame]:
    """The ledger's row of one bar that never came."""
    open_ms, step_ms = told["open_ms"], interval_ms(told["interval"])
    hole = {
        "table": KLINES.name,
        "venue": venue,
        "symbol": told["symbol"],
        "interval": told["interval"],
        "from_time": _moment(open_ms - step_ms),
        "to_time": _moment(open_ms + step_ms),
        "missing": 1,
        "is_estimate": False,
    }
    detected = _moment(-(-recv_ns // _NS_PER_MS))  # rounded up: it was not known before
    holes = pl.DataFrame([hole], schema=HOLES)
    return GAPS, gap_rows(holes, cause="reconnect", detected_time=detected, state="unrepairable")


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


_ROWS: dict[str, Callable[[Mapping[str, Any], int, str], tuple[Table, pl.DataFrame]]] = {
    "clock": _clock,
    "gave_up": _gave_up,
}
