"""Names of the market streams, and where a message tells its own.

Source: Aster futures API, "Market WebSocket".
"""

from collections.abc import Sequence

_INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
_NAMES = {"bookTicker": "@bookTicker", "markPrice": "@markPrice@1s", "aggTrade": "@aggTrade", "trade": "@trade"}
_DEPTH_SPEEDS = {"100ms": "@100ms", "250ms": "", "500ms": "@500ms"}
_TABLES = {
    "aggTrade": "trades",
    "bookTicker": "book_ticker",
    "depth": "depth",
    "forceOrder": "force_orders",
    "kline": "kline_updates",
    "markPrice": "mark_price",
    "trade": "raw_trades",
}
COMBINED = b'{"stream":"'  # a message of a combined stream begins so: {"stream":"btcusdt@aggTrade","data":...


def streams_of(
    symbols: Sequence[str], kinds: Sequence[str], depth_levels: int = 5, depth_speed: str = "100ms"
) -> tuple[str, ...]:
    """Names of the streams that carry these kinds of these symbols, symbol by symbol, each once.

    Parameters
    ----------
    kinds : ``kline_1m`` (or another interval), ``bookTicker``, ``markPrice`` (each second), ``aggTrade``, ``trade``,
        ``depth`` (the best levels), ``forceOrder`` (liquidations of the whole market: one stream whatever the symbols).
    depth_levels : 5, 10 or 20.
    depth_speed : 100ms, 250ms or 500ms.

    Raises
    ------
    ValueError
        Naming the kind, level count or speed that does not exist.
    """
    if depth_levels not in (5, 10, 20):
        raise ValueError(f"depth levels: expected 5, 10 or 20, got {depth_levels}")
    if depth_speed not in _DEPTH_SPEEDS:
        raise ValueError(f"depth speed: expected one of {', '.join(_DEPTH_SPEEDS)}, got {depth_speed!r}")
    suffixes = _NAMES | {f"kline_{interval}": f"@kline_{interval}" for interval in _INTERVALS}
    suffixes["depth"] = f"@depth{depth_levels}{_DEPTH_SPEEDS[depth_speed]}"
    for kind in kinds:
        if kind not in suffixes and kind != "forceOrder":
            known = ", ".join(("kline_1m (or another interval)", *_NAMES, "depth", "forceOrder"))
            raise ValueError(f"stream kind: expected one of {known}; got {kind!r}")
    names = [symbol.lower() + suffixes[kind] for symbol in symbols for kind in kinds if kind != "forceOrder"]
    if "forceOrder" in kinds:
        names.append("!forceOrder@arr")
    return tuple(dict.fromkeys(names))


def table_of(kind: str) -> str:
    """The table that each message of a kind of stream is a row of; empty for a kind nobody knows.

    Parameters
    ----------
    kind : such as ``kline_1m`` or ``depth5``.
    """
    return next((table for stem, table in _TABLES.items() if kind.startswith(stem)), "")


def stream_of(payload: bytes) -> str:
    """The stream that a message of a combined stream names; anything, of a payload that is none."""
    first = len(COMBINED)
    return payload[first : payload.find(b'"', first)].decode(errors="replace")
