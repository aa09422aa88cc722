"""One map of a symbol from all that is known of it: positions of the best source, and where orders were forced.

Positions come from the first source of ``SOURCES`` that is fresh: Aster's own, else another venue's on Aster's prices.
Forced orders of the past move a share of that mass to where they were, on their side. A source that is missing or stale
is a mask: nothing is put in its place. With neither source a snapshot is empty and stale.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from research.clusters import grid
from research.clusters.inputs import Unavailable
from research.clusters.profiles import SOURCES, Profiles
from research.jit import njit

NONE = -1


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """How sources are put together.

    Parameters
    ----------
    reactive_share : fraction of a side's mass that follows the forced orders where both sources are there. A prior:
        change it by the log score on later days, never by eye.
    max_age_s : a source's newest snapshot may be this old.
    """

    reactive_share: float = 0.25
    max_age_s: int = 900

    def __post_init__(self) -> None:
        if not 0.0 <= self.reactive_share <= 1.0:
            raise ValueError(f"reactive_share: expected a fraction from 0 to 1, got {self.reactive_share}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Hybrid:
    """A hybrid map and what it was made of.

    Parameters
    ----------
    profiles : source "hybrid". ``open_interest_usdt``, ``placed_share``, ``leverage`` and the basis are those of the
        source of positions, NaN where there was none; ``masked_usdt`` is mass that lay across the mark.
    layers : the maps given, predictive ones in the order of ``SOURCES``, then the reactive one.
    row : int64, shape (n_layers, n_snapshots)
        Which snapshot of each layer was the newest known; -1 where it is masked.
    used : int64, shape (n_snapshots,), the layer whose positions are shown; -1 where none is.
    is_own_money : bool, shape (n_snapshots,)
        The mass is notional on Aster: its own positions, or another venue's in proportion to Aster's open interest.
    scale : float64, shape (n_snapshots,), that proportion; 1 where nothing was scaled.
    """

    profiles: Profiles
    layers: tuple[Profiles, ...]
    row: np.ndarray
    used: np.ndarray
    is_own_money: np.ndarray
    scale: np.ndarray


def hybrid(
    symbol: str,
    time_ms: np.ndarray,
    mark: np.ndarray,
    predictive: list[Profiles],
    reactive: Profiles | None = None,
    *,
    avail_ms: np.ndarray | None = None,
    aster_open_interest_usdt: np.ndarray | None = None,
    config: HybridConfig | None = None,
) -> Hybrid | Unavailable:
    """The hybrid map at the given moments.

    Parameters
    ----------
    time_ms, avail_ms : int64, ascending; what the snapshots describe and when they may be used, None for the same.
        A layer's snapshot counts from its own ``avail_ms`` on.
    mark : float64, Aster's mark then; NaN where missing: that snapshot is empty and stale.
    predictive : maps on Aster's prices (``anchor``), at most one per source.
    aster_open_interest_usdt : float64, one-sided, as known then, NaN where unknown; scales foreign positions.

    Returns
    -------
    Unavailable where there is no layer, or none that was ever fresh at these moments.

    Raises
    ------
    ValueError
        If layers are of another symbol or two of the same source.
    """
    config = HybridConfig() if config is None else config
    avail_ms = time_ms if avail_ms is None else avail_ms
    layers = _layers(symbol, predictive, reactive)
    row = np.array([_newest(layer, avail_ms, mark, config.max_age_s) for layer in layers], np.int64)
    row = row.reshape(len(layers), len(time_ms))
    if not (row != NONE).any():
        return Unavailable(reason=_why_not(symbol, layers, config.max_age_s))

    is_mark = np.isfinite(mark)
    first_bucket = np.zeros(len(time_ms), np.int64)
    first_bucket[is_mark] = grid.first_bucket(mark[is_mark])
    first_bucket = first_bucket[np.maximum.accumulate(np.where(is_mark, np.arange(len(mark)), 0))]
    n_predictive = len(layers) - (reactive is not None)
    is_there = row[:n_predictive] != NONE
    used = np.where(is_there.any(axis=0), is_there.argmax(axis=0) if n_predictive else NONE, NONE)

    scale, is_own_money = _proportion(layers, row, used, aster_open_interest_usdt)
    mass = np.zeros((len(time_ms), 2, grid.BUCKETS))
    leverage = np.full((len(time_ms), 2, grid.BUCKETS), np.nan, np.float32)
    masked = np.zeros(len(time_ms))
    for number, layer in enumerate(layers[:n_predictive]):
        here = np.where(used == number, row[number], NONE)
        weights = layer.leverage if layer.leverage is not None else np.full_like(layer.mass_usdt, np.nan)
        _move(layer.mass_usdt, weights, layer.first_bucket, here, first_bucket, scale, mass, leverage)
    if reactive is not None:
        printed, nothing = np.zeros_like(mass), np.full_like(leverage, np.nan)
        ones = np.ones(len(time_ms))
        _move(reactive.mass_usdt, np.full_like(reactive.mass_usdt, np.nan), reactive.first_bucket, row[-1],
              first_bucket, ones, printed, nothing)  # fmt: skip
        masked += _hide(printed, mark, first_bucket) * (used == NONE)
        masked += _hide(mass, mark, first_bucket)
        mass = np.where((used == NONE)[:, None, None], printed, _blend(mass, printed, config.reactive_share))
    else:
        masked += _hide(mass, mark, first_bucket)
    taken = _Taken(layers=layers, row=row, used=used)
    return Hybrid(
        profiles=Profiles(
            symbol=symbol,
            source="hybrid",
            time_ms=time_ms,
            avail_ms=avail_ms,
            first_bucket=first_bucket,
            mass_usdt=mass.astype(np.float32),
            mark=mark,
            swept_usdt=taken.swept() * scale[:, None],
            open_interest_usdt=taken.of("open_interest_usdt") * scale,
            placed_share=taken.of("placed_share"),
            is_stale=~is_mark | (row == NONE).all(axis=0),
            leverage=np.where(mass > 0.0, leverage, np.nan).astype(np.float32),
            basis_bps=taken.of("basis_bps"),
            basis_deviation_bps=taken.of("basis_deviation_bps"),
            masked_usdt=masked,
        ),
        layers=layers,
        row=row,
        used=used,
        is_own_money=is_own_money,
        scale=scale,
    )


def cluster_inputs(clusters: pl.DataFrame, made: Hybrid) -> pl.DataFrame:
    """Rows of CLUSTERS found in a hybrid map, with what each source says of them: what confidence looks at.

    Parameters
    ----------
    clusters : ts, side, price_lo, price_hi; rows at other moments than the map's snapshots keep nulls.

    Returns
    -------
    The columns given and, null where the source is masked:

    open_interest : positions inside, USDT; null where they are known in another venue's money only.
    mass_src_usd : positions inside, as the source has them.
    reactive_usdt : faded notional of forced orders inside.
    basis_deviation_bps : uncertainty of the prices; null for Aster's own map.
    layers : names of the maps that were fresh, joined by "+".
    """
    at = np.searchsorted(made.profiles.time_ms, clusters["ts"].dt.epoch("ms").to_numpy())
    at = np.minimum(at, len(made.profiles) - 1)
    is_snapshot = made.profiles.time_ms[at] == clusters["ts"].dt.epoch("ms").to_numpy()
    is_zone = (clusters["price_lo"].is_not_null() & clusters["price_hi"].is_not_null()).to_numpy() & is_snapshot
    side = (clusters["side"].cast(pl.String) == "short").fill_null(False).cast(pl.Int64).to_numpy(writable=True)
    low = grid.bucket_of(np.where(is_zone, clusters["price_lo"].fill_null(1.0).to_numpy(), 1.0))
    high = grid.bucket_of(np.where(is_zone, clusters["price_hi"].fill_null(1.0).to_numpy(), 1.0)) - 1
    inside = np.full(len(clusters), np.nan)
    reactive = np.full(len(clusters), np.nan)
    names = np.full((len(made.layers), len(clusters)), None, object)
    for number, layer in enumerate(made.layers):
        row = np.where(is_zone, made.row[number][at], NONE)
        names[number, row != NONE] = layer.source
        sums = _sums(layer.mass_usdt, layer.first_bucket, row, side, low, high)
        if layer.source in SOURCES:
            inside = np.where(made.used[at] == number, sums, inside)
        else:
            reactive = sums
    own = np.where(made.is_own_money[at], inside * made.scale[at], np.nan)
    deviation = np.where(is_zone, made.profiles.basis_deviation_bps[at], np.nan)
    return clusters.with_columns(
        pl.Series("open_interest", own, nan_to_null=True),
        pl.Series("mass_src_usd", inside, nan_to_null=True),
        pl.Series("reactive_usdt", reactive, nan_to_null=True),
        pl.Series("basis_deviation_bps", deviation, nan_to_null=True),
        pl.Series("layers", _joined(names), dtype=pl.String),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Taken:
    """Values of the layer that was used in each snapshot."""

    layers: tuple[Profiles, ...]
    row: np.ndarray
    used: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """One value per snapshot; NaN where no layer was used or it does not have this."""
        out = np.full(len(self.used), np.nan)
        for number, layer in enumerate(self.layers):
            values = getattr(layer, name)
            if values is not None:
                here = self.used == number
                out[here] = values[self.row[number][here]]
        return out

    def swept(self) -> np.ndarray:
        """Swept since the hybrid's snapshot before: all snapshots of the same layer in between; 0 where it changed."""
        out = np.zeros((len(self.used), 2))
        for number, layer in enumerate(self.layers):
            total = np.concatenate([np.zeros((1, 2)), np.cumsum(layer.swept_usdt, axis=0)])
            here = np.flatnonzero((self.used[1:] == number) & (self.used[:-1] == number)) + 1
            out[here] = total[self.row[number][here] + 1] - total[self.row[number][here - 1] + 1]
        return out


