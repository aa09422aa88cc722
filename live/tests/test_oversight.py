"""Limits on a running paper session: what it may lose, hold and enter; a restart resets nothing (F35)."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import polars as pl
import pytest

from data import wal
from data.wal import Kind, Log
from live.dispatch import walk
from live.gates import EntryLimits
from live.journal import Journal, feed_folder, read_journal
from live.journal_trades import trades
from live.orders import CloseAsked, Leg
from live.oversight import Oversight, RiskConfig
from live.risk import Level, RiskLimits
from live.session import Session
from live.tests.paper_run import OFTEN, paper

WIDE = RiskConfig(
    paper_equity_usdt=1_000.0,
    account=RiskLimits(max_daily_drawdown=0.5, max_drawdown=0.6, max_losses_in_a_row=1_000),
    entries=EntryLimits(
        max_symbol_notional_usdt=1_000.0,
        max_total_notional_usdt=1_000.0,
        max_open_orders_per_symbol=1,
        max_entries_per_hour=1_000,
    ),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The input log of market hours without limits, and its config."""
    from live.tests.conftest import a_config

    config, path = a_config(**OFTEN), tmp_path_factory.mktemp("feed") / "paper.sqlite"
    paper([config], path, hours=1.3)
    return config, feed_folder(path)


@pytest.fixture
def under(recorded, tmp_path):
    """The same hours under other limits: ``under(account={...})`` gives dispatcher, journal and config."""

    def play(*, account=None, entries=None, paper_equity_usdt=1_000.0):
        config, folder = recorded
        limits = replace(
            WIDE,
            paper_equity_usdt=paper_equity_usdt,
            account=replace(WIDE.account, **(account or {})),
            entries=replace(WIDE.entries, **(entries or {})),
        )
        path = tmp_path / "limited.sqlite"
        with Log(feed_folder(path)) as log:
            for segment in wal.segments(folder):
                for record in wal.read(segment):
                    log.write(*record[:3], with_limits(record, limits))
            log.flush()
            with Journal(path) as journal:
                return walk([config], log.folder, journal), path, config

    return play


def with_limits(record, limits: RiskConfig) -> bytes:
    """The payload; where the run began, under these limits."""
    if record.kind is not Kind.NOTE or json.loads(record.payload)["note"] != "started":
        return record.payload
    told = json.loads(record.payload) | {"risk": asdict(limits)}
    return wal.note(told.pop("note"), **told)


def levels(path) -> list[str]:
    return [json.loads(body)["level"] for body in of_kind(path, "risk")["body"]]


def of_kind(path, kind: str) -> pl.DataFrame:
    return read_journal(path).filter(pl.col("kind") == kind)


def test_limits_that_are_never_reached_change_nothing(under, recorded):
    dispatcher, path, config = under()
    with Journal(path.with_suffix(".free")) as journal:
        walk([config], recorded[1], journal)
    free = read_journal(path.with_suffix(".free"))
    assert read_journal(path)["hash"].to_list() == free["hash"].to_list()
    assert dispatcher.oversight.state.peak_usdt > 1_000.0 - 50.0


def test_so_many_losses_in_a_row_leave_only_exits(under):
    dispatcher, path, config = under(account={"max_losses_in_a_row": 1})
    listed = trades(path, config.config_hash, config.symbol)
    assert (listed["net_pnl_usdt"] < 0).to_list() == [False] * (listed.height - 1) + [True]
    assert levels(path) == ["REDUCING"] and dispatcher.oversight.state.level is Level.REDUCING
    assert {json.loads(body)["cause"] for body in of_kind(path, "missed")["body"]} >= {"REDUCING: losses"}


@pytest.mark.parametrize("is_paper", [True, False])
def test_an_entry_that_rests_on_paper_is_taken_back_once_only_exits_are_left(tmp_path, is_paper):
    asked = []
    desks = [
        SimpleNamespace(key=("hash", symbol), is_busy=True, is_resting=rests, close=lambda told, _: asked.append(told))
        for symbol, rests in (("BTCUSDT", True), ("ETHUSDT", False))
    ]
    command = {"key": "k", "symbol": None, "by": "me", "asked_ms": 0, "is_late": False}
    with Journal(tmp_path / "paused.sqlite") as journal:
        oversight = Oversight(journal)
        oversight.watch(desks, is_paper=is_paper)
        oversight.obey(1_000, command | {"command": "pause"})
        oversight.obey(2_000, command | {"command": "resume"})
    assert asked == [CloseAsked(time_ms=1_000, leg=Leg.CLOSE, reason="risk")] * is_paper


