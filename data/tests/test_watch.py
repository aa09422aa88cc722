"""What a recorder knows of its streams: which socket was first, what is missing, late or silent."""

from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.messages import UNREADABLE
from data.messages_keys import keys_of
from data.watch import Dead, Silence, Socket, Watch

TRADES, TICKER, MARK = "btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@markPrice@1s"
S = 10**9
START_NS = 1_780_000_000 * S
_unique = count()


def trade(agg_trade_id: int, sent_ms: int = 1_780_000_000_000, more: str = "") -> bytes:
    return (
        f'{{"stream":"{TRADES}","data":{{"e":"aggTrade","E":{sent_ms},"s":"BTCUSDT","a":{agg_trade_id},"p":"61000.1",'
        f'"q":"0.020","f":900,"l":902,"T":1780000000101,"m":false{more}}}}}'
    ).encode()


def tick(stream: str = TICKER, number: int | None = None) -> bytes:
    """A message of a stream, different from all others unless a number is given."""
    number = next(_unique) if number is None else number
    if stream == MARK:
        data = f'{{"e":"markPriceUpdate","E":{1_780_000_000_000 + number},"s":"BTCUSDT","p":"61002.51"}}'
    else:
        data = f'{{"e":"bookTicker","u":{number},"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    return f'{{"stream":"{stream}","data":{data}}}'.encode()


def opened(*connections: int, streams: tuple[str, ...] = (TRADES, TICKER, MARK)) -> Watch:
    watch = Watch()
    for connection in connections:
        watch.opened(START_NS, connection, streams, 1)
    return watch


def hear(watch: Watch, connection: int, second: float, *payloads: bytes) -> None:
    watch.take(connection, [(START_NS + round(second * S) + place, each) for place, each in enumerate(payloads)])


def test_the_first_arrival_of_each_message_is_counted_for_its_socket():
    watch = opened(0, 1)
    hear(watch, 0, 1, trade(1), trade(2))
    hear(watch, 1, 2, trade(1), trade(2), trade(3))
    hear(watch, 0, 3, trade(3))
    assert watch.sockets == {0: Socket(3, second=1, repeats=0, only=0), 1: Socket(3, second=2, repeats=0, only=0)}
    assert [watch.sockets[number].first for number in (0, 1)] == [2, 1]
    assert watch.frames == {TRADES: 6, TICKER: 0, MARK: 0}


@pytest.mark.parametrize("odd", [trade(2**63), trade(10**30), trade(11, sent_ms=10**310), trade(-(10**30))])
def test_a_number_that_is_none_is_counted_and_changes_no_other(odd):
    watch = opened(0)
    watch.take(0, [(START_NS + 8 * place, each) for place, each in enumerate((trade(10), odd, trade(12)))])
    assert (watch.missing_trades, watch.frames[TRADES], watch.unknown.total()) == ({TRADES: 1}, 3, 1)
    assert watch.lag_ms() == pytest.approx((0, 0), abs=1)


def test_a_connection_that_is_replaced_repeats_itself():
    watch = opened(0)
    watch.opened(START_NS, 0, [TRADES], 2)
    hear(watch, 0, 1, trade(1), trade(1))
    watch.opened(START_NS, 1, [TRADES], 1)
    hear(watch, 1, 2, trade(1))
    hear(watch, 0, 3, trade(1))
    assert watch.sockets[0] == Socket(3, second=0, repeats=2, only=0)
    assert watch.sockets[1] == Socket(1, second=1, repeats=0, only=0)


def test_the_same_bytes_of_two_venues_are_two_messages():
    watch = opened(0, 1, 4_096, 4_097)
    for connection in (0, 4_096, 1, 4_097):
        hear(watch, connection, 1, trade(1))
    assert [watch.sockets[number].first for number in (0, 1, 4_096, 4_097)] == [1, 0, 1, 0]


def test_what_came_on_one_socket_only_is_counted_once_it_is_no_longer_waited_for():
    watch = opened(0, 1)
    hear(watch, 0, 1, trade(7))
    assert watch.sockets[0].only == 0
    for _ in range(3):
        both = [tick() for _ in range(40_000)]
        hear(watch, 0, 2, *both)
        hear(watch, 1, 2, *both)
    assert (watch.sockets[0].only, watch.sockets[1].only) == (1, 0)


def test_missing_trades_are_those_that_no_socket_brought():
    watch = opened(0, 1)
    hear(watch, 0, 1, trade(10), trade(11), trade(15))
    assert watch.missing_trades == {TRADES: 3}
    hear(watch, 1, 2, trade(10), trade(11), trade(13), trade(15))
    assert watch.missing_trades == {TRADES: 2}
    hear(watch, 1, 3, trade(12), trade(14))
    assert watch.missing_trades == {}


