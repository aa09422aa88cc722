"""The record of a walk-forward traded again under strain: later orders, dearer fees, more slippage, later starts.

Latency, fees and slippage change what the run's own picks get. A later start moves every fold, so that the procedure
picks anew on other train rows, at the run's own costs: it is the procedure that is strained, not its one result.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from data.schema import interval_ms
from research.bars import Bars
from research.capacity import dearer_maker_bps
from research.evidence import Period
from research.stage import Picks, traded_again, with_pick
from research.sweep import Evaluator, Fold, SweepConfig, blocks_of, folds_of, picks, search_rows

SURFACE = pl.Schema(
    {
        "latency_ms": pl.Int64,
        "taker_fee_bps": pl.Float64,  # the maker fee is raised alike, a rebate lowered
        "slippage_bps": pl.Float64,
        "start_bars": pl.Int64,  # rows by which the range begins later
        "folds": pl.Int64,  # on which something was picked
        "trades": pl.Int64,
        "net_pnl_usdt": pl.Float64,
        "sharpe": pl.Float64,  # annualised; NaN where nothing was traded
        "is_own": pl.Boolean,  # the run's own terms: the record itself
    }
)

_NOTHING = {"net_pnl_usdt": 0.0, "trades": 0.0, "sharpe": math.nan}


@dataclass(frozen=True, kw_only=True)
class Strains:
    """What a record is traded again at: every combination. None is milder than the run's own terms.

    Parameters
    ----------
    added_latency_ms, added_slippage_bps : on top of the run's.
    fee_multiples : of taker and maker fee; a rebate is divided by them.
    starts : how much later the range begins, as fractions of a test.
    """

    added_latency_ms: tuple[int, ...] = (0, 250, 1_000, 5_000)
    fee_multiples: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0)
    added_slippage_bps: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    starts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)

    def __post_init__(self) -> None:
        for name, own in (("added_latency_ms", 0), ("fee_multiples", 1.0), ("added_slippage_bps", 0.0), ("starts", 0)):
            values = getattr(self, name)
            if not values or min(values) != own:
                raise ValueError(f"{name} {values}: the least must be {own:g}, which is the run's own")


STRAINS = Strains()


def starts_of(config: SweepConfig, n_rows: int, fractions: tuple[float, ...]) -> list[int]:
    """Rows by which the range begins later, without those after which no fold fits."""
    test_rows = round(config.folds.test_days * 86_400_000 / interval_ms(config.interval))
    room = search_rows(config, n_rows) - folds_of(config, n_rows)[0].test_first - max(test_rows // 2, 1)
    return sorted({rows for fraction in fractions if (rows := round(fraction * test_rows)) <= room})


def folds_from(config: SweepConfig, n_rows: int, start: int) -> list[Fold]:
    """The folds of the range without its first ``start`` rows, counted in rows of the whole range."""
    return [
        Fold(
            fold.number,
            fold.train_first + start,
            fold.train_last + start,
            fold.test_first + start,
            fold.test_last + start,
        )
        for fold in folds_of(config, n_rows - start)
    ]


def train_rows(config: SweepConfig, evaluator: Evaluator, symbol: str, fold: Fold) -> pl.DataFrame:
    """Statistics of every config on the fold's train rows."""
    return pl.concat([evaluator(block) for block in blocks_of(config, symbol, [fold]) if block.part == "train"])


def picks_anew(
    config: SweepConfig,
    evaluate: Callable[[Fold], pl.DataFrame],
    folds: list[Fold],
    progress: Callable[[int, int], None],
) -> Picks:
    """What the procedure picks on the train rows of these folds.

    ``evaluate`` gives the train statistics of the configs among which a fold picks, as ``picks`` reads them.
    """
    found = []
    for done, fold in enumerate(folds):
        progress(done, len(folds))
        (pick,) = picks(config, evaluate(fold))
        found.append((fold, None if pick["config"] is None else config.params(pick["config"])))
    progress(len(folds), len(folds))
    return found


def surface_at(
    config: SweepConfig,
    bars: Bars,
    picks_by_start: Mapping[int, Picks],
    strains: Strains,
    *,
    latency_ms: int,
    period: Period,
    progress: Callable[[int, int], None],
) -> pl.DataFrame:
    """The record at one latency under every fee, slippage and start; columns of ``SURFACE``.

    Parameters
    ----------
    config : the run's own.
    bars : built for ``latency_ms``.
    picks_by_start : what is traded, by the rows by which the range begins later.
    """
    own, rows = config.costs, []
    terms = list(itertools.product(strains.fee_multiples, strains.added_slippage_bps, picks_by_start.items()))
    for done, (multiple, slippage_bps, (start, picked)) in enumerate(terms):
        progress(done, len(terms))
        costs = replace(
            own,
            taker_fee_bps=own.taker_fee_bps * multiple,
            maker_fee_bps=dearer_maker_bps(own, multiple),
            slippage_bps=own.slippage_bps + slippage_bps,
            latency_ms=latency_ms,
        )
        found, n_traded = _NOTHING, len(with_pick(picked))
        if n_traded:
            found = traded_again(replace(config, costs=costs), bars, picked, period_bars=period.bars)
        rows.append(
            {
                "latency_ms": latency_ms,
                "taker_fee_bps": costs.taker_fee_bps,
                "slippage_bps": costs.slippage_bps,
                "start_bars": start,
                "folds": n_traded,
                "trades": int(found["trades"]),
                "net_pnl_usdt": found["net_pnl_usdt"],
                "sharpe": found["sharpe"] * math.sqrt(period.per_year),
                "is_own": costs == own and start == 0,
            }
        )
    progress(len(terms), len(terms))
    return pl.DataFrame(rows, schema=SURFACE)


def over_starts(surface: pl.DataFrame) -> pl.DataFrame:
    """Net PnL per latency, fee and slippage over all starts, USDT: median, worst and best."""
    net = pl.col("net_pnl_usdt")
    return (
        surface.group_by("latency_ms", "taker_fee_bps", "slippage_bps")
        .agg(net.median().alias("median_usdt"), net.min().alias("worst_usdt"), net.max().alias("best_usdt"))
        .sort("latency_ms", "taker_fee_bps", "slippage_bps")
    )
