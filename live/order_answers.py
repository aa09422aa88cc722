"""What an answer to a signed request proves about the order it was about. Pure.

Three things are told apart: the exchange has the order, the exchange does not take it, and nobody knows. Whatever is
not proven is unknown: a 503 may come before the fill.

Source: Aster futures API, "Rate limits and HTTP status semantics", "Error codes and actions".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from live.order_evidence import OrderSeen, order_of_rest

WOULD_TRIGGER = frozenset({-2021, -4142})
NOTHING_TO_CLOSE = frozenset({-2022, -2024})
STANDS_ALREADY = frozenset({-4130})  # a close-all order of this kind and direction
NOT_FOUND = frozenset({-2011, -2013})
AGAINST_RULES = frozenset(  # filters and status of the contract: they may have changed
    {-1013, -1111, -4003, -4004, -4005, -4013, -4014, -4022, -4023, -4029, -4030, -4140, -4141}
)
_FATAL = frozenset({-1002, -1011, -1022, -2014, -2015, -2023, -4087, -4088, -5050})

# Codes that leave open what became of a write: no answer from behind, a batch that failed as a whole, and an id that is
# taken, which says that an order of this name exists.
_UNCERTAIN = frozenset({-1000, -1001, -1006, -1007, -4083, -4116})
_NEVER_TAKEN = ("Signature check failed", "No aster user found")  # come as -1000
_REFUSING_STATUSES = (400, 401, 403)
_THROTTLED = (418, 429)  # counted before anything is looked at


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The exchange did not take the request and never will."""

    code: int  # 0 where only the HTTP status tells
    message: str
    told_ms: int  # our clock

    @property
    def is_fatal(self) -> bool:
        """Key, permission or account: no other request will fare better."""
        return self.code in _FATAL or any(text in self.message for text in _NEVER_TAKEN)


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """Nobody knows what became of the request."""

    reason: str
    told_ms: int  # our clock, when we gave up waiting


@dataclass(frozen=True, kw_only=True)
class NotFound:
    """The exchange knows no such order (of a question), or none that is open (of a cancellation)."""

    asked_ms: int  # our clock, when the question left


def placed(status: int, body: bytes, *, asked_ms: int, told_ms: int) -> OrderSeen | Refused | Unanswered:
    """What the answer to a new order proves; no answer at all is ``Unanswered`` to begin with."""
    told = _told(body)
    if told is None:
        return _throttled(status, told_ms) or Unanswered(reason=_unread(status, body), told_ms=told_ms)
    code = told.get("code")
    if code is None and status < 300:
        return _seen(told, asked_ms, told_ms)
    message = str(told.get("msg", ""))
    if status in _THROTTLED:
        return Refused(code=_number(code), message=message, told_ms=told_ms)
    is_definite = status in _REFUSING_STATUSES or status < 300
    never_taken = any(text in message for text in _NEVER_TAKEN)
    if is_definite and isinstance(code, int) and code < 0 and (code not in _UNCERTAIN or never_taken):
        return Refused(code=code, message=message, told_ms=told_ms)
    return Unanswered(reason=f"HTTP {status}, {code} {message}".strip(), told_ms=told_ms)


def asked_about(status: int, body: bytes, *, asked_ms: int, told_ms: int) -> OrderSeen | NotFound | Unanswered:
    """What the answer to a question about an order, or to its cancellation, proves.

    A refusal other than "no such order" proves nothing about the order.
    """
    told = _told(body)
    if told is not None and told.get("code") is None and status < 300:
        return _seen(told, asked_ms, told_ms)
    if told is not None and status in (200, 400, 404) and told.get("code") in NOT_FOUND:
        return NotFound(asked_ms=asked_ms)
    return Unanswered(reason=_unread(status, body), told_ms=told_ms)


def _seen(told: Mapping[str, Any], asked_ms: int, told_ms: int) -> OrderSeen | Unanswered:
    try:
        return order_of_rest(told, asked_ms)
    except ValueError as error:
        return Unanswered(reason=str(error), told_ms=told_ms)


def _told(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object of a body; None of HTML, of a list, of half an object."""
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, Mapping) else None


def _throttled(status: int, told_ms: int) -> Refused | None:
    return Refused(code=0, message=f"HTTP {status}", told_ms=told_ms) if status in _THROTTLED else None


def _unread(status: int, body: bytes) -> str:
    return f"HTTP {status}: {body[:80].decode(errors='replace')}"


def _number(code: object) -> int:
    return code if isinstance(code, int) else 0
