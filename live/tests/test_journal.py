import json
import math
import shutil
import sqlite3
from dataclasses import replace

import polars as pl
import pytest

from live.journal import GENESIS, Journal, Record, read_journal
from live.journal_trades import trades
from research.trades import TRADES


def record(kind: str = "decision", ts_ms: int = 1_000, **body) -> Record:
    return Record(
        ts_ms=ts_ms,
        kind=kind,
        config_hash="hash",
        symbol="BNBUSDT",
        trade_id="abcdefghij",
        client_order_id="wbrpl-abcdefghij-E0",
        body={"interval": "1m", "open_time_ms": 0, **body},
    )


@pytest.fixture
def path(tmp_path):
    """A journal of three events."""
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([record(), record("intent", 2_000), record("missed", 3_000)])
    return path


def test_events_are_chained_by_their_hashes(path):
    events = read_journal(path)
    assert events["seq"].to_list() == [1, 2, 3]
    assert events["prev_hash"].to_list() == [GENESIS, *events["hash"].to_list()[:2]]


def test_what_a_full_disk_refuses_waits_and_is_written_before_what_follows(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.append([record()])
        (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="database or disk is full"):
            journal.append([record("intent", 2_000, detail="x" * 100_000)])
        refused = []
        journal.when_refused = refused.append
        journal.append([record("missed", 3_000)])
        journal._connection.execute("PRAGMA max_page_count = 100000")
        journal.append([record("decision", 4_000)])
        assert len(refused) == 1 and journal.head == read_journal(journal.path)["hash"][-1]
    assert read_journal(journal.path)["ts_ms"].to_list() == [1_000, 2_000, 3_000, 4_000]


def test_a_changed_event_is_refused_with_its_place(path):
    tampered(path, "UPDATE events SET ts_ms = 2001 WHERE seq = 2")
    with pytest.raises(ValueError, match="the hash chain breaks at event 2"):
        Journal(path)
    with pytest.raises(ValueError, match="the hash chain breaks at event 2"):
        read_journal(path)


def test_a_removed_event_is_refused_with_its_place(path):
    tampered(path, "DELETE FROM events WHERE seq = 2")
    with pytest.raises(ValueError, match="event 2 is missing, event 3 follows"):
        Journal(path)


def test_an_event_rehashed_after_a_change_breaks_the_chain_behind_it(path, tmp_path):
    other = tmp_path / "other.sqlite"
    with Journal(other) as journal:
        journal.append([record(), record("intent", 2_001)])
    hash_ = read_journal(other)["hash"][1]
    tampered(path, f"UPDATE events SET ts_ms = 2001, hash = '{hash_}' WHERE seq = 2")
    with pytest.raises(ValueError, match="the hash chain breaks at event 3"):
        read_journal(path)


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(ValueError, match="not a sound journal"):
        Journal(path)


def test_a_folder_is_not_taken_for_a_journal(tmp_path):
    with pytest.raises(OSError, match="cannot be opened"):
        Journal(tmp_path)


def test_a_flipped_byte_is_found(path):
    content = bytearray(path.read_bytes())
    at = content.index(b"decision")
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a sound journal"):
        read_journal(path)


def test_events_cannot_be_changed_or_deleted(path):
    connection = sqlite3.connect(path)
    for statement in ("UPDATE events SET ts_ms = 0", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_journal_has_one_writer(path):
    with Journal(path), pytest.raises(ValueError, match="another process writes this journal"):
        Journal(path)


def test_readers_see_what_is_committed_while_it_is_written(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([record("intent")])
        assert read_journal(path)["kind"].to_list() == ["intent"]


def test_the_same_events_again_are_walked_over_and_the_rest_is_written(path):
    with Journal(path) as journal:
        journal.append([record(), record("intent", 2_000)])
        journal.append([record("missed", 3_000), record("decision", 4_000)])
        assert journal.head == read_journal(path)["hash"][3]
    assert read_journal(path)["ts_ms"].to_list() == [1_000, 2_000, 3_000, 4_000]


def test_another_run_on_the_same_journal_is_refused(path):
    with Journal(path) as journal, pytest.raises(ValueError, match="holds another run: its event 1 is"):
        journal.append([record(ts_ms=999)])


def test_a_copied_journal_continues_its_chain(path, tmp_path):
    copy = tmp_path / "copy.sqlite"
    shutil.copy(path, copy)
    for file in (path, copy):
        with Journal(file) as journal:
            journal.append([record(), record("intent", 2_000), record("missed", 3_000), record("decision", 4_000)])
    assert read_journal(path).equals(read_journal(copy))


def test_nan_is_written_as_null_and_floats_keep_every_bit(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([record(stop_price=math.nan, price=0.1 + 0.2, features={"volume": math.nan})])
    body = json.loads(read_journal(path)["body"][0])
    assert body["stop_price"] is None
    assert body["features"] == {"volume": None}
    assert body["price"] == 0.30000000000000004


def test_a_missing_journal_is_said_to_be_missing(tmp_path):
    with pytest.raises(LookupError, match="no journal at"):
        read_journal(tmp_path / "journal.sqlite")


def fill(leg: str, ts_ms: int, **body) -> Record:
    return record("fill", ts_ms, leg=leg, quantity=2.0, filled_ms=ts_ms, **body)


ENTRY = fill("E", 1_000, side=-1, price=100.0, fee_usdt=0.5)


def test_a_short_trade_is_added_up_from_its_events(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([
            ENTRY,
            record("intent", leg="S", stop_price=101.0),
            record("intent", leg="T", stop_price=95.0),
            record("intent", leg="R", activation_price=99.0, callback_bps=10.0),
            record("funding", paid_usdt=-0.25),
            record("ambiguous"),
            fill("T", 9_000, side=1, price=95.0, fee_usdt=0.25, reason="target"),
        ])  # fmt: skip
    (trade,) = trades(path, "hash", "BNBUSDT").to_dicts()
    assert (trade["stop_price"], trade["target_price"], trade["activation_price"]) == (101.0, 95.0, 99.0)
    assert (trade["gross_pnl_usdt"], trade["fees_usdt"], trade["funding_usdt"]) == (10.0, 0.75, -0.25)
    assert trade["net_pnl_usdt"] == 9.5
    assert (trade["reason"], trade["is_ambiguous"]) == ("target", True)


def test_a_position_held_at_the_end_is_listed_at_the_last_price(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([ENTRY, record("held", last_price=98.0, valued_ms=5_999)])
    (trade,) = trades(path, "hash", "BNBUSDT").to_dicts()
    assert (trade["reason"], trade["exit_price"], trade["fees_usdt"], trade["net_pnl_usdt"]) == ("open", 98.0, 0.5, 3.5)


def test_a_position_whose_end_is_not_written_yet_has_no_exit(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([ENTRY])
    (trade,) = trades(path, "hash", "BNBUSDT").to_dicts()
    assert trade["reason"] == "open"
    assert (trade["exit_price"], trade["exit_time"], trade["net_pnl_usdt"]) == (None, None, None)


def test_only_the_trades_of_one_config_and_symbol_are_listed(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.append([ENTRY, replace(ENTRY, config_hash="other"), replace(ENTRY, symbol="ETHUSDT")])
    assert trades(path, "hash", "BNBUSDT").height == 1
    assert trades(path, "none", "BNBUSDT").equals(pl.DataFrame(schema=TRADES))


def tampered(path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"DROP TRIGGER events_are_never_changed; DROP TRIGGER events_are_never_deleted; {statement};"
    )
    connection.close()


def test_what_events_rest_on_is_on_the_disk_before_they_are_written(path, tmp_path):
    seen = []

    def before_write() -> None:
        seen.append(read_journal(path).height)

    with Journal(path, before_write) as journal:
        journal.append([record(), record("intent", 2_000), record("missed", 3_000)])  # walked over
        journal.append([record("intent", 4_000), record("missed", 5_000)])
        journal.append([record("end", 6_000)])
        assert journal.last_ms == 6_000
    assert seen == [3, 5]


def test_what_is_observed_waits_for_an_intent_and_shares_its_write(tmp_path):
    writes, told = [], []
    with Journal(tmp_path / "journal.sqlite", lambda: writes.append(len(told))) as journal:
        journal.when_observed = lambda: told.append("observed")
        journal.append([record("execution")])
        journal.append([record("order", 2_000)])
        assert told == ["observed", "observed"] and not read_journal(journal.path).height
        journal.append([record("fill", 3_000), record("intent", 4_000)])
        assert read_journal(journal.path)["ts_ms"].to_list() == [1_000, 2_000, 3_000, 4_000]
        journal.flush()
    assert writes == [2]


def test_an_exit_that_its_entry_announced_waits_for_no_disk(tmp_path):
    writes = []
    names = {"exits": ["stop", "target"]}
    with Journal(tmp_path / "journal.sqlite", lambda: writes.append("disk")) as journal:
        journal.when_observed = lambda: None
        journal.append([replace(record("intent", **names), client_order_id="entry")])
        journal.append([record("fill", 2_000), replace(record("intent", 2_000), client_order_id="stop")])
        assert writes == ["disk"] and read_journal(journal.path).height == 1
        journal.append([replace(record("intent", 3_000), client_order_id="second stop")])
        assert writes == ["disk"] * 2 and read_journal(journal.path).height == 4
        journal.append([replace(record("intent", 4_000, exits=["another"]), client_order_id="next entry")])
        journal.append([replace(record("intent", 5_000), client_order_id="target")])
        assert writes == ["disk"] * 4
    with Journal(tmp_path / "journal.sqlite", lambda: writes.append("disk")) as journal:  # known again after a restart
        journal.when_observed = lambda: None
        journal.append([replace(record("intent", **names), client_order_id="entry")])
        journal.append([record("fill", 2_000), replace(record("intent", 2_000), client_order_id="stop")])
        journal.append([replace(record("intent", 3_000), client_order_id="second stop")])
        journal.append([replace(record("intent", 4_000, exits=["another"]), client_order_id="next entry")])
        journal.append([replace(record("intent", 5_000), client_order_id="target")])
        journal.append([replace(record("intent", 6_000), client_order_id="another")])
        assert writes == ["disk"] * 4
    assert writes == ["disk"] * 4


def test_only_what_the_log_holds_for_certain_is_written_beside_the_work(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.when_observed = lambda: None
        journal.append([record("order"), record("order", 2_000)])
        synced = journal.last_seq
        journal.append([record("order", 3_000)])
        journal.flush_until(synced)
        assert read_journal(journal.path)["ts_ms"].to_list() == [1_000, 2_000]
        journal.flush_until(synced)
        journal.flush()
        assert read_journal(journal.path)["ts_ms"].to_list() == [1_000, 2_000, 3_000]


def test_what_waits_is_written_when_it_is_time_and_follows_the_chain(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.when_observed = lambda: None
        journal.append([record("order")])
        journal.flush()
        journal.append([record("order", 2_000)])
        journal.flush()
        assert journal.head == read_journal(journal.path)["hash"][1]


def test_an_intent_does_not_wait_for_the_wal_to_be_copied(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        before = journal.path.stat().st_size
        journal.append([record("intent", detail="x" * 5_000_000)])
        journal.append([record("intent", 2_000)])
        assert journal.path.stat().st_size == before
        journal.append([record("order", 3_000)])
        assert journal.path.stat().st_size > 5_000_000
