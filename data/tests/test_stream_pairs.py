"""Two sockets per shard: apart in age, one replaced before the other, each watched beside its twin."""

import asyncio
import itertools
import json

import pytest

from data.clock import FollowedClock, RealClock, ScaledClock
from data.recorder_inbox import Inbox
from data.sockets import Connection
from data.stream import Stream
from data.tests.scripted_exchange import START, START_NS, Exchange, Heard, Peer, fast, quietly, streaming, until
from data.tests.test_stream_faults import Stepped
from data.venues.aster import Venue
from data.venues.binance import BINANCE
from data.wal import Kind, Log, origin_of, read, segments
from data.watch import Dead

SECOND_NS = 10**9
MARK = "btcusdt@markPrice@1s"
TICKER = "btcusdt@bookTicker"
TRADES = "btcusdt@aggTrade"


def message(stream: str, number: int = 0) -> bytes:
    return f'{{"stream":"{stream}","data":{{"number":{number}}}}}'.encode()


def steadily(peer: Peer, clock, *, every_s: float = 1.0, streams=(MARK,)) -> None:
    """Send a message of each stream every second of the clock, from now on."""

    async def send() -> None:
        for number in itertools.count():
            if peer.transport.is_disconnected:
                return
            peer.text(*(message(stream, number) for stream in streams if stream not in peer.muted))
            await clock.sleep(every_s)

    peer.sending = asyncio.ensure_future(send())


@pytest.fixture(autouse=True)
def nothing_muted(monkeypatch):
    monkeypatch.setattr(Peer, "muted", frozenset(), raising=False)


def test_every_shard_has_two_sockets_with_numbers_of_their_own():
    names = [f"s{number}@aggTrade" for number in range(151)]

    async def scene():
        async with Exchange(quietly) as exchange, streaming(exchange, fast(), *names, sockets=2) as sink:
            await until(lambda: len(sink.of("opened")) == 4)
            return sink, {peer.path for peer in exchange.peers}

    sink, paths = asyncio.run(scene())
    assert sorted(number for _, number, _ in sink.of("opened")) == [0, 1, 2, 3]
    assert [origin_of(number) for number in range(4)] == [
        ("aster", 0, 0), ("aster", 0, 1), ("aster", 1, 0), ("aster", 1, 1),
    ]  # fmt: skip
    assert len(paths) == 2  # both sockets of a shard carry the same streams


def opened_ns(sockets: int) -> list[int]:
    """When the exchange saw each connection of two shards of so many sockets."""

    async def scene():
        clock = fast(0.01)
        asked_ns = []
        names = (f"s{number}@trade" for number in range(151))
        async with (
            Exchange(lambda peer: asked_ns.append(clock.now_ns())) as exchange,
            streaming(exchange, clock, *names, sockets=sockets) as sink,
        ):
            await until(lambda: len(sink.of("opened")) == 2 * sockets)
        return asked_ns

    return asyncio.run(scene())


def test_sockets_are_never_opened_in_the_same_instant():
    assert all(later - earlier > 0.2 * SECOND_NS for earlier, later in itertools.pairwise(opened_ns(2)))


def test_the_second_socket_waits_its_turn_although_the_first_one_loaded_a_compiler(monkeypatch):
    loads = iter([SECOND_NS])

    def made(*given, clock, **settings) -> Connection:
        clock.tell(clock.now_ns() + next(loads, 0))
        return Connection(*given, clock=clock, **settings)

    monkeypatch.setattr("data.stream.Connection", made)
    first_ns, second_ns = opened_ns(1)
    assert second_ns - first_ns > 0.2 * SECOND_NS


def test_streams_of_a_venue_with_two_addresses_are_not_mixed():
    async def scene():
        async with Exchange(quietly) as exchange:
            venue = Venue(
                name="binance", rest_url="", stream_url=exchange.url, speaks="binance", entries=BINANCE.entries
            )
            clock = RealClock()
            sink = Heard(clock)
            stream = Stream(venue, [TRADES, TICKER], clock=clock, sink=sink, sockets=1)
            run = asyncio.create_task(stream.run())
            await until(lambda: len(sink.of("opened")) == 2)
            stream.stop()
            await run
            return sink, sorted(peer.path for peer in exchange.peers)

    sink, paths = asyncio.run(scene())
    assert paths == ["/market/stream?streams=btcusdt@aggTrade", "/public/stream?streams=btcusdt@bookTicker"]
    assert [origin_of(number) for _, number, _ in sink.of("opened")] == [("binance", 0, 0), ("binance", 1, 0)]


