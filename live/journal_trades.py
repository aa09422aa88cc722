"""The trades that a journal tells of."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from live.journal import read_journal
from research.fills import gross_pnl_usdt
from research.trades import TRADES


def trades(path: Path, config_hash: str, symbol: str) -> pl.DataFrame:
    """The trade list of one config on one symbol, frame of ``research.trades.TRADES``, in order of entry.

    A position still held when the feed ended is listed with reason open, valued at the last price; one that the journal
    does not know the end of has null exits.
    """
    return trades_of(events_of(path, config_hash, symbol))


def events_of(path: Path, config_hash: str, symbol: str) -> pl.DataFrame:
    """The events of one config on one symbol, as ``read_journal``."""
    return read_journal(path).filter(pl.col("config_hash") == config_hash, pl.col("symbol") == symbol)


def trades_of(events: pl.DataFrame) -> pl.DataFrame:
    """``trades`` of the events of one config on one symbol."""
    symbol = events["symbol"].first()
    by_trade: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for kind, trade, body in events.select("kind", "trade_id", "body").iter_rows():
        if trade is not None:
            by_trade.setdefault(trade, []).append((kind, json.loads(body)))
    filled = {trade: told for trade, told in by_trade.items() if any(kind == "fill" for kind, _ in told)}
    listed = [trade_of(trade, symbol, told) for trade, told in filled.items()]
    return pl.DataFrame(listed, schema=_NUMBERED, orient="row").cast(TRADES)


_NUMBERED = {name: pl.Int64 if dtype.is_temporal() else dtype for name, dtype in TRADES.items()}


def trade_of(trade_id: str, symbol: str, told: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """One trade from the kinds and bodies of its events, a fill among them: values by name of ``TRADES``, times in ms.

    Sums run in the order things happened, so that they give the backtest's bits.
    """
    by_leg = {(kind, body["leg"]): body for kind, body in told if "leg" in body}
    entry = by_leg["fill", "E"]
    stop, target, trailing = (by_leg.get(("intent", leg), {}) for leg in "STR")
    fees = entry["fee_usdt"]
    funding, reason, exit_price, exit_ms = 0.0, "open", None, None
    side, quantity, entry_price = entry["side"], entry["quantity"], entry["price"]
    for kind, body in told:
        if kind == "funding":
            funding += _number(body["paid_usdt"])
        elif kind == "fill" and body["leg"] != "E":
            fees += body["fee_usdt"]
            reason, exit_price, exit_ms = body["reason"], body["price"], body["filled_ms"]
        elif kind == "held":
            exit_price, exit_ms = body["last_price"], body["valued_ms"]
    gross = None if exit_price is None else gross_pnl_usdt.py_func(side, quantity, entry_price, exit_price)
    return {
        "trade_id": trade_id,
        "symbol": symbol,
        "side": side,
        "entry_row_time": entry["open_time_ms"],
        "entry_time": entry["filled_ms"],
        "exit_time": exit_ms,
        "quantity": quantity,
        "entry_price": entry_price,
        "exit_price": exit_price,
        "stop_price": _number(stop.get("stop_price")),
        "target_price": _number(target.get("stop_price")),
        "activation_price": _number(trailing.get("activation_price")),
        "callback_bps": _number(trailing.get("callback_bps")),
        "reason": reason,
        "gross_pnl_usdt": gross,
        "fees_usdt": fees,
        "funding_usdt": funding,
        "net_pnl_usdt": None if gross is None else gross - fees - funding,
        "is_ambiguous": any(kind == "ambiguous" for kind, _ in told),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value
