"""The lake's side of the dashboard: liquidations, stored signals, coverage, and how the recorders are."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from data.coverage import coverage
from data.lake import Lake
from data.recorder_status import ALIVE, Status, read_statuses
from data.stream_names import table_of
from live.dashboard import answers
from research.clusters.signals import Signal, batch

SPARK_MINUTES = 60
_RECENT = timedelta(days=2)


def liquidations(lake: Lake, symbol: str | None, since: datetime | None, limit: int) -> list[answers.Liquidation]:
    """Forced orders, newest first, those of the raw log included."""
    stored = [span[1] for each in lake.symbols("force_orders") if (span := lake.span("force_orders", each))]
    start = since or (max(stored) - _RECENT if stored else datetime.now(UTC) - _RECENT)
    symbols = None if symbol is None else [symbol]
    rows = lake.scan("force_orders", symbols=symbols, start=start, tail=True)
    newest = rows.sort("event_time", descending=True).head(limit)
    return [
        answers.Liquidation(
            symbol=row["symbol"],
            time=row["event_time"],
            closed="long" if row["side"] == "SELL" else "short",
            price=row["average_price"],
            quantity=row["filled_quantity"],
            usdt=_product(row["average_price"], row["filled_quantity"]),
        )
        for row in newest.iter_rows(named=True)
    ]


def _product(price: float | None, quantity: float | None) -> float | None:
    return None if price is None or quantity is None else price * quantity


def signals(lake: Lake, at: datetime) -> dict[str, Any]:
    """The newest stored signal of each symbol, as prior art's batch; one that does not hold any more is left out."""
    stored = lake.symbols("signals")
    last = [span[1] for symbol in stored if (span := lake.span("signals", symbol))]
    if not last:
        return batch([])
    rows = lake.scan("signals", start=min(last), symbols=stored)
    newest = rows.sort("ts").group_by("symbol", maintain_order=True).last().sort("symbol")
    told = batch([_signal(row) for row in newest.iter_rows(named=True)])
    for symbol, until in newest.filter("available").select("symbol", "valid_until").iter_rows():
        if until is None or until < at:
            told["omitted"][symbol] = f"its newest signal held until {until:%Y-%m-%d %H:%M} UTC; run `aster signals`"
            del told["signals"][symbol]
    return told


def _signal(row: dict[str, Any]) -> Signal:
    own = {field.name: row[field.name] for field in fields(Signal)}
    numbers = {name: float("nan") for name, value in own.items() if value is None and _is_number(name)}
    levels = {name: tuple(own[name] or ()) for name in ("support_levels", "resistance_levels")}
    return Signal(**own | numbers | levels)


def _is_number(name: str) -> bool:
    return Signal.__annotations__[name] is float


def coverage_rows(lake: Lake, symbol: str | None, days: int) -> list[dict[str, Any]]:
    """How complete the last days of the lake are, most damaged first."""
    spans = [span[1] for name in ("klines", "trades", "mark_price") for each in lake.symbols(name)
             if (span := lake.span(name, each))]  # fmt: skip
    if not spans:
        return []
    start = (max(spans) - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = coverage(lake, symbols=None if symbol is None else [symbol], start=start)
    return rows.sort("covered", nulls_last=True).to_dicts()


class Recorders:
    """What the recorders of a lake say, and how that changed while we looked.

    Parameters
    ----------
    now_s : seconds of the machine.
    """

    def __init__(self, lake: Lake, now_s: Callable[[], float] = time.monotonic) -> None:
        self._lake, self._now_s = lake, now_s
        self._seen: dict[tuple[int, str], _Seen] = {}

    def look(self) -> list[answers.Recorder]:
        """Each recorder by number; none where nothing was ever recorded."""
        try:
            statuses = read_statuses(self._lake.root)
        except LookupError:
            return []
        gaps = self._gaps()
        return [self._recorder(status, gaps) for status in statuses]

    def _recorder(self, status: Status, gaps: dict[tuple[str, str], int]) -> answers.Recorder:
        lags = [socket.lag_p99_ms for socket in status.sockets if socket.lag_p99_ms is not None]
        return answers.Recorder(
            number=status.number,
            state=status.state,
            venue=status.venue,
            symbols=list(status.symbols),
            now=datetime.fromisoformat(status.now),
            connected=status.connected,
            connections=status.connections,
            messages_per_second=status.messages_per_second if status.state in ALIVE else 0.0,
            lag_p99_ms=max(lags, default=status.lag_p99_ms),
            gaps_open=status.gaps_open,
            disk_full_in_s=status.disk_full_in_s,
            streams=[self._stream(status, kind, count, gaps) for kind, count in status.messages.items()],
            trouble=list(status.trouble),
            notices=list(status.notices),
        )

    def _stream(self, status: Status, kind: str, count: int, gaps: dict[tuple[str, str], int]) -> answers.Stream:
        seen = self._seen.setdefault((status.number, kind), _Seen(count, self._now_s()))
        seen.look(count, self._now_s())
        table = table_of(kind)
        return answers.Stream(
            name=kind,
            messages=count,
            per_s=seen.per_s,
            per_minute=list(seen.per_minute),
            silent_s=None if seen.risen_s is None else self._now_s() - seen.risen_s,
            gaps_open=gaps.get((table, "open"), 0),
            gaps_lost=gaps.get((table, "unrepairable"), 0),
        )

    def _gaps(self) -> dict[tuple[str, str], int]:
        """How many gaps there are by table and state."""
        rows = self._lake.scan("gaps", columns=["gap_id", "table", "state", "detected_time"])
        newest = rows.sort("detected_time").group_by("gap_id").last()
        return {(table, state): n for table, state, n in newest.group_by("table", "state").len().iter_rows()}


class _Seen:
    """One stream's count over the last hour."""

    def __init__(self, count: int, now_s: float) -> None:
        self.per_s: float | None = None
        self.per_minute: deque[int] = deque(maxlen=SPARK_MINUTES)
        self.risen_s: float | None = None
        self._count, self._looked_s = count, now_s
        self._minute_count, self._minute_s = count, now_s

    def look(self, count: int, now_s: float) -> None:
        """A count at a time; one that fell is of a recorder that began again."""
        passed_s = now_s - self._looked_s
        if count > self._count:
            self.risen_s = now_s
        if passed_s >= 1.0:
            self.per_s = max(0, count - self._count) / passed_s
            self._count, self._looked_s = count, now_s
        minutes = (now_s - self._minute_s) / 60.0
        if minutes >= 1.0:  # many, where nobody looked meanwhile: each has its share
            share = round(max(0, count - self._minute_count) / minutes)
            self.per_minute.extend([share] * min(int(minutes), SPARK_MINUTES))
            self._minute_count, self._minute_s = count, now_s
