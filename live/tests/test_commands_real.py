"""The operator's commands in real mode: what is held is closed on the exchange, and the account's level follows."""

import json
import time

import pytest

from live.commands import ask
from live.dashboard import views
from live.dashboard.book import Book
from live.dashboard.journal_reader import JournalReader
from live.dispatch import walk
from live.journal import Journal, feed_folder, read_journal
from live.journal_trades import trades
from live.risk import Level
from live.tests.real_run import BTC, often, real


def once_held(command: str, symbol: str | None = None):
    """Asks as soon as the first position has its stop."""
    asked = []

    def look(run, request):
        if request.is_new("S") and not asked:
            now_ms = time.time_ns() // 1_000_000
            asked.append(ask(run.path, command, symbol, by="test", now_ms=now_ms, patience_ms=600_000))

    return look


def once_taken_over(request_name: str, command: str, symbol: str | None = None):
    """Buys by hand at the first request of a name, has that taken over, and asks once it has its stop."""
    asked = []

    def order(run, *told):
        asked.append(ask(run.path, *told, by="test", now_ms=time.time_ns() // 1_000_000, patience_ms=600_000))

    def look(run, request):
        if request.name == request_name and not asked:
            run.by_hand("BUY", "0.01")
            order(run, "adopt", BTC)
        elif request.is_new("S") and len(asked) == 1:
            order(run, command, symbol)

    return look


@pytest.mark.parametrize(
    ("command", "symbol", "level"), [("flatten", None, Level.HALTED), ("close", BTC, Level.ACTIVE)]
)
def test_what_is_held_is_closed_at_the_market(config, tmp_path, command, symbol, level):
    config, path = often(config, stop_bps=300.0, target_bps=300.0), tmp_path / "real.sqlite"
    run = real(config, path, minutes=40, after=[once_held(command, symbol)], speed=600.0)
    closed = trades(path, config.config_hash, BTC)[0].row(0, named=True)
    assert closed["reason"] == "operator"
    assert run.broker.risk.state.level is level
    answers = read_journal(path).filter(kind="answer")
    assert answers.height == 1
    if level is Level.HALTED:
        assert run.amount == 0 and trades(path, config.config_hash, BTC).height == 1
    with Journal(path.with_suffix(".replayed")) as again:
        walk([config], feed_folder(path), again)
        assert again.head == read_journal(path)["hash"][-1]


@pytest.mark.parametrize(("command", "why"), [("adopt", ""), ("parity", "P1 replay: another journal")])
def test_a_position_by_hand_is_taken_over_when_told_and_an_alarm_halts_entries(config, tmp_path, command, why):
    asked = []

    def look(run, request):
        if request.name == "positionRisk" and not asked:
            symbol, now_ms = (BTC if command == "adopt" else None), time.time_ns() // 1_000_000
            if symbol is not None:
                run.by_hand("BUY", "0.01")
            asked.append(ask(run.path, command, symbol, by="test", now_ms=now_ms, patience_ms=600_000, why=why))

    run = real(often(config), tmp_path / "real.sqlite", minutes=8, before=[look], speed=600.0)
    alarm = "adopted" if command == "adopt" else "parity"
    assert run.broker.risk.state.lowered[alarm] is Level.REDUCING
    events = read_journal(run.path)
    assert json.loads(events.filter(kind="answer")["body"][0])["is_done"]
    if command == "adopt":
        (stop,) = run.orders("S")
        assert events.filter(kind="adopted").height == 1 and stop.status == "NEW"
        assert run.session.dispatcher.oversight.adopting == (BTC,)
        book = Book()
        for event in JournalReader(run.path).after(0, 10**9):
            book.take(event)
        (shown,) = views.positions(book, {}, 0)
        assert (shown.symbol, shown.quantity, shown.stop_state) == (BTC, 0.01, "held")
    else:
        assert json.loads(events.filter(kind="command")["body"][0])["why"] == why


@pytest.mark.parametrize(("command", "symbol"), [("flatten", None), ("close", BTC)])
def test_a_position_that_was_taken_over_is_closed_too(config, tmp_path, command, symbol):
    look = once_taken_over("positionRisk", command, symbol)
    run = real(often(config), tmp_path / "real.sqlite", minutes=8, before=[look], speed=600.0)
    assert not run.amount and not [each for each in run.orders() if each.is_open]
    events = read_journal(run.path)
    assert "closing BTCUSDT" in json.loads(events.filter(kind="answer")["body"][1])["answer"]
    assert json.loads(events.filter(kind="closed")["body"][0])["reason"] == "operator"


def test_nothing_is_entered_beside_a_position_that_was_taken_over(config, tmp_path):
    look = once_taken_over("marginType", "ack")  # other symbols may be entered again
    run = real(often(config), tmp_path / "real.sqlite", minutes=8, after=[look], speed=600.0)
    assert run.broker.risk.state.level is Level.ACTIVE and not run.orders("E")
    refused = [json.loads(body)["reasons"] for body in read_journal(run.path).filter(kind="refused")["body"]]
    assert any("a position that was taken over" in reason for reasons in refused for reason in reasons)


def test_the_answer_tells_the_account_s_level_which_an_acknowledgement_does_not_raise(config, tmp_path):
    acknowledge = once_held("ack")

    def look(run, request):
        if request.is_new("S") and run.broker.risk.state.level is Level.ACTIVE:
            run.broker.risk.alarm("mode_changed", "leverage 20", request.ms)
        acknowledge(run, request)

    run = real(often(config), tmp_path / "real.sqlite", minutes=8, after=[look], speed=600.0)
    assert run.broker.risk.state.level is Level.HALTED
    (answer,) = (json.loads(body) for body in read_journal(run.path).filter(kind="answer")["body"])
    assert (answer["level"], answer["answer"]) == ("HALTED", "HALTED: mode_changed (HALTED)")
