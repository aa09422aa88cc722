"""The fault matrix, rows F1 to F18: what happens to an order, to the stream that tells of it, and to its exits.

Each row runs the whole session against the loopback exchange over sockets, in one-way and in hedge mode, and ends with
the invariants I1 to I8 in ``live.tests.invariants.check``. The first trade sells 0.009 BTC at 60453.2 with a stop at
60574.1, a target at 60211.3 and a trailing order that begins at 60332.2.
"""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from data.loopback.faults import Faults, StreamFault
from live.brokers import user_stream
from live.tests.invariants import alerts, check, held_and_guarded, legs, level, told_of
from live.tests.real_run import BTC, Run, flatten, guarded, new
from live.tests.rows import in_both_modes

D = Decimal
SIZE = D("0.009")
USER = "user*"  # names of accounts' streams


def entered_once(run: Run) -> bool:
    """The first decision was sent once and filled once."""
    first = next(asked for asked in run.asked if asked.is_new("E"))
    same = [asked for asked in run.asked if asked.is_new("E") and asked.told == first.told]
    return len(same) == 1 and [order.filled for order in run.orders("E")] == [SIZE]


def thin_book(run: Run, price: str, quantity: str) -> None:
    """Both sides of the book hold that much and no more."""
    level = [(D(price), D(quantity))]
    run.account.on_book(BTC, level, [(D(price) + D("0.1"), D(quantity))], run.exchange.office.now_ms)


@in_both_modes("F1", is_quick=True)
def test_f1_the_line_is_cut_after_the_exchange_took_the_entry(run_real):
    run = run_real(before=[new("E", lambda run: run.strike("cut_after"))])
    assert entered_once(run) and held_and_guarded(run)
    assert "UNKNOWN" not in [order.status for order in run.broker.cases.open()[0].trade.orders.values()]


@in_both_modes("F2")
def test_f2_the_line_is_cut_before_the_exchange_gets_the_entry(run_real):
    run = run_real(before=[new("E", lambda run: run.strike("cut_before"))])
    entries = [asked for asked in run.asked if asked.is_new("E")]
    assert len(entries) == 1 and not run.orders() and not run.amount
    statuses = [body["status"] for body in told_of(run, "order")]
    assert statuses == ["SENT", "UNKNOWN", "LOST"] and len(told_of(run, "missed")) == 1


@in_both_modes("F3")
def test_f3_a_503_and_the_fill_four_seconds_later(run_real):
    run = run_real(before=[new("E", lambda run: run.strike("status_later", delay_s=4.0))])
    assert entered_once(run) and held_and_guarded(run) and not told_of(run, "missed")


@in_both_modes("F4")
def test_f4_the_answer_comes_after_the_stream_has_told_the_fill(run_real):
    run = run_real(before=[new("E", lambda run: run.strike("slow_after", delay_s=0.2))])
    assert entered_once(run) and held_and_guarded(run) and len(told_of(run, "execution")) == 1


@in_both_modes("F5")
def test_f5_every_message_of_the_account_comes_three_times(run_real):
    twice = StreamFault(kind="duplicate", streams=USER)
    run = run_real(minutes=9, faults=Faults(streams=(twice, twice)))
    assert len(told_of(run, "execution")) == len(run.account.ledger.fills) >= 2


@pytest.mark.parametrize("seed", [1, 2, 3])
@in_both_modes("F6")
def test_f6_messages_of_the_account_come_out_of_order(run_real, seed):
    late = StreamFault(kind="late", streams=USER, rate=0.5, by_s=0.7)
    run = run_real(minutes=9, faults=Faults(seed=seed, streams=(late,)))
    assert len(told_of(run, "execution")) == len(run.account.ledger.fills) >= 2
    assert level(run) == "ACTIVE"


@in_both_modes("F7", is_quick=True)
def test_f7_the_account_s_stream_is_dead_while_the_target_fills(run_real):
    dead = StreamFault(kind="silence", streams=USER, from_s=105.0)
    run = run_real(faults=Faults(streams=(dead,)), before=[guarded(lambda run: run.moves("60200"))])
    fills = [body for body in told_of(run, "fill") if body["leg"] == "T"]
    assert len(fills) == 1 and not run.amount
    told_ms = next(order.updated_ms for order in run.orders("T"))
    cancelled = [order for order in run.orders() if order.is_open]
    assert fills[0]["filled_ms"] == told_ms and not cancelled


@in_both_modes("F8")
def test_f8_the_account_s_stream_is_half_open(run_real):
    dead = StreamFault(kind="half_open", streams=USER, from_s=105.0)
    run = run_real(faults=Faults(streams=(dead,)), before=[guarded(lambda run: run.moves("60200"), 40.0)])
    assert "silent for 20 s" in [body["reason"] for body in told_of(run, "deaf")]
    assert not run.amount and legs(run) == ["E", "T"]


