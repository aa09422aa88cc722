"""The fused kernel: decide, fill, exits, funding and statistics in one pass over the rows, one thread per config.

Memory per config is constant: nothing of size rows x configs exists. ``simulate`` runs one config with its trades and
bar PnL; ``sweep`` runs many for their statistics. Both are the same compiled loop, and its rules are ``research.fills``
and the strategy's own ``decide``, the functions that paper and live call.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from research.daily_loss import NOTHING_BOOKED, booked, is_spent, one_day
from research.feature_matrix import feature_matrix
from research.fills import (
    OPEN,
    STOP,
    TARGET,
    TRAILING,
    Levels,
    Market,
    Terms,
    Trailing,
    decision_price,
    entry_price,
    entry_quantity,
    exit_levels,
    fee_usdt,
    gross_pnl_usdt,
    next_entry_row,
    quiet_band,
    size_multiple,
    stay_out,
)
from research.jit import njit, prange
from research.liquidation import exit_price, with_liquidation
from research.resting import resting_price
from research.resting_bars import exit_in_held_bar, funding_in_held_bar_usdt, known_lives, rested_in_bars
from research.sizing import unscaled
from research.strategies.compiled import decide, params_at, row_at
from research.totals import STATS, Totals
from research.trade_records import TRADE, write_trade

ENGINE_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One config over one range of rows.

    Attributes
    ----------
    trades : structured array of ``TRADE``, in order of entry; the last may be open (reason OPEN).
    bar_pnl : float64, shape (last - first,)
        Change of equity per row, USDT, after fees and funding.
    stats : value per name in ``STATS``.
    """

    trades: np.ndarray
    bar_pnl: np.ndarray
    stats: dict[str, float]


@njit
def _next_signal(params, features, columns, can_enter, start, last):
    """First row from ``start`` on whose decision is to enter, and that decision; ``last`` when there is none."""
    for i in range(start, last):
        if can_enter[i]:
            decision = decide(row_at(params, features, columns, i), 0, params)
            if decision.side != 0:
                return i, decision
    return last, stay_out()


@njit
def mark_equity(value: float, equity: float, peak: float, drawdown: float) -> tuple[float, float, float, float]:
    """The bar's PnL and equity, its peak and deepest fall after a row that ends at ``value``."""
    peak = max(peak, value)
    return value - equity, value, peak, min(drawdown, value - peak)


@njit(forceinline=False)
def _hold_while_quiet(
    quiet_low, quiet_high, exec_close, start, last, low, high, side, quantity, entry, realised, unrealised, equity,
    peak, drawdown, bar_squares, bar_pnl, first,
):  # fmt: skip
    """Carry a position through the bars that concern none of its orders; returns the first row that needs a look.

    Small and not inlined, so that everything it touches stays in registers.
    """
    for i in range(start, last):
        if not (quiet_low[i] > low and quiet_high[i] < high):
            return i, unrealised, equity, peak, drawdown, bar_squares
        unrealised = gross_pnl_usdt(side, quantity, entry, exec_close[i])
        pnl, equity, peak, drawdown = mark_equity(realised + unrealised, equity, peak, drawdown)
        bar_squares += pnl * pnl
        if bar_pnl.shape[0] > 0:
            bar_pnl[i - first] = pnl
    return last, unrealised, equity, peak, drawdown, bar_squares


