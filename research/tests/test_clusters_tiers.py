"""Distances to liquidation by hand, and what a config makes of them."""

from datetime import UTC, datetime
from math import inf, log

import numpy as np
import polars as pl
import pytest

from data.schema import INSTRUMENTS
from research.clusters.grid import LONG, SHORT
from research.clusters.tiers import (
    ROOM,
    Bracket,
    Brackets,
    MapConfig,
    assumed_brackets,
    bracket_versions,
    liquidation_distances,
    liquidation_ratio,
    tier_tables,
)

SMALL = Bracket(notional_floor_usdt=0.0, notional_cap_usdt=50_000.0, max_leverage=100.0, maintenance_margin_rate=0.005)
LARGE = Bracket(
    notional_floor_usdt=50_000.0, notional_cap_usdt=inf, max_leverage=50.0, maintenance_margin_rate=0.01,
    maintenance_amount_usdt=250.0,
)  # fmt: skip


def test_a_long_at_ten_times_is_liquidated_a_tenth_less_its_maintenance_margin_below_its_entry():
    assert liquidation_ratio(LONG, 10.0, SMALL, 1_000.0) == pytest.approx(0.9 / 0.995)


def test_a_short_mirrors_it_above():
    assert liquidation_ratio(SHORT, 10.0, SMALL, 1_000.0) == pytest.approx(1.1 / 1.005)


def test_the_maintenance_amount_makes_two_brackets_meet_at_their_border():
    small, large = liquidation_ratio(LONG, 10.0, SMALL, 50_000.0), liquidation_ratio(LONG, 10.0, LARGE, 50_000.0)
    price_left = 1.0 - 0.1 - 250.0 / 50_000.0  # margin plus amount over the notional at entry
    assert large == pytest.approx(price_left / 0.99)
    assert large == pytest.approx(small, abs=1e-3)  # the border is a notional at entry here, at the mark there


def test_each_bracket_that_allows_the_leverage_gives_one_distance():
    half = liquidation_distances(LONG, 20.0, (SMALL, LARGE), MapConfig(position_usdt=50_000.0))
    assert [part for _, part in half] == pytest.approx([0.5, 0.5])
    assert [part for _, part in liquidation_distances(LONG, 100.0, (SMALL, LARGE), MapConfig())] == [1.0]
    assert liquidation_distances(LONG, 125.0, (SMALL, LARGE), MapConfig()) == []


def test_without_brackets_half_of_the_highest_leverages_margin_must_be_kept():
    ((distance, part),) = liquidation_distances(LONG, 50.0, assumed_brackets(50.0).steps, MapConfig())
    assert (distance, part) == (pytest.approx(-log(0.98 / 0.99)), 1.0)


def test_parts_of_every_tier_sum_to_one_and_lie_on_their_own_side():
    tables = tier_tables(MapConfig(brackets=(Brackets(valid_from_ms=0, steps=(SMALL, LARGE)),)))
    assert np.allclose(tables.parts.sum(axis=3), 1.0, atol=1e-12)
    kernels = tables.kernels
    assert (kernels["first_offset"][:, LONG] + kernels["n_offsets"][:, LONG] - 1 < 0).all()
    assert (kernels["first_offset"][:, SHORT] > 0).all()


def test_the_middle_of_a_tiers_parts_is_its_distance():
    tables = tier_tables(
        MapConfig(leverages=(10.0,), shares=(1.0,), half_life_hours=(1.0,), half_life_turnovers=(1.0,))
    )
    kernel = tables.kernels[0, LONG, 0]
    offsets = kernel["first_offset"] + np.arange(kernel["n_offsets"])
    assert (offsets * tables.parts[0, LONG, 0, ROOM:-ROOM]).sum() == pytest.approx(1_000 * log(0.9 / 0.995), abs=0.1)


def test_tiers_above_the_highest_leverage_leave_their_share_to_the_others():
    config = MapConfig(brackets=(Brackets(valid_from_ms=0, steps=(LARGE,)),))
    shares = tier_tables(config).kernels["share"][1, LONG]
    assert shares[-2:].tolist() == [0.0, 0.0]
    assert shares[:7] == pytest.approx(np.array(config.shares[:7]) / 0.94)


def test_before_the_first_known_brackets_they_are_assumed():
    brackets = (Brackets(valid_from_ms=1_000, steps=(LARGE,)), Brackets(valid_from_ms=2_000, steps=(SMALL,)))
    tables = tier_tables(MapConfig(brackets=brackets))
    assert tables.valid_from_ms.tolist() == [np.iinfo(np.int64).min, 1_000, 2_000]
    assert tables.kernels["share"][:, SHORT, -1].tolist() == pytest.approx([0.04, 0.0, 0.04])


def test_versions_of_brackets_come_from_the_instruments_that_have_some():
    steps = [
        {"notional_floor_usdt": 0.0, "notional_cap_usdt": 50_000.0, "max_leverage": 100.0,
         "maintenance_margin_rate": 0.005, "maintenance_amount_usdt": 0.0},
    ]  # fmt: skip
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    rows = pl.DataFrame(
        {"event_time": days, "brackets": [None, steps, steps]},
        schema={name: INSTRUMENTS.columns[name] for name in ("event_time", "brackets")},
    )
    midnight_ms = int(days[1].timestamp() * 1_000)
    assert bracket_versions(rows) == (Brackets(valid_from_ms=midnight_ms, steps=(SMALL,)),)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"shares": (0.5, 0.5)}, "shares: expected one per leverage"),
        ({"shares": (0.27, 0.17, 0.22, 0.12, 0.07, 0.04, 0.05, 0.02, 0.03)}, "sum to 1"),
        (
            {"leverages": (5.0, 3.0, 10.0, 20.0, 25.0, 40.0, 50.0, 75.0, 90.0)},
            "leverages: expected different ones above 1",
        ),
        ({"half_life_hours": (0.0,) * 9}, "half_life_hours: expected more than 0"),
        ({"half_life_turnovers": (inf,) * 9}, "half_life_turnovers: expected more than 0 and finite"),
        ({"smear": -0.1}, "smear >= 0"),
        ({"brackets": (assumed_brackets(50.0),) * 2}, "one version per moment"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        MapConfig(**given)


def test_brackets_that_allow_no_tier_are_refused():
    low = Bracket(notional_floor_usdt=0.0, notional_cap_usdt=inf, max_leverage=2.0, maintenance_margin_rate=0.1)
    with pytest.raises(ValueError, match="allow some of the leverages"):
        tier_tables(MapConfig(brackets=(Brackets(valid_from_ms=0, steps=(low,)),)))
