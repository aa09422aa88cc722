"""Words for numbers: the bands of prior art."""

import math

import polars as pl
import pytest

from research.clusters import bands


@pytest.mark.parametrize(
    ("table", "value", "word"),
    [
        (bands.STRENGTH, 0.7, "very strong"),
        (bands.STRENGTH, 0.69, "strong"),
        (bands.STRENGTH, 0.3, "moderate"),
        (bands.STRENGTH, 0.0, "weak"),
        (bands.DISTANCE, 0.99, "immediate"),
        (bands.DISTANCE, 1.0, "near-term"),
        (bands.DISTANCE, 3.0, "medium-term"),
        (bands.DISTANCE, 5.0, "long-term"),
        (bands.OPEN_INTEREST, 10e6, "major"),
        (bands.OPEN_INTEREST, 3.5e6, "high"),
        (bands.OPEN_INTEREST, 500e3, "moderate"),
        (bands.OPEN_INTEREST, 499e3, "low"),
        (bands.LEVERAGE, 100.0, "very tight"),
        (bands.LEVERAGE, 50.0, "tight"),
        (bands.LEVERAGE, 25.0, "moderate"),
        (bands.LEVERAGE, 10.0, "wide"),
        (bands.STRENGTH, math.nan, "unknown"),
        (bands.STRENGTH, None, "unknown"),
    ],
)
def test_a_number_has_the_word_of_prior_art(table, value, word):
    assert bands.band(value, table) == word


def test_a_frame_and_a_single_value_agree():
    values = [None, math.nan, 0.0, 0.3, 0.5, 0.7, 1.0, 3.0, 10.0, 25.0, 50.0, 100.0, 500e3, 2e6, 10e6]
    frame = bands.banded(pl.DataFrame(dict.fromkeys(bands.BANDS, values), strict=False))
    for name, table in bands.BANDS.values():
        assert frame[name].to_list() == [bands.band(value, table) for value in values]


def test_every_word_has_its_advice():
    for name, table in bands.BANDS.values():
        assert all(bands.meaning(name, word) for _, word in table)
        assert bands.meaning(name, bands.UNKNOWN) == ""
