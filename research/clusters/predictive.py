"""Where liquidations would cluster, told from changes of open interest: the predictive map.

Whatever opens is spread over leverage tiers at the prices of the bars in which it opened; the mark sweeps it away,
positions close with traded volume and with time, and both sides are brought to the open interest whenever a value of it
arrives. A first value says nothing about entries: it is placed at the first prices seen, and becomes history as
positions turn over.

``predictive_map`` makes a whole history; ``State.step`` and ``State.snapshot`` do the same bar by bar, bit for bit.
"""

import json
from io import BytesIO

import numpy as np

from data.config import config_hash
from research.clusters import predictive_kernels as kernels
from research.clusters.predictive_book import BAR, SHOWN, Book, Snapshots, empty_book, empty_snapshots
from research.clusters.profiles import Profiles, SourceBars
from research.clusters.tiers import MapConfig, TierTables, tier_tables

FORMAT = 1  # of stored states
MINUTE_MS = 60_000


class State:
    """A map's book after some bars: it goes on from there, and can be stored.

    Attributes
    ----------
    symbol, source, config : what the map is of, and what it assumes.
    """

    def __init__(self, symbol: str, source: str, config: MapConfig) -> None:
        self.symbol = symbol
        self.source = source
        self.config = config
        self._tables = tier_tables(config)
        self._book = empty_book(len(config.leverages))

    @property
    def bars(self) -> int:
        """How many bars it saw."""
        return int(self._book.now["bars"][0])

    @property
    def time_ms(self) -> int:
        """Close of the last bar; 0 before the first."""
        return int(self._book.now["time_ms"][0])

    @property
    def book(self) -> Book:
        """The numbers themselves, live: for reading."""
        return self._book

    @property
    def tables(self) -> TierTables:
        """The config as the kernels read it."""
        return self._tables

    def step(
        self,
        *,
        time_ms: int,
        avail_ms: int,
        mark_high: float,
        mark_low: float,
        mark_close: float,
        volume_usdt: float,
        open_interest: float,
        is_new: bool,
    ) -> None:
        """Take in one bar; its fields are those of ``SourceBars``.

        Raises
        ------
        ValueError
            If the bar is not later than the last one.
        """
        if time_ms <= self.time_ms and self.bars:
            raise ValueError(f"{self.symbol} {self.source}: expected a bar after {self.time_ms}, got {time_ms}")
        kernels.step(
            self._book, self._tables, time_ms, avail_ms, mark_high, mark_low, mark_close, volume_usdt, open_interest,
            is_new,
        )  # fmt: skip

    def snapshot(self) -> Profiles:
        """One snapshot of the map as it is now. Swept notional counts from the snapshot before."""
        out = empty_snapshots(1)
        kernels.snapshot(self._book, self._tables, _stale_after_ms(self.config), out, 0)
        return _profiles(self, out)

    def copy(self) -> "State":
        """The same state, to go on with apart from this one."""
        other = State(self.symbol, self.source, self.config)
        other._book = Book(*(values.copy() for values in self._book))
        return other

    def to_bytes(self) -> bytes:
        """All of it, to be stored; ``from_bytes`` reads it."""
        about = {"format": FORMAT, "symbol": self.symbol, "source": self.source, "config": config_hash(self.config)}
        buffer = BytesIO()
        np.savez(buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **self._book._asdict())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, stored: bytes, config: MapConfig) -> "State":
        """The state that ``to_bytes`` stored.

        Raises
        ------
        ValueError
            If it was made with another config or another version of this code, or is no state.
        """
        with np.load(BytesIO(stored), allow_pickle=False) as arrays:
            about = json.loads(bytes(arrays["about"]))
            expected = {"format": FORMAT, "config": config_hash(config)}
            found = {name: about[name] for name in expected}
            if found != expected:
                raise ValueError(
                    f"stored map state: expected {expected}, got {found}; build the map again from its bars"
                )
            state = cls(about["symbol"], about["source"], config)
            state._book = Book(**{name: arrays[name] for name in Book._fields})
        return state


def predictive_map(
    bars: SourceBars, config: MapConfig, *, every_bars: int = 5, state: State | None = None
) -> tuple[Profiles, State]:
    """Snapshots of the map after every ``every_bars``-th bar, and the state to go on from.

    Parameters
    ----------
    state : what an earlier call returned, to go on after its last bar; it is left as it is. Snapshots are counted from
        the first bar that a state ever saw, so that a history in pieces is the history in one piece.

    Raises
    ------
    ValueError
        If the state is another map's, or has seen some of the bars.
    """
    if every_bars < 1:
        raise ValueError(f"every_bars: expected 1 or more, got {every_bars}")
    if state is None:
        state = State(bars.symbol, bars.source, config)
    elif (state.symbol, state.source, state.config) != (bars.symbol, bars.source, config):
        raise ValueError(
            f"expected bars and config of the state's map, {state.symbol} {state.source}, got {bars.symbol} "
            f"{bars.source} or another config; begin with state=None"
        )
    else:
        state = state.copy()
    if state.bars and len(bars) and bars.time_ms[0] <= state.time_ms:
        raise ValueError(
            f"{bars.symbol} {bars.source}: expected bars after {state.time_ms}, got {bars.time_ms[0]}; leave out those "
            "the state has seen"
        )
    out = empty_snapshots((state.bars + len(bars)) // every_bars - state.bars // every_bars)
    rows = np.empty(len(bars), BAR)
    for name in BAR.names:
        rows[name] = getattr(bars, name)
    kernels.run(state.book, state.tables, rows, every_bars, _stale_after_ms(config), out)
    return _profiles(state, out), state


def _stale_after_ms(config: MapConfig) -> float:
    return config.stale_after_minutes * MINUTE_MS


def _profiles(state: State, out: Snapshots) -> Profiles:
    columns = {name: np.ascontiguousarray(out.shown[name]) for name in SHOWN.names}
    return Profiles(symbol=state.symbol, source=state.source, mass_usdt=out.mass_usdt, leverage=out.leverage, **columns)
