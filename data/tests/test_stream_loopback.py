"""A pair of sockets against the loopback exchange and its faults: together they bring everything, at its own time."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from data.clock import FollowedClock
from data.loopback.faults import Faults, StreamFault
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.recorder_inbox import Inbox
from data.stream import Stream
from data.stream_names import streams_of
from data.synthetic import BTC_LIKE, MarketSpec
from data.venues.aster import venue_of
from data.wal import Kind, Log, read, segments

MARKET = MarketSpec(symbols=(BTC_LIKE,), start=datetime(2026, 1, 5, 12, tzinfo=UTC), days=6 / 1_440, seed=5)
STREAMS = streams_of(["BTCUSDT"], ["kline_1m", "bookTicker", "markPrice", "aggTrade", "depth", "forceOrder"])
TRADES = "btcusdt@aggTrade"


async def play(folder, faults: Faults, **settings) -> Inbox:
    """Six minutes at full speed into a log."""
    lives = {name: settings.pop(name) for name in ("exchange_life_s",) if name in settings}
    async with Loopback(
        SyntheticSource(MARKET), speed=None, faults=faults, life_s=lives.get("exchange_life_s", 86_400.0)
    ) as exchange:
        venue = await venue_of(exchange.rest_url)
        with Log(folder) as log:
            inbox = Inbox(log)
            stream = Stream(venue, STREAMS, clock=FollowedClock(), sink=inbox, silent=inbox.silent, **settings)
            run = asyncio.create_task(stream.run())
            ended = asyncio.create_task(exchange.finished())
            await asyncio.wait([run, ended], return_when=asyncio.FIRST_COMPLETED, timeout=60)
            assert ended.done()
            stream.stop()
            await run
    return inbox


def first_arrivals(folder) -> dict[bytes, int]:
    """When each message came first."""
    arrivals: dict[bytes, int] = {}
    for path in segments(folder):
        for record in read(path):
            if record.kind is Kind.FRAME and record.payload.startswith(b'{"stream"'):
                arrivals[record.payload] = min(record.recv_ns, arrivals.get(record.payload, record.recv_ns))
    return arrivals


def notes(folder) -> list[dict]:
    return [
        json.loads(record.payload)
        for path in segments(folder) for record in read(path) if record.kind is Kind.NOTE
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[bytes, int]:
    folder = tmp_path_factory.mktemp("undisturbed")
    asyncio.run(play(folder, Faults(), sockets=1))
    return first_arrivals(folder)


def moment(kind: str, socket: int, from_s: float, streams: str = "*") -> StreamFault:
    return StreamFault(kind=kind, socket=socket, from_s=from_s, streams=streams)


@pytest.mark.parametrize(
    ("faults", "settings", "reasons"),
    [
        ([], {}, {"stopped"}),
        ([moment("cut", 0, 60), moment("cut", 1, 120)], {}, {"lost without a word", "stopped"}),
        ([moment("half_open", 0, 60), moment("half_open", 1, 180)], {}, {"silent for 10 s", "stopped"}),
        ([], {"life_s": 100.0, "exchange_life_s": 150.0}, {"rotated", "stopped"}),
    ],
    ids=["nothing wrong", "each is cut once", "each is half open once", "each is replaced in time"],
)
def test_a_pair_brings_every_message_at_its_own_time(tmp_path, undisturbed, faults, settings, reasons):
    inbox = asyncio.run(play(tmp_path, Faults(streams=tuple(faults)), **settings))
    found = first_arrivals(tmp_path)
    assert found.keys() == undisturbed.keys()
    late_ns = [abs(found[payload] - undisturbed[payload]) for payload in found]
    assert max(late_ns) < 100  # messages of the very same moment are a nanosecond apart
    assert {note["reason"] for note in notes(tmp_path) if note["note"] == "closed"} == reasons
    assert inbox.watch.missing_trades == {}


def test_what_both_sockets_lose_is_known(tmp_path, undisturbed):
    lossy = Faults(streams=(StreamFault(kind="drop", streams="*@aggTrade", rate=0.2),), seed=3)
    inbox = asyncio.run(play(tmp_path, lossy))
    found = first_arrivals(tmp_path)
    lost = undisturbed.keys() - found.keys()
    assert {payload[11:28].decode() for payload in lost} == {f'{TRADES}"'}
    assert sum(inbox.watch.missing_trades.values()) == len(lost) > 0
    records = (record for path in segments(tmp_path) for record in read(path))
    counts = Counter(record.payload for record in records if TRADES.encode() in record.payload)
    assert sum(count == 1 for count in counts.values()) > 5 * len(lost)  # the pair saved those


def test_a_stream_that_dies_on_one_socket_is_brought_back(tmp_path, undisturbed):
    dead = Faults(streams=(moment("silence", 1, 100, "*@bookTicker"),))
    asyncio.run(play(tmp_path, dead))
    assert first_arrivals(tmp_path).keys() == undisturbed.keys()
    told = [(note["note"], note["stream"]) for note in notes(tmp_path) if note["note"].startswith("stream_")]
    assert told == [("stream_silent", "btcusdt@bookTicker"), ("stream_back", "btcusdt@bookTicker")]
    assert [note["reason"] for note in notes(tmp_path) if note["note"] == "closed"] == ["stopped", "stopped"]
