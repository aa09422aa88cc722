"""A day of faults in minutes: with one socket faulty nothing is missing, with both all comes back or is told.

The exchange does one thing wrong after the other, and its truth log says what it did. ASTER_SEEDS=5 for more seeds;
with each of them the sockets change places.
"""

import asyncio
import json
import os
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from data.loopback.faults import Faults, RequestFault, StreamFault
from data.loopback.server import Outage
from data.reconcile import reconcile
from data.tests.faulty_recording import CONFIG, Played, at_second, elements, market_of, play, within
from data.tests.test_recorder import START, SYMBOLS, assert_same

SEEDS = range(1, 1 + int(os.environ.get("ASTER_SEEDS", "1")))
TABLES_OF_STREAMS = ("trades", "book_ticker", "depth", "mark_price", "force_orders", "klines")
KEYS = {  # of messages of which REST has no copy: table, columns that tell them apart, the same of the message
    "bookTicker": ("book_ticker", ("symbol", "update_id"), ("s", "u")),
    "depthUpdate": ("depth", ("symbol", "update_id"), ("s", "u")),
    "markPriceUpdate": ("mark_price", ("symbol", "event_time"), ("s", "E")),
    "forceOrder": ("force_orders", ("symbol", "event_time"), ("s", "T")),
}
TABLES_LOST = {event: table for event, (table, _, _) in KEYS.items()} | {"kline": "kline_updates", "aggTrade": "trades"}


# One socket at a time. Each fault has a minute; it lasts half of it, and moments have time to be noticed.

MINUTES = 15


def one_socket_faults(seed: int) -> dict[str, tuple[StreamFault | RequestFault, ...]]:
    """By name, in the order in which they come, a minute each from the first minute on."""

    def lasting(number: int, kind: str, **told) -> StreamFault:
        return StreamFault(kind=kind, socket=(number + seed) % 2, from_s=60.0 * number, for_s=30.0, **told)

    def moment(number: int, kind: str, **told) -> StreamFault:
        return StreamFault(kind=kind, socket=(number + seed) % 2, from_s=60.0 * number, **told)

    return {
        "drop": (lasting(1, "drop", rate=0.5),),
        "duplicate": (lasting(2, "duplicate", rate=0.5),),
        "reordered": (lasting(3, "late", rate=0.3, by_s=1.5),),
        "slow line": (lasting(4, "late", by_s=0.05),),
        "malformed": (lasting(5, "malformed", rate=0.2),),
        "new field": (lasting(6, "new_field", rate=0.2),),
        "missing field": (lasting(7, "missing_field", rate=0.2),),
        "unknown event": (lasting(8, "unknown_event", rate=0.2),),
        "cut": (moment(9, "cut"),),
        "refused handshakes": (moment(10, "cut"), lasting(10, "refuse", status=429, retry_after_s=5.0)),
        "half-open": (moment(11, "half_open"),),
        "silent stream": tuple(moment(12, "silence", streams=f"*@{kind}*") for kind in ("bookTicker", "depth")),
        "ban replies": tuple(
            RequestFault(kind=kind, status=status, from_s=780.0 + after_s, for_s=10.0, retry_after_s=5.0)
            for after_s, kind, status in ((0.0, "status", 429), (10.0, "status", 418), (20.0, "html", 403))
        ),
    }


FAULTS = tuple(one_socket_faults(0))


@pytest.fixture(scope="module", params=SEEDS)
def one_faulty(request, tmp_path_factory) -> tuple[Played, dict]:
    planned = one_socket_faults(request.param)
    every = [fault for faults in planned.values() for fault in faults]
    faults = Faults(
        seed=request.param,
        streams=tuple(fault for fault in every if isinstance(fault, StreamFault)),
        requests=tuple(fault for fault in every if isinstance(fault, RequestFault)),
    )
    root = tmp_path_factory.mktemp("one") / "lake"
    return asyncio.run(play(root, MINUTES, faults=faults)), planned


