"""Numbers of a cluster as words, in the bands that prior art draws (its "Key metrics for decision making")."""

import math
from itertools import pairwise

import polars as pl

# from this value on, the word; highest first
STRENGTH = ((0.7, "very strong"), (0.5, "strong"), (0.3, "moderate"), (0.0, "weak"))
DISTANCE = ((5.0, "long-term"), (3.0, "medium-term"), (1.0, "near-term"), (0.0, "immediate"))  # per cent of the mark
OPEN_INTEREST = ((10e6, "major"), (2e6, "high"), (500e3, "moderate"), (0.0, "low"))  # USDT
LEVERAGE = ((75.0, "very tight"), (37.5, "tight"), (17.5, "moderate"), (0.0, "wide"))  # 100x, 50x, 25x, 10x and below
UNKNOWN = "unknown"

BANDS = {
    "strength": ("strength_band", STRENGTH),
    "distance_from_price": ("distance_band", DISTANCE),
    "open_interest": ("open_interest_band", OPEN_INTEREST),
    "leverage_tier": ("leverage_band", LEVERAGE),
}
_MEANING = {
    "strength_band": {
        "very strong": "high confidence trades",
        "strong": "good trading opportunities",
        "moderate": "use with caution",
        "weak": "filter out",
    },
    "distance_band": {
        "immediate": "enter now",
        "near-term": "plan entry",
        "medium-term": "reference point",
        "long-term": "monitor only",
    },
    "open_interest_band": {
        "major": "very significant",
        "high": "strong signal",
        "moderate": "moderate significance",
        "low": "filter out",
    },
    "leverage_band": {
        "very tight": "about a 1 % move liquidates",
        "tight": "about a 2 % move liquidates",
        "moderate": "about a 4 % move liquidates",
        "wide": "a move of 10 % and more liquidates",
    },
}
assert all(high > low for _, bands in BANDS.values() for (high, _), (low, _) in pairwise(bands))


def band(value: float | None, bands: tuple[tuple[float, str], ...]) -> str:
    """The word for a value; "unknown" for None and NaN."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return next((word for lowest, word in bands if value >= lowest), UNKNOWN)


def banded(clusters: pl.DataFrame) -> pl.DataFrame:
    """The clusters with ``strength_band``, ``distance_band``, ``open_interest_band`` and ``leverage_band``.

    Distances are the absolute per cent of ``distance_from_price``; a tier belongs to the band of the nearest of 100x,
    50x, 25x and 10x.
    """
    return clusters.with_columns(_word(pl.col(column), bands).alias(name) for column, (name, bands) in BANDS.items())


def meaning(name: str, word: str) -> str:
    """What prior art advises for a word of a band; for "unknown" nothing."""
    return _MEANING[name].get(word, "")


def _word(value: pl.Expr, bands: tuple[tuple[float, str], ...]) -> pl.Expr:
    known = value.is_not_null() & value.is_not_nan()
    found = pl.lit(UNKNOWN)
    for lowest, word in reversed(bands):
        found = pl.when(known & (value >= lowest)).then(pl.lit(word)).otherwise(found)
    return found
