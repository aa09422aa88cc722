"""Does it peek? A user's strategies, features, backtests and notebooks, run again without the future."""
