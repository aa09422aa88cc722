"""What an order would have got: the one definition, used by sweep, backtest, paper and live.

Bar resolution. Row *i* is decided at ``avail_time``; the order reaches the market at ``t_i`` and the execution bar is
the window [t_i, t_{i+1}), so a position's first bar is checked in full and nothing from before the entry is used.

Tick resolution (``research.tick_fills``). The same entries; exits are checked on every trade and mark after ``t_i``.

Bars flatter tight trailing orders: without any edge, with bars of 20 bps, a trade looks better by 2.4 bps with a
callback of a quarter of the median bar's range, 1.1 of a half, 0.4 of the whole, 0.1 of 1.5 (``aster bench fills``).

Entries take, or rest (``research.resting``). Exits stand side by side from the entry on, as on the exchange: a stop
triggered by the mark, a target and a trailing order triggered by the last price; the first to trigger closes the
position with a market order.
"""

import math
from typing import NamedTuple

import numpy as np

from research.jit import njit
from research.rounding import ON_GRID_TICKS, ceil_on, floor_on, per_unit

FILL_MODEL_VERSION = 2

OPEN, STOP, TARGET, TRAILING, LIQUIDATION = 0, 1, 2, 3, 4
REASONS = ("open", "stop", "target", "trailing", "liquidation")

NO_BRACKETS = np.empty((0, 2))


class Terms(NamedTuple):
    """The numbers a fill needs, as scalars for compiled code."""

    taker_fee_bps: float
    slippage_bps: float
    notional_usdt: float
    max_notional_usdt: float
    min_notional_usdt: float
    tick_size: float
    step_size: float
    min_quantity: float
    max_quantity: float
    entry_limit_ticks: float
    cooldown_bars: int
    risk_usdt: float = math.nan  # lost at the stop; NaN: the notional counts
    max_daily_loss_usdt: float = math.inf
    leverage: float = 1.0
    maker_fee_bps: float = 0.0  # of an entry that rests
    rest_offset_bps: float = math.nan  # ``RestingEntry``; NaN: entries take
    rest_ms: int = 0
    brackets: np.ndarray = NO_BRACKETS  # ``liquidation.brackets_of``; without any nothing is liquidated


class Market(NamedTuple):
    """Arrays over signal rows that fills are computed from; float64 of one length, NaN where unknown.

    Columns of the bars frame (``research.bars``): see there for meaning and source.
    """

    can_enter: np.ndarray  # bool
    close: np.ndarray  # of the signal bar
    bid: np.ndarray  # seen at decision
    ask: np.ndarray
    exec_open: np.ndarray
    exec_high: np.ndarray
    exec_low: np.ndarray
    exec_close: np.ndarray
    mark_open: np.ndarray
    mark_high: np.ndarray
    mark_low: np.ndarray
    exec_bid: np.ndarray  # at t_i
    exec_ask: np.ndarray
    half_spread_bps: np.ndarray
    last_mark_ratio: np.ndarray
    funding_per_unit: np.ndarray


class Decision(NamedTuple):
    """A strategy's answer: the side wanted and the exit plan. NaN means "none".

    Distances are bps of the entry price; a price, where given, replaces its distance.
    """

    side: int  # 1 long, -1 short, 0 stay out
    stop_bps: float
    target_bps: float
    activation_bps: float  # how far the price must run before the trailing order arms
    callback_bps: float  # how far it may come back from its extreme then
    stop_price: float
    target_price: float


class Levels(NamedTuple):
    """Exit orders of one position, and where the exchange ends it. NaN where there is none."""

    stop: float
    target: float
    activation: float
    callback_bps: float
    liquidation: float = math.nan  # of the mark
    bankruptcy: float = math.nan  # what a liquidated position gets


class Trailing(NamedTuple):
    """State of the trailing order between bars."""

    extreme: float  # best last price since entry
    armed: bool


