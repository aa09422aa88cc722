"""The engine room of the synthetic market: one UTC day, second by second, as arrays.

Prices are USDT per base unit, quantities base units, times seconds since the market's first midnight. Everything random
comes from the generator passed in, so the same generator gives the same day.

Every leveraged position faces a hedger who is never liquidated. So open interest, counted one-sided, is what the
leveraged hold, long and short alike, plus a constant amount held between hedgers.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

DAY_SECONDS = 86_400
LONG, SHORT = 1, -1

STRONG_MINUTE = 2.0  # a minute's move, in standard deviations, from which it counts as strong
BUSY_MINUTE = 1.3  # a minute's trades, in multiples of their slow average, from which it counts as busy
BURST_SECONDS = 300  # how long a strong, busy minute is followed
VARIANCE_DECAY = 2.0 ** (-1 / 240)  # per minute: half-life of four hours
TREND_DECAY = 2.0 ** (-1 / 30)  # per minute: half-life of half an hour, the average that ranging prices return to
REGIME_SWITCH = 1 / 90  # chance per minute of changing between free and ranging
LOG_VOLATILITY_SD, LOG_VOLATILITY_DECAY = 0.35, 2.0 ** (-1 / 480)  # per minute: half-life of eight hours
ACTIVITY_SD = 0.6  # of the logarithm of one minute's activity, which moves variance and trade counts together
JUMPS_PER_DAY, JUMP_SIZE = 3.0, 0.15  # size in daily volatilities
EXCITATION, EXCITATION_DECAY = 0.5, 0.8  # share of trades that other trades call forth; per second
BASIS_SD, BASIS_DECAY = 1.2e-4, 2.0 ** (-1 / 120)  # per second: half-life of two minutes
MARK_DECAY = 2.0 ** (-1 / 15)  # per second: the mark's basis is a moving average with a half-life of 15 seconds
CROWDING_BASIS = 6e-4  # basis when all open interest is leveraged long
PERMANENT_IMPACT = 0.6  # share of a liquidation's impact that stays; the rest fades with the basis
DAILY_INTEREST = 1.5e-4  # part of funding that is paid without any premium
CLOSE_PER_HOUR = np.log(2) / 1_200  # times leverage: positions at 50x have a half-life of a day, at 10x of five days
BACKGROUND_MINUTES = 5  # scattered positions open this often
BACKGROUND_LEVERAGE = (5.0, 50.0)
CROWD_MINUTES = (10, 40)  # how long a crowd keeps opening
QUEUE_PER_SECOND = 0.1  # share of the waiting liquidations that reaches the market within a second
MAX_FORCED_TRADES = 8  # per second

STATE = np.dtype(
    [(name, np.float64) for name in (
        "log_index", "log_volatility", "activity", "basis", "mark_basis", "trend", "minute_variance", "minute_open",
        "minute_trades", "average_trades", "burst_drift", "excitation", "last_return", "premium_sum", "funding_rate",
        "crowd_quantity", "crowd_leverage", "waiting_sell", "waiting_buy", "hedged_interest")]
    + [(name, np.int64) for name in (
        "burst_left", "is_ranging", "premium_count", "crowd_side", "crowd_left", "positions", "clusters")],
    align=True,
)  # fmt: skip
POSITION = np.dtype(
    [("side", np.int64), ("cluster", np.int64), ("leverage", np.float64), ("liquidation_price", np.float64),
     ("opened_quantity", np.float64), ("quantity", np.float64)],
    align=True,
)  # fmt: skip
CLUSTER = np.dtype(
    [("side", np.int64), ("opened_from", np.int64), ("opened_to", np.int64), ("first_liquidation", np.int64),
     ("last_liquidation", np.int64), ("leverage", np.float64), ("low", np.float64), ("high", np.float64),
     ("quantity", np.float64), ("level_sum", np.float64), ("liquidated_quantity", np.float64)],
    align=True,
)  # fmt: skip
SECOND = np.dtype(
    [(name, np.float64) for name in (
        "index_price", "mid_price", "mark_price", "funding_rate", "spread_ticks", "buy_share", "open_interest")]
    + [(name, np.int64) for name in ("trades", "forced_trades", "forced_steps", "forced_side")],
    align=True,
)  # fmt: skip


class Rules(NamedTuple):
    """One symbol's numbers, as its spec documents them."""

    start_price: float
    tick_size: float
    step_size: float
    daily_volatility: float
    trades_per_second: float
    trade_notional_usdt: float
    open_interest_usdt: float
    cluster_notional_usdt: float
    clusters_per_day: float
    leverages: np.ndarray
    maintenance_margin_rate: float
    impact_bps_per_million: float
    funding_interval_s: int
    momentum_edge: float
    mean_reversion: float


