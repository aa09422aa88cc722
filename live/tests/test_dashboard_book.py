"""What the dashboard adds up from a journal is what the journal tells."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from live.dashboard import views, words
from live.dashboard.book import Book
from live.dashboard.journal_reader import Event, JournalReader
from live.dashboard.watch import State, Watch
from live.journal import set_aside
from live.journal_trades import trades
from live.tests.dashboard_run import StandIn, events_of

FIRST_MS = 1_764_200_000_000


@pytest.fixture
def finished(case, replayed):
    """A journal of two configs that traded to the end of their rows, and their keys."""
    cases = case(1), case(3)
    path, _ = replayed(*cases)
    return path, [(config.config_hash, config.symbol) for config, _ in cases]


def book_of(path, until: int = 10**9) -> Book:
    book = Book()
    for event in JournalReader(path).after(0, until):
        book.take(event)
    return book


def test_closed_trades_are_those_of_the_journal(finished):
    path, keys = finished
    book = book_of(path)
    for config_hash, symbol in keys:
        told = trades(path, config_hash, symbol)
        ours = [row for row in book.closed if row["config_hash"] == config_hash]
        closed = told.filter(told["reason"] != "open").sort("exit_time", maintain_order=True)
        assert closed.height > 5
        assert [row["trade_id"] for row in ours] == closed["trade_id"].to_list()
        assert [row["net_pnl_usdt"] for row in ours] == closed["net_pnl_usdt"].to_list()
        held = {each.trade_id for each in book.positions if each.config_hash == config_hash}
        assert held == set(told.filter(told["reason"] == "open")["trade_id"])
    assert [row["number"] for row in book.closed] == list(range(1, len(book.closed) + 1))


def test_orders_whose_fate_is_unknown_are_counted_until_it_is_known():
    book, name = Book(), "wbone-abcdefghij-S1"
    asked = {"leg": "S", "type": "STOP_MARKET", "side": -1, "quantity": None, "stop_price": 95.0}
    for seq, (kind, body, unknown, open_) in enumerate(
        [("intent", asked, 0, 1), ("order", {"status": "SENT"}, 0, 1), ("order", {"status": "UNKNOWN"}, 1, 1),
         ("order", {"status": "NEW"}, 0, 1), ("order", {"status": "CANCELED"}, 0, 0)], start=1,
    ):  # fmt: skip
        book.take(
            Event(seq=seq, time_ms=seq, kind=kind, config_hash="hash", symbol="BTCUSDT", trade_id="abcdefghij",
                  client_order_id=name, body=body)
        )  # fmt: skip
        states = [order.state for order in book.orders.values()]
        assert (states.count("unknown"), len(states)) == (unknown, open_)
    assert [views.order(each).state for each in book.ended] == ["cancelled"]


def test_every_open_position_has_its_stop_while_it_is_open(finished):
    path, _ = finished
    book, seen = Book(), 0
    for event in JournalReader(path).after(0, 10**9):
        book.take(event)
        if event.kind == "intent" and event.body["leg"] == "S":
            (position,) = [each for each in views.positions(book, {}, 0) if each.trade_id == event.trade_id]
            assert position.stop_state == "held" and position.stop_price == event.body["stop_price"]
            seen += 1
    assert seen > 10
    assert {order.trade_id for order in book.orders.values()} == {each.trade_id for each in book.positions}


def test_a_position_is_worth_its_way_since_the_entry(finished):
    path, _ = finished
    events = JournalReader(path).after(0, 10**9)
    entry = next(event for event in events if event.kind == "fill")
    book = book_of(path, entry.seq)
    side, quantity, price = (entry.body[name] for name in ("side", "quantity", "price"))
    (position,) = views.positions(book, {entry.symbol: price * 1.01}, entry.body["filled_ms"] + 60_000)
    assert position.unrealised_usdt == pytest.approx(side * quantity * price * 0.01)
    assert position.open_s == 60.0
    (unvalued,) = views.positions(book, {}, 0)
    assert unvalued.unrealised_usdt is None
    assert views.performance(book, [unvalued], 0).unrealised_usdt is None


def test_money_of_today_is_of_exits_since_midnight(finished):
    path, _ = finished
    book = book_of(path)
    last_ms = book.closed[-1]["exit_time"]
    midnight_ms = last_ms // 86_400_000 * 86_400_000
    today = [row["net_pnl_usdt"] for row in book.closed if row["exit_time"] >= midnight_ms]
    told = views.performance(book, [], last_ms)
    assert told.today.trades == len(today)
    assert told.today.net_usdt == pytest.approx(sum(today))
    assert told.since_start.trades == len(book.closed)
    assert told.worst_drawdown_usdt <= min(0.0, sum(row["net_pnl_usdt"] for row in book.closed))


def test_a_trade_of_which_a_funding_is_not_known_counts_without_it_and_ends_no_curve(finished):
    path, _ = finished
    book, unknown = Book(), []
    for event in JournalReader(path).after(0, 10**9):
        if event.kind == "fill" and event.body["leg"] != "E" and not unknown:
            unknown.append(event.trade_id)
            told = {"leg": None, "paid_usdt": None}
            book.take(replace(event, kind="funding", client_order_id=None, body=told))
        book.take(event)
    (row,) = [each for each in book.closed if each["trade_id"] == unknown[0]]
    assert views.trade(row).net_usdt is None
    known = sum(each["gross_pnl_usdt"] - each["fees_usdt"] for each in book.closed)
    known -= sum(each["funding_usdt"] for each in book.closed if each is not row)
    money = views.performance(book, [], 0).since_start
    assert money.net_usdt == pytest.approx(known)
    assert money.net_usdt == pytest.approx(money.gross_usdt - money.fees_usdt - money.funding_usdt)
    assert views.equity(book).points[-1][1] == pytest.approx(known, abs=1e-3)


def test_money_of_today_is_of_all_that_ended_today_also_what_was_found_out_later(finished):
    """Of a fill that was missed the account tells later, when another symbol's exit after it is booked already."""
    path, _ = finished
    events = JournalReader(path).after(0, 10**9)
    *_, yesterday, today, late = (event for event in events if event.kind == "fill" and event.body["leg"] != "E")
    midnight_ms = late.time_ms // 86_400_000 * 86_400_000 + 86_400_000
    moved = dict(zip((yesterday.seq, today.seq, late.seq), (-9_000, 5_000, -2_000), strict=True))
    book = Book()
    for event in events:
        if event.seq in moved:
            event = replace(event, body={**event.body, "filled_ms": midnight_ms + moved[event.seq]})
        book.take(event)
    told = views.performance(book, [], midnight_ms + 10_000)
    assert (told.today.trades, told.since_start.trades) == (1, len(book.closed))
    times = [time_ms for time_ms, _ in views.equity(book).points]
    assert times == sorted(times) and times[-1] == midnight_ms + 5_000


