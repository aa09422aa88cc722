"""The fault matrix where the entry rests in the book and ends by our cancellation, over sockets and in both modes.

The first trade sells 0.009 BTC at 60635, 30 bps behind the ask, for 40 s; the market alone does not get there.
"""

import itertools
from decimal import Decimal

import pytest

from live.dispatch import walk
from live.journal import Journal, feed_folder, read_journal
from live.tests.invariants import held_and_guarded, legs, level, told_of
from live.tests.real_run import BTC, Run, flatten, new, often
from live.tests.rows import in_both_modes
from research.resting import RestingEntry

D = Decimal
SIZE = D("0.009")
LIFE_MS = 40_000
RESTING = {"resting": RestingEntry(offset_bps=30.0, lifetime_ms=LIFE_MS)}
MAKER = {"maker_fee": 0.00005}


@pytest.fixture
def run_resting(run_real):
    """Runs a row with entries that rest: ``run_resting(before=[...])``."""

    def play(*args, accounts=None, **told) -> Run:
        return run_real(*args, changes=RESTING, accounts={**MAKER, **(accounts or {})}, **told)

    return play


def as_it_rests(do, seconds: float = 5.0):
    """Something is done so long after the first entry stands."""
    return new("E", lambda run: run.later(seconds, lambda: do(run)))


def trades(run: Run, quantity: object, *, beyond: object = 1) -> None:
    """Others buy so much, beyond the price of the entry."""
    office, (entry,) = run.exchange.office, run.orders("E")
    run.account.on_trade(BTC, entry.price + D(str(beyond)), D(str(quantity)), False, office.now_ms)
    office.collect()
    office.tell()


def cancels(run: Run) -> list[int]:
    """When entries were taken back."""
    return [asked.ms for asked in run.asked if (asked.method, asked.leg) == ("DELETE", "E")]


def is_taken_back(run: Run, filled: object = 0) -> bool:
    """The first entry was cancelled with so much of it filled, and nothing else was entered."""
    return [(order.status, order.filled) for order in run.orders("E")] == [("CANCELED", D(str(filled)))]


@in_both_modes("F13", is_quick=True)
def test_f13_a_part_is_guarded_at_once_and_the_rest_is_taken_back_when_its_life_is_over(run_resting):
    def pay(run: Run) -> None:
        trades(run, "0.004")
        run.later(1.0, lambda: run.account.on_funding(BTC, D("0.0001"), run.exchange.office.now_ms))

    run = run_resting(before=[as_it_rests(pay)], minutes=2.6)
    (entry,), (stop,) = run.orders("E"), run.orders("S")
    assert is_taken_back(run, "0.004") and held_and_guarded(run)
    assert stop.created_ms - entry.created_ms == 5_000 and entry.updated_ms - entry.created_ms == LIFE_MS
    assert [order.quantity for order in run.orders("R")] == [D("0.004")]
    (fill,), (paid,) = told_of(run, "fill"), told_of(run, "funding")
    assert (fill["leg"], fill["quantity"], fill["price"]) == ("E", 0.004, float(entry.price))
    assert paid["paid_usdt"] < 0.0  # a short is paid; told once the trader knows of it


@in_both_modes("F13")
def test_f13_the_stop_of_a_part_triggers_and_the_rest_does_not_open_the_position_again(run_resting):
    def part_and_stop(run: Run) -> None:
        trades(run, "0.004")
        run.later(5.0, lambda: run.moves("60634", mark="60800"))

    run = run_resting(before=[as_it_rests(part_and_stop)])
    assert is_taken_back(run, "0.004") and not run.amount and legs(run) == ["E", "S"]
    assert cancels(run)[0] < run.orders("E")[0].created_ms + LIFE_MS


@in_both_modes("F13")
def test_f13_parts_until_it_is_whole_and_the_trailing_order_grows_once(run_resting):
    def parts(run: Run) -> None:
        for seconds in (0.0, 0.2, 0.4):
            run.later(seconds, lambda: trades(run, "0.003"))

    run = run_resting(before=[as_it_rests(parts)], minutes=2.6)
    assert not cancels(run) and [order.filled for order in run.orders("E")] == [SIZE] and held_and_guarded(run)
    assert [order.quantity for order in run.orders("R")] == [D("0.003"), SIZE]


