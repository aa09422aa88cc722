"""Streams over real sockets: names, bytes, stamps, reconnects, told time. What goes wrong: test_stream_faults."""

import asyncio
import itertools

import pytest
from picows import WSMsgType

from data.clock import FollowedClock, RealClock
from data.stream import Stream
from data.stream_names import streams_of, table_of
from data.tests.scripted_exchange import AGG_TRADE, START_NS, Exchange, Heard, Peer, fast, quietly, streaming, until
from data.venues.aster import Venue


def test_stream_names_are_the_venue_s():
    kinds = ("kline_1m", "bookTicker", "markPrice", "aggTrade", "depth", "trade", "forceOrder")
    assert streams_of(["BTCUSDT"], kinds) == (
        "btcusdt@kline_1m",
        "btcusdt@bookTicker",
        "btcusdt@markPrice@1s",
        "btcusdt@aggTrade",
        "btcusdt@depth5@100ms",
        "btcusdt@trade",
        "!forceOrder@arr",
    )
    assert streams_of(["BTCUSDT", "ETHUSDT"], ["forceOrder"]) == ("!forceOrder@arr",)
    assert streams_of(["BTCUSDT"], ["depth"], 20, "250ms") == ("btcusdt@depth20",)


def test_each_kind_of_stream_has_its_table():
    kinds = ("aggTrade", "trade", "kline_15m", "depth20", "forceOrder", "novum")
    tables = ["trades", "raw_trades", "kline_updates", "depth", "force_orders", ""]
    assert [table_of(kind) for kind in kinds] == tables


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["BTCUSDT"], ["bookTicker", "markprice"]), "stream kind: .*got 'markprice'"),
        ((["BTCUSDT"], ["kline_1s"]), "stream kind: .*got 'kline_1s'"),
        ((["BTCUSDT"], ["depth"], 7), "depth levels: expected 5, 10 or 20, got 7"),
        ((["BTCUSDT"], ["depth"], 5, "0ms"), "depth speed: expected one of 100ms, 250ms, 500ms, got '0ms'"),
    ],
)
def test_streams_that_do_not_exist_are_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        streams_of(*arguments)


@pytest.mark.parametrize("streams", [(), ("",), ("btcusdt@trade/ethusdt@trade",), ("btcusdt@trade?x",), ("a b",)])
def test_names_that_could_not_stand_in_the_address_are_refused(streams):
    venue = Venue(name="test", rest_url="", stream_url="ws://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"streams?.*: expected .*such as btcusdt@aggTrade"):
        Stream(venue, streams, clock=RealClock(), sink=Heard(RealClock()))


def test_streams_are_dealt_out_over_connections_of_at_most_150():
    names = [f"s{number}@aggTrade" for number in range(301)]

    async def scene():
        async with Exchange(quietly) as exchange, streaming(exchange, RealClock(), *names, names[0]) as sink:
            await until(lambda: len(sink.of("opened")) == 3)
            return sink, [peer.path for peer in exchange.peers]

    sink, paths = asyncio.run(scene())
    carried = [path.removeprefix("/stream?streams=").split("/") for path in paths]
    assert sorted(map(len, carried)) == [100, 100, 101]
    assert sorted(itertools.chain.from_iterable(carried)) == sorted(names)
    assert sorted(number for _, number, _ in sink.of("opened")) == [0, 2, 4]


def test_frames_arrive_as_sent_with_strictly_increasing_stamps_and_a_burst_behind_them():
    messages = [AGG_TRADE, b'{"odd" : "sp\xc3\xa4ce"}', b"", b"not JSON"] * 50

    async def scene():
        clock = RealClock()
        async with Exchange(lambda peer: peer.text(*messages)) as exchange, streaming(exchange, clock) as sink:
            await until(lambda: len(sink.payloads) == 200 and sink.events[-1] == ("burst",))
            return sink

    sink = asyncio.run(scene())
    assert sink.payloads == messages
    stamps = [event[1] for event in sink.events if event != ("burst",)]
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))
    assert sink.events[0][0] == "opened"
    assert 1 <= len(sink.of("burst")) <= 200


def test_a_cut_connection_is_opened_again_under_its_number():
    async def scene():
        clock = fast()
        scripts = [lambda peer: (peer.text(b"1"), peer.cut()), lambda peer: peer.text(b"2")]
        async with Exchange(*scripts) as exchange, streaming(exchange, clock) as sink:
            await until(lambda: b"2" in sink.payloads)
        return sink

    sink = asyncio.run(scene())
    assert [event[0] for event in sink.events if event != ("burst",)] == [
        *("opened", "frame", "closed", "opened", "frame", "closed")
    ]
    assert sink.reasons == ["lost without a word", "stopped"]
    assert {number for _, number, _ in sink.of("opened")} == {0}


def test_an_ordinary_ping_is_answered_with_its_payload():
    def ping(peer: Peer) -> None:
        peer.transport.send_ping(b"")
        peer.transport.send_ping(b"ASTER-88")
        peer.transport.send_ping(b"ASTER-88?")

    async def scene():
        async with Exchange(ping) as exchange, streaming(exchange, RealClock(), is_loopback=True):
            await until(lambda: len(exchange.peers) == 1 and len(exchange.peers[0].pongs) == 3)
            return exchange.peers[0]

    peer = asyncio.run(scene())
    assert peer.pongs == [b"", b"ASTER-88", b"ASTER-88?"]
    assert "X-Loopback-Clock" not in peer.headers