class Exit(NamedTuple):
    """What one execution bar did to a position; reason OPEN when nothing triggered."""

    reason: int
    price: float  # trigger price before costs
    at_open: bool
    is_ambiguous: bool  # more than one order could have been first, or one may have triggered unseen
    trailing: Trailing


@njit
def stay_out() -> Decision:
    """The decision not to trade."""
    return Decision(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)


@njit
def still_open(trailing: Trailing) -> Exit:
    """What a bar did in which nothing triggered."""
    return Exit(OPEN, math.nan, False, False, trailing)


@njit
def size_multiple(side: int, i: int, multiples: np.ndarray) -> float:
    """Of ``sizing.size_multiples`` the one of an entry decided on row ``i``."""
    return multiples[0, i] if side > 0 else multiples[1, i]


@njit
def stop_distance(price: float, decision: Decision) -> float:
    """How much a unit bought or sold at ``price`` loses at the planned stop; NaN without one."""
    if math.isnan(decision.stop_price):
        return price * decision.stop_bps / 1e4
    return decision.side * (price - decision.stop_price)


@njit
def entry_quantity(price: float, decision: Decision, multiple: float, terms: Terms) -> float:
    """Base quantity of an entry, or 0.0 when no quantity satisfies the limits or the size is not known.

    A notional is rounded up to the step, so that it is at least the target and the exchange's minimum (Aster futures
    API, LOT_SIZE and MIN_NOTIONAL; prior-art 003 sizing). A risk is rounded down, and never raised to a minimum: more
    would be at stake than was allowed. Either is cut at the cap.

    Parameters
    ----------
    multiple : scales the notional or the risk, not the cap; NaN: unknown.
    """
    if not multiple > 0.0:
        return 0.0
    step, whole = terms.step_size, per_unit(terms.step_size)
    if math.isnan(terms.risk_usdt):
        target = max(terms.notional_usdt * multiple, terms.min_notional_usdt)
        quantity = max(ceil_on(target / price, step, whole), terms.min_quantity)
    else:
        distance = stop_distance(price, decision)
        if not distance > 0.0:
            return 0.0
        quantity = floor_on(terms.risk_usdt * multiple / distance, step, whole)
    most = floor_on(min(terms.max_notional_usdt / price, terms.max_quantity), step, whole)
    if quantity > most:
        quantity = most
    if quantity < terms.min_quantity or quantity * price < terms.min_notional_usdt:
        return 0.0
    return quantity


@njit
def decision_price(side: int, i: int, market: Market) -> float:
    """Price an order is sized at: the touch seen at decision, the close where no quote was recorded."""
    touch = market.ask[i] if side > 0 else market.bid[i]
    return market.close[i] if math.isnan(touch) else touch


@njit
def entry_limit(side: int, touch: float, terms: Terms) -> float:
    """Limit of the IOC entry: the touch seen at decision, widened by the configured ticks."""
    return touch + side * terms.entry_limit_ticks * terms.tick_size


@njit
def entry_price(side: int, i: int, market: Market, terms: Terms) -> float:
    """Fill price of a taker entry decided on row ``i``; NaN when it is missed.

    With quotes: an IOC limit at the touch seen at decision plus ``entry_limit_ticks``; missed when the touch at ``t_i``
    lies beyond it, never filled beyond it. Without: the open, worse by half the modelled spread and slippage.
    """
    slippage = terms.slippage_bps / 1e4
    touch = market.ask[i] if side > 0 else market.bid[i]
    opposite = market.exec_ask[i] if side > 0 else market.exec_bid[i]
    if math.isnan(market.exec_open[i]):
        return math.nan
    if math.isnan(touch) or math.isnan(opposite):
        return taker_price(side, market.exec_open[i], market.half_spread_bps[i], terms.slippage_bps)
    limit = entry_limit(side, touch, terms)
    if side * (opposite - limit) > ON_GRID_TICKS * terms.tick_size:
        return math.nan
    if side > 0:
        return min(opposite * (1.0 + slippage), limit)
    return max(opposite * (1.0 - slippage), limit)


