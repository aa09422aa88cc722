"""Random small markets full of what real ones do rarely: the ground on which the judges compare.

Prices walk on the tick grid, with gaps, flat bars, jumps through several exit orders at once, missing quotes and marks,
NaN features, odd filters. Everything follows from the seed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import numpy as np

from research.fills import NO_BRACKETS, Decision, Market, Terms
from research.jit import njit
from research.strategies import liquidation_fade, momentum

WINDOWS_BARS = (10, 30, 60)

# Sizes as (numerator, denominator), so that prices are the floats nearest to their decimals.
_TICKS = ((1, 100), (1, 10), (5, 100), (1, 10_000), (1, 10_000_000), (1, 1), (5, 1))


@dataclass(frozen=True, kw_only=True)
class World:
    """One market and one config to trade on it, rows [first, last).

    Parameters
    ----------
    module : strategy module, or an object with the same names.
    features : array of shape (n_rows,) per feature name that ``module.columns(params)`` asks for.
    multiples : ``sizing.size_multiples``; one everywhere where None.
    days : ``daily_loss.days_of``; one day where None.
    """

    module: ModuleType | SimpleNamespace
    market: Market
    features: dict[str, np.ndarray]
    params: tuple
    terms: Terms
    first: int
    last: int
    multiples: np.ndarray | None = None
    days: np.ndarray | None = None

    def rows(self, params: tuple | None = None) -> dict[str, list[float]]:
        """The features by field of the strategy's ``Row``, as lists; for the world's own params or the ones given."""
        columns = self.module.columns(params or self.params)
        return {field: self.features[name].tolist() for field, name in zip(columns._fields, columns, strict=True)}


class ScriptParams(NamedTuple):
    """The script's one number."""

    callback_bps: float


class ScriptRow(NamedTuple):
    """A decision, read from the row."""

    side: float
    stop_bps: float
    target_bps: float
    activation_bps: float
    stop_price: float
    target_price: float


def _script_columns(params: ScriptParams) -> ScriptRow:
    return ScriptRow(*ScriptRow._fields)


@njit
def _script_decide(row: ScriptRow, position: int, params: ScriptParams) -> Decision:
    return Decision(
        int(row.side),
        row.stop_bps,
        row.target_bps,
        row.activation_bps,
        params.callback_bps,
        row.stop_price,
        row.target_price,
    )


# A strategy that does what its rows say: it reaches every exit plan, absolute prices and absent orders included.
SCRIPT = SimpleNamespace(
    NAME="script",
    Params=ScriptParams,
    EXIT_PARAMS=ScriptParams._fields,
    Row=ScriptRow,
    columns=_script_columns,
    decide=_script_decide,
)


def script_decision(row: dict, params: ScriptParams) -> Decision:
    """The script in plain Python."""
    return Decision(
        side=int(row["side"]),
        stop_bps=row["stop_bps"],
        target_bps=row["target_bps"],
        activation_bps=row["activation_bps"],
        callback_bps=params.callback_bps,
        stop_price=row["stop_price"],
        target_price=row["target_price"],
    )


def momentum_world(seed: int) -> World:
    """A world traded by momentum, its features drawn at random rather than computed from the prices."""
    random = np.random.default_rng([seed, 0])
    market, terms, move_bps = _market(random)
    params = momentum.Params(
        momentum_multiple=random.choice([0.3, 0.8, 1.2]),
        volatility_window_bars=random.choice(WINDOWS_BARS),
        volume_multiple=random.choice([0.3, 0.8, 1.2]),
        volume_window_bars=random.choice(WINDOWS_BARS),
        target_bps=move_bps * random.uniform(1.0, 6.0),
        stop_bps=move_bps * random.uniform(0.3, 4.0),
        activation_bps=move_bps * random.uniform(0.2, 3.0),
        activation_buffer_bps=0.5,
        callback_bps=move_bps * random.uniform(0.2, 2.0),
        target_gap_bps=4.0,
        max_spread_ticks=2.0,
        max_funding_bps=1.5,
    )
    n_rows = market.close.size
    names = momentum.columns(params)
    features = {
        **{f"volatility_bps_{window}": np.abs(random.normal(0.0, move_bps, n_rows)) for window in WINDOWS_BARS},
        **{f"mean_volume_{window}": random.uniform(0.0, 60.0, n_rows) for window in WINDOWS_BARS},
        names.return_bps: random.normal(0.0, move_bps, n_rows),
        names.volume: random.choice([0.0, 1.0, 10.0, 100.0], n_rows, p=[0.1, 0.2, 0.3, 0.4]),
        **_gate_features(random, n_rows, terms),
    }
    return _world(random, momentum, market, _with_unknowns(random, features), params, terms)


