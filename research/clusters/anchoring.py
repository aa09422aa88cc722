"""Another venue's map on Aster's prices: moved by the basis, blurred by how uncertain that is.

The basis is the log of Aster's mark over the source's, an average over ten minutes. Levels that it takes across Aster's
mark are masked and counted, never shown on the wrong side.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from research.clusters import grid
from research.clusters.contracts import asset, units
from research.clusters.profiles import Profiles
from research.jit import njit

AVERAGE_MS = 600_000.0  # time constant of the basis
MAX_BASIS = 0.01  # in log price; beyond it is another contract or a broken feed
MAX_MARK_AGE_MS = 60_000
_BLUR_DEVIATIONS = 4.0
_NOTHING = 1e-9  # of a bucket: rounding


@dataclass(frozen=True, kw_only=True)
class BasisState:
    """The basis as far as it was followed; NaN and -1 before the first pair of marks.

    Parameters
    ----------
    time_ms : of the last pair of marks, UTC ms.
    mean : log of Aster's mark over the source's, both per unit of the asset.
    variance : of single pairs around the mean.
    """

    time_ms: int = -1
    mean: float = math.nan
    variance: float = math.nan


def anchor(
    profiles: Profiles,
    aster_time_ms: np.ndarray,
    aster_mark: np.ndarray,
    *,
    symbol: str | None = None,
    source_time_ms: np.ndarray | None = None,
    source_mark: np.ndarray | None = None,
) -> Profiles:
    """The map on Aster's prices. ``anchored`` without a state before it or after it."""
    return anchored(
        profiles,
        aster_time_ms,
        aster_mark,
        symbol=symbol,
        source_time_ms=source_time_ms,
        source_mark=source_mark,
    )[0]


def anchored(
    profiles: Profiles,
    aster_time_ms: np.ndarray,
    aster_mark: np.ndarray,
    *,
    symbol: str | None = None,
    source_time_ms: np.ndarray | None = None,
    source_mark: np.ndarray | None = None,
    state: BasisState | None = None,
) -> tuple[Profiles, BasisState]:
    """The map on Aster's prices, and the basis to go on with; in pieces it gives the same bits.

    A snapshot is empty and stale where no basis is known, where the basis is more than ``MAX_BASIS``, where either mark
    is older than ``MAX_MARK_AGE_MS``, or where the source's was. Mass, swept notional and open interest stay the
    source's, in USDT.

    Parameters
    ----------
    profiles : a map on the prices of its source.
    aster_time_ms, aster_mark : int64 ascending and float64
        When each of Aster's marks was known, and the mark; NaN marks are left out. In pieces they begin at least
        ``MAX_MARK_AGE_MS`` before the first snapshot; what the state knows is skipped.
    symbol : the contract on Aster, where its name is another multiple of the asset; None for the same.
    source_time_ms, source_mark : int64 ascending and float64
        When each of the source's marks was known, and the mark (``avail_ms`` and ``mark_close`` of its bars); None
        follows the basis at the snapshots only.
    state : of the pieces before.

    Raises
    ------
    ValueError
        If the two contracts are not of the same asset, or times do not ascend.
    """
    symbol = profiles.symbol if symbol is None else symbol
    if asset(symbol) != asset(profiles.symbol):
        raise ValueError(f"expected contracts of the same asset, got a map of {profiles.symbol} for {symbol}")
    if source_time_ms is None or source_mark is None:
        source_time_ms, source_mark = profiles.avail_ms, profiles.mark
    aster_ms, aster_mark = _seen(aster_time_ms, aster_mark)
    source_ms, source_mark = _seen(source_time_ms, source_mark)
    state = BasisState() if state is None else state
    multiple = math.log(units(symbol) / units(profiles.symbol))
    new = source_ms > state.time_ms
    at = np.searchsorted(aster_ms, source_ms[new], side="right") - 1
    is_pair = _age_ms(aster_ms, at, source_ms[new]) <= MAX_MARK_AGE_MS
    pair_ms = source_ms[new][is_pair]
    pairs = np.log(aster_mark[at[is_pair]] / source_mark[new][is_pair]) - multiple
    mean, variance = _follow(pair_ms, pairs, state.time_ms, state.mean, state.variance)

    pair = np.searchsorted(pair_ms, profiles.avail_ms, side="right")  # mean[0] is the state's
    basis, deviation = mean[pair], np.sqrt(variance[pair])
    at = np.searchsorted(aster_ms, profiles.avail_ms, side="right") - 1
    is_fresh = _age_ms(aster_ms, at, profiles.avail_ms) <= MAX_MARK_AGE_MS
    mark = np.full(len(profiles), np.nan)
    mark[is_fresh] = aster_mark[at[is_fresh]]
    from_source = np.searchsorted(source_ms, profiles.avail_ms, side="right") - 1
    is_source_fresh = _age_ms(source_ms, from_source, profiles.avail_ms) <= MAX_MARK_AGE_MS
    is_valid = is_fresh & is_source_fresh & np.isfinite(profiles.mark) & (np.abs(basis) <= MAX_BASIS)

    first_bucket = np.zeros(len(profiles), np.int64)
    first_bucket[at >= 0] = grid.first_bucket(aster_mark[at[at >= 0]])
    moved = replace(
        profiles,
        symbol=symbol,
        first_bucket=first_bucket,
        mark=mark,
        is_stale=profiles.is_stale | ~is_valid,
        basis_bps=1e4 * basis,
        basis_deviation_bps=1e4 * deviation,
        **_moved(profiles, first_bucket, mark, basis + multiple, deviation, is_valid),
    )
    if len(pair_ms):
        state = BasisState(time_ms=int(pair_ms[-1]), mean=float(mean[-1]), variance=float(variance[-1]))
    return moved, state