@pytest.mark.parametrize("name", FAULTS)
def test_with_one_socket_faulty_nothing_of_any_stream_is_missing(name, one_faulty):
    played, planned = one_faulty
    from_s = 60.0 * (1 + FAULTS.index(name))
    told = played.truth.filter(at_second(pl.col("time_ns")).is_between(from_s, from_s + 60, "left"))
    for fault in planned[name]:
        if isinstance(fault, StreamFault):
            assert told.filter(what=fault.kind, socket=fault.socket).height > 0
    for table in TABLES_OF_STREAMS:
        wanted = within(market_of(MINUTES, table), from_s, from_s + 60)
        found = within(played.lake.scan(table).filter(pl.col("source") == "ws"), from_s, from_s + 60)
        if name == "missing field" and "sent_time" in found.columns:  # the first arrival of a message is kept
            found = found.with_columns(pl.coalesce("sent_time", wanted["sent_time"]))
        assert_same(found, wanted)


def test_faults_of_one_socket_are_no_gaps_and_no_conflicts(one_faulty):
    played, _ = one_faulty
    assert played.lost.is_empty()
    assert played.lake.scan("gaps").is_empty()
    assert played.lake.scan("conflicts").is_empty()
    assert (played.status.conflicts, played.status.trouble, played.status.unsealed_bytes) == (0, (), 0)
    assert played.lake.verify() == []


def test_what_could_not_be_read_is_kept_and_counted(one_faulty):
    played, _ = one_faulty
    counts = dict(played.truth.group_by("what").len().iter_rows())
    reasons = played.lake.scan("quarantine")["reason"]
    assert reasons.str.contains("unknown event").sum() == counts["unknown_event"]
    assert played.lake.scan("quarantine").height >= counts["unknown_event"] + counts["malformed"]
    frames = played.lake.sql("select payload from raw where kind = 0")["payload"]
    assert frames.bin.starts_with(b'{"stream"').sum() == played.status.total_messages


# Both sockets at once.

LONG = 24  # minutes; bars are asked for when they are five minutes old
OUTAGES = (Outage(at=START + timedelta(minutes=6), seconds=45), Outage(at=START + timedelta(minutes=8), seconds=3))


HOLES_S = {  # seconds after the start in which trades are lost to everybody
    "drop": (60, 110), "malformed": (240, 260), "outage": (360, 405), "short outage": (480, 483),
    "half-open": (600, 615), "silent stream": (720, 735), "refused 403": (840, 855), "refused 418": (960, 975),
}  # fmt: skip


