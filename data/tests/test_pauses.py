"""Pauses of busy connections: who is busy, what ends a pause, and that one who brings few is read at once."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from data import pauses, wal
from data.clock import RealClock
from data.pauses import BUSY_PER_S, Pace, Pauses
from data.recorder_inbox import Inbox
from data.tests.scripted_exchange import AGG_TRADE, Exchange, Heard, quietly, streaming, until

HOUR_MS = 3_600_000.0
MS = 1_000_000  # ns


class Begun(list):
    """Pauses that were begun, without any."""

    begin = list.append


@pytest.fixture
def begun() -> Begun:
    return Begun()


@pytest.fixture
def lines() -> Iterator[tuple[socket.socket, ...]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = [socket.create_connection(server.getsockname()) for _ in range(2)]
    yield tuple(ends)
    for end in ends:
        end.close()


def least(line: socket.socket) -> int:
    """Bytes below which the kernel wakes nobody."""
    return line.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


@pytest.mark.parametrize(("messages_a_ms", "pauses_begun"), [(BUSY_PER_S // 1_000, True), (0.9, False)])
def test_a_connection_is_busy_from_so_many_messages_a_second_on(begun, messages_a_ms, pauses_begun):
    pace = Pace(begun, "line")
    for read in range(50):
        pace.after(round(10 * messages_a_ms), 2_000, 10 * MS * read)
    assert bool(begun) is pauses_begun
    assert set(begun) <= {"line"}


def test_a_burst_shorter_than_is_judged_is_read_at_once(begun):
    pace = Pace(begun, "line")
    for now_ns in (0, 1_000 * MS, 1_001 * MS, 1_002 * MS, 2_000 * MS):
        pace.after(30, 6_000, now_ns)
    assert begun == []


def test_a_connection_that_was_busy_is_read_at_once_again(begun):
    pace = Pace(begun, "line")
    for now_ms in range(0, 501, 5):
        pace.after(20, 4_000, now_ms * MS)
    while_busy = len(begun)
    for now_ms in range(1_500, 2_000, 5):
        pace.after(1, 200, now_ms * MS)
    assert while_busy == 81  # from the first 100 ms on
    assert len(begun) == while_busy


def test_who_brings_more_than_a_pause_could_keep_is_read_on(begun):
    pace = Pace(begun, "line")
    for now_ms in range(500):
        pace.after(300, 64_000, now_ms * MS)
    assert begun == []


def test_lines_that_pause_end_it_together_and_one_may_be_closed_meanwhile(lines):
    first, second = lines

    async def scene():
        of_both = Pauses(20.0)
        of_both.begin(first)
        of_both.begin(second)
        marked = least(first), least(second)
        await until(lambda: least(first) == 1)
        assert least(second) == 1
        of_both.begin(first)
        of_both.begin(second)
        first.close()
        await until(lambda: least(second) == 1)
        return marked

    assert asyncio.run(scene()) == (32_768, 32_768)


class Marked(list):
    """A line that keeps its marks."""

    def fileno(self) -> int:
        return 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.append(value)


def test_a_line_that_pauses_is_not_marked_again_though_it_was_read_meanwhile():
    async def scene(line):
        of_one = Pauses(1.0)
        of_one.begin(line)
        of_one.begin(line)
        await until(lambda: line[-1] == 1)
        of_one.begin(line)
        await until(lambda: line[-1] == 1)
        return list(line)

    assert asyncio.run(scene(Marked())) == [32_768, 1, 32_768, 1]


async def busy(exchange: Exchange, sink: Heard) -> object:
    """The line of an exchange whose listener is busy and has just begun a pause."""
    line = exchange.peers[0].transport.underlying_transport
    for came in (1, 2):  # picows has the first
        line.write(wire(1))
        await until(lambda came=came: len(sink.payloads) == came)
    await asyncio.sleep(0.12)  # so long nobody is judged
    line.write(wire(100))
    await until(lambda: len(sink.payloads) == 102)
    return line


def wire(messages: int) -> bytes:
    return messages * (b"\x81\x7e" + len(AGG_TRADE).to_bytes(2, "big") + AGG_TRADE)


@pytest.fixture
def busy_soon(monkeypatch):
    """A hundred messages in ten seconds are many."""
    monkeypatch.setattr(pauses, "BUSY_PER_S", 10)


def test_what_comes_during_a_pause_comes_as_one_read_when_it_ends(busy_soon, monkeypatch):
    made = []
    monkeypatch.setattr("data.stream.Pauses", lambda pause_ms: made.append(Pauses(pause_ms)) or made[0])

    async def scene():
        clock = RealClock()
        async with Exchange(quietly) as exchange, streaming(exchange, clock, read_pause_ms=HOUR_MS) as sink:
            await until(lambda: sink.of("opened"))
            line = await busy(exchange, sink)
            for _ in range(5):
                line.write(wire(1))
                await asyncio.sleep(0.01)
            during, ended_ns = len(sink.payloads), clock.now_ns()
            made[0]._end()
            await until(lambda: len(sink.payloads) == 107)
            return sink, during, ended_ns

    sink, during, ended_ns = asyncio.run(scene())
    assert during == 102
    assert len(sink.of("burst")) == 4
    stamps_ns = [stamp for stamp, _, _ in sink.of("frame")]
    assert stamps_ns[102:] == list(range(stamps_ns[102], stamps_ns[102] + 5))
    assert stamps_ns[102] >= ended_ns  # stamped when it is read


def test_a_pause_ends_when_more_has_come_than_it_can_keep(busy_soon):
    async def scene():
        clock = RealClock()
        async with Exchange(quietly) as exchange, streaming(exchange, clock, read_pause_ms=HOUR_MS) as sink:
            await until(lambda: sink.of("opened"))
            line = await busy(exchange, sink)
            line.write(wire(500))
            await until(lambda: len(sink.payloads) == 602)
            return sink

    assert asyncio.run(scene()).reasons == ["stopped"]  # and so does one who is stopped


def test_the_end_of_a_connection_ends_its_pause(busy_soon):
    async def scene():
        clock = RealClock()
        async with Exchange(quietly) as exchange, streaming(exchange, clock, read_pause_ms=HOUR_MS) as sink:
            await until(lambda: sink.of("opened"))
            line = await busy(exchange, sink)
            line.write(wire(3))
            exchange.peers[0].cut()
            await until(lambda: sink.reasons)
            return sink

    sink = asyncio.run(scene())
    assert len(sink.payloads) == 105
    assert sink.reasons[0] == "lost without a word"


@pytest.mark.parametrize("settings", [{"read_pause_ms": 0.0}, {"read_pause_ms": HOUR_MS, "is_prompt": True}])
def test_nobody_pauses_without_pauses_and_no_prompt_connection_does(busy_soon, settings):
    async def scene():
        clock = RealClock()
        async with Exchange(quietly) as exchange, streaming(exchange, clock, **settings) as sink:
            await until(lambda: sink.of("opened"))
            line = await busy(exchange, sink)
            for came in range(103, 106):
                line.write(wire(1))
                await until(lambda came=came: len(sink.payloads) == came)
            return sink

    assert len(asyncio.run(scene()).of("burst")) >= 6


def test_a_pair_that_pauses_brings_everything_twice_into_the_log(busy_soon, tmp_path):
    trades = [AGG_TRADE.replace(b'"a":501', b'"a":%d' % number) for number in range(1_000)]
    heads = [b"\x81\x7e" + len(trade).to_bytes(2, "big") for trade in trades]
    wires = list(map(bytes.__add__, heads, trades))

    async def scene(log):
        inbox = Inbox(log)
        settings = {"sink": inbox, "sockets": 2, "read_pause_ms": 20.0}
        async with Exchange(quietly) as exchange, streaming(exchange, RealClock(), **settings):
            await until(lambda: inbox.connected == 2)
            for first in range(0, 1_000, 10):
                for peer in exchange.peers:
                    peer.transport.underlying_transport.write(b"".join(wires[first : first + 10]))
                await asyncio.sleep(0.002)
            await until(lambda: inbox.total == 2_000)
        return inbox.watch

    with wal.Log(tmp_path) as log:
        watch = asyncio.run(scene(log))
    (segment,) = wal.segments(tmp_path)
    frames = [record for record in wal.read(segment) if record.kind == wal.Kind.FRAME]
    for connection in (0, 1):
        assert [frame.payload for frame in frames if frame.connection == connection] == trades
    assert sum(counts.second for counts in watch.sockets.values()) == 1_000
    assert not watch.missing_trades


def test_a_connection_that_brings_few_is_read_at_once():
    async def scene():
        clock = RealClock()
        async with Exchange(quietly) as exchange, streaming(exchange, clock, read_pause_ms=HOUR_MS) as sink:
            await until(lambda: sink.of("opened"))
            line = exchange.peers[0].transport.underlying_transport
            for came in range(1, 40):
                line.write(wire(1))
                await until(lambda came=came: len(sink.payloads) == came)
                await asyncio.sleep(0.005)
            return sink

    assert len(asyncio.run(scene()).of("burst")) == 39
