"""One config from bars to result: the path that sweep, promotion, replay and reports share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import ModuleType
from typing import Literal, TypeVar

import numpy as np
import polars as pl

from data.config import config_hash
from data.schema import interval_ms
from research import features, kernel
from research.bars import Bars, Substitutions
from research.completeness import MIN_COVERAGE, require_coverage
from research.daily_loss import days_of
from research.fills import REASONS, Market, Terms, gross_pnl_usdt
from research.forced_orders import FORCED_SIDES
from research.liquidation import brackets_of, refusal
from research.order_settings import Costs, Orders, resting_in_words, sizes_in_words
from research.resting import RestingEntry
from research.resting_bars import lives_of, refuse_short_life
from research.sizing import OpenInterestSize, size_features, size_multiples
from research.strategies.registry import strategy
from research.ticks import Ticks, simulate_ticks
from research.trades import TRADES, trade_id

Section = TypeVar("Section", Costs, Orders, OpenInterestSize, RestingEntry, Substitutions)

# Aster futures API, TRAILING_STOP_MARKET: callbackRate from 0.1 % to 4 %, the lower of the two upper bounds it tells.
MIN_EXCHANGE_CALLBACK_BPS, MAX_EXCHANGE_CALLBACK_BPS = 10.0, 400.0


@dataclass(frozen=True, kw_only=True)
class TradingConfig:
    """Everything that decides what is traded: the object that is swept, promoted, replayed and run live.

    Parameters
    ----------
    params : value per field of the strategy's ``Params``; all of them, none else.
    """

    strategy: str
    symbol: str
    params: dict[str, float]
    costs: Costs
    orders: Orders
    substitutions: Substitutions = field(default_factory=Substitutions)
    interval: str = "1m"

    def __post_init__(self) -> None:
        # 1 and 1.0 are one config: the hash of what was built in Python is that of what is read from a file.
        for name in ("costs", "orders", "substitutions"):
            object.__setattr__(self, name, _with_floats(getattr(self, name)))
        object.__setattr__(self, "params", {name: float(value) for name, value in self.params.items()})
        names = strategy(self.strategy).Params._fields
        unknown, missing = sorted(set(self.params) - set(names)), sorted(set(names) - set(self.params))
        if unknown or missing:
            raise ValueError(f"strategy {self.strategy}: unknown parameters {unknown}, missing parameters {missing}")

    @property
    def config_hash(self) -> str:
        """Sha256 of the canonical JSON form. What ``orders`` leave out is not in it: older configs keep their hash."""
        document = asdict(self)
        document["orders"] = {name: value for name, value in document["orders"].items() if value is not None}
        return config_hash(document)

    def typed_params(self) -> tuple:
        """The strategy's ``Params``."""
        return strategy(self.strategy).Params(**self.params)


def _with_floats(part: Section) -> Section:
    """The same values, whole numbers in float fields made floats."""
    whole = {}
    for entry in fields(part):
        value = getattr(part, entry.name)
        if is_dataclass(value):
            whole[entry.name] = _with_floats(value)
        elif entry.type in (float, float | None) and isinstance(value, int):
            whole[entry.name] = float(value)
    return replace(part, **whole)


@dataclass(frozen=True)
class Result:
    """What one config did on one range of bars.

    Attributes
    ----------
    trades : frame of ``research.trades.TRADES``.
    equity : frame with time (UTC, end of the row's execution bar), equity_usdt, position (-1, 0, 1) and exposure_usdt
        (signed notional at entry).
    stats : value per name in ``kernel.STATS``.
    assumptions : sentences every print of this result carries.
    run, market, terms : the kernel's own output and inputs, for judges.
    """

    trades: pl.DataFrame
    equity: pl.DataFrame
    stats: dict[str, float]
    assumptions: tuple[str, ...]
    run: kernel.Run
    market: Market
    terms: Terms