@in_both_modes("F9")
def test_f9_the_market_s_stream_is_silent(run_real):
    silent = StreamFault(kind="drop", streams="btcusdt@bookTicker", from_s=60.0)
    run = run_real(faults=Faults(streams=(silent,)))
    assert not run.orders("E")
    later = StreamFault(kind="drop", streams="btcusdt@*", from_s=105.0)
    run = run_real("later", faults=Faults(streams=(later,)), before=[guarded(lambda run: run.moves("60200"))])
    assert not run.amount and legs(run) == ["E", "T"]


@pytest.mark.parametrize("how", ["expired", "deleted"])
@in_both_modes("F10")
def test_f10_the_listen_key_is_gone(run_real, how):
    def lose(run: Run) -> None:
        office = run.exchange.office
        office.expire_listen_key(0, office.now_ms) if how == "expired" else office.drop_listen_key(0)
        run.later(5.0, lambda: run.moves("60200"))

    run = run_real(before=[guarded(lose)])
    assert not run.amount and legs(run) == ["E", "T"]
    assert len(told_of(run, "execution")) == 2


@in_both_modes("F11")
def test_f11_connections_that_grow_old_are_replaced_without_a_pause(run_real, monkeypatch):
    monkeypatch.setattr(user_stream, "LIFE_S", 100.0)
    run = run_real(minutes=9)
    assert [body["reason"] for body in told_of(run, "deaf")] == ["stopped"]
    assert len(told_of(run, "execution")) == len(run.account.ledger.fills) >= 2


@in_both_modes("F13")
def test_f13_the_entry_is_filled_in_part(run_real):
    run = run_real(
        before=[new("E", lambda run: thin_book(run, run.asked[-1].told["price"], "0.004"))],
        accounts={"shows_all": True},
    )
    assert abs(run.amount) == D("0.004") and held_and_guarded(run)
    assert [order.quantity for order in run.orders("R")] == [D("0.004")]


@in_both_modes("F14")
def test_f14_a_close_is_filled_in_part(run_real):
    run = run_real(
        before=[guarded(flatten), new("X", lambda run: thin_book(run, "60450", "0.004"))], accounts={"shows_all": True}
    )
    closes = [order.filled for leg in "XF" for order in run.orders(leg)]
    assert closes[0] == D("0.004") and sum(closes) == SIZE and not run.amount


@pytest.mark.parametrize("code", [-4045, -1111, -4061])
@pytest.mark.parametrize("times", [1, 2])
@in_both_modes("F15")
def test_f15_the_stop_is_refused(run_real, code, times):
    run = run_real(before=[new("S", lambda run: run.strike("status", status=400, code=code), times)])
    if times == 1:
        assert held_and_guarded(run)
    else:
        assert not run.amount and len(run.orders("X")) == 1 and "closing" in alerts(run)


@in_both_modes("F15", is_quick=True)
def test_f15_the_stop_would_trigger_at_once(run_real):
    run = run_real(before=[new("S", lambda run: run.strike("status", status=400, code=-2021))])
    assert not run.amount and len(run.orders("X")) == 1 and "closing" in alerts(run)


@pytest.mark.parametrize("leg", ["T", "R"])
@pytest.mark.parametrize("code", [-4045, -1111, -4061, -2022])
@in_both_modes("F16")
def test_f16_target_or_trailing_order_is_refused(run_real, leg, code):
    run = run_real(before=[new(leg, lambda run: run.strike("status", status=400, code=code))])
    assert held_and_guarded(run) and "exit_refused" in alerts(run)


@in_both_modes("F16")
def test_f16_target_and_trailing_order_would_trigger_at_once(run_real):
    run = run_real(before=[new("R", lambda run: run.strike("status", status=400, code=-2021))])
    assert held_and_guarded(run) and [order.is_open for order in run.orders("R")] == [True]
    late = run_real("late", before=[new("T", lambda run: run.strike("status", status=400, code=-2021))])
    assert not late.amount and legs(late) == ["E", "X"]


@in_both_modes("F17")
def test_f17_the_mark_is_through_the_stop_before_it_stands(run_real):
    run = run_real(before=[new("S", lambda run: run.moves("60453", mark="60600"))])
    assert not run.amount and legs(run) == ["E", "X"]


@in_both_modes("F18")
def test_f18_mark_and_last_price_part_and_the_stop_fires(run_real):
    run = run_real(before=[guarded(lambda run: run.moves("60453", mark="72000"))])
    assert not run.amount and legs(run) == ["E", "S"]


def test_every_row_of_the_matrix_has_a_case():
    modules = [path.read_text() for path in Path(__file__).parent.glob("test_fault_matrix*.py")]
    rows = {int(row) for text in modules for row in re.findall(r'in_both_modes\("F(\d+)"', text)}
    assert rows == {*range(1, 39)} - {12}  # that one is ``test_real_kill``


@pytest.mark.parametrize("is_hedge", [False])
def test_the_invariants_are_seen_to_fail(run_real):
    run = run_real(is_checked=False)
    run.account.cancel(run.orders("S")[0], run.exchange.office.now_ms)
    with pytest.raises(AssertionError, match="I7"):
        check(run)
