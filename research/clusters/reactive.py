"""Where liquidations happened: forced orders spread over the price grid, fading with time.

The stream tells of one order per symbol and second at most, so every sum is a lower bound. ``corrected_count`` says how
many orders there were if they fell evenly on the seconds, ``is_censored`` when even that is a guess.
"""

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from research.clusters import grid
from research.clusters.profiles import Profiles, SourceBars
from research.jit import njit

SOURCE = "force_orders"
SPREAD = 1.5e-3  # standard deviation of a print in log price
REACH_BUCKETS = 6  # four standard deviations; what lies beyond is put back inside
HALF_LIVES_S = (900, 14_400, 172_800)
HALF_LIFE_S = 14_400
CENSORED_SHARE = 0.8  # of the seconds had an order: the correction then rests on a handful of free ones
FIRST_BUCKET, STATE_BUCKETS = -18_500, 35_000  # of the state: prices from 1e-8 to 1.4e7
_RESCALE_HALVINGS = 500.0  # the lazy scale stays far inside float64


@dataclass(frozen=True, kw_only=True, eq=False)
class ReactiveState:
    """What a reactive map needs to go on; ``reactive_map`` returns a new one and changes none.

    Parameters
    ----------
    until_ms : orders known by then are in it, UTC ms.
    scaled_mass : float64, shape (2, STATE_BUCKETS)
        USDT at ``reference_ms``, as if nothing had faded since: younger orders are in it with more than they were.
    scaled_total : float64, shape (2,)
        The same of all orders, those off the grid too.
    second_ms, known_ms : int64
        Of the orders of the last ``capture_window_s``.
    mark_bucket : int
        First bucket of the last window; 0 before the first mark.
    """

    half_life_s: float
    capture_window_s: int
    until_ms: int
    reference_ms: int
    mark_bucket: int
    scaled_mass: np.ndarray
    scaled_total: np.ndarray
    second_ms: np.ndarray
    known_ms: np.ndarray

    def to_bytes(self) -> bytes:
        """Everything in it, compressed."""
        file = io.BytesIO()
        np.savez_compressed(file, **vars(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ReactiveState":
        """What ``to_bytes`` wrote."""
        with np.load(io.BytesIO(content)) as stored:
            return cls(**{name: stored[name] if stored[name].ndim else stored[name].item() for name in stored})


@dataclass(frozen=True, kw_only=True, eq=False)
class Reactive:
    """A reactive map and how much of what happened it can have seen; one value per snapshot.

    Parameters
    ----------
    profiles : longs' orders below the mark, shorts' above it.
    hidden_usdt : float64, shape (n_snapshots, 2)
        What is not in the profile: prints on the wrong side of today's mark, in its own bucket, or outside the window.
        With the profile it adds up to the faded notional of all orders of that side.
    occupied_share : float64
        Part of the seconds of the last ``capture_window_s`` that had an order.
    corrected_count : float64
        Orders in that time if they came independently, ``-W * ln(1 - occupied_share)``; inf where every second had one.
    is_censored : bool
        More than ``CENSORED_SHARE`` of the seconds were occupied.
    """

    profiles: Profiles
    hidden_usdt: np.ndarray
    occupied_share: np.ndarray
    corrected_count: np.ndarray
    is_censored: np.ndarray
    state: ReactiveState


def reactive_map(
    orders: pl.DataFrame,
    time_ms: np.ndarray,
    mark: np.ndarray,
    *,
    symbol: str,
    avail_ms: np.ndarray | None = None,
    half_life_s: float = HALF_LIFE_S,
    capture_window_s: int = 300,
    state: ReactiveState | None = None,
) -> Reactive:
    """Snapshots of the forced orders that were known by each moment.

    A snapshot holds orders with ``avail_time`` up to its own; each fades from when it was known. Taken in pieces with
    ``state`` it gives the same bits: every piece may get the whole frame, orders of before are skipped.

    Parameters
    ----------
    orders : columns of ``force_orders`` and ``avail_time`` (``inputs.liquidations``), one symbol. Orders without an
        average price or filled quantity have no place on the grid: they count as seconds only.
    time_ms, avail_ms : int64, ascending
        What the snapshots describe and when they may be used; None for the same.
    mark : float64
        NaN where missing: that snapshot is empty and stale.
    half_life_s, capture_window_s : those of ``state`` where one is given.
    state : of the snapshots before.

    Raises
    ------
    ValueError
        If lengths differ, times do not ascend, or the state was made with other settings or later snapshots.
    """
    avail_ms = time_ms if avail_ms is None else avail_ms
    if state is None:
        state = _begin(avail_ms, half_life_s, capture_window_s)
    _check(time_ms, avail_ms, mark, half_life_s, capture_window_s, state)
    last_ms = int(avail_ms[-1]) if len(avail_ms) else state.until_ms
    known = _between(orders, state.until_ms, last_ms)
    first_bucket, *shown = _windows(mark, state.mark_bucket)
    mass = np.zeros((len(time_ms), 2, grid.BUCKETS), np.float32)
    hidden = np.zeros((len(time_ms), 2))
    scaled_mass, scaled_total = state.scaled_mass.copy(), state.scaled_total.copy()
    placed = known.filter((pl.col("usdt") > 0.0).fill_null(value=False))
    reference_ms = _run(
        placed["known_ms"].to_numpy(writable=True),
        np.log(placed["average_price"].to_numpy()),
        placed["usdt"].to_numpy(writable=True),
        placed["side"].to_numpy(writable=True),
        np.array(avail_ms, np.int64),
        first_bucket,
        *shown,
        half_life_s * 1_000.0,
        state.reference_ms,
        scaled_mass,
        scaled_total,
        mass,
        hidden,
    )
    second_ms = np.concatenate([state.second_ms, known["second_ms"].to_numpy()])
    known_ms = np.concatenate([state.known_ms, known["known_ms"].to_numpy()])
    share = _occupied(second_ms, known_ms, avail_ms, capture_window_s) / capture_window_s
    is_recent = known_ms > last_ms - capture_window_s * 1_000
    with np.errstate(divide="ignore"):
        corrected = -capture_window_s * np.log1p(-share)
    return Reactive(
        profiles=Profiles(
            symbol=symbol,
            source=SOURCE,
            time_ms=time_ms,
            avail_ms=avail_ms,
            first_bucket=first_bucket,
            mass_usdt=mass,
            mark=mark,
            swept_usdt=np.zeros((len(time_ms), 2)),
            open_interest_usdt=np.full(len(time_ms), np.nan),
            placed_share=np.full(len(time_ms), np.nan),
            is_stale=~_is_price(mark),
        ),
        hidden_usdt=hidden,
        occupied_share=share,
        corrected_count=corrected,
        is_censored=share > CENSORED_SHARE,
        state=replace(
            state,
            until_ms=last_ms,
            reference_ms=int(reference_ms),
            mark_bucket=int(first_bucket[-1]) if len(first_bucket) else state.mark_bucket,
            scaled_mass=scaled_mass,
            scaled_total=scaled_total,
            second_ms=second_ms[is_recent],
            known_ms=known_ms[is_recent],
        ),
    )


def open_interest_drop(bars: SourceBars, avail_ms: np.ndarray, window_s: int = 300) -> np.ndarray:
    """How much open interest went away in the window before each moment, USDT at the last mark; 0 where it grew.

    The other witness of what the thinned stream cannot count: forced orders close positions. NaN where either end is
    unknown.
    """
    now = np.searchsorted(bars.avail_ms, avail_ms, side="right") - 1
    before = np.searchsorted(bars.avail_ms, avail_ms - window_s * 1_000, side="right") - 1
    fall = bars.open_interest[np.maximum(before, 0)] - bars.open_interest[np.maximum(now, 0)]
    drop_usdt = np.maximum(fall, 0.0) * bars.mark_close[np.maximum(now, 0)]
    return np.where(before >= 0, drop_usdt, np.nan)


def _begin(avail_ms: np.ndarray, half_life_s: float, capture_window_s: int) -> ReactiveState:
    nothing = np.zeros(0, np.int64)
    return ReactiveState(
        half_life_s=half_life_s,
        capture_window_s=capture_window_s,
        until_ms=-(2**62),
        reference_ms=int(avail_ms[0]) if len(avail_ms) else 0,
        mark_bucket=0,
        scaled_mass=np.zeros((2, STATE_BUCKETS)),
        scaled_total=np.zeros(2),
        second_ms=nothing,
        known_ms=nothing,
    )


def _check(time_ms, avail_ms, mark, half_life_s: float, capture_window_s: int, state: ReactiveState) -> None:
    if not len(time_ms) == len(avail_ms) == len(mark):
        raise ValueError(
            f"expected one mark and one avail_ms per snapshot, got {len(mark)} and {len(avail_ms)} for {len(time_ms)}"
        )
    if (np.diff(avail_ms) < 0).any() or (np.diff(time_ms) <= 0).any():
        raise ValueError("expected ascending snapshot times; sort them, keep one each")
    if len(avail_ms) and avail_ms[0] < state.until_ms:
        raise ValueError(
            f"the state is of {state.until_ms}, later than the first snapshot {avail_ms[0]}; go on after it"
        )
    if (half_life_s, capture_window_s) != (state.half_life_s, state.capture_window_s):
        raise ValueError(
            f"the state was made with half_life_s {state.half_life_s:g} and capture_window_s {state.capture_window_s}, "
            f"not {half_life_s:g} and {capture_window_s}; begin without a state"
        )
    if not (half_life_s > 0.0 and capture_window_s > 0):
        raise ValueError(
            f"expected positive half_life_s and capture_window_s, got {half_life_s} and {capture_window_s}"
        )


def _between(orders: pl.DataFrame, after_ms: int, until_ms: int) -> pl.DataFrame:
    """Orders known in (after, until] by ``known_ms``, with the side of the position that was liquidated."""
    known = orders.select(
        "average_price",
        side=pl.when(pl.col("side") == "SELL").then(grid.LONG).otherwise(grid.SHORT).cast(pl.Int64),
        usdt=pl.col("average_price") * pl.col("filled_quantity"),
        second_ms=pl.col("event_time").dt.epoch("ms") // 1_000 * 1_000,
        known_ms=pl.col("avail_time").dt.epoch("ms"),
    )
    return known.filter(pl.col("known_ms") > after_ms, pl.col("known_ms") <= until_ms).sort(
        "known_ms", maintain_order=True
    )


def _is_price(mark: np.ndarray) -> np.ndarray:
    return np.isfinite(mark) & (mark > 0.0)


def _windows(mark: np.ndarray, bucket_before: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per snapshot the window's first bucket, the highest that may show longs and the lowest that may show shorts."""
    seen = _is_price(mark)
    first = np.full(len(mark), bucket_before, np.int64)
    highest_long, lowest_short = np.full_like(first, -(2**62)), np.full_like(first, 2**62)
    first[seen] = grid.first_bucket(mark[seen])
    highest_long[seen], lowest_short[seen] = grid.highest_long_bucket(mark[seen]), grid.lowest_short_bucket(mark[seen])
    last_seen = np.maximum.accumulate(np.where(seen, np.arange(len(mark)), -1))
    return np.where(last_seen >= 0, first[last_seen], bucket_before), highest_long, lowest_short


def _occupied(second_ms: np.ndarray, known_ms: np.ndarray, avail_ms: np.ndarray, window_s: int) -> np.ndarray:
    """Per snapshot how many different seconds had an order that became known in the window before it."""
    after = np.searchsorted(known_ms, avail_ms - window_s * 1_000, side="right")
    until = np.searchsorted(known_ms, avail_ms, side="right")
    pairs = zip(after, until, strict=True)
    seconds = np.array([np.unique(second_ms[first:last]).size for first, last in pairs], np.int64)
    return np.minimum(seconds, window_s)


@njit
def _deposit(scaled_mass, side, log_price, amount):
    """Spread an amount over the buckets around a price by the normal distribution."""
    place = log_price / grid.DELTA
    middle = math.floor(place + grid.ON_THE_EDGE)
    if not FIRST_BUCKET + REACH_BUCKETS <= middle < FIRST_BUCKET + STATE_BUCKETS - REACH_BUCKETS:
        return
    width = SPREAD / grid.DELTA * math.sqrt(2.0)
    first, after = middle - REACH_BUCKETS, middle + REACH_BUCKETS + 1
    whole = math.erf((after - place) / width) - math.erf((first - place) / width)
    for bucket in range(first, after):
        part = math.erf((bucket + 1 - place) / width) - math.erf((bucket - place) / width)
        scaled_mass[side, bucket - FIRST_BUCKET] += amount * part / whole


@njit
def _run(
    known_ms, log_price, usdt, side, avail_ms, first_bucket, highest_long, lowest_short,
    half_life_ms, reference_ms, scaled_mass, scaled_total, mass, hidden,
):  # fmt: skip
    """Deposit and emit in order of time, in place; returns the new reference."""
    order = 0
    for snapshot in range(len(avail_ms)):
        while order < len(known_ms) and known_ms[order] <= avail_ms[snapshot]:
            halvings = (known_ms[order] - reference_ms) / half_life_ms
            if halvings > _RESCALE_HALVINGS:
                scaled_mass *= 0.5**halvings
                scaled_total *= 0.5**halvings
                reference_ms = known_ms[order]
                halvings = 0.0
            amount = usdt[order] * 2.0**halvings
            scaled_total[side[order]] += amount
            _deposit(scaled_mass, side[order], log_price[order], amount)
            order += 1
        faded = 0.5 ** ((avail_ms[snapshot] - reference_ms) / half_life_ms)
        for of_side in range(2):
            shown = 0.0
            for column in range(mass.shape[2]):
                bucket = first_bucket[snapshot] + column
                place = bucket - FIRST_BUCKET
                allowed = bucket <= highest_long[snapshot] if of_side == 0 else bucket >= lowest_short[snapshot]
                if allowed and 0 <= place < STATE_BUCKETS:
                    value = scaled_mass[of_side, place] * faded
                    mass[snapshot, of_side, column] = value
                    shown += value
            hidden[snapshot, of_side] = max(scaled_total[of_side] * faded - shown, 0.0)
    return reference_ms
