"""The trades that a journal has not seen the end of, as a restart finds them. Pure.

Of every order that the journal intended, the bytes may have left: it is in doubt until the exchange was asked. What
became of it is not read here but heard from the exchange, so that a lost last page of the journal loses nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

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


def entries_sent(events: Iterable[Event]) -> list[tuple[str, int]]:
    """Symbol and time of every entry that left for the exchange, in the journal's order."""
    sent = (event for event in events if event.kind == "order" and event.body["status"] == Status.SENT)
    named = ((event, order_name(event.client_order_id)) for event in sent)
    return [(event.symbol, event.ts_ms) for event, name in named if name is not None and name.leg is Leg.ENTRY]


def told_until_ms(events: Iterable[Event], now_ms: int) -> int:
    """Up to when the account's stream told of everything that moves money: it ended then, or changed the risk last.

    A transfer that counts changes it, so none is counted twice.
    """
    ends = [event.ts_ms + (event.kind == "risk") for event in events if event.kind in ("deaf", "risk")]
    return max(ends, default=now_ms)


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
