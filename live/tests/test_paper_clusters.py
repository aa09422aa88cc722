"""Strategies on clusters and liquidations trade on paper by what the streams tell; log, replay and backtest agree."""

import json
from collections import Counter
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from data import wal
from data.lake import Lake
from data.loopback.tape import SyntheticSource
from data.synthetic import BTC_LIKE, generate
from data.wal import Kind
from live.journal import feed_folder, read_journal
from live.session import Session
from live.tests import paper_run
from live.tests.paper_run import MARKET, OFTEN, OPENING, assert_proven, paper
from live.tests.test_replay_clusters import STRATEGIES, traded_by
from research.bars import Bars
from research.cluster_bars import with_clusters
from research.clusters import tables
from research.clusters.inputs import ReadBars
from research.clusters.lifecycle_frames import cluster_frame, event_frame
from research.clusters.live_map import UNKNOWN, LiveMap
from research.clusters.profiles import Profiles
from research.clusters.tables import STALE

MIDNIGHT = OPENING.replace(hour=0)
START = OPENING.replace(hour=7, minute=15, second=20)
WILD = replace(
    MARKET,
    symbols=(replace(BTC_LIKE, daily_volatility=0.15),),
    start=MIDNIGHT,
    days=8 / 24,
    trades_per_second=0.2,
    quote_interval_s=2,
)


@cache
def market() -> SyntheticSource:
    return SyntheticSource(WILD)


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """What a recorder had landed by the start: seven hours of marks, bars and open interest."""
    monkeypatch.setattr(paper_run, "market", market)
    history = Lake(tmp_path / "history", create=True)
    rows = generate(WILD, "BTCUSDT", MIDNIGHT.date())
    for name, time in (("klines", "open_time"), ("mark_klines", "open_time"), ("open_interest", "event_time")):
        history.append(name, rows[name].filter(pl.col(time) < START), origin="test")
    return history


@pytest.fixture
def configs(config):
    """The three strategies, all willing to trade."""
    willing = {"max_stop_bps": 2_000.0, "min_reward_risk": 0.02, "max_funding_bps": 5.0, "max_spread_ticks": 10.0}
    base = config(**{name: OFTEN[name] for name in ("notional_usdt", "max_notional_usdt", "symbol")})
    traded = [traded_by(module, base) for module in STRATEGIES]
    return [replace(each, params=each.params | willing) for each in traded]


class Recorder:
    """Every step of a map, as rows of the lake's tables."""

    def __init__(self, monkeypatch) -> None:
        self.steps = []
        step = LiveMap.step

        def recorded(live, bar, *, length):
            made = step(live, bar, length=length)
            self.steps.append((bar, *made))
            return made

        monkeypatch.setattr(LiveMap, "step", recorded)

    def beside(self, bars: Bars) -> Bars:
        """The bars with what the tables of these steps tell."""
        seen, made, walks = zip(*self.steps, strict=True)
        profiles = Profiles(**joined(made, Profiles), symbol="BTCUSDT", source="aster")
        rows = np.concatenate([walk.rows for walk in walks])
        rows["snapshot"] = np.repeat(np.arange(len(walks)), [len(walk.rows) for walk in walks])
        clusters = cluster_frame(rows, np.concatenate([walk.row_clusters for walk in walks]), profiles)
        events = (np.concatenate([getattr(walk, name) for walk in walks]) for name in ("events", "event_clusters"))
        told = event_frame(*events, None, symbol="BTCUSDT", source="aster")
        inputs = joined(seen, ReadBars) | {"open_interest_ms": profiles.time_ms}
        oi_state = tables.oi_rows(profiles, ReadBars(**inputs, symbol="BTCUSDT", source="aster"), "live")
        cluster_rows = tables.cluster_rows(clusters, profiles, "live")
        return with_clusters(bars, cluster_rows, tables.event_rows(told, "live"), oi_state)


def joined(parts, kind) -> dict:
    """Arrays of the parts, one after the other."""
    names = [field.name for field in fields(kind) if isinstance(getattr(parts[0], field.name, None), np.ndarray)]
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


