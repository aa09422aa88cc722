"""What goes wrong with streams: silence, refusals, broken frames, a sink that fails."""

import asyncio
import errno
import itertools
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from picows import WSMsgType, ws_create_server

from data.clock import RealClock, ScaledClock
from data.sockets import Fate, fate
from data.stream import Stream
from data.tests.scripted_exchange import AGG_TRADE, START, Exchange, Heard, Peer, fast, quietly, streaming, until
from data.venues.aster import Venue


def test_a_close_by_the_exchange_is_told_with_its_words():
    def leave(peer: Peer) -> None:
        peer.transport.send_close(1001, b"connection lived 24 h")

    async def scene():
        async with Exchange(leave, quietly) as exchange, streaming(exchange, fast()) as sink:
            await until(lambda: len(sink.of("opened")) == 2)
            return sink, exchange.peers[0].heard

    sink, heard = asyncio.run(scene())
    assert sink.reasons[0] == "closed by the exchange, code 1001: connection lived 24 h"
    assert heard[0][0] is WSMsgType.CLOSE


def test_a_silent_exchange_is_given_up_and_tried_again():
    async def scene():
        async with (
            Exchange(quietly) as exchange,
            streaming(exchange, fast(), "btcusdt@markPrice@1s", silence_s=60.0) as sink,
        ):
            await until(lambda: len(sink.of("opened")) == 2)
            return sink, exchange.peers[0].heard

    sink, heard = asyncio.run(scene())
    assert sink.reasons[0] == "silent for 60 s"
    assert [kind for kind, _ in heard] == [WSMsgType.CLOSE]


def test_a_connection_of_rare_events_is_asked_before_it_is_given_up():
    def live(peer: Peer) -> None:
        peer.answers_pings = True

    async def scene():
        clock = fast()
        async with (
            Exchange(live, quietly) as exchange,
            streaming(exchange, clock, "!forceOrder@arr", silence_s=400.0) as sink,
        ):
            await until(lambda: len(exchange.peers) == 1 and len(exchange.peers[0].heard) >= 3)
            assert sink.reasons == []
            exchange.peers[0].answers_pings = False
            await until(lambda: len(exchange.peers) == 2)
            return sink

    assert asyncio.run(scene()).reasons[0] == "silent for 400 s"


def test_a_stream_that_is_stopped_as_it_is_connected_leaves_no_line_open():
    class Stopping(Heard):
        """Its stream is stopped before anybody has taken the connection over."""

        def opened(self, *told) -> None:
            super().opened(*told)
            for task in asyncio.all_tasks() - {self.waits}:
                task.cancel()

    async def scene():
        async with Exchange(quietly) as exchange:
            sink = Stopping(fast())
            venue = Venue(name="test", rest_url="", stream_url=exchange.url)
            stream = Stream(venue, ("btcusdt@aggTrade",), clock=sink.clock, sink=sink, sockets=1)
            sink.waits = asyncio.current_task()
            await asyncio.wait({asyncio.create_task(stream.run())})
            async with asyncio.timeout(5):
                await exchange.peers[0].transport.wait_disconnected()
            return sink

    assert asyncio.run(scene()).reasons == ["stopped"]


class Stepped(ScaledClock):
    """The machine's clock was set meanwhile."""

    step_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.step_ns


def test_silence_is_noticed_although_the_clock_was_set_back():
    async def scene():
        clock = Stepped(START, 1_000)
        async with (
            Exchange(quietly) as exchange,
            streaming(exchange, clock, "btcusdt@markPrice@1s", silence_s=60.0) as sink,
        ):
            await until(lambda: sink.of("opened"))
            clock.step_ns = -86_400_000_000_000
            await until(lambda: len(sink.of("opened")) == 2)
            return sink

    assert asyncio.run(scene()).reasons[0] == "silent for 60 s"


