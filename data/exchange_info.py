"""The exchange's ``exchangeInfo`` answer as dated rows of ``instruments``."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from data.schema import INSTRUMENTS, conform, is_test_symbol

_REQUIRED = {"PRICE_FILTER": ("tickSize",), "LOT_SIZE": ("stepSize", "minQty", "maxQty")}


def read_exchange_info(path: Path) -> dict:
    """The answer kept in a file.

    Raises
    ------
    ValueError
        If the file is not JSON, or JSON without ``serverTime`` and ``symbols``.
    """
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected the JSON answer of exchangeInfo, got something else: {error}") from error
    if not isinstance(answer, dict) or not {"serverTime", "symbols"} <= set(answer):
        raise ValueError(f"{path}: expected an object with serverTime and symbols, as exchangeInfo answers")
    return answer


def instruments(
    answer: Mapping, *, source: str, effective: datetime | None = None, venue: str = "aster"
) -> tuple[pl.DataFrame, list[dict]]:
    """One row per contract, in force from ``effective`` on, and the entries that cannot be read.

    Brackets and the funding interval are null: exchangeInfo names neither. ``TEST*`` contracts are left out.

    Parameters
    ----------
    answer : exchangeInfo, decoded.
    source : how the answer came here: rest or import.
    effective : aware; without it the answer's own ``serverTime``.
    venue : whose contracts they are.

    Returns
    -------
    Rows of ``instruments``, and the entries of ``symbols`` that could not be read: those without a price or lot filter,
    and those with something else where a number or a time is due.

    Raises
    ------
    ValueError
        When the values of the contracts are no columns, or ``effective`` names no time zone.

    Source
    ------
    Aster futures API, ``GET /fapi/v3/exchangeInfo``.
    """
    since = effective or datetime.fromtimestamp(answer["serverTime"] / 1000, UTC)
    if since.tzinfo is None:
        raise ValueError(f"expected an effective time with a time zone, got {since.isoformat()}; add +00:00 for UTC")
    rows, unreadable = [], []
    for entry in answer["symbols"]:
        if is_test_symbol(str(entry.get("symbol"))):
            continue
        try:
            row = _row(entry, venue, since, source)
        except (ValueError, TypeError, OverflowError):
            row = None
        if row is None:
            unreadable.append(entry)
        else:
            rows.append(row)
    try:
        found = pl.DataFrame(rows, infer_schema_length=None)  # what the first contracts lack a later one may have
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"exchangeInfo: {error}") from error
    return conform(found, INSTRUMENTS), unreadable


def _row(entry: Mapping, venue: str, since: datetime, source: str) -> dict | None:
    """A contract's row; None without what every order needs: name, status, tick and step."""
    filters = {each.get("filterType"): each for each in entry.get("filters", [])}
    has_filters = all(key in filters.get(name, {}) for name, keys in _REQUIRED.items() for key in keys)
    if not has_filters or "symbol" not in entry or "status" not in entry:
        return None
    lot, percent_price = filters["LOT_SIZE"], filters.get("PERCENT_PRICE", {})
    onboard_ms = entry.get("onboardDate")
    return {
        "venue": venue,
        "symbol": entry["symbol"],
        "event_time": since,
        "status": entry["status"],
        "underlying_type": entry.get("underlyingType"),
        "onboard_time": None if onboard_ms is None else datetime.fromtimestamp(onboard_ms / 1000, UTC),
        "tick_size": float(filters["PRICE_FILTER"]["tickSize"]),
        "step_size": float(lot["stepSize"]),
        "min_quantity": float(lot["minQty"]),
        "max_quantity": float(lot["maxQty"]),
        "market_max_quantity": _number(filters.get("MARKET_LOT_SIZE", {}).get("maxQty")),
        "min_notional_usdt": _number(filters.get("MIN_NOTIONAL", {}).get("notional")),
        "price_multiplier_up": _number(percent_price.get("multiplierUp")),
        "price_multiplier_down": _number(percent_price.get("multiplierDown")),
        "max_orders": filters.get("MAX_NUM_ORDERS", {}).get("limit"),
        "max_conditional_orders": filters.get("MAX_NUM_ALGO_ORDERS", {}).get("limit"),
        "liquidation_fee": _number(entry.get("liquidationFee")),
        "trigger_protect": _number(entry.get("triggerProtect")),
        "market_take_bound": _number(entry.get("marketTakeBound")),
        "source": source,
    }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
