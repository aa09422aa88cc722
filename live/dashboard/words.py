"""Journal events in words for people."""

from collections.abc import Mapping
from typing import Any

from live.dashboard import answers
from live.dashboard.journal_reader import Event
from live.dashboard.views import moment
from research import formats

_QUIET = ("decision", "intent", "cancelled", "ambiguous")  # a fill or a miss tells their end


def event(told: Event, tick_sizes: Mapping[str, float]) -> answers.Event:
    """An event as the dashboard answers it."""
    return answers.Event(
        seq=told.seq,
        time=moment(told.time_ms),
        kind=told.kind,
        symbol=told.symbol,
        trade_id=told.trade_id,
        text=_text(told, tick_sizes.get(told.symbol)),
        is_shown=told.kind not in _QUIET,
        command_id=told.body.get("key"),
    )


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
            return f"{body['type']} {'all' if body['quantity'] is None else _number(body['quantity'])}"
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
            reasons = body["because"] or body["state"]["lowered"]
            return f"{body['level']}: {'; '.join(reasons) or 'no reason holds any more'}"
        case "ambiguous":
            return "a bar could not tell which exit came first"
    return ", ".join(f"{name} {value}" for name, value in body.items() if isinstance(value, str | int | float))


def _fill(body: Mapping[str, Any], tick_size: float | None) -> str:
    done = "bought" if body["side"] > 0 else "sold"
    text = f"{done} {_number(body['quantity'])} at {_price(body['price'], tick_size)}"
    return f"{text}: {body['reason']}" if "reason" in body else f"{text}, stop and target sent"


def _price(value: float, tick_size: float | None) -> str:
    return _number(value) if tick_size is None else formats.price(value, tick_size)


def _number(value: float) -> str:
    return f"{value:.8g}".replace("-", formats.MINUS)