def test_a_broken_frame_ends_the_connection_and_not_the_run():
    async def scene():
        text = b"\x81\x01"  # of one byte
        stray = lambda peer: peer.transport.underlying_transport.write(text + b"1" + b"\x80\x01x")  # noqa: E731
        garbage = lambda peer: peer.transport.underlying_transport.write(text + b"2" + b"\xff\xff\xff\xff")  # noqa: E731
        async with Exchange(stray, garbage, lambda peer: peer.text(b"3")) as exchange:
            async with streaming(exchange, fast()) as sink:
                await until(lambda: sink.payloads == [b"1", b"2", b"3"])  # what came before it is kept
            return sink

    reasons = asyncio.run(scene()).reasons
    assert reasons[0] == "broken frame: a fragment out of place"
    assert reasons[1].startswith("broken frame: ")


def test_a_long_fragment_out_of_place_is_none_of_the_messages_that_came_with_it():
    def stray(peer: Peer) -> None:
        end = AGG_TRADE[1:]
        assert len(AGG_TRADE) > 126  # as long as messages are
        wire = b"\x81\x7e" + len(AGG_TRADE).to_bytes(2, "big") + AGG_TRADE
        peer.transport.underlying_transport.write(2 * wire + b"\x80\x7e" + len(end).to_bytes(2, "big") + end)

    async def scene():
        async with Exchange(stray, quietly) as exchange, streaming(exchange, fast()) as sink:
            await until(lambda: sink.reasons)
            return sink

    sink = asyncio.run(scene())
    assert sink.payloads == [AGG_TRADE, AGG_TRADE]
    assert sink.reasons[0] == "broken frame: a fragment out of place"


class Failing(Heard):
    """A sink whose disk is full at the message 2, or at once; counts what reaches it afterwards."""

    at_once = False
    calls_after = None

    def _fail(self):
        self.calls_after = 0
        raise OSError(errno.ENOSPC, "no space left on device")

    def opened(self, recv_ns, connection, streams, life):
        super().opened(recv_ns, connection, streams, life)
        if self.at_once:
            self._fail()

    def burst(self, connection, frames):
        if self.calls_after is not None:
            self.calls_after += 1
        super().burst(connection, frames)
        if b"2" in [payload for _, payload in frames]:
            self._fail()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("sockets", [1, 2])
def test_what_the_sink_raises_ends_the_run_and_nothing_more_reaches_it(at_once, sockets):
    def keep_sending(peer: Peer) -> None:
        peer.text(b"1", b"2", b"3", b"4")
        asyncio.get_running_loop().call_later(0.05, peer.text, b"5")

    async def scene():
        clock = RealClock()
        sink = Failing(clock)
        sink.at_once = at_once
        async with Exchange(keep_sending) as exchange:
            venue = Venue(name="test", rest_url="", stream_url=exchange.url)
            stream = Stream(venue, ["a@trade"], clock=clock, sink=sink, sockets=sockets)
            with pytest.raises(OSError, match="no space left") as raised:
                await asyncio.wait_for(stream.run(), 20)
            assert raised.value.errno == errno.ENOSPC
            await asyncio.sleep(0.1)
        return sink

    sink = asyncio.run(scene())
    assert (sink.calls_after, sink.reasons) == (0, [])
    assert (sink.payloads == []) == at_once


