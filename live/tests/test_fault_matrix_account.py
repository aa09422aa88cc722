"""The fault matrix, rows F19 to F28: clocks, limits, what cannot be read or written, and other hands on the account."""

import errno
import itertools
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from data.loopback import account_modes
from data.loopback.faults import ContractChange, Faults
from data.venues.signing import AgentKey
from data.wal import Log, segments
from live.disk import RESERVE_BYTES, reserve_path
from live.journal import Journal, feed_folder
from live.real import sole_runner
from live.tests.invariants import alerts, check, held_and_guarded, legs, level, told_of
from live.tests.real_run import BTC, Run, again, flatten, guarded, new, often
from live.tests.rows import in_both_modes

D = Decimal
SIZE = D("0.009")


class SmallDisk:
    """A disk that fills up, where a run has its log and its journal."""

    reserve: Path
    is_full = is_dead = False

    def __init__(self, monkeypatch):
        for kind, name in ((Log, "_append"), (Journal, "_write")):
            monkeypatch.setattr(kind, name, self._limited(getattr(kind, name)))

    def fills(self, run: Run, *, is_dead: bool = False) -> None:
        """There is no room from now on but what the run gives up; on a dead disk not even that."""
        self.reserve = reserve_path(run.path)
        assert self.reserve.stat().st_size == RESERVE_BYTES
        self.is_full, self.is_dead = True, is_dead

    def empties(self) -> None:
        """There is room again."""
        self.is_full = False

    def _limited(self, write):
        def limited(*asked):
            if self.is_full and (self.is_dead or self.reserve.exists()):
                raise OSError(errno.ENOSPC, "no space left on device")
            return write(*asked)

        return limited


@pytest.fixture
def small_disk(monkeypatch):
    """A disk that fills up when it is told to."""
    return SmallDisk(monkeypatch)


@pytest.mark.parametrize(("offset_ms", "trades"), [(1_000, True), (-1_000, True), (5_000, False), (-5_000, False)])
@in_both_modes("F19")
def test_f19_the_clocks_differ_from_the_start(run_real, offset_ms, trades):
    run = run_real(faults=Faults(clock_offset_ms=offset_ms))
    assert bool(run.orders("E")) is trades and level(run) == "ACTIVE"
    refused = [reason for body in told_of(run, "refused") for reason in body["reasons"]]
    assert any("off the exchange's clock" in reason for reason in refused) is not trades


@pytest.mark.parametrize("offset_ms", [15_000, -15_000])
@in_both_modes("F19")
def test_f19_the_exchange_s_clock_steps_and_the_exit_leaves_with_a_corrected_nonce(run_real, offset_ms):
    def step(run: Run) -> None:
        run.exchange.set_clock(offset_ms)
        flatten(run)

    run = run_real(before=[guarded(step)])
    assert not run.amount and level(run) == "HALTED" and legs(run) == ["E", "F"]