def test_slippage_counts_every_entry(finished):
    path, keys = finished
    book = book_of(path)
    entries = sum(trades(path, *key).height for key in keys)
    assert sum(each.entries for each in views.slippage(book)) == entries
    assert {each.model_bps for each in views.slippage(book)} == {
        sum(run.config["costs"]["slippage_bps"] for run in book.runs.values()) / 2
    }


def test_a_level_below_active_is_told_with_its_reason():
    book = Book()
    body = {"level": "HALTED", "because": [], "state": {"lowered": {"operator": "HALTED"}}}
    event = Event(
        seq=1, time_ms=5, kind="risk", config_hash="", symbol="", trade_id=None, client_order_id=None, body=body
    )
    book.take(event)
    assert (book.level, book.level_ms, book.because) == ("HALTED", 5, ["operator"])
    assert words.event(event, {}).text == "HALTED: operator"


def test_every_event_of_a_run_has_words(finished):
    path, _ = finished
    told = [words.event(event, {}) for event in JournalReader(path).after(0, 10**9)]
    assert all(event.text for event in told)
    assert {event.kind for event in told if not event.is_shown} <= {"decision", "intent", "cancelled", "ambiguous"}


def test_a_watch_reads_on_where_it_stopped_and_serves_what_it_forgot(finished, tmp_path):
    events = events_of(finished[0])
    with StandIn(tmp_path / "live.sqlite", events) as runner:
        watch = Watch(runner.path)
        assert watch.state == State.NO_JOURNAL
        runner.play(3)
        watch.look()
        runner.play(40)
        watch.look()
        watch.pulse.look()
        assert watch.book.head == 43 and watch.state == State.RUNNING
        watch._recent.popleft()  # as when more came than are kept
        told = watch.after(0, 100)
        assert [event.seq for event in told] == list(range(1, 44))
        assert all(later.time_ms >= earlier.time_ms for earlier, later in pairwise(told))
        assert watch.after(41, 100) == told[41:]
    watch.pulse.look()
    assert watch.state == State.STOPPED
    watch.close()