def test_venues_that_call_a_stream_alike_number_their_trades_apart():
    watch = opened(0, 1, 4_096, 4_097)
    hear(watch, 0, 1, trade(10), trade(11), trade(13))
    hear(watch, 4_096, 1, trade(500), trade(501), trade(12))
    hear(watch, 4_097, 2, trade(504))
    assert watch.missing_trades == {TRADES: 3}
    hear(watch, 1, 3, trade(12))
    assert watch.missing_trades == {TRADES: 2}


@given(st.data())
def test_missing_trades_are_exact_whatever_each_socket_loses_repeats_and_reorders(data):
    ids = st.lists(st.integers(100, 130), max_size=40)
    arrivals = data.draw(st.permutations([(number, each) for number in (0, 1) for each in data.draw(ids)]))
    watch = opened(0, 1)
    for second, (connection, agg_trade_id) in enumerate(arrivals):
        hear(watch, connection, second, trade(agg_trade_id))
    came = [agg_trade_id for _, agg_trade_id in arrivals]
    missing = set(range(came[0], max(came))) - set(came) if came else set()
    assert watch.missing_trades.get(TRADES, 0) == len(missing)


def test_the_lag_is_receipt_minus_sending():
    watch = opened(0, 2)
    sent_ms = 1_780_000_000_000
    for step in range(1, 101):  # received on whole numbers of 8 ns, of which each is looked at
        watch.take(0, [(START_NS + step * 8 * 10**6, trade(step, sent_ms))])
    assert watch.lag_ms(0) == (408.0, 800.0)
    assert watch.lag_ms() == watch.lag_ms(0)
    assert watch.lag_ms(2) is None


def test_frames_that_cannot_be_read_and_fields_nobody_knows_are_counted():
    watch = opened(0)
    hear(watch, 0, 0, trade(1, more=',"nova":7'))  # at a time that is looked at closely
    hear(watch, 0, 1, b'{"stream":"btcusdt@aggTrade","data":{"e":"novum","s":"BTCUSDT"}}', b"not JSON")
    hear(watch, 0, 1, b'{"result":null,"id":1}')
    assert watch.drift == {"aggTrade: nova": 1}
    assert sorted(reason.partition(":")[0] for reason in watch.unknown) == ["not JSON", "unknown event 'novum'"]
    assert set(watch.unknown.values()) == {1}


def test_a_hostile_stream_does_not_fill_the_tables():
    watch = opened(0)
    hear(watch, 0, 1, *(f'{{"stream":"a@b","data":{{"e":"e{number}"}}}}'.encode() for number in range(1_000)))
    assert len(watch.unknown) == 101 and watch.unknown["other"] == 900


def test_a_stream_that_nobody_announced_is_counted_too():
    watch = opened(0)
    hear(watch, 0, 1, tick("ethusdt@bookTicker"))
    assert watch.frames["ethusdt@bookTicker"] == 1
    watch.opened(START_NS, 1, [TICKER], 1)
    for connection in (0, 1):
        hear(watch, connection, 2, tick("币@bookTicker", 1))
    assert watch.frames["币@bookTicker"] == 2
    assert [watch.sockets[number].second for number in (0, 1)] == [0, 1]


def test_what_is_no_trade_is_none_whatever_its_stream_is_called():
    watch = opened(0)
    hear(watch, 0, 1, trade(1), tick(TRADES), trade(2))
    assert (watch.frames[TRADES], watch.missing_trades, watch.unknown) == (3, {}, {})


def run(watch: Watch, seconds: range, *sounding: tuple[int, str], connections=(0, 1)) -> list[tuple]:
    """A message each second on each of these (connection, stream); returns what the verdicts told and when."""
    told = []
    for second in seconds:
        for connection, stream in sounding:
            hear(watch, connection, second, tick(stream, second))
        verdict = watch.silent(START_NS + second * S, connections)
        told += [(second, each) for each in (*verdict.began, *verdict.ended, *verdict.dead)]
    return told


def test_a_stream_is_dead_on_a_socket_when_it_goes_on_only_on_the_other():
    watch = opened(0, 1, streams=(TICKER,))
    both, one = ((0, TICKER), (1, TICKER)), ((0, TICKER),)
    assert run(watch, range(1, 31), *both) == []
    silence = Silence(1, TICKER, START_NS + 30 * S)
    assert run(watch, range(31, 121), *one) == [
        (51, silence),  # twenty intervals of a second have passed
        (51, Dead(1, (TICKER,), False)),
        (61, Dead(1, (TICKER,), True)),  # ten seconds later it has not come back
    ]
    told = run(watch, range(121, 131), *both)
    assert told == [(121, silence)]


