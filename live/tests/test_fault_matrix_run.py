"""The fault matrix, rows F29 to F38: storms, the dashboard, what may trade at all, and starting again."""

import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import aiohttp
import pytest
import tomli_w
from aiohttp.client_reqrep import ConnectionKey
from click.testing import CliRunner

from data.clock import RealClock
from data.loopback.faults import StreamFault
from data.venues.aster import AsterRest, venue_of
from data.venues.aster_signed import SignedRest
from data.venues.signing import AgentKey, OperatorKey, signed_message
from data.wal import read, segments
from live.alerts import Alerts
from live.approval import Approval, PaperStage
from live.config import Chosen
from live.dashboard.app import Place
from live.heartbeat import read_beat, write_beat
from live.journal import feed_folder, read_journal
from live.oversight import RiskConfig
from live.promotion import document_of, signed_text
from live.runner import main
from live.tests.dashboard_run import Served, Tab
from live.tests.invariants import alerts, check, held_and_guarded, legs, level, told_of
from live.tests.real_run import BTC, RULES, START, Run, again, flatten, guarded, new, often
from live.tests.rows import in_both_modes
from live.watchdog import Account, Watchdog
from research.engine import TradingConfig

D = Decimal
SIZE = D("0.009")
OPERATOR = OperatorKey("11" * 32)
PLACE = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)
NO_NAME = aiohttp.ClientConnectorDNSError(PLACE, OSError("no such name"))
NO_TRUST = aiohttp.ClientConnectorCertificateError(PLACE, ssl.SSLCertVerificationError("self-signed"))


def an_approved(traded: TradingConfig) -> Chosen:
    """A config with everything that real trading asks for, but for code that is not what runs."""
    now = datetime.now(UTC)
    paper = PaperStage(chain_head="ab", days=8.0, trades=40, mean_net_bps=1.0, low_bps=-2.0, high_bps=3.0)
    approval = Approval(
        operator=OPERATOR.address, approved=now, expires=now + timedelta(days=30), code_hash="c0de", lock_hash="10c4",
        paper=paper, parity=("P1 ab",),
    )  # fmt: skip
    chosen = Chosen(
        config_hash=traded.config_hash, config=traded, approval=approval,
        provenance={"run": "by hand", "statistical_gate": True, "data_end": now - timedelta(days=3)},
        risk=RiskConfig(paper_equity_usdt=1_000.0, account=RULES.risk, entries=RULES.entries),
    )  # fmt: skip
    signature = signed_message(signed_text(document_of(chosen)), OPERATOR)
    return replace(chosen, approval=replace(approval, signature=signature))


def storm_of(run: Run, tenth: int) -> list[tuple[str, bytes]]:
    """A tenth of a second of it: 50 quotes and 100 trades, every one of which is told to be a liquidation too."""
    now_ms, book = run.exchange.office.now_ms, run.account.books[BTC]
    price = book.last_price
    quote = {"e": "bookTicker", "E": now_ms, "T": now_ms, "s": BTC, "B": "3", "A": "3"}
    quote |= {"b": str(book.bids[0][0]), "a": str(book.asks[0][0])}
    trade = {"e": "aggTrade", "E": now_ms, "T": now_ms, "s": BTC, "p": str(price), "q": "0.001", "m": True}
    forced = {"e": "forceOrder", "E": now_ms, "o": {"s": BTC, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.001",
              "p": str(price), "ap": str(price), "X": "FILLED", "l": "0.001", "z": "0.001", "T": now_ms}}  # fmt: skip
    first = 10**12 + 100 * tenth
    told = [("btcusdt@bookTicker", {**quote, "u": first + number}) for number in range(50)]
    told += [("btcusdt@aggTrade", {**trade, "a": first + each, "f": first, "l": first}) for each in range(100)]
    told += [("btcusdt@aggTrade", forced)] * 100
    return [(name, json.dumps(each).encode()) for name, each in told]


@in_both_modes("F29")
def test_f29_a_thousand_liquidations_and_five_hundred_quotes_a_second(run_real):
    def begin(run: Run, asked) -> None:
        if asked.name == "listenKey":
            for tenth in range(200):  # from before the first decision until after its exits stand
                run.later(90.0 + tenth / 10, lambda tenth=tenth: run.told(storm_of(run, tenth)))

    run = run_real(before=[begin])
    assert len(run.orders("E")) == 1 and held_and_guarded(run) and level(run) == "ACTIVE"
    entries = [asked.told["newClientOrderId"] for asked in run.asked if asked.is_new("E")]
    assert len(entries) == len(set(entries)) and not run.session._pending
    heard = [record for segment in segments(feed_folder(run.path)) for record in read(segment)]
    assert sum(b"forceOrder" in record.payload for record in heard) == 200 * 100


@in_both_modes("F30")
def test_f30_the_position_is_deleveraged(run_real, is_hedge):
    def deleverage(run: Run) -> None:
        run.exchange.office.deleverage(0, BTC, "SHORT" if is_hedge else "BOTH")

    run = run_real(before=[guarded(deleverage)])
    assert not run.amount and level(run) == "HALTED"
    assert legs(run) == ["E", "L"] and not [order for order in run.orders() if order.is_open]


