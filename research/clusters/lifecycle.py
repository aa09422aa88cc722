"""Clusters over time: the same one keeps its number, and what became of it is written down once and for good.

A living cluster is CANDIDATE, then ACTIVE once it is heavy by its own past, then TOUCHED once the mark is inside it;
STALE while the map or the mark is missing. It ends

- BROKEN: it was active, and the mark was seen to go beyond its far edge. Nothing else is a break.
- FADED: too light or out of sight for too long, by itself.
- MERGED: out of sight because another cluster's buckets now take in its peak.
- CONSUMED: the mark took it, but that is no break: it was a candidate or stale, or the mark went by in a hole nobody
  watched, or took at least half of it and turned before the far edge.

Everything is point-in-time: a row or event depends on bars and snapshots up to its ``ts``, and no decision may use it
before its ``avail_time``.
"""

import io
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.extraction import Found, plain
from research.clusters.grid import BUCKETS, centre
from research.clusters.lifecycle_book import (
    CAPACITY,
    CLOCK,
    EVENT,
    LIVE,
    NOBODY,
    ROW,
    Book,
    Clusters,
    Marks,
    Output,
    Rules,
    Snapshots,
    Walked,
)
from research.clusters.lifecycle_frames import (
    REALISED_EVENTS,
    REALISED_WITHIN_MS,
    cluster_frame,
    event_frame,
    known_orders,
)
from research.clusters.lifecycle_kernels import walk
from research.clusters.profiles import Profiles, SourceBars
from research.clusters.strength import History, Standing, empty_history, standing

_ROOM = 1 << 14  # rows and events that the kernel writes before they become frames


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """When a cluster is the same, heavy, weak, or unknown.

    Parameters
    ----------
    overlap : fraction of the shorter of two extents that both must share to be the same cluster.
    peak_buckets : how far its peak may have moved, in buckets.
    active_quantile, active_slots : ACTIVE with a mass at or above this quantile of the past, so often in a row.
    fade_quantile, fade_slots : FADED below this quantile, or out of sight, so often in a row. A candidate fades only
        out of sight.
    history : how far the past reaches back; it ends before the snapshot. It is what was found on the same side at about
        the same distance from the mark (``strength.BAND_EDGES``), or at any distance where that is fewer than 30
        clusters: over all distances the far, low leverages would be all that is ever heavy.
    slot : the past is sampled, and the counts above go on, once per slot of this length, however often one looks.
    smallest_history : slots below which nothing is known to be heavy or weak: no cluster becomes ACTIVE, none is weak.
    stale_after : without a good snapshot for longer than this, clusters are STALE.
    mark_gap : a mark that was not seen for longer than this went where it went unwatched.
    """

    overlap: float = 0.5
    peak_buckets: int = 3
    active_quantile: float = 0.8
    active_slots: int = 2
    fade_quantile: float = 0.6
    fade_slots: int = 3
    history: timedelta = timedelta(days=7)
    slot: timedelta = timedelta(minutes=5)
    smallest_history: int = 72  # six hours
    stale_after: timedelta = timedelta(minutes=15)
    mark_gap: timedelta = timedelta(minutes=2)

    def __post_init__(self) -> None:
        for name in ("overlap", "active_quantile", "fade_quantile"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name}: expected a fraction between 0 and 1, got {getattr(self, name)}")
        if self.history < self.slot:
            raise ValueError(f"history: expected at least a slot of {self.slot}, got {self.history}")

    @property
    def slots(self) -> int:
        """Most slots that the trailing past can hold."""
        return self.history // self.slot + 2

    def rules(self, bar: timedelta) -> Rules:
        """As the kernel reads it, for bars of this length."""
        return Rules(
            overlap=self.overlap,
            peak_buckets=self.peak_buckets,
            active_slots=self.active_slots,
            fade_slots=self.fade_slots,
            stale_after_ms=_ms(self.stale_after),
            mark_gap_ms=_ms(self.mark_gap),
            bar_ms=_ms(bar),
        )