@njit(cache=True)
def liquidation_price(side: int, entry_price: float, leverage: float, maintenance_margin_rate: float) -> float:
    """Mark price at which an isolated position of the first bracket is liquidated, USDT."""
    return entry_price * (1.0 - side / leverage) / (1.0 - side * maintenance_margin_rate)


@njit(cache=True)
def _season(second: int) -> float:
    """Activity by hour of the day, mean 1: a peak in the American morning and a lesser one in the Asian."""
    day = 2.0 * np.pi * second / DAY_SECONDS
    return 1.0 + 0.30 * np.cos(day - 2.0 * np.pi * 15 / 24) + 0.15 * np.cos(2.0 * (day - 2.0 * np.pi * 14 / 24))


@njit(cache=True)
def _open_position(state, positions, rules, side, cluster, leverage, entry_price, quantity):
    """Add a position to the end of the list; cluster -1 belongs to none."""
    position = positions[state.positions]
    position.side = side
    position.cluster = cluster
    position.leverage = leverage
    position.liquidation_price = liquidation_price(side, entry_price, leverage, rules.maintenance_margin_rate)
    position.opened_quantity = quantity
    position.quantity = quantity
    state.positions += 1


@njit(cache=True)
def _background_leverage(rng, rules):
    """Leverage of a scattered position, log-uniform as far as half of what the maintenance margin allows."""
    low, high = BACKGROUND_LEVERAGE
    highest = min(high, 0.5 / rules.maintenance_margin_rate)
    return low * (highest / low) ** rng.random()


@njit(cache=True)
def open_market(rng, rules, state, positions):
    """The first midnight: a resting market in which 200 scattered positions already exist."""
    state.log_index = np.log(rules.start_price)
    state.trend = state.log_index
    state.minute_open = state.log_index
    state.activity = 1.0
    state.minute_variance = rules.daily_volatility**2 / 1_440
    state.average_trades = rules.trades_per_second * 60
    open_interest = rules.open_interest_usdt / rules.start_price
    state.hedged_interest = 0.6 * open_interest
    for _ in range(200):
        side = LONG if rng.random() < 0.5 else SHORT
        leverage = _background_leverage(rng, rules)
        entry_price = rules.start_price * np.exp(0.3 * rules.daily_volatility * rng.standard_normal())
        quantity = 0.002 * open_interest * rng.exponential(1.0)
        level = liquidation_price(side, entry_price, leverage, rules.maintenance_margin_rate)
        if side * (rules.start_price - level) > 0:
            _open_position(state, positions, rules, side, -1, leverage, entry_price, quantity)


@njit(cache=True)
def _close_voluntarily(state, positions):
    """One minute of closing for other reasons; what is left of an old position leaves at a twentieth of its size."""
    kept = 0
    for row in range(state.positions):
        position = positions[row]
        position.quantity *= 1.0 - CLOSE_PER_HOUR / 60 * position.leverage
        if position.quantity > 0.05 * position.opened_quantity:
            positions[kept] = position
            kept += 1
    state.positions = kept


@njit(cache=True)
def _liquidate(state, positions, clusters, mark_price, now):
    """Queue every position whose liquidation price the mark has reached."""
    kept = 0
    for row in range(state.positions):
        position = positions[row]
        if position.side * (mark_price - position.liquidation_price) > 0:
            positions[kept] = position
            kept += 1
            continue
        if position.side == LONG:
            state.waiting_sell += position.quantity
        else:
            state.waiting_buy += position.quantity
        if position.cluster >= 0:
            cluster = clusters[position.cluster]
            cluster.liquidated_quantity += position.quantity
            cluster.last_liquidation = now
            if cluster.first_liquidation < 0:
                cluster.first_liquidation = now
    state.positions = kept


@njit(cache=True)
def _exposure(state, positions):
    """Leveraged long and short quantity, and the liquidation price nearest to the market on either side."""
    longs, shorts, long_level, short_level = 0.0, 0.0, 0.0, np.inf
    for row in range(state.positions):
        position = positions[row]
        if position.side == LONG:
            longs += position.quantity
            long_level = max(long_level, position.liquidation_price)
        else:
            shorts += position.quantity
            short_level = min(short_level, position.liquidation_price)
    return longs, shorts, long_level, short_level


