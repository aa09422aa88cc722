"""One config's orders in VectorBT's terms: rows shifted by one, stops as fractions, sizes as amounts.

What ``backtest.vectorbt_orders`` is given to trade by itself.
"""

import math
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from research import fills
from research.fills import Market, Terms
from research.resting import rests
from research.sizing import unscaled


@dataclass(frozen=True, kw_only=True)
class OrderPlan:
    """What VectorBT needs to trade one config by itself. Arrays of shape (n_rows + 1,).

    VectorBT handles one order per row and checks stops from the row after the entry on. So execution bar *i* stands in
    row *i + 1*, and an entry decided on row *i* is placed in row *i* at the open of execution bar *i*: the price its
    next row begins with. The position's first bar is checked in full.
    """

    side: np.ndarray  # int64: 1, -1, or 0 where no entry is wanted or it would be missed
    quantity: np.ndarray  # base, rounded
    order_price: np.ndarray  # entry, such that VectorBT's slippage makes it the fill price
    slippage: np.ndarray  # fraction, of the exit in this row's bar
    stop_fraction: np.ndarray  # of the fill price; NaN for none
    target_fraction: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    taker_fee: float  # fraction of notional
    cooldown_bars: int


def order_plan(
    module: ModuleType,
    market: Market,
    features: dict[str, np.ndarray],
    params: tuple,
    terms: Terms,
    first: int = 0,
    last: int | None = None,
    *,
    multiples: np.ndarray | None = None,
) -> OrderPlan:
    """Orders of rows [first, last) in VectorBT's terms, for as much of the rules as it can express.

    Entries with sizes, limits and misses (as amounts and prices), stop and target with gaps through them, cooldown.
    Parameters as for ``kernel.simulate``.

    Raises
    ------
    ValueError
        For what VectorBT cannot express: a trailing order beside the stop (its own replaces the stop, arms on a close
        and measures from the entry), a stop that watches a mark other than the last price, an exit order that lies on
        the wrong side of the fill price at birth, a daily limit of loss, a liquidation, an entry that rests.
    """
    if math.isfinite(terms.max_daily_loss_usdt):
        raise ValueError("VectorBT knows no daily limit: give max_daily_loss_usdt inf")
    if rests(terms):
        raise ValueError("VectorBT knows no entry that rests, nor what else waits for it: give rest_offset_bps NaN")
    if len(terms.brackets):
        raise ValueError("VectorBT knows no liquidation: give no brackets")
    last = market.close.size if last is None else last
    rows = slice(first, last)
    for mark, price in (("mark_open", "exec_open"), ("mark_high", "exec_high"), ("mark_low", "exec_low")):
        seen, traded = getattr(market, mark)[rows], getattr(market, price)[rows]
        if not (np.isnan(seen) | (seen == traded)).all():
            raise ValueError(f"VectorBT watches one price: {mark} differs from {price}; copy the last price or use NaN")
    if (market.last_mark_ratio[rows] != 1.0).any():
        raise ValueError("VectorBT watches one price: last_mark_ratio must be 1 on every row")

    multiples = unscaled(market.close.size) if multiples is None else multiples
    n_rows = last - first
    side, quantity = np.zeros(n_rows + 1, np.int64), np.full(n_rows + 1, np.nan)
    fill, stop, target = (np.full(n_rows + 1, np.nan) for _ in range(3))
    columns = np.array([features[name] for name in module.columns(params)])
    for k in np.flatnonzero(market.can_enter[rows]):
        i = first + k
        decision = module.decide(module.Row(*columns[:, i]), 0, params)
        if decision.side == 0:
            continue
        price = fills.entry_price(decision.side, i, market, terms)
        multiple = fills.size_multiple(decision.side, i, multiples)
        amount = fills.entry_quantity(fills.decision_price(decision.side, i, market), decision, multiple, terms)
        if math.isnan(price) or amount <= 0.0:
            continue
        if not (math.isnan(decision.callback_bps) or math.isnan(decision.activation_bps)):
            raise ValueError("VectorBT has no trailing order beside a stop: give callback_bps NaN")
        levels = fills.exit_levels(decision.side, price, decision, terms.tick_size)
        if decision.side * (price - levels.stop) < 0.0 or decision.side * (levels.target - price) < 0.0:
            raise ValueError(
                f"VectorBT cannot hold an exit order on the wrong side of the fill price: row {i}, fill {price}, "
                f"stop {levels.stop}, target {levels.target}"
            )
        side[k], quantity[k], fill[k], stop[k], target[k] = decision.side, amount, price, levels.stop, levels.target

    spread_bps = np.nan_to_num(market.half_spread_bps[rows])
    slippage = np.append(0.0, (spread_bps + terms.slippage_bps) / 1e4)
    order_price = fill / (1.0 + side * slippage)
    filled = order_price * (1.0 + side * slippage)  # as VectorBT will compute it
    return OrderPlan(
        side=side,
        quantity=quantity,
        order_price=order_price,
        slippage=slippage,
        stop_fraction=_fraction(filled, stop),
        target_fraction=_fraction(filled, target),
        open=np.append(np.nan, market.exec_open[rows]),
        high=np.append(np.nan, market.exec_high[rows]),
        low=np.append(np.nan, market.exec_low[rows]),
        close=np.append(np.nan, market.exec_close[rows]),
        taker_fee=terms.taker_fee_bps / 1e4,
        cooldown_bars=terms.cooldown_bars,
    )


def _fraction(filled: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Distance of a level from the fill price as a fraction of it, as VectorBT takes stops.

    VectorBT multiplies it back. Traded prices lie exactly on the level, so the product must not miss it by a bit: it is
    the level, or a hair on the entry's side of it, where no other price is.
    """
    toward_entry = np.sign(filled - level)
    ratio = level / filled
    for _ in range(4):
        beyond = toward_entry * (filled * ratio - level) < 0.0
        ratio = np.where(beyond, np.nextafter(ratio, np.inf * toward_entry), ratio)
    return np.abs(1.0 - ratio)
