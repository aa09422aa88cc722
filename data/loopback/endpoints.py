"""The endpoints of Aster's public REST interface: parameters, limits, weights.

Source: Aster futures API, "Public REST endpoints".
"""

from data.loopback import contracts
from data.loopback.market import Market
from data.loopback.query import Call, Query, Refused, Understand
from data.loopback.tape import HOUR_MS

_DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}


def _ping(market: Market, now_ms: int, query: Query) -> Call:
    return Call(1, lambda: "{}")


def _depth(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit = query.symbol(), query.whole("limit")
    limit = 500 if limit is None else limit
    if limit not in _DEPTH_WEIGHTS:
        raise Refused(-4021, f"{limit} is not valid depth limit.")
    return Call(_DEPTH_WEIGHTS[limit], lambda: market.depth(now_ms, symbol, limit))


def _trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit = query.symbol(), query.limit(500, 1_000)
    return Call(1, lambda: market.trades(now_ms, symbol, limit))


def _historical_trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, from_id = query.symbol(), query.limit(500, 1_000), query.whole("fromId")
    return Call(20, lambda: market.trades(now_ms, symbol, limit, from_id))


def _agg_trades(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, from_id = query.symbol(), query.limit(500, 1_000), query.whole("fromId")
    start_ms, end_ms = query.span()
    if start_ms is not None and end_ms is not None and end_ms - start_ms >= HOUR_MS:
        raise Refused(-1127, "More than 1 hours between startTime and endTime.")
    return Call(20, lambda: market.agg_trades(now_ms, symbol, from_id, start_ms, end_ms, limit))


def _bars(table: str, symbol_name: str) -> Understand:
    def bars(market: Market, now_ms: int, query: Query) -> Call:
        symbol, interval, limit = query.symbol(symbol_name), query.interval(), query.limit(500, 1_500)
        start_ms, end_ms = query.span()
        weight = next(weight for most, weight in ((99, 1), (499, 2), (1_000, 5), (1_500, 10)) if limit <= most)

        def answer() -> str:
            found = market.candles.klines(
                now_ms, table, symbol, interval, start_ms=start_ms, end_ms=end_ms, limit=limit
            )
            return f"[{','.join(found)}]"

        return Call(weight, answer)

    return bars


def _one_or_all(name: str, weight_of_all: int) -> Understand:
    """An answer about one symbol, or without a symbol an array about all."""

    def one_or_all(market: Market, now_ms: int, query: Query) -> Call:
        symbol, answer = query.optional_symbol(), getattr(market, name)
        if symbol is None:
            return Call(weight_of_all, lambda: market.of_all(answer, now_ms))
        return Call(1, lambda: answer(now_ms, symbol))

    return one_or_all


def _open_interest(market: Market, now_ms: int, query: Query) -> Call:
    symbol = query.symbol()
    return Call(1, lambda: market.open_interest(now_ms, symbol))


def _funding_rate(market: Market, now_ms: int, query: Query) -> Call:
    symbol, limit, (start_ms, end_ms) = query.optional_symbol(), query.limit(100, 1_000), query.span()
    return Call(1, lambda: market.funding_rate(now_ms, symbol, start_ms, end_ms, limit))


def _funding_info(market: Market, now_ms: int, query: Query) -> Call:
    symbol = query.optional_symbol()
    return Call(1, lambda: contracts.funding_info(market.instruments, now_ms, symbol))


def _index_references(market: Market, now_ms: int, query: Query) -> Call:
    try:
        symbol = query.symbol()
    except Refused as refusal:
        raise Refused(-1000, "An unknown error occurred while processing the request.") from refusal
    return Call(1, lambda: contracts.index_references(symbol, now_ms))


ENDPOINTS: dict[str, Understand] = {
    "ping": _ping,
    "depth": _depth,
    "trades": _trades,
    "historicalTrades": _historical_trades,
    "aggTrades": _agg_trades,
    "klines": _bars("klines", "symbol"),
    "markPriceKlines": _bars("mark_klines", "symbol"),
    "indexPriceKlines": _bars("index_klines", "pair"),
    "premiumIndex": _one_or_all("premium_index", 1),
    "fundingRate": _funding_rate,
    "fundingInfo": _funding_info,
    "ticker/24hr": _one_or_all("day_ticker", 40),
    "ticker/price": _one_or_all("price_ticker", 2),
    "ticker/bookTicker": _one_or_all("book_ticker", 2),
    "openInterest": _open_interest,
}
V3_ENDPOINTS: dict[str, Understand] = {"indexreferences": _index_references}