@njit
def taker_price(side: int, price: float, half_spread_bps: float, slippage_bps: float) -> float:
    """A market order's fill around ``price``: half the spread and the slippage against us. ``side`` is the order's."""
    spread = 0.0 if math.isnan(half_spread_bps) else half_spread_bps
    return price * (1.0 + side * (spread + slippage_bps) / 1e4)


@njit
def exit_levels(side: int, entry: float, decision: Decision, tick_size: float) -> Levels:
    """Exit orders of a position entered at ``entry``, on the tick grid.

    The stop is rounded toward the entry, so that the loss is never larger than planned; target and activation away from
    it, so that the floors still hold.
    """
    stop, target, activation = decision.stop_price, decision.target_price, math.nan
    if math.isnan(stop):
        stop = entry * (1.0 - side * decision.stop_bps / 1e4)
    if math.isnan(target):
        target = entry * (1.0 + side * decision.target_bps / 1e4)
    activation = entry * (1.0 + side * decision.activation_bps / 1e4)
    whole = per_unit(tick_size)  # once for all levels: this is where a sweep spends its entries
    if side > 0:
        return Levels(
            ceil_on(stop, tick_size, whole),
            ceil_on(target, tick_size, whole),
            ceil_on(activation, tick_size, whole),
            decision.callback_bps,
        )
    return Levels(
        floor_on(stop, tick_size, whole),
        floor_on(target, tick_size, whole),
        floor_on(activation, tick_size, whole),
        decision.callback_bps,
    )


@njit
def _first(stop_hit: bool, trail_hit: bool) -> int:
    """Which of the orders that were hit closes the position: stop before trailing before target."""
    if stop_hit:
        return STOP
    return TRAILING if trail_hit else TARGET


@njit
def exit_in_bar(side: int, levels: Levels, trailing: Trailing, i: int, market: Market) -> Exit:
    """What execution bar ``i`` does to a position. The bar must have prices (``exec_open`` not NaN).

    Order inside the bar: gap at the open, a liquidation before any order; the stop and the liquidation by the mark's
    range, the nearer first; the trailing order on its state as of the open; the target by range; then the bar's own
    extreme may arm and move the trailing order, and if the close is beyond its new level it has triggered there.
    Comparisons with NaN are false: an absent order never triggers.
    """
    open_, close = market.exec_open[i], market.exec_close[i]
    # Seen from the position: "best" is the favourable end of the bar, "worst" the other.
    if side > 0:
        best, worst, mark_worst = market.exec_high[i], market.exec_low[i], market.mark_low[i]
    else:
        best, worst, mark_worst = market.exec_low[i], market.exec_high[i], market.mark_high[i]
    mark_open, ratio = market.mark_open[i], market.last_mark_ratio[i]
    if math.isnan(mark_open):
        mark_open, mark_worst, ratio = open_, worst, 1.0  # no mark was seen: the stop is watched on the last price
    keep = 1.0 - side * levels.callback_bps / 1e4

    # Joined with | so that a sweep branches once per question; mostly the answer is no.
    is_liquidated = side * (mark_open - levels.liquidation) <= 0.0
    stop_hit = side * (mark_open - levels.stop) <= 0.0
    trail_hit = trailing.armed & (side * (open_ - trailing.extreme * keep) <= 0.0)
    target_hit = side * (open_ - levels.target) >= 0.0
    if is_liquidated:
        return Exit(LIQUIDATION, levels.bankruptcy, True, False, trailing)
    if stop_hit | trail_hit | target_hit:
        return Exit(_first(stop_hit, trail_hit), open_, True, False, trailing)

    extreme = open_ if side * (open_ - trailing.extreme) > 0.0 else trailing.extreme
    armed = trailing.armed | (side * (open_ - levels.activation) >= 0.0)
    trail = extreme * keep
    is_liquidated = side * (mark_worst - levels.liquidation) <= 0.0
    stop_hit = side * (mark_worst - levels.stop) <= 0.0
    trail_hit = armed & (side * (worst - trail) <= 0.0)
    target_hit = side * (best - levels.target) >= 0.0
    if is_liquidated | stop_hit | trail_hit | target_hit:
        is_ambiguous = int(is_liquidated | stop_hit) + int(trail_hit) + int(target_hit) > 1
        if is_liquidated and not (stop_hit and side * (levels.stop - levels.liquidation) > 0.0):
            return Exit(LIQUIDATION, levels.bankruptcy, False, is_ambiguous, Trailing(extreme, armed))
        reason = _first(stop_hit, trail_hit)
        price = levels.target
        if reason == STOP:
            price = levels.stop * ratio
        elif reason == TRAILING:
            price = trail
        return Exit(reason, price, False, is_ambiguous, Trailing(extreme, armed))

    extreme = best if side * (best - extreme) > 0.0 else extreme
    armed = armed | (side * (best - levels.activation) >= 0.0)
    moved, trail = Trailing(extreme, armed), extreme * keep
    if armed & (side * (close - trail) <= 0.0):
        return Exit(TRAILING, trail, False, True, moved)
    # The order armed or moved inside this bar and the bar also touched its new level: it may have triggered.
    return Exit(OPEN, math.nan, False, armed & (side * (worst - trail) <= 0.0), moved)


