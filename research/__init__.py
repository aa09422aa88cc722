"""Ideas as pure functions: bars, features, fills, strategies, sweeps, metrics, figures."""