@pytest.fixture
def recorder(monkeypatch):
    return Recorder(monkeypatch)


def killed_after(n_frames: int, monkeypatch) -> None:
    """From so many frames on the log can be written no more: the run ends as by a kill, without a last word."""
    burst, heard = Session.burst, []

    def cut_off(session, connection=0, frames=()):
        heard.extend(frames)
        if len(heard) > n_frames:
            raise OSError("killed")
        burst(session, connection, frames)

    monkeypatch.setattr(Session, "burst", cut_off)


def notes(path) -> Counter:
    """How often what was noted in a log."""
    found = [record for segment in wal.segments(feed_folder(path)) for record in wal.read(segment)]
    return Counter(record.payload.split(b'"')[3] for record in found if record.kind is Kind.NOTE)


def test_paper_trades_on_clusters_through_a_kill_and_its_replay_and_the_backtest_agree(
    configs, lake, recorder, tmp_path, monkeypatch
):
    path = tmp_path / "paper.sqlite"
    with monkeypatch.context() as patched:
        killed_after(900, patched)
        with pytest.raises(OSError, match="killed"):
            paper(configs, path, hours=1.0, lake=lake.root, start=START)
    _, head = paper(configs, path, hours=0.25, lake=lake.root, start=START + timedelta(minutes=9))
    assert notes(path)[b"stopped"] == notes(path)[b"resumed"] == 1
    _, shown, walk = recorder.steps[-1]
    recorder.steps.clear()
    listed = assert_proven(configs, path, head, beside=recorder.beside)
    assert all(trades.height > 0 for trades in listed)
    _, replayed, again = recorder.steps[-1]
    assert replayed.mass_usdt.tobytes() == shown.mass_usdt.tobytes()
    assert again.row_clusters.tobytes() == walk.row_clusters.tobytes()  # ids, ages and strengths
    lengths_ms = np.diff([int(bar.time_ms[0]) for bar, _, _ in recorder.steps])
    assert (lengths_ms > 10_000).sum() == 1  # nobody listened
    assert (lengths_ms < 5_000).any()  # the mark met a cluster


def test_paper_fades_the_liquidations_that_the_stream_tells_and_its_replay_and_the_backtest_agree(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr(paper_run, "market", market)
    path = tmp_path / "paper.sqlite"
    params = {"min_usdt": 3_000.0, "forced_window_bars": 2.0, "vwap_window_bars": 0.0, "min_vwap_distance_bps": 0.0}
    params |= {"target_bps": 40.0, "stop_bps": 30.0, "max_spread_ticks": 10.0, "max_funding_bps": 5.0}
    base = config(**{name: OFTEN[name] for name in ("notional_usdt", "max_notional_usdt", "symbol")})
    fade = replace(base, strategy="liquidation_fade", params=params)
    session, head = paper([fade], path, hours=1.5, start=START - timedelta(hours=1))
    (listed,) = assert_proven([fade], path, head)
    assert listed.height > 2
    assert any(
        "at most one per symbol and second" in said for said in session.dispatcher.seats[0].desk.header.assumptions
    )


def test_without_open_interest_paper_stays_out_and_says_why(configs, lake, tmp_path):
    path = tmp_path / "paper.sqlite"
    session, _ = paper(
        configs[1:2], path, hours=0.35, lake=lake.root, start=START,
        at_the_start=lambda exchange: exchange.refuse_rest("openInterest", seconds=86_400.0),
    )  # fmt: skip
    events = read_journal(path)
    told = events.filter(pl.col("kind") == "map")["body"].to_list()
    assert [json.loads(body)["reason"] for body in told] == [UNKNOWN, None, STALE]
    stale_ms = events.filter(pl.col("kind") == "map")["ts_ms"][-1]
    assert stale_ms - START.timestamp() * 1_000 == pytest.approx(15 * 60_000, abs=60_000)
    assert not events.filter(pl.col("kind") == "decision", pl.col("ts_ms") >= stale_ms).height
    assert notes(path)[b"unanswered"] > 30
    assert session.dispatcher.seats[0].feed.bars > 15
