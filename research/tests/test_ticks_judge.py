"""The tick scan before its judge, which meets the market one event at a time, and with its future changed.

The judge hears 2,000 pairs of market and config; ``ASTER_JUDGE_PAIRS=20000`` asks for more.
"""

import heapq
import math
import os
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from research import reference
from research.fills import LIQUIDATION, OPEN, STOP, TARGET, TRAILING, Decision, Market, Terms
from research.reference_momentum import momentum_decision
from research.strategies import compiled
from research.ticks import TICK_TRADE, Ticks, simulate_ticks
from research.worlds import SCRIPT, World, full_world, momentum_world, script_decision, script_world

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 2)
DECIDE = {"momentum": momentum_decision, "script": script_decision}
MS = 1_000_000  # ns
MINUTE = 60_000


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def judge(world: World, exec_ms: np.ndarray, seen: Ticks, end_ms: int) -> list[dict]:
    """The rules once more, as a live process meets them: one event after the other, nothing looked up ahead."""
    rows = world.rows()
    multiples = dict.fromkeys((1, -1), [1.0] * len(exec_ms))
    if world.multiples is not None:
        multiples = dict(zip((1, -1), world.multiples.tolist(), strict=True))
    bars = {name: column.tolist() for name, column in zip(Market._fields, world.market, strict=True)}
    trades: list[dict] = []
    last_price, bid, ask, quote_ns, mark_ns = math.nan, math.nan, math.nan, None, None
    position, funding_usdt, is_moving, row, next_allowed = None, 0.0, False, -1, 0
    waiting, entry_ms = None, 0
    days = [0] * len(exec_ms) if world.days is None else world.days.tolist()
    net_usdt = dict.fromkeys(days, 0.0)

    def close(reason: int, ns: int) -> None:
        nonlocal position, next_allowed
        touch = bid if position.side > 0 else ask
        if reason == LIQUIDATION:
            price = position.bankruptcy
        elif quote_ns is not None and ns - quote_ns <= 2_000 * MS and not math.isnan(touch):
            price = touch * (1.0 - position.side * (world.terms.slippage_bps / 1e4))
        else:
            half_spread_bps = bars["half_spread_bps"][row]
            price = reference._market_order(-position.side, last_price, half_spread_bps, world.terms)
        fee_usdt = price * position.quantity * world.terms.taker_fee_bps / 1e4
        position.fees_usdt += fee_usdt
        net_usdt[days[row]] += position.side * position.quantity * (price - position.entry_price) - fee_usdt
        trades.append(_told(position, row, price, reason, ns // MS + (ns % MS > 0), funding_usdt, entry_ms))
        position, next_allowed = None, row + 1 + max(1, world.terms.cooldown_bars)

    for ns, _, kind, k in _events(exec_ms, seen, end_ms):
        if waiting is not None and ns > waiting.until_ns:
            waiting, next_allowed = None, row + 2
        if kind == "trade":
            last_price = price = float(seen.trade_price[k])
            if waiting is not None and _is_through(waiting, price, world.terms):
                position, entry_ms, waiting = _filled(waiting, world.terms), ns // MS + (ns % MS > 0), None
                position.fill_row = row
                net_usdt[days[position.entry_row]] -= position.fees_usdt
                funding_usdt, is_moving = 0.0, False
                continue
            if position is None:
                continue
            is_deaf = mark_ns is None or ns - mark_ns > 10_000 * MS
            if is_deaf and position.fell_to(price, position.liquidation):
                close(LIQUIDATION, ns)
            elif is_deaf and position.fell_to(price, position.stop):
                close(STOP, ns)
            elif position.armed and position.fell_to(price, position.trailing_level()):
                close(TRAILING, ns)
            elif position.reached(price, position.target):
                close(TARGET, ns)
            else:
                position.extreme = position.better(position.extreme, price) if is_moving else price
                position.armed = position.armed or position.reached(price, position.activation)
                is_moving = True
        elif kind == "quote":
            quote_ns, bid, ask = ns, float(seen.bid[k]), float(seen.ask[k])
        elif kind == "mark":
            mark_ns = ns
            mark_price = float(seen.mark_price[k])
            if position is not None and position.fell_to(mark_price, position.liquidation):
                close(LIQUIDATION, ns)
            elif position is not None and position.fell_to(mark_price, position.stop):
                close(STOP, ns)
        elif kind == "funding" and position is not None:
            paid_usdt = position.side * position.quantity * float(seen.funding_per_unit[k])
            funding_usdt += paid_usdt
            net_usdt[days[row]] -= paid_usdt
        elif kind == "order":
            row = k
            is_busy = position is not None or waiting is not None
            if is_busy or row < next_allowed or not bars["can_enter"][row]:
                continue
            if net_usdt[days[row]] <= -world.terms.max_daily_loss_usdt:
                continue
            decision = DECIDE[world.module.NAME]({name: values[row] for name, values in rows.items()}, world.params)
            if decision.side:
                bar = {name: column[row] for name, column in bars.items()}
                is_fresh = quote_ns is not None and ns // MS - -(-quote_ns // MS) <= 2_000
                bar |= {"exec_open": last_price, "exec_bid": math.nan, "exec_ask": math.nan}
                bar |= {"exec_bid": bid, "exec_ask": ask} if is_fresh else {}
                multiple = multiples[decision.side][row]
                if not math.isnan(world.terms.rest_offset_bps):
                    waiting = _laid(decision, bar, world.terms, row, ns, multiple)
                    continue
                _, quantity = reference.ordered(decision, bar, world.terms, multiple)
                position = reference._enter(decision, bar, world.terms, row, quantity)
                net_usdt[days[row]] -= 0.0 if position is None else position.fees_usdt
                funding_usdt, is_moving, entry_ms = 0.0, False, ns // MS
    if position is not None:
        trades.append(_told(position, row, last_price, OPEN, end_ms - 1, funding_usdt, entry_ms))
    return trades


@dataclass(frozen=True)
class Waiting:
    """An entry that rests."""

    decision: Decision
    limit: float
    quantity: float
    row: int
    until_ns: int


def _laid(decision: Decision, bar: dict, terms: Terms, row: int, ns: int, multiple: float) -> Waiting | None:
    """The order as it arrives; None where it has no price or no size, or would take."""
    own, other, met = (bar[name] for name in ("bid", "ask", "exec_ask"))
    if decision.side < 0:
        own, other, met = (bar[name] for name in ("ask", "bid", "exec_bid"))
    met = bar["exec_open"] if math.isnan(met) else met
    if math.isnan(own) or math.isnan(other) or math.isnan(bar["exec_open"]):
        return None
    away = own * terms.rest_offset_bps / 1e4
    if terms.rest_offset_bps < 0.0 and abs(away) < terms.tick_size:
        away = -terms.tick_size
    if decision.side > 0:
        limit = reference.on_grid(min(own - away, other - terms.tick_size), terms.tick_size, up=False)
    else:
        limit = reference.on_grid(max(own + away, other + terms.tick_size), terms.tick_size, up=True)
    quantity = reference.quantity_of(limit, decision, multiple, terms)
    is_clear = decision.side * (met - limit) > 1e-6 * terms.tick_size
    if quantity <= 0.0 or not is_clear:
        return None
    return Waiting(decision, limit, quantity, row, ns + terms.rest_ms * MS)


def _is_through(waiting: Waiting, price: float, terms: Terms) -> bool:
    below = waiting.limit - price if waiting.decision.side > 0 else price - waiting.limit
    return below > 1e-6 * terms.tick_size


def _filled(waiting: Waiting, terms: Terms):
    """The position, entered at the limit for the maker's fee."""
    as_maker = terms._replace(slippage_bps=0.0, taker_fee_bps=terms.maker_fee_bps)
    unknown = dict.fromkeys(("bid", "ask", "exec_bid", "exec_ask", "half_spread_bps"), math.nan)
    bar = {"exec_open": waiting.limit, **unknown}
    return reference._enter(waiting.decision, bar, as_maker, waiting.row, waiting.quantity)


def _events(exec_ms: np.ndarray, seen: Ticks, end_ms: int):
    """(ns, order at one time, kind, place) of everything, in order."""
    ticks_ = [("trade", seen.trade_ns), ("quote", seen.quote_ns), ("mark", seen.mark_ns)]
    due = [("funding", seen.funding_ms), ("order", exec_ms)]
    streams = [
        [(ns, rank, kind, k) for k, ns in enumerate(times.tolist()) if ns <= end_ms * MS]
        for rank, (kind, times) in enumerate(ticks_)
    ]
    streams += [
        [(ms * MS, 3 + rank, kind, k) for k, ms in enumerate(times.tolist()) if ms < end_ms]
        for rank, (kind, times) in enumerate(due)
    ]
    return heapq.merge(*streams)


def _told(
    position, exit_row: int, exit_price: float, reason: int, exit_ms: int, funding_usdt: float, entry_ms: int
) -> dict:
    trade = reference._trade(position, exit_row, exit_price, reason, False)
    return {**trade, "funding_usdt": funding_usdt, "entry_ms": entry_ms, "exit_ms": exit_ms}


def random_ticks(world: World, seed: int) -> tuple[np.ndarray, Ticks, int]:
    """Times of the world's orders, and ticks that run through its execution bars: silences, ties, strays."""
    random = np.random.default_rng([seed, 3])
    market, n_rows = world.market, world.market.close.size
    late_ms = np.where(random.random(n_rows) < 0.05, 2 * MINUTE, random.integers(0, 3_000, n_rows))
    exec_ms = 1_764_331_200_000 + np.maximum.accumulate(np.arange(n_rows) * MINUTE + late_ms)
    end_ms = int(random.choice([exec_ms[-1] + MINUTE, *exec_ms[-n_rows // 3 :]]))

    def times(per_row: float, silences: int) -> np.ndarray:
        """Ascending ns; some on the very ms of an order, many on a coarse grid and so at one time."""
        ns = random.integers((exec_ms[0] - 5_000) * MS, (end_ms + 5_000) * MS, int(n_rows * per_row))
        coarse = random.random(ns.size) < 0.5
        ns[coarse] = ns[coarse] // (500 * MS) * (500 * MS)
        ns = np.concatenate([ns, random.choice(exec_ms, n_rows // 4) * MS])
        for start in random.choice(exec_ms, silences):
            ns = ns[(ns < start * MS) | (ns > (start + random.integers(2_000, 300_000)) * MS)]
        return np.sort(ns)

    paths = np.stack([market.exec_open, market.exec_high, market.exec_low, market.exec_close])
    paths = pl.DataFrame(paths.T).fill_nan(None).fill_null(strategy="forward").fill_null(strategy="backward").to_numpy()

    def last(ns: np.ndarray) -> np.ndarray:
        row = np.clip(np.searchsorted(exec_ms * MS, ns) - 1, 0, n_rows - 1)
        return paths[row, random.integers(0, 4, ns.size)]

    tick_size, trade_ns, quote_ns = world.terms.tick_size, times(6.0, 3), times(random.choice([0.0, 2.0, 10.0]), 3)
    on_time = random.random(n_rows) < 0.7
    quote_ns = np.sort(
        np.concatenate([quote_ns, exec_ms[on_time] * MS - random.integers(0, 2_500 * MS, on_time.sum())])
    )
    mark_ns = times(random.choice([0.0, 3.0, 8.0]), 6)
    row = np.clip(np.searchsorted(exec_ms * MS, quote_ns), 0, n_rows - 1)
    near = np.where(random.random(quote_ns.size) < 0.5, market.exec_bid[row], last(quote_ns))
    bid = np.where(random.random(quote_ns.size) < 0.02, math.nan, near)
    basis = 1.0 + random.normal(0.0, 3e-4)
    funding_ms = np.sort(np.append(random.choice(exec_ms, 5), random.integers(exec_ms[0], end_ms, 10)))
    seen = Ticks(
        trade_ns=trade_ns,
        trade_price=last(trade_ns),
        quote_ns=quote_ns,
        bid=bid,
        ask=bid + tick_size * random.choice([1, 1, 2, 5], quote_ns.size),
        mark_ns=mark_ns,
        mark_price=last(mark_ns) * basis,
        funding_ms=funding_ms,
        funding_per_unit=random.normal(0.0, 2e-4, funding_ms.size) * paths[0, 0],
    )
    return exec_ms, seen, end_ms


def simulated(world: World, exec_ms: np.ndarray, seen: Ticks, end_ms: int) -> np.ndarray:
    w = world
    return simulate_ticks(
        w.module, w.market, w.features, w.params, w.terms, exec_ms, seen, end_ms, multiples=w.multiples, days=w.days
    )


EXACT = ("entry_row", "fill_row", "exit_row", "side", "reason", "entry_ms", "exit_ms", "is_ambiguous", "at_open")
NUMBERS = tuple(name for name in TICK_TRADE.names if name not in EXACT)


def with_rest(world: World, seed: int) -> World:
    """The world with entries that rest: before the touch, at it or behind it, for moments or for bars."""
    random = np.random.default_rng([seed, 6])
    move_bps = float(np.nanmedian((world.market.exec_high - world.market.exec_low) / world.market.exec_open)) * 1e4
    offset_bps = move_bps * float(random.choice([-0.5, -0.01, 0.0, 0.1, 0.5]))
    rest_ms = int(random.choice([1, 30_000, MINUTE, 3 * MINUTE + 1, 10 * MINUTE]))
    terms = world.terms._replace(maker_fee_bps=float(random.choice([-0.5, 0.0, 2.0])))
    return replace(world, terms=terms._replace(rest_offset_bps=offset_bps, rest_ms=rest_ms))


def agreed(world: World, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The trades that both find, and when the orders met the market."""
    exec_ms, seen, end_ms = random_ticks(world, seed)
    ours, theirs = simulated(world, exec_ms, seen, end_ms), judge(world, exec_ms, seen, end_ms)
    for k, (trade, other) in enumerate(zip(ours, theirs, strict=False)):
        told = {name: (trade[name], other[name]) for name in EXACT if trade[name] != other[name]}
        assert not told, f"seed {seed}, trade {k}: {told}"
        for name in NUMBERS:
            both_absent = math.isnan(trade[name]) and math.isnan(other[name])
            is_same = math.isclose(trade[name], other[name], rel_tol=1e-12, abs_tol=1e-12)
            assert both_absent or is_same, f"seed {seed}, trade {k}: {name} {trade[name]} against {other[name]}"
    assert len(ours) == len(theirs), f"seed {seed}: {len(ours)} trades against {len(theirs)}"
    return ours, exec_ms


@pytest.mark.parametrize("make_world", [momentum_world, script_world])
def test_the_scan_trades_as_a_judge_that_hears_one_event_at_a_time(make_world):
    n_trades, ways_out = 0, set()
    for seed in SEEDS:
        ours, _ = agreed(full_world(make_world, seed), seed)
        n_trades += len(ours)
        ways_out |= {(trade["reason"], trade["side"]) for trade in ours}
    assert n_trades > 5 * len(SEEDS)
    assert ways_out == {(reason, side) for reason in (OPEN, STOP, TARGET, TRAILING, LIQUIDATION) for side in (1, -1)}


@pytest.mark.parametrize("make_world", [momentum_world, script_world])
def test_entries_that_rest_are_filled_and_die_as_the_judge_hears_it(make_world):
    seeds, rested = SEEDS[::16], 0
    for seed in seeds:
        ours, exec_ms = agreed(with_rest(full_world(make_world, seed), seed), seed)
        rested += (ours["entry_ms"] != exec_ms[ours["entry_row"]]).sum()
    assert rested > len(seeds), rested


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "scrambled"])
@pytest.mark.parametrize("make_world", [momentum_world, script_world])
def test_a_trade_that_ended_knows_nothing_that_came_after_it(make_world, is_cut):
    for seed in range(40):
        world = make_world(seed)
        exec_ms, seen, end_ms = random_ticks(world, seed)
        whole = simulated(world, exec_ms, seen, end_ms)
        for now in np.random.default_rng(seed).choice(exec_ms, 5):
            market = world.market._replace(
                **{
                    name: np.where(exec_ms > now, column * 1.01, column)
                    for name, column in world.market._asdict().items()
                    if name != "can_enter"
                }
            )
            changed = simulated(replace(world, market=market), exec_ms, _changed_after(seen, now, is_cut), end_ms)
            for run_, other in ((whole, changed), (changed, whole)):
                past = run_[(run_["reason"] != OPEN) & (run_["exit_ms"] <= now)]
                assert past.tobytes() == other[: len(past)].tobytes(), f"seed {seed}"


def _changed_after(seen: Ticks, now_ms: int, is_cut: bool) -> Ticks:
    known = {"trade": seen.trade_ns, "quote": seen.quote_ns, "mark": seen.mark_ns, "funding": seen.funding_ms * MS}
    changed = {}
    for name, column in seen._asdict().items():
        kind = {"bid": "quote", "ask": "quote"}.get(name, name.split("_")[0])
        is_future = known[kind] > now_ms * MS
        if is_cut:
            changed[name] = column[~is_future]
        else:
            changed[name] = np.where(is_future, column * 0.97, column) if column.dtype == np.float64 else column
    return Ticks(**changed)