@njit(cache=True)
def _start_crowd(rng, rules, state, clusters, price, now):
    """A crowd forms: mostly with the last half hour's move, one leverage, a size of its own."""
    follows = rng.random() < 0.7
    state.crowd_side = LONG if (state.log_index > state.trend) == follows else SHORT
    state.crowd_leverage = rules.leverages[int(rng.random() * rules.leverages.size)]
    state.crowd_left = CROWD_MINUTES[0] + int(rng.random() * (CROWD_MINUTES[1] - CROWD_MINUTES[0]))
    size = rules.cluster_notional_usdt * np.exp(0.5 * rng.standard_normal())
    state.crowd_quantity = size / price / state.crowd_left
    cluster = clusters[state.clusters]
    cluster.side = state.crowd_side
    cluster.leverage = state.crowd_leverage
    cluster.opened_from = now
    cluster.first_liquidation = -1
    cluster.last_liquidation = -1
    cluster.low = np.inf
    state.clusters += 1


@njit(cache=True)
def _open_minute(rng, rules, state, positions, clusters, price, now):
    """What opens in one minute: the crowd's share and, now and then, a scattered position."""
    if state.crowd_left == 0 and rng.random() < rules.clusters_per_day / 1_440:
        _start_crowd(rng, rules, state, clusters, price, now)
    if state.crowd_left > 0:
        entry_price = price * np.exp(3e-4 * rng.standard_normal())
        member = state.positions
        side, leverage, quantity = state.crowd_side, state.crowd_leverage, state.crowd_quantity
        _open_position(state, positions, rules, side, state.clusters - 1, leverage, entry_price, quantity)
        cluster = clusters[state.clusters - 1]
        level = positions[member].liquidation_price
        cluster.low = min(cluster.low, level)
        cluster.high = max(cluster.high, level)
        cluster.level_sum += level * state.crowd_quantity
        cluster.quantity += state.crowd_quantity
        cluster.opened_to = now + 60
        state.crowd_left -= 1
    if now // 60 % BACKGROUND_MINUTES == 0:
        leverage = _background_leverage(rng, rules)
        replaced = 0.4 * rules.open_interest_usdt / rules.start_price * CLOSE_PER_HOUR * 20 * BACKGROUND_MINUTES / 60
        side = LONG if rng.random() < 0.5 else SHORT
        _open_position(state, positions, rules, side, -1, leverage, price, replaced * rng.exponential(1.0))


@njit(cache=True)
def _close_minute(rng, rules, state):
    """Judge the minute that ended and draw the mood of the next one."""
    move = state.log_index - state.minute_open
    is_strong = abs(move) > STRONG_MINUTE * np.sqrt(state.minute_variance)
    if is_strong and state.minute_trades > BUSY_MINUTE * state.average_trades:
        left_over = state.burst_drift * state.burst_left
        state.burst_left = BURST_SECONDS
        state.burst_drift = (left_over + rules.momentum_edge * move) / BURST_SECONDS
    state.minute_variance += (1.0 - VARIANCE_DECAY) * (move * move - state.minute_variance)
    state.average_trades += (1.0 - VARIANCE_DECAY) * (state.minute_trades - state.average_trades)
    state.trend += (1.0 - TREND_DECAY) * (state.log_index - state.trend)
    state.minute_open = state.log_index
    state.minute_trades = 0.0
    if rng.random() < REGIME_SWITCH:
        state.is_ranging = 1 - state.is_ranging
    shock = LOG_VOLATILITY_SD * np.sqrt(1.0 - LOG_VOLATILITY_DECAY**2)
    state.log_volatility = LOG_VOLATILITY_DECAY * state.log_volatility + shock * rng.standard_normal()
    state.activity = np.exp(ACTIVITY_SD * rng.standard_normal() - ACTIVITY_SD**2 / 2)


@njit(cache=True)
def _move_index(rng, rules, state, season):
    """One second of the index; returns its standard deviation in that second."""
    usual = rules.daily_volatility / np.sqrt(DAY_SECONDS)
    deviation = usual * np.exp(state.log_volatility - LOG_VOLATILITY_SD**2) * np.sqrt(season * state.activity)
    move = deviation * rng.standard_normal()
    if rng.random() < JUMPS_PER_DAY / DAY_SECONDS:
        move += JUMP_SIZE * rules.daily_volatility * rng.standard_normal()
    if state.burst_left > 0:
        move += state.burst_drift
        state.burst_left -= 1
    if state.is_ranging == 1:
        move -= rules.mean_reversion / 600 * (state.log_index - state.trend)
    state.log_index += move
    state.last_return = move / deviation
    return deviation


