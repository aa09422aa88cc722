"""What pollers ask other exchanges for, told of the market that is played here.

Binance: ratios and open interest of periods, under /futures/data. Hyperliquid: POST /info. How long and short accounts
divide is invented: it follows a daily wave of the contract's own.

Source: Binance USDⓈ-M futures, "Open Interest Statistics" and the three ratios; Hyperliquid API, "Info endpoint".
"""

import json
import math
from collections.abc import Callable

import polars as pl

from data.loopback import contracts
from data.loopback.market import Market
from data.loopback.query import Call, Query, Refused, Understand
from data.loopback.tape import DAY_MS
from data.table import interval_ms

_PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
_KEPT_MS = 30 * DAY_MS  # Binance tells of the last 30 days only

Row = dict[str, object]
Told = Callable[[Market, str, int, int], Row | None]  # of a symbol's period [from, to) in milliseconds


def _by_period(told: Told) -> Understand:
    """An endpoint with one row per period that is over, oldest first, each stamped with the period's end."""

    def understand(market: Market, now_ms: int, query: Query) -> Call:
        symbol, period, limit = query.symbol(), query.required("period"), query.limit(30, 500)
        start_ms, end_ms = query.span()
        if period not in _PERIODS:
            raise Refused(-1130, "Data sent for parameter 'period' is not valid.")
        length_ms = interval_ms(period)
        last_ms = min(now_ms if end_ms is None else end_ms, now_ms) // length_ms * length_ms
        earliest_ms = max(now_ms - _KEPT_MS, market.source.first_ms + length_ms, start_ms or 0)
        first_ms = -(-earliest_ms // length_ms) * length_ms
        ends = range(first_ms, last_ms + 1, length_ms)
        ends = ends[:limit] if start_ms is not None else ends[-limit:]

        def answer() -> str:
            rows = [told(market, symbol, end - length_ms, end) for end in ends]
            return json.dumps([row for row in rows if row is not None], separators=(",", ":"))

        return Call(0, answer)  # they count against a limit of their own

    return understand


def _open_interest(market: Market, symbol: str, from_ms: int, to_ms: int) -> Row | None:
    rows = market.source.happened("open_interest", symbol, from_ms, to_ms + 1)
    if rows.is_empty():
        return None
    quantity, notional = rows.select("open_interest", "open_interest_usdt").row(-1)
    return {
        "symbol": symbol,
        "sumOpenInterest": f"{quantity:.8f}",
        "sumOpenInterestValue": f"{notional or 0.0:.8f}",
        "timestamp": to_ms,
    }


def _accounts(height: float) -> Told:
    def accounts(market: Market, symbol: str, from_ms: int, to_ms: int) -> Row:
        phase = sum(symbol.encode()) / 40
        ratio = math.exp(height * math.sin(2 * math.pi * to_ms / DAY_MS + phase))
        return {
            "symbol": symbol,
            "longShortRatio": f"{ratio:.4f}",
            "longAccount": f"{ratio / (1 + ratio):.4f}",
            "shortAccount": f"{1 / (1 + ratio):.4f}",
            "timestamp": to_ms,
        }

    return accounts


def _taker_volumes(market: Market, symbol: str, from_ms: int, to_ms: int) -> Row | None:
    trades = market.source.happened("trades", symbol, from_ms, to_ms)
    sells = pl.col("is_buyer_maker")
    sold, bought = (trades.filter(side)["quantity"].sum() for side in (sells, ~sells))
    if not sold:
        return None
    ratio = f"{bought / sold:.4f}"
    return {"buySellRatio": ratio, "buyVol": f"{bought:.4f}", "sellVol": f"{sold:.4f}", "timestamp": to_ms}


BINANCE: dict[str, Understand] = {
    "openInterestHist": _by_period(_open_interest),
    "globalLongShortAccountRatio": _by_period(_accounts(0.4)),
    "topLongShortPositionRatio": _by_period(_accounts(0.2)),
    "takerlongshortRatio": _by_period(_taker_volumes),
}


def hyperliquid(market: Market, now_ms: int, body: bytes) -> Call:
    """The answer to POST /info of type metaAndAssetCtxs.

    Raises
    ------
    Refused
        On any other request.
    """
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict) or asked.get("type") != "metaAndAssetCtxs":
        raise Refused(-1130, "Failed to deserialize the JSON body into the target type", 422)

    def answer() -> str:
        rules = contracts.in_force(market.instruments, now_ms)
        universe = [
            {"name": contracts.base_asset(row["symbol"]), "szDecimals": market.decimals[row["symbol"]].quantity,
             "maxLeverage": 50, "marginTableId": 50}
            for row in rules
        ]  # fmt: skip
        told = [_context(market, now_ms, row["symbol"]) for row in rules]
        meta = {"universe": universe, "marginTables": [], "collateralToken": 0}
        return json.dumps([meta, told], separators=(",", ":"))

    return Call(0, answer)


def _context(market: Market, now_ms: int, symbol: str) -> Row:
    """One contract's state; what is not known yet is zero."""
    mark = json.loads(market.premium_index(now_ms, symbol) or "{}")
    touch = json.loads(market.book_ticker(now_ms, symbol) or "{}")
    day = json.loads(market.day_ticker(now_ms, symbol) or "{}")
    interest = json.loads(market.open_interest(now_ms, symbol) or "{}")
    price = mark.get("markPrice", "0")
    bid, ask = touch.get("bidPrice", price), touch.get("askPrice", price)
    return {
        "funding": mark.get("lastFundingRate", "0"),
        "openInterest": interest.get("openInterest", "0"),
        "prevDayPx": day.get("openPrice", price),
        "dayNtlVlm": day.get("quoteVolume", "0"),
        "premium": "0",
        "oraclePx": mark.get("indexPrice", price),
        "markPx": price,
        "midPx": f"{(float(bid) + float(ask)) / 2:.10g}",
        "impactPxs": [bid, ask],
        "dayBaseVlm": day.get("volume", "0"),
    }
