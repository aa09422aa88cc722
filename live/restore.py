"""What a restart knows from the journal: the trades that it has not seen the end of, and what was done before. Pure.

Of every order that the journal intended, the bytes may have left: it is in doubt until the exchange was asked. What
became of it is not read here but heard from the exchange, so that a lost last page of the journal loses nothing.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

import polars as pl

from live.order_answers import Unanswered
from live.order_state import Order, Sent, Status, all_heard
from live.orders import Leg, order_name
from live.protection import Trade, with_orders
from research.fills import Levels


class Event(NamedTuple):
    """Of the journal: see ``journal.Record``."""

    ts_ms: int
    kind: str
    symbol: str
    trade_id: str | None
    client_order_id: str | None
    body: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What a restart on an account knows from the journal.

    Attributes
    ----------
    intended : names of orders whose bytes may have left.
    executed : symbol and id of every fill.
    entries_sent : symbol and time of every entry that left for the exchange, in the journal's order.
    risk : the last state of ``live.risk``, as it was written; None where there is none.
    trades : that a desk planned and that are open; see ``open_trades``.
    taken_over : by trade id, the symbols of what was adopted and has not been closed.
    funding_usdt : paid for each trade, negative when received.
    transactions : ids of the payments that were booked.
    opened_ms : what is open began then, or ``now_ms``; 0 where it may be older than the journal knows.
    paid_since_ms : no payment of before is missing.
    told_until_ms : up to when the account's stream told of everything that moves money.
    """

    intended: frozenset[str]
    executed: frozenset[tuple[str, int]]
    entries_sent: tuple[tuple[str, int], ...]
    risk: Mapping[str, Any] | None
    trades: tuple[Trade, ...]
    taken_over: Mapping[str, str]
    funding_usdt: Mapping[str, float]
    transactions: frozenset[str]
    opened_ms: int
    paid_since_ms: int
    told_until_ms: int


def events_of(journal: pl.DataFrame) -> list[Event]:
    """Rows of ``journal.read_journal``."""
    rows = journal.select("ts_ms", "kind", "symbol", "trade_id", "client_order_id", "body").iter_rows()
    return [Event(*row[:5], json.loads(row[5])) for row in rows]


def remembered(events: Sequence[Event], now_ms: int) -> Remembered:
    """All of it.

    Parameters
    ----------
    events : in the journal's order.
    now_ms : of the restart.
    """
    of_kind: defaultdict[str, list[Event]] = defaultdict(list)
    for each in events:
        of_kind[each.kind].append(each)
    adopted, closed = ({each.trade_id for each in of_kind[kind]} for kind in ("adopted", "closed"))
    taken_over = {each.trade_id: each.symbol for each in events if each.trade_id in adopted - closed}
    # What was adopted is found again, and adopted again.
    trades = tuple(trade for trade in open_trades(events, now_ms) if trade.trade_id not in adopted)
    funding_usdt: defaultdict[str, float] = defaultdict(float)
    for each in of_kind["funding"]:
        funding_usdt[each.trade_id] += each.body["paid_usdt"]
    going_on = {trade.trade_id for trade in trades} | set(taken_over)
    paying = going_on | {*{each.symbol: each.trade_id for each in of_kind["execution"]}.values()}
    began_ms = min((each.ts_ms for each in events if each.trade_id in going_on), default=now_ms)
    # What is held may be older than a journal that knows of no fill, and what was taken over is older than that.
    knows_entries = bool(of_kind["execution"]) and not taken_over
    return Remembered(
        intended=frozenset(each.client_order_id for each in of_kind["intent"]),
        executed=frozenset((each.symbol, each.body["execution_id"]) for each in of_kind["execution"]),
        entries_sent=tuple(_entries_sent(of_kind["order"])),
        risk=of_kind["risk"][-1].body["state"] if of_kind["risk"] else None,
        trades=trades,
        taken_over=taken_over,
        funding_usdt=funding_usdt,
        transactions=frozenset(each.body["transaction_id"] for each in events if "transaction_id" in each.body),
        opened_ms=began_ms if knows_entries else 0,
        paid_since_ms=min([now_ms, *(each.ts_ms for each in events if each.trade_id in paying)]),
        told_until_ms=_told_until_ms(events, now_ms),
    )


def _entries_sent(events: Iterable[Event]) -> Iterator[tuple[str, int]]:
    for event in events:
        name = order_name(event.client_order_id)
        if event.body["status"] == Status.SENT and name is not None and name.leg is Leg.ENTRY:
            yield event.symbol, event.ts_ms


def _told_until_ms(events: Iterable[Event], now_ms: int) -> int:
    """The stream ended then, or changed the risk last: a transfer that counts does, and none is to count twice.

    A journal that knows of neither begins now: what the account was opened with is no transfer.
    """
    ends = [event.ts_ms + (event.kind == "risk") for event in events if event.kind in ("deaf", "risk")]
    return max(ends, default=now_ms + 1)


def open_trades(events: Iterable[Event], now_ms: int) -> list[Trade]:
    """Trades with an intended entry and no end, oldest first; every order in doubt.

    Parameters
    ----------
    events : in the journal's order.
    now_ms : of the restart.
    """
    trades: dict[tuple[str, int], Trade] = {}
    for event in events:
        name = None if event.client_order_id is None else order_name(event.client_order_id)
        key = (event.trade_id, 0 if name is None else name.tranche)
        if event.kind == "intent" and name is not None:
            if key not in trades:
                trades[key] = Trade(
                    instance=name.instance,
                    trade_id=name.trade_id,
                    symbol=event.symbol,
                    side=event.body["side"] if name.leg is Leg.ENTRY else -event.body["side"],
                    tranche=name.tranche,
                )
            trades[key] = _intended(trades[key], event, now_ms)
        elif event.kind == "adjusted" and key in trades:
            by = Decimal(event.body["by"])
            trades[key] = replace(trades[key], adjustment=trades[key].adjustment + by)
        elif event.kind == "flatten" and key in trades:
            trades[key] = replace(trades[key], close_because=event.body["reason"])
        elif event.kind == "missed" or (event.kind == "fill" and event.body["leg"] != Leg.ENTRY):
            trades.pop(key, None)
    return list(trades.values())


def _intended(trade: Trade, event: Event, now_ms: int) -> Trade:
    """The trade with one more order that may have left."""
    body, leg = event.body, Leg(event.body["leg"])
    quantity = body.get("quantity")
    order = Order(
        client_order_id=event.client_order_id,
        symbol=trade.symbol,
        side=body["side"],
        quantity=None if quantity is None else Decimal(str(quantity)),
    )
    doubt = Unanswered(reason="the runner started again", told_ms=now_ms)
    order = all_heard(order, [Sent(time_ms=event.ts_ms), doubt])
    levels = trade.levels or Levels(math.nan, math.nan, math.nan, math.nan)
    if leg is Leg.STOP and "stop_price" in body:
        levels = levels._replace(stop=body["stop_price"])
    elif leg is Leg.TARGET and "stop_price" in body:
        levels = levels._replace(target=body["stop_price"])
    elif leg is Leg.TRAILING and "activation_price" in body:
        levels = levels._replace(activation=body["activation_price"], callback_bps=body["callback_bps"])
    elif "reason" in body:  # a trader's order to close
        trade = replace(trade, close_because=body["reason"])
    has_plan = not all(math.isnan(level) for level in levels[:4])
    return replace(trade, levels=levels if has_plan else None, orders=with_orders(trade, [order]))