@njit
def _run(
    params, features, columns, market, multiples, days, lives, quiet_low, quiet_high, terms, first, last, trades,
    bar_pnl,
):  # fmt: skip
    """Simulate rows [first, last). Trades and bar PnL are written where the arrays have room (length 0: not at all)."""
    n_trades = wins = stop_exits = target_exits = trailing_exits = missed = ambiguous = 0
    gross_pnl = fees = funding = trade_squares = bar_squares = drawdown = 0.0
    exposure = longest_hold = 0
    realised = equity = peak = 0.0
    next_allowed = first
    book = NOTHING_BOOKED

    side, quantity, entry, entry_row, fill_row = 0, 0.0, 0.0, 0, 0
    trade_fees = trade_funding = unrealised = exit_ = 0.0
    trade_ambiguous = False
    levels = Levels(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)
    trailing = Trailing(math.nan, False)

    i = first
    while i < last:
        if side == 0:
            i, decision = _next_signal(params, features, columns, market.can_enter, max(i, next_allowed), last)
            if i >= last:
                break
            multiple = size_multiple(decision.side, i, multiples)
            fill_row, next_row, fee_bps = i, i + 1, terms.taker_fee_bps
            if lives.shape[0] > 0:
                entry, fee_bps = resting_price(decision.side, market.bid[i], market.ask[i], terms), terms.maker_fee_bps
                quantity = entry_quantity(entry, decision, multiple, terms)
                if quantity > 0.0:
                    fill_row, next_row = rested_in_bars(decision.side, entry, i, last, market, lives, terms.tick_size)
            else:
                entry = entry_price(decision.side, i, market, terms)
                quantity = entry_quantity(decision_price(decision.side, i, market), decision, multiple, terms)
            if math.isnan(entry) or quantity <= 0.0 or fill_row < 0:
                missed += 1
                i = next_row
                continue
            side, entry_row = decision.side, i
            levels = exit_levels(side, entry, decision, terms.tick_size)
            levels = with_liquidation(levels, side, entry, quantity, terms)
            trailing = Trailing(market.exec_open[i], False)
            trade_fees = fee_usdt(entry, quantity, fee_bps)
            trade_funding = 0.0
            trade_ambiguous = False
            realised -= trade_fees
            book = booked(book, days[i], -trade_fees)
            i = fill_row
        else:
            low, high = quiet_band(side, levels, trailing)
            start = i
            i, unrealised, equity, peak, drawdown, bar_squares = _hold_while_quiet(
                quiet_low, quiet_high, market.exec_close, i, last, low, high, side, quantity, entry, realised,
                unrealised, equity, peak, drawdown, bar_squares, bar_pnl, first,
            )  # fmt: skip
            exposure += i - start
            if i >= last:
                break

        exposure += 1
        reason, at_open = OPEN, False
        is_fill_bar = lives.shape[0] > 0 and i == fill_row
        if not math.isnan(market.exec_open[i]):
            result = exit_in_held_bar(side, entry, levels, trailing, i, market, is_fill_bar)
            reason, at_open, trailing = result.reason, result.at_open, result.trailing
            if result.is_ambiguous:
                ambiguous += 1
                trade_ambiguous = True
            unrealised = gross_pnl_usdt(side, quantity, entry, market.exec_close[i])
            if reason != OPEN:
                exit_ = exit_price(side, result, market.half_spread_bps[i], terms.slippage_bps)
        if market.funding_per_unit[i] != 0.0 and not at_open:
            paid = funding_in_held_bar_usdt(side, quantity, market.funding_per_unit[i], is_fill_bar)
            trade_funding += paid
            realised -= paid
            book = booked(book, days[i], -paid)
        if reason != OPEN:
            exit_fee = fee_usdt(exit_, quantity, terms.taker_fee_bps)
            trade_fees += exit_fee
            gross = gross_pnl_usdt(side, quantity, entry, exit_)
            realised += gross - exit_fee
            book = booked(book, days[i], gross - exit_fee)
            net = gross - trade_fees - trade_funding
            if n_trades < trades.shape[0]:
                write_trade(
                    trades[n_trades], entry_row, fill_row, i, side, quantity, entry, exit_, reason, trade_fees,
                    trade_funding, levels, trade_ambiguous, at_open,
                )  # fmt: skip
            n_trades += 1
            wins += int(net > 0.0)
            gross_pnl += gross
            fees += trade_fees
            funding += trade_funding
            trade_squares += net * net
            longest_hold = max(longest_hold, i - fill_row + 1)
            stop_exits += int(reason == STOP)
            target_exits += int(reason == TARGET)
            trailing_exits += int(reason == TRAILING)
            side, unrealised = 0, 0.0
            next_allowed = next_entry_row(i, terms)
            if is_spent(book, terms):
                next_allowed = max(next_allowed, np.searchsorted(days, book.day, side="right"))
        pnl, equity, peak, drawdown = mark_equity(realised + unrealised, equity, peak, drawdown)
        bar_squares += pnl * pnl
        if bar_pnl.shape[0] > 0:
            bar_pnl[i - first] = pnl
        i += 1

    if side != 0:
        fees += trade_fees
        funding += trade_funding
        longest_hold = max(longest_hold, last - fill_row)
        if n_trades < trades.shape[0]:
            row = last - 1
            while math.isnan(market.exec_close[row]):  # the bar of the fill was seen
                row -= 1
            held_at = market.exec_close[row]
            write_trade(
                trades[n_trades], entry_row, fill_row, last - 1, side, quantity, entry, held_at, OPEN, trade_fees,
                trade_funding, levels, trade_ambiguous, False,
            )  # fmt: skip
    return Totals(
        float(n_trades), float(wins), gross_pnl, fees, funding, equity, trade_squares, bar_squares, drawdown,
        float(exposure), float(longest_hold), float(stop_exits), float(target_exits), float(trailing_exits),
        float(missed), float(ambiguous), float(abs(side)),
    )  # fmt: skip


@njit(parallel=True)
def _sweep(
    template, table, features, columns, market, multiples, days, lives, quiet_low, quiet_high, terms, first, last, out
):
    for config in prange(table.shape[0]):
        no_trades = np.empty(0, TRADE)
        no_pnl = np.empty(0, np.float64)
        params = params_at(template, table, config)
        totals = _run(
            params, features, columns[config], market, multiples, days, lives, quiet_low, quiet_high, terms, first,
            last, no_trades, no_pnl,
        )  # fmt: skip
        for k in range(len(totals)):
            out[config, k] = totals[k]


def feature_names(module: ModuleType, configs: Sequence[tuple] | np.ndarray) -> list[str]:
    """Every feature these configs read, in a stable order."""
    layouts, _ = _layouts(module, np.array(configs, np.float64))
    return list(dict.fromkeys(name for layout in layouts for name in layout))


