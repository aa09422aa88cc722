"""The predictive map of one symbol while it happens, and what a strategy may know of it at a moment.

The steps are those of a map built from a history, one or many bars at a time, and give its numbers; only tables are
left out, which take longer than all the rest. Of positions and clusters everything is kept; of what was seen, the last
snapshot and the last break.
"""

import math
from datetime import timedelta

import numpy as np

from research.clusters.columns import BREAK_REACH, CLUSTER_COLUMNS, MAX_MAP_AGE
from research.clusters.extraction import find, plain
from research.clusters.grid import LONG, lower_edge
from research.clusters.lifecycle import LIFECYCLE, Lifecycle, begin, walked
from research.clusters.lifecycle_book import BROKEN, TOUCHED, Marks, Walked
from research.clusters.picks import picked
from research.clusters.predictive import predictive_map
from research.clusters.profiles import Profiles, SourceBars
from research.clusters.tables import STALE
from research.clusters.tiers import MapConfig

TOP = 20  # clusters followed per side
UNKNOWN = "no open interest was told"
_MILLISECOND = timedelta(milliseconds=1)
_REACH_MS = BREAK_REACH // _MILLISECOND
_MAX_AGE_MS = MAX_MAP_AGE // _MILLISECOND


class LiveMap:
    """A map, its clusters, and the last that was seen of them.

    Parameters
    ----------
    symbol, source : the contract and whose open interest it is, one of ``profiles.SOURCES``.
    config, lifecycle : as for a map of a history.

    Attributes
    ----------
    time_ms : close of the last bar; 0 before the first.
    reason : why nothing is to be seen; None where there is a map.
    edges : float64, ascending. Prices at which the mark would enter or leave a living cluster.
    """

    def __init__(
        self, symbol: str, source: str, *, config: MapConfig | None = None, lifecycle: Lifecycle = LIFECYCLE
    ) -> None:
        self.symbol, self.source = symbol, source
        self.reason: str | None = UNKNOWN
        self.edges = np.empty(0)
        self.time_ms = 0
        self._config, self._lifecycle = config or MapConfig(), lifecycle
        self._state = None
        begun = begin(lifecycle.slots, TOP)
        self._book, self._history = begun.book, begun.history
        self._first_ms: int | None = None  # of the first snapshot that showed something
        self._avail_ms = 0
        self._seen: dict[str, float] = {}
        self._break: dict[str, float] = {}
        self._break_ms = 0

    def learn(self, bars: SourceBars, *, every_bars: int = 5) -> None:
        """Take in minutes from before anybody looked: what was seen then is no signal, and is not told."""
        profiles, _ = self._advanced(bars, every_bars, timedelta(minutes=1))
        seen_ms = profiles.time_ms[~profiles.is_stale]
        if len(seen_ms):
            self._first_ms = int(seen_ms[0])

    def step(self, bar: SourceBars, *, length: timedelta) -> tuple[Profiles, Walked]:
        """Take in one bar that is shorter than ``length`` at most; its snapshot, and the clusters' rows and events."""
        profiles, walk = self._advanced(bar, 1, length)
        self._see(profiles, walk, float(bar.open_interest[-1]))
        return profiles, walk

    def columns(self, at_ms: int, interval_ms: int) -> dict[str, float]:
        """``CLUSTER_COLUMNS`` as of a moment that is not before the last bar; all NaN where there is no map.

        Parameters
        ----------
        interval_ms : length of the bars that breaks are dated in.
        """
        known = dict.fromkeys(CLUSTER_COLUMNS, math.nan)
        age_ms = at_ms - self._avail_ms
        if self.reason is not None or age_ms > _MAX_AGE_MS:
            return known
        known |= self._seen
        known["map_age_ms"] = float(age_ms)
        since_break_ms = at_ms - self._break_ms
        if self._break and since_break_ms <= _REACH_MS:
            known |= self._break
            known["break_age_bars"] = since_break_ms / interval_ms
        return known

    def _advanced(self, bars: SourceBars, every_bars: int, length: timedelta) -> tuple[Profiles, Walked]:
        profiles, self._state = predictive_map(bars, self._config, every_bars=every_bars, state=self._state)
        marks = Marks(
            *(plain(getattr(bars, name)) for name in ("time_ms", "avail_ms", "mark_high", "mark_low", "mark_close"))
        )
        found = find(profiles, TOP)
        walk = walked(self._book, self._history, found, profiles, marks, bar=length, config=self._lifecycle)
        self.time_ms = self._state.time_ms
        return profiles, walk

    def _see(self, profiles: Profiles, walk: Walked, open_interest: float) -> None:
        is_stale, self._avail_ms = bool(profiles.is_stale[0]), int(profiles.avail_ms[0])
        if not is_stale and self._first_ms is None:
            self._first_ms = self.time_ms
        self.reason = self._why_not(is_stale, open_interest)
        self._seen = {}
        if not is_stale:
            oi_usdt = float(profiles.open_interest_usdt[0])
            self._seen = picked(walk.rows["side"], walk.row_clusters, float(profiles.mark[0]))
            self._seen |= {"open_interest": open_interest, "open_interest_usdt": oi_usdt}
        living = walk.row_clusters[walk.row_clusters["state"] <= TOUCHED]
        self.edges = lower_edge(np.unique(np.concatenate([living["lo"], living["hi"] + 1])))
        broken = np.flatnonzero(walk.events["event"] == BROKEN)
        if len(broken):
            event, cluster = walk.events[broken[-1]], walk.event_clusters[broken[-1]]
            self._break_ms = int(event["avail_ms"])
            self._break = {
                "break_direction": -1.0 if event["side"] == LONG else 1.0,
                "break_lo": float(lower_edge(cluster["lo"])),
                "break_hi": float(lower_edge(cluster["hi"] + 1)),
                "break_usdt": float(cluster["mass_usdt"]),
            }

    def _why_not(self, is_stale: bool, open_interest: float) -> str | None:
        if math.isnan(open_interest):
            return UNKNOWN
        if is_stale:
            return STALE
        least = self._lifecycle.smallest_history * self._lifecycle.slot
        if self.time_ms - self._first_ms < least // _MILLISECOND:
            return f"open interest is known for less than {least / timedelta(hours=1):g} hours"
        return None
