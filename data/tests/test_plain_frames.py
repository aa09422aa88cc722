"""Plain messages take the short way, everything else goes through picows: whoever listens cannot tell which."""

import asyncio
from itertools import chain
from random import Random

import pytest

from data.clock import FollowedClock, RealClock
from data.tests.scripted_exchange import AGG_TRADE, START_NS, Exchange, Peer, quietly, streaming, until

TEXT, CONTINUED, PING = 0x81, 0x80, 0x89
UNFINISHED = 0x01  # the first fragment of a text


def frame(kind: int, payload: bytes) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((kind, size)) + payload
    if size < 65_536:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + payload
    return bytes((kind, 127)) + size.to_bytes(8, "big") + payload


def anything(random: Random, longest: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """Bytes on the line, the messages and the pings that they are."""
    payload = random.randbytes(random.choice((126, 180, 233, 385, longest)))
    part = payload[: random.choice((0, 1, 5, 125))]
    match random.choice(("usual",) * 6 + ("short", "ping", "fragments")):
        case "usual":
            return frame(TEXT, payload), [payload], []
        case "short":
            return frame(TEXT, part), [part], []
        case "ping":
            return frame(PING, part), [], [part]
    wire = frame(UNFINISHED, payload[:50]) + frame(PING, part) + frame(CONTINUED, payload[50:])
    return wire, [payload], [part]


@pytest.mark.parametrize("is_prompt", [False, True])
@pytest.mark.parametrize(
    ("longest_read", "longest"), [(5, 126), (500, 1_000), (5_000, 65_535), (50_000, 65_536), (300_000, 200_000)]
)
def test_messages_are_the_same_however_the_line_cuts_them(longest_read, longest, is_prompt):
    random = Random(longest_read)
    wires, messages, pings = zip(*(anything(random, longest) for _ in range(30)), strict=True)
    wire, messages, pings = b"".join(wires), list(chain(*messages)), list(chain(*pings))

    async def scene():
        async with Exchange(quietly) as exchange, streaming(exchange, RealClock(), is_prompt=is_prompt) as sink:
            await until(lambda: sink.of("opened"))
            at = 0
            while at < len(wire):
                size = random.randint(1, longest_read)
                exchange.peers[0].transport.underlying_transport.write(wire[at : at + size])
                at += size
                await asyncio.sleep(0)
            await until(lambda: len(sink.payloads) == len(messages) and len(exchange.peers[0].pongs) == len(pings))
            return sink, exchange.peers[0].pongs

    sink, pongs = asyncio.run(scene())
    assert sink.payloads == messages
    assert pongs == pings
    stamps = [stamp for stamp, _, _ in sink.of("frame")]
    assert stamps == sorted(set(stamps))


def test_what_one_read_brings_is_handed_over_at_once():
    async def scene():
        async with Exchange(quietly) as exchange, streaming(exchange, RealClock()) as sink:
            await until(lambda: sink.of("opened"))
            line = exchange.peers[0].transport.underlying_transport
            for _ in range(3):
                line.write(50 * frame(TEXT, AGG_TRADE))
                seen = len(sink.payloads)
                await until(lambda seen=seen: len(sink.payloads) > seen)
            await until(lambda: len(sink.payloads) == 150)
            return sink

    assert len(asyncio.run(scene()).of("burst")) == 3


@pytest.mark.parametrize("is_prompt", [False, True])
def test_with_a_followed_clock_one_read_may_bring_many_times(is_prompt):
    told = [START_NS + step * 1_000 for step in range(4)]
    tape = b"".join(frame(PING, now_ns.to_bytes(8, "big")) + frame(TEXT, AGG_TRADE) for now_ns in told)

    async def scene():
        clock = FollowedClock()
        async with (
            Exchange(lambda peer: peer.transport.underlying_transport.write(tape)) as exchange,
            streaming(exchange, clock, is_loopback=True, is_prompt=is_prompt) as sink,
        ):
            sink.heard_at = []
            burst = sink.burst
            sink.burst = lambda *given: (sink.heard_at.append(clock.now_ns()), burst(*given))
            await until(lambda: len(sink.payloads) == 4)
            return sink

    sink = asyncio.run(scene())
    assert [stamp for stamp, _, _ in sink.of("frame")] == [told[0] + 1, *told[1:]]  # it opened at the first
    assert sink.heard_at == (told if is_prompt else told[-1:])


BROKEN = {
    "a length in two bytes that needs only one": b"\x81\x7e\x00\x05hello",
    "a kind that does not exist": b"\x83\x05hello",
    "a masked message": b"\x81\x85mask\x00\x00\x00\x00\x00",
    "a fragment out of place": frame(CONTINUED, AGG_TRADE[1:]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_frame_ends_the_connection_and_nothing_behind_it_is_taken(broken):
    def send(peer: Peer) -> None:
        line = peer.transport.underlying_transport
        line.write(2 * frame(TEXT, AGG_TRADE))
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, line.write, frame(TEXT, AGG_TRADE) + broken + frame(TEXT, AGG_TRADE))
        loop.call_later(0.03, line.write, frame(TEXT, AGG_TRADE))

    async def scene():
        async with Exchange(send, quietly) as exchange, streaming(exchange, RealClock()) as sink:
            await until(lambda: sink.reasons)
            return sink

    sink = asyncio.run(scene())
    assert sink.payloads == 3 * [AGG_TRADE]
    assert sink.reasons[0].startswith("broken frame: ")