def _seen(time_ms: np.ndarray, mark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The marks there are, with their times."""
    if len(time_ms) != len(mark) or (np.diff(time_ms) < 0).any():
        raise ValueError(f"expected one ascending time per mark, got {len(time_ms)} for {len(mark)}; sort the marks")
    seen = np.isfinite(mark) & (mark > 0.0)
    return time_ms[seen], mark[seen]


def _age_ms(time_ms: np.ndarray, row: np.ndarray, at_ms: np.ndarray) -> np.ndarray:
    """Age of these rows; more than any limit before the first."""
    age_ms = np.full(len(row), 2**62)
    age_ms[row >= 0] = at_ms[row >= 0] - time_ms[row[row >= 0]]
    return age_ms


def _moved(
    profiles: Profiles,
    first_bucket: np.ndarray,
    mark: np.ndarray,
    shift: np.ndarray,
    deviation: np.ndarray,
    is_valid: np.ndarray,
) -> dict[str, np.ndarray | None]:
    """Mass, leverage and what follows from them in the window on Aster's mark."""
    highest_long, lowest_short = np.zeros_like(first_bucket), np.zeros_like(first_bucket)
    highest_long[is_valid] = grid.highest_long_bucket(mark[is_valid])
    lowest_short[is_valid] = grid.lowest_short_bucket(mark[is_valid])
    has_leverage = profiles.leverage is not None
    weighted = (
        np.nan_to_num(profiles.leverage) * profiles.mass_usdt
        if has_leverage
        else np.zeros((0, 2, grid.BUCKETS), np.float32)
    )
    mass = np.zeros(profiles.mass_usdt.shape)
    mass_leverage = np.zeros(weighted.shape)
    masked_usdt = np.zeros(len(profiles))
    _move(
        np.ascontiguousarray(profiles.mass_usdt),
        weighted,
        first_bucket - profiles.first_bucket,
        highest_long - first_bucket,
        lowest_short - first_bucket,
        shift / grid.DELTA,
        np.where(deviation > grid.DELTA / 2.0, deviation, 0.0) / grid.DELTA,
        is_valid,
        mass,
        mass_leverage,
        masked_usdt,
    )
    leverage = None
    if has_leverage:
        leverage = np.full(mass.shape, np.nan, np.float32)
        np.divide(mass_leverage, mass, out=leverage, where=mass > 0.0, casting="same_kind")
    return {
        "mass_usdt": mass.astype(np.float32),
        "leverage": leverage,
        "masked_usdt": masked_usdt,
        "placed_share": mass.sum(axis=(1, 2)) / (2.0 * profiles.open_interest_usdt),
    }


@njit
def _follow(pair_ms, pairs, before_ms, mean, variance):
    """Exponentially weighted mean and variance; entry 0 is what it was before the first pair."""
    means, variances = np.full(len(pairs) + 1, mean), np.full(len(pairs) + 1, variance)
    for i in range(len(pairs)):
        if math.isnan(mean):
            mean, variance = pairs[i], 0.0
        else:
            weight = 1.0 - math.exp((before_ms - pair_ms[i]) / AVERAGE_MS)
            off = pairs[i] - mean
            mean += weight * off
            variance = (1.0 - weight) * (variance + weight * off * off)
        before_ms = pair_ms[i]
        means[i + 1], variances[i + 1] = mean, variance
    return means, variances


@njit
def _ramp(place, blur):
    """Integral of the share of a blurred point at 0 that lies below ``place``; all in buckets."""
    if blur == 0.0:
        return max(place, 0.0)
    z = place / blur
    return place * 0.5 * (1.0 + math.erf(z / math.sqrt(2.0))) + blur * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


@njit
def _move(mass, weighted, columns_on, highest_long, lowest_short, shift, blur, is_valid, moved, moved_weighted, masked):
    """Spread every bucket over those that it covers after the shift, in place.

    A bucket's mass lies evenly in it, so a shift by a part of a bucket splits it and the total stays.
    """
    for row in range(len(mass)):
        if not is_valid[row]:
            continue
        reach = math.ceil(_BLUR_DEVIATIONS * blur[row]) + 1
        first = math.floor(shift[row]) - reach + 1
        below = np.array([_ramp(first + i - shift[row], blur[row]) for i in range(-1, 2 * reach + 1)])
        share = below[2:] - 2.0 * below[1:-1] + below[:-2]
        share[share < _NOTHING] = 0.0
        share /= share.sum()
        for side in range(2):
            for column in range(mass.shape[2]):
                if mass[row, side, column] == 0.0:
                    continue
                for i in range(len(share)):
                    target = column - columns_on[row] + first + i
                    amount = mass[row, side, column] * share[i]
                    if target > highest_long[row] if side == 0 else target < lowest_short[row]:
                        masked[row] += amount
                    elif 0 <= target < mass.shape[2]:
                        moved[row, side, target] += amount
                        if len(moved_weighted):
                            moved_weighted[row, side, target] += weighted[row, side, column] * share[i]