@pytest.mark.parametrize("is_heard", [True, False])
@in_both_modes("F31")
def test_f31_funding_is_paid_while_a_position_is_open(run_real, is_heard):
    def pay(run: Run) -> None:
        if not is_heard:
            run.exchange.office.expire_listen_key(0, run.exchange.office.now_ms)
        run.account.on_funding(BTC, D("0.0001"), run.exchange.office.now_ms)
        run.exchange.office.collect()
        run.exchange.office.tell()

    run = run_real(before=[guarded(pay)])
    (paid,) = told_of(run, "funding")
    (row,) = [row for row in run.account.ledger.incomes if row.kind == "FUNDING_FEE"]
    assert paid["paid_usdt"] == float(-row.amount_usdt) and held_and_guarded(run)


@in_both_modes("F31")
def test_f31_funding_that_the_stream_never_told_is_found_after_the_hour(run_real):
    def pay(run: Run) -> None:
        office = run.exchange.office
        run.exchange._trouble.add([StreamFault(kind="drop", streams="user*", for_s=0.5)], run.exchange.now_ns)
        run.account.on_funding(BTC, D("0.0001"), office.now_ms)
        office.collect()
        office.tell()

    run = run_real(before=[guarded(pay)], start=START.replace(minute=56), minutes=5.0)
    (row,) = [row for row in run.account.ledger.incomes if row.kind == "FUNDING_FEE"]
    (told,) = told_of(run, "income")
    assert told["amount_usdt"] == float(row.amount_usdt)
    (asked,) = [asked for asked in run.asked if asked.name == "income" and asked.ms > row.time_ms]
    assert 15_000 <= asked.ms % 3_600_000 < 16_000  # nothing but the hour had it asked for


STALE = (lambda told: told["approval"].update(expires=datetime(2026, 1, 2, tzinfo=UTC)), "the approval ended")
UNSIGNED = (lambda told: told.pop("approval"), "it is not approved")
TAMPERED = (lambda told: told["approval"]["paper"].update(trades=41), "its signature is not")
OTHER_CODE = (lambda told: None, "the code that runs is not the code that was approved")


@pytest.mark.parametrize(("change", "reason"), [STALE, UNSIGNED, TAMPERED, OTHER_CODE])
@in_both_modes("F32")
def test_f32_a_stale_unsigned_tampered_or_other_codes_config_is_refused(config, tmp_path, is_hedge, change, reason):
    told = document_of(an_approved(config()))
    change(told)
    chosen, rules, keys = (tmp_path / name for name in ("chosen.toml", "account.toml", "keys"))
    chosen.write_text(tomli_w.dumps(told))
    limits = {"risk": told["risk"]["account"], "entries": told["risk"]["entries"]}
    account = {"instance": "one", "emergency_stop_bps": 100.0, "is_hedge": is_hedge, "operator": OPERATOR.address}
    rules.write_text(tomli_w.dumps(account | limits))
    keys.write_text(f"ASTER_AGENT_KEY={'33' * 32}\n")
    keys.chmod(0o600)
    nowhere = ["--venue", "http://127.0.0.1:1", "--journal", tmp_path / "real.sqlite"]
    asked = ["--config", chosen, "--mode", "real", "--send-orders", config().symbol, "--account", rules, "--keys", keys]
    done = CliRunner().invoke(main, [*map(str, asked + nowhere)])
    assert done.exit_code == 1 and "must not trade for real" in done.output and reason in done.output
    assert not (tmp_path / "real.sqlite").exists()


@in_both_modes("F33")
def test_f33_fifty_tabs_one_that_never_reads_and_a_dashboard_that_dies(run_real, tmp_path):
    tabs: list[Tab] = []

    def open_tabs(run: Run) -> None:
        place = Place(
            journal=run.path, lake=None, candidate=tmp_path / "candidate.toml", token="a token of enough letters"
        )
        served = Served(place)
        tabs.extend(Tab(served, is_read=number > 0) for number in range(50))

    run = run_real(minutes=9, before=[new("E", open_tabs)])
    served, head = tabs[0].served, read_journal(run.path)["seq"][-1]
    served.caught_up(head)
    complete = [list(range(tab.first, head + 1)) == tab.until(head) for tab in tabs[1:]]
    overview = served.ask("/api/overview").json()
    for each in (*tabs, served):
        each.close()
    assert all(complete) and len(told_of(run, "execution")) == len(run.account.ledger.fills) >= 2
    assert (overview["runner"]["mode"], overview["runner"]["level"]) == ("real", "ACTIVE")


@in_both_modes("F34", is_quick=True)
def test_f34_stopped_with_a_position_and_started_again(config, tmp_path, is_hedge):
    first, second = again(often(config), tmp_path / "real.sqlite", minutes=(2.5, 6.0), is_hedge=is_hedge)
    assert not [asked for asked in first.asked if asked.method == "DELETE"]
    check(second)
    assert legs(second)[:2] == ["E", "R"] and not [asked for asked in second.asked if asked.is_new("S")][1:]


