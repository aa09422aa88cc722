"""Paper trading on the loopback exchange, over sockets: the run, its replay and the backtest of its log are one."""

import json
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from data import wal
from data.gaps import moment
from data.lake import Lake
from data.loopback.server import Outage
from data.synthetic import generate
from data.wal import Kind, Log
from live.desk import Desk
from live.dispatch import Dispatcher
from live.feed import BarClosed, Gap
from live.journal import Journal, feed_folder, read_journal
from live.oversight import News
from live.session import Session
from live.tests.paper_run import MARKET, OFTEN, OPENING, START, assert_proven, bars_of, paper

MINUTE = timedelta(minutes=1)


@pytest.fixture
def often(config):
    """A config that trades a few times an hour on the synthetic market: ``often(stop_bps=10)``."""
    return lambda **changes: config(**{**OFTEN, **changes})


@pytest.fixture
def told(monkeypatch):
    """Every bar and gap that a desk is handed from now on."""
    slots: list[BarClosed | Gap] = []
    handle = Desk.handle

    def heard_and_handled(desk, event, journal):
        if isinstance(event, (BarClosed, Gap)):
            slots.append(event)
        handle(desk, event, journal)

    monkeypatch.setattr(Desk, "handle", heard_and_handled)
    return slots


def records(path) -> list[wal.Record]:
    return [record for segment in wal.segments(feed_folder(path)) for record in wal.read(segment)]


@pytest.mark.parametrize(("resolution", "hours", "least"), [("tick", 4.0, 20), ("bar", 1.2, 6)])
def test_paper_its_replay_and_the_backtest_of_its_log_are_one(often, tmp_path, resolution, hours, least):
    configs, path = [often()], tmp_path / "paper.sqlite"
    session, head = paper(configs, path, hours=hours, resolution=resolution)
    (listed,) = assert_proven(configs, path, head)
    assert listed.filter(pl.col("reason") != "open").height >= least
    assert session.dispatcher.seats[0].desk.closed_trades == listed.filter(pl.col("reason") != "open").height
    assert session.progress().net_pnl_usdt == pytest.approx(
        listed.filter(pl.col("reason") != "open")["net_pnl_usdt"].sum()
    )


def test_two_symbols_and_two_configs_of_one_symbol_trade_side_by_side(often, tmp_path):
    configs = [often(), often(symbol="ASTERUSDT"), often(stop_bps=12.0)]
    path = tmp_path / "paper.sqlite"
    _, head = paper(configs, path, hours=1.0)
    assert all(listed.height > 1 for listed in assert_proven(configs, path, head))
    opened = [record for record in records(path) if b'"opened"' in record.payload and record.kind is Kind.NOTE]
    assert len(opened) == 1  # one stream for all


def outages(seed: int) -> list[Outage]:
    """Ten cuts in three hours, 1 to 90 s long."""
    random = np.random.default_rng(seed)
    at_s = np.sort(random.choice(100, 10, replace=False)) * 100.0 + random.uniform(0, 10, 10)
    lengths_s = random.uniform(1, 90, 10)
    return [Outage(at=START + timedelta(seconds=60 + float(at)), seconds=float(length))
            for at, length in zip(at_s, lengths_s, strict=True)]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_every_closed_bar_comes_once_and_in_order_while_the_line_is_cut_ten_times(often, told, tmp_path, seed):
    configs, path = [often()], tmp_path / "paper.sqlite"
    session, head = paper(configs, path, hours=3.0, outages=outages(seed))
    assert session.dispatcher.reconnects == 10
    feed, slots = session.dispatcher.seats[0].feed, list(told)
    minutes = range(feed.first_ms, feed.told_until_ms, feed.length_ms)
    assert [event.row.open_ms for event in slots] == [*minutes] and len(minutes) > 180
    assert all(isinstance(event, BarClosed) for event in slots)
    assert_proven(configs, path, head)
    klines = Lake(path.with_suffix(".lake")).scan("klines", symbols=["BTCUSDT"])
    recovered = klines.filter(pl.col("source") == "rest", pl.col("recv_time").is_not_null())
    assert recovered.height >= 3


