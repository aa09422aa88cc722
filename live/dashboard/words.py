"""Journal events in words for people."""

from collections.abc import Mapping
from typing import Any

from live.dashboard import answers
from live.dashboard.journal_reader import Event
from live.dashboard.views import moment
from live.orders import order_name
from research import formats

_QUIET = ("decision", "intent", "order", "execution", "cancelled", "ambiguous")  # a fill or a miss tells their end
_BY_PEOPLE = ("Commanded", "Acknowledged")


def event(told: Event, tick_sizes: Mapping[str, float]) -> answers.Event:
    """An event as the dashboard answers it."""
    return answers.Event(
        seq=told.seq,
        time=moment(told.time_ms),
        kind=told.kind,
        symbol=told.symbol,
        trade_id=told.trade_id,
        text=_text(told, tick_sizes.get(told.symbol)),
        is_shown=told.kind not in _QUIET and not _is_only_a_peak(told),
        command_id=told.body.get("key"),
    )


def _is_only_a_peak(told: Event) -> bool:
    """A real run writes its highest equity down, and the losses in a row."""
    if told.kind != "risk" or told.body.get("cause") in _BY_PEOPLE:
        return False
    return not told.body["state"]["lowered"] and not told.body.get("because")


def _text(told: Event, tick_size: float | None) -> str:
    body = told.body
    match told.kind:
        case "start":
            return f"{body['mode']} run of config {told.config_hash[:10]} begins"
        case "end":
            return "the run ended"
        case "map":
            return "liquidation map available" if body["available"] else f"no liquidation map: {body['reason']}"
        case "decision":
            return "decided to go " + ("long" if body["side"] > 0 else "short")
        case "intent":
            return f"order of leg {_leg(told)}"
        case "missed":
            return f"entry missed: {body['cause']}"
        case "fill":
            return _fill(body, tick_size)
        case "cancelled":
            return f"order of leg {body['leg']} cancelled"
        case "funding":
            paid = body["paid_usdt"]
            return "funding unknown" if paid is None else f"funding {formats.usdt(-paid, signed=True)} USDT"
        case "held":
            return f"still held at {_price(body['last_price'], tick_size)} when the run ended"
        case "command":
            return f"{body['by']} asks: {body['command']} {body['symbol'] or ''}".rstrip()
        case "answer":
            return f"{body['command']}: {'' if body['is_done'] else 'not done: '}{body['answer']}"
        case "risk":
            reasons = body.get("because") or body["state"]["lowered"]
            return f"{body['level']}: {'; '.join(reasons) or 'no reason holds any more'}"
        case "order":
            return f"order of leg {_leg(told)}: {body['status']} {body.get('message', '')}".rstrip()
        case "execution":
            done = "bought" if body["side"] > 0 else "sold"
            return f"{done} {body['quantity']} at {body['price']}, a part of leg {_leg(told)}"
        case "guarded":
            return f"its stop stands on the exchange, {body['naked_ms'] / 1e3:.2f} s after the fill"
        case "refused":
            return f"no entry: {'; '.join(body['reasons'])}"
        case "alert":
            return f"{body['what']}: {body['detail']}"
        case "deaf":
            return f"the account's stream ended: {body['reason']}"
        case "flatten":
            return f"to be closed at the market: {body['reason']}"
        case "adopted":
            return f"adopted: {body['why']}" if "why" in body else f"adopted {body['quantity']}, stop {body['stop']}"
        case "closed":
            at = "" if body["price"] is None else f" at {_price(body['price'], tick_size)}"
            return f"adopted position closed{at}: {body['reason']}"
        case "income":
            return f"funding {formats.usdt(body['amount_usdt'], signed=True)} USDT of the account"
        case "ambiguous":
            return "a bar could not tell which exit came first"
    return ", ".join(f"{name} {value}" for name, value in body.items() if isinstance(value, str | int | float))


def _fill(body: Mapping[str, Any], tick_size: float | None) -> str:
    done = "bought" if body["side"] > 0 else "sold"
    text = f"{done} {_number(body['quantity'])} at {_price(body['price'], tick_size)}"
    return f"{text}: {body['reason']}" if "reason" in body else text


def _leg(told: Event) -> str:
    name = order_name(told.client_order_id)
    return "?" if name is None else name.leg


def _price(value: float, tick_size: float | None) -> str:
    return _number(value) if tick_size is None else formats.price(value, tick_size)


def _number(value: float) -> str:
    return f"{value:.8g}".replace("-", formats.MINUS)