@in_both_modes("F20")
def test_f20_429_while_a_position_is_closed(run_real):
    run = run_real(
        before=[guarded(flatten), new("X", lambda run: run.strike("status", status=429, count=3))],
        always={"refused_by_limits": True},
    )
    closes = [asked.ms for asked in run.asked if asked.is_new("X") or asked.is_new("F")]
    assert not run.amount and len(closes) == 4
    assert all(later - earlier >= 1_000 for earlier, later in itertools.pairwise(closes))
    throttled = [asked for asked in run.asked if closes[0] < asked.ms < closes[0] // 60_000 * 60_000 + 60_000]
    assert all(asked.is_new("X") or asked.is_new("F") for asked in throttled)


@in_both_modes("F21")
def test_f21_418_for_two_minutes_while_a_position_is_open(run_real):
    def ban(run: Run) -> None:
        run.strike("status", status=418, path="positionRisk", method="GET", retry_after_s=120.0)
        run.later(60.0, lambda: run.moves("60453", mark="60600"))

    run = run_real(minutes=7.0, before=[guarded(ban)], always={"refused_by_limits": True})
    waits = [later - earlier for earlier, later in itertools.pairwise(asked.ms for asked in run.asked)]
    assert max(waits) >= 120_000 and level(run) == "REDUCING"
    assert legs(run) == ["E", "S"] and not run.amount  # the stop that stood on the exchange


@in_both_modes("F21")
def test_f21_a_stop_that_meets_a_ban_stands_when_the_exchange_says_that_it_is_over(run_real):
    refuse = new("S", lambda run: run.strike("status", status=418, retry_after_s=18.0))
    run = run_real(before=[refuse], always={"refused_by_limits": True, "naked_ms": 20_000})
    first, second = (asked.ms for asked in run.asked if asked.is_new("S"))
    assert 18_000 <= second - first < 20_000
    assert not [asked for asked in run.asked if first < asked.ms < first + 18_000]
    assert held_and_guarded(run)


@pytest.mark.parametrize("path", ["positionRisk", "openOrders", "allOrders", "userTrades"])
@pytest.mark.parametrize("kind", ["status", "html", "error_object", "half_body", "cut_after"])
@in_both_modes("F22")
def test_f22_what_cannot_be_read_is_not_empty(run_real, path, kind):
    run = run_real(before=[guarded(lambda run: run.strike(kind, path=path, method="GET", count=4))], minutes=4.0)
    assert held_and_guarded(run) and "unread" in alerts(run)
    assert not [asked for asked in run.asked if asked.method == "DELETE"]


@pytest.mark.parametrize("path", ["positionRisk", "openOrders", "allOrders", "userTrades"])
@in_both_modes("F22")
def test_f22_an_empty_list_is_no_flat_position_and_no_order_that_is_gone(run_real, path):
    run = run_real(before=[guarded(lambda run: run.strike("empty_list", path=path, method="GET", count=4))], minutes=4)
    assert held_and_guarded(run) and level(run) == "ACTIVE" and not told_of(run, "adjusted")
    assert ("unread" in alerts(run)) is (path == "positionRisk")
    assert not [asked for asked in run.asked if asked.method == "DELETE"]


@in_both_modes("F22", is_quick=True)
def test_f22_positions_cannot_be_read_for_minutes(run_real):
    run = run_real(before=[guarded(lambda run: run.strike("status", path="positionRisk", method="GET", count=99))])
    assert held_and_guarded(run) and "unread" in alerts(run) and level(run) == "ACTIVE"
    assert not [asked for asked in run.asked if asked.method == "DELETE"]


@in_both_modes("F23", is_quick=True)
def test_f23_the_disk_is_full_as_an_entry_leaves(run_real, small_disk):
    run = run_real(before=[new("E", small_disk.fills)])
    assert held_and_guarded(run) and level(run) == "REDUCING" and "disk" in alerts(run)
    assert not small_disk.reserve.exists()


@in_both_modes("F23")
def test_f23_the_disk_takes_nothing_for_half_a_minute_and_exits_leave_all_the_same(run_real, small_disk):
    def dies(run: Run) -> None:
        small_disk.fills(run, is_dead=True)
        run.later(30.0, small_disk.empties)

    run = run_real(before=[new("E", dies), guarded(lambda run: run.moves("60200"))])
    assert not run.amount and legs(run) == ["E", "T"] and level(run) == "REDUCING"


@in_both_modes("F23")
def test_f23_the_disk_is_full_before_an_entry(run_real, small_disk):
    run = run_real(before=[lambda run, asked: asked.name == "listenKey" and small_disk.fills(run)])
    assert not run.orders() and len(told_of(run, "refused")) >= 1 and level(run) == "REDUCING"


def flipped(path: Path) -> None:
    """One letter of the journal is another."""
    content = bytearray(path.read_bytes())
    place = content.index(b'"leg":"E"')
    content[place + 7 : place + 8] = b"X"
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    """The journal's file ends in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def log_flipped(path: Path) -> None:
    """One byte of the log is another; what follows it cannot be read."""
    (segment,) = segments(feed_folder(path))
    content = bytearray(segment.read_bytes())
    content[-len(content) // 4] ^= 1
    segment.write_bytes(content)


def log_cut(path: Path) -> None:
    """The log ends before the journal does."""
    (segment,) = segments(feed_folder(path))
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size * 3 // 4])


def log_gone(path: Path) -> None:
    """There is no log."""
    shutil.rmtree(feed_folder(path))


@pytest.mark.parametrize("damage", [flipped, cut_short, log_flipped, log_cut, log_gone])
@in_both_modes("F24")
def test_f24_journal_or_log_is_damaged(config, tmp_path, is_hedge, damage):
    path = tmp_path / "real.sqlite"
    second = again(often(config), path, minutes=(2.5, 6.0), then=lambda run: damage(path), is_hedge=is_hedge)[1]
    assert len(list(tmp_path.glob("real.sqlite.damaged-*Z"))) == 1 and "journal" in alerts(second)
    assert level(second) == "REDUCING" and len(told_of(second, "adopted")) == 1
    assert not [asked for asked in second.asked if asked.is_new("E")] and len(second.orders("E")) == 1
    assert not second.amount and len(told_of(second, "closed")) == 1  # at its stop


@in_both_modes("F24")
def test_f24_the_last_page_of_the_journal_is_lost_and_the_log_writes_it_again(config, tmp_path, is_hedge):
    path = tmp_path / "real.sqlite"

    def lose(run: Run) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as journal:
            journal.execute("DROP TRIGGER events_are_never_deleted")
            journal.execute("DELETE FROM events WHERE seq > (SELECT max(seq) - 9 FROM events)")

    second = again(often(config), path, minutes=(2.5, 6.0), then=lose, is_hedge=is_hedge)[1]
    check(second)
    assert level(second) == "ACTIVE" and legs(second)[:2] == ["E", "R"]


@in_both_modes("F25", is_quick=True)
def test_f25_the_operator_closes_the_position_by_hand(run_real, is_hedge):
    side = {"position_side": "SHORT"} if is_hedge else {}
    run = run_real(before=[guarded(lambda run: run.by_hand("BUY", SIZE, **side))], minutes=4.5)
    assert not run.amount and not [order for order in run.orders() if order.is_open]
    assert [body["reason"] for body in told_of(run, "fill") if body["leg"] != "E"] == ["by hand"]
    assert level(run) == "REDUCING"


@in_both_modes("F25")
def test_f25_the_operator_adds_by_hand_and_has_an_order_of_his_own(run_real, is_hedge):
    side = {"position_side": "SHORT"} if is_hedge else {}

    def add(run: Run) -> None:
        run.by_hand("SELL", "0.005", **side)
        run.by_hand("SELL", "0.005", type="LIMIT", price=D("63000"), **side)

    run = run_real(before=[guarded(add)], minutes=4.5)
    assert abs(run.amount) == D("0.014") and held_and_guarded(run) and level(run) == "REDUCING"
    assert len([order for order in run.account.open.values() if order.price == D("63000")]) == 1


@in_both_modes("F26")
def test_f26_a_second_runner_of_a_journal_or_of_a_key_is_refused(config, tmp_path, is_hedge):
    path, key, other = tmp_path / "real.sqlite", AgentKey("11" * 32), AgentKey("22" * 32)
    refused = pytest.raises(ValueError, match="another runner on this machine")
    with Journal(path), pytest.raises(ValueError, match="another process writes this journal"):
        Journal(path)
    with sole_runner("here", key), sole_runner("here", other), refused, sole_runner("here", key):
        pass


@in_both_modes("F26")
def test_f26_another_runner_trades_the_account(run_real, is_hedge):
    side = {"position_side": "SHORT"} if is_hedge else {}
    other = {"type": "LIMIT", "price": D("63000"), "client_id": "wbtwo-abcdefghij-E0", **side}
    with pytest.raises(ValueError, match="wbtwo placed or changed wbtwo-abcdefghij-E0"):
        run_real(before=[guarded(lambda run: run.by_hand("SELL", "0.005", **other))])


@in_both_modes("F27")
def test_f27_the_leverage_is_changed_while_a_position_is_open(run_real):
    def change(run: Run) -> None:
        account_modes.set_leverage(run.account, BTC, 5, run.exchange.office.now_ms)
        run.exchange.office.collect()
        run.exchange.office.tell()

    run = run_real(before=[guarded(change)])
    assert held_and_guarded(run) and level(run) == "HALTED"
    assert not [asked for asked in run.asked if asked.name == "leverage"]


@in_both_modes("F28")
def test_f28_the_symbol_is_not_trading(run_real):
    run = run_real(faults=Faults(contracts=(ContractChange(symbol=BTC, from_s=60.0, status="SETTLING"),)))
    assert not run.orders("E")


@in_both_modes("F28")
def test_f28_the_tick_grows_before_the_entry(run_real):
    coarser = ContractChange(symbol=BTC, from_s=60.0, tick_size=5.0, step_size=0.002)
    run = run_real(minutes=9, faults=Faults(contracts=(coarser,)))
    assert len(told_of(run, "missed")) >= 2 and not run.orders("E") and "rules" in alerts(run)
    refused = [reason for body in told_of(run, "refused") for reason in body["reasons"]]
    assert any("rules" in reason for reason in refused)


@in_both_modes("F28", is_quick=True)
def test_f28_the_tick_grows_while_a_position_is_open_and_its_stop_is_sent_again(run_real):
    coarser = ContractChange(symbol=BTC, from_s=106.0, tick_size=5.0)
    run = run_real(
        faults=Faults(contracts=(coarser,)),
        before=[guarded(lambda run: run.account.cancel_all(BTC, run.exchange.office.now_ms))],
    )
    assert held_and_guarded(run) and run.orders("S")[-1].stop_price == D("60575")


@in_both_modes("F24", is_quick=True)
def test_f24_a_journal_is_lost_long_after_the_entry(config, tmp_path, is_hedge):
    wide = often(config, stop_bps=300.0, target_bps=300.0, activation_bps=290.0)
    lost = tmp_path / "lost.sqlite"
    second, third = again(
        wide, tmp_path / "real.sqlite", minutes=(5.0, 2.0, 2.0), is_hedge=is_hedge,
        then=lambda run: lost,
    )[1:]  # fmt: skip
    assert len(told_of(second, "adopted")) == 2 and "refused" not in alerts(second)
    assert held_and_guarded(third) and len(third.orders("E")) == 1 and level(third) == "REDUCING"


@in_both_modes("F25", is_quick=True)
def test_f25_what_the_operator_closed_by_hand_is_booked_though_the_runner_starts_again(config, tmp_path, is_hedge):
    side = {"position_side": "SHORT"} if is_hedge else {}
    first, second = again(
        often(config), tmp_path / "real.sqlite", minutes=(4.0, 2.0), is_hedge=is_hedge,
        before=[guarded(lambda run: run.by_hand("BUY", "0.004", **side))], then=lambda run: run.moves("60200"),
    )  # fmt: skip
    (adjusted,) = told_of(first, "adjusted")
    (entry, exit_) = told_of(second, "fill")
    assert D(adjusted["by"]) == D("-0.004") and entry["quantity"] == exit_["quantity"] == float(SIZE)
    gained = sum(row.amount_usdt for row in second.account.ledger.incomes if row.kind == "REALIZED_PNL")
    assert float(SIZE) * (entry["price"] - exit_["price"]) == pytest.approx(float(gained))


@in_both_modes("F25", is_quick=True)
def test_f25_what_was_closed_by_hand_is_money_though_the_exchange_does_not_list_the_fill(run_real, is_hedge):
    side = {"position_side": "SHORT"} if is_hedge else {}

    def close(run: Run) -> None:
        run.strike("empty_list", path="userTrades", method="GET", count=99)
        run.by_hand("BUY", SIZE, **side)

    run = run_real(before=[guarded(close)], minutes=4.5)
    entry, exit_ = told_of(run, "fill")[:2]
    assert (exit_["reason"], exit_["quantity"]) == ("by hand", entry["quantity"])
    assert exit_["price"] == pytest.approx(entry["price"], rel=0.01) and "mismatch" in alerts(run)
    assert run.session.progress().net_pnl_usdt == pytest.approx(0.0, abs=10.0)


@in_both_modes("F24", is_quick=True)
def test_f24_what_was_taken_over_and_ended_while_nobody_listened_is_told_to_be_closed(config, tmp_path, is_hedge):
    wide = often(config, stop_bps=300.0, target_bps=300.0, activation_bps=290.0)

    def lose_and_stop_out(run: Run) -> Path:
        if run.path.name == "lost.sqlite":
            run.moves("62500")
        return tmp_path / "lost.sqlite"

    third = again(wide, tmp_path / "real.sqlite", minutes=(2.5, 1.0, 1.0), is_hedge=is_hedge, then=lose_and_stop_out)[
        -1
    ]
    assert not third.amount and len(told_of(third, "adopted")) == len(told_of(third, "closed")) == 1


@in_both_modes("F25")
def test_f25_what_the_operator_holds_on_the_other_side_did_not_close_ours(run_real, is_hedge):
    def by_hand(run: Run) -> None:
        if is_hedge:
            run.by_hand("BUY", "0.003", position_side="LONG")
        run.by_hand("BUY", SIZE, **({"position_side": "SHORT"} if is_hedge else {}))

    run = run_real(before=[guarded(by_hand)], minutes=4.5, is_checked=False)
    entry, exit_ = told_of(run, "fill")[:2]
    assert (exit_["reason"], exit_["quantity"]) == ("by hand", entry["quantity"])
