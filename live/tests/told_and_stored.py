"""What the runner's feed makes of a stream, beside what the lake makes of the same frames."""

import json

import numpy as np
import polars as pl

from data.lake import Lake
from data.landing import tables_of
from data.messages import decode
from data.wal import Kind, Record
from live.feed import BarClosed, Gap
from live.readings import NS_PER_MS
from live.stream_feed import StreamFeed
from live.tests.conftest import FIRST_MS, MINUTE_MS, SYMBOL
from live.tests.quiet_market import INSTRUMENT
from research.bars import signal_bars
from research.recorded import Recorded, Substitutions


def heard(lake: Lake, *told: tuple[int, dict]) -> tuple[list[BarClosed | Gap], pl.DataFrame]:
    """Rows as the runner's feed tells them and as the lake has them, of klines by when they came."""
    feed = StreamFeed(
        symbol=SYMBOL, interval="1m", resolution="tick", inputs=("close", "volume"), first_ms=FIRST_MS,
        since_ms=FIRST_MS, instrument=INSTRUMENT | {"funding_interval_hours": 8.0}, funding_interval_hours=None,
        latency_ms=150,
    )  # fmt: skip
    records = [Record(ms * NS_PER_MS, Kind.FRAME, 0, json.dumps(frame).encode()) for ms, frame in told]
    events = []
    for record in [*records, Record(records[-1].recv_ns + 60_000 * NS_PER_MS, Kind.NOTE, 0, b"{}")]:
        while (due_ms := feed.due_ms) is not None and due_ms * NS_PER_MS < record.recv_ns:
            events += feed.due(due_ms)
        for message in decode(record.payload) if record.kind is Kind.FRAME else ():
            events += feed.hear(record.recv_ns, message)
    lake.append_all(tables_of(records, venue="aster").tables, origin="test")
    recorded = Recorded(klines=lake.scan("klines"))
    open_ms = FIRST_MS + MINUTE_MS * np.arange(recorded.klines.height)
    rows = signal_bars(recorded, open_ms, interval="1m", tick_size=0.01, substitutions=Substitutions(mark="last"))
    return [event for event in events if isinstance(event, (BarClosed, Gap))], rows
