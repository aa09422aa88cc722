"""Leverage tiers: how far from its entry a position is liquidated, and how long it tends to stay.

In log price a liquidation level is the entry plus a constant, so a tier is one row of numbers per side: which part of
what opened in a bucket is liquidated how many buckets away. Shares, sizes and lives are priors, no measurements.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, inf, log
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import polars as pl

from research.clusters.grid import DELTA, LONG, SHORT

SMALLEST_SMEAR = 0.6 * DELTA  # in log price: less than a bucket cannot be told apart
SMEAR_REACH = 3.0  # standard deviations; what lies further out is left out
ROOM = 3  # zeros on both ends of a tier's parts: entries side by side are then deposited as one
HOUR_MS = 3_600_000
EARLIEST_MS = np.iinfo(np.int64).min

_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """Positions of a size, and the margin they must keep.

    Parameters
    ----------
    notional_floor_usdt, notional_cap_usdt : position sizes from, up to.
    max_leverage : the highest that may be chosen for this size.
    maintenance_margin_rate, maintenance_amount_usdt : maintenance margin = notional * rate - amount.

    Source
    ------
    Aster futures API, "Notional and Leverage Brackets": initialLeverage, maintMarginRatio, cum.
    """

    notional_floor_usdt: float
    notional_cap_usdt: float
    max_leverage: float
    maintenance_margin_rate: float
    maintenance_amount_usdt: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Brackets:
    """All brackets of one contract, in force from ``valid_from_ms`` (UTC) until the next version."""

    valid_from_ms: int
    steps: tuple[Bracket, ...]


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """What a predictive map assumes about positions: prior belief, to be changed only for a gain out of sample.

    Parameters
    ----------
    leverages : one per tier, ascending: round numbers that people choose. They hold the marks of the exchange's own
        leverage slider (multiples of 25) and leave no hole that a crowd falls into: from 20 on neighbours differ by a
        factor of 1.6 at most, and at 20 and at 25 a position is liquidated a hundred basis points apart.
    shares : part of newly opened interest per tier; sums to 1. Tiers above a contract's highest leverage have none,
        and the others share theirs. The default follows the leverage of open Hyperliquid positions (median 8.3, three
        quarters below 18.5, nine tenths below 48).
    half_life_hours : per tier, until half of the positions closed, if nothing is traded.
    half_life_turnovers : per tier, how often the open interest must be traded until half of the positions changed.
    smear : standard deviation of the distance between entry and liquidation, as a fraction of it: margin is added,
        withdrawn and shared between positions.
    position_usdt, position_spread : median size of the position that holds a typical dollar of open interest, and the
        standard deviation of its logarithm: which brackets matter how much.
    max_leverage : of the contract, where no brackets are known; half of its inverse is the maintenance margin rate.
    brackets : known versions, ascending. Before the first one the contract has none.
    stale_after_minutes : age of open interest from which a snapshot is stale.

    Raises
    ------
    ValueError
        If lengths differ, shares do not sum to 1, or a number is out of its range.
    """

    leverages: tuple[float, ...] = (3.0, 5.0, 10.0, 20.0, 25.0, 40.0, 50.0, 75.0, 100.0)
    shares: tuple[float, ...] = (0.27, 0.17, 0.22, 0.12, 0.07, 0.04, 0.05, 0.02, 0.04)
    half_life_hours: tuple[float, ...] = (336.0, 240.0, 168.0, 84.0, 66.0, 38.0, 30.0, 18.0, 12.0)
    half_life_turnovers: tuple[float, ...] = (60.0, 40.0, 30.0, 15.0, 12.0, 7.5, 6.0, 4.0, 3.0)
    smear: float = 0.15
    position_usdt: float = 50_000.0
    position_spread: float = 2.0
    max_leverage: float = 100.0
    brackets: tuple[Brackets, ...] = ()
    stale_after_minutes: float = 15.0

    def __post_init__(self) -> None:
        for name in ("shares", "half_life_hours", "half_life_turnovers"):
            if len(getattr(self, name)) != len(self.leverages):
                raise ValueError(f"{name}: expected one per leverage {self.leverages}, got {getattr(self, name)}")
        if abs(sum(self.shares) - 1.0) > 1e-9 or min(self.shares) < 0.0:
            raise ValueError(f"shares: expected parts of 0 or more that sum to 1, got {self.shares}")
        if min(self.leverages) <= 1.0 or list(self.leverages) != sorted(set(self.leverages)):
            raise ValueError(f"leverages: expected different ones above 1, ascending, got {self.leverages}")
        for name in ("half_life_hours", "half_life_turnovers"):
            if not all(0.0 < life < inf for life in getattr(self, name)):
                raise ValueError(
                    f"{name}: expected more than 0 and finite, got {getattr(self, name)}; 1e9 closes nothing"
                )
        if self.smear < 0.0 or self.position_usdt <= 0.0 or self.position_spread <= 0.0 or self.max_leverage <= 1.0:
            raise ValueError("expected smear >= 0, position_usdt > 0, position_spread > 0 and max_leverage > 1")
        starts = [version.valid_from_ms for version in self.brackets]
        if starts != sorted(set(starts)):
            raise ValueError(f"brackets: expected one version per moment, ascending, got valid_from_ms {starts}")


TIER = np.dtype(
    [
        ("leverage", np.float64),
        ("closing_per_ms", np.float64),  # both are exponents: 1 - exp(-rate * amount) of the positions closes
        ("closing_per_turnover", np.float64),
    ]
)
KERNEL = np.dtype(
    [
        ("share", np.float64),  # of what opens, that is of this tier
        ("first_offset", np.int64),  # lowest liquidation bucket, relative to the entry's
        ("n_offsets", np.int64),  # how many buckets from there on upwards have a part
    ]
)


class TierTables(NamedTuple):
    """A config as the kernels read it.

    Parameters
    ----------
    valid_from_ms : int64, shape (n_versions,). The first version is in force from the beginning of time.
    tiers : ``TIER``, shape (n_tiers,)
    kernels : ``KERNEL``, shape (n_versions, 2, n_tiers)
    parts : float64, shape (n_versions, 2, n_tiers, most offsets + 2 ROOM). Sum to 1 over the offsets of a tier, which
        begin at ``ROOM``.
    """

    valid_from_ms: np.ndarray
    tiers: np.ndarray
    kernels: np.ndarray
    parts: np.ndarray


def assumed_brackets(max_leverage: float) -> Brackets:
    """One bracket for all sizes where the venue's own are not known: half of the initial margin must be kept."""
    step = Bracket(
        notional_floor_usdt=0.0,
        notional_cap_usdt=inf,
        max_leverage=max_leverage,
        maintenance_margin_rate=1.0 / (2.0 * max_leverage),
    )
    return Brackets(valid_from_ms=EARLIEST_MS, steps=(step,))


