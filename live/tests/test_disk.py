"""What is observed reaches the journal a moment later, whatever becomes of the run."""

import asyncio

import pytest

from data.wal import Log
from live import disk
from live.disk import Disk
from live.journal import Journal, Record, feed_folder, read_journal


def observed(ts_ms: int) -> Record:
    return Record(
        ts_ms=ts_ms, kind="order", config_hash="hash", symbol="BNBUSDT", trade_id=None, client_order_id=None, body={}
    )  # fmt: skip


@pytest.fixture
def at_work(tmp_path):
    """Runs a coroutine function, handed a journal and the task that gathers for it: ``at_work(what)``."""

    def run(what) -> list[int]:
        path = tmp_path / "journal.sqlite"

        async def gathered(journal: Journal, log: Log) -> None:
            gathering = asyncio.create_task(Disk(log, journal, None).gather())
            await asyncio.sleep(0)
            try:
                await what(journal, gathering)
            finally:
                gathering.cancel()
                await asyncio.wait([gathering])

        with Log(feed_folder(path)) as log, Journal(path, log.settle) as journal:
            asyncio.run(gathered(journal, log))
        return read_journal(path)["ts_ms"].to_list()

    return run


def test_what_is_observed_is_in_the_journal_a_moment_later(at_work):
    heights = []

    async def observe(journal: Journal, gathering: asyncio.Task) -> None:
        for ts_ms in (1, 2):
            journal.append([observed(ts_ms)])
        heights.append(read_journal(journal.path).height)
        async with asyncio.timeout(10):
            while not read_journal(journal.path).height:
                await asyncio.sleep(disk.GATHER_S / 4)
        heights.append(read_journal(journal.path).height)

    assert at_work(observe) == [1, 2] and heights == [0, 2]


def test_the_end_of_a_run_writes_what_waits_and_nothing_waits_after_it(at_work):
    async def observe(journal: Journal, gathering: asyncio.Task) -> None:
        journal.append([observed(1)])
        gathering.cancel()
        await asyncio.wait([gathering])
        assert read_journal(journal.path).height == 1
        journal.append([observed(2)])
        assert read_journal(journal.path).height == 2

    assert at_work(observe) == [1, 2]


def test_a_disk_that_refuses_what_was_observed_ends_a_run_on_paper(at_work, monkeypatch):
    async def observe(journal: Journal, gathering: asyncio.Task) -> None:
        def refused(rows: list[tuple]) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(journal, "_write", refused)
            journal.append([observed(1)])
            await asyncio.wait([gathering])
        with pytest.raises(OSError, match="no space left"):
            gathering.result()

    assert at_work(observe) == []
