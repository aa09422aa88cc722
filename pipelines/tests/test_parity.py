"""The four proofs hold on a paper run, and each fails when what it proves is broken."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import polars as pl
import pytest
from click.testing import CliRunner

from data.convert import import_path
from data.exchange_info import instruments, read_exchange_info
from data.lake import Lake
from data.loopback.tape import RecordingSource
from data.schema import MARK_PRICE, conform
from data.sealer import seal_folder
from data.wal import Kind, Log, note, segments
from live.commands import Inbox
from live.dispatch import Dispatcher, first_open_ms, walk
from live.journal import Journal, feed_folder
from live.journal_trades import trades
from live.oversight import News
from live.risk import Level
from live.tests.conftest import a_config
from live.tests.paper_run import OFTEN, START, paper
from live.tests.planted import dearer_by, records_of, walked, with_a_cut
from live.tests.random_stream import random_log
from pipelines.cli import cli
from pipelines.explain_case import gather
from pipelines.nightly import Night, NightSettings
from pipelines.nightly_parity import parity
from pipelines.parity import parity_id, proofs_of
from research.explanation import explain
from research.recorded import Substitutions

CONFIG = a_config(**OFTEN)
_HEARD = ("trades", "book_ticker", "mark_price", "klines")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A paper run and the lake that a recorder beside it would have written."""
    folder = tmp_path_factory.mktemp("parity")
    path = folder / "paper.sqlite"
    paper([CONFIG], path, hours=0.6)
    lake = Lake(folder / "lake", create=True)
    seal_folder(feed_folder(path), lake, keep=True)
    return path, lake


def test_all_four_hold_and_say_the_same_of_the_same_run(run):
    path, lake = run
    proofs = proofs_of(path, feed_folder(path), lake)
    assert [proof.holds for proof in proofs] == [True] * 4
    assert len({proof.id for proof in proofs}) == 4
    assert parity_id(proofs) == parity_id(proofs_of(path, feed_folder(path), lake))


