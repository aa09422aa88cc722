"""A trade against the account of the loopback exchange, which is always right: F1 to F6, F12 to F17 in random order."""

import os
from collections import Counter

import pytest

from data.tests.account_market import BTC
from live.order_state import Status
from live.orders import Leg
from live.protection import Phase
from live.tests.account_shell import Shell
from live.tests.exchange_words import name

RUNS = int(os.environ.get("ASTER_PROTECTION_RUNS", "20"))
PRICES = [91.0, 94.0, 96.0, 98.0, 99.0, 100.0, 101.0, 102.0, 104.0, 106.0, 108.0, 111.0]
OFFERED = ["0.3", "1", "5"]


def lived(seed: int, trouble: float = 0.35, kills: float = 0.0, lifetime_ms: int = 0) -> Shell:
    """An entry, some minutes of market and trouble, then calm until nothing changes any more.

    ``kills``: share of moments at which the runner is killed and started again.
    """
    shell = Shell(seed, trouble, lifetime_ms)
    random, price = shell.random, 100.0
    shell.move(price, random.choice(OFFERED))
    shell.enter()
    for _ in range(random.randrange(1, 25)):
        if random.random() < 0.4:
            price = random.choice(PRICES)
            shell.move(price, random.choice(OFFERED))
        shell.work(price)
        if random.random() < kills:
            shell.restart()
        check_always(shell)
    shell.move(price, "9")
    shell.calm_down()
    for _ in range(20):
        shell.work(price)
        shell.fill_gap()
        check_always(shell)
    return shell


def check_always(shell: Shell) -> None:
    """What never happens, however things go wrong."""
    account = shell.desk.account
    assert 0 <= shell.desk.amount() <= shell.wanted, "reversed, or bought twice"
    orders = [*account.open.values(), *account.finished.values()]
    assert max(Counter(order.client_id for order in orders).values(), default=0) <= 1


def check_at_the_end(shell: Shell) -> None:
    """Our trade is where the exchange's account is, and it is protected or over."""
    trade, account = shell.trade, shell.desk.account
    assert trade.quantity == shell.desk.amount()
    for client_id, order in trade.orders.items():
        found = account.order(BTC, None, client_id)
        if found is None:
            assert order.status in (Status.LOST, Status.REJECTED)
        else:
            assert (order.status, order.filled) == (Status(found.status), found.filled)
            assert not order.owes_trades
    stops = [order for order in account.open.values() if order.client_id.startswith(name(Leg.STOP)[:-1])]
    if trade.quantity:
        assert stops
        assert trade.phase is Phase.GUARDED
    else:
        assert list(account.open) == []
        assert trade.phase is Phase.OVER


@pytest.mark.parametrize("kills", [0.0, 0.2])
def test_a_trade_ends_where_the_account_is_whatever_is_cut_late_doubled_shuffled_or_killed(kills):
    for seed in range(RUNS):
        try:
            check_at_the_end(lived(seed, kills=kills))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_an_entry_that_rests_ends_where_the_account_is_however_much_of_it_was_filled():
    filled = set()
    for seed in range(RUNS):
        shell = lived(seed, kills=0.1 * (seed % 2), lifetime_ms=8_000)
        check_at_the_end(shell)
        assert not shell.trade.may_grow
        filled.add(sum(order.filled for order in shell.trade.of(Leg.ENTRY)))
    assert {0, 12} < filled  # nothing, all, and parts


def test_without_trouble_a_trade_is_protected_at_once_and_stays_so():
    shell = Shell(0, 0.0)
    shell.move(100.0, "5")
    shell.enter()
    for _ in range(5):
        shell.work(100.0)
    assert [each[17:] for each in shell.sent] == ["E0", "S0", "T0", "R0"]
    assert shell.trade.phase is Phase.GUARDED


def test_a_stop_that_triggers_ends_the_trade_and_takes_the_other_exits_back():
    shell = Shell(0, 0.0)
    shell.move(100.0, "5")
    shell.enter()
    for price in (100.0, 100.0, 100.0, 100.0, 94.0, 94.0, 94.0, 94.0):
        shell.move(price, "5")
        shell.work(price)
    assert shell.trade.phase is Phase.OVER
    assert not shell.desk.account.open
    assert len(shell.sent) == 4