LIFECYCLE = Lifecycle()


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Where ``follow`` stopped; it never changes, the next call returns another one.

    ``orders`` are the forced orders that an event still waits for, ``waiting`` the events that wait.
    """

    book: Book
    history: History
    waiting: np.ndarray
    waiting_clusters: np.ndarray
    orders: pl.DataFrame

    def to_bytes(self) -> bytes:
        """The whole state; ``from_bytes`` gives it back bit for bit."""
        arrays = {f"book_{name}": part for name, part in self.book._asdict().items()}
        arrays |= {f"history_{name}": part for name, part in self.history._asdict().items()}
        orders = io.BytesIO()
        self.orders.write_ipc(orders)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            waiting=self.waiting,
            waiting_clusters=self.waiting_clusters,
            orders=np.frombuffer(orders.getvalue(), np.uint8),
            **arrays,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """The state that ``to_bytes`` wrote."""
        with np.load(io.BytesIO(data)) as arrays:
            return cls(
                book=Book(*(arrays[f"book_{name}"] for name in Book._fields)),
                history=History(*(arrays[f"history_{name}"] for name in History._fields)),
                waiting=arrays["waiting"],
                waiting_clusters=arrays["waiting_clusters"],
                orders=pl.read_ipc(io.BytesIO(arrays["orders"].tobytes())),
            )


def marks_of(bars: SourceBars) -> pl.DataFrame:
    """The marks that a map was made of, as ``follow`` takes them."""
    times = {"ts": bars.time_ms, "avail_time": bars.avail_ms}
    prices = {name: getattr(bars, name) for name in ("mark_high", "mark_low", "mark_close")}
    return pl.DataFrame(times | prices).with_columns(pl.col(*times).cast(TIME_MS))


def follow(
    found: Found,
    profiles: Profiles,
    marks: pl.DataFrame,
    force_orders: pl.DataFrame | None = None,
    *,
    bar: timedelta = timedelta(minutes=1),
    config: Lifecycle = LIFECYCLE,
    state: State | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, State]:
    """The clusters of every snapshot under lasting numbers, and what happened to them.

    Going on from a state gives the rows of one long call: cut the time anywhere, hand in what lies on each side.

    Parameters
    ----------
    found, profiles : one map and its clusters, in order of time.
    marks : ``ts`` (close of the bar), ``avail_time``, ``mark_high``, ``mark_low``, ``mark_close``
        Bars of the mark on the map's own price scale: Aster's for an anchored map. Bars without a price are as good as
        none. A bar comes before the snapshot of the same moment.
    force_orders : ``event_time``, ``side``, ``average_price``, ``filled_quantity``, and ``avail_time`` or ``recv_time``
        Where given, TOUCHED and BROKEN wait 60 seconds and then tell what was liquidated; so does their
        ``avail_time``. Without, they come at once and those columns are null. Handing an order in twice does no harm.
    bar : length of a bar.
    state : where the call before stopped; None for the beginning.

    Returns
    -------
    clusters : rows of ``CLUSTERS``
        Per snapshot one for each cluster it shows, by side and id, and one last row for each that ended since the
        snapshot before, as it was last seen, with the end as ``state``. None on a stale snapshot.
    events : rows of ``CLUSTER_EVENTS``, in order of ``event_id`` within a call.
    state : to go on from.

    Raises
    ------
    ValueError
        If ``found`` is not of these profiles, or if a bar or snapshot is not later than the state.

    Notes
    -----
    Null: strength and z-score with fewer than 30 values in their past, realised figures without a feed, and what other
    modules fill in (confidence, venue, map_id, ...).
    """
    _check(found, profiles)
    bars = _bars(marks)
    state = begin(config.slots, found.peak.shape[2]) if state is None else state
    _check_state(state, found, bars, config)
    book = Book(*(part.copy() for part in state.book))
    history = History(*(part.copy() for part in state.history))
    rows, row_clusters, events, event_clusters = walked(book, history, found, profiles, bars, bar=bar, config=config)
    events = np.concatenate([state.waiting, events])
    event_clusters = np.concatenate([state.waiting_clusters, event_clusters])

    orders = pl.concat([state.orders, known_orders(force_orders)]).unique(maintain_order=True).sort("time_ms")
    has_feed = force_orders is not None or len(state.waiting) > 0
    now_ms = int(book.clock["now_ms"][0])
    is_young = events["time_ms"] + REALISED_WITHIN_MS > now_ms
    waits = has_feed & is_young & np.isin(events["event"], REALISED_EVENTS)
    told = event_frame(
        events[~waits],
        event_clusters[~waits],
        orders if has_feed else None,
        symbol=profiles.symbol,
        source=profiles.source,
    )
    stopped = State(
        book=book,
        history=history,
        waiting=events[waits],
        waiting_clusters=event_clusters[waits],
        orders=orders.filter(pl.col("time_ms") >= now_ms - REALISED_WITHIN_MS - _ms(bar)),
    )
    return cluster_frame(rows, row_clusters, profiles), told, stopped


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)


def _check(found: Found, profiles: Profiles) -> None:
    if not np.array_equal(found.time_ms, profiles.time_ms):
        raise ValueError(
            f"{profiles.symbol}: expected clusters found in these {len(profiles)} snapshots, got {len(found)} of other "
            "times; call find(profiles) first"
        )
    if (np.diff(profiles.time_ms) <= 0).any():
        raise ValueError(f"{profiles.symbol}: expected ascending snapshot times; sort them, keep one each")
    if found.peak.shape[2] > CAPACITY // 2:
        raise ValueError(f"top: expected at most {CAPACITY // 2} clusters per side, got {found.peak.shape[2]}")


def _check_state(state: State, found: Found, bars: Marks, config: Lifecycle) -> None:
    slots, _, top = state.history.ring_step.shape
    if (slots, top) != (config.slots, found.peak.shape[2]):
        raise ValueError(
            f"state: expected the {top} clusters per side and {slots} slots it was begun with, got "
            f"{found.peak.shape[2]} and {config.slots}; keep the settings or begin anew"
        )
    last_ms = int(state.book.clock["now_ms"][0])
    if (bars.time_ms[:1] <= last_ms).any() or (found.time_ms[:1] < last_ms).any():
        raise ValueError(f"expected bars and snapshots after {last_ms} ms, where the state stopped; hand in each once")


def _standing(history: History, found: Found, profiles: Profiles, config: Lifecycle) -> Standing:
    """How the clusters of each snapshot compare with their past; ``history`` moves on."""
    return standing(
        history,
        plain(found.time_ms),
        found.n,
        np.abs(centre(found.peak) / profiles.mark[:, None, None] - 1.0),
        found.mass_usdt,
        profiles.is_stale | ~np.isfinite(profiles.mark),
        _ms(config.history),
        _ms(config.slot),
        config.smallest_history,
        config.active_quantile,
        config.fade_quantile,
    )


def walked(
    book: Book,
    history: History,
    found: Found,
    profiles: Profiles,
    bars: Marks,
    *,
    bar: timedelta = timedelta(minutes=1),
    config: Lifecycle = LIFECYCLE,
) -> Walked:
    """What ``follow`` does, on arrays: ``book`` and ``history`` move on, nothing is checked and no event waits."""
    compared, rules = _standing(history, found, profiles, config), config.rules(bar)
    nowhere = np.full(len(profiles), np.nan)
    snapshots = Snapshots(
        first_bucket=plain(profiles.first_bucket),
        mass_usdt=plain(profiles.mass_usdt),
        mark=plain(profiles.mark),
        is_stale=plain(profiles.is_stale),
        basis_bps=nowhere if profiles.basis_bps is None else plain(profiles.basis_bps),
    )
    clusters = Clusters(*(plain(getattr(found, name)) for name in Clusters._fields))
    out = Output(
        rows=np.empty(_ROOM, ROW),
        row_clusters=np.empty(_ROOM, LIVE),
        events=np.empty(_ROOM, EVENT),
        event_clusters=np.empty(_ROOM, LIVE),
        n=np.zeros(2, np.int64),
    )
    parts: list[list[np.ndarray]] = [[], [], [], []]
    cursor, is_done = np.zeros(2, np.int64), False
    while not is_done:
        out.n[:] = 0
        is_done = walk(book, out, rules, snapshots, clusters, compared, bars, cursor)
        for part, written, n in zip(parts, out[:4], np.repeat(out.n, 2), strict=True):
            part.append(written[:n].copy())
    return Walked(*(np.concatenate(part) for part in parts))


def begin(slots: int, top: int) -> State:
    """Where ``follow`` begins: nothing was seen yet. The arguments are those of ``empty_history``."""
    clock = np.zeros(1, CLOCK)
    clock["now_ms"] = clock["price_ms"] = clock["snapshot_ms"] = NOBODY
    book = Book(
        clock=clock,
        live=np.zeros((2, CAPACITY), LIVE),
        n_live=np.zeros(2, np.int64),
        mass_usdt=np.zeros((2, BUCKETS), np.float32),
        first_bucket=np.zeros(1, np.int64),
    )
    return State(
        book=book,
        history=empty_history(slots, top),
        waiting=np.empty(0, EVENT),
        waiting_clusters=np.empty(0, LIVE),
        orders=known_orders(None),
    )


def _bars(marks: pl.DataFrame) -> Marks:
    times = marks.select(pl.col("ts", "avail_time").dt.epoch("ms"))
    prices = marks.select(pl.col("mark_high", "mark_low", "mark_close").cast(pl.Float64).fill_null(np.nan))
    bars = Marks(*(plain(column.to_numpy()) for column in (*times, *prices)))
    if (np.diff(bars.time_ms) <= 0).any():
        raise ValueError("marks: expected ascending times, one bar each; sort the bars, keep one each")
    return bars