def test_the_last_mark_heard_is_the_one_shown(finished, tmp_path):
    with StandIn(tmp_path / "live.sqlite", events_of(finished[0])) as runner:
        watch = Watch(runner.path)
        runner.hear(FIRST_MS, {"BNBUSDT": 600.0})
        runner.hear(FIRST_MS + 1_000, {"BNBUSDT": 601.0, "ETHUSDT": 3_000.5})
        watch.pulse.look()
        assert watch.pulse.marks == {"BNBUSDT": 601.0, "ETHUSDT": 3_000.5}
        assert watch.pulse.clock_ms == FIRST_MS + 1_000
        runner.hear(FIRST_MS + 2_000, {"BNBUSDT": 602.0})
        watch.pulse.look()
        assert watch.pulse.marks["BNBUSDT"] == 602.0


def test_another_journal_in_its_place_begins_anew(finished, tmp_path):
    path = tmp_path / "live.sqlite"
    with StandIn(path, events_of(finished[0])) as runner:
        runner.play(20)
        watch = Watch(path)
        watch.look()
        assert (watch.book.head, watch.epoch) == (20, 0)
    for old in tmp_path.glob("live.sqlite*"):
        old.rename(old.with_name(f"old-{old.name}"))
    with StandIn(path, events_of(finished[0])) as runner:
        runner.play(5)
        watch.look()
        assert (watch.book.head, watch.epoch) == (5, 1)
    watch.close()


def test_a_page_that_was_left_open_can_tell_a_dashboard_that_was_started_anew_on_another_journal(tmp_path):
    told = []
    for started_s, name in ((1_000.0, "paper.sqlite"), (1_060.0, "real.sqlite")):
        watch = Watch(tmp_path / name, lambda started_s=started_s: started_s)
        told.append(views.runner(watch, False).epoch)
        watch.close()
    assert len(set(told)) == 2


def test_a_runner_whose_log_was_set_aside_does_not_look_alive(finished, tmp_path, monkeypatch):
    path = tmp_path / "live.sqlite"
    with StandIn(path, events_of(finished[0])) as runner:
        runner.play(3)
        watch = Watch(path)
        watch.look()
        watch.pulse.look()
        assert watch.state == State.RUNNING
    aside = set_aside(path, "corrupt")
    with monkeypatch.context() as patched:  # it was listed a moment before
        patched.setattr("live.dashboard.pulse.wal.segments", lambda folder: [folder / "gone.wal"])
        watch.pulse.look()
        assert watch.state == State.STOPPED
    watch.pulse.look()
    assert (watch.state, watch.pulse.heard_age_s) == (State.STOPPED, None)
    assert aside.exists()
    watch.close()


def test_a_file_that_is_no_journal_is_a_problem_and_no_crash(tmp_path):
    path = tmp_path / "live.sqlite"
    path.write_text(json.dumps(["no", "database"]) * 100)
    watch = Watch(path)
    watch.look()
    assert "not a sound journal" in watch.problem
    watch.close()


def told(seq: int, kind: str, name: str | None = None, **body) -> Event:
    """An event of a real run."""
    trade_id = "t" if name is not None or kind in ("adopted", "closed") else None
    return Event(
        seq=seq, time_ms=FIRST_MS + seq, kind=kind, config_hash="h", symbol="BTCUSDT", trade_id=trade_id,
        client_order_id=name, body=body,
    )  # fmt: skip


