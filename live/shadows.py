"""Further configs that trade on paper on what a runner hears, each with a journal of its own, and never in its way.

What a shadow does follows from the input log alone, as a paper run's does: so its journal is made anew at every start,
and a replay of the log writes it again. It hears a record after the champion has acted on it, and in slices so short
that the next frame of the champion's does not wait. It does not hear what is the champion's own: its account, its
operator, its limits.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from data import wal
from data.messages_rest import decode_answer
from data.wal import Kind, Record
from live.desk import Desk
from live.dispatch import Dispatcher, Seat, looks_at_map
from live.feed import Event
from live.journal import Journal
from live.map_feed import MAP_HISTORY
from live.trading_rules import input_names, lookback_bars
from research.engine import TradingConfig

SLICE_S = 0.001  # of the machine's time, that the champion may have to wait for
MOST_BEHIND = 500_000  # records; further behind they give up, and a replay of the log does the rest
_OF_THE_MAP = (MAP_HISTORY, "openInterest")
_HEARD_NOTES = {"started", "ready", "resumed", "opened", "closed", "gave_up", "stopped"}


def shadows_folder(journal: Path) -> Path:
    """Where the journals of a champion's shadows are, beside its own."""
    return journal.with_name(f"{journal.name}.shadows")


def shadow_journal(journal: Path, config: TradingConfig) -> Path:
    """The journal of one of them."""
    return shadows_folder(journal) / f"{config.symbol}-{config.config_hash[:10]}.sqlite"


def require_same_feed(champions: Sequence[TradingConfig], shadows: Sequence[TradingConfig]) -> None:
    """Refuse a shadow that the champions' feed tells nothing, or that is a champion itself.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    told = {(config.symbol, config.interval) for config in champions}
    known = {config.config_hash for config in champions}
    for shadow in shadows:
        name = f"shadow {shadow.config_hash[:10]} on {shadow.symbol}"
        if (shadow.symbol, shadow.interval) not in told:
            raise ValueError(
                f"{name}: no --config trades {shadow.symbol} {shadow.interval}; give it a runner of its own"
            )
        if shadow.config_hash in known:
            raise ValueError(f"{name}: given twice, or as --config too; every config runs once")
        known.add(shadow.config_hash)


def longest_looking_back(configs: Sequence[TradingConfig]) -> list[TradingConfig]:
    """Of the configs on one symbol and interval the one whose features need most bars."""
    longest: dict[tuple[str, str], TradingConfig] = {}
    for config in configs:
        key = (config.symbol, config.interval)
        if key not in longest or lookback_bars(config) > lookback_bars(longest[key]):
            longest[key] = config
    return list(longest.values())


class Shadow(NamedTuple):
    """One config and its journal."""

    config: TradingConfig
    journal: Journal


class _Group(Dispatcher):
    """Shadows for which the same feed makes the same events: it is listened to once, and each desk hears in its turn.

    Stands in for a desk towards the dispatcher, and keeps what it is told until the desks have time for it.
    """

    def __init__(self, members: Sequence[Shadow]) -> None:
        # Every desk has its own journal: the one of the first is not written to from here.
        super().__init__([members[0].config], members[0].journal)
        self.members = members
        self.told: list[Callable[[Desk, Journal], None]] = []
        self.desks: list[Desk] = []

    def _seat(self, config: TradingConfig) -> Seat:
        self.desks = [super(_Group, self)._seat(member.config).desk for member in self.members]
        return Seat(super()._seat(config).feed, _Listener(self.desks[0].key, self.told))

    def catch_up(self, place: int) -> None:
        """Let one desk hear what was told."""
        for say in self.told:
            say(self.desks[place], self.members[place].journal)


class _Listener:
    """In a desk's place: remembers what to say to every desk."""

    def __init__(self, key: tuple[str, str], told: list[Callable[[Desk, Journal], None]]) -> None:
        self.key = key
        self._told = told

    def start(self, time_ms: int, journal: Journal, **told: Any) -> None:
        self._told.append(lambda desk, own: desk.start(time_ms, own, **told))

    def handle(self, event: Event, journal: Journal) -> None:
        self._told.append(lambda desk, own: desk.handle(event, own))

    def tell_of_map(self, time_ms: int, reason: str | None, journal: Journal) -> None:
        self._told.append(lambda desk, own: desk.tell_of_map(time_ms, reason, own))


