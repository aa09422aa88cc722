"""The rows that a child process streams, as the events of a replay.

Arrow lives here alone: a runner that listens has no use for it, and it weighs 27 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa

from live.feed import (
    KNOWN_AT_CLOSE,
    KNOWN_AT_END,
    KNOWN_AT_OPEN,
    UNKNOWN,
    BarClosed,
    Event,
    ExecutionBar,
    ExecutionOpen,
    FeedEnded,
    Gap,
    Header,
)
from live.orders import RowKey
from research.fills import Market

TIMES = ("open_time", "close_time", "avail_time", "exec_time")  # int64, ms UTC
MARKET = "market."  # prefix of a column per field of ``Market``
INPUT = "input."  # prefix of a column per feature input


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
        return Market(*(column[i : i + 1] if name in names else UNKNOWN
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
