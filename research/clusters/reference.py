"""The predictive map again, slow and obvious: a dictionary of levels that is walked through on every bar.

It shares no line of the fast one's bookkeeping: no grid, no lazy scales, no pointers. Tests compare the two, and
``aster bench clusters`` measures what plain Python costs.
"""

from math import erf, exp, floor, isnan, log, nan, sqrt

import numpy as np

from research.clusters.grid import BUCKETS, DELTA, HALF_WINDOW, LONG, SHORT
from research.clusters.tiers import MapConfig, assumed_brackets, liquidation_distances


class LevelsByHand:
    """One map, bar after bar; ``levels[side, tier, bucket]`` are base units.

    The fields of ``bar`` are those of ``SourceBars``.
    """

    def __init__(self, config: MapConfig) -> None:
        self.config = config
        self.levels: dict[tuple[int, int, int], float] = {}
        self.missing = [0.0, 0.0]
        self.swept_usdt = [0.0, 0.0]
        self.open_interest = nan
        self.mark = nan
        self._is_unused = False
        self._reconciled_ms = 0
        self._since: list[tuple[int, int, float]] = []  # low bucket, high bucket, base units traded
        self._distances: dict[int, dict[tuple[int, int], dict[int, float]]] = {}

    def bar(self, time_ms, mark_high, mark_low, mark_close, volume_usdt, open_interest, is_new) -> None:
        """Take in one bar."""
        if is_new:
            self.open_interest, self._is_unused = open_interest, True
        self.mark = mark_close
        if isnan(mark_close):
            return
        low, high = _bucket(mark_low), _bucket(mark_high)
        for (side, tier, bucket), amount in list(self.levels.items()):
            if bucket >= low if side == LONG else bucket <= high:
                del self.levels[side, tier, bucket]
                self.missing[side] += amount
                self.swept_usdt[side] += amount * _middle(bucket)
        self._since.append((low, high, volume_usdt / mark_close))
        if self._is_unused:
            for side in (LONG, SHORT):
                self._reconcile(side, time_ms)
            self._since.clear()
            self._reconciled_ms = time_ms
            self._is_unused = False

    def _reconcile(self, side: int, time_ms: int) -> None:
        total = sum(amount for key, amount in self.levels.items() if key[0] == side)
        too_much = min(1.0, self.open_interest / total) if total > 0.0 else 1.0
        traded = sum(volume for _, _, volume in self._since if not isnan(volume))
        hours = (time_ms - self._reconciled_ms) / 3_600_000
        config = self.config
        stays = [
            too_much
            * 0.5 ** (hours / config.half_life_hours[tier])
            * 0.5 ** (traded / self.open_interest / config.half_life_turnovers[tier])
            for tier in range(len(config.leverages))
        ]
        held = 0.0
        for key in self.levels:
            if key[0] == side:
                self.levels[key] *= stays[key[1]]
                held += self.levels[key]
        self.missing[side] = 0.0
        self._open(side, self.open_interest - held, time_ms)

    def _open(self, side: int, opened: float, time_ms: int) -> None:
        volumes = [volume for _, _, volume in self._since]
        parts = self._parts_at(time_ms)
        allowed = sum(self.config.shares[tier] for tier in range(len(self.config.leverages)) if (side, tier) in parts)
        for bar, (low, high, volume) in enumerate(self._since):
            share = volume / sum(volumes) if sum(volumes) > 0.0 else 1.0 / len(volumes)
            reached_low = min(later_low for later_low, _, _ in self._since[bar:])
            reached_high = max(later_high for _, later_high, _ in self._since[bar:])
            for entry in range(low, high + 1):
                for tier in range(len(self.config.leverages)):
                    amount = opened * share / (high - low + 1) * self.config.shares[tier] / allowed
                    for offset, part in parts.get((side, tier), {}).items():
                        level = entry + offset
                        if level >= reached_low if side == LONG else level <= reached_high:
                            self.missing[side] += amount * part
                        else:
                            key = (side, tier, level)
                            self.levels[key] = self.levels.get(key, 0.0) + amount * part

    def _parts_at(self, time_ms: int) -> dict[tuple[int, int], dict[int, float]]:
        """Per side and tier: part of what opens in a bucket that is liquidated so many buckets from it."""
        known = [brackets for brackets in self.config.brackets if brackets.valid_from_ms <= time_ms]
        if len(known) not in self._distances:
            steps = (known[-1] if known else assumed_brackets(self.config.max_leverage)).steps
            tiers = [(side, tier) for side in (LONG, SHORT) for tier in range(len(self.config.leverages))]
            found = {
                (side, tier): _spread(
                    side, liquidation_distances(side, leverage, steps, self.config), self.config.smear
                )
                for side, tier in tiers
                for leverage in [self.config.leverages[tier]]
            }
            self._distances[len(known)] = {key: parts for key, parts in found.items() if parts}
        return self._distances[len(known)]

    def snapshot(self) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Mass per side and window bucket in USDT, mean leverage (NaN where nothing is), swept USDT since the last."""
        mass, weighted = np.zeros((2, BUCKETS)), np.zeros((2, BUCKETS))
        swept, self.swept_usdt = self.swept_usdt, [0.0, 0.0]
        if not isnan(self.mark):
            first = _bucket(self.mark) - HALF_WINDOW
            for (side, tier, bucket), amount in self.levels.items():
                if 0 <= bucket - first < BUCKETS:
                    mass[side, bucket - first] += amount * _middle(bucket)
                    weighted[side, bucket - first] += amount * _middle(bucket) * self.config.leverages[tier]
        with np.errstate(invalid="ignore"):
            return mass, weighted / mass, swept


def _bucket(price: float) -> int:
    return floor(log(price) / DELTA + 1e-9)


def _middle(bucket: int) -> float:
    return exp((bucket + 0.5) * DELTA)


def _below(value: float) -> float:
    """Part of a normal distribution below a value."""
    return 0.5 * (1.0 + erf(value / sqrt(2.0)))


def _spread(side: int, distances: list[tuple[float, float]], smear: float) -> dict[int, float]:
    """Parts by signed offset in buckets: a normal curve around each distance, cut at three standard deviations."""
    found: dict[int, float] = {}
    for distance, part in distances:
        middle, spread = distance / DELTA, max(0.6, smear * distance / DELTA)
        for offset in range(1, floor(middle + 3.0 * spread) + 2):
            if floor(middle - 3.0 * spread) <= offset < middle + 3.0 * spread + 1.0:
                inside = _below((offset + 0.5 - middle) / spread) - _below((offset - 0.5 - middle) / spread)
                found[offset] = found.get(offset, 0.0) + part * inside
    total = sum(found.values())
    return {-offset if side == LONG else offset: part / total for offset, part in found.items() if part > 0.0}
