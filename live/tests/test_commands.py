"""The operator's commands: many may ask, the runner obeys each once, and the log of it obeys again."""

import json
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict

import polars as pl
import pytest
from click.testing import CliRunner

from live.commands import Command, Inbox, answer_to, ask, inbox_path
from live.ctl import ctl
from live.dispatch import Dispatcher, walk
from live.gates import EntryLimits
from live.journal import Journal, feed_folder, read_journal
from live.journal_trades import trades
from live.oversight import RiskConfig
from live.risk import Level, RiskLimits
from live.runner import main
from live.tests.paper_run import OFTEN, paper

LONG_MS = 600_000
LIMITS = RiskConfig(
    paper_equity_usdt=1_000.0,
    account=RiskLimits(max_daily_drawdown=0.5, max_drawdown=0.6, max_losses_in_a_row=1_000),
    entries=EntryLimits(
        max_symbol_notional_usdt=1_000.0,
        max_total_notional_usdt=2_000.0,
        max_open_orders_per_symbol=1,
        max_entries_per_hour=1_000,
    ),
)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "paper.sqlite"
    with Journal(path):
        pass
    return path


@pytest.fixture
def often(config):
    """A config that trades a few times an hour on the synthetic market."""
    return lambda **changes: config(**{**OFTEN, **changes})


