"""Parameter grids, walk-forward folds and the selection procedure that is scored on them.

The search sees train folds only. Per fold every config is evaluated on its train rows and, separately, on its test
rows; the procedure picks a config from the train statistics alone, and what is reported is what following the
procedure would have traded in the test rows.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from data.schema import interval_ms
from research import factorised, kernel
from research.bars import Bars, Substitutions
from research.completeness import MIN_COVERAGE, require_coverage
from research.daily_loss import days_of
from research.engine import TradingConfig, feature_arrays, feature_names, market_of, refusals, terms_of
from research.features import lookback_bars
from research.fills import Costs, Orders
from research.metrics import MINUTES_PER_YEAR, sharpe_from_sums
from research.sizing import size_multiples
from research.strategies.registry import strategy

CONFIGS_PER_BLOCK = 8_192
MIN_PLACEBOS = 20
FACTORISED_CONFIGS_PER_BLOCK = 262_144  # seconds of work; the outcomes are found anew for every block
FACTORISED_FROM_CONFIGS = 256  # fewer are quickly simulated one by one


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Rolling walk-forward: train, pause, test; the next fold starts one test length later."""

    train_days: float
    test_days: float
    embargo_bars: int  # rows between train and test: at least the longest window; add the longest hold
    holdout_days: float = 0.0  # the last days, which no search sees; promotion opens them once


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
    substitutions: Substitutions = field(default_factory=Substitutions)
    selection: Literal["plateau", "best"] = "plateau"
    top: int = 20  # configs whose accounting VectorBT confirms
    placebos: int = 200  # of each kind, among which the record is ranked
    min_coverage: float = MIN_COVERAGE  # fraction of the bars that must have been seen

    def __post_init__(self) -> None:
        names = strategy(self.strategy).Params._fields
        unknown = sorted(set(self.grid) - set(names))
        missing = sorted(set(names) - set(self.grid))
        empty = sorted(name for name, values in self.grid.items() if not values)
        if unknown or missing or empty:
            raise ValueError(
                f"[grid] of {self.strategy}: unknown parameters {unknown}, missing parameters {missing}, "
                f"without values {empty}; a fixed parameter is a list of one value"
            )
        if not self.start < self.end:
            raise ValueError(f"start {self.start:%Y-%m-%d %H:%M} is not before end {self.end:%Y-%m-%d %H:%M}")
        if not self.symbols:
            raise ValueError("symbols is empty: name at least one")
        if self.placebos < MIN_PLACEBOS:
            raise ValueError(
                f"placebos {self.placebos} is under {MIN_PLACEBOS}: a rank of 5 % cannot be told from so few"
            )
        if not 0.0 <= self.min_coverage <= 1.0:
            raise ValueError(
                f"min_coverage {self.min_coverage:g} is no fraction of the bars; write 0 to 1, such as 0.999"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Values per parameter, in the order of the strategy's ``Params``."""
        return tuple(len(self.grid[name]) for name in strategy(self.strategy).Params._fields)

    @property
    def is_factorised(self) -> bool:
        """True when ``research.factorised`` sweeps the grid: its terms are met, and the configs are many."""
        can = factorised.is_split(strategy(self.strategy)) and self.orders.max_daily_loss_usdt is None
        return can and math.prod(self.shape) >= FACTORISED_FROM_CONFIGS

    def configs(self) -> list[tuple]:
        """Every configuration of the product grid, last parameter fastest."""
        params = strategy(self.strategy).Params
        values = [[float(value) for value in self.grid[name]] for name in params._fields]
        return [params(*combination) for combination in itertools.product(*values)]

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


@dataclass(frozen=True)
class Fold:
    """Row ranges of one fold: [train_first, train_last) and [test_first, test_last)."""

    number: int
    train_first: int
    train_last: int
    test_first: int
    test_last: int


@dataclass(frozen=True)
class Block:
    """A piece of work: some configs of one symbol on one part of one fold."""

    symbol: str
    fold: Fold
    part: Literal["train", "test"]
    first_config: int
    last_config: int

    @property
    def name(self) -> str:
        """Name of its result file."""
        return f"{self.symbol}-fold{self.fold.number:02d}-{self.part}-{self.first_config:08d}"

    @property
    def first(self) -> int:
        """First row."""
        return self.fold.train_first if self.part == "train" else self.fold.test_first

    @property
    def last(self) -> int:
        """The row behind the last."""
        return self.fold.train_last if self.part == "train" else self.fold.test_last

    @property
    def rows(self) -> int:
        """How many rows it looks at."""
        return self.last - self.first


def bars_per_year(interval: str) -> float:
    """Bars in 365 days."""
    return MINUTES_PER_YEAR / (interval_ms(interval) / 60_000)


def search_rows(config: SweepConfig, n_rows: int) -> int:
    """How many of the rows a search may see: those before the holdout."""
    return n_rows - round(config.folds.holdout_days * 86_400_000 / interval_ms(config.interval))


def folds_of(config: SweepConfig, n_rows: int) -> list[Fold]:
    """Walk-forward folds over the rows before the holdout; the last test may be shorter, never under half.

    Raises
    ------
    ValueError
        When not even one fold fits, or the embargo is shorter than what the features of the grid look back.
    """
    per_day = 86_400_000 / interval_ms(config.interval)
    train, test = round(config.folds.train_days * per_day), round(config.folds.test_days * per_day)
    before = lookback_bars(kernel.feature_names(strategy(config.strategy), config.configs())) - 1
    if config.folds.embargo_bars < before:
        raise ValueError(
            f"[folds] embargo_bars {config.folds.embargo_bars} is under the {before} rows that the grid's features "
            "look back: test rows would share inputs with train rows"
        )
    folds = []
    start, n_rows = 0, search_rows(config, n_rows)
    while True:
        test_first = start + train + config.folds.embargo_bars
        test_last = min(test_first + test, n_rows)
        if test_last - test_first < max(test // 2, 1):
            break
        folds.append(Fold(len(folds) + 1, start, start + train, test_first, test_last))
        start += test
    if not folds:
        needed = (train + config.folds.embargo_bars + test) / per_day
        raise ValueError(
            f"no fold fits: one needs {needed:.1f} days, the range has {n_rows / per_day:.1f} before the holdout"
        )
    return folds


def blocks_of(config: SweepConfig, symbol: str, folds: list[Fold]) -> list[Block]:
    """All work for one symbol, in order."""
    n_configs = int(np.prod(config.shape))
    step = FACTORISED_CONFIGS_PER_BLOCK if config.is_factorised else CONFIGS_PER_BLOCK
    edges = [*range(0, n_configs, step), n_configs]
    return [
        Block(symbol, fold, part, first, last)
        for fold in folds
        for part in ("train", "test")
        for first, last in itertools.pairwise(edges)
    ]


class Evaluator:
    """Evaluates blocks of one symbol: features once, then the kernel per block. Refuses bars seen too little.

    A grid that can be factorised takes ``research.factorised``, every other one the fused kernel.
    """

    def __init__(self, config: SweepConfig, bars: Bars) -> None:
        require_coverage(bars, config.min_coverage)
        self._config = config
        self._module = strategy(config.strategy)
        self._configs = config.configs()
        instrument = bars.instrument
        for params in self._configs:
            if reasons := refusals(config.trading_config(bars.symbol, params), instrument):
                raise ValueError(f"{bars.symbol} {params}: not executable: " + "; ".join(reasons))
        self._market = market_of(bars, config.orders)
        self._features = feature_arrays(bars, config.costs, feature_names(self._module, self._configs, config.orders))
        self._terms = terms_of(config.costs, config.orders, instrument)
        self._multiples = size_multiples(config.orders.open_interest_size, self._features, bars.frame.height)
        self._days = days_of(bars.frame)
        # One row of one config: the kernel is compiled here, once, and not in the time of the first block.
        self._sweep(0, 1, 0, 1)

    def __call__(self, block: Block) -> pl.DataFrame:
        """Statistics per config of the block: ``config`` (its number) and a column per name in ``kernel.STATS``."""
        n_configs = block.last_config - block.first_config
        stats = self._sweep(block.first_config, block.last_config, block.first, block.last)
        sharpe = sharpe_from_sums(
            stats["net_pnl_usdt"], stats["bar_pnl_squared"], block.rows, bars_per_year(self._config.interval)
        )
        return pl.DataFrame(
            {
                "symbol": pl.repeat(block.symbol, n_configs, eager=True),
                "fold": pl.repeat(block.fold.number, n_configs, dtype=pl.Int64, eager=True),
                "part": pl.repeat(block.part, n_configs, eager=True),
                "config": np.arange(block.first_config, block.last_config),
                "sharpe": sharpe,
                **stats,
            }
        )

    def _sweep(self, first_config: int, last_config: int, first: int, last: int) -> dict[str, np.ndarray]:
        """Statistics of configs [first_config, last_config) over rows [first, last)."""
        if self._config.is_factorised:
            return factorised.sweep(
                self._module, self._market, self._features, self._config.grid, self._terms, first, last,
                multiples=self._multiples, first_config=first_config, last_config=last_config,
            )  # fmt: skip
        return kernel.sweep(
            self._module, self._market, self._features, self._configs[first_config:last_config], self._terms, first,
            last, multiples=self._multiples, days=self._days,
        )  # fmt: skip


def neighbour_scores(scores: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lower quartile of each config's score among itself and its grid neighbours (one step in one parameter).

    A config whose neighbours fail is luck. NaN scores (too few trades) count as worst; neighbours beyond the edge of
    the grid do not exist and do not count.

    Parameters
    ----------
    scores : float64, shape (n_configs,), in the order of ``SweepConfig.configs``.
    """
    grid = np.where(np.isnan(scores), -np.inf, scores).reshape(shape)
    layers = [grid]
    for axis, length in enumerate(shape):
        if length == 1:
            continue
        edge = np.full_like(np.take(grid, [0], axis=axis), np.nan)
        body = [slice(None)] * len(shape)
        body[axis] = slice(1, None)
        layers.append(np.concatenate([grid[tuple(body)], edge], axis=axis))
        body[axis] = slice(None, -1)
        layers.append(np.concatenate([edge, grid[tuple(body)]], axis=axis))
    stacked = np.sort(np.stack(layers).reshape(len(layers), -1), axis=0)  # NaN sorts last
    present = np.sum(~np.isnan(stacked), axis=0)
    return stacked[(present - 1) // 4, np.arange(stacked.shape[1])]


def selection_scores(config: SweepConfig, train: pl.DataFrame) -> np.ndarray:
    """Score per config on one train fold, by which the procedure picks; -inf cannot be picked."""
    scores = np.where(train["trades"].to_numpy() >= config.min_trades, train["sharpe"].to_numpy(), np.nan)
    if config.selection == "plateau":
        # A config that may not be picked itself stays out even where its neighbours shine.
        return np.where(np.isnan(scores), -np.inf, neighbour_scores(scores, config.shape))
    return np.where(np.isnan(scores), -np.inf, scores)


def results_table(config: SweepConfig, evaluated: pl.DataFrame) -> pl.DataFrame:
    """The ranked table of one or more symbols: a row per (symbol, config), rank 1 first.

    Ranked by the median over train folds of the selection score; test-fold columns are shown and never rank.
    """
    params = config.configs()
    grid = pl.DataFrame(params, schema=list(params[0]._fields), orient="row").with_row_index("config")
    grid = grid.with_columns(pl.col("config").cast(pl.Int64))
    tables = []
    for (symbol,), part in evaluated.group_by("symbol", maintain_order=True):
        scores = [
            selection_scores(config, fold.filter(pl.col("part") == "train").sort("config"))
            for _, fold in part.group_by("fold", maintain_order=True)
        ]
        tables.append(
            grid.with_columns(pl.lit(symbol).alias("symbol"), pl.Series("score", np.median(np.stack(scores), axis=0)))
            .join(_fold_medians(part, "train", "in_sample"), on="config")
            .join(_fold_medians(part, "test", "out_of_sample"), on="config")
            .sort("score", "config", descending=[True, False])
            .with_columns(pl.int_range(1, pl.len() + 1).alias("rank"))
        )
    table = pl.concat(tables)
    lead = ["symbol", "rank", "config", "score"]
    return table.select(*lead, *(name for name in table.columns if name not in lead))


def _fold_medians(part: pl.DataFrame, which: str, prefix: str) -> pl.DataFrame:
    return (
        part.filter(pl.col("part") == which)
        .group_by("config")
        .agg(
            pl.col("sharpe").fill_nan(0.0).median().alias(f"{prefix}_sharpe"),
            pl.col("net_pnl_usdt").sum().alias(f"{prefix}_net_pnl_usdt"),
            pl.col("trades").sum().alias(f"{prefix}_trades"),
            pl.col("max_drawdown_usdt").min().alias(f"{prefix}_max_drawdown_usdt"),
            pl.col("ambiguous_bars").sum().alias(f"{prefix}_ambiguous_bars"),
            pl.col("missed_entries").sum().alias(f"{prefix}_missed_entries"),
        )
    )


def picks(config: SweepConfig, evaluated: pl.DataFrame) -> Iterator[Mapping]:
    """What the procedure chose per (symbol, fold), from train statistics alone.

    Yields symbol, fold, config (its number, or None when no config had enough trades).
    """
    trained = evaluated.filter(pl.col("part") == "train")
    for (symbol, fold), train in trained.group_by("symbol", "fold", maintain_order=True):
        scores = selection_scores(config, train.sort("config"))
        best = int(np.argmax(scores))
        yield {"symbol": symbol, "fold": fold, "config": best if np.isfinite(scores[best]) else None}