def test_a_message_in_fragments_arrives_whole_and_pings_may_come_between():
    def fragments(peer: Peer) -> None:
        peer.transport.send(WSMsgType.TEXT, AGG_TRADE[:20], fin=False)
        peer.transport.send_ping(b"between")
        peer.transport.send(WSMsgType.CONTINUATION, AGG_TRADE[20:90], fin=False)
        peer.transport.send(WSMsgType.CONTINUATION, AGG_TRADE[90:])
        peer.text(b"next")
        peer.transport.send(WSMsgType.TEXT, b"", fin=False)
        peer.transport.send(WSMsgType.CONTINUATION, AGG_TRADE)
        peer.transport.send(WSMsgType.TEXT, AGG_TRADE[:150], fin=False)
        peer.transport.send(WSMsgType.CONTINUATION, AGG_TRADE[150:])

    async def scene():
        async with Exchange(fragments) as exchange, streaming(exchange, RealClock()) as sink:
            await until(lambda: len(sink.payloads) == 4 and exchange.peers[0].pongs)
            return sink

    assert asyncio.run(scene()).payloads == [AGG_TRADE, b"next", AGG_TRADE, AGG_TRADE]


def test_a_followed_clock_gives_exactly_the_told_times():
    def tape(peer: Peer) -> None:
        peer.tell(START_NS)
        for step in range(1, 4):
            peer.tell(START_NS + step * 1_000)
            peer.text(b"%d" % step)

    async def scene():
        clock = FollowedClock()
        async with Exchange(tape) as exchange, streaming(exchange, clock, is_loopback=True) as sink:
            await until(lambda: len(sink.payloads) == 3)
            assert clock.is_attached
            return sink, exchange.peers[0]

    sink, peer = asyncio.run(scene())
    assert peer.headers["X-Loopback-Clock"].startswith("follow ") and peer.headers["X-Loopback-Socket"] == "0"
    assert [stamp - START_NS for stamp, _, _ in sink.of("opened")] == [0]
    assert [(stamp - START_NS, payload) for stamp, _, payload in sink.of("frame")] == [
        (1_000, b"1"),
        (2_000, b"2"),
        (3_000, b"3"),
    ]
    assert peer.pongs == []


def test_a_follower_says_that_it_is_ready_only_when_nothing_is_held():
    question = START_NS.to_bytes(8, "big") + b"?"

    async def scene():
        clock = FollowedClock()
        async with Exchange(lambda peer: peer.tell(START_NS, asks=True)) as exchange:
            async with streaming(exchange, clock, is_loopback=True):
                with clock.hold():
                    await until(lambda: clock.now_ns() == START_NS)
                    exchange.peers[0].transport.send_ping(b"alive?")
                    await until(lambda: exchange.peers[0].pongs)
                    held = list(exchange.peers[0].pongs)
                await until(lambda: len(exchange.peers[0].pongs) == 2)
            return held, exchange.peers[0].pongs

    held, released = asyncio.run(scene())
    assert held == [b"alive?"]
    assert released == [b"alive?", question]


def test_a_sleeper_that_is_due_acts_before_the_follower_says_that_it_is_ready():
    async def scene():
        clock = FollowedClock()
        told = []
        script = lambda peer: peer.tell(START_NS)  # noqa: E731
        async with Exchange(script) as exchange, streaming(exchange, clock, is_loopback=True):
            await until(lambda: clock.now_ns() == START_NS)

            async def timer():
                await clock.sleep(1.0)
                with clock.hold():
                    await asyncio.sleep(0.02)
                    told.append(list(exchange.peers[0].pongs))

            waiting = asyncio.create_task(timer())
            await asyncio.sleep(0)
            exchange.peers[0].tell(START_NS + 1_000_000_000, asks=True)
            await until(lambda: exchange.peers[0].pongs)
            await waiting
        return told

    assert asyncio.run(scene()) == [[]]


def test_a_follower_comes_back_although_the_time_stands_still_without_it():
    later_ns = START_NS + 3_600_000_000_000

    async def scene():
        clock = FollowedClock()
        scripts = [lambda peer: (peer.tell(START_NS), peer.cut()), lambda peer: peer.tell(later_ns)]
        async with Exchange(*scripts) as exchange, streaming(exchange, clock, is_loopback=True) as sink:
            await until(lambda: len(sink.of("opened")) == 2)
        assert not clock.is_attached
        return sink

    sink = asyncio.run(scene())
    assert [stamp for stamp, _, _ in sink.of("opened")] == [START_NS, later_ns]
    assert sink.of("closed")[0][0] - START_NS < 1_000


def test_cancelling_closes_the_connection_and_says_so():
    async def scene():
        clock = RealClock()
        sink = Heard(clock)
        async with Exchange(quietly) as exchange:
            venue = Venue(name="test", rest_url="", stream_url=exchange.url)
            run = asyncio.create_task(Stream(venue, ["a@trade"], clock=clock, sink=sink, sockets=1).run())
            await until(lambda: sink.of("opened"))
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            await until(lambda: exchange.peers[0].transport.is_disconnected)
            return sink, exchange.peers[0].heard

    sink, heard = asyncio.run(scene())
    assert sink.reasons == ["stopped"]
    assert [kind for kind, _ in heard] == [WSMsgType.CLOSE]


def test_a_stream_stopped_before_it_runs_asks_nobody():
    async def scene():
        async with Exchange(quietly) as exchange:
            venue = Venue(name="test", rest_url="", stream_url=exchange.url)
            stream = Stream(venue, ["a@trade"], clock=RealClock(), sink=Heard(RealClock()))
            stream.stop()
            await stream.run()
            return exchange.attempts

    assert asyncio.run(scene()) == 0