def test_a_replaced_connection_gets_its_time_and_is_replaced_ever_more_rarely():
    watch = opened(0, 1, streams=(TICKER,))
    run(watch, range(1, 31), (0, TICKER), (1, TICKER))
    lost = []
    for second in range(31, 2_000):
        for what in run(watch, range(second, second + 1), (0, TICKER)):
            if what[1] == Dead(1, (TICKER,), True):
                lost.append(second)
                watch.opened(START_NS + second * S, 1, [TICKER], 1 + len(lost))
                watch.closed(1, len(lost))
    waits = [later - earlier for earlier, later in pairwise(lost)]
    assert waits[0] >= 60 and all(later >= 1.9 * earlier for earlier, later in pairwise(waits))


def test_a_stream_without_news_is_not_dead():
    watch = opened(0, 1)
    run(watch, range(1, 31), (0, TICKER), (1, TICKER))
    assert run(watch, range(31, 1_000)) == []


def test_a_rare_stream_gets_twenty_of_its_intervals():
    watch = opened(0, 1)
    for minute in range(1, 11):
        assert run(watch, range(60 * minute, 60 * minute + 1), (0, TICKER), (1, TICKER)) == []
    told = [each for minute in range(11, 60) for each in run(watch, range(60 * minute, 60 * minute + 1), (0, TICKER))]
    assert told[0] == (60 * 31, Silence(1, TICKER, START_NS + 600 * S))


def test_a_message_under_way_on_the_other_socket_is_no_death():
    watch = opened(0, 1)
    run(watch, range(1, 11), (0, TICKER), (1, TICKER))
    hear(watch, 0, 40, tick(TICKER, 40))
    assert watch.silent(START_NS + 41 * S, (0, 1)).dead == []
    hear(watch, 1, 42, tick(TICKER, 40))
    assert watch.silent(START_NS + 60 * S, (0, 1)).dead == []


def test_without_a_second_socket_nothing_is_dead_but_steady_streams():
    watch = opened(0)
    run(watch, range(1, 31), (0, TICKER), (0, MARK), connections=(0,))
    told = run(watch, range(31, 61), connections=(0,))
    assert told == [(36, Silence(0, MARK, START_NS + 30 * S)), (36, Dead(0, (MARK,), True))]


def test_a_steady_stream_silent_on_both_has_one_socket_replaced_a_minute_at_most():
    watch = Watch()
    watch.opened(START_NS, 0, [MARK], 1)
    watch.opened(START_NS + 1, 1, [MARK], 1)
    run(watch, range(1, 31), (0, MARK), (1, MARK))
    told = run(watch, range(31, 400))
    assert [what for what in told if isinstance(what[1], Silence)] == [
        (36, Silence(0, MARK, START_NS + 30 * S)),
        (36, Silence(1, MARK, START_NS + 30 * S)),
    ]
    assert [what for what in told if isinstance(what[1], Dead)] == [
        (36, Dead(0, (MARK,), True)),
        (96, Dead(0, (MARK,), True)),
        (216, Dead(0, (MARK,), True)),  # twice as long each time
    ]


def test_a_stream_that_never_came_has_nothing_replaced():
    watch = opened(0, 1)
    assert run(watch, range(1, 600), (0, TICKER), (1, TICKER)) == []


def test_other_connections_than_those_asked_about_are_not_judged():
    watch = opened(0, 1)
    run(watch, range(1, 31), (0, MARK), (1, MARK))
    assert run(watch, range(31, 60), connections=(4_096,)) == []


def test_ages_are_those_of_the_open_connections():
    watch = opened(0, 1)
    watch.opened(START_NS + 5 * S, 0, [TICKER], 2)
    watch.closed(1, 1)
    assert watch.age_s(START_NS + 10 * S) == {0: 10.0}
    watch.closed(0, 1)
    assert watch.age_s(START_NS + 10 * S) == {0: 5.0}
    assert watch.heard_ns(0) == START_NS + 5 * S


def test_keys_are_read_from_a_whole_message_only():
    assert keys_of(trade(7)).data.agg_trade_id == 7
    assert keys_of(tick()).data.sent_time is None
    for broken in (trade(7)[:-1], trade(7)[:-2] + b"]}", trade(7).replace(b'"a":7', b'"a":"7"'), b""):
        with pytest.raises(UNREADABLE):
            keys_of(broken)