@contextmanager
def deaf(exchange: Exchange) -> Iterator[socket.socket]:
    """Its port while nobody listens there, and nobody else can."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        exchange.url = f"ws://127.0.0.1:{port.getsockname()[1]}"
        yield port


def test_a_refused_connection_is_tried_until_somebody_listens():
    async def scene():
        exchange, clock = Exchange(lambda peer: peer.text(b"here")), fast()
        with deaf(exchange) as port:
            async with streaming(exchange, clock) as sink:
                await until(lambda: len(sink.reasons) == 2)
                server = await ws_create_server(exchange._accept, sock=port)
                await until(lambda: sink.payloads)
            server.close()
        return sink

    sink = asyncio.run(scene())
    assert sink.payloads == [b"here"]
    assert sink.reasons[0].startswith("no connection: ")
    assert "refused" in sink.reasons[0].lower() or "Connect call failed" in sink.reasons[0]


class Leaping(ScaledClock):
    """Time passes only while something sleeps, and then at once; very long sleeps never end."""

    def __init__(self):
        super().__init__(START, 1)
        self.slept_ns = 0

    def now_ns(self) -> int:
        return self.slept_ns

    async def sleep(self, seconds: float) -> None:
        if seconds > 1_000:
            await asyncio.Event().wait()
        self.slept_ns += round(seconds * 1e9)
        await asyncio.sleep(0)


def waits_s(seed: int) -> list[float]:
    """The first twenty waits between attempts at an address where nobody listens."""

    async def scene():
        exchange, clock = Exchange(), Leaping()
        with deaf(exchange):
            async with streaming(exchange, clock, seed=seed, silence_s=10_000.0) as sink:
                await until(lambda: len(sink.reasons) > 20)
        closed_ns = [recv_ns for recv_ns, _, _ in sink.of("closed")]
        return [round((later - earlier) / 1e9, 6) for earlier, later in itertools.pairwise(closed_ns[:21])]

    return asyncio.run(scene())


def test_waits_between_attempts_grow_to_thirty_seconds_and_repeat_with_their_seed():
    waited_s = waits_s(1)
    assert all(wait_s <= 2**failures for failures, wait_s in enumerate(waited_s[:5]))
    assert 15.0 < max(waited_s) <= 30.0
    assert min(waited_s[5:]) < 15.0  # full jitter: from zero, not from half
    assert waits_s(1) == waited_s
    assert waits_s(2) != waited_s


def test_an_upgrade_refused_with_429_waits_as_told():
    async def scene():
        clock = fast()
        async with Exchange(429, lambda peer: peer.text(b"in"), headers={"Retry-After": "90"}) as exchange:
            async with streaming(exchange, clock) as sink:
                await until(lambda: sink.payloads)
            return sink

    sink = asyncio.run(scene())
    assert sink.reasons == ["upgrade refused with HTTP 429 Too Many Requests, waiting 90 s", "stopped"]
    assert sink.of("opened")[0][0] - sink.of("closed")[0][0] >= 90_000_000_000


def test_an_address_that_does_not_exist_ends_the_run_with_words():
    async def scene():
        sink = Heard(RealClock())
        async with Exchange(404) as exchange:
            venue = Venue(name="test", rest_url="", stream_url=exchange.url)
            with pytest.raises(ValueError, match="HTTP 404 Not Found; check the venue's address"):
                await Stream(venue, ["a@trade"], clock=sink.clock, sink=sink).run()
        return sink

    assert asyncio.run(scene()).reasons == ["upgrade refused with HTTP 404 Not Found"]


def test_an_address_that_worked_once_is_tried_again_whatever_it_answers():
    async def scene():
        scripts = [lambda peer: peer.cut(), 404, lambda peer: peer.text(b"back")]
        async with Exchange(*scripts) as exchange, streaming(exchange, fast()) as sink:
            await until(lambda: sink.payloads)
        return sink

    assert asyncio.run(scene()).reasons == [
        "lost without a word",
        "upgrade refused with HTTP 404 Not Found",
        "stopped",
    ]


def test_a_peer_that_hangs_up_before_its_answer_is_tried_again():
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scene():
        exchange = Exchange()
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        exchange.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, streaming(exchange, fast()) as sink:
            await until(lambda: len(sink.reasons) == 2)
        return sink

    assert set(asyncio.run(scene()).reasons) <= {
        "no connection: closed before the upgrade was answered",
        "no connection: [Errno 104] Connection reset by peer",
    }


def test_a_certificate_nobody_trusts_is_fatal_until_it_was_trusted_once():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    assert fate(error, was_open=False, now_ms=0) == Fate(
        "certificate not trusted: self-signed certificate", False, 30.0
    )
    assert fate(error, was_open=True, now_ms=0).is_retried
    assert fate(TimeoutError(), was_open=False, now_ms=0) == Fate("no connection in time", True, 0.0)
