"""What an account's owner puts in or takes out, told by stream and history: each counts once."""

import asyncio
from types import SimpleNamespace

import pytest

from data.clock import FollowedClock
from live.brokers.account_reader import Income
from live.brokers.transfers import Transfers
from live.budget import Urgency
from live.order_evidence import Unread


class Told:
    """An account's history that can be written to, a clock, and what the risk was told."""

    def __init__(self):
        self.rows: list[Income] = []
        self.amounts: list[float] = []
        self.is_readable = True
        self.clock = FollowedClock()
        self.at(1_000_000)
        risk = SimpleNamespace(react=lambda event: self.amounts.append(event.amount_usdt))
        reader = SimpleNamespace(transfers=self.read)
        self.transfers = Transfers(reader, risk, self.clock, since_ms=900_000)

    def at(self, now_ms: int) -> None:
        self.clock.tell(now_ms * 1_000_000)

    def wrote(self, time_ms: int, amount_usdt: float) -> None:
        transaction_id = str(len(self.rows))
        self.rows.append(Income(symbol="", amount_usdt=amount_usdt, time_ms=time_ms, transaction_id=transaction_id))

    async def read(self, urgency: Urgency, since_ms: int) -> tuple[Income, ...] | Unread:
        return tuple(row for row in self.rows if row.time_ms >= since_ms) if self.is_readable else Unread(reason="down")

    def catch_up(self, until_ms: int | None = None) -> bool:
        return asyncio.run(self.transfers.catch_up(Urgency.AUDIT, until_ms or self.clock.now_ms()))


def test_what_the_journal_knows_is_not_told_again_and_what_came_since_is_once():
    told = Told()
    told.wrote(899_999, 50.0)
    told.wrote(950_000, -300.0)
    assert told.catch_up() and told.catch_up()
    assert told.amounts == [-300.0]


def test_a_history_that_cannot_be_read_leaves_it_open():
    told = Told()
    told.wrote(950_000, -300.0)
    told.is_readable = False
    assert not told.catch_up() and told.amounts == []
    told.is_readable = True
    assert told.catch_up() and told.amounts == [-300.0]


def test_what_came_after_the_account_was_read_waits_for_the_next_time_it_is():
    told = Told()
    told.wrote(999_999, 80.0)
    assert told.catch_up(until_ms=999_000) and told.amounts == []
    assert told.catch_up(until_ms=1_000_000) and told.amounts == [80.0]


@pytest.mark.parametrize("is_stream_first", [True, False])
def test_one_that_stream_and_history_tell_counts_once(is_stream_first):
    told = Told()
    told.transfers.listens()
    told.wrote(1_000_000, -300.0)
    if is_stream_first:
        told.transfers.heard(1_000_400, -300.0)
        told.catch_up()
    else:
        told.catch_up()
        told.transfers.heard(1_000_400, -300.0)
    assert told.amounts == [-300.0]
    told.transfers.heard(1_000_900, -300.0)  # another one
    assert told.amounts == [-300.0, -300.0]


def test_once_the_stream_is_heard_for_long_enough_the_history_is_left_alone_until_it_is_deaf():
    told = Told()
    told.transfers.listens()
    told.at(1_100_000)
    assert told.catch_up()
    told.is_readable = False
    assert told.catch_up()  # nothing is asked
    told.transfers.is_deaf()
    assert not told.catch_up()
    told.is_readable = True
    told.wrote(1_090_000, -40.0)  # the stream was dead before that was known
    assert told.catch_up() and told.amounts == [-40.0]
