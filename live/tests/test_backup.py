from datetime import UTC, datetime, timedelta

import pytest

from live.backup import KEPT, back_up
from live.journal import Journal, Record, read_journal

DAY = datetime(2026, 1, 6, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path):
    """A journal that is being written, of two events."""
    with Journal(tmp_path / "live.sqlite") as journal:
        journal.append(a_record(time_ms) for time_ms in (1, 2))
        yield journal


def a_record(ts_ms: int) -> Record:
    return Record(
        ts_ms=ts_ms, kind="risk", config_hash="", symbol="", trade_id=None, client_order_id=None, body={}
    )  # fmt: skip


def test_a_copy_is_whole_while_the_journal_goes_on(journal):
    copy = back_up(journal.path, DAY)
    journal.append([a_record(3)])
    assert copy.name == "live.sqlite.backup-20260106"
    assert read_journal(copy).equals(read_journal(journal.path).head(2))


def test_what_a_killed_process_left_is_not_taken_for_a_copy(journal):
    unfinished = journal.path.with_name("live.sqlite.backup-20260106.new")
    unfinished.write_bytes(b"half of it")
    assert read_journal(back_up(journal.path, DAY)).height == 2 and not unfinished.exists()


def test_the_copies_of_the_last_days_are_kept(journal):
    for day in range(KEPT + 2):
        newest = back_up(journal.path, DAY + timedelta(days=day))
    kept = sorted(newest.parent.glob("*.backup-*"))
    assert len(kept) == KEPT and kept[-1] == newest and kept[0].name.endswith("20260108")


def test_a_place_that_cannot_be_written_is_told(journal):
    journal.path.with_name("live.sqlite.backup-20260106.new").mkdir()
    with pytest.raises(OSError, match=r"backup-20260106\.new"):
        back_up(journal.path, DAY)
