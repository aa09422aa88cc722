"""Optuna's part of a sweep: a search for every fold of every symbol, on its train rows alone, in rounds that resume."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np
import polars as pl

from research.optimiser import Optimiser
from research.search import BATCH
from research.sweep import Block, Fold, SweepConfig, selection_scores
from research.sweep_config import FoundSweep

FOUND = pl.Schema({"symbol": pl.String, "fold": pl.Int64, "config": pl.Int64})


def find_configs(
    config: SweepConfig,
    folds: Mapping[str, Sequence[Fold]],
    evaluate: Callable[[list[Block]], list[pl.DataFrame]],
    progress: Callable[[int, int], None],
) -> tuple[FoundSweep, pl.DataFrame]:
    """Let Optuna look for configs, fold by fold: none of its searches knows what another one has seen.

    A round asks every search for a batch of configs, of one size wherever they are evaluated.

    Parameters
    ----------
    evaluate : gives the statistics of blocks, in their order.

    Returns
    -------
    The sweep over everything that was found, and by ``FOUND`` which of it each fold's own search came to.
    """
    searches = [(symbol, fold) for symbol in config.symbols for fold in folds[symbol]]
    optimisers = [Optimiser(config.axes, config.search.seed) for _ in searches]
    n_configs, rounds = config.search.configs, []
    for first in range(0, n_configs, BATCH):
        progress(first, n_configs)
        last = min(first + BATCH, n_configs)
        rounds.append([optimiser.propose(last - first) for optimiser in optimisers])
        blocks = [
            Block(symbol, fold, "search", first, last, proposed)
            for (symbol, fold), proposed in zip(searches, rounds[-1], strict=True)
        ]
        for optimiser, rows in zip(optimisers, evaluate(blocks), strict=True):
            optimiser.learn(selection_scores(config, rows))
    progress(n_configs, n_configs)
    proposed = np.concatenate([np.concatenate(of_search) for of_search in zip(*rounds, strict=True)])
    found, numbers = np.unique(proposed, axis=0, return_inverse=True)
    came_to = pl.DataFrame(
        {
            "symbol": np.repeat([symbol for symbol, _ in searches], n_configs),
            "fold": np.repeat([fold.number for _, fold in searches], n_configs),
            "config": numbers.ravel(),
        },
        schema=FOUND,
    )
    settings = {each.name: getattr(config, each.name) for each in fields(SweepConfig)}
    return FoundSweep(**settings, found=found), came_to.unique(maintain_order=True)


def with_is_found(evaluated: pl.DataFrame, came_to: pl.DataFrame) -> pl.DataFrame:
    """The rows with a column ``is_found``: whether the search of the row's fold came to the config."""
    keys = list(FOUND)
    marked = came_to.cast({name: evaluated.schema[name] for name in keys}).with_columns(is_found=True)
    joined = evaluated.join(marked, on=keys, how="left", maintain_order="left")
    return joined.with_columns(pl.col("is_found").fill_null(False))