def bracket_versions(instruments: pl.DataFrame) -> tuple[Brackets, ...]:
    """What the lake knows about one contract's brackets, as ``MapConfig.brackets`` wants it.

    Parameters
    ----------
    instruments : rows of the table ``instruments`` of one venue and symbol. Rows without brackets say nothing.
    """
    rows = instruments.drop_nulls("brackets").sort("event_time")
    versions = []
    for event_time, steps in rows.select(pl.col("event_time").dt.epoch("ms"), "brackets").iter_rows():
        now = Brackets(valid_from_ms=event_time, steps=tuple(Bracket(**step) for step in steps))
        if not versions or versions[-1].steps != now.steps:
            versions.append(now)
    return tuple(versions)


def liquidation_ratio(side: int, leverage: float, bracket: Bracket, notional_usdt: float) -> float:
    """Liquidation price of an isolated position as a fraction of its entry price.

    Source
    ------
    Margin left equals maintenance margin: ``E/L - |P - E| = P * rate - amount / quantity``.
    """
    rate, amount = bracket.maintenance_margin_rate, bracket.maintenance_amount_usdt / notional_usdt
    if side == LONG:
        return (1.0 - 1.0 / leverage - amount) / (1.0 - rate)
    return (1.0 + 1.0 / leverage + amount) / (1.0 + rate)


