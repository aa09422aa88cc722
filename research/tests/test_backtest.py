"""VectorBT's second opinion on runs."""

import numpy as np
import pytest

from research import backtest, kernel
from research.strategies import momentum
from research.worlds import World, momentum_world

WORLD = momentum_world(13)


def run(world: World = WORLD) -> kernel.Run:
    w = world
    return kernel.simulate(w.module, w.market, w.features, w.params, w.terms, w.first, w.last)


def confirm(ours: kernel.Run) -> backtest.Confirmation:
    return backtest.confirm_accounting(ours, WORLD.market, WORLD.terms, WORLD.first, WORLD.last)


def test_a_run_is_confirmed_with_vectorbts_own_figures():
    ours = run()
    confirmed = confirm(ours)
    assert confirmed.judge.startswith("vectorbt ")
    assert confirmed.trades == len(ours.trades) > 10
    assert confirmed.fees_usdt == pytest.approx(ours.stats["fees_usdt"])
    equity_usdt = ours.stats["net_pnl_usdt"] + ours.stats["funding_usdt"]
    assert confirmed.pnl_before_funding_usdt == pytest.approx(equity_usdt)
    assert confirmed.worst_difference < 1e-12


def test_a_run_without_trades_is_confirmed():
    quiet = WORLD.market._replace(can_enter=np.zeros_like(WORLD.market.can_enter))
    ours = kernel.simulate(momentum, quiet, WORLD.features, WORLD.params, WORLD.terms)
    confirmed = backtest.confirm_accounting(ours, quiet, WORLD.terms)
    assert (confirmed.trades, confirmed.fees_usdt, confirmed.max_drawdown_usdt) == (0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["exit_price", "entry_price", "quantity", "fees_usdt"])
def test_a_trade_that_does_not_add_up_is_named(name):
    ours = run()
    trades = ours.trades.copy()
    trades[name][2] *= 1.0001
    with pytest.raises(backtest.JudgeDisagrees, match="fees of trade 2: the kernel says"):
        confirm(kernel.Run(trades=trades, bar_pnl=ours.bar_pnl, stats=ours.stats))


def test_equity_that_does_not_follow_from_the_trades_is_named_by_its_row():
    ours = run()
    bar_pnl = ours.bar_pnl.copy()
    bar_pnl[7] += 1e-6 * WORLD.terms.notional_usdt
    with pytest.raises(backtest.JudgeDisagrees, match="equity of row 7"):
        confirm(kernel.Run(trades=ours.trades, bar_pnl=bar_pnl, stats=ours.stats))


def test_a_wrong_drawdown_is_refused():
    ours = run()
    stats = ours.stats | {"max_drawdown_usdt": 0.999 * ours.stats["max_drawdown_usdt"]}
    with pytest.raises(backtest.JudgeDisagrees, match="drawdown"):
        confirm(kernel.Run(trades=ours.trades, bar_pnl=ours.bar_pnl, stats=stats))