def both_sockets_faults(seed: int) -> Faults:
    def lasting(minute: float, seconds: float, kind: str, streams: str, **told) -> StreamFault:
        return StreamFault(kind=kind, streams=streams, from_s=60 * minute, for_s=seconds, **told)

    trades, bars = "*@aggTrade", "*@kline_1m"
    return Faults(
        seed=seed,
        late_bars_s=(0.3, 3.0),
        streams=(
            lasting(1, 50, "drop", trades, rate=0.2, together=True),
            lasting(2, 50, "drop", bars),
            lasting(17, 50, "drop", bars),  # no connection opens afterwards, so nothing asks for the last bars anyway
            lasting(3, 50, "late", trades, rate=0.3, by_s=2.5),
            lasting(4, 20, "malformed", trades, rate=0.2, together=True),
            lasting(4, 20, "malformed", bars, rate=0.2, together=True),
            lasting(5, 30, "duplicate", "*", rate=0.3),
            StreamFault(kind="half_open", from_s=60 * 10.0),
            *(StreamFault(kind="silence", streams=f"*@{kind}", from_s=60 * 12.0, for_s=40.0)
              for kind in ("aggTrade", "kline_1m", "markPrice@1s")),
            StreamFault(kind="cut", from_s=60 * 14.0),
            lasting(14, 20, "refuse", "*", status=403),
            StreamFault(kind="cut", from_s=60 * 16.0),
            lasting(16, 20, "refuse", "*", status=418, retry_after_s=3.0),
        ),
        requests=(
            RequestFault(kind="status", status=418, from_s=60 * 6.0, for_s=60.0, retry_after_s=20.0),
            RequestFault(kind="html", status=403, from_s=60 * 11.0, for_s=20.0),
            *(RequestFault(kind=kind, rate=rate, for_s=60 * 20.0)
              for kind, rate in (("status", 0.2), ("error_object", 0.05), ("cut_after", 0.1))),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module", params=SEEDS)
def both_faulty(request, tmp_path_factory) -> Played:
    root = tmp_path_factory.mktemp("both") / "lake"
    faults = both_sockets_faults(request.param)
    return asyncio.run(play(root, LONG, faults=faults, outages=OUTAGES))


def decoded(lost: pl.DataFrame) -> list[dict]:
    """What the messages say."""
    return [
        message.get("o", message) | {"e": message["e"], "E": message["E"]}
        for message in map(json.loads, lost["payload"].to_list())
    ]


def test_every_trade_and_bar_that_no_socket_brought_is_in_the_lake_as_rest_has_it(both_faulty):
    lake, lost = both_faulty.lake, decoded(both_faulty.lost)
    gone = {(each["s"], each["a"]) for each in lost if each["e"] == "aggTrade"}
    gone_bars = {(each["s"], each["k"]["t"]) for each in lost if each["e"] == "kline" and each["k"]["x"]}
    print(f"\n{len(gone)} trades and {len(gone_bars)} bars were brought by no socket")
    second = at_second(pl.col("time_ns"))
    trades_lost = both_faulty.lost.filter(pl.col("stream").str.ends_with("@aggTrade"))
    counts = {name: trades_lost.filter(second.is_between(*span)).height for name, span in HOLES_S.items()}
    assert min(counts.values()) > 0, counts
    assert len(gone_bars) > 4
    for symbol in SYMBOLS:
        trades = lake.scan("trades", symbols=[symbol])
        told = pl.DataFrame(list(map(json.loads, both_faulty.answers["aggTrades"][symbol])))
        assert trades["agg_trade_id"].equals(told["a"])
        assert trades["event_time"].dt.epoch("ms").equals(told["T"])
        for column, field in (("price", "p"), ("quantity", "q")):
            assert trades[column].equals(told[field].cast(pl.Float64))
        assert trades["is_buyer_maker"].equals(told["m"])
        bars = lake.scan("klines", symbols=[symbol])
        told = [json.loads(text) for text in both_faulty.answers["klines"][symbol]]
        values = bars.select(
            pl.col("open_time").dt.epoch("ms"), "open", "high", "low", "close", "volume", "quote_volume", "trade_count",
            "taker_buy_volume", "taker_buy_quote_volume",
        )  # fmt: skip
        assert values.rows() == [
            (each[0], *map(float, each[1:6]), float(each[7]), each[8], float(each[9]), float(each[10]))
            for each in told[: bars.height]
        ]
        assert bars.height == LONG
        assert set(trades.filter(source="rest")["agg_trade_id"]) >= {number for name, number in gone if name == symbol}
        opened = bars.filter(source="rest")["open_time"].dt.epoch("ms")
        assert set(opened) >= {opened_ms for name, opened_ms in gone_bars if name == symbol}


def test_repaired_rows_are_byte_for_byte_what_rest_answers(both_faulty):
    """The answers in the raw log hold the very texts that REST gives for what no socket brought."""
    payloads = both_faulty.lake.sql("select payload from raw where kind = 1")["payload"].to_list()
    logged = [(json.loads(payload), payload.decode().partition('"body": ')[2]) for payload in payloads]
    lost = decoded(both_faulty.lost)
    gone = {
        "aggTrades": {(each["s"], each["a"]) for each in lost if each["e"] == "aggTrade"},
        "klines": {(each["s"], each["k"]["t"]) for each in lost if each["e"] == "kline" and each["k"]["x"]},
    }
    for endpoint, brackets, place in (("aggTrades", "{}", "a"), ("klines", "[]", 0)):
        repairs = 0
        for symbol in SYMBOLS:
            at_rest = {json.loads(text)[place]: text for text in both_faulty.answers[endpoint][symbol]}
            kept = set()
            for answer, body in logged:
                if answer["path"].endswith(f"/{endpoint}") and answer["params"]["symbol"] == symbol:
                    texts = elements(body, brackets)
                    kept.update(texts)
                    if "gap_id" in answer:
                        assert set(texts) <= set(at_rest.values())
                        repairs += len(texts)
            assert all(at_rest[number] in kept for name, number in gone[endpoint] if name == symbol)
        print(f"{endpoint}: {len(gone[endpoint])} lost, {repairs} in answers to repairs")
        assert repairs > 0


def test_holes_of_trades_and_bars_are_in_the_ledger_as_repaired(both_faulty):
    ledger = both_faulty.lake.sql("select * from ledger")
    exact = ledger.filter(pl.col("table").is_in(["trades", "klines"]))
    assert exact["state"].unique().to_list() == ["repaired"]
    assert (exact["rows_recovered"] == exact["missing"]).all()
    assert ledger.filter(state="open").is_empty()
    known = intervals_of(ledger)
    for message in decoded(both_faulty.lost):
        if message["e"] == "aggTrade":
            assert any(first < message["a"] <= last for first, last in known["ids", message["s"]]), message


def intervals_of(ledger: pl.DataFrame) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """By table and symbol, [from, to] in ms; of trades also, under ``ids``, the ids (from - 1, to]."""
    spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in ledger.with_columns(pl.col("from_time", "to_time").dt.epoch("ms")).iter_rows(named=True):
        spans.setdefault((row["table"], row["symbol"]), []).append((row["from_time"], row["to_time"]))
        if row["table"] == "trades":
            spans.setdefault(("ids", row["symbol"]), []).append((row["from_id"] - 1, row["to_id"]))
    return spans


def test_everything_else_that_no_socket_brought_is_in_the_ledger_and_all_else_in_the_lake(both_faulty):
    """States of a running bar that were taken out of a living stream are no exception: nobody can know of them."""
    known = intervals_of(both_faulty.lake.sql("select * from ledger"))
    taken = both_faulty.truth.filter(pl.col("what").is_in(["drop", "malformed", "silence"])).select("stream", "time_ns")
    lost = both_faulty.lost.join(taken.filter(pl.col("stream").str.contains("kline")), on=taken.columns, how="anti")
    untold = []
    for time_ns, message in zip(lost["time_ns"], decoded(lost), strict=True):
        table, symbol = TABLES_LOST[message["e"]], message["s"]
        moments = (message["E"], message.get("T", message["E"]), time_ns // 10**6)
        if not any(first <= moment <= last for first, last in known.get((table, symbol), []) for moment in moments):
            untold.append((table, symbol, message))
    assert untold == []
    for event, (table, columns, fields) in KEYS.items():
        gone = [tuple(each[field] for field in fields) for each in decoded(both_faulty.lost) if each["e"] == event]
        wanted, found = market_of(LONG, table), both_faulty.lake.scan(table)
        keyed = wanted.with_row_index("row").select("row", columns[0], pl.col(columns[1]).to_physical())
        assert gone
        lost = pl.DataFrame(gone, {columns[0]: pl.String, columns[1]: pl.Int64}, orient="row")
        kept = keyed.join(lost, on=list(columns), how="anti")["row"].sort()
        assert kept.len() + lost.height == wanted.height
        assert_same(found, wanted[kept])


def test_trades_add_up_to_the_bar_in_every_minute(both_faulty):
    for symbol in SYMBOLS:
        sums = reconcile(both_faulty.lake, symbol, START, START + timedelta(minutes=LONG))
        assert sums["minute"].to_list() == [START + timedelta(minutes=minute) for minute in range(LONG)]
        assert sums["residual"].to_list() == [0.0] * LONG
        assert (sums["trades_quantity"] > 0).any()


def test_nothing_contradicts_and_no_file_is_unreadable(both_faulty):
    assert both_faulty.lake.scan("conflicts").is_empty()
    assert both_faulty.lake.verify() == []
    assert both_faulty.status.gaps_open == 0


# The ends of connections, a day scaled down to minutes.

DAY_S = 360.0
LIVES = {  # the recorder's, and what the exchange grants
    "replaced an hour before": (DAY_S * 23 / 24, DAY_S),
    "ended by the exchange": (DAY_S * 1.25, DAY_S),
}


@pytest.mark.parametrize("name", LIVES)
def test_the_end_of_a_connections_life_loses_nothing(name, tmp_path):
    life_s, granted_s = LIVES[name]
    played = asyncio.run(play(tmp_path / "lake", 15, replace(CONFIG, life_s=life_s), life_s=granted_s))
    ended = played.truth.filter(what="life").height
    assert (ended > 0) == (name == "ended by the exchange")
    assert played.status.rotations > 0
    assert played.lost.is_empty()
    assert played.lake.scan("gaps").is_empty()
    for table in TABLES_OF_STREAMS:
        found = played.lake.scan(table).filter(pl.col("source") == "ws")
        assert_same(found, market_of(15, table))