def test_a_drawdown_closes_what_is_held_and_halts(under):
    dispatcher, path, config = under(account={"max_drawdown": 0.001})
    assert dispatcher.oversight.state.level is Level.HALTED
    listed = trades(path, config.config_hash, config.symbol)
    assert "risk" in set(listed["reason"][-2:])
    reached = of_kind(path, "risk")["ts_ms"][-1]
    assert (listed["entry_time"].dt.epoch("ms") <= reached + 1_000).all()


def test_a_day_that_has_lost_what_it_may_takes_no_entry_more(under):
    dispatcher, path, _ = under(account={"max_daily_drawdown": 0.001})
    assert dispatcher.oversight.state.level is Level.ACTIVE
    assert dispatcher.oversight.state.spent_day == dispatcher.oversight.state.day
    assert any("the day has lost" in json.loads(body)["cause"] for body in of_kind(path, "missed")["body"])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"max_entries_per_hour": 1}, "entries within the hour"),
        ({"max_symbol_notional_usdt": 400.0}, "USDT in the symbol"),
        ({"max_total_notional_usdt": 400.0}, "USDT in all"),
        ({"entry_hours": (3,)}, "no entries in hour"),
    ],
)
def test_an_entry_beyond_its_limits_is_missed_with_the_reason(under, entries, words):
    _, path, config = under(entries=entries)
    assert any(words in json.loads(body)["cause"] for body in of_kind(path, "missed")["body"])
    most = 3 if "max_entries_per_hour" in entries else 0
    assert trades(path, config.config_hash, config.symbol).height <= most


def test_an_entry_on_its_way_counts_against_the_limit_of_all(recorded, tmp_path):
    from live.tests.conftest import a_config

    config, folder = recorded
    configs = [config, a_config(**{**OFTEN, "target_bps": 41.0})]  # which decide on the same bars
    entries = replace(WIDE.entries, max_open_orders_per_symbol=2, max_total_notional_usdt=600.0)
    told = {"configs": [each.config_hash for each in configs], "risk": asdict(replace(WIDE, entries=entries))}
    with Log(feed_folder(tmp_path / "twins.sqlite")) as log:
        for segment in wal.segments(folder):
            for record in wal.read(segment):
                is_start = record.kind is Kind.NOTE and json.loads(record.payload)["note"] == "started"
                changed = json.loads(record.payload) | told if is_start else {}
                log.write(*record[:3], wal.note(changed.pop("note"), **changed) if is_start else record.payload)
        log.flush()
        with Journal(tmp_path / "twins.sqlite") as journal:
            walk(configs, log.folder, journal)
    held = pl.concat([trades(tmp_path / "twins.sqlite", each.config_hash, each.symbol) for each in configs])
    held = held.sort("entry_time")
    assert held.height > 2 and not (held["entry_time"] < held["exit_time"].shift(1).forward_fill()).any()


def test_a_restart_resets_nothing_and_other_limits_are_refused(under):
    dispatcher, path, config = under(account={"max_losses_in_a_row": 1})
    with Log(feed_folder(path)) as log, Journal(path) as journal:
        again = walk([config], log.folder, journal)
        assert again.oversight.state == dispatcher.oversight.state
        with pytest.raises(ValueError, match=r"a log under another \[risk\]"):
            Session([config], None, None, log, Journal(path.with_suffix(".x")), resolution="tick", limits=WIDE)


@pytest.mark.parametrize(("held_at", "asked_at"), [(1.0, 10.0), (10.0, 1.0)])
def test_the_margin_of_what_is_held_is_counted_at_its_own_leverage(tmp_path, held_at, asked_at):
    def a_desk(symbol: str, leverage: float, notional_usdt: float) -> SimpleNamespace:
        rules = SimpleNamespace(config=SimpleNamespace(orders=SimpleNamespace(leverage=leverage)))
        return SimpleNamespace(
            key=("hash", symbol), rules=rules, notional_usdt=notional_usdt, result_usdt=0.0, is_busy=False, side=0
        )

    desks = [a_desk("BTCUSDT", held_at, 800.0 * held_at), a_desk("ETHUSDT", asked_at, 0.0)]  # 800 of margin
    with Journal(tmp_path / "margin.sqlite") as journal:
        oversight = Oversight(journal)
        entries = replace(WIDE.entries, max_symbol_notional_usdt=1e6, max_total_notional_usdt=1e6)
        oversight.limits = replace(WIDE, entries=entries)
        oversight.watch(desks, is_paper=True)
        assert oversight.refusal(desks[1], 1_000, 200.0 * asked_at) is None
        assert oversight.refusal(desks[1], 1_000, 300.0 * asked_at) == "300 USDT of margin, at most 200"
