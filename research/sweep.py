"""Parameter grids, walk-forward folds and the selection procedure that is scored on them.

The search sees train folds only. Per fold every config is evaluated on its train rows and, separately, on its test
rows; the procedure picks a config from the train statistics alone, and what is reported is what following the
procedure would have traded in the test rows.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import polars as pl

from data.schema import interval_ms
from research import factorised, kernel, listed
from research.bars import Bars
from research.completeness import require_coverage
from research.daily_loss import days_of
from research.engine import exec_ms_of, feature_arrays, feature_names, market_of, refusals, terms_of
from research.features import lookback_bars
from research.metrics import MINUTES_PER_YEAR, sharpe_from_sums
from research.plateau import nearest_scores, neighbour_scores
from research.resting_bars import lives_of
from research.sizing import size_multiples
from research.strategies.registry import strategy
from research.sweep_config import SweepConfig

CONFIGS_PER_BLOCK = 8_192
LISTED_FROM_CONFIGS = 1_024  # fewer hardly ever enter on the same row
FACTORISED_CONFIGS_PER_BLOCK = 262_144  # seconds of work; the outcomes are found anew for every block
PARTS = pl.Enum(["search", "train", "test"])  # of a fold
RANKED_BY = {
    "plateau": "the lower quartile of each config's neighbourhood",
    "best": "each config's own Sharpe",
}  # on the train folds, per selection
NOT_RANKED = (
    "No config is ranked: on half of the train folds or more, each of them or too many of its neighbours had too few "
    "trades."
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
    """A piece of work: some configs of one symbol on one part of one fold.

    Attributes
    ----------
    part : "search" is what an optimiser asks for, on train rows; it numbers the configs of each fold by themselves.
    given : the configs, float64 of shape (n_configs, n_params); None on a grid, which an evaluator knows by number.
    """

    symbol: str
    fold: Fold
    part: Literal["search", "train", "test"]
    first_config: int
    last_config: int
    given: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Name of its result file."""
        return f"{self.symbol}-fold{self.fold.number:02d}-{self.part}-{self.first_config:08d}"

    @property
    def first(self) -> int:
        """First row."""
        return self.fold.test_first if self.part == "test" else self.fold.train_first

    @property
    def last(self) -> int:
        """The row behind the last."""
        return self.fold.test_last if self.part == "test" else self.fold.train_last

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
    before = lookback_bars(kernel.feature_names(strategy(config.strategy), config.window_settings)) - 1
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
    step = FACTORISED_CONFIGS_PER_BLOCK if config.is_factorised else CONFIGS_PER_BLOCK
    edges = [*range(0, config.n_configs, step), config.n_configs]
    return [
        Block(symbol, fold, part, first, last, None if config.is_grid else config.table(first, last))
        for fold in folds
        for part in ("train", "test")
        for first, last in itertools.pairwise(edges)
    ]


