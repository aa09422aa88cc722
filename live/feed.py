"""What reaches the runner, in the order it becomes known. An event holds nothing that is learnt later.

A row of bars is three events: its bar at ``avail_time``; the market its order meets at ``t_i``; the execution bar
[t_i, t_{i+1}) once it is over. The next bar is known before the execution bar is over, so a decision on row *i* has
not seen how the window of row *i* - 1 ends. The answer to that row's order it has seen: where rows came in late and
together, it waits for it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from live.orders import RowKey
from research.fills import Market

TIMES = ("open_time", "close_time", "avail_time", "exec_time")  # int64, ms UTC
MARKET = "market."  # prefix of a column per field of ``Market``
INPUT = "input."  # prefix of a column per feature input
HEADER = b"replay"  # key of the stream's description in the schema's metadata

KNOWN_AT_CLOSE = {"can_enter", "close", "bid", "ask", "half_spread_bps", "last_mark_ratio"}
KNOWN_AT_OPEN = KNOWN_AT_CLOSE | {"exec_open", "mark_open", "exec_bid", "exec_ask"}
KNOWN_AT_END = set(Market._fields)
_UNKNOWN = np.full(1, np.nan)


def market_known(values: Mapping[str, float], names: set[str]) -> Market:
    """One row's market with the values of these fields; NaN in every other."""
    return Market(*(np.array([values[name]]) if name in names else _UNKNOWN for name in Market._fields))


@dataclass(frozen=True, kw_only=True, eq=False)
class BarClosed:
    """A bar of the clock is complete.

    Attributes
    ----------
    time_ms : when it became known, ``avail_time``.
    close_ms : end of the bar.
    inputs : float64, shape (n_inputs,), what features are computed from, in the order of ``Header.inputs``.
    market : arrays of length 1; NaN in every field that is not known yet.
    """

    time_ms: int
    row: RowKey
    close_ms: int
    inputs: np.ndarray
    market: Market


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """A slot of the clock ended and we did not see its bar. ``inputs`` are NaN where they come from the bar."""

    time_ms: int
    row: RowKey
    inputs: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutionOpen:
    """The market at ``t_i``, as the order decided on the row meets it; ``market`` knows no range and no close yet."""

    time_ms: int
    row: RowKey
    market: Market


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutionBar:
    """The window [open, end) behind a row is over; ``time_ms`` is its end."""

    time_ms: int
    row: RowKey
    opened_ms: int
    market: Market


@dataclass(frozen=True, kw_only=True)
class FeedEnded:
    """Nothing comes after this, or nothing for a while: a runner that was stopped goes on when it is started again.

    Attributes
    ----------
    last_price : that an open position is valued at; NaN for that of the last execution bar.
    """

    time_ms: int
    last_price: float = math.nan


class Traded(NamedTuple):
    """A trade, at tick resolution."""

    recv_ns: int
    price: float


class Quoted(NamedTuple):
    """A new best bid and ask, at tick resolution."""

    recv_ns: int
    bid: float
    ask: float


class Marked(NamedTuple):
    """A new mark price, at tick resolution."""

    recv_ns: int
    mark: float


class FundingDue(NamedTuple):
    """Funding is settled, at tick resolution; ``per_unit`` is what a long of one base unit pays, USDT."""

    time_ms: int
    per_unit: float