def liquidation_fade_world(seed: int) -> World:
    """A world traded by the liquidation fade: seconds without forced orders, with some, with as many on both sides."""
    random = np.random.default_rng([seed, 6])
    market, terms, move_bps = _market(random)
    params = liquidation_fade.Params(
        min_usdt=random.choice([0.0, 1_000.0, 20_000.0]),
        forced_window_bars=random.choice(WINDOWS_BARS),
        vwap_window_bars=random.choice([0.0, *WINDOWS_BARS]),
        min_vwap_distance_bps=move_bps * random.uniform(0.0, 0.5),
        target_bps=move_bps * random.uniform(1.0, 6.0),
        stop_bps=move_bps * random.uniform(0.3, 4.0),
        max_spread_ticks=2.0,
        max_funding_bps=1.5,
    )
    n_rows = market.close.size
    forced = {f"forced_{side}_usdt_{window}": (n_rows,) for side in ("sell", "buy") for window in WINDOWS_BARS}
    features = {
        **{name: random.choice([0.0, 1_000.0, 5_000.0, 30_000.0], size) for name, size in forced.items()},
        **{f"vwap_distance_bps_{window}": random.normal(0.0, move_bps, n_rows) for window in WINDOWS_BARS},
        "close": market.close.copy(),
        **_gate_features(random, n_rows, terms),
    }
    return _world(random, liquidation_fade, market, _with_unknowns(random, features), params, terms)


def _gate_features(random: np.random.Generator, n_rows: int, terms: Terms) -> dict[str, np.ndarray]:
    """What every strategy's gates look at: mostly open, each of them closed at times."""
    return {
        "spread_ticks": random.choice([0.0, 1.0, 2.0, 3.0], n_rows, p=[0.1, 0.6, 0.2, 0.1]),
        "spread_bps": random.uniform(0.0, 6.0, n_rows),
        "funding_bps": random.choice([-1.5, -0.3, 0.0, 1.0, 2.0], n_rows, p=[0.1, 0.3, 0.3, 0.2, 0.1]),
        "funding_interval_hours": random.choice([1.0, 4.0, 8.0], n_rows),
        "opening_loss_long_bps": random.normal(2.0, 5.0, n_rows),
        "opening_loss_short_bps": random.normal(2.0, 5.0, n_rows),
        "quote_age_ms": random.choice([0.0, 500.0, 2_000.0, 2_001.0], n_rows, p=[0.4, 0.3, 0.2, 0.1]),
        "mark_age_ms": random.choice([0.0, 900.0, 3_000.0, 3_001.0], n_rows, p=[0.4, 0.3, 0.2, 0.1]),
        "taker_fee_bps": np.full(n_rows, terms.taker_fee_bps),
    }