@njit
def quiet_band(side: int, levels: Levels, trailing: Trailing) -> tuple[float, float]:
    """Prices (low, high) strictly between which a bar, last price and mark, cannot concern any exit order.

    Lets a scan skip ``exit_in_bar``: inside the band nothing triggers, arms, moves or becomes ambiguous. The extreme of
    an unarmed trailing order need not be kept: the bar that arms it sets a better one.
    """
    against, toward = levels.stop, levels.target
    if math.isnan(against) or side * (levels.liquidation - against) > 0.0:
        against = levels.liquidation
    if trailing.armed:
        trail = trailing.extreme * (1.0 - side * levels.callback_bps / 1e4)
        if math.isnan(against) or side * (trail - against) > 0.0:
            against = trail
        trigger = trailing.extreme
    else:
        trigger = levels.activation
    if math.isnan(toward) or side * (trigger - toward) < 0.0:
        toward = trigger
    if math.isnan(against):
        against = -side * math.inf
    if math.isnan(toward):
        toward = side * math.inf
    if side > 0:
        return against, toward
    return toward, against


@njit
def next_entry_row(exit_row: int, terms: Terms) -> int:
    """First row that may enter after an exit: never the next one, and none within the cooldown."""
    return exit_row + 1 + max(1, terms.cooldown_bars)


@njit
def fee_usdt(price: float, quantity: float, fee_bps: float) -> float:
    """Commission of one fill."""
    return price * quantity * fee_bps / 1e4


@njit
def gross_pnl_usdt(side: int, quantity: float, entry: float, exit_: float) -> float:
    """Price gain of a position, before fees and funding."""
    return side * quantity * (exit_ - entry)


@njit
def funding_paid_usdt(side: int, quantity: float, funding_per_unit: float) -> float:
    """Cash a position pays at funding; negative when received. Longs pay a positive rate."""
    return side * quantity * funding_per_unit


@njit
def breakeven_floor_bps(
    taker_fee_bps: float, opening_loss_bps: float, funding_bps: float, interval_hours: float
) -> float:
    """Move that pays for a round trip: both fees, the loss at opening and one hour's share of the funding rate.

    Prior-art 003's floor, which divides by a fixed 8 h; here by the symbol's own interval. NaN where an input is.
    """
    return 2.0 * taker_fee_bps + max(0.0, opening_loss_bps) + abs(funding_bps) / interval_hours