@pytest.mark.parametrize(("resolution", "hours"), [("tick", 3.0), ("bar", 0.8)])
def test_a_bar_that_rest_does_not_have_either_is_a_gap_and_takes_no_entry(often, told, tmp_path, resolution, hours):
    configs, path = [often(volume_window_bars=3, volatility_window_bars=2)], tmp_path / "paper.sqlite"
    session, head = paper(
        configs,
        path,
        hours=hours,
        resolution=resolution,
        outages=outages(3),
        at_the_start=lambda exchange: exchange.refuse_rest("klines", seconds=86_400.0),
    )
    slots, feed = list(told), session.dispatcher.seats[0].feed
    assert slots[0].row.open_ms == feed.first_ms
    assert set(np.diff([event.row.open_ms for event in slots])) == {60_000}
    gaps = [event.row.open_ms for event in slots if isinstance(event, Gap)]
    assert len(gaps) >= 1 and feed.gaps == len(gaps)
    (listed,) = assert_proven(configs, path, head)
    assert listed.height > 1 and not set(gaps) & set(listed["entry_row_time"].dt.epoch("ms"))
    lake = Lake(path.with_suffix(".lake"))
    assert bars_of(configs[0], feed, lake).frame.filter("is_gap")["open_time"].dt.epoch("ms").to_list() == gaps
    ledger = lake.scan("gaps", symbols=["BTCUSDT"]).sort("from_time")
    bars = ledger.filter(table="klines")  # given up, each by itself, and not found missing once more
    assert bars.select("from_time", "to_time", "state").rows() == [
        (minute - MINUTE, minute + MINUTE, "unrepairable") for minute in map(moment, gaps)
    ]
    quotes = ledger.filter(table="book_ticker")  # what the outages cost beside the bars
    assert quotes["cause"].to_list() == ["reconnect"] * session.dispatcher.reconnects


@pytest.fixture
def history(tmp_path):
    """A lake of the market's first half hour of klines."""
    lake = Lake(tmp_path / "history", create=True)
    klines = generate(MARKET, "BTCUSDT", OPENING.date())["klines"]
    lake.append("klines", klines.filter(pl.col("open_time") < OPENING + 30 * MINUTE), origin="test")
    return lake


def test_a_warm_start_from_lake_and_rest_loses_no_time(often, told, history, tmp_path):
    configs, path = [often(volume_window_bars=35)], tmp_path / "paper.sqlite"
    session, head = paper(configs, path, hours=1.0, lake=history.root)
    feed, desk = session.dispatcher.seats[0]
    live_ms = next(event.row.open_ms for event in told if event.row.open_ms + 60_000 >= session.dispatcher.since_ms)
    assert (live_ms - feed.first_ms) // 60_000 == desk.rules.lookback_bars - 1 == 34
    assert live_ms < START.timestamp() * 1_000  # the bar that was running when we came
    answers = [record.payload for record in records(path) if record.kind is Kind.ANSWER and b"klines" in record.payload]
    assert len(answers) == 2  # of the lake, then of REST
    assert feed.gaps == 0
    (listed,) = assert_proven(configs, path, head)
    assert listed["entry_row_time"].dt.epoch("ms").min() - live_ms < 35 * 60_000 and listed.height > 3


def test_a_stopped_run_goes_on_with_its_position(often, tmp_path):
    configs, path = [often(stop_bps=60.0, target_bps=120.0, activation_bps=80.0)], tmp_path / "paper.sqlite"
    held = 0
    for hour in range(3):
        session, head = paper(configs, path, hours=0.8, start=START + timedelta(hours=hour))
        held += session.dispatcher.seats[0].desk.side != 0
    assert_proven(configs, path, head)
    events = read_journal(path)
    kinds = Counter(events["kind"])
    assert kinds["start"] == 1 and kinds["end"] == 3 and kinds["held"] == held >= 1
    assert events.filter(pl.col("kind") == "intent")["client_order_id"].is_unique().all()


