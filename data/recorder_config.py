"""What a recorder records, and how: the settings of ``aster record``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data.schema import is_test_symbol
from data.stream_names import streams_of
from data.table import interval_ms
from data.venues.weights import LIMIT_PER_MINUTE

STREAMS = ("kline", "bookTicker", "markPrice", "aggTrade", "depth", "forceOrder", "trade")
LEADING_STREAMS = ("aggTrade", "bookTicker")
LONGEST_LIFE_S = 86_400.0  # the exchange ends a connection then
LONGEST_READ_PAUSE_MS = 100.0  # ten wake-ups a second: fewer of them save nothing
_ALL_LIQUIDATIONS = "!forceOrder@arr"


@dataclass(frozen=True, kw_only=True)
class LeadingConfig:
    """What to record of the leading venue, Binance, beside the exchange itself: the same tables, its own clock.

    Parameters
    ----------
    symbols : such as BTCUSDT, as Binance names them.
    streams : some of ``LEADING_STREAMS``.
    """

    symbols: tuple[str, ...]
    streams: tuple[str, ...] = LEADING_STREAMS

    def __post_init__(self) -> None:
        _check_names("leading symbols", self.symbols)
        _check_kinds("leading streams", self.streams, LEADING_STREAMS)

    def stream_names(self) -> list[str]:
        """The streams as Binance names them."""
        return list(streams_of(self.symbols, self.streams))


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What to record.

    Parameters
    ----------
    symbols : such as BTCUSDT.
    streams : some of ``STREAMS``; ``trade`` (single fills) is undocumented by the exchange.
    kline_interval : of the kline stream and of the klines in the snapshot.
    depth_levels, depth_speed : of the partial books.
    all_liquidations : those of every symbol of the exchange, not only of ``symbols``.
    leading : what to record of Binance; None for nothing.
    sockets : connections that carry the same streams. With two, what one misses the other has.
    life_s : a connection is replaced at this age, seconds of the clock; the exchange ends it at 24 hours.
    read_pause_ms : a connection of 1,000 messages a second and more is read no more often than this, milliseconds of
        the machine: so much later than it came a message of it may be stamped. 0 reads every one at once.
    silence_s : a connection that says nothing for so long is taken for dead, seconds of the clock.
    flush_interval_s : how long rows wait at most before they go to the lake, seconds of the clock.
    run_length_s : stop by itself after this long, seconds of the clock from the first connection on; None to go on.
    open_interest_s : ask for open interest this often, seconds of the clock; None for never. The exchange documents no
        such endpoint: one that is not there is left alone.
    other_venues : ask Binance and Hyperliquid for open interest, and Binance for its long/short and taker ratios.
    rest_weight_per_minute : request weight that history, polls and repair may use together.
    repair : ask for what turns out to be missing.
    last_repairs_s : go on asking for it so long at most when the run is over, seconds of the machine. What is missing
        then stays open in the ledger: the next recorder or ``aster repair`` asks for it.
    compaction : merge the lake's files every hour, in a process of its own.
    raw_retention_days : how long the raw log is kept after sealing; inf for ever.
    metrics_port : on 127.0.0.1, for Prometheus; 0 for a free one, None for none.
    """

    symbols: tuple[str, ...]
    streams: tuple[str, ...] = STREAMS[:6]
    kline_interval: str = "1m"
    depth_levels: Literal[5, 10, 20] = 5
    depth_speed: Literal["100ms", "250ms", "500ms"] = "100ms"
    all_liquidations: bool = True
    leading: LeadingConfig | None = None
    sockets: Literal[1, 2] = 2
    read_pause_ms: float = 10.0
    life_s: float = 82_800.0
    silence_s: float = 10.0
    flush_interval_s: float = 60.0
    run_length_s: float | None = None
    open_interest_s: float | None = None
    other_venues: bool = False
    rest_weight_per_minute: int = 1_200
    repair: bool = True
    last_repairs_s: float = 30.0
    compaction: bool = True
    raw_retention_days: float = 30.0
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        _check_names("symbols", self.symbols)
        _check_kinds("streams", self.streams, STREAMS)
        interval_ms(self.kline_interval)
        for name in ("flush_interval_s", "run_length_s", "silence_s", "life_s", "open_interest_s", "last_repairs_s"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name}: expected more than 0 seconds, got {seconds}")
        if self.life_s >= LONGEST_LIFE_S:
            raise ValueError(f"life_s: expected less than the exchange grants, {LONGEST_LIFE_S:g}; got {self.life_s}")
        if not 0 <= self.read_pause_ms <= LONGEST_READ_PAUSE_MS:
            told = f"expected 0 to {LONGEST_READ_PAUSE_MS:g} milliseconds, got {self.read_pause_ms}"
            raise ValueError(f"read_pause_ms: {told}")
        weight = self.rest_weight_per_minute
        if not 1 <= weight <= LIMIT_PER_MINUTE:
            raise ValueError(f"rest_weight_per_minute: expected 1 to {LIMIT_PER_MINUTE}, all there is; got {weight}")
        if not self.raw_retention_days >= 1:
            raise ValueError(f"raw_retention_days: expected 1 or more, got {self.raw_retention_days}")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65_535:
            raise ValueError(f"metrics_port: expected 0 to 65535, got {self.metrics_port}")

    def stream_names(self) -> list[str]:
        """The streams as the exchange names them."""
        kinds = [f"kline_{self.kline_interval}" if name == "kline" else name for name in self.streams]
        names = streams_of(self.symbols, kinds, self.depth_levels, self.depth_speed)
        if self.all_liquidations:
            return list(names)
        own = [f"{symbol.lower()}@forceOrder" for symbol in self.symbols]
        return [each for name in names for each in (own if name == _ALL_LIQUIDATIONS else (name,))]


def _check_names(what: str, symbols: Sequence[str]) -> None:
    _check_different(what, symbols)
    unlike = [symbol for symbol in symbols if not re.fullmatch(r"[A-Z0-9]+", symbol)]
    if unlike:
        raise ValueError(f"{what}: expected capitals and digits such as BTCUSDT, got {unlike[0]!r}")
    tests = list(filter(is_test_symbol, symbols))
    if tests:  # the lake would refuse the gaps in its streams, and everything else of the log with them
        raise ValueError(f"{what}: {tests[0]} is a contract of the exchange's own tests, which no lake takes")


def _check_kinds(what: str, kinds: Sequence[str], known: Sequence[str]) -> None:
    _check_different(what, kinds)
    unknown = [name for name in kinds if name not in known]
    if unknown:
        raise ValueError(f"{what}: unknown {unknown[0]!r}; there are {', '.join(known)}")


def _check_different(what: str, given: Sequence[str]) -> None:
    if not given or len(set(given)) != len(given):
        raise ValueError(f"{what}: expected one or more different ones, got {list(given)}")