def test_a_connection_is_replaced_by_one_that_is_open_first():
    async def scene():
        clock = fast()
        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(exchange, clock, MARK, life_s=300.0, overlap_s=50.0, silence_s=100.0) as sink,
        ):
            await until(lambda: ("closed", 0, 1) in [told[:3] for told in sink.lives])
        return sink

    sink = asyncio.run(scene())
    assert [told[:4] for told in sink.lives] == [
        ("opened", 0, 1),
        ("opened", 0, 2),
        ("closed", 0, 1, "rotated"),
        ("closed", 0, 2, "stopped"),
    ]
    (first_ns, *_), (second_ns, *_) = sink.of("opened")
    assert second_ns - first_ns >= 300 * SECOND_NS
    closed_ns = sink.of("closed")[0][0]
    assert closed_ns - second_ns >= 50 * SECOND_NS
    both = [payload for recv_ns, _, payload in sink.of("frame") if second_ns < recv_ns < closed_ns]
    assert both.count(message(MARK, 0)) == 1 and len(both) > 2  # the new one began, the old went on
    assert sink.lives[2][4] > second_ns  # it was heard until the end


def test_two_sockets_are_replaced_half_a_life_apart():
    async def scene():
        clock = fast()
        async with (
            Exchange(quietly) as exchange,
            streaming(exchange, clock, life_s=400.0, sockets=2, silence_s=1e6) as sink,
        ):
            await until(lambda: len(sink.of("opened")) >= 6)
        return sink

    opened = asyncio.run(scene()).of("opened")[:6]
    assert [number for _, number, _ in opened] == [0, 1, 1, 0, 1, 0]
    moments_s = [(recv_ns - opened[0][0]) / SECOND_NS for recv_ns, _, _ in opened]
    assert moments_s[2] - moments_s[1] >= 200  # the second one is half as old the first time
    assert all(later - earlier > 100 for earlier, later in itertools.pairwise(moments_s[1:]))


def test_a_successor_that_lacks_a_steady_stream_is_not_taken():
    async def scene():
        clock = fast()

        def deaf(peer: Peer) -> None:
            peer.muted = frozenset({MARK})
            steadily(peer, clock, streams=(MARK, TICKER))

        scripts = [lambda peer: steadily(peer, clock, streams=(MARK, TICKER)), deaf]
        scripts.append(scripts[0])
        async with (
            Exchange(*scripts) as exchange,
            streaming(exchange, clock, MARK, TICKER, life_s=300.0, overlap_s=50.0, silence_s=100.0) as sink,
        ):
            await until(lambda: "rotated" in sink.reasons)
        return sink

    lives = [told[:4] for told in asyncio.run(scene()).lives]
    assert lives[:6] == [
        ("opened", 0, 1),
        ("opened", 0, 2),
        ("closed", 0, 2, f"{MARK} did not come on it"),
        ("opened", 0, 3),
        ("closed", 0, 1, "rotated"),
        ("closed", 0, 3, "stopped"),
    ]


def test_when_the_old_connection_ends_first_the_new_one_goes_on():
    async def scene():
        clock = fast()
        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(exchange, clock, MARK, life_s=300.0, overlap_s=1_000.0, silence_s=200.0) as sink,
        ):
            await until(lambda: len(exchange.peers) == 2 and len(sink.lives) == 2)
            exchange.peers[0].cut()
            await until(lambda: len(sink.lives) == 3)
        return sink

    assert [told[:4] for told in asyncio.run(scene()).lives] == [
        ("opened", 0, 1),
        ("opened", 0, 2),
        ("closed", 0, 1, "lost without a word"),
        ("closed", 0, 2, "stopped"),
    ]


def test_one_socket_that_is_cut_leaves_the_other_alone():
    async def scene():
        clock = fast()
        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(exchange, clock, MARK, sockets=2, silence_s=100.0) as sink,
        ):
            await until(lambda: len(sink.lives) == 2)
            exchange.peers[1].cut()
            await until(lambda: len(sink.lives) == 4)
        return sink

    lives = [told[:3] for told in asyncio.run(scene()).lives]
    assert lives[:4] == [("opened", 0, 1), ("opened", 1, 1), ("closed", 1, 1), ("opened", 1, 2)]


def test_a_follower_gives_up_a_half_open_socket_while_its_twin_brings_the_time():
    async def scene():
        clock = FollowedClock()
        async with (
            Exchange(lambda peer: peer.tell(START_NS)) as exchange,
            streaming(exchange, clock, MARK, is_loopback=True, sockets=2, silence_s=10.0) as sink,
        ):
            await until(lambda: len(sink.lives) == 2)
            for second in range(1, 14):
                if exchange.peers[2:]:
                    break
                exchange.peers[0].tell(START_NS + second * SECOND_NS, asks=True)
                await until(lambda second=second: len(exchange.peers[0].pongs) == second)
            await until(lambda: len(sink.lives) == 4)
        return sink

    sink = asyncio.run(scene())
    assert [told[:4] for told in sink.lives[:4]] == [
        ("opened", 0, 1),
        ("opened", 1, 1),
        ("closed", 1, 1, "silent for 10 s"),
        ("opened", 1, 2),
    ]
    assert sink.lives[2][4] == START_NS  # heard last; what came after that is lost on it


