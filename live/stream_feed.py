"""One symbol's messages as the events a desk acts on, for a runner that listens. Pure: it is told the time too.

A bar becomes known at its ``avail_time``, its order meets the market at ``t_i``. Both are due at a millisecond, which
means: after everything received by then and before anything later. So the events are those that ``research.bars`` and
``research.ticks`` find in the lake made from the same messages.
"""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from data.messages import AggTrade, BookTicker, ForceOrder, Kline, MarkPrice
from data.messages_rest import Answer
from data.schema import interval_ms
from live.feed import (
    KNOWN_AT_CLOSE,
    KNOWN_AT_OPEN,
    BarClosed,
    Event,
    ExecutionOpen,
    FeedEnded,
    FundingDue,
    Gap,
    Marked,
    Quoted,
    Traded,
    market_known,
)
from live.forced_feed import ForcedFeed
from live.funding_due import Announcements
from live.known_row import REACH_MS, KnownRows
from live.map_feed import MapFeed
from live.orders import RowKey
from live.readings import (
    ClosedBar,
    Mark,
    Quote,
    Recent,
    Trade,
    bar_of,
    bars_of_answer,
    forced_of,
    known_ms,
    mark_of,
    quote_of,
    trade_of,
)
from live.windows import Windows
from research.bars import KLINE_DELAY_MS
from research.strategies.gates import MAX_QUOTE_AGE_MS

Resolution = Literal["tick", "bar"]

OVERDUE_MS = 5_000  # after its end a bar that has not come is asked for
ASKED_BARS = 1_000  # at once
_KNOWN_COLUMNS = {name: name for name in KNOWN_AT_CLOSE} | {"bid": "bid_price", "ask": "ask_price"}


