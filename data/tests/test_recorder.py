"""The recorder against the loopback exchange, over sockets: what was stored is what was sent."""

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from data import recorder
from data.clock import FollowedClock, RealClock
from data.config import parse_utc
from data.convert import import_path
from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import STREAMED, RecordingSource, Source, SyntheticSource
from data.recorder import RecorderConfig, record
from data.recorder_config import STREAMS
from data.recorder_locks import take_place
from data.recorder_rest import check_symbols, statuses
from data.recorder_status import Status, read_status
from data.schema import TABLES
from data.stream import Stream
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec, generate
from data.table import TIME_NS
from data.venues.aster import ASTER, venue_of

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTES = 30
MARKET = MarketSpec(symbols=(BTC_LIKE, ALT_LIKE), start=START, days=MINUTES / 1_440, seed=31, depth_interval_s=1)
SYMBOLS = ("BTCUSDT", "ASTERUSDT")
CONFIG = RecorderConfig(symbols=SYMBOLS, flush_interval_s=300)
TABLE_OF_KIND = {
    "aggTrade": "trades", "bookTicker": "book_ticker", "depth5": "depth", "forceOrder": "force_orders",
    "kline_1m": "kline_updates", "markPrice": "mark_price",
}  # fmt: skip


async def recorded(source: Source, root: Path, config: RecorderConfig, **settings) -> Status:
    """Play the source at full speed into a recorder until the tape has ended."""
    async with Loopback(source, speed=None, **settings) as exchange:
        venue = await venue_of(exchange.rest_url)
        stop = asyncio.Event()
        recording = asyncio.create_task(record(config, venue, root, FollowedClock(), stop=stop))
        ended = asyncio.create_task(exchange.finished())
        await asyncio.wait([recording, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        stop.set()
        return await recording


_generated = cache(generate)


def expected(spec: MarketSpec, table: str) -> pl.DataFrame:
    """The market's own rows as the recorder should have them."""
    symbols = sorted(symbol.symbol for symbol in spec.symbols)
    rows = [_generated(spec, symbol, day)[table] for symbol in symbols for day in spec.dates]
    return pl.concat(rows).with_columns(source=pl.lit("ws").cast(rows[0]["source"].dtype))


def assert_same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    """Row for row and column for column, the time of receipt to the nanosecond.

    Rows that arrived at the very same moment are sent one after the other, each a nanosecond later. Which socket was
    first, and when the other one was, is no part of what was sent.
    """
    assert found.height == wanted.height
    found, wanted = (rows.drop("socket", "recv2_time", strict=False) for rows in (found, wanted))
    differing = [name for name in wanted.columns if not found[name].equals(wanted[name], null_equal=True)]
    assert set(differing) <= {"recv_time"}
    late_ns = (found["recv_time"] - wanted["recv_time"]).dt.total_nanoseconds()
    assert late_ns.is_between(0, 99).all()


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> tuple[Lake, Status]:
    root = tmp_path_factory.mktemp("recorded") / "lake"
    status = asyncio.run(recorded(SyntheticSource(MARKET), root, CONFIG))
    return Lake(root), status


@pytest.mark.parametrize("table", ["klines", "book_ticker", "mark_price", "trades", "depth", "force_orders"])
def test_every_row_that_was_sent_is_stored_with_the_time_it_arrived(recording, table):
    lake, _ = recording
    found, wanted = lake.scan(table).filter(pl.col("source") == "ws"), expected(MARKET, table)
    assert_same(found, wanted)
    is_alone = wanted["recv_time"].is_unique() & (wanted["recv_time"].diff().dt.total_nanoseconds() > 99)
    assert found["recv_time"].filter(is_alone).equals(wanted["recv_time"].filter(is_alone))


def test_nothing_else_is_stored_and_everything_sent_is_counted(recording):
    lake, status = recording
    assert (status.state, status.streams) == ("stopped", tuple(CONFIG.stream_names()))
    counted = {kind: lake.scan(table).filter(pl.col("source") == "ws").height for kind, table in TABLE_OF_KIND.items()}
    assert status.messages == {kind: 2 * count for kind, count in counted.items()}  # once on each socket
    assert (status.conflicts, status.quarantined, status.dropped, status.cut_bytes) == (0, 0, 0, 0)
    assert (status.unsealed_bytes, status.trouble, status.reconnects) == (0, (), 0)
    assert lake.verify() == []


def test_running_bars_are_stored_as_often_as_they_were_sent(recording):
    """Every state of a bar is that of the trades that had arrived by then; the last one is the bar itself."""
    lake, _ = recording
    updates = lake.scan("kline_updates")
    finals = updates.filter("is_final").drop("is_final")
    assert_same(finals, lake.scan("klines"))
    running = updates.filter(~pl.col("is_final"))
    assert running.height > 5 * finals.height
    for symbol in SYMBOLS:
        trades = lake.scan("trades", symbols=[symbol])
        for update in running.filter(symbol=symbol).sample(40, seed=1).iter_rows(named=True):
            minute = trades.filter(
                pl.col("event_time").is_between(
                    update["open_time"], update["open_time"] + timedelta(minutes=1), "left"
                ),
                pl.col("recv_time") <= update["recv_time"],
            )
            assert update["trade_count"] == minute.height
            assert update["close"] == minute["price"][-1]
            assert update["volume"] == pytest.approx(minute["quantity"].sum())


def test_the_snapshot_brings_what_was_before_and_says_that_nobody_received_it(tmp_path):
    begins = START + timedelta(minutes=12, seconds=30)
    config = replace(CONFIG, run_length_s=330.0)
    status = asyncio.run(recorded(SyntheticSource(MARKET), tmp_path / "lake", config, start=begins))
    assert status.state == "stopped"
    lake = Lake(tmp_path / "lake")
    assert sorted(lake.symbols("instruments")) == sorted(SYMBOLS)
    assert lake.instrument("BTCUSDT", begins)["tick_size"] == 0.1
    for table in ("klines", "mark_klines", "index_klines", "trades"):
        before = lake.scan(table).filter(pl.col("source") == "rest")
        assert before["recv_time"].null_count() == before.height > 0
        values = [name for name in before.columns if name != "source" and before[name].null_count() < before.height]
        assert before.select(values).join(expected(MARKET, table).select(values), on=values, how="anti").is_empty()
    bars = lake.scan("klines").filter(symbol="BTCUSDT")["open_time"]
    assert bars.to_list() == [START + timedelta(minutes=minute) for minute in range(len(bars))]


def test_bars_that_may_still_change_are_asked_for_when_they_are_five_minutes_old(tmp_path):
    begins, root = START + timedelta(minutes=12, seconds=30), tmp_path / "lake"

    def minutes_stored(seconds: float) -> list[int]:
        config = replace(CONFIG, run_length_s=seconds)
        asyncio.run(recorded(SyntheticSource(MARKET), root, config, start=begins))
        bars = Lake(root).scan("klines", symbols=["BTCUSDT"])["open_time"]
        return [(opened - START) // timedelta(minutes=1) for opened in bars]

    assert minutes_stored(60) == [0, 1, 2, 3, 4, 5, 6, 12]
    assert minutes_stored(330) == list(range(17))


def test_a_loopback_exchange_is_never_mixed_with_anything_else(tmp_path):
    root, config = tmp_path / "lake", RecorderConfig(symbols=SYMBOLS, streams=("markPrice",), run_length_s=5.0)
    Lake(root, create=True).append(
        "mark_price", _generated(MARKET, "BTCUSDT", MARKET.dates[0])["mark_price"], origin="x"
    )
    with pytest.raises(ValueError, match="holds other rows: give another --lake"):
        asyncio.run(recorded(SyntheticSource(MARKET), root, config))
    other = tmp_path / "loopback"
    asyncio.run(recorded(SyntheticSource(MARKET), other, config))
    with pytest.raises(ValueError, match="what a loopback exchange sent: give another --lake to record aster"):
        asyncio.run(record(config, ASTER, other, RealClock()))


def test_busy_connections_pause_as_the_settings_say(tmp_path, monkeypatch):
    pauses_ms = []

    class Told(Stream):
        def __init__(self, *given, read_pause_ms, **settings):
            super().__init__(*given, **settings)
            pauses_ms.append(read_pause_ms)
            self.stop()

    async def scene(config):
        place = take_place(tmp_path, {"aster": config.stream_names()})
        with place.log:
            run = recorder._Recorder(config, ASTER, tmp_path, RealClock(), place)
            run._polls.is_checked.set()
            await asyncio.gather(*run._listening())

    monkeypatch.setattr(recorder, "Stream", Told)
    asyncio.run(scene(RecorderConfig(symbols=SYMBOLS, read_pause_ms=7.0)))
    assert pauses_ms == [7.0]


def test_funding_is_asked_for_when_it_has_been_settled(tmp_path):
    market = replace(MARKET, start=START + timedelta(hours=3, minutes=50), days=15 / 1_440)
    config = RecorderConfig(symbols=SYMBOLS, streams=("markPrice",))
    asyncio.run(recorded(SyntheticSource(market), tmp_path / "lake", config))
    found, wanted = Lake(tmp_path / "lake").scan("funding"), expected(market, "funding")
    assert found["event_time"].to_list() == [START + timedelta(hours=4)] * 2
    assert found.drop("source").equals(wanted.drop("source"))


@pytest.mark.parametrize("levels", [10, 20])
def test_deeper_books_are_stored_with_all_their_levels(levels, tmp_path):
    market = replace(MARKET, symbols=(BTC_LIKE,), depth_levels=levels, days=3 / 1_440)
    config = RecorderConfig(symbols=("BTCUSDT",), streams=("depth",), depth_levels=levels)
    asyncio.run(recorded(SyntheticSource(market), tmp_path / "lake", config))
    assert_same(Lake(tmp_path / "lake").scan("depth"), expected(market, "depth"))


@pytest.mark.parametrize("all_liquidations", [True, False])
def test_liquidations_come_by_symbol_or_of_the_whole_market(all_liquidations, tmp_path):
    config = RecorderConfig(symbols=("BTCUSDT",), streams=("forceOrder",), all_liquidations=all_liquidations)
    asyncio.run(recorded(SyntheticSource(MARKET), tmp_path / "lake", config))
    wanted = expected(MARKET, "force_orders")
    if not all_liquidations:
        wanted = wanted.filter(symbol="BTCUSDT")
    assert_same(Lake(tmp_path / "lake").scan("force_orders"), wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"symbols": ()}, "symbols: expected one or more"),
        ({"symbols": ("btcusdt",)}, "capitals and digits such as BTCUSDT, got 'btcusdt'"),
        ({"symbols": ("BTCUSDT", "TESTUSDT")}, "symbols: TESTUSDT is a contract of the exchange's own tests"),
        ({"symbols": ("BTCUSDT",), "streams": ("aggtrade",)}, "unknown 'aggtrade'; there are kline, bookTicker"),
        ({"symbols": ("BTCUSDT",), "kline_interval": "1x"}, "expected a number and one of s m h d w"),
        ({"symbols": ("BTCUSDT",), "flush_interval_s": 0.0}, "flush_interval_s: expected more than 0 seconds, got 0"),
        ({"symbols": ("BTCUSDT",), "run_length_s": -1.0}, "run_length_s: expected more than 0 seconds, got -1"),
        ({"symbols": ("BTCUSDT",), "life_s": 86_400.0}, "life_s: expected less than the exchange grants, 86400"),
        ({"symbols": ("BTCUSDT",), "read_pause_ms": -1.0}, "read_pause_ms: expected 0 to 100 milliseconds, got -1"),
        ({"symbols": ("BTCUSDT",), "read_pause_ms": 101.0}, "read_pause_ms: expected 0 to 100 milliseconds, got 101"),
        (
            {"symbols": ("BTCUSDT",), "rest_weight_per_minute": 0},
            "rest_weight_per_minute: expected 1 to 2400, .* got 0",
        ),
        ({"symbols": ("BTCUSDT",), "raw_retention_days": 0.5}, "raw_retention_days: expected 1 or more, got 0.5"),
        ({"symbols": ("BTCUSDT",), "metrics_port": 70_000}, "metrics_port: expected 0 to 65535, got 70000"),
    ],
)
def test_settings_that_could_not_work_are_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        RecorderConfig(**given)