@in_both_modes("F13")
def test_f13_nothing_is_filled_and_the_bar_that_came_meanwhile_decides_nothing(run_resting):
    run = run_resting(minutes=5)
    assert run.orders("E")[0].status == "CANCELED" and len(told_of(run, "missed")) >= 1
    assert all(order.updated_ms - order.created_ms == LIFE_MS for order in run.orders("E") if not order.is_open)
    decided = [body["open_time_ms"] for body in told_of(run, "decision")]
    assert all(later - earlier >= 120_000 for earlier, later in itertools.pairwise(decided))


@pytest.mark.parametrize("crossing", ["refuse", "expire"])
@in_both_modes("F15")
def test_f15_an_entry_that_would_take_as_it_arrives_is_missed(run_resting, crossing):
    def cross(run: Run) -> None:
        price = D(run.asked[-1].told["price"]) + 1
        run.account.on_book(BTC, [(price, D(1))], [(price + 1, D(1))], run.exchange.office.now_ms)

    run = run_resting(before=[new("E", cross)], minutes=2.6, accounts={"gtx_crossing": crossing})
    assert not run.amount and not cancels(run) and len(told_of(run, "missed")) == 1
    assert [order.status for order in run.orders("E")] == ([] if crossing == "refuse" else ["EXPIRED"])


@pytest.mark.parametrize("kind", ["status_after", "cut_after"])
@in_both_modes("F3")
def test_f3_an_entry_of_unknown_fate_that_rests_is_found_and_taken_back_when_its_life_is_over(run_resting, kind):
    run = run_resting(before=[new("E", lambda run: run.strike(kind))], minutes=2.6)
    assert is_taken_back(run) and len(cancels(run)) == 1
    assert cancels(run)[0] - run.orders("E")[0].created_ms <= LIFE_MS


@in_both_modes("F37")
def test_f37_it_is_filled_as_its_cancellation_leaves(run_resting):
    def fill(run: Run, asked) -> None:
        if (asked.method, asked.leg) == ("DELETE", "E"):
            trades(run, SIZE)

    run = run_resting(before=[fill], minutes=2.6)
    assert [order.filled for order in run.orders("E")] == [SIZE] and held_and_guarded(run) and legs(run) == ["E"]


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
@in_both_modes("F37")
def test_f37_its_cancellation_has_no_answer(run_resting, kind):
    run = run_resting(before=[as_it_rests(lambda run: run.strike(kind, method="DELETE"))], minutes=2.9)
    assert is_taken_back(run) and len(told_of(run, "missed")) == 1


@in_both_modes("F34")
def test_f34_stopped_while_an_entry_rests(run_resting):
    run = run_resting(before=[as_it_rests(lambda run: run.stop.set())])
    assert is_taken_back(run) and len(told_of(run, "missed")) == 1


@in_both_modes("F7")
def test_f7_nobody_listens_to_the_account_while_an_entry_rests(run_resting):
    def deaf(run: Run) -> None:
        run.exchange.office.expire_listen_key(0, run.exchange.office.now_ms)

    run = run_resting(before=[as_it_rests(deaf)], minutes=2.4)
    assert is_taken_back(run) and cancels(run)[0] < run.orders("E")[0].created_ms + LIFE_MS


@in_both_modes("F25")
def test_f25_an_entry_that_rests_is_taken_back_once_a_mismatch_leaves_only_exits(run_resting):
    def alarm(run: Run) -> None:
        trades(run, "0.004")
        run.broker.risk.alarm("mismatch", "somebody was here", run.clock.now_ms())

    run = run_resting(before=[as_it_rests(alarm)], minutes=2.4)
    assert is_taken_back(run, "0.004") and held_and_guarded(run) and level(run) == "REDUCING"
    (order,) = run.orders("E")
    assert order.updated_ms - order.created_ms <= 5_500


@in_both_modes("F25")
def test_f25_the_operator_flattens_while_a_part_is_held(run_resting):
    def part_and_flatten(run: Run) -> None:
        trades(run, "0.004")
        run.later(2.0, lambda: flatten(run))

    run = run_resting(before=[as_it_rests(part_and_flatten)], minutes=2.4)
    assert is_taken_back(run, "0.004") and not run.amount and legs(run)[-1] in ("X", "F")


@in_both_modes("F13")
def test_f13_a_walk_over_the_log_writes_the_same_journal(run_resting, config, tmp_path):
    run = run_resting(before=[as_it_rests(lambda run: trades(run, "0.004"))], minutes=4)
    with Journal(tmp_path / "again.sqlite") as journal:
        walk([often(config, **RESTING)], feed_folder(run.path), journal)
        assert journal.head == read_journal(run.path)["hash"][-1]