class Evaluator:
    """Evaluates blocks of one symbol: features once, then the kernel per block. Refuses bars seen too little.

    A grid that can be factorised takes ``research.factorised``, every other long list of configs ``research.listed``,
    the rest the fused kernel.
    """

    def __init__(self, config: SweepConfig, bars: Bars) -> None:
        require_coverage(bars, config.min_coverage)
        self._config, self._bars = config, bars
        self._module = strategy(config.strategy)
        examples = config.examples()  # what the exchange refuses is one value of one parameter
        for params in examples:
            if reasons := refusals(config.trading_config(bars.symbol, params), bars.instrument):
                raise ValueError(f"{bars.symbol} {params}: not executable: " + "; ".join(reasons))
        self._market = market_of(bars, config.orders)
        self._features = {}
        self._add_features(config.window_settings)
        self._terms = terms_of(config.costs, config.orders, bars.instrument)
        self._multiples = size_multiples(config.orders.open_interest_size, self._features, bars.frame.height)
        self._days = days_of(bars.frame)
        self._lives = lives_of(exec_ms_of(bars), self._terms)
        # One row of one config: the kernel is compiled here, once, and not in the time of the first block.
        given = None if config.is_grid else np.array(examples[:1])
        self._sweep(Block(bars.symbol, Fold(0, 0, 1, 0, 1), "train", 0, 1, given))

    def __call__(self, block: Block) -> pl.DataFrame:
        """Statistics of the block: ``config`` (its number), ``sharpe``, ``kernel.STATS`` and ``liquidations``."""
        n_configs = block.last_config - block.first_config
        stats = self._sweep(block)
        sharpe = sharpe_from_sums(
            stats["net_pnl_usdt"], stats["bar_pnl_squared"], block.rows, bars_per_year(self._config.interval)
        )
        return pl.DataFrame(
            {
                "symbol": pl.repeat(block.symbol, n_configs, dtype=pl.Enum(self._config.symbols), eager=True),
                "fold": pl.repeat(block.fold.number, n_configs, dtype=pl.Int64, eager=True),
                "part": pl.repeat(block.part, n_configs, dtype=PARTS, eager=True),
                "config": np.arange(block.first_config, block.last_config),
                "sharpe": sharpe,
                **stats,
                # whatever ended a trade and was none of its orders
                "liquidations": stats["trades"] - stats["stop_exits"] - stats["target_exits"] - stats["trailing_exits"],
            }
        )

    def _sweep(self, block: Block) -> dict[str, np.ndarray]:
        """Statistics of the block's configs over its rows."""
        if self._config.is_factorised:
            return factorised.sweep(
                self._module, self._market, self._features, self._config.grid, self._terms, block.first, block.last,
                multiples=self._multiples, first_config=block.first_config, last_config=block.last_config,
            )  # fmt: skip
        table = block.given
        if table is None:
            table = self._config.table(block.first_config, block.last_config)
        else:
            self._add_features(table)
        over = (self._module, self._market, self._features, table, self._terms, block.first, block.last)
        if len(table) >= LISTED_FROM_CONFIGS and self._config.orders.max_daily_loss_usdt is None:
            return listed.sweep(*over, multiples=self._multiples, lives=self._lives)
        return kernel.sweep(*over, multiples=self._multiples, days=self._days, lives=self._lives)

    def _add_features(self, configs: np.ndarray) -> None:
        """Compute what these configs read and none before them did."""
        asked = feature_names(self._module, configs, self._config.orders)
        if missing := [name for name in asked if name not in self._features]:
            self._features |= feature_arrays(self._bars, self._config.costs, missing)


def neighbourhood(config: SweepConfig) -> Callable[[np.ndarray], np.ndarray]:
    """What gives every config the lower quartile of its neighbourhood: those a step away, beyond a grid the nearest."""
    if config.is_grid:
        return partial(neighbour_scores, shape=config.shape)
    return partial(nearest_scores, nearest=config.neighbours)


def selection_scores(config: SweepConfig, train: pl.DataFrame) -> np.ndarray:
    """Score per config on one train fold, by which the procedure picks; -inf cannot be picked."""
    scores = np.where(train["trades"].to_numpy() >= config.min_trades, train["sharpe"].to_numpy(), np.nan)
    if config.selection == "plateau":
        # A config that may not be picked itself stays out even where its neighbours shine.
        return np.where(np.isnan(scores), -np.inf, neighbourhood(config)(scores))
    return np.where(np.isnan(scores), -np.inf, scores)