def _with_unknowns(random: np.random.Generator, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The features, some of them unknown on some rows."""
    for column in features.values():
        column[random.random(len(column)) < random.choice([0.0, 0.02])] = math.nan
    return features


def script_world(seed: int) -> World:
    """A world traded by the script: any exit plan on any row."""
    random = np.random.default_rng([seed, 1])
    market, terms, move_bps = _market(random)
    n_rows = market.close.size
    absent = random.choice([0.0, 0.2])

    def distance_bps(low: float, high: float) -> np.ndarray:
        values = move_bps * random.uniform(low, high, n_rows)
        return np.where(random.random(n_rows) < absent, math.nan, values)

    def price(away: float) -> np.ndarray:
        """Prices off the grid, on the side where a long's target (away > 0) or stop (away < 0) lies."""
        values = market.close * (1.0 + sides * away * move_bps * random.uniform(0.5, 3.0, n_rows) / 1e4)
        return np.where(random.random(n_rows) < 0.3, values, math.nan)

    sides = random.choice([-1.0, 0.0, 1.0], n_rows, p=[0.3, 0.4, 0.3])
    features = {
        "side": sides,
        "stop_bps": distance_bps(0.3, 4.0),
        "target_bps": distance_bps(0.5, 6.0),
        "activation_bps": distance_bps(-0.5, 3.0),
        "stop_price": price(-1.0),
        "target_price": price(1.0),
    }
    params = ScriptParams(callback_bps=random.choice([math.nan, move_bps * random.uniform(0.1, 2.0)], p=[0.1, 0.9]))
    return _world(random, SCRIPT, market, features, params, terms)


# The strategies that reach every path of a sweep.
WORLD_OF = {momentum.NAME: momentum_world, liquidation_fade.NAME: liquidation_fade_world}


def full_world(make: Callable[[int], World], seed: int) -> World:
    """A world of this seed with everything that ``Orders`` can ask for beside a notional."""
    return _with_margin(_with_daily_limit(_with_sizes(make(seed), seed), seed), seed)


def _with_sizes(world: World, seed: int) -> World:
    """The world with random sizes: by risk or by notional, scaled on every row or not, unknown on some rows."""
    random = np.random.default_rng([seed, 2])
    multiples, terms, n_rows = None, world.terms, world.market.close.size
    if random.random() < 0.6:
        multiples = random.choice([0.5, 0.6, 1.0, 1.2, 1.5, 1.8], (2, n_rows))
        multiples[:, random.random(n_rows) < random.choice([0.0, 0.1])] = math.nan
    if random.random() < 0.5:
        # Around what a notional loses at a stop of 1 %: now the risk decides, now the cap, now a minimum.
        terms = terms._replace(risk_usdt=float(f"{terms.notional_usdt / 100.0 * 10 ** random.uniform(-1.5, 1.0):.3g}"))
    return replace(world, multiples=multiples, terms=terms)


def _with_daily_limit(world: World, seed: int) -> World:
    """The world with days of some ten rows, most of them, and a loss of a few trades that ends a day."""
    random = np.random.default_rng([seed, 4])
    days = 20_000 + np.cumsum(random.random(world.market.close.size) < random.choice([0.0, 0.02, 0.1]))
    lost_usdt = world.terms.notional_usdt * 10 ** random.uniform(-4.0, -1.5)
    return replace(world, days=days, terms=world.terms._replace(max_daily_loss_usdt=lost_usdt))


def _with_margin(world: World, seed: int) -> World:
    """The world with a leverage whose margin lasts for a few bars' move, more or less, and two brackets; or none."""
    random = np.random.default_rng([seed, 5])
    if random.random() < 0.4:
        return world
    market, edge_usdt = world.market, world.terms.notional_usdt
    move = np.nanmedian((market.exec_high - market.exec_low) / market.exec_close) + 1e-5
    margin = move * 10 ** random.uniform(-0.3, 1.2)
    low, high = margin * np.sort(random.uniform(0.05, 0.6, 2))
    brackets = np.array([[low, 0.0], [high, (high - low) * edge_usdt]])
    return replace(world, terms=world.terms._replace(leverage=float(1.0 / margin), brackets=brackets))


def without_trailing(world: World) -> World:
    """The world cut down to what VectorBT can express (``backtest.order_plan``), everything else as it was.

    No trailing order, the stop on the last price, stops at least a tick from the fill, no absolute prices, no daily
    limit, no liquidation.
    """
    market, n_rows = world.market, world.market.close.size
    market = market._replace(
        mark_open=market.exec_open,
        mark_high=market.exec_high,
        mark_low=market.exec_low,
        last_mark_ratio=np.ones(n_rows),
    )
    tick_bps = 1.01 * world.terms.tick_size / np.nanmin(market.exec_low) * 1e4
    params, features = world.params, dict(world.features)
    if "callback_bps" in params._fields:
        params = params._replace(callback_bps=math.nan)
    if "stop_bps" in params._fields:
        params = params._replace(stop_bps=max(params.stop_bps, tick_bps))
    else:
        absent = np.full(n_rows, math.nan)
        features.update(stop_price=absent, target_price=absent, stop_bps=np.maximum(features["stop_bps"], tick_bps))
    terms = world.terms._replace(max_daily_loss_usdt=math.inf, brackets=NO_BRACKETS)
    return replace(world, market=market, params=params, features=features, terms=terms)


def _world(random, module, market: Market, features: dict, params: tuple, terms: Terms) -> World:
    n_rows = market.close.size
    first, last = 0, n_rows
    if random.random() < 0.3:
        first = int(random.integers(0, n_rows // 3))
        last = int(random.integers(n_rows // 2, n_rows + 1))
    params = type(params)(*(float(value) for value in params))
    return World(module=module, market=market, features=features, params=params, terms=terms, first=first, last=last)


def _market(random: np.random.Generator) -> tuple[Market, Terms, float]:
    """A market, the terms to trade it on, and the size of its usual bar in bps."""
    n_rows = int(random.integers(60, 301))
    numerator, denominator = _TICKS[random.integers(len(_TICKS))]
    prints_per_tick = int(random.choice([1, 1, 10]))  # trades may print between the ticks; quotes and orders never do
    start_ticks = int(10 ** random.uniform(2.5, 6.0))
    move_bps = 10 ** random.uniform(0.5, 1.9)

    def price(prints: np.ndarray) -> np.ndarray:
        return prints * float(numerator) / (denominator * prints_per_tick)

    start = start_ticks * prints_per_tick
    open_, high, low, close = _bars_in_prints(random, n_rows, start, max(1.0, start * move_bps / 1e4))
    seen = np.concatenate([[start], close[:-1]])  # the signal bar closes where the execution bar before did
    is_gap = np.zeros(n_rows, bool)
    for first in random.integers(0, n_rows, random.integers(0, 4)):
        is_gap[first : first + random.integers(1, 5)] = True

    spread_ticks = random.choice([1, 1, 2, 5], n_rows)
    drift_ticks = random.choice([0, 0, 1, -1, 4, -4], n_rows)
    bid_ticks, exec_bid_ticks = seen // prints_per_tick, open_ // prints_per_tick + drift_ticks
    bid, ask, exec_bid, exec_ask = (
        price(ticks * prints_per_tick)
        for ticks in (bid_ticks, bid_ticks + spread_ticks, exec_bid_ticks, exec_bid_ticks + spread_ticks)
    )
    quotes_known = random.random(n_rows) < random.choice([0.0, 0.9, 1.0])
    exec_quotes_known = quotes_known & (random.random(n_rows) < 0.95)
    spread_known = random.random(n_rows) < random.choice([0.0, 0.9, 1.0])

    last = {name: price(column) for name, column in zip("ohlc", (open_, high, low, close), strict=True)}
    mark, last_mark_ratio = _marks(random, last, price(seen), move_bps)
    funding_per_unit = np.where(random.random(n_rows) < 0.05, random.normal(0.0, 2e-4, n_rows) * last["o"], 0.0)

    def known(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where, values, math.nan)

    has_next = ~np.append(is_gap[1:], False)  # execution bar i is the minute after signal bar i
    market = Market(
        can_enter=~is_gap & (random.random(n_rows) < 0.97),
        close=known(price(seen), ~is_gap),
        bid=known(bid, quotes_known & ~is_gap),
        ask=known(ask, quotes_known & ~is_gap),
        exec_open=known(last["o"], has_next),
        exec_high=known(last["h"], has_next),
        exec_low=known(last["l"], has_next),
        exec_close=known(last["c"], has_next),
        mark_open=known(mark["o"], has_next),
        mark_high=known(mark["h"], has_next),
        mark_low=known(mark["l"], has_next),
        exec_bid=known(exec_bid, exec_quotes_known & has_next),
        exec_ask=known(exec_ask, exec_quotes_known & has_next),
        half_spread_bps=known(price(spread_ticks * prints_per_tick) / 2.0 / price(seen) * 1e4, spread_known),
        last_mark_ratio=last_mark_ratio,
        funding_per_unit=funding_per_unit,
    )
    return market, _terms(random, numerator / denominator, float(price(start))), float(move_bps)


def _bars_in_prints(random, n_rows: int, start: int, move: float) -> tuple[np.ndarray, ...]:
    """Open, high, low, close of a walk in whole units: quiet bars, flat bars, jumps inside bars and between them."""
    gap = random.choice([0.0, 0.5, 4.0], n_rows, p=[0.7, 0.2, 0.1])
    reach = random.choice([0.3, 1.0, 5.0], n_rows, p=[0.3, 0.6, 0.1])
    moves = random.normal(0.0, move, (n_rows, 4)) * np.stack([gap, reach, reach, reach], axis=1)
    moves[random.random(n_rows) < 0.15] = 0.0
    path = start + np.cumsum(np.rint(moves).astype(np.int64)).reshape(n_rows, 4)
    path = np.maximum(path, start // 2)  # far from zero, so that distances in bps keep their meaning
    return path[:, 0], path.max(axis=1), path.min(axis=1), path[:, 3]


def _marks(random, last: dict, seen: np.ndarray, move_bps: float) -> tuple[dict, np.ndarray]:
    """Mark prices and the last/mark ratio known at each row: copies of the last price, of their own, or absent."""
    kind = random.choice(["last", "own", "patchy", "absent"])
    n_rows = seen.size
    if kind == "last":
        return dict(last), np.ones(n_rows)
    if kind == "absent":
        return {name: np.full(n_rows, math.nan) for name in "ohlc"}, np.ones(n_rows)
    basis = 1.0 + np.cumsum(random.normal(0.0, move_bps / 5.0, n_rows)) / 1e4
    mark = {name: column * basis for name, column in last.items()}
    if kind == "patchy":
        unknown = random.random(n_rows) < 0.2
        mark = {name: np.where(unknown, math.nan, column) for name, column in mark.items()}
    return mark, 1.0 / basis


def _terms(random, tick_size: float, price: float) -> Terms:
    notional_usdt = float(random.choice([5.0, 20.0, 100.0, 1_000.0]))
    step_size = 10.0 ** round(math.log10(notional_usdt / price) - random.uniform(-0.3, 5.0))
    step_size = float(f"{step_size:.12g}")
    return Terms(
        taker_fee_bps=float(random.choice([0.0, 3.5, 4.0])),
        slippage_bps=float(random.choice([0.0, 0.0, 0.5, 2.0])),
        notional_usdt=notional_usdt,
        max_notional_usdt=notional_usdt * float(random.choice([0.9, 1.0, 1.05, 3.0], p=[0.1, 0.1, 0.3, 0.5])),
        min_notional_usdt=float(random.choice([0.0, 5.0])),
        tick_size=tick_size,
        step_size=step_size,
        min_quantity=step_size * float(random.choice([1.0, 1.0, 2.0, 50.0])),
        max_quantity=step_size * float(random.choice([1e7, 50.0], p=[0.9, 0.1])),
        entry_limit_ticks=float(random.choice([0.0, 1.0, 3.0])),
        cooldown_bars=int(random.choice([0, 1, 2, 10])),
    )
