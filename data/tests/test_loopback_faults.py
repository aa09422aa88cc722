"""Faults of the loopback exchange's streams: each socket of a pair has its own, and the truth log tells of all."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import aiohttp
import polars as pl
import pytest
from picows import WSHandshakeError, ws_connect

from data.config import load
from data.loopback.faults import Announcement, Faults, StreamFault
from data.loopback.server import Loopback, Outage
from data.tests.loopback_client import (
    END_NS,
    SECOND_NS,
    START,
    START_NS,
    STREAMS,
    Client,
    played,
    run,
    stream_path,
)

MARKS, TRADES, BOOKS = "btcusdt@markPrice@1s", "btcusdt@aggTrade", "btcusdt@depth5"


async def connected(exchange: Loopback, socket: int, streams: tuple[str, ...] = STREAMS, name: str = "me") -> Client:
    """One socket of a pair of that client."""
    headers = {"X-Loopback-Clock": f"follow {name}", "X-Loopback-Socket": str(socket)}
    url = exchange.stream_url + stream_path(streams)
    transport, client = await ws_connect(Client, url, extra_headers=headers, enable_auto_pong=False)
    client.transport = transport
    return client


def paired(
    *faults: StreamFault, streams: tuple[str, ...] = STREAMS, seed: int = 0, **settings: object
) -> tuple[list[Client], pl.DataFrame, pl.DataFrame]:
    """A pair that heard the whole tape; the truth, and what nobody was sent."""

    async def listen(exchange: Loopback) -> tuple[list[Client], pl.DataFrame, pl.DataFrame]:
        held = await connected(exchange, 0, ("nobody@trade",), name="holder")
        held.answers = False  # the market waits until both are there
        pair = [await connected(exchange, socket, streams) for socket in (0, 1)]
        held.transport.disconnect(graceful=False)
        await exchange.finished()
        return pair, exchange.truth.frame(), await exchange.lost(*streams)

    return run(listen, faults=Faults(seed=seed, streams=faults), **settings)


def texts(client: Client, stream: str) -> list[tuple[int, dict]]:
    return [(time_ns, message["data"]) for time_ns, message in client.heard if message.get("stream") == stream]


@pytest.fixture(scope="module")
def well() -> Client:
    """A follower that has heard the whole tape without faults."""
    return run(lambda exchange: played(exchange, (*STREAMS, BOOKS)))


def test_without_faults_both_sockets_hear_the_same_at_the_same_times(well):
    pair, truth, lost = paired()
    assert pair[0].heard == pair[1].heard == [one for one in well.heard if one[1]["stream"] != BOOKS]
    assert truth.is_empty()
    assert lost.is_empty()


def test_each_socket_drops_messages_of_its_own_and_the_truth_names_them(well):
    pair, truth, lost = paired(StreamFault(kind="drop", streams="btcusdt@*", rate=0.1), streams=(TRADES, MARKS))
    whole = [one for one in well.heard if one[1]["stream"] in (TRADES, MARKS)]
    missing = []
    for socket, client in enumerate(pair):
        told = truth.filter(socket=socket, what="drop")
        assert 40 < told.height < 200  # of some 1,300
        gone = {(row["time_ns"], row["stream"]): row["payload"] for row in told.to_dicts()}
        assert client.heard == [one for one in whole if (one[0], one[1]["stream"]) not in gone]
        assert all(json.loads(gone[one[0], one[1]["stream"]]) == one[1] for one in whole
                   if (one[0], one[1]["stream"]) in gone)  # fmt: skip
        missing.append(set(gone))
    assert missing[0] != missing[1]
    both = missing[0] & missing[1]
    assert {(time_ns, stream) for stream, time_ns in lost.select("stream", "time_ns").iter_rows()} == both
    assert len(both) > 0


def test_the_same_seed_has_the_same_bad_luck_and_another_seed_another():
    fault = StreamFault(kind="drop", rate=0.05)
    first, again, other = [paired(fault, streams=(TRADES,), seed=seed)[1] for seed in (1, 1, 2)]
    columns = ["time_ns", "socket"]
    assert first.select(columns).sort(columns).equals(again.select(columns).sort(columns))
    assert not first.select(columns).sort(columns).equals(other.select(columns).sort(columns))


def test_messages_dropped_together_are_lost_to_everybody():
    pair, truth, lost = paired(StreamFault(kind="drop", streams=TRADES, rate=0.05, together=True), streams=(TRADES,))
    assert pair[0].heard == pair[1].heard
    assert lost.height * 2 == truth.height > 0
    gone = {json.loads(payload)["a"] for payload in lost["payload"]}
    heard = {message["a"] for _, message in texts(pair[0], TRADES)}
    assert gone.isdisjoint(heard)
    assert sorted(gone | heard) == list(range(1, 1 + len(gone | heard)))


def test_one_socket_may_be_faulty_for_a_while_and_the_other_well(well):
    fault = StreamFault(kind="drop", streams=MARKS, socket=1, from_s=60.0, for_s=30.0)
    pair, _, lost = paired(fault)
    assert texts(pair[0], MARKS) == texts(well, MARKS)
    first_ns, end_ns = START_NS + 60 * SECOND_NS, START_NS + 90 * SECOND_NS
    assert texts(pair[1], MARKS) == [one for one in texts(well, MARKS) if not first_ns <= one[0] < end_ns]
    assert lost.is_empty()


def test_doubled_messages_come_twice_and_late_ones_are_overtaken(well):
    pair, truth, lost = paired(
        StreamFault(kind="duplicate", streams=TRADES, socket=0, rate=0.1),
        StreamFault(kind="late", streams=TRADES, socket=1, rate=0.1, by_s=3.0),
        streams=(TRADES,),
    )
    ids = [message["a"] for _, message in texts(well, TRADES)]
    doubled = [json.loads(said)["data"]["a"] for said in truth.filter(what="duplicate")["payload"]]
    assert [message["a"] for _, message in texts(pair[0], TRADES)] == sorted([*ids, *doubled])
    overtaken = texts(pair[1], TRADES)
    assert [message["a"] for _, message in overtaken] != ids
    assert sorted(message["a"] for _, message in overtaken) == ids
    on_time = {message["a"]: time_ns for time_ns, message in texts(well, TRADES)}
    delays_ns = {message["a"]: time_ns - on_time[message["a"]] for time_ns, message in overtaken}
    late = {json.loads(said)["data"]["a"] for said in truth.filter(what="late")["payload"]}
    assert {number for number, delay_ns in delays_ns.items() if delay_ns} == late
    assert {delays_ns[number] for number in late} == {3 * SECOND_NS}
    assert lost.is_empty()


def test_a_line_may_be_slow(well):
    pair, _, _ = paired(StreamFault(kind="late", socket=1, by_s=0.05), streams=(TRADES, MARKS))
    assert pair[0].heard == [one for one in well.heard if one[1]["stream"] in (TRADES, MARKS)]
    assert [(time_ns - 50_000_000, message) for time_ns, message in pair[1].heard] == pair[0].heard


def test_schemas_drift_and_chains_break(well):
    pair, truth, _ = paired(
        StreamFault(kind="new_field", streams=MARKS, rate=0.1, together=True),
        StreamFault(kind="missing_field", streams=TRADES, rate=0.1, together=True),
        StreamFault(kind="unknown_event", streams="*bookTicker", rate=0.1, together=True),
        StreamFault(kind="broken_chain", streams=BOOKS, rate=0.1, together=True),
        streams=(*STREAMS, BOOKS),
    )
    assert pair[0].heard == pair[1].heard
    heard = texts(pair[0], MARKS)
    assert [{key: message[key] for key in message if key != "surprise"} for _, message in heard] == [
        message for _, message in texts(well, MARKS)
    ]
    counts = dict(truth.filter(socket=0).group_by("what").len().iter_rows())
    assert sum("surprise" in message for _, message in heard) == counts["new_field"] > 0
    assert sum("E" not in message for _, message in texts(pair[0], TRADES)) == counts["missing_field"] > 0
    strangers = [message for _, message in texts(pair[0], "asterusdt@bookTicker") if message["e"] == "stranger"]
    assert len(strangers) == counts["unknown_event"] > 0
    books = [message for _, message in texts(pair[0], BOOKS)]
    breaks = sum(book["pu"] != before["u"] for before, book in itertools.pairwise(books))
    assert breaks == counts["broken_chain"] > 0
    books = [message for _, message in texts(well, BOOKS)]
    assert all(book["pu"] == before["u"] for before, book in itertools.pairwise(books))


def test_malformed_messages_come_as_they_are():
    class Raw(Client):
        def on_ws_frame(self, transport, frame):
            if frame.msg_type == 1:
                self.heard.append((self.now_ns, frame.get_payload_as_bytes()))
            else:
                super().on_ws_frame(transport, frame)

    async def listen(exchange: Loopback) -> tuple[Client, pl.DataFrame, pl.DataFrame]:
        headers = {"X-Loopback-Clock": "follow"}
        url = exchange.stream_url + stream_path((TRADES,))
        await ws_connect(lambda: client, url, extra_headers=headers, enable_auto_pong=False)
        await exchange.finished()
        return exchange.truth.frame(), await exchange.lost(TRADES)

    client = Raw()
    truth, lost = run(listen, faults=Faults(streams=(StreamFault(kind="malformed", rate=0.05),)))
    torn = [said for _, said in client.heard if not said.endswith(b"}}")]
    assert torn == [said[: len(said) // 2] for said in truth["payload"]]
    assert lost.height == len(torn) > 0


def test_a_half_open_socket_carries_nothing_and_nobody_waits_for_it(well):
    pair, truth, lost = paired(StreamFault(kind="half_open", socket=1, from_s=120.0), streams=(TRADES, MARKS))
    cut_ns = START_NS + 120 * SECOND_NS
    assert pair[0].told_ns[-1] == END_NS + 10 * SECOND_NS
    assert pair[1].told_ns[-1] == cut_ns
    assert pair[1].heard == [one for one in pair[0].heard if one[0] <= cut_ns]
    assert truth.select("time_ns", "socket", "what").rows() == [(cut_ns, 1, "half_open")]
    assert lost.is_empty()


def test_while_all_sockets_of_a_client_are_half_open_it_is_told_the_time_and_nothing_else():
    pair, _, lost = paired(StreamFault(kind="half_open", from_s=120.0), streams=(MARKS,))
    cut_ns = START_NS + 120 * SECOND_NS
    assert {client.told_ns[-1] for client in pair} == {END_NS + 10 * SECOND_NS}
    assert max(time_ns for client in pair for time_ns, _ in client.heard) <= cut_ns
    assert lost["time_ns"].min() > cut_ns
    assert lost.height == 600 - len(pair[0].heard)


def test_a_stream_that_died_on_one_connection_lives_again_when_subscribed_anew(well):
    async def listen(exchange: Loopback) -> Client:
        client = await connected(exchange, 0, (TRADES, MARKS))
        await client.until(lambda client: client.now_ns >= START_NS + 200 * SECOND_NS)
        client.answers = False
        for number, method in enumerate(("UNSUBSCRIBE", "SUBSCRIBE"), start=1):
            client.say({"method": method, "params": [MARKS], "id": number})
        await client.until(lambda client: any(message.get("id") == 2 for _, message in client.heard))
        client.answers = True
        client.transport.send_pong(client.asked_ns[-1].to_bytes(8, "big") + b"?")
        await exchange.finished()
        assert texts(client, TRADES) == texts(well, TRADES)
        silent = exchange.truth.frame().filter(what="silence")
        assert silent["stream"].unique().to_list() == [MARKS]
        return client

    client = run(listen, faults=Faults(streams=(StreamFault(kind="silence", streams=MARKS, from_s=100.0),)))
    heard_s = {(time_ns - START_NS) // SECOND_NS for time_ns, _ in texts(client, MARKS)}
    assert heard_s.isdisjoint(range(101, 200))
    assert heard_s >= {*range(1, 100), *range(230, 600)}


def test_a_stream_that_died_for_a_while_speaks_again(well):
    fault = StreamFault(kind="silence", streams=MARKS, socket=0, from_s=100.0, for_s=50.0, every_s=200.0)
    pair, _, lost = paired(fault, streams=(TRADES, MARKS))
    silent = [(100, 150), (300, 350), (500, 550)]
    assert texts(pair[0], MARKS) == [
        one for one in texts(well, MARKS)
        if not any(first * SECOND_NS < one[0] - START_NS < last * SECOND_NS for first, last in silent)
    ]  # fmt: skip
    assert (texts(pair[1], MARKS), lost.height) == (texts(well, MARKS), 0)


def test_one_socket_of_a_pair_is_cut_without_the_market_waiting(well):
    async def listen(exchange: Loopback) -> tuple[Client, Client]:
        pair = [await connected(exchange, socket, (MARKS,)) for socket in (0, 1)]
        await pair[1].transport.wait_disconnected()
        await exchange.finished()
        return pair

    pair = run(listen, faults=Faults(streams=(StreamFault(kind="cut", socket=1, from_s=300.0),)))
    assert pair[0].told_ns[-1] == END_NS + 10 * SECOND_NS
    assert pair[1].now_ns == START_NS + 300 * SECOND_NS


def test_the_market_waits_for_clients_and_not_for_every_socket_of_them():
    async def lose(exchange: Loopback) -> None:
        pairs = [await connected(exchange, socket, (MARKS,), name) for name in "ab" for socket in (0, 1)]
        await asyncio.gather(*(client.transport.wait_disconnected() for client in pairs))
        await connected(exchange, 0, (MARKS,), "a")
        await connected(exchange, 1, (MARKS,), "a")
        await asyncio.sleep(0.05)
        assert exchange.now_ns == START_NS + 180 * SECOND_NS
        late = await connected(exchange, 1, (MARKS,), "b")
        await late.until(lambda client: client.now_ns > START_NS + 180 * SECOND_NS)

    run(lose, outages=[Outage(at=START + timedelta(minutes=2), seconds=60.0)])


def test_handshakes_are_refused_for_a_while_in_which_time_passes():
    async def knock(exchange: Loopback) -> list[str | None]:
        told = []
        for _ in range(5):
            try:
                await connected(exchange, 0, (MARKS,))
                break
            except WSHandshakeError as refusal:
                assert refusal.response.status == 429
                told.append(refusal.response.headers.get("Retry-After"))
                await asyncio.sleep(0.02)
        assert exchange.truth.frame().filter(what="refuse")["socket"].drop_nulls().to_list() == [0] * len(told)
        return told

    fault = StreamFault(kind="refuse", status=429, retry_after_s=7.0, for_s=3.0)
    assert run(knock, faults=Faults(streams=(fault,))) == ["7"] * 3


def test_what_passes_during_an_outage_is_lost_to_everybody(well):
    async def lose(exchange: Loopback) -> pl.DataFrame:
        first = await connected(exchange, 0, (MARKS,))
        await first.transport.wait_disconnected()
        await connected(exchange, 0, (MARKS,))
        await exchange.finished()
        return await exchange.lost(MARKS, TRADES)

    lost = run(lose, outages=[Outage(at=START + timedelta(minutes=2), seconds=60.0)])
    first_ns, last_ns = START_NS + 120 * SECOND_NS, START_NS + 180 * SECOND_NS
    assert lost.filter(stream=MARKS)["time_ns"].to_list() == [
        time_ns for time_ns, _ in texts(well, MARKS) if first_ns < time_ns <= last_ns
    ]
    assert lost.filter(stream=TRADES).height == len(texts(well, TRADES))  # nobody subscribed to it


def test_announcements_come_amid_the_market():
    async def listen(exchange: Loopback) -> Client:
        return await played(exchange, (MARKS,))

    announcement = Announcement(from_s=60.0, title="A new contract", category="new listing")
    client = run(listen, faults=Faults(announcements=(announcement,)))
    (told,) = [(time_ns, message) for time_ns, message in client.heard if message.get("e") == "announcement"]
    assert told[0] == START_NS + 60 * SECOND_NS
    assert (told[1]["en"]["t"], told[1]["en"]["c"]) == ("A new contract", "new listing")
    assert len(client.heard) == 601


def controlled(test: Callable[[Loopback, Callable[..., Awaitable[object]]], Awaitable[object]]) -> object:
    """The test's result, with a function that asks the exchange's controls."""

    async def with_session(exchange: Loopback) -> object:
        async with aiohttp.ClientSession() as session:

            async def ask(method: str, path: str, **given: object) -> object:
                async with session.request(method, exchange.rest_url + path, **given) as answer:
                    return await answer.json() if answer.status == 200 else (answer.status, await answer.text())

            return await test(exchange, ask)

    return run(with_session)


def test_faults_can_be_ordered_from_outside_and_the_truth_read_there():
    async def order(exchange, ask) -> None:
        fault = {"kind": "drop", "streams": MARKS, "for_s": 60.0}
        await ask("POST", "/loopback/skip?seconds=100")
        await ask("POST", "/loopback/faults", json={"streams": [fault]})
        await ask("POST", "/loopback/clock?offset_ms=1500")
        client = await played(exchange, (MARKS,))
        assert len(client.heard) == 440
        truth = await ask("GET", "/loopback/truth")
        assert [row["what"] for row in truth] == ["skip", *["drop"] * 60]
        lost = await ask("GET", f"/loopback/lost?stream={MARKS}")
        assert len(lost) == 160
        told = await ask("GET", "/fapi/v3/time")
        assert told["serverTime"] == exchange.now_ms + 1_500

    controlled(order)


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("faults", {"streams": [{"kind": "dropp"}]}, "faults [streams.0]: kind: expected one of 'drop', "),
        ("faults", [], "faults: unknown key 'faults'"),
        ("faults", {"late_bars_s": [1, 2]}, "the others are set when the exchange starts"),
        ("cut?socket=2", {}, "socket: expected 0 or 1, got '2'"),
        ("clock", {}, "offset_ms: expected a whole number of milliseconds, got None"),
    ],
)
def test_a_wrong_order_is_refused_in_words(path, body, refusal):
    async def order(exchange, ask) -> None:
        status, words = await ask("POST", f"/loopback/{path}", json=body)
        assert (status, refusal in words) == (400, True), words

    controlled(order)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rate": 0.0}, "rate: expected a share"),
        ({"for_s": -1.0}, "from_s and for_s: expected"),
        ({"every_s": 5.0}, "every_s: only of silence, half_open, cut"),
        ({"kind": "cut", "every_s": 0.0}, "every_s: expected a positive number"),
        ({"kind": "late", "by_s": 0.0}, "by_s: expected a positive number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        StreamFault(**{"kind": "drop", **wrong})


def test_faults_can_be_written_as_toml(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text('seed = 3\nlate_bars_s = [0.3, 3]\n[[streams]]\nkind = "drop"\nrate = 0.01\nsocket = 1\n')
    drop = StreamFault(kind="drop", rate=0.01, socket=1)
    assert load(Faults, path) == Faults(seed=3, late_bars_s=(0.3, 3.0), streams=(drop,))
