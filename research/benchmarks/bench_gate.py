"""``aster bench gate``: how often the statistical gate lets a market through whose edge is known.

Every world is a market of its own (``research.gate_worlds``), swept, walked forward and judged as any other; seeds
are fixed. The planted Sharpe is that of the selection procedure after costs, over the test days of all worlds of a
kind: the figure beside each pass rate says what it came to. Days, costs and grid are those of
``gate_worlds.world_config``; ``ASTER_GATE_WORLDS`` sets how many worlds.

A world that is stopped by its own record is not put among placebos: the verdict is a conjunction, and most worlds
without an edge end there.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numba
import numpy as np
import polars as pl

from data.benchmarks.figures import figure
from research.evidence import Trials, gather, period_of, record_pnl
from research.gate import MIN_PAYS, best_power, judge, least_size, passes
from research.gate_worlds import world_bars, world_config
from research.overfitting import NORMAL, moments, probabilistic_sharpe
from research.sweep import Evaluator, blocks_of, folds_of, results_table
from research.walk_forward import walk_forward

WORLDS = int(os.environ.get("ASTER_GATE_WORLDS", "200"))
DAYS = 90
FIRST_SEED = 1_000
MOST_ON_NOISE, LEAST_ON_EDGE, SHARPE = 0.05, 0.80, 3.0
# What has to be planted for the procedure to have this Sharpe after costs. Found, like the gate's limits and the
# market itself, on seeds 0 to 99; those that are reported begin at FIRST_SEED.
EDGES = {0.0: 0.41, 1.0: 0.495, 1.5: 0.535, 2.0: 0.575, 3.0: 0.66}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one world: the verdict, and the record's PnL per day."""

    passes: bool
    pnl: np.ndarray


def judged_world(seed: int, edge: float, cost_multiple: float) -> Outcome:
    """One world through sweep, walk-forward and gate."""
    config = world_config(DAYS, cost_multiple)
    bars = world_bars(seed, days=DAYS, edge=edge)
    evaluator, folds = Evaluator(config, bars), folds_of(config, bars.frame.height)
    evaluated = pl.concat([evaluator(block) for block in blocks_of(config, bars.symbol, folds)])
    record = walk_forward(config, bars, folds, evaluated)
    pnl = record_pnl(record.equity, period_of(config.interval, record.equity.height))
    if not probabilistic_sharpe(moments(pnl)) >= MIN_PAYS:
        return Outcome(passes=False, pnl=pnl)
    results = results_table(config, evaluated)
    trials = Trials(earlier=0, total=results.height, variance=float(results["in_sample_sharpe"].var()))
    evidence = gather(config, bars, folds, evaluator, results, record, trials, is_whole=False)
    return Outcome(passes=passes(judge(evidence)), pnl=pnl)


def bench_gate(tell: Callable[[str, int, int], None], *, worlds: int = WORLDS) -> list[dict]:
    """Figures: the pass rate per planted Sharpe with its 95 % interval, beside what no test of the record can exceed.

    Parameters
    ----------
    worlds : for each of the two figures with a target; the others take a third as many.
    """
    fewer = -(-worlds // 3)
    kinds = [
        ("without an edge", None, 0.0, 1.0, worlds),
        ("without an edge, nothing paid for trading", None, 0.0, 0.0, fewer),
        *((f"planted Sharpe {sharpe:g}", sharpe, edge, 1.0, worlds if sharpe == SHARPE else fewer)
          for sharpe, edge in EDGES.items()),
    ]  # fmt: skip
    total = sum(count for *_, count in kinds)
    figures, done = [], 0
    spawn = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        for what, sharpe, edge, cost_multiple, count in kinds:
            outcomes = []
            for outcome in pool.map(
                judged_world, range(FIRST_SEED, FIRST_SEED + count), [edge] * count, [cost_multiple] * count
            ):
                outcomes.append(outcome)
                done += 1
                tell("worlds", done, total)
            figures.append(_figure(what, sharpe, outcomes))
    return [*figures, *_bounds(len(outcomes[0].pnl))]


def _figure(what: str, sharpe: float | None, outcomes: list[Outcome]) -> dict:
    rate = float(np.mean([outcome.passes for outcome in outcomes]))
    low, high = wilson(rate, len(outcomes))
    pnl = np.concatenate([outcome.pnl for outcome in outcomes])
    measured = moments(pnl).sharpe * math.sqrt(365.0)
    days = len(outcomes[0].pnl)
    return figure(
        f"{what}: {len(outcomes)} worlds pass, 95 % interval {low:.3f} to {high:.3f}, Sharpe out of sample "
        f"{measured:.2f}",
        rate,
        "share",
        baseline=None if sharpe is None else f"most powerful test of size 5 % on {days} days of record",
        baseline_value=None if sharpe is None else best_power(sharpe, days, 0.05),
        at_most=MOST_ON_NOISE if sharpe is None else None,
        at_least=LEAST_ON_EDGE if sharpe == SHARPE else None,
    )


def _bounds(days: int) -> list[dict]:
    """What can be asked of any test that looks at PnL after costs alone."""
    return [
        figure(f"bound: power at Sharpe {SHARPE:g} over {DAYS} days of a test of size 5 % at Sharpe 0 after costs",
               best_power(SHARPE, DAYS, 0.05), "share"),
        figure(f"bound: size at Sharpe 0 after costs of any test with power {LEAST_ON_EDGE:.0%} on {days} days",
               least_size(SHARPE, days, LEAST_ON_EDGE), "share"),
    ]  # fmt: skip


def wilson(rate: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share that was seen ``rate`` of ``n`` times; Wilson, E. B. (1927)."""
    z = NORMAL.inv_cdf(0.5 + level / 2.0)
    middle, width = rate + z * z / (2 * n), z * math.sqrt(rate * (1.0 - rate) / n + z * z / (4 * n * n))
    return (middle - width) / (1.0 + z * z / n), (middle + width) / (1.0 + z * z / n)
