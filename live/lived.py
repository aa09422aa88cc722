"""What a runner did, read from its journal row by row, as ``research.counterfactual`` sets it beside a backtest."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from data.config import load
from data.schema import interval_ms
from live.journal_trades import trades_of
from live.orders import Leg
from research.counterfactual import Account, Life, Lived
from research.engine import TradingConfig
from research.explanation import open_times
from research.fills import REASONS, Decision, Levels

_EXIT_LEGS = {Leg.STOP, Leg.TARGET, Leg.TRAILING, Leg.LIQUIDATION}
BY_HAND = "closed by hand"
_OPERATOR = "operator"  # in the runner's words for why it let nothing be entered


@dataclass(frozen=True, kw_only=True, eq=False)
class Past:
    """One config on one symbol, as its journal tells it.

    Attributes
    ----------
    first_ms, end_ms : open_time of the first row; when the run ended last.
    life, arrivals : see ``research.explanation.Case``.
    """

    config: TradingConfig
    instrument: dict[str, Any]
    resolution: str
    mode: str
    first_ms: int
    end_ms: int
    life: Life
    arrivals: dict[int, int]


def past_of(events: pl.DataFrame, end_ms: int | None = None) -> Past:
    """The past in the events of one config on one symbol.

    Parameters
    ----------
    events : of ``journal_trades.events_of``.
    end_ms : up to when something was heard, where the run was killed and the journal does not say.

    Raises
    ------
    ValueError
        When they are of a replay of the lake, which is a backtest itself, or the run has not ended.
    """
    told = [(kind, ts_ms, json.loads(body)) for kind, ts_ms, body in events.select("kind", "ts_ms", "body").iter_rows()]
    start = next((body for kind, _, body in told if kind == "start"), {})
    if "first_open_ms" not in start:
        raise ValueError("this journal is of a replay of the lake: expected one of a paper or real run")
    if told[-1][0] == "end":
        end_ms = told[-1][1]
    if end_ms is None:
        raise ValueError("this run has not ended: stop it first")
    config = load(TradingConfig, start["config"])
    first_ms = start["first_open_ms"]
    life, arrivals = _life(config, events, first_ms, end_ms)
    return Past(
        config=config,
        instrument=start["instrument"],
        resolution=start["resolution"],
        mode=start["mode"],
        first_ms=first_ms,
        end_ms=end_ms,
        life=life,
        arrivals=arrivals,
    )


def _life(config: TradingConfig, events: pl.DataFrame, first_ms: int, end_ms: int) -> tuple[Life, dict[int, int]]:
    length_ms, n_rows = interval_ms(config.interval), len(open_times(config, first_ms, end_ms))
    is_free, is_paused = np.ones(n_rows, dtype=bool), np.zeros(n_rows, dtype=bool)
    lived, arrivals, taken_over = {}, {}, []
    listed = {trade["trade_id"]: trade for trade in trades_of(events).iter_rows(named=True)}
    for trade_id, told in _by_trade(events):
        decided = next((body for kind, body in told if kind == "decision"), None)
        if decided is None:
            taken_over += [_taken_over(trade, first_ms, length_ms) for trade in (listed.get(trade_id),) if trade]
            continue
        row = (decided["open_time_ms"] - first_ms) // length_ms
        ordered = next((body for kind, body in told if kind == "intent" and body["leg"] == Leg.ENTRY), None)
        decision = Decision(*(_number(decided[name]) for name in Decision._fields))
        if trade_id not in listed:
            lived[row] = Lived(
                decision=decision, is_sent=ordered is not None, ordered=0.0 if ordered is None else ordered["quantity"]
            )
            missed = [body for kind, body in told if kind == "missed"]
            is_paused[row] = any(_OPERATOR in body["cause"] for body in missed)
            for next_ms in (body["next_open_time_ms"] for body in missed if "next_open_time_ms" in body):
                is_free[row + 1 : (next_ms - first_ms) // length_ms] = False  # it rested
            continue
        trade = listed[trade_id]
        lived[row] = _lived(decision, ordered["quantity"], trade, told)
        if config.orders.resting is None:
            arrivals[row] = _ms(trade["entry_time"])
        out = [body["open_time_ms"] for kind, body in told if kind == "fill" and body["leg"] != Leg.ENTRY]
        # The bar of the exit itself always counts, as in the trader.
        paused_bars = 1 + max(1, config.orders.cooldown_bars)
        free_again = (out[-1] - first_ms) // length_ms + paused_bars if out else n_rows
        is_free[row + 1 : free_again] = False
    life = Life(lived=lived, is_free=is_free, is_paused=is_paused, taken_over=tuple(taken_over))
    return life, arrivals


def _taken_over(trade: dict[str, Any], first_ms: int, length_ms: int) -> Account:
    """A trade of a position that the run did not open by a decision; without a last value it has only cost."""
    entry_ms = _ms(trade["entry_time"])
    is_valued = trade["gross_pnl_usdt"] is not None
    return Account(
        trade_id=trade["trade_id"],
        row=(entry_ms - first_ms) // length_ms,
        side=trade["side"],
        quantity=trade["quantity"],
        entry_ms=entry_ms,
        entry_price=trade["entry_price"],
        exit_ms=_ms(trade["exit_time"]) if is_valued else entry_ms,
        exit_price=trade["exit_price"] if is_valued else math.nan,
        reason=trade["reason"],
        gross_usdt=trade["gross_pnl_usdt"] if is_valued else 0.0,
        fees_usdt=trade["fees_usdt"],
        funding_usdt=trade["funding_usdt"],
    )


def _lived(decision: Decision, ordered: float, trade: dict[str, Any], told: list[tuple[str, dict[str, Any]]]) -> Lived:
    by_hand = any(kind == "fill" and body["leg"] not in {Leg.ENTRY, *_EXIT_LEGS} for kind, body in told)
    levels = Levels(*(trade[name] for name in ("stop_price", "target_price", "activation_price", "callback_bps")))
    return Lived(
        decision=decision,
        is_sent=True,
        ordered=ordered,
        filled=trade["quantity"],
        entry_price=trade["entry_price"],
        levels=levels,
        entry_ms=_ms(trade["entry_time"]),
        exit_ms=None if trade["exit_time"] is None else _ms(trade["exit_time"]),
        exit_price=trade["exit_price"],
        reason=BY_HAND if by_hand and trade["reason"] in REASONS else trade["reason"],
        gross_usdt=trade["gross_pnl_usdt"],
        fees_usdt=trade["fees_usdt"],
        funding_usdt=trade["funding_usdt"],
    )


def _by_trade(events: pl.DataFrame) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    by_trade: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for kind, trade_id, body in events.select("kind", "trade_id", "body").iter_rows():
        if trade_id is not None:
            by_trade.setdefault(trade_id, []).append((kind, json.loads(body)))
    return iter(by_trade.items())


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _ms(moment: Any) -> int:
    return round(moment.timestamp() * 1_000)
