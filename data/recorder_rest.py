"""What the recorder asks by REST: a snapshot when it begins to listen, later what no stream tells."""

import difflib
import json
from collections.abc import Mapping, Sequence

from data.table import interval_ms
from data.venues.questions import Question

KLINES = 499  # the most bars per unit of request weight
TRADES = 1_000
FUNDING_EVENTS = 100  # four days of hourly funding
SETTLING_MS = 300_000  # bars of the last minutes before a fetch were seen to change afterwards
HOUR_S = 3_600
POLL_DELAY_S = 60  # funding is settled on the hour; its event is listed soon after

CONTRACTS = Question(path="/fapi/v3/exchangeInfo")
INTERVALS = Question(path="/fapi/v3/fundingInfo")  # a funding event does not say how long its interval was


def snapshot(symbols: Sequence[str], interval: str, now_ms: int) -> list[Question]:
    """History up to now: funding, aggregate trades, and those bars that no longer change; weight 27 per symbol."""
    settled = {"endTime": settled_ms(interval, now_ms), "limit": KLINES}
    return [INTERVALS, *(question for symbol in symbols for question in (
        _funding(symbol),
        *_bars(symbol, interval, settled),
        Question(path="/fapi/v3/aggTrades", params={"symbol": symbol, "limit": TRADES}),
    ))]  # fmt: skip


def settled_ms(interval: str, now_ms: int) -> int:
    """The last opening time of which a bar no longer changes."""
    return now_ms - SETTLING_MS - interval_ms(interval)


def bars(symbols: Sequence[str], interval: str, start_ms: int, end_ms: int) -> list[Question]:
    """Bars that opened from ``start_ms`` to ``end_ms``, both inclusive; none when no bar can have opened between."""
    length_ms = interval_ms(interval)
    count = end_ms // length_ms - (start_ms - 1) // length_ms
    if count <= 0:
        return []
    asked = []
    for first in range(0, count, KLINES):
        begin_ms = start_ms + first * length_ms
        span = {"startTime": begin_ms, "endTime": min(end_ms, begin_ms + KLINES * length_ms - 1)}
        span["limit"] = min(count - first, KLINES)
        asked += [question for symbol in symbols for question in _bars(symbol, interval, span)]
    return asked


def _bars(symbol: str, interval: str, span: Mapping[str, int]) -> list[Question]:
    """Bars of the last, the mark and the index price."""
    asked = {"interval": interval, **span}
    return [
        Question(path="/fapi/v3/klines", params={"symbol": symbol, **asked}),
        Question(path="/fapi/v3/markPriceKlines", params={"symbol": symbol, **asked}),
        Question(path="/fapi/v3/indexPriceKlines", params={"pair": symbol, **asked}),
    ]


def fundings(symbols: Sequence[str]) -> list[Question]:
    """The last fundings, asked after every full hour."""
    return [INTERVALS, *map(_funding, symbols)]


def next_due_ns(now_ns: int, every_s: float, delay_s: float = 0.0) -> int:
    """The next moment that is ``delay_s`` after a whole multiple of ``every_s``."""
    period_ns, delay_ns = round(every_s * 1e9), round(delay_s * 1e9)
    return ((now_ns - delay_ns) // period_ns + 1) * period_ns + delay_ns


def statuses(exchange_info: bytes) -> dict[str, str]:
    """Status of every contract, such as TRADING, by symbol.

    Raises
    ------
    ValueError
        When it is no answer of exchangeInfo.
    """
    told = json.loads(exchange_info)
    if not isinstance(told, dict) or not isinstance(told.get("symbols"), list):
        raise ValueError(f"exchangeInfo: expected an object with symbols, got {exchange_info[:80]!r}")
    return {str(entry.get("symbol")): str(entry.get("status")) for entry in told["symbols"] if isinstance(entry, dict)}


def check_symbols(symbols: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """A sentence for each of ``symbols`` that exists but does not trade now.

    Where no contract is listed at all, as by a loopback exchange that plays a recording without any, none is checked.

    Parameters
    ----------
    known : see ``statuses``.

    Raises
    ------
    ValueError
        Naming the symbols that the exchange does not have: it would accept their streams and stay silent.
    """
    if not known:
        return []
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {len(known)} others, such as {min(known)}"
        raise ValueError(f"symbols: the exchange has no {', '.join(unknown)}; {hint}")
    return [f"{each} does not trade now: {known[each]}" for each in symbols if known[each] != "TRADING"]


def _funding(symbol: str) -> Question:
    return Question(path="/fapi/v3/fundingRate", params={"symbol": symbol, "limit": FUNDING_EVENTS})
