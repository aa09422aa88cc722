"""The contracts of the loopback exchange: exchangeInfo, fundingInfo, and the decimals they are quoted in.

Source: Aster futures API, "Symbol metadata, filters, rounding".
"""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from data.loopback.wire import Decimals, decimal_text, decimals_of

INTEREST_RATE = "0.00010000"
_FUNDING_BOUND = 0.03
_QUOTE_ASSETS = ("USDT", "USDC", "USD1", "USDF")
_INDEX_WEIGHTS = {"binance": "0.5000", "okx": "0.3000", "bybit": "0.2000"}
_NEVER_MS = 4_133_404_800_000  # deliveryDate of a perpetual
_MAX_PRICE = "1000000"
ORDERS_PER_MINUTE = 1_200
_ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"]
_TIMES_IN_FORCE = ["GTC", "IOC", "FOK", "GTX", "HIDDEN"]
_UNKNOWN = Decimals(price=2, quantity=3)  # of a contract of which no row of instruments tells


def decimals(instruments: pl.DataFrame, symbols: Sequence[str]) -> dict[str, Decimals]:
    """Digits of every symbol's prices and quantities: those of its finest tick and step ever."""
    found = dict.fromkeys(symbols, _UNKNOWN)
    finest = instruments.group_by("symbol").agg(pl.col("tick_size").min(), pl.col("step_size").min())
    for symbol, tick_size, step_size in finest.iter_rows():
        found[symbol] = Decimals(price=decimals_of(tick_size), quantity=decimals_of(step_size))
    return found


def exchange_info(instruments: pl.DataFrame, now_ms: int, weight_limit: int, clock_ms: int) -> str:
    """The answer of exchangeInfo, from rows of ``instruments``; ``clock_ms`` is the exchange's own clock."""
    limits = {"REQUEST_WEIGHT": weight_limit, "ORDERS": ORDERS_PER_MINUTE}
    info = {
        "timezone": "UTC",
        "serverTime": clock_ms,
        "exchangeFilters": [],
        "rateLimits": [
            {"rateLimitType": name, "interval": "MINUTE", "intervalNum": 1, "limit": limit}
            for name, limit in limits.items()
        ],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": 0}],
        "symbols": [_contract(row) for row in in_force(instruments, now_ms)],
    }
    return json.dumps(info, separators=(",", ":"))


def funding_info(instruments: pl.DataFrame, now_ms: int, symbol: str | None) -> str:
    """The answer of fundingInfo, of one symbol or of all."""
    rows = [
        {
            "symbol": row["symbol"],
            "interestRate": INTEREST_RATE,
            "time": now_ms,
            "fundingIntervalHours": int(hours) if hours.is_integer() else hours,
            "fundingFeeCap": _FUNDING_BOUND,
            "fundingFeeFloor": -_FUNDING_BOUND,
        }
        for row in in_force(instruments, now_ms)
        if symbol in (None, row["symbol"]) and (hours := row["funding_interval_hours"]) is not None
    ]
    return json.dumps(rows, separators=(",", ":"))


def index_references(symbol: str, now_ms: int) -> str:
    """The answer of indexreferences: which markets the index price is made of. They are invented."""
    base, quote = _assets(symbol)
    names = {"binance": symbol, "okx": f"{base}-{quote}", "bybit": symbol}
    references = [
        {"exchange": exchange, "symbol": names[exchange], "weight": weight}
        for exchange, weight in _INDEX_WEIGHTS.items()
    ]
    return json.dumps({"symbol": symbol, "time": now_ms, "references": references}, separators=(",", ":"))


def base_asset(symbol: str) -> str:
    """BTC for BTCUSDT."""
    return _assets(symbol)[0]


def _assets(symbol: str) -> tuple[str, str]:
    """Base and quote asset of a contract."""
    quote = next((asset for asset in _QUOTE_ASSETS if symbol.endswith(asset)), "USDT")
    return symbol.removesuffix(quote), quote


def in_force(instruments: pl.DataFrame, now_ms: int) -> list[dict[str, Any]]:
    """The rules of now of each contract that exists; where now is before all of them, those it begins with."""
    exists = (pl.col("onboard_time").to_physical() <= now_ms).fill_null(True)
    by_symbol = instruments.filter(exists).sort("event_time").partition_by("symbol", maintain_order=True)
    rules = []
    for rows in by_symbol:
        past = rows.filter(pl.col("event_time").to_physical() <= now_ms)
        rules.append((past.tail(1) if past.height else rows.head(1)).row(0, named=True))
    return sorted(rules, key=lambda row: row["symbol"])


def _contract(row: dict[str, Any]) -> dict[str, Any]:
    """One entry of ``symbols``."""
    symbol, tick, step = row["symbol"], row["tick_size"], row["step_size"]
    base, quote = _assets(symbol)
    lot = {"minQty": _text(row["min_quantity"] or step), "maxQty": _text(row["max_quantity"]), "stepSize": _text(step)}
    most_at_once = row["market_max_quantity"] or row["max_quantity"]
    return {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "status": row["status"],
        "baseAsset": base,
        "quoteAsset": quote,
        "marginAsset": quote,
        "deliveryDate": _NEVER_MS,
        "onboardDate": None if row["onboard_time"] is None else int(row["onboard_time"].timestamp() * 1_000),
        "pricePrecision": decimals_of(tick),
        "quantityPrecision": decimals_of(step),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": row["underlying_type"] or "COIN",
        "underlyingSubType": [],
        "settlePlan": 0,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "triggerProtect": _text(row["trigger_protect"], 4),
        "liquidationFee": _text(row["liquidation_fee"], 6),
        "marketTakeBound": _text(row["market_take_bound"], 2),
        "orderTypes": _ORDER_TYPES,
        "timeInForce": _TIMES_IN_FORCE,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": _text(tick), "maxPrice": _MAX_PRICE, "tickSize": _text(tick)},
            {"filterType": "LOT_SIZE", **lot},
            {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": _text(most_at_once)},
            {"filterType": "MAX_NUM_ORDERS", "limit": row["max_orders"]},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": row["max_conditional_orders"]},
            {"filterType": "MIN_NOTIONAL", "notional": _text(row["min_notional_usdt"])},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": _text(row["price_multiplier_up"], 4),
                "multiplierDown": _text(row["price_multiplier_down"], 4),
                "multiplierDecimal": "4",
            },
        ],
    }


def _text(value: float | None, digits: int = 0) -> str | None:
    """As decimal text, at least so many digits after the point; None stays None."""
    return None if value is None else decimal_text(pl.Series([float(value)]), digits).item()
