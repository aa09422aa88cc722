"""Both tests in markets whose truth is known: ours is honest, the published one is not."""

import polars as pl
import pytest

from research.clusters.validation.rejections import OURS, PUBLISHED, TESTS, rejections
from research.clusters.validation.worlds import WorldSpec


@pytest.fixture(scope="module")
def without_magnets() -> dict[str, dict]:
    """What every test finds in 400 markets in which there is nothing to find."""
    table = rejections(WorldSpec(), worlds=400)
    return {row["test"]: row for row in table.iter_rows(named=True)}


def test_the_magnet_test_rejects_two_to_nine_of_a_hundred_markets_without_a_magnet(without_magnets):
    ours = without_magnets[OURS]
    assert ours["worlds"] == 400
    assert 0.02 <= ours["rejected"] <= 0.09
    assert ours["t_mean"] == pytest.approx(0.0, abs=0.15)
    assert ours["t_deviation"] == pytest.approx(1.0, abs=0.1)


def test_the_published_lift_test_rejects_about_half_of_them(without_magnets):
    assert 0.4 <= without_magnets[PUBLISHED]["rejected"] <= 0.7


def test_a_day_counted_as_many_observations_rejects_too_often_whatever_the_placebo(without_magnets):
    assert without_magnets["local placebo, samples independent"]["rejected"] > 0.15


def test_the_power_in_one_symbol_and_month_is_told(capsys):
    found = {}
    for share in (0.1, 0.2, 0.3):
        table = rejections(WorldSpec(pulled_share=share), worlds=40).filter(pl.col("test") == OURS)
        found[share] = table.row(0, named=True)
    with capsys.disabled():
        told = ", ".join(
            f"{row['rejected']:.0%} at {share:.0%} (t {row['t_mean']:.2f})" for share, row in found.items()
        )
        print(f"\npower of the magnet test in one symbol-month, by share of near misses pulled in: {told}")
    assert found[0.3]["t_mean"] > found[0.1]["t_mean"] > 0.0


def test_every_market_counts_once_and_progress_is_told():
    steps = []
    table = rejections(WorldSpec(days=4), worlds=3, progress=lambda done, total: steps.append((done, total)))
    assert table["test"].to_list() == list(TESTS)
    assert table["worlds"].to_list() == [3] * 4
    assert steps == [(1, 3), (2, 3), (3, 3)]