def results_table(config: SweepConfig, evaluated: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """The ranked table of one or more symbols: a row per (symbol, config), rank 1 first.

    Ranked by the median over train folds of the selection score; test-fold columns are shown and never rank. Most test
    rows are train rows of later folds, on which an optimiser looked for configs: what was earned out of sample is told
    by the record of the ``picks``. A config that could not be picked on half of the train folds has a score of -inf:
    it is not ``ranked``.

    Parameters
    ----------
    evaluated : rows of an ``Evaluator``, in memory or in a file, of which only some columns are read at a time.
    """
    names = strategy(config.strategy).Params._fields
    configs = pl.DataFrame(config.table(), schema=names, orient="row").with_row_index("config")
    configs = configs.with_columns(pl.col("config").cast(pl.Int64))
    tables = []
    evaluated = evaluated.lazy()  # a million configs are copied column by column
    for symbol in evaluated.select(pl.col("symbol").unique(maintain_order=True)).collect()["symbol"]:
        part = evaluated.filter(pl.col("symbol") == symbol)
        train = part.filter(pl.col("part") == "train").select("fold", "config", "sharpe", "trades").collect()
        scores = [
            selection_scores(config, train.filter(pl.col("fold") == fold).sort("config"))
            for fold in train["fold"].unique(maintain_order=True)
        ]
        tables.append(
            configs.with_columns(
                symbol=pl.lit(symbol),
                score=np.median(np.stack(scores), axis=0),
                **_over_folds(part.filter(pl.col("part") == "train"), "in_sample"),
                **_over_folds(part.filter(pl.col("part") == "test"), "out_of_sample"),
            )
            .sort("score", "config", descending=[True, False])
            .with_columns(pl.int_range(1, pl.len() + 1).alias("rank"))
        )
    table = pl.concat(tables)
    lead = ["symbol", "rank", "config", "score"]
    return table.select(*lead, *(name for name in table.columns if name not in lead))


def ranked(results: pl.DataFrame) -> pl.DataFrame:
    """The rows of a ``results_table`` whose rank means something; none at worst, see ``NOT_RANKED``."""
    return results.filter(pl.col("score").is_finite())


def _over_folds(rows: pl.LazyFrame, prefix: str) -> dict[str, np.ndarray]:
    """Columns of the ranked table, a value per config by its number: the median Sharpe, the rest in all or at worst.

    Column by column, the folds beside each other: groups of a million configs would take several times the memory.
    """
    order = rows.select(pl.arg_sort_by("fold", "config")).collect().to_series()
    n_folds = rows.select(pl.col("fold").n_unique()).collect().item()

    def by_fold(name: str) -> np.ndarray:
        values = rows.select(pl.col(name).cast(pl.Float64)).collect().to_series()
        return values[order].to_numpy().reshape(n_folds, -1)

    return {
        f"{prefix}_sharpe": np.median(np.nan_to_num(by_fold("sharpe"), nan=0.0), axis=0),
        f"{prefix}_net_pnl_usdt": by_fold("net_pnl_usdt").sum(axis=0),
        f"{prefix}_trades": by_fold("trades").sum(axis=0),
        f"{prefix}_max_drawdown_usdt": by_fold("max_drawdown_usdt").min(axis=0),
        **{
            f"{prefix}_{name}": by_fold(name).sum(axis=0)
            for name in ("liquidations", "ambiguous_bars", "missed_entries")
        },
    }


def picks(config: SweepConfig, evaluated: pl.DataFrame) -> Iterator[Mapping]:
    """What the procedure chose per (symbol, fold), from train statistics alone.

    Parameters
    ----------
    evaluated : rows of an ``Evaluator``. Where it has a column ``is_found``, only the configs that the fold's own
        search came to can be chosen: the others were found on days that came later.

    Yields symbol, fold, config (its number, or None when no config had enough trades).
    """
    trained = evaluated.filter(pl.col("part") == "train")
    for (symbol, fold), train in trained.group_by("symbol", "fold", maintain_order=True):
        train = train.sort("config")
        scores = selection_scores(config, train)
        if "is_found" in train.columns:
            scores = np.where(train["is_found"], scores, -np.inf)
        best = int(np.argmax(scores))
        yield {"symbol": symbol, "fold": fold, "config": best if np.isfinite(scores[best]) else None}
