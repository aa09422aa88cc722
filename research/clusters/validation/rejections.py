"""The tests on trial: how often each finds a magnet in markets where we know whether there is one.

A test at the five-per-cent level should find one in five of a hundred markets without any. One that finds it in half of
them says nothing when it finds it in ours.
"""

from collections.abc import Callable

import polars as pl

from research.clusters.validation.magnet import Blocks, BlockTest, lift_test, magnet_samples, magnet_test
from research.clusters.validation.worlds import WorldSpec, simulate

ALPHA = 0.05

TESTS: dict[str, tuple[Callable[[pl.DataFrame, Blocks], BlockTest], Blocks]] = {
    "touch rate less base rate, samples independent (what people publish)": (lift_test, "none"),
    "touch rate less base rate, day blocks": (lift_test, "day"),
    "local placebo, samples independent": (magnet_test, "none"),
    "local placebo, day blocks (ours)": (magnet_test, "day"),
}
PUBLISHED, OURS = next(iter(TESTS)), list(TESTS)[-1]


def rejections(
    spec: WorldSpec,
    *,
    worlds: int = 100,
    first_seed: int = 0,
    horizon_s: int = 14_400,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Run every test of ``TESTS`` on simulated markets.

    Parameters
    ----------
    worlds : how many, with the seeds from ``first_seed`` on.
    progress : called with the markets done and their total.

    Returns
    -------
    test ; rejected : share of the markets in which it finds something (p < 0.05, either way); t_mean, t_deviation : of
    its t, 0 and 1 where there is nothing to find; worlds ; samples : walls seen per market, mean.
    """
    rows = []
    for number in range(worlds):
        world = simulate(first_seed + number, spec)
        samples = magnet_samples(world.walls, world.marks, horizon_s=horizon_s)
        for name, (test, blocks) in TESTS.items():
            found = test(samples, blocks)
            rows.append((name, found.p_value < ALPHA, found.t, found.n))
        if progress is not None:
            progress(number + 1, worlds)
    frame = pl.DataFrame(rows, schema=["test", "is_rejected", "t", "n"], orient="row")
    return frame.group_by("test", maintain_order=True).agg(
        pl.col("is_rejected").mean().alias("rejected"),
        pl.col("t").mean().alias("t_mean"),
        pl.col("t").std().alias("t_deviation"),
        pl.len().cast(pl.Int64).alias("worlds"),
        pl.col("n").mean().alias("samples"),
    )