def test_a_run_ends_with_its_market_and_says_so(often, tmp_path):
    near_the_end = OPENING + timedelta(days=MARKET.days) - 2 * MINUTE
    session, _ = paper([often()], tmp_path / "paper.sqlite", hours=1.0, start=near_the_end)
    assert session.ended_early.startswith("the exchange's market ended at 2026-01-05 11:00:10 UTC")
    assert json.loads(records(tmp_path / "paper.sqlite")[-1].payload)["note"] == "stopped"


def test_a_log_of_the_future_or_of_another_resolution_is_refused(often, tmp_path):
    configs, path = [often()], tmp_path / "paper.sqlite"
    paper(configs, path, hours=0.2)
    with pytest.raises(ValueError, match="by the exchange's clock; give another journal"):
        paper(configs, path, hours=0.2, start=START - timedelta(minutes=10))
    with pytest.raises(ValueError, match="is a log of resolution tick: go on with that"):
        paper(configs, path, hours=0.2, resolution="bar")
    with pytest.raises(ValueError, match="the input log is of configs"):
        paper([often(stop_bps=11.0)], path, hours=0.2)


def test_a_symbol_that_the_exchange_does_not_have_is_refused(often, tmp_path):
    with pytest.raises(
        ValueError, match=r"trades NOPEUSDT, and this exchange has ASTERUSDT, BTCUSDT: name an exchange"
    ):
        paper([often(symbol="NOPEUSDT")], tmp_path / "paper.sqlite", hours=0.1)


def test_nothing_is_done_that_the_log_does_not_hold(often, tmp_path, monkeypatch):
    """A disk that refuses the log ends the run before anything is acted on."""
    configs, path = [often()], tmp_path / "paper.sqlite"
    flush, taken, refused_ns = Log.flush, [], []

    def refusing(log):
        if len(taken) > 50:
            refused_ns.append(taken[50][0])
            raise OSError(28, "No space left on device")
        flush(log)

    monkeypatch.setattr(Log, "flush", refusing)
    take = Session.burst

    def counted(session, connection=0, frames=()):
        taken.extend(frames)
        take(session, connection, frames)

    monkeypatch.setattr(Session, "burst", counted)
    with pytest.raises(OSError, match="No space left"):
        paper(configs, path, hours=0.5)
    monkeypatch.undo()
    with Journal(path) as journal:
        held_ns = max(record.recv_ns for record in records(path))
        assert journal.last_ms * 10**6 <= min(held_ns, refused_ns[0]) + 10**6


def test_a_connection_that_is_renewed_while_it_is_open_is_no_reconnect(often, tmp_path):
    lives = [("opened", 1), ("opened", 2), ("closed", 1), ("closed", 2), ("opened", 3)]
    with Journal(tmp_path / "paper.sqlite") as journal:
        dispatcher = Dispatcher([often()], journal)
        counted = []
        for ns, (what, life) in enumerate(lives):
            dispatcher.take(wal.Record(ns, Kind.NOTE, 0, wal.note(what, life=life)))
            counted.append((dispatcher.reconnects, len(dispatcher.open)))
    assert counted == [(0, 1), (0, 2), (0, 1), (0, 0), (1, 1)]


def test_a_start_that_was_cut_off_is_made_again(often, tmp_path):
    configs, path = [often()], tmp_path / "paper.sqlite"
    with Log(feed_folder(path)) as log:
        told = {"configs": [configs[0].config_hash], "resolution": "tick", "since_ms": 0}
        log.write(1, Kind.NOTE, 0, wal.note("started", **told))
    _, head = paper(configs, path, hours=0.2)
    assert_proven(configs, path, head)


def test_what_happens_as_a_run_ends_is_told_to_people(often, tmp_path, monkeypatch):
    length, told = Session._run_length, []

    async def ends(session: Session) -> None:
        await length(session)
        session._alerts = SimpleNamespace(post=lambda kind, detail: told.append((kind, detail)))
        session.dispatcher.oversight.news.append(News(kind="level", detail="ACTIVE → HALTED: drawdown"))

    monkeypatch.setattr(Session, "_run_length", ends)
    paper([often()], tmp_path / "paper.sqlite", hours=0.02)
    assert told == [("level", "ACTIVE → HALTED: drawdown")]