def test_without_a_recorder_the_feed_is_not_proven_and_the_command_says_so(run):
    path, _ = run
    done = CliRunner().invoke(cli, ["explain", str(path), "--parity", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [proof["holds"] for proof in told["proofs"]] == [True, True, None, True] and len(told["id"]) == 64


def test_a_night_proves_the_runs_of_its_day(run, tmp_path):
    path, lake = run
    settings = NightSettings(symbols=(CONFIG.symbol,), journals=str(path.parent))
    night = Night(day=START.date(), folder=tmp_path, lake=lake.root, settings=settings)
    found = parity(night)
    assert found.note == "one run of the day, all of it proven" and found.human == ()
    assert found.facts == {"paper.sqlite: parity": parity_id(proofs_of(path, feed_folder(path), lake))[:12]}
    assert parity(replace(night, day=START.date() + timedelta(days=1))).facts == {}


def test_a_night_tells_of_a_damaged_journal_and_proves_the_others(run, tmp_path, monkeypatch):
    path, lake = run
    sound = walked(records_of(path), CONFIG, tmp_path / "sound.sqlite", monkeypatch)
    damaged = walked(records_of(path), CONFIG, tmp_path / "damaged.sqlite", monkeypatch)
    damaged.write_bytes(b"no journal any more")
    settings = NightSettings(symbols=(CONFIG.symbol,), journals=str(tmp_path))
    found = parity(Night(day=START.date(), folder=tmp_path, lake=lake.root, settings=settings))
    assert [*found.facts] == [f"{sound.name}: parity"] and found.note == "2 runs of the day, 1 not proven"
    (sentence,) = found.human
    assert sentence.startswith("damaged.sqlite could not be proven: ")


def test_bars_that_were_not_heard_break_the_feed_alone(run, tmp_path, monkeypatch):
    path, lake = run
    from_ms = int((START + timedelta(minutes=20)).timestamp() * 1_000)
    cut = with_a_cut(records_of(path), from_ms, from_ms + 600_000, CONFIG.symbol)
    cut_path = walked(cut, CONFIG, tmp_path / "cut.sqlite", monkeypatch)
    proofs = proofs_of(cut_path, feed_folder(cut_path), lake)
    assert [proof.holds for proof in proofs] == [True, True, False, True]
    assert "0 others without a gap" in proofs[2].found


def test_a_broker_that_takes_more_breaks_replay_and_backtest(run, tmp_path, monkeypatch):
    path, _ = run
    dear = walked(records_of(path), CONFIG, tmp_path / "dear.sqlite", monkeypatch, dearer_by(1.0))
    assert [proof.holds for proof in proofs_of(dear, feed_folder(dear), None)] == [False, True, None, False]


def test_a_night_that_finds_a_run_decided_otherwise_halts_its_entries(run, tmp_path, monkeypatch):
    path, lake = run
    dear = walked(records_of(path), CONFIG, tmp_path / "dear.sqlite", monkeypatch, dearer_by(1.0))
    settings = NightSettings(symbols=(CONFIG.symbol,), journals=str(tmp_path))
    (sentence,) = parity(Night(day=START.date(), folder=tmp_path, lake=lake.root, settings=settings)).human
    with Inbox(dear) as inbox:
        (alarm,) = inbox.unread()
    assert (alarm.command, alarm.by) == ("parity", "nightly") and alarm.why in sentence and "P1 replay" in alarm.why
    with Log(feed_folder(dear)) as log, Journal(dear.with_name("obeyed.sqlite")) as journal:
        log.write(records_of(dear)[-1].recv_ns + 1, Kind.NOTE, 0, note("command", **asdict(alarm), is_late=False))
        log.flush()
        oversight = walk([CONFIG], log.folder, journal).oversight
    assert (oversight.level, oversight.state.lowered) == (Level.REDUCING, {"parity": Level.REDUCING})
    assert oversight.refusal(Mock(key=("", "")), 0, 1.0) == "REDUCING: parity"
    assert oversight.news[-1] == News(kind="parity", detail=alarm.why)


def test_all_four_hold_on_a_real_recording(real_data, tmp_path):
    """Aster's quotes, trades and bars of BNB as they came; nobody recorded its mark, so the middle stands for it."""
    began, lake = datetime(2025, 11, 28, 10, 36, 20, tzinfo=UTC), Lake(tmp_path / "lake", create=True)
    import_path(lake, real_data / "collector-2025-11-28", format="collector")
    import_path(lake, real_data / "klines" / "aster_BNBUSDT_1m.parquet", format="klines")
    answer, day = read_exchange_info(real_data / "exchangeInfo-response.json"), timedelta(days=1)
    contracts, _ = instruments(answer, source="import", effective=began - day)
    lake.append("instruments", contracts.filter(symbol="BNBUSDT"), origin="test")
    middle = ((pl.col("bid_price") + pl.col("ask_price")) / 2).alias("mark_price")
    told = {"funding_rate": pl.lit(1e-4), "next_funding_time": pl.lit(began + timedelta(hours=5))}
    marks = lake.scan("book_ticker").select("venue", "symbol", "event_time", "recv_time", "source", middle, **told)
    lake.append("mark_price", conform(marks, MARK_PRICE), origin="test")
    config = a_config(
        momentum_multiple=0.3, volume_multiple=0.3, volume_window_bars=5, max_spread_ticks=20.0, stop_bps=10.0,
        substitutions=Substitutions(funding_interval_hours=8.0),
    )  # fmt: skip
    path = tmp_path / "real.sqlite"
    paper([config], path, hours=0.25, start=began, source=RecordingSource(lake, ["BNBUSDT"], tables=_HEARD))
    proofs = proofs_of(path, feed_folder(path), lake)
    assert [proof.holds for proof in proofs] == [True] * 4, proofs
    assert proofs[2].found == "19 of 19 bars the same, 0 others without a gap on record"


@pytest.mark.parametrize("seed", range(2))
def test_a_wild_stream_is_proven_and_leaves_nothing_to_explain(seed, tmp_path):
    start_ms = 1_780_000_017_345
    config = a_config(
        momentum_multiple=0.1, volume_multiple=0.1, volatility_window_bars=3, volume_window_bars=3,
        max_spread_ticks=100.0, max_funding_bps=50.0, entry_limit_ticks=100, cooldown_bars=seed % 2, stop_bps=20.0,
        target_bps=20.0, activation_bps=10.0, taker_fee_bps=0.4, latency_ms=[0, 150, 2_000][seed % 3],
        substitutions=Substitutions(funding_interval_hours=8.0),
    )  # fmt: skip
    first_ms = first_open_ms(config, start_ms - 10_000)
    records = random_log(seed, config, slots=40, start_ms=start_ms, first_ms=first_ms, resolution="tick")
    with pytest.MonkeyPatch.context() as patch:
        path = walked(records, config, tmp_path / "wild.sqlite", patch)
    assert [proof.holds for proof in proofs_of(path, feed_folder(path), None)] == [True, True, None, True]
    (evidence,) = gather(path, feed_folder(path), None)
    found = explain(evidence.case)
    assert not any(trade.causes for trade in found.trades)
    assert len(found.trades) == trades(path, config.config_hash, config.symbol).height > 2


def test_a_run_that_goes_on_is_proven_while_its_log_grows(run, tmp_path, monkeypatch):
    records = records_of(run[0])[:-1]  # it was not stopped
    whole = walked(records, CONFIG, tmp_path / "whole.sqlite", monkeypatch)
    path = walked(records[:-1], CONFIG, tmp_path / "going.sqlite", monkeypatch)
    (grown,), (segment,) = (segments(feed_folder(each)) for each in (whole, path))
    more, take = [grown.read_bytes()[segment.stat().st_size :]], Dispatcher.take

    def writes_more(self, record):
        take(self, record)
        if more:
            with segment.open("ab") as log:
                log.write(more.pop())

    with monkeypatch.context() as patched:
        patched.setattr(Dispatcher, "take", writes_more)
        proofs = proofs_of(path, feed_folder(path), None)
    assert [proof.holds for proof in proofs] == [True, True, None, True] and not more


def test_a_run_that_was_killed_before_its_journal_had_all_of_its_log_is_its_replay(run, tmp_path, monkeypatch):
    records = records_of(run[0])[:-1]  # it was not stopped
    path = walked(records[: len(records) // 2], CONFIG, tmp_path / "killed.sqlite", monkeypatch)
    with Log(feed_folder(path)) as log:
        for record in records[len(records) // 2 :]:
            log.write(*record)
    assert proofs_of(path, feed_folder(path), None)[0].holds
