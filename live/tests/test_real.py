"""Real mode end to end, over sockets: the command, who may send, and that a run is its log."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from data.clock import RealClock
from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.venues import aster_signed
from data.venues.aster import ASTER
from data.venues.aster_signed import ONLY_LOOPBACK, SignedRest
from data.venues.questions import Venue
from data.venues.signing import AgentKey, ApiKey
from data.wal import Log
from live import disk
from live.brokers.aster import AsterAccount
from live.brokers.overseer import AUDIT_MS
from live.dispatch import walk
from live.journal import Journal, feed_folder, read_journal
from live.journal_trades import trades
from live.real import permitted, require_approved
from live.runner import main
from live.tests.invariants import alerts, check, held_and_guarded, level, told_of
from live.tests.paper_run import START, market
from live.tests.real_run import BTC, RULES, again, guarded, new, often, real

ROOT = Path(__file__).resolve().parents[2]
AGENT = "4fd0a42218f3eae43a6ce26d22544e986139a01e5b34a62db53757ffca81bae1"  # of Aster's own documents: never funded
ACCOUNT = """\
instance = "one"
emergency_stop_bps = 100.0

[risk]
max_daily_drawdown = 0.2
max_drawdown = 0.5
max_losses_in_a_row = 50

[entries]
max_symbol_notional_usdt = 2000.0
max_total_notional_usdt = 5000.0
max_open_orders_per_symbol = 1
max_entries_per_hour = 60
"""


@pytest.mark.parametrize("is_hedge", [False, True])
def test_a_run_trades_to_the_last_digit_and_its_log_writes_the_same_journal(config, tmp_path, is_hedge):
    traded, path = often(config), tmp_path / "real.sqlite"
    run = real(traded, path, minutes=12, is_hedge=is_hedge)
    check(run, naked_ms=0)
    assert level(run) == "ACTIVE" and not told_of(run, "alert")
    with Journal(tmp_path / "again.sqlite") as journal:
        walk([traded], feed_folder(path), journal)
        assert journal.head == read_journal(path)["hash"][-1]
    listed = trades(path, traded.config_hash, BTC)
    closed = [body for body in told_of(run, "fill") if body["leg"] != "E"]
    assert listed.height >= 2 and len(closed) == listed.filter(reason="trailing").height == 1
    executed = [float(each["realised_usdt"]) - float(each["commission"]) for each in told_of(run, "execution")[:2]]
    assert listed["net_pnl_usdt"][0] == pytest.approx(sum(executed), abs=1e-6)


def test_holders_of_old_keys_trade_by_v1(config, tmp_path):
    run = real(often(config), tmp_path / "real.sqlite", minutes=3, is_v1=True)
    check(run, naked_ms=0)
    assert held_and_guarded(run) and not told_of(run, "alert")


def test_between_a_fill_and_its_stop_nothing_waits_for_the_disk(config, tmp_path, monkeypatch):
    waits, seen = [], {}
    message = AsterAccount.message

    def counted(kind: type, name: str) -> None:
        call = getattr(kind, name)

        def calling(self: object, *given: object) -> None:
            if threading.current_thread() is threading.main_thread():  # else it is nobody's wait
                waits.append(name)
            call(self, *given)

        monkeypatch.setattr(kind, name, calling)

    def heard(account: AsterAccount, told: dict) -> None:
        if told.get("o", {}).get("X") == "FILLED":
            seen.setdefault("fill", len(waits))
        message(account, told)

    counted(Log, "sync")
    counted(Journal, "_write")
    monkeypatch.setattr(AsterAccount, "message", heard)
    monkeypatch.setattr(disk, "GATHER_S", 3_600.0)
    run = real(
        often(config), tmp_path / "real.sqlite", minutes=3,
        before=[new("S", lambda run: seen.setdefault("stop", len(waits)))],
    )  # fmt: skip
    assert seen["fill"] > 0 and seen["fill"] == seen["stop"], "the entry waited, its stop did not"
    check(run, naked_ms=0)


def test_money_that_is_taken_out_is_no_loss(config, tmp_path):
    def take(run):
        run.exchange.office.deposit(0, Decimal(-5_000))

    rules = replace(RULES, risk=replace(RULES.risk, max_daily_drawdown=0.3))
    run = real(often(config), tmp_path / "real.sqlite", minutes=4, rules=rules, before=[guarded(take)])
    assert held_and_guarded(run) and level(run) == "ACTIVE"
    assert told_of(run, "risk")[-1]["state"]["day_peak_usdt"] == pytest.approx(5_000, abs=5)


@pytest.mark.parametrize("moved_usdt", [-5_000, 5_000])
def test_what_was_taken_out_or_put_in_while_nothing_ran_is_neither_loss_nor_gain(config, tmp_path, moved_usdt):
    rules = replace(RULES, risk=replace(RULES.risk, max_daily_drawdown=0.3))

    def move(run):
        run.exchange.office.deposit(0, Decimal(moved_usdt))

    _, second = again(
        often(config), tmp_path / "real.sqlite", minutes=(3.0, 3.0), then=move, rules=(rules, rules),
        before=[guarded(lambda run: None)],
    )  # fmt: skip
    assert held_and_guarded(second) and level(second) == "ACTIVE"
    state = second.broker.risk.state
    assert state.day_peak_usdt == state.peak_usdt == pytest.approx(10_000 + moved_usdt, abs=5)


def test_an_isolated_position_is_closed_by_its_own_margin_however_much_the_account_has(config, tmp_path):
    run = real(
        often(config), tmp_path / "real.sqlite", minutes=4,
        rules=replace(RULES, risk=replace(RULES.risk, least_margin_ratio=1_000.0)),
    )  # fmt: skip
    assert len(run.orders("E")) == 1 and not run.amount and level(run) == "REDUCING"
    (lowered,) = (each for each in told_of(run, "risk") if each["cause"] == "MarginSeen")
    assert lowered["because"] and "margin" in lowered["state"]["lowered"]


def test_funding_that_was_paid_before_a_restart_is_of_the_trade_s_net(config, tmp_path):
    def pay(run):
        run.account.on_funding(BTC, Decimal("0.0001"), run.exchange.office.now_ms)
        run.exchange.office.collect()
        run.exchange.office.tell()

    _, second = again(often(config), tmp_path / "real.sqlite", minutes=(2.5, 0.2), before=[guarded(pay)])
    (paid,), (case,) = told_of(second, "funding"), second.broker.cases.open()
    assert case.funding_usdt == paid["paid_usdt"] != 0.0


def test_an_account_that_cannot_be_read_any_more_takes_no_entry(config, tmp_path):
    """What it has, and has lost, is not what it was minutes ago."""
    read = []

    def refuse(run, asked):
        if asked.name == "account":
            read.append(asked.ms)
            if len(read) > 1:
                run.strike("status", status=503, path="account", method="GET")

    run = real(often(config), tmp_path / "real.sqlite", minutes=4, before=[refuse])
    assert len(read) > 3 and not run.orders("E")
    assert {"USDT of margin: not known"} == {each for body in told_of(run, "refused") for each in body["reasons"]}


def test_another_fee_than_the_config_s_stops_entries(config, tmp_path):
    run = real(often(config), tmp_path / "real.sqlite", minutes=3, accounts={"taker_fee": 0.0005})
    assert not run.orders() and level(run) == "REDUCING" and "fee" in alerts(run)


def test_the_end_of_an_agent_s_key_is_warned_of_two_weeks_ahead():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    warned = {
        days: replace(RULES, agent_expires=now + timedelta(days=days)).expiry_warning(now) for days in (-1, 14, 15)
    }
    assert warned == {-1: "the agent's key ends 2026-02-28 00:00 UTC", 14: "the agent's key ends 2026-03-15 00:00 UTC",
                      15: None}  # fmt: skip
    assert RULES.expiry_warning(now) is None  # not known


def test_nothing_is_traded_on_a_symbol_for_tests(config):
    account = AsterAccount(RULES, Venue(name="nowhere", rest_url="", stream_url=""), RealClock(), None)
    with pytest.raises(ValueError, match="TESTUSDT is for the exchange's own tests; nothing is traded on it"):
        account.broker(config(symbol="TESTUSDT"), {})


def test_without_the_symbols_typed_again_nothing_may_be_sent(config):
    configs = [config(symbol="BTCUSDT"), config(symbol="ASTERUSDT")]
    assert permitted("ASTERUSDT, BTCUSDT", configs) == {"BTCUSDT", "ASTERUSDT"}
    for typed in (None, "", "BTCUSDT", "BTCUSDT,ASTERUSDT,BNBUSDT", "btcusdt,asterusdt"):
        with pytest.raises(ValueError, match="typed again"):
            permitted(typed, configs)


@pytest.mark.parametrize("place", ["aster", "testnet"])
def test_without_an_operator_nothing_trades_but_on_a_loopback(place):
    require_approved([], RULES, AgentKey(AGENT), "http://127.0.0.1:8732", datetime.now(UTC))
    with pytest.raises(ValueError, match="names no operator"):
        require_approved([], RULES, AgentKey(AGENT), place, datetime.now(UTC))


def test_a_replay_or_a_paper_run_has_no_code_that_signs():
    code = (
        "import live.runner, live.runs, live.dispatch, sys; "
        "print([name for name in ('live.real', 'live.secrets', 'live.brokers.aster', 'data.venues.signing', "
        "'data.venues.aster_signed', 'eth_account', 'coincurve') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("name", ["order", "leverage", "batchOrders", "allOpenOrders", "positionSide/dual"])
def test_a_symbol_that_was_not_typed_is_refused_before_anything_is_signed(method, name):
    nowhere = Venue(name="loopback", rest_url="http://127.0.0.1:1", stream_url="", is_loopback=True)
    rest = SignedRest(nowhere, RealClock(), AgentKey(AGENT), symbols=frozenset({"BTCUSDT"}))
    for asked in ((("symbol", "ASTERUSDT"),), ()):
        with pytest.raises(ValueError, match="may not be traded"):
            asyncio.run(rest.send(method, name, asked))


@pytest.mark.parametrize("key", [AgentKey(AGENT), ApiKey("mine", "hush")])
def test_no_signed_request_leaves_the_machine_in_a_test(key):
    assert os.environ[ONLY_LOOPBACK]
    with pytest.raises(ValueError, match="no signed request leaves this machine"):
        SignedRest(ASTER, RealClock(), key, symbols=frozenset({"BTCUSDT"}))


@pytest.mark.parametrize(("kept_s", "lines"), [(None, 1), (0.05, 2)])
def test_a_line_is_kept_from_one_audit_to_the_next(monkeypatch, kept_s, lines):
    """An order on a line that is open needs no handshake."""
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.transport)
        return web.json_response({})

    async def ask_twice() -> None:
        application = web.Application()
        application.router.add_get("/fapi/v1/time", answer)
        async with TestServer(application) as server:
            venue = Venue(
                name="loopback", rest_url=str(server.make_url("")).rstrip("/"), stream_url="", is_loopback=True
            )
            async with SignedRest(venue, RealClock(), AgentKey(AGENT), symbols=frozenset()) as rest:
                await rest.ask_openly("time")
                await asyncio.sleep(0.15)
                await rest.ask_openly("time")

    assert 1_000 * aster_signed.KEPT_S > AUDIT_MS
    if kept_s is not None:
        monkeypatch.setattr(aster_signed, "KEPT_S", kept_s)
    asyncio.run(ask_twice())
    assert len({*map(id, seen)}) == lines


def test_the_command_trades_and_no_key_is_in_anything_that_it_writes(config, promoted, tmp_path):
    chosen, rules, keys = promoted(often(config)), tmp_path / "account.toml", tmp_path / "keys"
    rules.write_text(ACCOUNT)
    journal = tmp_path / "real.sqlite"

    async def command() -> tuple[str, str, str]:
        accounts = AccountSettings(taker_fee=0.0004, leverage=1)
        async with Loopback(market(), start=START, quiet_every_s=1.0, accounts=accounts) as exchange:
            secret = exchange.office.keys[0].private_key
            keys.write_text(f"ASTER_AGENT_KEY={secret}\n")
            keys.chmod(0o600)
            asked = ["--config", chosen, "--mode", "real", "--send-orders", BTC, "--account", rules, "--keys", keys,
                     "--venue", exchange.rest_url, "--run-length", "4m", "--journal", journal, "--json"]  # fmt: skip
            running = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "live.runner", *map(str, asked), cwd=ROOT,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(running.communicate(), 90)
            assert exchange.office.accounts[0].open
            return secret, out.decode(), err.decode()

    secret, out, err = asyncio.run(command())
    told = json.loads(out)
    assert (told["mode"], told["open_trades"]) == ("real", 1) and not err
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != keys]
    assert len(written) >= 4
    for text in (out.encode(), *(path.read_bytes() for path in written)):
        assert secret.encode() not in text and bytes.fromhex(secret) not in text
        assert not re.search(rb"signature=|user[0-9a-f]{60}", text)  # nor the key of the account's stream


def test_the_command_refuses_other_symbols_and_open_key_files(config, promoted, tmp_path):
    chosen, rules, keys = promoted(often(config)), tmp_path / "account.toml", tmp_path / "keys"
    rules.write_text(ACCOUNT)
    keys.write_text(f"ASTER_AGENT_KEY={AGENT}\n")
    keys.chmod(0o644)
    for symbols, words in (("ETHUSDT", "typed again"), (BTC, "chmod 600")):
        asked = ["--config", chosen, "--mode", "real", "--send-orders", symbols, "--account", rules, "--keys", keys]
        done = CliRunner().invoke(main, [*map(str, asked)])
        assert done.exit_code == 1 and words in done.output and AGENT not in done.output
    keys.chmod(0o600)
    asked += ["--journal", tmp_path / "j.sqlite", "--venue", "aster"]
    done = CliRunner().invoke(main, [*map(str, asked)])
    assert done.exit_code == 1 and "names no operator" in done.output