def test_a_clock_that_is_set_forward_is_no_silence():
    async def scene():
        clock = Stepped(START, 1_000)
        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(exchange, clock, MARK, silence_s=100.0, life_s=1e9) as sink,
        ):
            await until(lambda: len(sink.payloads) > 3)
            clock.step_ns = 86_400 * SECOND_NS
            count = len(sink.payloads)
            await until(lambda: len(sink.payloads) > count + 200)
        return sink

    assert asyncio.run(scene()).reasons == ["stopped"]


def test_a_dead_stream_is_subscribed_again_and_then_its_connection_replaced():
    said = [[Dead(0, (TICKER,), False)], [Dead(0, (TICKER,), True)]]

    async def scene():
        clock = fast()
        sink = Heard(clock)
        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(
                exchange, clock, MARK, TICKER, sink=sink, silence_s=100.0, overlap_s=20.0,
                silent=lambda now_ns, connections: said.pop(0) if said and sink.payloads else [],
            ),
        ):  # fmt: skip
            await until(lambda: len(sink.lives) == 3)
        return sink, [json.loads(payload) for _, payload in exchange.peers[0].heard if payload.startswith(b"{")]

    sink, heard = asyncio.run(scene())
    assert heard == [
        {"method": "UNSUBSCRIBE", "params": [TICKER], "id": 1},
        {"method": "SUBSCRIBE", "params": [TICKER], "id": 2},
    ]
    assert [told[:4] for told in sink.lives[:3]] == [
        ("opened", 0, 1),
        ("opened", 0, 2),
        ("closed", 0, 1, f"dead on it: {TICKER}"),
    ]


def test_a_connection_that_breaks_while_its_stream_is_subscribed_again_is_made_again():
    async def scene():
        clock = ScaledClock(START, 20)
        sink = Heard(clock)
        cut = []

        def silent(now_ns, connections):
            if cut or not sink.payloads:
                return []
            cut.append(exchange.peers[0])
            exchange.peers[0].transport.disconnect(graceful=False)
            return [Dead(0, (TICKER,), False)]

        async with (
            Exchange(lambda peer: steadily(peer, clock)) as exchange,
            streaming(exchange, clock, MARK, TICKER, sink=sink, silence_s=100.0, silent=silent),
        ):
            await until(lambda: [told[0] for told in sink.lives].count("opened") == 2)
        return sink

    assert [told[0] for told in asyncio.run(scene()).lives[:3]] == ["opened", "closed", "opened"]


def test_a_stream_that_dies_on_one_socket_comes_back_and_the_log_tells(tmp_path):
    """The watch sees it beside the other socket, the stream subscribes again, both with the inbox of a recorder."""

    def notes() -> list[tuple[str, str]]:
        told = [
            json.loads(record.payload)
            for path in segments(tmp_path) for record in read(path) if record.kind is Kind.NOTE
        ]  # fmt: skip
        return [(note["note"], note["stream"]) for note in told if note["note"].startswith("stream_")]

    async def scene():
        clock = ScaledClock(START, 50)  # five seconds take 100 ms

        def script(peer: Peer) -> None:
            steadily(peer, clock, streams=(TICKER, TRADES), every_s=0.25)

        with Log(tmp_path) as log:
            inbox = Inbox(log)
            async with (
                Exchange(script) as exchange,
                streaming(
                    exchange, clock, TICKER, TRADES, sink=inbox, sockets=2, silence_s=1e5, silent=inbox.silent
                ),
            ):  # fmt: skip
                await until(lambda: inbox.connected == 2 and inbox.total > 50)
                peer = exchange.peers[1]
                peer.muted = frozenset({TICKER})
                await until(lambda: any(b'"SUBSCRIBE"' in payload for _, payload in peer.heard))
                peer.muted = frozenset()
                await until(lambda: len(notes()) == 2)
            return [json.loads(payload) for _, payload in peer.heard if payload.startswith(b"{")]

    asked = asyncio.run(scene())
    assert notes() == [("stream_silent", TICKER), ("stream_back", TICKER)]
    assert [(message["method"], message["params"]) for message in asked] == [
        ("UNSUBSCRIBE", [TICKER]),
        ("SUBSCRIBE", [TICKER]),
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"sockets": 3}, "sockets: expected 1 or 2"), ({"life_s": 0}, "life_s: expected"), ({"overlap_s": -1.0}, "overl")],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    venue = Venue(name="test", rest_url="", stream_url="ws://127.0.0.1:1")
    clock = RealClock()
    with pytest.raises(ValueError, match=words):
        Stream(venue, [MARK], clock=clock, sink=Heard(clock), **settings)