def asked(journal, command: str, symbol: str | None = None) -> Command:
    return ask(journal, command, symbol, by="test", now_ms=time.time_ns() // 1_000_000, patience_ms=LONG_MS)


def of_kind(path, kind: str) -> list[dict]:
    return [json.loads(body) for body in read_journal(path).filter(pl.col("kind") == kind)["body"]]


def test_many_may_ask_at_once_and_none_is_lost(journal):
    def ask_ten(_):
        return [asked(journal, "pause").key for _ in range(10)]

    with ThreadPoolExecutor(8) as pool, Inbox(journal) as inbox:
        keys = {key for some in pool.map(ask_ten, range(8)) for key in some}
        assert {command.key for command in inbox.unread()} == keys and len(keys) == 80
        assert inbox.unread() == []


@pytest.mark.parametrize(
    ("command", "symbol", "message"),
    [
        ("stop", None, "expected one of pause, reduce, resume, flatten, close, ack, adopt, got 'stop'"),
        ("close", None, "close: expected a symbol, got None"),
        ("pause", "BTCUSDT", "pause: expected no symbol, got 'BTCUSDT'"),
    ],
)
def test_what_is_no_command_is_refused_before_it_is_asked(journal, command, symbol, message):
    with pytest.raises(ValueError, match=message):
        asked(journal, command, symbol)
    assert not inbox_path(journal).exists()


def test_without_a_runner_the_wish_becomes_void(journal):
    done = CliRunner().invoke(ctl, ["pause", "--journal", str(journal), "--timeout", "0.1"])
    assert done.exit_code == 1 and "no answer within 0.1 s" in done.output
    with Inbox(journal) as inbox:
        (wish,) = inbox.unread()
    assert wish.until_ms == wish.asked_ms + 100


def test_ctl_names_the_journal_that_is_not_there(tmp_path):
    done = CliRunner().invoke(main, ["ctl", "pause", "--journal", str(tmp_path / "no.sqlite")])
    assert done.exit_code == 1 and "no journal at" in done.output


def test_ctl_says_what_is_no_journal(tmp_path):
    (tmp_path / "no.sqlite").write_text("no journal, but a letter of some length")
    done = CliRunner().invoke(ctl, ["pause", "--journal", str(tmp_path / "no.sqlite"), "--timeout", "0.1"])
    assert done.exit_code == 1 and "no.sqlite is no journal: file is not a database" in done.output


def test_ctl_waits_for_a_runner_that_has_only_just_begun(tmp_path):
    (tmp_path / "new.sqlite").touch()
    done = CliRunner().invoke(ctl, ["pause", "--journal", str(tmp_path / "new.sqlite"), "--timeout", "0.1"])
    assert done.exit_code == 1 and "no answer within 0.1 s" in done.output


def test_what_an_older_runner_does_not_know_is_left_unread_and_the_rest_is_obeyed(journal):
    first = asked(journal, "pause")
    with closing(sqlite3.connect(inbox_path(journal))) as newer, newer:
        for body in (json.dumps(asdict(first) | {"command": "hedge"}), json.dumps(asdict(first) | {"more": 1}), "[]"):
            newer.execute("INSERT INTO commands (key, body) VALUES (?, ?)", (uuid.uuid4().hex, body))
    second = asked(journal, "resume")
    with Inbox(journal) as inbox:
        assert inbox.unread() == [first, second] and inbox.unread() == []


def played(often, path, wishes, **changes):
    """A paper run to which somebody says things when the market is at those hours; its replay writes the same."""
    configs = [often(), often(symbol="ASTERUSDT")]
    asked_for, is_over = [], threading.Event()

    def say(exchange):
        begun_ms = exchange.now_ms
        for hours, command, symbol in wishes:
            while exchange.now_ms < begun_ms + hours * 3_600_000 and not is_over.wait(0.005):
                pass
            wish = asked(path, command, symbol)
            asked_for.append(wish.key)
            while answer_to(path, wish.key) is None and not is_over.wait(0.02):
                pass

    def at_the_start(exchange):
        threading.Thread(target=say, args=(exchange,), daemon=True).start()

    try:
        session, head = paper(configs, path, at_the_start=at_the_start, limits=LIMITS, speed=1_800.0, **changes)
    finally:
        is_over.set()
    with Journal(path.with_suffix(".replayed")) as again:
        replay = walk(configs, feed_folder(path), again)
        assert again.head == head
    assert replay.oversight.state == session.dispatcher.oversight.state
    assert [each["key"] for each in of_kind(path, "answer")] == asked_for
    return session, configs


def busy_at_the_first_answer(path) -> dict[str, str]:
    """Symbols by id of the trades that had been decided, and had neither missed their entry nor been left."""
    told = read_journal(path)
    before = told.head(told["kind"].to_list().index("answer"))
    leg = pl.col("body").str.json_path_match("$.leg")
    is_over = (pl.col("kind") == "missed") | ((pl.col("kind") == "fill") & (leg != "E"))
    over = before.filter(is_over)["trade_id"].implode()
    entered = before.filter(pl.col("kind") == "intent", leg.is_null() | (leg == "E"), ~pl.col("trade_id").is_in(over))
    return dict(entered.select("trade_id", "symbol").iter_rows())


@pytest.mark.parametrize(("resolution", "hours"), [("tick", 1.6), ("bar", 1.0)])
def test_flatten_closes_everything_and_nothing_is_entered_until_resume(often, tmp_path, resolution, hours):
    path = tmp_path / "paper.sqlite"
    wishes = [(0.3 * hours, "flatten", None), (0.5 * hours, "pause", None), (0.6 * hours, "resume", None)]
    session, configs = played(often, path, wishes, resolution=resolution, hours=hours)
    answers = of_kind(path, "answer")
    assert [each["level"] for each in answers] == ["HALTED", "HALTED", "ACTIVE"]
    assert session.dispatcher.oversight.state.level is Level.ACTIVE
    flattened, _, resumed = read_journal(path).filter(pl.col("kind") == "answer")["ts_ms"]
    listed = pl.concat([trades(path, each.config_hash, each.symbol) for each in configs])
    entered = listed["entry_row_time"].dt.epoch("ms") + 60_000
    assert (entered < flattened).any() and (entered > resumed).any()
    assert not ((entered > flattened) & (entered < resumed)).any()
    refused = [each["cause"] for each in of_kind(path, "missed") if "HALTED" in each["cause"]]
    assert refused and {each.split("; ")[0] for each in refused} == {"HALTED: operator"}, "margin may lack too"
    busy = busy_at_the_first_answer(path)  # by the journal's order: a bar may fill at an open of before the command
    assert set(busy.values()) == {each for each in ("BTCUSDT", "ASTERUSDT") if each in answers[0]["answer"]}
    held = listed.filter(pl.col("trade_id").is_in(list(busy)))
    assert held.is_empty() or "operator" in set(held["reason"]), "unless an exit of its own comes first"
    assert (held["exit_time"].dt.epoch("ms") <= flattened + 120_000).all()


def test_close_takes_one_symbol_out_and_its_config_goes_on(often, tmp_path):
    path = tmp_path / "paper.sqlite"
    wishes = [(0.1 + 0.05 * n, "close", "BTCUSDT") for n in range(12)] + [(0.8, "close", "XRPUSDT")]
    session, configs = played(often, path, wishes, hours=1.8)  # a wish may take minutes of the market
    *answers, wrong = of_kind(path, "answer")
    assert {each["answer"] for each in answers} == {"closing BTCUSDT", "nothing is held"}
    assert (wrong["is_done"], wrong["answer"]) == (False, "XRPUSDT is not traded here, but ASTERUSDT, BTCUSDT")
    bitcoin, other = (trades(path, each.config_hash, each.symbol) for each in configs)
    closed = bitcoin.filter(pl.col("reason") == "operator")
    assert closed.height == sum(each["answer"] == "closing BTCUSDT" for each in answers)
    assert (other["reason"] != "operator").all()
    assert closed["exit_time"].max() < bitcoin["entry_time"].max()
    assert session.dispatcher.oversight.state.level is Level.ACTIVE


def test_a_level_outlives_the_runner(often, tmp_path):
    path = tmp_path / "paper.sqlite"
    played(often, path, [(0.1, "reduce", None)], hours=0.6)
    with Journal(path) as journal:
        dispatcher: Dispatcher = walk([often(), often(symbol="ASTERUSDT")], feed_folder(path), journal)
    assert dispatcher.oversight.state.level is Level.REDUCING
