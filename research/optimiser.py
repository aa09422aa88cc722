"""Optuna's tree-structured Parzen estimator, asked for configs in batches.

What it proposes depends on the seed and on what it was told, and on nothing else: a search that is resumed, or whose
configs are evaluated elsewhere, comes to the same ones. Bergstra, J. et al. (2011), "Algorithms for Hyper-Parameter
Optimization".
"""

from collections.abc import Sequence

import numpy as np

from research.search import BATCH, Axis, table_at, varies

_WORST = -1e6  # stands for minus infinity, which has no mean


class Optimiser:
    """One search for the config of the highest score. Its first batch is random."""

    def __init__(self, axes: Sequence[Axis], seed: int) -> None:
        import optuna  # takes a second to import: only when it is needed

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes = axes
        places = optuna.distributions.FloatDistribution(0.0, 1.0)
        self._cube = {f"axis {k:03d}": places for k, axis in enumerate(axes) if varies(axis)}
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=BATCH)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: list[optuna.Trial] = []

    def propose(self, n_configs: int) -> np.ndarray:
        """Configs to look at next: float64 of shape (n_configs, n_axes)."""
        self._asked = [self._study.ask(self._cube) for _ in range(n_configs)]
        points = [[trial.params[name] for name in self._cube] for trial in self._asked]
        return table_at(self._axes, np.array(points))

    def learn(self, scores: np.ndarray) -> None:
        """Tell it the scores of what it proposed last, in that order; minus infinity for what cannot be picked."""
        for trial, score in zip(self._asked, scores, strict=True):
            self._study.tell(trial, max(float(score), _WORST))