Tick = Traded | Quoted | Marked | FundingDue
Event = BarClosed | Gap | ExecutionOpen | ExecutionBar | FeedEnded | Tick


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a recording holds.

    Attributes
    ----------
    rows : how many there are; 0 when nobody knows yet, live.
    instrument : the symbol's filters of the time, by name of ``data.schema.INSTRUMENTS``.
    inputs : names of the feature inputs, in order.
    assumptions : sentences every print of a result carries.
    """

    config_hash: str
    symbol: str
    interval: str
    rows: int
    instrument: dict[str, Any]
    inputs: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_metadata(self) -> dict[bytes, bytes]:
        """For the schema of the stream."""
        return {HEADER: json.dumps(vars(self), sort_keys=True).encode()}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> "Header":
        """Raises ValueError when the stream describes something else."""
        if not metadata or HEADER not in metadata:
            raise ValueError("expected a stream written by live.replay; its schema carries no description of a replay")
        fields = json.loads(metadata[HEADER])
        fields["inputs"], fields["assumptions"] = tuple(fields["inputs"]), tuple(fields["assumptions"])
        return cls(**fields)


def plain(instrument: Mapping[str, Any]) -> dict[str, Any]:
    """The filters for ``Header.instrument``: everything but times."""
    return {name: value for name, value in instrument.items() if not isinstance(value, datetime)}


@dataclass(frozen=True, eq=False)
class Recording:
    """A stream of rows that becomes events as it is read."""

    header: Header
    batches: Iterator[pa.RecordBatch]

    def events(self) -> Iterator[Event]:
        """Every event, in the order it became known; at one time a decision comes before the window that ends there."""
        window, seen = None, 0
        for batch in self.batches:
            rows = _Rows(self.header, batch)
            for i in range(batch.num_rows):
                yield rows.closed(i)
                if window is not None:
                    yield ExecutionBar(time_ms=rows.exec_ms[i], **window)
                yield rows.execution_open(i)
                window = rows.window(i)
                seen += 1
        if seen != self.header.rows:
            raise ValueError(f"{self.header.symbol}: the rows ended after {seen} of {self.header.rows}; start it again")
        if window is None:
            raise LookupError(f"no rows for {self.header.symbol}: the range to replay is empty")
        # The last window has no successor to end it: it is one interval long.
        end_ms = rows.exec_ms[-1] + rows.close_ms[-1] - rows.open_ms[-1]
        yield ExecutionBar(time_ms=end_ms, **window)
        yield FeedEnded(time_ms=end_ms)


def open_recording(stream: BinaryIO) -> Recording:
    """Read the description; the rows follow as they are asked for."""
    reader = pa.ipc.open_stream(stream)
    return Recording(Header.from_metadata(reader.schema.metadata), iter(reader))


class _Rows:
    """One batch as arrays."""

    def __init__(self, header: Header, batch: pa.RecordBatch) -> None:
        # Through polars: pyarrow's own way to NumPy imports pandas.
        frame = pl.DataFrame(pl.from_arrow(batch))
        self.interval = header.interval
        self.open_ms, self.close_ms, self.avail_ms, self.exec_ms = (frame[name].to_list() for name in TIMES)
        self.is_gap = frame["is_gap"].to_list()
        self.inputs = frame.select(INPUT + name for name in header.inputs).to_numpy(order="c", writable=True)
        # Compiled code takes writable arrays only.
        self.market = Market(*(frame[MARKET + name].to_numpy(writable=True) for name in Market._fields))

    def key(self, i: int) -> RowKey:
        return RowKey(self.interval, self.open_ms[i])

    def known(self, i: int, names: set[str]) -> Market:
        return Market(*(column[i : i + 1] if name in names else _UNKNOWN
                        for name, column in zip(Market._fields, self.market, strict=True)))  # fmt: skip

    def closed(self, i: int) -> BarClosed | Gap:
        common = {"time_ms": self.avail_ms[i], "row": self.key(i), "inputs": self.inputs[i]}
        if self.is_gap[i]:
            return Gap(**common)
        return BarClosed(**common, close_ms=self.close_ms[i], market=self.known(i, KNOWN_AT_CLOSE))

    def execution_open(self, i: int) -> ExecutionOpen:
        return ExecutionOpen(time_ms=self.exec_ms[i], row=self.key(i), market=self.known(i, KNOWN_AT_OPEN))

    def window(self, i: int) -> dict[str, Any]:
        """The execution bar, still without its end."""
        return {"row": self.key(i), "opened_ms": self.exec_ms[i], "market": self.known(i, KNOWN_AT_END)}