def liquidation_distances(
    side: int, leverage: float, steps: tuple[Bracket, ...], config: MapConfig
) -> list[tuple[float, float]]:
    """How far in log price positions of one tier are liquidated, and what part of the tier is: (distance, part).

    One pair per bracket that allows the leverage, by the bracket's median position; empty when none does. Parts sum
    to 1.
    """
    sizes = NormalDist(log(config.position_usdt), config.position_spread)
    found = []
    for step in steps:
        floor, cap = step.notional_floor_usdt, step.notional_cap_usdt
        below = sizes.cdf(log(floor)) if floor > 0.0 else 0.0
        held = (sizes.cdf(log(cap)) if cap < inf else 1.0) - below
        if step.max_leverage < leverage or held <= 0.0:
            continue
        ratio = liquidation_ratio(side, leverage, step, exp(sizes.inv_cdf(below + held / 2.0)))
        if (ratio < 1.0 if side == LONG else ratio > 1.0) and ratio > 0.0:
            found.append((abs(log(ratio)), held))
    total = sum(held for _, held in found)
    return [(distance, held / total) for distance, held in found]


@lru_cache(maxsize=64)
def tier_tables(config: MapConfig) -> TierTables:
    """The config's numbers, one version before any bracket is known and one per version of brackets.

    Raises
    ------
    ValueError
        If some brackets allow none of the leverages.
    """
    versions = (assumed_brackets(config.max_leverage), *config.brackets)
    rows = [
        [[_parts(side, leverage, version.steps, config) for leverage in config.leverages] for side in (LONG, SHORT)]
        for version in versions
    ]
    kernels = np.zeros((len(versions), 2, len(config.leverages)), KERNEL)
    kernels["first_offset"] = [[[first for first, _ in side] for side in version] for version in rows]
    kernels["n_offsets"] = [[[len(parts) for _, parts in side] for side in version] for version in rows]
    is_allowed = (kernels["n_offsets"] > 0).all(axis=1, keepdims=True)
    kernels["share"] = np.where(is_allowed, np.array(config.shares), 0.0)
    shared = kernels["share"].sum(axis=2, keepdims=True)
    if not (shared > 0.0).all():
        raise ValueError(
            f"expected brackets that allow some of the leverages {config.leverages}, got "
            f"{[max((step.max_leverage for step in version.steps), default=0.0) for version in versions]} at most"
        )
    kernels["share"] /= shared
    parts = np.zeros((*kernels.shape, kernels["n_offsets"].max() + 2 * ROOM))
    for version, side, tier in np.ndindex(kernels.shape):
        own = rows[version][side][tier][1]
        parts[version, side, tier, ROOM : ROOM + len(own)] = own
    tiers = np.zeros(len(config.leverages), TIER)
    tiers["leverage"] = config.leverages
    tiers["closing_per_ms"] = log(2.0) / (HOUR_MS * np.array(config.half_life_hours))
    tiers["closing_per_turnover"] = log(2.0) / np.array(config.half_life_turnovers)
    valid_from_ms = np.array([version.valid_from_ms for version in versions], np.int64)
    return TierTables(valid_from_ms=valid_from_ms, tiers=tiers, kernels=kernels, parts=parts)


def _parts(side: int, leverage: float, steps: tuple[Bracket, ...], config: MapConfig) -> tuple[int, np.ndarray]:
    """First offset and parts of one tier; no parts where no bracket allows it."""
    smeared = [
        (distance / DELTA, max(SMALLEST_SMEAR, config.smear * distance) / DELTA, part)
        for distance, part in liquidation_distances(side, leverage, steps, config)
    ]
    if not smeared:
        return 0, np.zeros(0)
    furthest = max(ceil(distance + SMEAR_REACH * spread) for distance, spread, _ in smeared)
    parts = np.zeros(furthest)
    for distance, spread, part in smeared:
        # A level in the entry's own bucket would be gone before it could be shown: offsets begin at 1.
        for offset in range(max(1, int(distance - SMEAR_REACH * spread)), ceil(distance + SMEAR_REACH * spread) + 1):
            inside = _NORMAL.cdf((offset + 0.5 - distance) / spread) - _NORMAL.cdf((offset - 0.5 - distance) / spread)
            parts[offset - 1] += part * inside
    nearest = int(np.flatnonzero(parts)[0])
    parts = parts[nearest:] / parts.sum()
    return (-furthest, parts[::-1].copy()) if side == LONG else (nearest + 1, parts)