def test_a_symbol_that_the_exchange_does_not_have_is_refused_with_the_one_that_was_meant():
    answer = json.dumps(
        {"symbols": [{"symbol": "BTCUSDT", "status": "TRADING"}, {"symbol": "OLDUSDT", "status": "CLOSE"}]}
    )
    with pytest.raises(ValueError, match="no BTCUSD; did you mean BTCUSDT"):
        check_symbols(["BTCUSD"], statuses(answer.encode()))
    assert check_symbols(["BTCUSDT", "OLDUSDT"], statuses(answer.encode())) == ["OLDUSDT does not trade now: CLOSE"]


NOT_ON_THE_WIRE = (
    "source",
    "clock",
    "repeats_agg_trade_id",
    "socket",
    "recv2_time",
)  # all else of a row comes back as it was
RECORDINGS = {
    "midfreq-logs": ("midfreq", "2026-02-17T22:02", "2026-02-17T22:25"),
    "collector-2025-09-24": ("collector", "2025-09-24T12:58", "2025-09-24T18:43"),
    "collector-2025-11-28": ("collector", "2025-11-28T10:30", "2025-11-28T10:45"),
    "collector-dirty-2025-10-01": ("collector", "2025-10-01T09:30", "2025-10-01T10:00"),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_real_recording_comes_back_as_it_was(name, real_data, tmp_path):
    """A slice; the whole with ASTER_WHOLE_RECORDINGS=1. Rows without a time of receipt come when they happened."""
    format_, *slice_ = RECORDINGS[name]
    start, end = map(parse_utc, slice_)
    original = Lake(tmp_path / "original", create=True)
    import_path(original, real_data / name, format=format_)
    if os.environ.get("ASTER_WHOLE_RECORDINGS"):
        spans = [original.span(table, symbol) for table in STREAMED for symbol in original.symbols(table)]
        start = min(first for first, _ in spans) - timedelta(minutes=1)
        end = max(last for _, last in spans) + timedelta(minutes=2)
    compared = compare_with_its_recording(original, tmp_path / "again", start, end)
    assert sum(compared.values()) > 1_000, compared
    print(name, compared)


def compare_with_its_recording(original: Lake, root: Path, start: datetime, end: datetime) -> dict[str, int]:
    """Play [start, end) of a lake into another one; rows compared per table."""
    tables = [name for name in STREAMED if original.symbols(name)]
    symbols = sorted({symbol for name in tables for symbol in original.symbols(name)})
    levels = original.scan("depth")["levels"].unique().to_list()
    config = RecorderConfig(symbols=tuple(symbols), streams=STREAMS, depth_levels=levels[0] if levels else 5)
    status = asyncio.run(recorded(RecordingSource(original, symbols, start, end), root, config))
    again = Lake(root)
    reasons = again.scan("quarantine")["reason"]  # a recording lacks fields that the exchange sends
    assert reasons.str.contains("^[^;]*: missing field [^;]*; the row was stored without it").all(), reasons.to_list()
    assert (len(levels) < 2, status.conflicts) == (True, 0)
    compared = {}
    for table in tables:
        columns = [name for name in TABLES[table].columns if name not in NOT_ON_THE_WIRE]
        wanted, found = original.scan(table), again.scan(table).filter(pl.col("source") == "ws")
        delivered = pl.coalesce("recv_time", pl.col(TABLES[table].time).cast(TIME_NS))
        wanted = wanted.with_columns(recv_time=delivered).filter(pl.col("recv_time").is_between(start, end, "left"))
        found = found.filter(pl.col("recv_time") < end)
        order = ["symbol", "recv_time", *columns]
        assert_same(found.sort(order).select(columns), wanted.sort(order).select(columns))
        compared[table] = wanted.height
    return compared


def test_a_status_without_a_recorder_says_how_to_start_one(tmp_path):
    with pytest.raises(LookupError, match="aster record"):
        read_status(tmp_path)