class StreamFeed:
    """The events of one symbol.

    Parameters
    ----------
    inputs : names of the values in ``BarClosed.inputs``.
    first_ms : open_time of the first slot, history included.
    since_ms : when listening began: the bars that closed before are history.
    instrument, funding_interval_hours : as for ``KnownRows``.
    latency_ms : decision to market.
    map_feed : of the symbol, which hears everything before this does; None where no input is of the liquidation map.

    Attributes
    ----------
    bars, gaps : how many slots were told as one and as the other.
    past_gaps : those of the gaps that lie in the history, which the exchange does not have.
    told_until_ms : open_time of the first slot that was not told.
    next_ms : the slot whose bar is waited for.
    ended_ms : when the feed ended last; None while it goes on.
    """

    def __init__(
        self,
        *,
        symbol: str,
        interval: str,
        resolution: Resolution,
        inputs: tuple[str, ...],
        first_ms: int,
        since_ms: int,
        instrument: Mapping[str, Any],
        funding_interval_hours: float | None,
        latency_ms: int,
        map_feed: MapFeed | None = None,
    ) -> None:
        self.symbol, self.interval, self.length_ms = symbol, interval, interval_ms(interval)
        self.bars = self.gaps = self.past_gaps = 0
        self.first_ms = first_ms
        self.ended_ms: int | None = None
        self.next_ms = first_ms
        self._inputs, self._latency_ms, self._since_ms = inputs, latency_ms, since_ms
        self._rows = KnownRows(instrument, funding_interval_hours, self.length_ms)
        self.map_feed = map_feed
        self._funding = Announcements()
        self._forced = ForcedFeed(self.length_ms)
        self._windows = Windows(self.length_ms, latency_ms) if resolution == "bar" else None
        self._waiting: dict[int, tuple[int, ClosedBar | None]] = {}  # by open_time: when known, the bar or None
        self._avail_ms = 0
        self._opens: deque[tuple[int, RowKey, dict[str, Any]]] = deque()  # rows whose order has not met the market
        self._held_up: deque[BarClosed | Gap] = deque()  # known, but told after the order of the row before
        self.told_until_ms = first_ms
        self._trade: Trade | None = None
        self._quote: Quote | None = None
        self._mark: Mark | None = None
        self._rate: Mark | None = None
        self._trades_seen, self._quotes_seen, self._marks_seen = Recent(), Recent(), Recent()

    @property
    def due_ms(self) -> int | None:
        """When the next thing is due."""
        ready = self._waiting.get(self.next_ms)
        dues = (
            None if ready is None else max(ready[0], self._avail_ms),
            None if self._windows is not None else self._funding.next_ms,
            self._opens[0][0] if self._opens else None,
        )
        return min((due for due in dues if due is not None), default=None)

    def due(self, now_ms: int) -> list[Event]:
        """The events of the one thing that is due at ``now_ms``: bars before funding before orders' arrival."""
        ready = self._waiting.get(self.next_ms)
        if ready is not None and max(ready[0], self._avail_ms) == now_ms:
            return self._known(*self._waiting.pop(self.next_ms))
        if self._windows is None and self._funding.next_ms == now_ms:
            rate = self._funding.settle()
            return [] if rate is None else [FundingDue(now_ms, rate * self._funding_price(now_ms))]
        return self._met(*self._opens.popleft())

    def hear(self, recv_ns: int, message: object) -> list[Event]:
        """Take in a message of the symbol."""
        match message:
            case BookTicker():
                return self._on_quote(quote_of(recv_ns, message))
            case AggTrade():
                return self._on_trade(trade_of(recv_ns, message))
            case MarkPrice():
                return self._on_mark(mark_of(recv_ns, message))
            case ForceOrder():
                self._forced.hear(forced_of(recv_ns, message))
            case Kline() if message.bar.interval == self.interval:
                bar = bar_of(recv_ns, message, self.length_ms)
                if bar is not None:
                    self._expect(bar.open_ms, bar.known_ms, bar)
        return []

    def answered(self, recv_ns: int, answer: Answer) -> None:
        """Take in the answer to a question for the symbol's bars."""
        for bar in bars_of_answer(recv_ns, answer, self.length_ms, KLINE_DELAY_MS):
            self._expect(bar.open_ms, bar.known_ms, bar)

    def given_up(self, recv_ns: int, open_ms: int) -> None:
        """The bar of this slot will not come: the slot is a gap, from now on."""
        self._expect(open_ms, known_ms(recv_ns), None)

    def history_ended(self) -> None:
        """All history was told: what is missing of it is a gap."""
        open_ms = self.next_ms
        while open_ms + self.length_ms < self._since_ms:
            self._expect(open_ms, open_ms + self.length_ms + KLINE_DELAY_MS, None)
            open_ms += self.length_ms

    def wanted(self, now_ms: int) -> list[int]:
        """Slots whose bar is overdue, by open_time; all among the next ``ASKED_BARS``."""
        until_ms = min(now_ms - OVERDUE_MS - self.length_ms, self.next_ms + (ASKED_BARS - 1) * self.length_ms)
        missing = range(self.next_ms, until_ms + 1, self.length_ms)
        return [open_ms for open_ms in missing if open_ms not in self._waiting]

    def next_overdue_ms(self) -> int:
        """When the next bar that has not come will be overdue."""
        open_ms = self.next_ms
        while open_ms in self._waiting:
            open_ms += self.length_ms
        return open_ms + self.length_ms + OVERDUE_MS

    def stopped(self, recv_ns: int) -> FeedEnded:
        """The feed ends here, or pauses: positions are valued at the last trade, or at the end of the last window."""
        last_price = math.nan
        self.ended_ms = known_ms(recv_ns)
        if self._windows is not None:
            self.ended_ms = self._windows.ended_ms or self.ended_ms
        elif self._trade is not None:
            last_price = self._trade.price
        return FeedEnded(time_ms=self.ended_ms, last_price=last_price)

    def _expect(self, open_ms: int, known_ms: int, bar: ClosedBar | None) -> None:
        """Keep the first word on a slot that was not told yet."""
        if open_ms >= self.next_ms and open_ms % self.length_ms == 0:
            self._waiting.setdefault(open_ms, (known_ms, bar))

    def _known(self, known_ms: int, bar: ClosedBar | None) -> list[Event]:
        """The next row is known."""
        open_ms, avail_ms = self.next_ms, max(known_ms, self._avail_ms)
        self.next_ms, self._avail_ms = open_ms + self.length_ms, avail_ms
        forced_usdt = self._forced.take(open_ms)
        values = self._rows.row(open_ms, avail_ms, bar, self._quote, self._mark, self._rate, forced_usdt)
        row = RowKey(self.interval, open_ms)
        market = {name: values[column] for name, column in _KNOWN_COLUMNS.items()}
        on_the_map = {} if self.map_feed is None else self.map_feed.columns(avail_ms, self.length_ms)
        looked_at = values | on_the_map
        inputs = np.array([looked_at[name] for name in self._inputs], dtype=np.float64)
        if bar is None:
            event = Gap(time_ms=avail_ms, row=row, inputs=inputs)
        else:
            known = market_known(market, KNOWN_AT_CLOSE)
            event = BarClosed(time_ms=avail_ms, row=row, close_ms=open_ms + self.length_ms, inputs=inputs, market=known)
        self._opens.append((avail_ms + self._latency_ms, row, market))
        if self._windows is not None:
            self._windows.known(event, values)
            return self._counted(self._windows.over())
        if len(self._opens) > 1:
            self._held_up.append(event)
            return []
        return self._counted([event])

    def _met(self, exec_ms: int, row: RowKey, market: Mapping[str, Any]) -> list[Event]:
        """The order of a row meets the market."""
        quote = self._quote
        if quote is not None and exec_ms - known_ms(quote.recv_ns) > MAX_QUOTE_AGE_MS:
            quote = None
        if self._windows is not None:
            self._windows.met(quote)
            return self._counted(self._windows.over())
        met = {
            **market,
            "exec_open": math.nan if self._trade is None else self._trade.price,
            "mark_open": math.nan,
            "exec_bid": math.nan if quote is None else quote.bid,
            "exec_ask": math.nan if quote is None else quote.ask,
        }
        events: list[Event] = [ExecutionOpen(time_ms=exec_ms, row=row, market=market_known(met, KNOWN_AT_OPEN))]
        if self._held_up:
            events.append(self._held_up.popleft())
        return self._counted(events)

    def _counted(self, events: list[Event]) -> list[Event]:
        for event in events:
            if isinstance(event, (BarClosed, Gap)):
                self.bars += isinstance(event, BarClosed)
                self.told_until_ms = event.row.open_ms + self.length_ms
                if isinstance(event, Gap):
                    self.gaps += 1
                    self.past_gaps += self.told_until_ms <= self._since_ms
        return events

    def _on_trade(self, trade: Trade | None) -> list[Event]:
        if trade is None or self._trades_seen.holds(trade.trade_id):
            return []
        self._trade = trade
        if self._windows is None:
            return [Traded(trade.recv_ns, trade.price)]
        self._windows.traded(trade)
        return self._counted(self._windows.over())

    def _on_quote(self, quote: Quote | None) -> list[Event]:
        if quote is None or (quote.update_id is not None and self._quotes_seen.holds(quote.update_id)):
            return []
        self._quote = quote
        return [Quoted(quote.recv_ns, quote.bid, quote.ask)] if self._windows is None else []

    def _on_mark(self, mark: Mark | None) -> list[Event]:
        if mark is None or self._marks_seen.holds(mark.event_ms):
            return []
        self._mark = mark
        if not math.isnan(mark.funding_rate):
            self._rate = mark
        if self._windows is None:
            self._funding.hear(mark)
            return [Marked(mark.recv_ns, mark.price)]
        self._windows.marked(mark)
        return self._counted(self._windows.over())

    def _funding_price(self, now_ms: int) -> float:
        """What funding is paid on: the last mark known, the last trade where that is too old."""
        if self._mark is not None and now_ms - known_ms(self._mark.recv_ns) <= REACH_MS:
            return self._mark.price
        return math.nan if self._trade is None else self._trade.price