@in_both_modes("F34")
def test_f34_stopped_while_an_entry_is_under_way(run_real):
    run = run_real(before=[new("E", lambda run: run.stop.set())])
    assert held_and_guarded(run) and legs(run) == ["E"] and not [order for order in run.orders("E") if order.is_open]


@in_both_modes("F35")
def test_f35_a_day_that_is_spent_stays_so_after_a_restart(config, tmp_path, is_hedge):
    limits = replace(RULES.risk, max_daily_drawdown=0.00002)
    first, second = again(
        often(config), tmp_path / "real.sqlite", minutes=(3.5, 6.0), is_hedge=is_hedge,
        rules=(replace(RULES, risk=limits), RULES),
    )  # fmt: skip
    assert not first.amount and legs(first) == ["E", "X"]
    assert len(second.orders("E")) == 1
    assert any("the day has lost" in reason for body in told_of(second, "refused") for reason in body["reasons"])


@in_both_modes("F36")
def test_f36_a_firewall_answers_403(run_real):
    run = run_real(before=[guarded(lambda run: run.strike("html", status=403, path="positionRisk", method="GET"))])
    assert held_and_guarded(run) and "firewall" in alerts(run)


@pytest.mark.parametrize("error", [NO_NAME, NO_TRUST])
@in_both_modes("F36")
def test_f36_the_exchange_s_name_or_its_certificate_is_not_found_good(run_real, error):
    run = run_real(
        minutes=5,
        before=[guarded(lambda run: (run.exchange.office.drop_listen_key(0), run.breaks(error, 60.0)), 1.0)],
    )
    assert held_and_guarded(run) and level(run) == "ACTIVE" and "unread" in alerts(run)
    assert not [asked for asked in run.asked if asked.method == "DELETE"]
    broken_ms = next(asked.ms for asked in run.asked if asked.is_new("R")) + 1_000
    assert sum(broken_ms <= asked.ms < broken_ms + 60_000 for asked in run.asked) < 60


@in_both_modes("F37")
def test_f37_a_cancellation_finds_no_order(run_real):
    def refuse(run: Run) -> None:
        run.strike("status", method="DELETE", status=400, code=-2011, count=2)
        run.moves("60200")

    run = run_real(before=[guarded(refuse)])
    assert not run.amount and legs(run) == ["E", "T"]
    assert not [order for order in run.orders() if order.is_open]


@in_both_modes("F38")
def test_f38_a_countdown_that_somebody_armed_takes_the_stop_and_it_is_sent_again(run_real):
    run = run_real(before=[guarded(lambda run: run.account.count_down(BTC, 2_000, run.exchange.office.now_ms))])
    assert held_and_guarded(run) and len(run.orders("S")) == 2


@in_both_modes("F38")
def test_f38_the_runner_is_dead_and_the_watchdog_sends_the_stop_again(config, tmp_path, is_hedge):
    path = tmp_path / "real.sqlite"

    async def watched(run: Run) -> None:
        write_beat(path, replace(read_beat(path), has_ended=False))  # as one that was killed left it
        run.account.cancel_all(BTC, run.exchange.office.now_ms)
        venue, clock, symbols = await venue_of(run.exchange.rest_url), RealClock(), frozenset({BTC})
        key = AgentKey(run.exchange.office.keys[0].private_key)
        async with AsterRest(venue, clock) as public, SignedRest(venue, clock, key, symbols=symbols) as signed:
            account = Account(replace(RULES, is_hedge=is_hedge), signed, public, clock, symbols)
            dog = Watchdog(journal=path, alerts=Alerts([], "watchdog"), say=print, account=account, silence_s=0.0)
            await dog.look()
        assert held_and_guarded(run)

    second = again(often(config), path, minutes=(2.5, 2.0), then=watched, is_hedge=is_hedge)[1]
    assert held_and_guarded(second) and len(second.orders("S")) == 2
    assert not [asked for asked in second.asked if asked.is_new("S")]


@in_both_modes("F38")
def test_f38_no_countdown_is_ever_armed(run_real):
    run = run_real(minutes=9)
    assert not [asked for asked in run.asked if asked.name == "countdownCancelAll"]


@in_both_modes("F35", is_quick=True)
def test_f35_the_entries_of_the_hour_are_counted_across_a_restart(config, tmp_path, is_hedge):
    rules = replace(RULES, entries=replace(RULES.entries, max_entries_per_hour=1))
    first, second = again(
        often(config), tmp_path / "real.sqlite", minutes=(3.0, 6.0), is_hedge=is_hedge, rules=(rules, rules),
        before=[guarded(flatten)],
    )  # fmt: skip
    assert len(first.orders("E")) == 1 and not first.amount
    assert len(second.orders("E")) == 1
    reasons = [reason for body in told_of(second, "refused") for reason in body["reasons"]]
    assert any("entries within the hour" in reason for reason in reasons)