def terms_of(costs: Costs, orders: Orders, instrument: Mapping) -> Terms:
    """The numbers a fill needs, from the config and the symbol's instrument row of the time."""
    max_notional_usdt, risk_usdt = float(orders.max_notional_usdt), math.nan
    if orders.risk_usdt is not None:
        max_notional_usdt = min(max_notional_usdt, float(orders.notional_usdt * orders.leverage))
        risk_usdt = float(orders.risk_usdt)
    return Terms(
        taker_fee_bps=float(costs.taker_fee_bps),
        slippage_bps=float(costs.slippage_bps),
        notional_usdt=float(orders.notional_usdt),
        max_notional_usdt=max_notional_usdt,
        min_notional_usdt=float(instrument["min_notional_usdt"]),
        tick_size=float(instrument["tick_size"]),
        step_size=float(instrument["step_size"]),
        min_quantity=float(instrument["min_quantity"]),
        max_quantity=float(instrument["market_max_quantity"] or instrument["max_quantity"]),
        entry_limit_ticks=float(orders.entry_limit_ticks),
        cooldown_bars=int(orders.cooldown_bars),
        risk_usdt=risk_usdt,
        max_daily_loss_usdt=math.inf if orders.max_daily_loss_usdt is None else float(orders.max_daily_loss_usdt),
        leverage=float(orders.leverage),
        maker_fee_bps=float(costs.maker_fee_bps),
        rest_offset_bps=math.nan if orders.resting is None else float(orders.resting.offset_bps),
        rest_ms=0 if orders.resting is None else int(orders.resting.lifetime_ms),
        brackets=brackets_of(instrument),
    )


def refusals(config: TradingConfig, instrument: Mapping) -> list[str]:
    """Why the exchange could not execute this config; empty when it can. Each sentence says what to change."""
    reasons = []
    callback = config.params.get("callback_bps")
    if callback is not None and callback < MIN_EXCHANGE_CALLBACK_BPS:
        reasons.append(
            f"callback_bps {callback:g} is under {MIN_EXCHANGE_CALLBACK_BPS:g}: the exchange refuses such a trailing "
            f"order; use {MIN_EXCHANGE_CALLBACK_BPS:g} or more"
        )
    if callback is not None and callback > MAX_EXCHANGE_CALLBACK_BPS:
        reasons.append(
            f"callback_bps {callback:g} is above {MAX_EXCHANGE_CALLBACK_BPS:g}: the exchange refuses such a trailing "
            f"order; use {MAX_EXCHANGE_CALLBACK_BPS:g} or less"
        )
    if config.orders.max_notional_usdt < max(config.orders.notional_usdt, instrument["min_notional_usdt"]):
        reasons.append(
            f"max_notional_usdt {config.orders.max_notional_usdt:g} is under the notional of a trade "
            f"({config.orders.notional_usdt:g}) or the exchange's minimum ({instrument['min_notional_usdt']:g})"
        )
    carried_usdt = config.orders.notional_usdt * config.orders.leverage
    if config.orders.risk_usdt is not None and carried_usdt < instrument["min_notional_usdt"]:
        reasons.append(
            f"notional_usdt {config.orders.notional_usdt:g} times leverage {config.orders.leverage:g}, the most that a "
            f"risk_usdt buys, is under the exchange's minimum ({instrument['min_notional_usdt']:g})"
        )
    if reason := refusal(config.orders, instrument):
        reasons.append(reason)
    return reasons


def feature_names(module: ModuleType, configs: Sequence[tuple] | np.ndarray, orders: Orders) -> list[str]:
    """Every feature that a run of these configs reads, those that its sizes are made of included."""
    return list(dict.fromkeys([*kernel.feature_names(module, configs), *size_features(orders.open_interest_size)]))


def looks_at_liquidations(config: TradingConfig) -> bool:
    """Whether anything the config decides by is of the stream of forced orders."""
    names = feature_names(strategy(config.strategy), [config.typed_params()], config.orders)
    return any(column in FORCED_SIDES.values() for name in names for column in features.feature_of(name)[0].inputs)


def market_of(bars: Bars, orders: Orders) -> Market:
    """Arrays for the kernel, with entries barred outside the configured hours."""
    market = bars.market()
    hours = bars.frame["avail_time"].dt.hour().to_numpy()
    return market._replace(can_enter=market.can_enter & np.isin(hours, orders.entry_hours))


def feature_constants(costs: Costs, instrument: Mapping) -> dict[str, float]:
    """What features need beside the bars."""
    return {"tick_size": float(instrument["tick_size"]), "taker_fee_bps": float(costs.taker_fee_bps)}