def _layouts(module: ModuleType, table: np.ndarray) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The different sets of feature names behind ``Row``, and which of them each config (row of ``table``) has.

    Only parameters named ``*_window_bars`` may choose features.
    """
    choice = np.zeros(len(table), np.int64)  # one number for all windows: rows take far longer to sort
    for k, name in enumerate(module.Params._fields):
        if name.endswith("_window_bars"):
            values, places = np.unique(table[:, k], return_inverse=True)
            choice = choice * len(values) + places
    _, examples, layout_of = np.unique(choice, return_index=True, return_inverse=True)
    return [tuple(module.columns(module.Params(*table[k]))) for k in examples], layout_of


def sweep_inputs(module: ModuleType, features: Mapping[str, np.ndarray], configs: Sequence[tuple] | np.ndarray):
    """What the loop reads: parameters (config, field), features (feature, row) and per config the feature row behind
    each field of ``Row``."""
    table = np.array(configs, np.float64, order="C")  # another order would be compiled for anew
    layouts, layout_of = _layouts(module, table)
    names = list(dict.fromkeys(name for layout in layouts for name in layout))
    missing = [name for name in names if name not in features]
    if missing:
        raise LookupError(f"{module.NAME} needs features {missing}; got {sorted(features)}")
    matrix, places = feature_matrix([features[name] for name in names])
    place = dict(zip(names, places, strict=True))
    columns = np.array([[place[name] for name in layout] for layout in layouts], dtype=np.uint64)
    return table, matrix, columns[layout_of]


def quiet_rows(market: Market) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of last price and mark per row; NaN, which no band holds, where more than prices matters.

    That is a row that was not seen, one without a mark, and one with a funding event.
    """
    low = np.minimum(market.exec_low, market.mark_low)
    high = np.maximum(market.exec_high, market.mark_high)
    has_funding = market.funding_per_unit != 0.0
    return np.where(has_funding, np.nan, low), np.where(has_funding, np.nan, high)


def row_range(market: Market, first: int, last: int | None) -> tuple[int, int]:
    n_rows = market.close.shape[0]
    last = n_rows if last is None else last
    if not 0 <= first < last <= n_rows:
        raise ValueError(f"row range [{first}, {last}) lies outside the {n_rows} rows there are, or is empty")
    return first, last


def simulate(
    module: ModuleType,
    market: Market,
    features: Mapping[str, np.ndarray],
    params: tuple,
    terms: Terms,
    first: int = 0,
    last: int | None = None,
    *,
    multiples: np.ndarray | None = None,
    days: np.ndarray | None = None,
    lives: np.ndarray | None = None,
) -> Run:
    """Run one config over rows [first, last), flat at the start, with its trades and bar PnL.

    Parameters
    ----------
    module : a strategy of ``research.strategies.registry``.
    market : arrays of shape (n_rows,).
    features : array of shape (n_rows,) per feature name of ``module.columns(params)``; NaN keeps the strategy out.
    params : ``module.Params``.
    terms : sizes, costs and exchange filters.
    multiples : ``sizing.size_multiples``; one everywhere where not given.
    days : ``daily_loss.days_of``; all rows are of one day where not given.
    lives : ``resting_bars.lives_of``; needed where entries rest.
    """
    first, last = row_range(market, first, last)
    table, matrix, columns = sweep_inputs(module, features, [params])
    params = module.Params(*table[0].tolist())
    # An exit and the next entry lie at least two rows apart.
    trades = np.zeros((last - first) // 2 + 2, TRADE)
    bar_pnl = np.zeros(last - first)
    multiples = unscaled(market.close.size) if multiples is None else multiples
    days = one_day(market.close.size) if days is None else days
    totals = _run(
        params, matrix, columns[0], market, multiples, days, known_lives(terms, lives), *quiet_rows(market), terms,
        first, last, trades, bar_pnl,
    )  # fmt: skip
    written = int(totals.trades + totals.is_open)
    return Run(trades=trades[:written], bar_pnl=bar_pnl, stats=dict(zip(STATS, totals, strict=True)))


def sweep(
    module: ModuleType,
    market: Market,
    features: Mapping[str, np.ndarray],
    configs: Sequence[tuple] | np.ndarray,
    terms: Terms,
    first: int = 0,
    last: int | None = None,
    *,
    multiples: np.ndarray | None = None,
    days: np.ndarray | None = None,
    lives: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Statistics of every config over rows [first, last): float64 of shape (n_configs,) per name in ``STATS``.

    Parameters as for ``simulate``; configs are ``module.Params``, or rows of a table in the order of its fields.
    """
    first, last = row_range(market, first, last)
    if len(configs) == 0:
        raise ValueError("the grid is empty: give at least one configuration")
    table, matrix, columns = sweep_inputs(module, features, configs)
    template = module.Params(*table[0].tolist())
    out = np.empty((len(configs), len(STATS)))
    multiples = unscaled(market.close.size) if multiples is None else multiples
    days = one_day(market.close.size) if days is None else days
    _sweep(
        template, table, matrix, columns, market, multiples, days, known_lives(terms, lives), *quiet_rows(market),
        terms, first, last, out,
    )  # fmt: skip
    return {name: out[:, k].copy() for k, name in enumerate(STATS)}
