"""Execution bars for a runner that listens, at bar resolution: told when their window is over and can change no more.

The prices are those of ``research.execution_bars`` on what was kept of the stream, so a backtest of the recording finds
the same. A window needs a trade and a mark after its end to be whole, so this resolution runs behind the market.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from data.schema import BOOK_TICKER, MARK_PRICE, TRADES, conform
from data.table import Table
from live.feed import KNOWN_AT_END, KNOWN_AT_OPEN, BarClosed, Event, ExecutionBar, ExecutionOpen, Gap, market_known
from live.readings import Mark, Quote, Trade, known_ms
from research.bars import SIGNAL
from research.execution_bars import execution_bars
from research.fills import Market
from research.recorded import Recorded, Substitutions

_KEPT_MS = 60_000  # of trades and marks before a window, beside the last one before that
_EXECUTION_COLUMNS = {
    name: f"exec_{name}" if name.startswith("mark_") else name
    for name in Market._fields
    if name.startswith(("exec_", "mark_", "funding_"))
}


@dataclass(kw_only=True, eq=False)
class _Row:
    event: BarClosed | Gap
    values: dict[str, Any]  # of SIGNAL
    exec_ms: int
    is_met: bool = False
    quote: Quote | None = None  # at exec_ms


class Windows:
    """The rows whose window is not over, and what happened in it.

    Attributes
    ----------
    ended_ms : when the last window that was told ended; None before the first.
    """

    def __init__(self, length_ms: int, latency_ms: int) -> None:
        self.ended_ms: int | None = None
        self._length_ms, self._latency_ms = length_ms, latency_ms
        self._rows: deque[_Row] = deque()  # the first one's window is the next to be over
        self._before: list[_Row] = []  # those before it, back to the last bar
        self._trades: deque[Trade] = deque()
        self._marks: deque[Mark] = deque()
        self._last_trade_ms = self._last_mark_ms = -1
        self._is_begun = False

    def known(self, event: BarClosed | Gap, values: dict[str, Any]) -> None:
        """A row is known; ``values`` by name of ``SIGNAL``."""
        self._rows.append(_Row(event=event, values=values, exec_ms=event.time_ms + self._latency_ms))

    def met(self, quote: Quote | None) -> None:
        """The order of the next row has met the market, with this quote."""
        row = next(row for row in self._rows if not row.is_met)
        row.is_met, row.quote = True, quote

    def traded(self, trade: Trade) -> None:
        """Keep a trade."""
        self._trades.append(trade)
        self._last_trade_ms = max(self._last_trade_ms, trade.event_ms)

    def marked(self, mark: Mark) -> None:
        """Keep a mark."""
        self._marks.append(mark)
        self._last_mark_ms = known_ms(mark.recv_ns)

    def over(self) -> list[Event]:
        """The events that can be told now, in the order of a replay."""
        events: list[Event] = []
        if self._rows and not self._is_begun:
            self._is_begun = True
            events.append(self._rows[0].event)
        while self._is_over():
            events += self._told()
        return events

    def _is_over(self) -> bool:
        """Whether nothing that comes can change the first row's window."""
        if len(self._rows) < 2 or not self._rows[0].is_met:
            return False
        end_ms = self._rows[1].exec_ms
        # Where trades are missing bars stand in: every one that closed in the window.
        next_close_ms = self._rows[-1].values["close_time"] + self._length_ms
        return self._last_trade_ms >= end_ms and self._last_mark_ms >= end_ms and next_close_ms > end_ms

    def _told(self) -> list[Event]:
        row, after = self._rows[0], self._rows[1]
        values = row.values | self._execution()
        columns = {"bid": "bid_price", "ask": "ask_price"} | _EXECUTION_COLUMNS
        market = {name: values[columns.get(name, name)] for name in Market._fields}
        events = [
            ExecutionOpen(time_ms=row.exec_ms, row=row.event.row, market=market_known(market, KNOWN_AT_OPEN)),
            after.event,
            ExecutionBar(
                time_ms=after.exec_ms,
                row=row.event.row,
                opened_ms=row.exec_ms,
                market=market_known(market, KNOWN_AT_END),
            ),
        ]
        self._rows.popleft()
        self._before = [row] if isinstance(row.event, BarClosed) else [*self._before, row]
        self.ended_ms = after.exec_ms
        self._forget(after.exec_ms - _KEPT_MS)
        return events

    def _execution(self) -> dict[str, float]:
        """The first row's columns of ``EXECUTION``."""
        rows = [*self._before, *self._rows]
        signal = pl.DataFrame([row.values for row in rows]).select(list(SIGNAL)).cast(SIGNAL)
        trades = sorted(self._trades, key=lambda trade: (trade.event_ms, trade.trade_id))
        quotes = [row.quote for row in rows if row.quote is not None]
        recorded = Recorded(
            trades=_rows(trades, TRADES, agg_trade_id="trade_id", event_time="event_ms", price="price"),
            quotes=_rows(
                quotes, BOOK_TICKER, event_time="event_ms", recv_time="recv_ns", bid_price="bid", ask_price="ask"
            ),
            marks=_rows(
                self._marks, MARK_PRICE, event_time="event_ms", recv_time="recv_ns", mark_price="price",
                funding_rate="funding_rate", next_funding_time="next_funding_ms",
            ).with_columns(pl.col("funding_rate").fill_nan(None)),
        )  # fmt: skip
        execution = execution_bars(signal, recorded, latency_ms=self._latency_ms, substitutions=Substitutions())
        return execution.row(len(self._before), named=True)

    def _forget(self, before_ms: int) -> None:
        """Drop what is older, but for the last one of each kind."""
        trades, marks = self._trades, self._marks
        while len(trades) > 1 and trades[1].event_ms < before_ms:
            trades.popleft()
        while len(marks) > 1 and known_ms(marks[1].recv_ns) < before_ms:
            marks.popleft()


def _rows(readings: Iterable[Trade | Quote | Mark], table: Table, **attributes: str) -> pl.DataFrame:
    """Readings as rows of a table: each column with the attribute it comes from."""
    readings = list(readings)
    columns = {name: [getattr(each, attribute) for each in readings] for name, attribute in attributes.items()}
    return conform(pl.DataFrame(columns), table)