def feature_arrays(bars: Bars, costs: Costs, names: list[str]) -> dict[str, np.ndarray]:
    """The features these names ask for over all rows."""
    return features.compute(features.arrays_of(bars), names, constants=feature_constants(costs, bars.instrument))


def backtest(
    config: TradingConfig,
    bars: Bars,
    first: int = 0,
    last: int | None = None,
    *,
    min_coverage: float = MIN_COVERAGE,
) -> Result:
    """Run a config over rows [first, last) of its bars.

    Parameters
    ----------
    min_coverage : fraction of these bars that must have been seen; 0 takes any.

    Raises
    ------
    ValueError
        When the bars are another symbol's, or too few of them were seen, or the exchange could not execute the config,
        or its entries rest for less than a bar.
    """
    refuse_short_life(config.orders, config.interval)
    require_coverage(bars, min_coverage, first, last)
    module, market, arrays, params, terms = simulation_inputs(config, bars)
    multiples = size_multiples(config.orders.open_interest_size, arrays, bars.frame.height)
    run = kernel.simulate(
        module, market, arrays, params, terms, first, last, multiples=multiples, days=days_of(bars.frame),
        lives=lives_of(exec_ms_of(bars), terms),
    )  # fmt: skip
    entry_ms = window_end_ms(bars)[run.trades["fill_row"]] - 1 if config.orders.resting else None
    return Result(
        trades=trades_frame(run.trades, exit_ms_of(run.trades, bars), bars, config, entry_ms=entry_ms),
        equity=_equity_frame(run, bars, first),
        stats=run.stats,
        assumptions=assumptions(config, bars),
        run=run,
        market=market,
        terms=terms,
    )


def backtest_ticks(config: TradingConfig, bars: Bars, ticks: Ticks, *, end_ms: int | None = None) -> pl.DataFrame:
    """Trades of a config at tick resolution, frame of ``research.trades.TRADES``.

    Parameters
    ----------
    bars, ticks : of the same rows of the lake.
    end_ms : when the run ends and an open trade is valued; an interval after the last ``t_i`` where not given.

    Raises
    ------
    ValueError
        When the bars are another symbol's, or the exchange could not execute the config.
    """
    module, market, arrays, params, terms = simulation_inputs(config, bars)
    exec_ms = exec_ms_of(bars)
    end_ms = int(window_end_ms(bars)[-1]) if end_ms is None else end_ms
    multiples = size_multiples(config.orders.open_interest_size, arrays, bars.frame.height)
    trades = simulate_ticks(
        module, market, arrays, params, terms, exec_ms, ticks, end_ms, multiples=multiples, days=days_of(bars.frame)
    )
    return trades_frame(trades, trades["exit_ms"], bars, config, entry_ms=trades["entry_ms"])


def simulation_inputs(
    config: TradingConfig, bars: Bars
) -> tuple[ModuleType, Market, dict[str, np.ndarray], tuple, Terms]:
    """What every run of a config starts from, in the order ``kernel.simulate`` takes it.

    Raises
    ------
    ValueError
        When the bars are another symbol's, or the exchange could not execute the config.
    """
    if bars.symbol != config.symbol or bars.interval != config.interval:
        raise ValueError(f"config is for {config.symbol} {config.interval}, the bars are {bars.symbol} {bars.interval}")
    if reasons := refusals(config, bars.instrument):
        raise ValueError("not executable: " + "; ".join(reasons))
    module, params = strategy(config.strategy), config.typed_params()
    arrays = feature_arrays(bars, config.costs, feature_names(module, [params], config.orders))
    terms = terms_of(config.costs, config.orders, bars.instrument)
    return module, market_of(bars, config.orders), arrays, params, terms


_FILLS = {
    "bar": "fills at bar resolution: entry at the open of the execution bar, exits on its range",
    "tick": "fills at tick resolution: entry at the quote the order meets, exits at the trade or mark that triggers",
}


_THINNED = "liquidations are told at most one per symbol and second: what was liquidated is a lower bound"


