"""Stream names and the control messages of a connection. No sockets, no rows.

Source: Aster futures API, "Market WebSocket", connection rules and stream table.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.loopback.bars import INTERVALS

MAX_STREAMS = 200
_BOOK_CADENCE_MS = {None: 250, "100ms": 100, "500ms": 500}
_MARK_CADENCE_MS = {None: 3_000, "1s": 1_000}
_OF_ONE = re.compile(
    r"(?P<symbol>[^@A-Z!]+)@(?:(?P<plain>aggTrade|trade|bookTicker|forceOrder)|(?P<mark>markPrice)(?:@(?P<second>1s))?"
    r"|kline_(?P<interval>\w+)|depth(?P<levels>5|10|20)(?:@(?P<speed>100ms|500ms))?)"
)
_OF_ALL = {
    "!forceOrder@arr": ("forceOrder", 0),
    "!bookTicker": ("bookTicker", 0),
    "!markPrice@arr": ("markPrice", 3_000),
    "!markPrice@arr@1s": ("markPrice", 1_000),
}
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a stream name asks for.

    Parameters
    ----------
    kind : aggTrade, trade, bookTicker, depth, markPrice, forceOrder or kline.
    symbols : in upper case; several only where ``is_of_all``.
    cadence_ms : at most one message in that time; 0 for every one.
    levels : of partial books.
    interval : of klines.
    is_of_all : of all contracts; marks then come as one array.
    """

    name: str
    kind: str
    symbols: tuple[str, ...]
    cadence_ms: int = 0
    levels: int = 0
    interval: str = "1m"
    is_of_all: bool = False


def stream_of(name: str, symbols: Sequence[str]) -> Stream | None:
    """The stream of that name; None where there is none, which the exchange accepts and never serves."""
    if name in _OF_ALL:
        kind, cadence_ms = _OF_ALL[name]
        return Stream(name=name, kind=kind, symbols=tuple(symbols), cadence_ms=cadence_ms, is_of_all=True)
    asked = _OF_ONE.fullmatch(name)
    if asked is None or asked["symbol"].upper() not in symbols:
        return None
    one = (asked["symbol"].upper(),)
    if asked["plain"]:
        return Stream(name=name, kind=asked["plain"], symbols=one)
    if asked["mark"]:
        return Stream(name=name, kind="markPrice", symbols=one, cadence_ms=_MARK_CADENCE_MS[asked["second"]])
    if asked["levels"]:
        cadence_ms = _BOOK_CADENCE_MS[asked["speed"]]
        return Stream(name=name, kind="depth", symbols=one, cadence_ms=cadence_ms, levels=int(asked["levels"]))
    return (
        Stream(name=name, kind="kline", symbols=one, interval=asked["interval"])
        if (asked["interval"] in INTERVALS)
        else None
    )


class Subscriptions:
    """What one connection listens to, and its answers to control messages.

    Attributes
    ----------
    names : stream names as asked for, in that order.
    is_combined : whether messages come wrapped with their stream's name.
    """

    def __init__(self, names: Sequence[str], is_combined: bool):
        self.names = dict.fromkeys(names)
        self.is_combined = is_combined

    def answer(self, message: bytes) -> str:
        """The reply to a control message, which has then been obeyed."""
        try:
            request = json.loads(message)
        except ValueError as error:
            return _refusal(3, f"Invalid JSON: {error}")
        if not isinstance(request, dict) or "method" not in request:
            return _refusal(2, "Invalid request: missing field `method`")
        number = request.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return _refusal(2, "Invalid request: request ID must be an unsigned integer")
        method, params = request["method"], request.get("params", [])
        if method not in _METHODS:
            return _refusal(2, f"Invalid request: unknown variant `{method}`, expected one of {', '.join(_METHODS)}")
        if not isinstance(params, list):
            return _refusal(2, "Invalid request: params must be a list")
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return self._change(method, params, number)
        if method == "LIST_SUBSCRIPTIONS":
            return _result(list(self.names), number)
        return self._property(method, params, number)

    def _change(self, method: str, params: list[Any], number: int) -> str:
        if not all(isinstance(name, str) for name in params):
            return _refusal(2, "Invalid request: stream names must be strings")
        if method == "UNSUBSCRIBE":
            for name in params:
                self.names.pop(name, None)
            return _result(None, number)
        wanted = {**self.names, **dict.fromkeys(params)}
        if len(wanted) > MAX_STREAMS:
            return _refusal(2, f"Invalid request: too many parameters, at most {MAX_STREAMS} streams per connection")
        self.names = wanted
        return _result(None, number)

    def _property(self, method: str, params: list[Any], number: int) -> str:
        expected = 2 if method == "SET_PROPERTY" else 1
        if len(params) > expected:
            return _refusal(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            return _refusal(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            return _refusal(0, "Unknown property")
        if method == "GET_PROPERTY":
            return _result(self.is_combined, number)
        if len(params) < 2 or not isinstance(params[1], bool):
            return _refusal(1, "Invalid value type: expected Boolean")
        self.is_combined = params[1]
        return _result(None, number)


def _result(value: Any, number: int) -> str:
    return json.dumps({"result": value, "id": number}, separators=(",", ":"))


def _refusal(code: int, reason: str) -> str:
    return json.dumps({"code": code, "msg": reason}, separators=(",", ":"))
