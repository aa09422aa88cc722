"""The loopback exchange over sockets: followers and the time they are told, subscriptions, caps, outages."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest
from picows import WSHandshakeError

from data.loopback.chunk import Chunk
from data.loopback.contracts import decimals
from data.loopback.server import Loopback, Outage
from data.loopback.streams import stream_of
from data.loopback.tape import NS_PER_MS, SyntheticSource, to_ms
from data.synthetic import ALT_LIKE, BTC_LIKE
from data.tests.loopback_client import (
    END_NS,
    MARKET,
    SECOND_NS,
    START,
    START_NS,
    STREAMS,
    Client,
    connect,
    played,
    run,
    stream_path,
)


@pytest.fixture(scope="module")
def whole() -> Client:
    """A follower that has heard the whole tape."""
    return run(played)


def test_a_follower_hears_everything_at_the_very_nanosecond_of_its_delivery(whole):
    source = SyntheticSource(MARKET)
    tape = Chunk(source, decimals(source.instruments(), source.symbols), START_NS, END_NS + 10 * SECOND_NS)
    expected = []
    for name in STREAMS:
        places, texts = tape.messages(stream_of(name, source.symbols))
        expected += [
            (int(tape.times_ns[place]), {"stream": name, "data": json.loads(text)})
            for place, text in zip(places, texts, strict=True)
        ]
    assert whole.heard == sorted(expected, key=lambda one: one[0])
    assert whole.told_ns == sorted(whole.told_ns)
    assert (whole.told_ns[0], whole.told_ns[-1]) == (START_NS, END_NS + 10 * SECOND_NS)


def test_two_runs_tell_the_same_whatever_the_order_of_subscription(whole):
    again = run(lambda exchange: played(exchange, STREAMS[::-1]))
    assert again.heard == whole.heard
    assert again.asked_ns == whole.asked_ns


def test_every_frame_sent_is_counted_by_its_stream():
    async def count(exchange: Loopback) -> None:
        client = await played(exchange)
        assert exchange.frames_sent == Counter(message["stream"] for _, message in client.heard)

    run(count)


def test_the_market_waits_as_often_as_is_wanted():
    async def listen(exchange: Loopback) -> None:
        client = await played(exchange)
        waits = zip(client.asked_ns, client.asked_ns[1:], strict=False)
        assert all(later - earlier <= SECOND_NS // 2 for earlier, later in waits)

    run(listen, quiet_every_s=0.5)


def test_the_market_waits_for_a_follower_that_is_not_quiet():
    async def hold(exchange: Loopback) -> None:
        client = await connect(exchange)
        client.answers = False
        client.say({"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 1})
        await client.until(lambda client: client.asked_ns != [])
        await asyncio.sleep(0.05)
        assert (exchange.now_ns, client.asked_ns) == (START_NS, [START_NS])
        client.answers = True
        client.transport.send_pong(START_NS.to_bytes(8, "big") + b"?")
        await client.until(lambda client: client.now_ns > START_NS)

    run(hold)


def test_time_stands_still_until_a_follower_has_subscribed():
    async def wait(exchange: Loopback) -> None:
        await connect(exchange, stream_path(), follows=False)
        follower = await connect(exchange)
        await asyncio.sleep(0.05)
        assert exchange.now_ns == START_NS
        assert (await follower.reply({"method": "SUBSCRIBE", "params": ["nobody@trade"], "id": 1}))["result"] is None
        await exchange.finished()

    run(wait)


def test_others_hear_the_same_but_no_time_and_are_pinged_every_five_minutes():
    async def listen(exchange: Loopback) -> tuple[Client, Client]:
        other = await connect(exchange, stream_path(), follows=False)
        follower = await played(exchange)
        await other.until(lambda client: len(client.heard) == len(follower.heard))
        return other, follower

    other, follower = run(listen)
    assert [message for _, message in other.heard] == [message for _, message in follower.heard]
    assert other.told_ns == []
    assert [int(ping) for ping in other.pings] == [to_ms(START) + 300_000, to_ms(START) + 600_000]


def test_at_a_given_speed_time_passes_for_anybody_who_listens():
    async def listen(exchange: Loopback) -> None:
        client = await connect(exchange, "/ws/btcusdt@markPrice@1s", follows=False)
        await exchange.finished()
        await client.until(lambda client: len(client.heard) == 600)

    run(listen, speed=3_000.0)


def test_a_follower_is_told_the_time_between_messages_at_a_given_speed():
    async def listen(exchange: Loopback) -> Client:
        return await played(exchange, ("nobody@trade",))

    client = run(listen, speed=3_000.0)
    assert client.heard == []
    assert len(client.told_ns) > 2
    assert client.told_ns[-1] == END_NS + 10 * SECOND_NS


def test_bare_messages_come_on_raw_connections_and_wrapped_ones_on_combined():
    async def listen(exchange: Loopback) -> None:
        raw = await connect(exchange, "/ws/btcusdt@markPrice@1s/btcusdt@aggTrade")
        combined = await connect(exchange, "/stream?streams=%21markPrice%40arr%401s")
        await exchange.finished()
        await raw.until(lambda client: client.now_ns > END_NS)
        await combined.until(lambda client: client.now_ns > END_NS)
        assert {message["e"] for _, message in raw.heard} == {"markPriceUpdate", "aggTrade"}
        assert {message["stream"] for _, message in combined.heard} == {"!markPrice@arr@1s"}
        assert [each["s"] for each in combined.heard[0][1]["data"]] == ["BTCUSDT", "ASTERUSDT"]

    run(listen)


def test_subscriptions_change_while_the_market_goes_on():
    async def change(exchange: Loopback) -> Client:
        client = await connect(exchange)
        assert (await client.reply({"method": "LIST_SUBSCRIPTIONS", "id": 1})) == {"result": [], "id": 1}
        client.say({"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 2})
        await client.until(lambda client: client.now_ns > START_NS + 100 * SECOND_NS)
        client.answers = False
        client.say({"method": "SUBSCRIBE", "params": ["asterusdt@markPrice@1s"], "id": 3})
        client.say({"method": "UNSUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 4})
        client.say({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5})
        await client.until(lambda client: client.heard[-1][1] == {"result": None, "id": 5})
        client.answers = True
        client.transport.send_pong(client.asked_ns[-1].to_bytes(8, "big") + b"?")
        await exchange.finished()
        return client

    messages = [message for _, message in run(change).heard if "id" not in message]
    symbols = [message["data"]["s"] if "data" in message else message["s"] for message in messages]
    turn = symbols.index("ASTERUSDT")
    assert set(symbols[:turn]) == {"BTCUSDT"}
    assert set(symbols[turn:]) == {"ASTERUSDT"}
    assert len(symbols) == 600  # one of the two in every second


@pytest.mark.parametrize("path", ["/", "/wss", "/stream/btcusdt@trade"])
def test_there_is_nothing_at_other_paths(path):
    async def knock(exchange: Loopback) -> None:
        with pytest.raises(WSHandshakeError) as refusal:
            await connect(exchange, path)
        assert refusal.value.response.status == 404

    run(knock)


def test_more_than_two_hundred_streams_are_refused():
    async def knock(exchange: Loopback) -> None:
        with pytest.raises(WSHandshakeError) as refusal:
            await connect(exchange, stream_path([f"s{number}@trade" for number in range(201)]))
        assert refusal.value.raw_body == b"at most 200 streams per connection, got 201; open another one"

    run(knock)


def test_more_than_ten_messages_a_second_end_the_connection():
    async def shout(exchange: Loopback) -> None:
        client = await connect(exchange)
        await client.transport.measure_roundtrip_time(1)  # a ping, which is answered
        for number in range(9):
            client.say({"method": "LIST_SUBSCRIPTIONS", "id": number})
        await client.until(lambda client: len(client.heard) == 9)
        client.transport.send_ping(b"eleven")
        await client.transport.wait_disconnected()
        assert len(client.heard) == 9

    run(shout)


def test_a_connection_ends_when_its_life_is_over():
    async def live(exchange: Loopback) -> None:
        client = await connect(exchange, stream_path())
        await client.transport.wait_disconnected()
        assert exchange.now_ns - START_NS == 120 * SECOND_NS
        assert client.now_ns == exchange.now_ns

    run(live, life_s=120.0)


def test_a_planned_outage_cuts_everybody_and_its_time_passes_unheard(whole):
    outage = Outage(at=START + timedelta(minutes=2), seconds=90.0)

    async def lose(exchange: Loopback) -> tuple[Client, Client]:
        first, other = [await connect(exchange, stream_path()) for _ in range(2)]
        await asyncio.gather(first.transport.wait_disconnected(), other.transport.wait_disconnected())
        assert exchange.now_ns == START_NS + 210 * SECOND_NS
        again, _ = await asyncio.gather(played(exchange), played(exchange))
        return first, again

    before, after = run(lose, outages=[outage])
    cut_ns, back_ns = START_NS + 120 * SECOND_NS, START_NS + 210 * SECOND_NS
    assert before.heard == [one for one in whole.heard if one[0] <= cut_ns]
    assert after.heard == [one for one in whole.heard if one[0] > back_ns]
    assert after.told_ns[0] == back_ns


def test_after_a_cut_the_first_to_come_back_does_not_run_away_with_the_market():
    outage = Outage(at=START + timedelta(minutes=2), seconds=60.0)

    async def lose(exchange: Loopback) -> None:
        clients = [await connect(exchange, stream_path()) for _ in range(2)]
        await asyncio.gather(*(client.transport.wait_disconnected() for client in clients))
        early = await connect(exchange, stream_path())
        await asyncio.sleep(0.05)
        assert exchange.now_ns == START_NS + 180 * SECOND_NS
        late = await connect(exchange, stream_path())
        await exchange.finished()
        assert early.heard == late.heard

    run(lose, outages=[outage])


def test_connections_can_be_cut_and_time_skipped_from_outside():
    async def control(exchange: Loopback) -> None:
        async with aiohttp.ClientSession() as session:

            async def post(path: str) -> int:
                async with session.post(exchange.rest_url + path) as response:
                    return (await response.json())["now_ms"]

            assert await post("/loopback/skip?seconds=60") == to_ms(START) + 60_000
            client = await connect(exchange)
            assert await post("/loopback/cut?outage_s=30") == to_ms(START) + 90_000
            await client.transport.wait_disconnected()
            again = await played(exchange)
            assert again.told_ns[0] == START_NS + 90 * SECOND_NS
            ended_ms = to_ms(MARKET.end) + 10_000
            assert await post("/loopback/skip?seconds=60") == ended_ms  # the tape is over
            async with session.get(f"{exchange.rest_url}/fapi/v3/time") as response:
                assert await response.json() == {"serverTime": ended_ms}

    run(control)


def test_a_stream_can_fall_silent_while_its_connection_stays(whole):
    async def listen(exchange: Loopback) -> Client:
        exchange.mute("btcusdt@markPrice@1s", 300.0)
        return await played(exchange)

    client = run(listen)
    muted_until_ns = START_NS + 300 * SECOND_NS
    assert client.heard == [
        one for one in whole.heard if one[1]["stream"] != "btcusdt@markPrice@1s" or one[0] > muted_until_ns
    ]


def test_the_market_can_begin_later_and_knows_what_was_before(whole):
    begins = START + timedelta(minutes=5)

    async def begin(exchange: Loopback) -> Client:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{exchange.rest_url}/fapi/v1/klines?symbol=BTCUSDT&interval=1m") as response,
        ):
            bars = await response.json()
        assert [bar[0] for bar in bars] == [to_ms(START) + minute * 60_000 for minute in range(6)]
        return await played(exchange)

    client = run(begin, start=begins)
    assert client.heard == [one for one in whole.heard if one[0] > to_ms(begins) * NS_PER_MS]


def test_a_day_goes_over_many_chunks_without_losing_a_row():
    spec = replace(MARKET, symbols=(replace(BTC_LIKE, symbol="AUSDT"), ALT_LIKE), days=150 / 1_440)

    async def listen(exchange: Loopback) -> Client:
        return await played(exchange, ("ausdt@markPrice@1s", "ausdt@kline_1m"))

    client = run(listen, spec)
    messages = [message["data"] for _, message in client.heard]
    assert [message["E"] for message in messages if message["e"] == "markPriceUpdate"] == [
        to_ms(START) + 1_000 * second for second in range(150 * 60)
    ]
    assert sum(message["e"] == "kline" and message["k"]["x"] for message in messages) == 150


def test_a_tape_that_cannot_be_read_ends_the_exchange_with_its_reason():
    class Torn(SyntheticSource):
        def carried(self, table: str, symbol: str, from_ms: int, to_ms: int):
            raise OSError("the tape is torn")

    async def session() -> None:
        async with Loopback(Torn(MARKET)) as exchange:
            client = await connect(exchange, stream_path())
            await client.transport.wait_disconnected()

    with pytest.raises(OSError, match="the tape is torn"):
        asyncio.run(session())


def test_a_wrong_speed_or_start_is_refused():
    source = SyntheticSource(MARKET)
    with pytest.raises(ValueError, match="speed: expected a positive factor"):
        Loopback(source, speed=0.0)
    with pytest.raises(ValueError, match="start: expected a time of the tape"):
        Loopback(source, start=MARKET.end)