def assumptions(config: TradingConfig, bars: Bars, resolution: Literal["bar", "tick"] = "bar") -> tuple[str, ...]:
    """What a reader must know before believing a number of this run."""
    costs = config.costs
    is_liquidated = bool(bars.instrument.get("brackets"))
    return (
        f"taker fee {costs.taker_fee_bps:g} bps, slippage {costs.slippage_bps:g} bps, latency {costs.latency_ms} ms",
        _FILLS[resolution],
        "not modelled: queue position, partial fills, depth beyond the touch, own market impact"
        + ("" if is_liquidated else ", own liquidation (the contract's brackets are not known)"),
        *sizes_in_words(config.orders),
        *resting_in_words(config.orders, costs, resolution),
        *([_THINNED] if looks_at_liquidations(config) else []),
        *bars.substituted,
    )


def trades_frame(
    trades: np.ndarray, exit_ms: np.ndarray, bars: Bars, config: TradingConfig, *, entry_ms: np.ndarray | None = None
) -> pl.DataFrame:
    """Trades of either resolution (``research.trade_records.TRADE``) as the trade list of ``research.trades``.

    Parameters
    ----------
    entry_ms : of the fills; where not given, orders fill as they arrive.
    """
    open_ms = bars.frame["open_time"].dt.epoch("ms").to_numpy()
    close_ms = bars.frame["close_time"].dt.epoch("ms").to_numpy()
    exec_ms = exec_ms_of(bars)
    entry = trades["entry_row"]
    hash_ = config.config_hash
    gross = gross_pnl_usdt.py_func(*(trades[name] for name in ("side", "quantity", "entry_price", "exit_price")))
    return (
        pl.DataFrame(
            {
                "trade_id": [
                    trade_id(hash_, bars.symbol, int(close_ms[row]), int(side))
                    for row, side in zip(entry, trades["side"], strict=True)
                ],
                "symbol": [bars.symbol] * len(trades),
                "side": trades["side"],
                "entry_row_time": open_ms[entry],
                "entry_time": exec_ms[entry] if entry_ms is None else entry_ms,
                "exit_time": exit_ms,
                "quantity": trades["quantity"],
                "entry_price": trades["entry_price"],
                "exit_price": trades["exit_price"],
                "stop_price": trades["stop"],
                "target_price": trades["target"],
                "activation_price": trades["activation"],
                "callback_bps": trades["callback_bps"],
                "reason": [REASONS[reason] for reason in trades["reason"]],
                "gross_pnl_usdt": gross,
                "fees_usdt": trades["fees_usdt"],
                "funding_usdt": trades["funding_usdt"],
                "net_pnl_usdt": gross - trades["fees_usdt"] - trades["funding_usdt"],
                "is_ambiguous": trades["is_ambiguous"],
            }
        )
        .with_columns(pl.col("entry_row_time", "entry_time", "exit_time").cast(pl.Datetime("ms", "UTC")))
        .cast(TRADES)
    )


def exit_ms_of(trades: np.ndarray, bars: Bars) -> np.ndarray:
    """When kernel trades ended, ms: at the open of an execution bar, or somewhere in it, which is told as its end."""
    exec_ms, row = exec_ms_of(bars), trades["exit_row"]
    return np.where(trades["at_open"], exec_ms[row], window_end_ms(bars)[row] - 1)


def exec_ms_of(bars: Bars) -> np.ndarray:
    """When an order of each row meets the market, ms."""
    return bars.frame["exec_time"].dt.epoch("ms").to_numpy(writable=True)


def window_end_ms(bars: Bars) -> np.ndarray:
    """End of every row's execution window, ms; the last window is given the length of a bar."""
    exec_ms = exec_ms_of(bars)
    return np.append(exec_ms[1:], exec_ms[-1] + interval_ms(bars.interval))


def _equity_frame(run: kernel.Run, bars: Bars, first: int) -> pl.DataFrame:
    n_rows = len(run.bar_pnl)
    position, exposure_usdt = np.zeros(n_rows, np.int64), np.zeros(n_rows)
    for trade in run.trades:
        held = slice(trade["fill_row"] - first, trade["exit_row"] - first + 1)
        position[held] = trade["side"]
        exposure_usdt[held] = trade["side"] * trade["quantity"] * trade["entry_price"]
    return pl.DataFrame(
        {
            "time": pl.Series(window_end_ms(bars)[first : first + n_rows]).cast(pl.Datetime("ms", "UTC")),
            "equity_usdt": np.cumsum(run.bar_pnl),
            "position": position,
            "exposure_usdt": exposure_usdt,
        }
    )