@njit(cache=True)
def _execute_waiting(rules, state, second):
    """Send part of the waiting liquidations to the market, one side at a time, and move the price by their impact."""
    side = SHORT if state.waiting_sell > 0.0 else LONG
    waiting = state.waiting_sell if side == SHORT else state.waiting_buy
    step = rules.step_size
    smallest = 0.01 * rules.cluster_notional_usdt / second.mid_price
    steps = np.floor(min(waiting, max(smallest, QUEUE_PER_SECOND * waiting)) / step)
    left = waiting - steps * step
    if left < step:
        left = 0.0  # less than the exchange can sell: it goes with the last order
    if side == SHORT:
        state.waiting_sell = left
    else:
        state.waiting_buy = left
    if steps < 1.0:
        return
    notional = steps * step * second.mid_price
    impact = side * rules.impact_bps_per_million * 1e-4 * notional / 1e6
    state.log_index += PERMANENT_IMPACT * impact
    state.basis += (1.0 - PERMANENT_IMPACT) * impact
    second.forced_side = side
    second.forced_steps = int(steps)
    orders = np.ceil(notional / (3.0 * rules.trade_notional_usdt))
    second.forced_trades = int(min(min(orders, MAX_FORCED_TRADES), steps))


@njit(cache=True)
def _draw_trades(rng, rules, state, second, season, price):
    """How many trades in this second, and what share of them buys."""
    crowd = state.crowd_quantity * price / 60 / rules.trade_notional_usdt if state.crowd_left > 0 else 0.0
    mood = season * state.activity * np.exp(state.log_volatility - LOG_VOLATILITY_SD**2 / 2)
    fresh = rules.trades_per_second * (1.0 - EXCITATION) * mood
    expected = fresh + EXCITATION * state.excitation
    second.trades = rng.poisson(expected + crowd)
    state.excitation += (1.0 - EXCITATION_DECAY) * (second.trades - state.excitation)
    state.minute_trades += second.trades
    share = 0.5 + 0.25 * np.tanh(state.last_return)
    crowd_buys = 1.0 if state.crowd_side == LONG else 0.0
    second.buy_share = (share * expected + crowd_buys * crowd) / max(expected + crowd, 1e-12)


@njit(cache=True)
def simulate_day(rng, rules, day_index, state, positions, clusters):
    """Advance the market by one day.

    Parameters
    ----------
    rng : this day's random generator.
    rules : the symbol's numbers.
    day_index : days since the market's first midnight.
    state : STATE record, changed in place.
    positions, clusters : POSITION and CLUSTER arrays with room for a day more (2,000 and 1,500 rows), changed in place.

    Returns
    -------
    SECOND array, shape (86,400,)
        Row s holds second s of the day. Forced orders of a second move the price from the next second on.
    """
    seconds = np.zeros(DAY_SECONDS, SECOND)
    longs, shorts, long_level, short_level = _exposure(state, positions)
    for s in range(DAY_SECONDS):
        second = seconds[s]
        now = day_index * DAY_SECONDS + s
        season = _season(s)
        if s % 60 == 0:
            _close_minute(rng, rules, state)
            _close_voluntarily(state, positions)
            _open_minute(rng, rules, state, positions, clusters, np.exp(state.log_index + state.basis), now)
            longs, shorts, long_level, short_level = _exposure(state, positions)
        deviation = _move_index(rng, rules, state, season)
        crowding = CROWDING_BASIS * (longs - shorts) / (longs + shorts + state.hedged_interest)
        basis_shock = BASIS_SD * np.sqrt(1.0 - BASIS_DECAY**2) * rng.standard_normal()
        state.basis = crowding + BASIS_DECAY * (state.basis - crowding) + basis_shock
        state.mark_basis += (1.0 - MARK_DECAY) * (state.basis - state.mark_basis)
        second.index_price = np.exp(state.log_index)
        second.mid_price = np.exp(state.log_index + state.basis)
        second.mark_price = np.exp(state.log_index + state.mark_basis)
        if second.mark_price <= long_level or second.mark_price >= short_level:
            _liquidate(state, positions, clusters, second.mark_price, now)
            longs, shorts, long_level, short_level = _exposure(state, positions)
        if state.waiting_sell + state.waiting_buy > 0.0:
            _execute_waiting(rules, state, second)
        _draw_trades(rng, rules, state, second, season, second.mid_price)
        stressed = 0.1 * deviation * second.mid_price / rules.tick_size + 2.0 * second.forced_trades
        second.spread_ticks = 1 + rng.poisson(min(stressed, 50.0) if rng.random() < 0.2 else 0.0)
        if now % rules.funding_interval_s == 0:
            state.premium_sum, state.premium_count = 0.0, 0
        state.premium_sum += second.mark_price / second.index_price - 1.0
        state.premium_count += 1
        interest = DAILY_INTEREST * rules.funding_interval_s / DAY_SECONDS
        state.funding_rate = interest + state.premium_sum / state.premium_count * rules.funding_interval_s / 28_800
        second.funding_rate = state.funding_rate
        second.open_interest = longs + shorts + state.waiting_sell + state.waiting_buy + state.hedged_interest
    return seconds