def _layers(symbol: str, predictive: list[Profiles], reactive: Profiles | None) -> tuple[Profiles, ...]:
    layers = [*predictive, *([] if reactive is None else [reactive])]
    strangers = sorted({layer.symbol for layer in layers} - {symbol})
    if strangers:
        raise ValueError(f"expected maps of {symbol} only, got {strangers}; anchor them with symbol={symbol!r}")
    sources = [layer.source for layer in predictive]
    if len(set(sources)) != len(sources) or not set(sources) <= set(SOURCES):
        raise ValueError(f"expected at most one map of each of {SOURCES}, got {sources}")
    ordered = sorted(predictive, key=lambda layer: SOURCES.index(layer.source))
    return (*ordered, *([] if reactive is None else [reactive]))


def _newest(layer: Profiles, avail_ms: np.ndarray, mark: np.ndarray, max_age_s: int) -> np.ndarray:
    """Newest snapshot of a layer known at each moment; -1 where there is none, it is old, stale or wholly empty."""
    row = np.searchsorted(layer.avail_ms, avail_ms, side="right") - 1
    if len(layer) == 0:
        return np.full(len(avail_ms), NONE)
    at = np.maximum(row, 0)
    is_old = avail_ms - layer.avail_ms[at] > 1_000 * max_age_s
    is_empty = ~(layer.mass_usdt.max(axis=(1, 2)) > 0.0)
    masked = (row < 0) | is_old | layer.is_stale[at] | is_empty[at] | ~np.isfinite(mark)
    return np.where(masked, NONE, at)


