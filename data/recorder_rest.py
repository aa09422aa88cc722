"""What the recorder asks by REST: a snapshot when it begins to listen, later what no stream tells."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.table import interval_ms

KLINES = 499  # the most bars per unit of request weight
TRADES = 1_000
FUNDING_EVENTS = 100  # four days of hourly funding
SETTLING_MS = 300_000  # bars of the last minutes before a fetch were seen to change afterwards
POLL_S = 3_600
POLL_DELAY_S = 60  # funding is settled on the hour; its event is listed soon after


@dataclass(frozen=True, kw_only=True)
class Question:
    """One GET."""

    path: str
    params: Mapping[str, Any] = field(default_factory=dict)


CONTRACTS = Question(path="/fapi/v3/exchangeInfo")
INTERVALS = Question(path="/fapi/v3/fundingInfo")  # a funding event does not say how long its interval was


def snapshot(symbols: Sequence[str], interval: str, now_ms: int) -> list[Question]:
    """History up to now: funding, aggregate trades, and those bars that no longer change; weight 27 per symbol."""
    settled = {"endTime": now_ms - SETTLING_MS - interval_ms(interval), "limit": KLINES}
    return [question for symbol in symbols for question in (
        _funding(symbol),
        *_bars(symbol, interval, settled),
        Question(path="/fapi/v3/aggTrades", params={"symbol": symbol, "limit": TRADES}),
    )]  # fmt: skip


def late_bars(symbols: Sequence[str], interval: str, since_ms: int) -> list[Question]:
    """The bars that ``snapshot`` left out and no stream tells: asked ``SETTLING_MS`` after listening began."""
    length_ms = interval_ms(interval)
    span = {"startTime": since_ms - SETTLING_MS - length_ms, "endTime": since_ms - length_ms}
    return [question for symbol in symbols for question in _bars(symbol, interval, span)]


def _bars(symbol: str, interval: str, span: Mapping[str, int]) -> list[Question]:
    """Bars of the last, the mark and the index price."""
    asked = {"interval": interval, **span}
    return [
        Question(path="/fapi/v3/klines", params={"symbol": symbol, **asked}),
        Question(path="/fapi/v3/markPriceKlines", params={"symbol": symbol, **asked}),
        Question(path="/fapi/v3/indexPriceKlines", params={"pair": symbol, **asked}),
    ]


def polls(symbols: Sequence[str], hour: int) -> list[Question]:
    """What is asked after the full hour ``hour`` (UTC, 0 to 23): funding; the contracts' rules once a day."""
    return [*((CONTRACTS,) if hour == 0 else ()), *map(_funding, symbols)]


def next_poll_ns(now_ns: int) -> int:
    """The next moment to ask ``polls``: a minute after a full hour."""
    period_ns, delay_ns = POLL_S * 10**9, POLL_DELAY_S * 10**9
    return ((now_ns - delay_ns) // period_ns + 1) * period_ns + delay_ns


def check_symbols(symbols: Sequence[str], exchange_info: bytes) -> list[str]:
    """A sentence for each of ``symbols`` that exists but does not trade now.

    Where no contract is listed at all, as by a loopback exchange that plays a recording without any, none is checked.

    Raises
    ------
    ValueError
        Naming the symbols that the exchange does not have: it would accept their streams and stay silent.
    """
    told = json.loads(exchange_info)
    if not isinstance(told, dict) or not isinstance(told.get("symbols"), list):
        raise ValueError(f"exchangeInfo: expected an object with symbols, got {exchange_info[:80]!r}")
    statuses = {entry["symbol"]: entry.get("status") for entry in told["symbols"]}
    if not statuses:
        return []
    unknown = [symbol for symbol in symbols if symbol not in statuses]
    if unknown:
        close = difflib.get_close_matches(unknown[0], statuses, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {len(statuses)} others, such as {min(statuses)}"
        raise ValueError(f"symbols: the exchange has no {', '.join(unknown)}; {hint}")
    return [f"{each} does not trade now: {statuses[each]}" for each in symbols if statuses[each] != "TRADING"]


def _funding(symbol: str) -> Question:
    return Question(path="/fapi/v3/fundingRate", params={"symbol": symbol, "limit": FUNDING_EVENTS})
