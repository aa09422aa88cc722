"""Messages as the numbers the feed goes by. None where a number is not what it must be: the lake refuses that row too.

Times are milliseconds of the exchange's clock; ``recv_ns`` is ours. A number that was not sent is NaN.
"""

import math
from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

from data.messages import AggTrade, BookTicker, ForceOrder, Kline, MarkPrice
from data.messages_rest import Answer, RestKline, RestOpenInterest, as_rows, rest_rows

NS_PER_MS = 1_000_000
REMEMBERED = 1_000  # keys of messages, to know one that comes twice
KLINE_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume")


class Trade(NamedTuple):
    """Fills of one taker order at one price."""

    recv_ns: int
    trade_id: int
    event_ms: int
    price: float


class Quote(NamedTuple):
    """Best bid and ask."""

    recv_ns: int
    update_id: int | None
    event_ms: int
    bid: float
    bid_quantity: float
    ask: float
    ask_quantity: float


class Mark(NamedTuple):
    """Mark and index price, and the funding that is announced."""

    recv_ns: int
    event_ms: int
    price: float
    index: float
    funding_rate: float
    next_funding_ms: int | None


class Forced(NamedTuple):
    """A liquidation order; ``usdt`` is what of it was filled, ``key`` what tells it from another."""

    recv_ns: int
    key: tuple
    event_ms: int
    side: str  # of the order: SELL closes a long
    usdt: float


class OpenInterest(NamedTuple):
    """Open interest, base quantity, one-sided."""

    event_ms: int
    quantity: float


class ClosedBar(NamedTuple):
    """A bar that closed. ``known_ms``: earliest moment a decision may use it; ``values`` of ``KLINE_COLUMNS``."""

    open_ms: int
    known_ms: int
    values: tuple[float, ...]


def known_ms(recv_ns: int) -> int:
    """The millisecond from which on something received then may be used."""
    return -(-recv_ns // NS_PER_MS)


def trade_of(recv_ns: int, message: AggTrade) -> Trade | None:
    """A trade."""
    event_ms = message.sent_time if message.event_time is None else message.event_time
    try:
        price = _price(message.price)
        _amount(message.quantity)
    except ValueError:
        return None
    return None if event_ms is None else Trade(recv_ns, message.agg_trade_id, event_ms, price)


def quote_of(recv_ns: int, message: BookTicker) -> Quote | None:
    """A quote."""
    event_ms = message.sent_time if message.event_time is None else message.event_time
    try:
        bid, ask = _price(message.bid_price), _price(message.ask_price)
        bid_quantity, ask_quantity = _optional_amount(message.bid_quantity), _optional_amount(message.ask_quantity)
    except ValueError:
        return None
    if event_ms is None:
        return None
    return Quote(recv_ns, message.update_id, event_ms, bid, bid_quantity, ask, ask_quantity)


def mark_of(recv_ns: int, message: MarkPrice) -> Mark | None:
    """A mark."""
    try:
        price, index = _price(message.mark_price), _optional_amount(message.index_price)
        _optional_amount(message.estimated_settle_price)
        rate = _number(message.funding_rate) if message.funding_rate else math.nan
    except ValueError:
        return None
    # 0 where a contract has no funding
    return Mark(recv_ns, message.event_time, price, index, rate, message.next_funding_time or None)


def forced_of(recv_ns: int, message: ForceOrder) -> Forced | None:
    """A liquidation."""
    order = message.order
    event_ms = message.sent_time if order.event_time is None else order.event_time
    try:
        key = (event_ms, order.side, _price(order.price), _amount(order.quantity), _amount(order.filled_quantity))
        average_price = _optional_amount(order.average_price)
        _optional_amount(order.last_filled_quantity)
    except ValueError:
        return None
    usdt = 0.0 if math.isnan(average_price) else average_price * key[-1]
    return None if event_ms is None else Forced(recv_ns, key, event_ms, order.side, usdt)


def bar_of(recv_ns: int, message: Kline, length_ms: int) -> ClosedBar | None:
    """The bar of a final kline; None while it runs."""
    bar = message.bar
    if not bar.is_final:
        return None
    values = _bar_values(bar)
    # A clock that lags receives a bar before it closed.
    return values and ClosedBar(bar.open_time, max(known_ms(recv_ns), bar.open_time + length_ms), values)


def bars_of_answer(recv_ns: int, answer: Answer, length_ms: int, unseen_delay_ms: int) -> list[ClosedBar]:
    """The bars of a REST answer that had closed by then. Those that closed before we listened are history: known
    ``unseen_delay_ms`` after their end, whenever they were asked for.
    """
    found = []
    for row in rest_rows(bytes(answer.body), RestKline)[0]:
        closed_ms = row.close_time + 1
        values = _bar_values(row)
        if values is None or closed_ms * NS_PER_MS > recv_ns:
            continue
        end_ms = row.open_time + length_ms
        known = max(known_ms(recv_ns), end_ms) if closed_ms >= answer.since_ms else end_ms + unseen_delay_ms
        found.append(ClosedBar(row.open_time, known, values))
    return found


def open_interest_of(answer: Answer) -> list[OpenInterest]:
    """What a REST answer says of open interest; nothing where it is not of that form."""
    found = []
    for row in rest_rows(as_rows(bytes(answer.body)), RestOpenInterest)[0]:
        try:
            found.append(OpenInterest(row.event_time, _amount(row.open_interest)))
        except ValueError:
            continue
    return found


def _bar_values(bar) -> tuple[float, ...] | None:
    try:
        prices = (_price(bar.open), _price(bar.high), _price(bar.low), _price(bar.close))
        quote_volume, taker_buy_volume = _optional_amount(bar.quote_volume), _optional_amount(bar.taker_buy_volume)
        _optional_amount(bar.taker_buy_quote_volume)
        count = math.nan if bar.trade_count is None else float(bar.trade_count)
        return (*prices, _amount(bar.volume), quote_volume, count, taker_buy_volume)
    except ValueError:
        return None


class Recent:
    """The last keys there were: what an exchange repeats it repeats soon."""

    def __init__(self) -> None:
        self._order: deque[Hashable] = deque(maxlen=REMEMBERED)
        self._keys: set[Hashable] = set()

    def holds(self, key: Hashable) -> bool:
        """Whether the key was there; from now on it was."""
        if key in self._keys:
            return True
        if len(self._order) == REMEMBERED:
            self._keys.discard(self._order[0])
        self._order.append(key)
        self._keys.add(key)
        return False


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _price(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise ValueError(text)
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise ValueError(text)
    return value


def _optional_amount(text: str | None) -> float:
    return _amount(text) if text else math.nan