class Shadows:
    """All shadows of one run.

    Parameters
    ----------
    champion : its journal, beside which theirs are.

    Attributes
    ----------
    gave_up : they fell so far behind that their journals end before the log does.

    Raises
    ------
    ValueError
        When another process writes one of the journals.
    """

    def __init__(self, configs: Sequence[TradingConfig], champion: Path) -> None:
        self.gave_up = False
        self.listed: list[Shadow] = []
        for config in configs:
            path = shadow_journal(champion, config)
            self.listed.append(Shadow(config, Journal(path, is_derived=True)))
        by_feed: dict[Hashable, list[Shadow]] = {}
        for shadow in self.listed:
            by_feed.setdefault(_feed_key(shadow.config), []).append(shadow)
        self._groups = [_Group(members) for members in by_feed.values()]
        self._waiting: deque[Record] = deque()
        self._steps = iter(())
        self._has_work = asyncio.Event()

    def __enter__(self) -> "Shadows":
        return self

    def __exit__(self, *_: object) -> None:
        for shadow in self.listed:
            shadow.journal.close()

    @property
    def configs(self) -> list[TradingConfig]:
        """What they trade."""
        return [shadow.config for shadow in self.listed]

    def with_maps(self, symbols: Iterable[str]) -> dict[str, None]:
        """These symbols and those whose liquidation map a shadow looks at."""
        looked_at = (config.symbol for config in self.configs if looks_at_map(config))
        return dict.fromkeys([*symbols, *looked_at])

    def hear(self, record: Record) -> None:
        """Keep what was written to the log until there is time for it."""
        if self.listed and not self.gave_up and (heard := _as_heard(record)) is not None:
            self._waiting.append(heard)
            self._has_work.set()
            if len(self._waiting) > MOST_BEHIND:
                self.gave_up = True
                self._waiting.clear()

    async def run(self, hold: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Act on what was heard, a slice at a time.

        Parameters
        ----------
        hold : keeps the time of an exchange that is played faster from running away meanwhile.
        """
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            with hold():
                await self._work()

    def finish(self) -> None:
        """Act on all that is left."""
        for _ in self._left():
            pass

    async def _work(self) -> None:
        until = time.perf_counter() + SLICE_S
        for _ in self._left():
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_S

    def _left(self) -> Iterator[None]:
        """Act on what is left, a desk at a time; whoever asks next goes on where this one stopped."""
        while True:
            for _ in self._steps:  # not `yield from`, which would end them with this
                yield
            if not self._waiting:
                return
            self._steps = self._hearing(self._waiting.popleft())

    def _hearing(self, record: Record) -> Iterator[None]:
        for group in self._groups:
            _take(group, record)
            yield
            if group.told:
                for place in range(len(group.desks)):
                    group.catch_up(place)
                    yield
                group.told.clear()


def walk_shadows(shadows: Shadows, folder: Path) -> None:
    """Act on everything that a log holds."""
    for segment in wal.segments(folder):
        for record in wal.read(segment):
            shadows.hear(record)
            shadows.finish()


def _feed_key(config: TradingConfig) -> Hashable:
    """All that a feed is made by: configs with the same one hear the same events."""
    hours, latency_ms = config.substitutions.funding_interval_hours, config.costs.latency_ms
    return config.symbol, config.interval, input_names(config), lookback_bars(config), hours, latency_ms


def _take(group: _Group, record: Record) -> None:
    config = group.members[0].config
    if record.kind is Kind.ANSWER and not looks_at_map(config) and decode_answer(record.payload).name in _OF_THE_MAP:
        return
    if record.kind is Kind.NOTE:
        told = json.loads(record.payload)
        if told["note"] == "started":
            own = {name: told[name] for name in ("resolution", "since_ms")}
            note = wal.note("started", configs=[config.config_hash], **own)
            record = record._replace(payload=note)
    group.take(record)


def _as_heard(record: Record) -> Record | None:
    """The record; None where it is the champion's own business."""
    if record.kind is Kind.NOTE and json.loads(record.payload)["note"] not in _HEARD_NOTES:
        return None
    return record
