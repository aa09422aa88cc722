"""The test rows of a walk-forward record, ready to be traded again: on other data, or at other costs."""

from collections.abc import Mapping, Sequence

import numpy as np

from research import features, kernel
from research.bars import Bars
from research.daily_loss import days_of
from research.engine import exec_ms_of, feature_constants, feature_names, market_of, terms_of
from research.fills import Market
from research.overfitting import moments
from research.resting_bars import lives_of
from research.sizing import size_multiples
from research.strategies.registry import strategy
from research.sweep import Fold, SweepConfig
from research.totals import STATS
from research.trade_records import TRADE

Picks = Sequence[tuple[Fold, tuple | None]]  # per fold what the selection picked; None where it picked nothing
Arrays = Mapping[str, np.ndarray]


def with_pick(picks: Picks) -> list[tuple[Fold, tuple]]:
    """The folds on which something was picked."""
    return [(fold, params) for fold, params in picks if params is not None]


class Stage:
    """Rows of the picks' test folds, from the first pick to the last, with the history that their features read.

    Attributes
    ----------
    arrays : columns of the bars frame, float64.
    market, features : what the record itself traded on.
    names : every feature that a pick reads.
    """

    def __init__(self, config: SweepConfig, bars: Bars, picks: Picks) -> None:
        self._module = strategy(config.strategy)
        self._picks = picks
        self._terms = terms_of(config.costs, config.orders, bars.instrument)
        self._constants = feature_constants(config.costs, bars.instrument)
        self._size = config.orders.open_interest_size
        traded = with_pick(picks)
        self.names = feature_names(self._module, [params for _, params in traded], config.orders)
        self._first = max(0, traded[0][0].test_first - features.lookback_bars(self.names))
        rows = slice(self._first, traded[-1][0].test_last)
        self.arrays = {name: column[rows] for name, column in features.arrays_of(bars).items()}
        self.market = Market(*(column[rows] for column in market_of(bars, config.orders)))
        self._days = days_of(bars.frame)[rows]
        self._lives = lives_of(exec_ms_of(bars), self._terms)[rows] - self._first
        self.features = self.computed(self.arrays)

    def computed(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """The features of the picks from these columns."""
        return features.compute(arrays, self.names, constants=self._constants)

    def runs(self, market: Market, arrays: Arrays) -> list[kernel.Run]:
        """Every pick traded over its test rows of this market and these features; a fold without one stands flat."""
        multiples = size_multiples(self._size, arrays, len(market.close))
        done = []
        for fold, params in self._picks:
            if params is None:
                done.append(_flat(fold))
                continue
            # Cut to the fold first: the kernel looks at every row it is given before it begins. The row before the
            # fold stays: its last price tells an entry that rests whether it would take.
            first = fold.test_first - self._first
            before = min(first, 1)
            rows = slice(first - before, fold.test_last - self._first)
            run = kernel.simulate(
                self._module,
                Market(*(column[rows] for column in market)),
                {name: values[rows] for name, values in arrays.items()},
                params,
                self._terms,
                before,
                multiples=np.ascontiguousarray(multiples[:, rows]),
                days=self._days[rows],
                lives=self._lives[rows] - rows.start,
            )
            done.append(run)
        return done

    def pnl(self, market: Market, arrays: Arrays, period_bars: int) -> np.ndarray:
        """PnL per period of that many rows, USDT, fold after fold."""
        return _pnl(self.runs(market, arrays), period_bars)


def traded_again(config: SweepConfig, bars: Bars, picks: Picks, *, period_bars: int) -> dict[str, float]:
    """What the picks earn on these bars at the config's costs: net_pnl_usdt, trades and sharpe (per period)."""
    stage = Stage(config, bars, picks)
    runs = stage.runs(stage.market, stage.features)
    return {
        "net_pnl_usdt": float(sum(run.stats["net_pnl_usdt"] for run in runs)),
        "trades": float(sum(run.stats["trades"] for run in runs)),
        "sharpe": moments(_pnl(runs, period_bars)).sharpe,
    }


def _flat(fold: Fold) -> kernel.Run:
    """Staying out of the market over the fold's test rows."""
    return kernel.Run(
        trades=np.empty(0, TRADE), bar_pnl=np.zeros(fold.test_last - fold.test_first), stats=dict.fromkeys(STATS, 0.0)
    )


def _pnl(runs: Sequence[kernel.Run], period_bars: int) -> np.ndarray:
    """PnL per period of that many rows, run after run."""
    return np.concatenate([period_sums(run.bar_pnl, period_bars) for run in runs])


def period_sums(bar_pnl: np.ndarray, period_bars: int) -> np.ndarray:
    """PnL per period of that many rows; a last period of under half of them is left out unless it is the only one."""
    edges = np.arange(0, len(bar_pnl), period_bars)
    sums = np.add.reduceat(bar_pnl, edges)
    return sums[:-1] if len(edges) > 1 and 2 * (len(bar_pnl) - edges[-1]) < period_bars else sums
