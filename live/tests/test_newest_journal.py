"""Which journal is meant where none is named."""

import os

import pytest

from live.ctl import newest_journal
from live.journal import Journal, Record, read_journal


def an_event(kind):
    return Record(ts_ms=1, kind=kind, config_hash="", symbol="", trade_id=None, client_order_id=None, body={})


def a_journal(path, kinds=("start",), *, age_s=0):
    """A journal of events of these kinds, written to so long before a time that is past."""
    with Journal(path) as journal:
        journal.append(an_event(kind) for kind in kinds)
    os.utime(path, (1_700_000_000 - age_s,) * 2)
    return path


def test_the_newest_is_the_one_that_a_runner_writes_to_whatever_its_name(tmp_path):
    for age_s, name in ((100, "first.sqlite"), (50, "20260105T100000Z-paper.sqlite")):
        a_journal(tmp_path / name, age_s=age_s)
    assert newest_journal(tmp_path).name == "20260105T100000Z-paper.sqlite"
    for suffix in (".alive", "-wal"):  # of a runner: its sign of life, and what SQLite keeps beside the file
        (tmp_path / f"first.sqlite{suffix}").write_bytes(b"0" * 32)
        assert newest_journal(tmp_path).name == "first.sqlite"
        (tmp_path / f"first.sqlite{suffix}").unlink()


def test_a_start_that_failed_is_no_run(tmp_path):
    """A runner whose exchange is not there leaves a journal without events; one killed sooner a file without tables."""
    a_journal(tmp_path / "ran.sqlite", ("command", "start", "decision"), age_s=100)
    a_journal(tmp_path / "failed.sqlite", (), age_s=50)
    a_journal(tmp_path / "told.sqlite", ("command", "risk"), age_s=40)
    (tmp_path / "killed.sqlite").touch()
    assert newest_journal(tmp_path).name == "ran.sqlite"


def test_without_a_run_there_is_none(tmp_path):
    for _ in range(2):
        with pytest.raises(LookupError, match=f"no journal of a run in {tmp_path}; name the runner's with --journal"):
            newest_journal(tmp_path)
        a_journal(tmp_path / "failed.sqlite", ())


def test_a_run_that_goes_on_is_the_latest_before_its_first_checkpoint(tmp_path):
    a_journal(tmp_path / "old.sqlite")
    with Journal(tmp_path / "new.sqlite") as journal:
        journal.append([an_event("start")])
        assert newest_journal(tmp_path).name == "new.sqlite"


def test_a_damaged_journal_written_last_is_not_passed_over(tmp_path):
    """Whoever reads it says what is wrong; an older run in its place would be shown as the latest."""
    a_journal(tmp_path / "sound.sqlite")
    (tmp_path / "damaged.sqlite").write_text("no journal, but a letter of some length")
    assert newest_journal(tmp_path).name == "damaged.sqlite"


def test_reading_an_older_run_does_not_make_it_the_latest(tmp_path):
    """SQLite leaves an empty file beside a journal that was only read."""
    old, new = (a_journal(tmp_path / name, age_s=age_s) for age_s, name in ((100, "old.sqlite"), (50, "new.sqlite")))
    read_journal(old)
    assert newest_journal(tmp_path) == new
    assert not new.with_name("new.sqlite-wal").exists()  # nor is it written to by being looked for
