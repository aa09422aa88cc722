"""A sweep as written in its TOML file, and the configs it consists of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np

from research import factorised
from research.bars import Substitutions
from research.completeness import MIN_COVERAGE
from research.engine import TradingConfig
from research.exposure import SharedLimits
from research.order_settings import Costs, Orders
from research.resting_bars import TOGETHER, refuse_short_life
from research.search import Axis, Range, Search, combinations, draw, nearest, varies
from research.strategies.registry import strategy

MIN_PLACEBOS = 20
FACTORISED_FROM_CONFIGS = 256  # fewer are quickly simulated one by one
MAX_WINDOWS = 256  # of one parameter: each is a column of its own over all rows


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Rolling walk-forward: train, pause, test; the next fold starts one test length later."""

    train_days: float
    test_days: float
    embargo_bars: int  # rows between train and test: at least the longest window; add the longest hold
    holdout_days: float = 0.0  # the last days, which no search sees; promotion opens them once

    def __post_init__(self) -> None:
        for name in ("train_days", "test_days"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name):g} is no length of time: make it greater than 0")
        if self.embargo_bars < 0:
            raise ValueError(
                f"embargo_bars {self.embargo_bars} makes test rows overlap the train rows before them: make it 0 or "
                "more, at least the longest window"
            )
        if not self.holdout_days >= 0.0:
            raise ValueError(f"holdout_days {self.holdout_days:g} is negative: make it 0 for none, or some days")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A sweep as written in its TOML file. Money has no defaults."""

    name: str
    strategy: str
    symbols: tuple[str, ...]
    start: datetime  # UTC, inclusive
    end: datetime  # UTC, exclusive
    grid: dict[str, tuple[float, ...]]
    costs: Costs
    orders: Orders
    folds: Folds
    capital_usdt: float  # returns and drawdowns are fractions of this
    min_trades: int  # a config with fewer trades on a train fold cannot be picked
    interval: str = "1m"
    prices: str = "aster"  # venue whose market is traded; another one's stands in where Aster's was not recorded
    substitutions: Substitutions = field(default_factory=Substitutions)
    search: Search = field(default_factory=Search)
    portfolio: SharedLimits | None = None  # of all symbols together; the search, symbol by symbol, knows none of it
    selection: Literal["plateau", "best"] = "plateau"
    top: int = 20  # configs whose accounting VectorBT confirms
    placebos: int = 200  # of each kind, among which the record is ranked
    min_coverage: float = MIN_COVERAGE  # fraction of the bars that must have been seen

    def __post_init__(self) -> None:
        names, given = strategy(self.strategy).Params._fields, [*self.grid, *self.search.ranges]
        unknown = sorted(set(given) - set(names))
        missing = sorted(set(names) - set(given))
        empty = sorted(name for name, values in self.grid.items() if not values)
        if unknown or missing or empty:
            raise ValueError(
                f"[grid] of {self.strategy}: unknown parameters {unknown}, missing parameters {missing}, "
                f"without values {empty}; a fixed parameter is a list of one value"
            )
        if not self.is_grid:
            self._refuse_search()
        refuse_short_life(self.orders, self.interval)
        if not self.start < self.end:
            raise ValueError(f"start {self.start:%Y-%m-%d %H:%M} is not before end {self.end:%Y-%m-%d %H:%M}")
        if not self.symbols:
            raise ValueError("symbols is empty: name at least one")
        if self.orders.resting is not None and len(self.symbols) > 1:
            raise ValueError(TOGETHER)
        if self.portfolio is not None:
            self._refuse_portfolio(self.portfolio)
        if self.placebos < MIN_PLACEBOS:
            raise ValueError(
                f"placebos {self.placebos} is under {MIN_PLACEBOS}: a rank of 5 % cannot be told from so few"
            )
        if not 0.0 <= self.min_coverage <= 1.0:
            raise ValueError(
                f"min_coverage {self.min_coverage:g} is no fraction of the bars; write 0 to 1, such as 0.999"
            )

    def _refuse_portfolio(self, limits: SharedLimits) -> None:
        """Raise on shared limits that mean nothing, saying what to change."""
        if len(self.symbols) < 2:
            raise ValueError("[portfolio] limits what several symbols hold together, and there is one: leave it out")
        most_usdt = limits.max_total_notional_usdt
        if most_usdt is not None and self.orders.risk_usdt is None and most_usdt < self.orders.notional_usdt:
            raise ValueError(
                f"[portfolio] max_total_notional_usdt {most_usdt:g} is under the notional of one trade "
                f"({self.orders.notional_usdt:g}): nothing would be entered; raise it, or lower notional_usdt"
            )

    def _refuse_search(self) -> None:
        """Raise on what cannot be searched, saying what to change."""
        ranges, asked = self.search.ranges, self.search.configs
        if twice := sorted(set(self.grid) & set(ranges)):
            raise ValueError(f"{twice} have a list in [grid] and a range in [search.ranges]: leave one of them out")
        for name, values in ranges.items():
            if name.endswith("_bars") and (values.step is None or values.low % 1.0 or values.step % 1.0):
                raise ValueError(
                    f"[search.ranges] {name} counts bars: start at a whole number and add a whole step, such as 1"
                )
            if name.endswith("_window_bars") and values.count > MAX_WINDOWS:
                raise ValueError(
                    f"[search.ranges] {name} has {values.count} windows, and each is a feature held in memory; "
                    f"widen its step so that there are at most {MAX_WINDOWS}"
                )
        if combinations(self.axes) <= asked:
            raise ValueError(
                f"[search] asks for {asked} configs of {combinations(self.axes)} that there are: leave [search] out "
                "and write every parameter as a list in [grid], or give more of them a range"
            )
        if self.selection == "plateau" and self.search.method == "optuna":
            raise ValueError(
                'selection "plateau" goes by what lies around a config, and Optuna looks hardly anywhere but near the '
                'best; write selection = "best", or set the search\'s method to sobol'
            )

    @property
    def is_grid(self) -> bool:
        """True when every combination of the lists is evaluated."""
        return self.search.method == "grid"

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What each parameter may be, in the order of the strategy's ``Params``."""
        given = {name: tuple(map(float, values)) for name, values in self.grid.items()} | self.search.ranges
        return tuple(given[name] for name in strategy(self.strategy).Params._fields)

    @property
    def swept(self) -> tuple[str, ...]:
        """Parameters that have more than one value."""
        names = strategy(self.strategy).Params._fields
        return tuple(name for name, axis in zip(names, self.axes, strict=True) if varies(axis))

    @property
    def shape(self) -> tuple[int, ...]:
        """Values per parameter of a grid, in the order of the strategy's ``Params``."""
        return tuple(len(self.grid[name]) for name in strategy(self.strategy).Params._fields)

    @property
    def is_factorised(self) -> bool:
        """True when ``research.factorised`` sweeps the grid: its terms are met, and the configs are many."""
        can = factorised.is_split(strategy(self.strategy)) and self.orders.max_daily_loss_usdt is None
        can = can and self.orders.resting is None
        return self.is_grid and can and self.n_configs >= FACTORISED_FROM_CONFIGS

    @property
    def n_configs(self) -> int:
        """How many configs are evaluated on every fold."""
        return math.prod(self.shape) if self.is_grid else len(self.listed)

    @cached_property
    def listed(self) -> np.ndarray:
        """The configs of a search beyond the grid: float64 of shape (n_configs, n_params)."""
        assert self.search.method in ("random", "sobol"), "Optuna's configs are known to a FoundSweep"
        return draw(self.search, self.axes)

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Of every listed config the numbers of itself and its nearest; see ``search.nearest``."""
        return nearest(self.axes, self.listed)

    def table(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Configs [first, last) by their number: float64 of shape (n_configs, n_params).

        A grid numbers its combinations with the last parameter fastest.
        """
        last = self.n_configs if last is None else last
        if not self.is_grid:
            return self.listed[first:last]
        places = np.unravel_index(np.arange(first, last), self.shape)
        return np.column_stack([np.array(axis)[place] for axis, place in zip(self.axes, places, strict=True)])

    def params(self, number: int) -> tuple:
        """The config of a number, as the strategy's ``Params``."""
        return strategy(self.strategy).Params(*self.table(number, number + 1)[0].tolist())

    def params_of(self, row: Mapping) -> tuple:
        """The config of a row of the ranked table, as the strategy's ``Params``."""
        params = strategy(self.strategy).Params
        return params(*(float(row[name]) for name in params._fields))

    def examples(self) -> list[tuple]:
        """Few configs, in which every value of every list and both ends of every range occur."""
        values = [(axis.low, axis.high) if isinstance(axis, Range) else axis for axis in self.axes]
        params = strategy(self.strategy).Params
        longest = max(map(len, values))
        return [params(*(each[min(k, len(each) - 1)] for each in values)) for k in range(longest)]

    @cached_property
    def window_settings(self) -> np.ndarray:
        """A config for every setting of the windows, which alone choose features (``kernel.feature_names``).

        Of an optimiser, which has not chosen yet, those of ``examples``.
        """
        is_window = [name.endswith("_window_bars") for name in strategy(self.strategy).Params._fields]
        if self.is_grid:
            values = [axis if is_one else axis[:1] for axis, is_one in zip(self.axes, is_window, strict=True)]
            return np.stack(np.meshgrid(*values, indexing="ij"), axis=-1).reshape(-1, len(values))
        if self.search.method == "optuna":
            return np.array(self.examples())
        _, first = np.unique(self.listed[:, is_window], axis=0, return_index=True)
        return self.listed[first]

    def trading_config(self, symbol: str, params: tuple) -> TradingConfig:
        """One row of the sweep as the object that is promoted."""
        return TradingConfig(
            strategy=self.strategy,
            symbol=symbol,
            params=params._asdict(),
            costs=self.costs,
            orders=self.orders,
            substitutions=self.substitutions,
            interval=self.interval,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundSweep(SweepConfig):
    """A sweep whose optimiser is done: it goes on over what was found.

    Parameters
    ----------
    found : float64, shape (n_configs, n_params). Configs of all folds and symbols, each once.
    """

    found: np.ndarray

    @property
    def listed(self) -> np.ndarray:
        """What was found."""
        return self.found
