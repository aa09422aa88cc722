"""Several symbols on one account, before the plain-Python reference and beside the kernel.

The judge hears 80 random accounts; ``ASTER_JUDGE_PAIRS=20000`` asks for 800.
"""

import math
import os

import numpy as np
import pytest

from research import kernel, portfolio, reference, reference_portfolio
from research.exposure import SharedLimits, SharedTerms
from research.fills import Market
from research.sizing import unscaled
from research.strategies import compiled
from research.tests.test_judges import DECIDE, assert_same_trades
from research.worlds import SCRIPT, World, full_world, script_world

SEEDS = range(int(os.environ.get("ASTER_JUDGE_PAIRS", "2000")) // 25)


@pytest.fixture(autouse=True)
def known_script(monkeypatch):
    monkeypatch.setitem(compiled._MODULE_OF, SCRIPT.Params, SCRIPT)


def account(seed: int) -> tuple[list[World], np.ndarray, list[np.ndarray]]:
    """Two to four worlds of the script, as long as the shortest, their days and when their rows were known."""
    random = np.random.default_rng([seed, 9])
    worlds = [full_world(script_world, 4 * seed + k) for k in range(random.integers(2, 5))]
    n_rows = min(world.market.close.size for world in worlds)
    row_ms = 60_000 * np.arange(n_rows)
    known_ms = [row_ms + random.choice([1_300, 2_700, 3_000], n_rows) for _ in worlds]
    days = 20_000 + np.cumsum(random.random(n_rows) < random.choice([0.0, 0.02, 0.1]))
    return worlds, days, known_ms


def limits_of(seed: int, worlds: list[World]) -> SharedTerms:
    """Limits that now one, now another, now none of the entries meets."""
    random = np.random.default_rng([seed, 10])
    usdt = sum(world.terms.notional_usdt for world in worlds)
    return SharedTerms(
        max_open_positions=float(random.choice([1, 2, 3, math.inf])),
        max_total_notional_usdt=float(random.choice([0.4 * usdt, 0.8 * usdt, math.inf])),
        max_daily_loss_usdt=float(random.choice([usdt * 10 ** random.uniform(-4.0, -1.5), math.inf])),
    )


def books_of(worlds: list[World], n_rows: int, known_ms: list[np.ndarray]) -> list[portfolio.Book]:
    return [
        portfolio.Book(
            market=Market(*(column[:n_rows] for column in world.market)),
            features={name: column[:n_rows] for name, column in world.features.items()},
            params=world.params,
            terms=world.terms,
            multiples=(unscaled(n_rows) if world.multiples is None else world.multiples)[:, :n_rows],
            avail_ms=known,
        )
        for world, known in zip(worlds, known_ms, strict=True)
    ]


def judged_books(worlds: list[World], days: np.ndarray) -> list[reference.Book]:
    return [
        reference.Book(
            world.market, world.rows(None), world.params, world.terms, DECIDE[world.module.NAME],
            None if world.multiples is None else dict(zip((1, -1), world.multiples.tolist(), strict=True)),
            days.tolist(),
        )
        for world in worlds
    ]  # fmt: skip


def test_the_joint_walk_trades_as_the_reference_does():
    n_trades = n_refused = 0
    for seed in SEEDS:
        worlds, days, known_ms = account(seed)
        limits = limits_of(seed, worlds)
        ours = portfolio.simulate(worlds[0].module, books_of(worlds, days.size, known_ms), days, limits)
        theirs = reference_portfolio.simulate(
            judged_books(worlds, days), [known.tolist() for known in known_ms], days.tolist(), *limits
        )
        for k, record in enumerate(theirs.records):
            which = f"seed {seed}, book {k}"
            assert_same_trades(ours.trades[k], record.trades, which)
            np.testing.assert_allclose(np.cumsum(ours.bar_pnl[k]), record.equity_usdt, rtol=0, atol=1e-9, err_msg=which)
            n_trades += len(record.trades)
        assert ours.refused.tolist() == theirs.refused, f"seed {seed}"
        n_refused += sum(theirs.refused)
    assert n_trades > 5 * len(SEEDS) and n_refused > 5 * len(SEEDS)


def test_without_a_limit_every_symbol_trades_as_it_does_alone_to_the_last_bit():
    for seed in range(10):
        worlds, days, known_ms = account(seed)
        books = books_of(worlds, days.size, known_ms)
        ours = portfolio.simulate(worlds[0].module, books, days, SharedTerms())
        for k, book in enumerate(books):
            alone = kernel.simulate(
                worlds[0].module, book.market, book.features, book.params, book.terms, multiples=book.multiples,
                days=days,
            )  # fmt: skip
            assert ours.trades[k].tobytes() == alone.trades.tobytes()
            assert ours.bar_pnl[k].tobytes() == alone.bar_pnl.tobytes()
        assert ours.refused.sum() == 0


def test_limits_that_limit_nothing_are_refused():
    with pytest.raises(ValueError, match="limits nothing: give one of max_open_positions"):
        SharedLimits()
    with pytest.raises(ValueError, match="max_open_positions 0 must be above 0"):
        SharedLimits(max_open_positions=0)
