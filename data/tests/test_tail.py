"""The hot tail: what the raw log has and the lake's files have not, each row exactly once."""

import json
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import wal
from data.lake import Lake, SegmentDone
from data.landing import Lander
from data.wal import Kind, Log, connection_of

START_MS = 1_767_312_000_000  # 2026-01-02


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    """The frame of one trade; it happened that many seconds into 2026-01-02."""
    time_ms = START_MS + number * 1_000
    event = {"e": "aggTrade", "E": time_ms + 5, "s": symbol, "a": number, "p": "100.5", "q": "2", "f": number,
             "l": number, "T": time_ms, "m": False}  # fmt: skip
    return json.dumps({"stream": f"{symbol.lower()}@aggTrade", "data": event}).encode()


def write(log: Log, *numbers: int, socket: int = 0, symbol: str = "BTCUSDT") -> None:
    for number in numbers:
        recv_ns = (START_MS + number * 1_000 + 40 + socket) * 1_000_000
        log.write(recv_ns, Kind.FRAME, connection_of("aster", 0, socket), trade(number, symbol))
    log.flush()


def seal(lake: Lake, path: Path, records: int | None = None) -> None:
    """Store the rows of a segment, up to that record; remove it when it is stored whole."""
    name = path.relative_to(lake.root / "wal").as_posix()
    lander = Lander(segment=name)
    taken = lander.add(islice(wal.read(path), records))
    done = SegmentDone(name=name, records=taken, is_whole=records is None)
    lake.append_all(lander.take().tables, origin=name, segment=done)
    if records is None:
        path.unlink()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def log(lake: Lake):
    with Log(lake.root / "wal" / "0") as log:
        yield log


def ids(lake: Lake, **narrow) -> list[int]:
    """Ids as scan and SQL agree on them."""
    found = lake.scan("trades", tail=True, **narrow)["agg_trade_id"].to_list()
    queried = lake.sql("SELECT agg_trade_id FROM trades ORDER BY 1", tail=True, **narrow)
    assert queried["agg_trade_id"].to_list() == found
    return found


def test_a_row_that_is_only_in_the_log_is_there_with_the_tail(lake, log):
    write(log, 1, 2)
    assert lake.scan("trades").is_empty()
    assert ids(lake) == [1, 2]
    row = lake.scan("trades", tail=True).row(0, named=True)
    assert (row["price"], row["quantity"], row["socket"], row["source"]) == (100.5, 2.0, 0, "ws")


def test_rows_of_files_and_log_come_in_one_order_and_each_once(lake, log):
    write(log, 3, 1)
    seal(lake, log.rotate())
    write(log, 2, 4)
    assert lake.scan("trades")["agg_trade_id"].to_list() == [1, 3]
    assert ids(lake) == [1, 2, 3, 4]


def test_the_tail_of_a_segment_that_is_sealed_in_part_begins_behind_it(lake, log):
    write(log, 1, 2, 3)
    path = log.rotate()
    seal(lake, path, 2)
    assert lake.sealed_records(path.relative_to(lake.root / "wal").as_posix()) == 2
    assert ids(lake) == ids(Lake(lake.root)) == [1, 2, 3]
    seal(lake, path)
    assert ids(lake) == [1, 2, 3]


def test_the_second_copy_of_a_sealed_row_adds_nothing(lake, log):
    write(log, 1, 2)
    seal(lake, log.rotate())
    write(log, 2, 3, socket=1)
    assert ids(lake) == [1, 2, 3]
    write(log, 3, socket=0)
    assert ids(lake) == [1, 2, 3]


def test_the_logs_of_several_recorders_and_of_the_older_layout_are_one_tail(lake, log):
    write(log, 1)
    with Log(lake.root / "wal" / "1") as second, Log(lake.root / "wal") as older:
        write(second, 2)
        write(older, 3)
        assert ids(lake) == [1, 2, 3]


def test_the_tail_is_narrowed_as_the_files_are(lake, log):
    write(log, 1, 2, 3)
    write(log, 1, 2, 3, symbol="ETHUSDT")
    second = datetime(2026, 1, 2, 0, 0, 2, tzinfo=UTC)
    assert ids(lake, symbols=["ETHUSDT"], start=second) == [2, 3]
    assert ids(lake, symbols=["BTCUSDT"], end=second) == [1]
    assert lake.scan("trades", venue="binance", tail=True).is_empty()


def test_asking_again_reads_only_what_was_written_since(lake, log, monkeypatch):
    write(log, 1, 2)
    assert ids(lake) == [1, 2]
    offsets = []
    read = wal.read
    monkeypatch.setattr(wal, "read", lambda path, offset=0: offsets.append(offset) or read(path, offset))
    write(log, 3)
    assert lake.scan("trades", tail=True).height == 3
    assert offsets == [sum(wal.HEADER_BYTES + len(trade(number)) for number in (1, 2))]


def test_a_segment_that_is_sealed_and_removed_while_it_is_read_is_neither_lost_nor_doubled(lake, log, monkeypatch):
    write(log, 1, 2)
    path = log.rotate()
    read = wal.read

    def sealed_meanwhile(segment: Path, offset: int = 0):
        monkeypatch.setattr(wal, "read", read)
        seal(lake, path)
        return read(segment, offset)

    monkeypatch.setattr(wal, "read", sealed_meanwhile)
    assert ids(lake) == [1, 2]


def test_other_tables_have_a_tail_too(lake, log):
    quote = {"e": "bookTicker", "u": 7, "E": START_MS + 3, "T": START_MS, "s": "BTCUSDT", "b": "1.5", "B": "3",
             "a": "1.6", "A": "4"}  # fmt: skip
    log.write(START_MS * 1_000_000, Kind.FRAME, 0, json.dumps(quote).encode())
    log.flush()
    assert lake.sql("SELECT bid_price, recv_time IS NULL FROM book_ticker", tail=True).rows() == [(1.5, False)]


def test_a_lake_without_a_log_has_no_tail(lake):
    assert ids(lake) == []


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["write", "write", "rotate", "part", "seal"]), max_size=14))
def test_whatever_is_written_and_sealed_each_row_is_there_once(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("tail") / "lake"
    keen, written, waiting = Lake(root, create=True), 0, []
    with Log(root / "wal" / "0") as log:
        for step in steps:
            if step == "write":
                write(log, written + 1, written + 2)
                write(log, written + 1, socket=1)
                written += 2
            elif step == "rotate" and (path := log.rotate()):
                waiting.append(path)
            elif step == "part" and waiting:
                seal(Lake(root), waiting[0], 2)
            elif step == "seal" and waiting:
                seal(Lake(root), waiting.pop(0))
            assert keen.scan("trades", tail=True)["agg_trade_id"].to_list() == list(range(1, written + 1))
        assert Lake(root).scan("trades", tail=True).height == written