def test_an_order_of_a_real_run_is_what_the_exchange_says_of_it():
    book, name = Book(), "wbone-t-S0"
    book.take(told(1, "start", mode="real", config={}, instrument={}, assumptions=[]))
    book.take(told(2, "intent", name, leg="S", type="STOP_MARKET", side=-1, quantity=0.01, stop_price=90.0))
    states = []
    for seq, status in enumerate(("SENT", "UNKNOWN", "NEW", "PARTIALLY_FILLED"), start=3):
        states.append(book.orders[name].state)
        book.take(told(seq, "order", name, status=status, filled="0"))
    assert [*states, book.orders[name].state] == ["sent", "sent", "unknown", "open", "open"]
    book.take(told(7, "order", name, status="REJECTED", filled="0"))
    assert not book.orders and book.ended[-1].state == "rejected"
    sent = [["type", "STOP_MARKET"], ["stopPrice", "95.5"], ["closePosition", "true"]]
    book.take(told(8, "intent", "wbone-t-S1", leg="S", side=-1, quantity=None, parameters=sent))
    again = views.order(book.orders["wbone-t-S1"])
    assert (again.type, again.price, again.quantity, again.state) == ("STOP_MARKET", 95.5, None, "sent")


def test_a_real_run_tells_its_peaks_without_a_reason_and_its_naked_times():
    book = Book()
    state = {"lowered": {}, "spent_day": -1}
    peak = told(1, "risk", level="ACTIVE", cause="EquitySeen", state=state)
    book.take(peak)
    assert not words.event(peak, {}).is_shown and book.level == "ACTIVE"
    raised = told(2, "risk", level="ACTIVE", cause="Commanded", state=state)
    assert words.event(raised, {}).is_shown
    for seq, naked_ms in ((3, 180), (4, 20)):
        book.take(told(seq, "guarded", naked_ms=naked_ms))
    assert views.naked_today_s(book, FIRST_MS) == 0.18
    assert views.naked_today_s(book, FIRST_MS + 86_400_000) == 0.0


def test_a_position_that_was_taken_over_is_listed_until_it_is_closed():
    run = {"config": {"orders": {"leverage": 2.0}}, "instrument": {"tick_size": 0.1, "step_size": 0.001}}
    began = {"mode": "real", "assumptions": [], **run}
    taken = {"side": -1, "quantity": "0.5", "entry_price": "100.0", "is_foreign": True, "stop": 103.0}
    stop = {"leg": "S", "side": 1, "quantity": None, "parameters": [["type", "STOP_MARKET"], ["stopPrice", "103.0"]]}
    book, name = Book(), "wbone-t-S0"
    for seq, (kind, order, body) in enumerate(
        [("start", None, began), ("adopted", None, taken), ("intent", name, stop),
         ("order", name, {"status": "NEW", "filled": "0"})], start=1,
    ):  # fmt: skip
        book.take(told(seq, kind, order, **body))
    (position,) = views.positions(book, {"BTCUSDT": 98.0}, FIRST_MS)
    assert (position.side, position.quantity, position.is_adopted) == ("short", 0.5, True)
    assert (position.stop_price, position.stop_state, position.unrealised_usdt) == (103.0, "held", 1.0)
    assert (position.notional_usdt, position.margin_usdt, position.target_price) == (49.0, 24.5, None)
    book.take(told(5, "closed", price=98.0, quantity=0.5, reason="stop"))
    assert views.positions(book, {}, FIRST_MS) == []
    book.take(told(6, "adopted", **taken))
    book.take(told(7, "start", **began))  # found again, if it is still there
    assert views.positions(book, {}, FIRST_MS) == []


def test_a_position_that_was_taken_over_and_closed_by_hand_at_nobody_knows_what_price_is_told_in_words():
    by_hand = told(1, "closed", price=None, quantity=0.0, reason="by hand")
    assert [words.event(by_hand, ticks).text for ticks in ({}, {"BTCUSDT": 0.1})] == [
        "adopted position closed: by hand"
    ] * 2