def _proportion(layers, row, used, aster_usdt) -> tuple[np.ndarray, np.ndarray]:
    """Aster's open interest over the used source's, 1 where it is not known; and whether the mass is Aster's money."""
    own = np.array([layer.source == "aster" for layer in layers] + [False])[used]
    if aster_usdt is None:
        return np.ones(len(used)), own
    theirs = _Taken(layers=layers, row=row, used=used).of("open_interest_usdt")
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(own, 1.0, aster_usdt / theirs)
    is_known = np.isfinite(share) & (share > 0.0) & (used != NONE)
    return np.where(is_known, share, 1.0), is_known | own


def _hide(mass: np.ndarray, mark: np.ndarray, first_bucket: np.ndarray) -> np.ndarray:
    """Take away what lies on the wrong side of the mark, in place; returns how much per snapshot."""
    known = np.where(np.isfinite(mark), mark, 1.0)
    column = np.arange(grid.BUCKETS)
    is_long = column <= (grid.highest_long_bucket(known) - first_bucket)[:, None]
    is_short = column >= (grid.lowest_short_bucket(known) - first_bucket)[:, None]
    is_shown = np.stack([is_long, is_short], axis=1) & np.isfinite(mark)[:, None, None]
    hidden = np.where(is_shown, 0.0, mass).sum(axis=(1, 2))
    mass[~is_shown] = 0.0
    return hidden


def _blend(mass: np.ndarray, printed: np.ndarray, share: float) -> np.ndarray:
    """A share of each side's mass moved to where orders were forced on that side; the side's total stays."""
    total, prints = mass.sum(axis=2, keepdims=True), printed.sum(axis=2, keepdims=True)
    moved = np.where(prints > 0.0, share, 0.0)
    return (1.0 - moved) * mass + moved * total * printed / np.where(prints > 0.0, prints, 1.0)


@njit
def _move(mass, leverage, layer_first, row, first_bucket, scale, out_mass, out_leverage):
    for snapshot in range(len(row)):
        if row[snapshot] < 0:
            continue
        shift = first_bucket[snapshot] - layer_first[row[snapshot]]
        for side in range(2):
            for column in range(out_mass.shape[2]):
                if 0 <= column + shift < mass.shape[2]:
                    out_mass[snapshot, side, column] = mass[row[snapshot], side, column + shift] * scale[snapshot]
                    out_leverage[snapshot, side, column] = leverage[row[snapshot], side, column + shift]


@njit
def _sums(mass, first_bucket, row, side, low, high):
    """Mass of each row's snapshot and side in buckets [low, high]; NaN where the row is -1."""
    out = np.full(len(row), np.nan)
    for i in range(len(row)):
        if row[i] >= 0:
            total = 0.0
            for bucket in range(low[i], high[i] + 1):
                column = bucket - first_bucket[row[i]]
                if 0 <= column < mass.shape[2]:
                    total += mass[row[i], side[i], column]
            out[i] = total
    return out


def _joined(names: np.ndarray) -> list[str | None]:
    """Names of each column joined; None where there is none."""
    return ["+".join(name for name in column if name is not None) or None for column in names.T]


def _why_not(symbol: str, layers: tuple[Profiles, ...], max_age_s: int) -> str:
    if not layers:
        return f"no open interest of any source and no recorded forced orders for {symbol}"
    names = ", ".join(layer.source for layer in layers)
    return f"{symbol}: none of {names} had a snapshot younger than {max_age_s} s beside a known mark of Aster"
