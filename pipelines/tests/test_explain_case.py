"""What is planted in a paper run is named, with its amount, and nothing else is; a frozen case says it again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from click.testing import CliRunner

from data.lake import Lake
from data.sealer import seal_folder
from data.wal import Record
from live.brokers.ticks import TickBroker
from live.journal import feed_folder
from live.journal_trades import events_of, trades_of
from live.orders import ExitFilled, FundingPaid
from live.tests.conftest import a_config
from live.tests.paper_run import OFTEN, START, backtests, paper
from live.tests.planted import (
    closing,
    dearer_by,
    filling,
    holding_on,
    missing,
    missing_at_rest,
    records_of,
    walked,
    with_a_cut,
    with_late_bars,
)
from live.tests.test_newest_journal import a_journal
from pipelines import explain_case
from pipelines.cli import cli
from pipelines.explain_case import Evidence, freeze, gather, thaw
from pipelines.parity import proofs_of
from research.explanation import PER_USDT, Cause, explain, millionths
from research.resting import RestingEntry

CONFIG = a_config(**OFTEN)
FROM_MS = int(START.timestamp() * 1_000)
MINUTE_MS = 60_000


class Run(NamedTuple):
    """What all of them begin with."""

    path: Path
    lake: Lake
    evidence: Evidence
    records: list[Record]
    listed: pl.DataFrame


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A paper run of 75 market minutes: its evidence beside the lake made of it, its records, its backtest's trades."""
    folder = tmp_path_factory.mktemp("explained")
    path = folder / "paper.sqlite"
    session, _ = paper([CONFIG], path, hours=1.25)
    lake = Lake(folder / "lake", create=True)
    seal_folder(feed_folder(path), lake, keep=True)
    _, listed = backtests(CONFIG, session.dispatcher.seats[0].feed, lake, lambda bars: bars)
    (evidence,) = gather(path, feed_folder(path), lake)
    return Run(path, lake, evidence, records_of(path), listed)


def explained(evidence):
    """The explanation, its sums checked."""
    found = explain(evidence.case)
    assert sum(found.causes.values()) == found.live - found.backtest
    for trade in found.trades:
        assert millionths(trade.live) - millionths(trade.backtest) == trade.difference
    listed = trades_of(evidence.events)
    assert [trade.live.trade_id for trade in found.trades if trade.live] == listed["trade_id"].to_list()
    assert found.live == sum(round(net * PER_USDT) for net in listed["net_pnl_usdt"])
    return found


@pytest.fixture
def through(run, tmp_path, monkeypatch):
    """The run again through another broker, explained: ``through(missing(3))``; or what was heard changed too."""

    def traded(broker=TickBroker, records=None):
        path = walked(records or run.records, CONFIG, tmp_path / "again.sqlite", monkeypatch, broker)
        if records is not None:
            (evidence,) = gather(path, feed_folder(path), run.lake)
            return explained(evidence)
        # Who heard the same has the same recording.
        return explained(replace(run.evidence, events=events_of(path, CONFIG.config_hash, CONFIG.symbol)))

    return traded


def made(found) -> dict[str, float]:
    """The causes that made a difference, USDT."""
    return {cause.value: amount / PER_USDT for cause, amount in found.causes.items() if amount}


def test_a_run_that_did_what_the_backtest_does_has_nothing_to_explain(run):
    for evidence in (run.evidence, replace(run.evidence, reference=None)):
        found = explained(evidence)
        assert made(found) == {} and len(found.trades) == run.listed.height >= 6
        assert found.backtest == sum(round(net * PER_USDT) for net in run.listed["net_pnl_usdt"])


def test_late_bars_are_latency(run, through):
    assert list(made(through(records=with_late_bars(run.records, 20.0)))) == ["latency"]


def cut(records):
    return with_a_cut(records, FROM_MS + 38 * MINUTE_MS, FROM_MS + 52 * MINUTE_MS, CONFIG.symbol)


def test_a_cut_connection_is_data_with_the_bars_that_were_given_up(run, through):
    assert list(made(through(records=cut(run.records)))) == ["data"]


def test_higher_fees_are_fees_to_the_millionth(run, through):
    listed = run.listed
    closed = listed.filter(listed["reason"] != "open")
    turnover = (listed["quantity"] * listed["entry_price"]).sum() + (closed["quantity"] * closed["exit_price"]).sum()
    assert made(through(dearer_by(2.0))) == {"fee": pytest.approx(-turnover * 2.0 / 1e4, abs=1e-5)}


def test_a_missed_fill_is_one_and_what_was_traded_in_its_place_is_its_consequence(run, through):
    found = through(missing(3))
    assert list(made(found)) == ["missed fill"]
    (lost,) = [trade for trade in found.trades if trade.trade_id == run.listed["trade_id"][2]]
    assert lost.live is None and lost.difference == -round(run.listed["net_pnl_usdt"][2] * PER_USDT)


def test_a_position_closed_by_hand_is_the_operators(run, through):
    found = through(closing(4, 5_000))
    assert list(made(found)) == ["operator"]
    (closed,) = [trade for trade in found.trades if trade.live and trade.live.reason == "operator"]
    assert closed.trade_id == run.listed["trade_id"][3] and closed.causes == {Cause.OPERATOR: closed.difference}


def test_all_of_it_at_once_still_adds_up_and_each_is_named(run, through):
    class Worse(dearer_by(2.0), missing(2), closing(3, 5_000)):
        """Dear, forgetful, and interfered with."""

    found = through(Worse, records=cut(with_late_bars(run.records, 5.0)))
    assert set(made(found)) == {"data", "latency", "missed fill", "operator", "fee"}


@pytest.mark.parametrize(
    ("broker", "cause"),
    [
        (filling(price=0.5), "price"),
        (filling(quantity=0.001), "rounding"),
        (filling(quantity=-0.001), "missed fill"),
        (holding_on(2), "exit path"),
    ],
)
def test_what_the_model_does_not_know_has_its_name(through, broker, cause):
    assert list(made(through(broker))) == [cause]


class Paying(TickBroker):
    """Pays funding that nobody announced, with every exit."""

    def on(self, event):
        reports = super().on(event)
        paid = [FundingPaid(time_ms=each.time_ms, row=each.row, paid_usdt=0.25) for each in reports
                if isinstance(each, ExitFilled)]  # fmt: skip
        return [*paid, *reports]


def test_funding_that_was_paid_otherwise_is_funding(through):
    found = through(Paying)
    closed = sum(1 for trade in found.trades if trade.live and trade.live.reason != "open")
    assert made(found) == {"funding": -0.25 * closed}


@pytest.mark.parametrize(
    ("said", "cause"), [("exposure 900 of 800 USDT", "signal"), ("REDUCING: operator", "operator")]
)
def test_an_entry_that_was_kept_back_is_the_gates_or_the_operators(run, said, cause):
    kept_back, events = run.listed.row(2, named=True), run.evidence.events
    own = pl.col("trade_id") == kept_back["trade_id"]
    decided = events.filter(own, pl.col("kind") == "decision")
    missed = decided.with_columns(kind=pl.lit("missed"), body=pl.lit(json.dumps({"cause": said})))
    others = events.filter(~own | pl.col("trade_id").is_null())
    found = explained(replace(run.evidence, events=pl.concat([others, decided, missed]).sort("seq")))
    assert made(found) == {cause: -round(kept_back["net_pnl_usdt"] * PER_USDT) / PER_USDT}


def test_a_position_that_was_taken_over_is_the_operators_and_not_the_rules(run):
    taken_over, events = run.listed.row(1, named=True), run.evidence.events
    is_its_decision = (pl.col("trade_id") == taken_over["trade_id"]) & (pl.col("kind") == "decision")
    found = explained(replace(run.evidence, events=events.filter(~is_its_decision.fill_null(value=False))))
    net = round(taken_over["net_pnl_usdt"] * PER_USDT)
    assert found.causes[Cause.SIGNAL] == -net and found.causes[Cause.OPERATOR] == net


def test_a_frozen_case_is_explained_anywhere_and_is_the_same_file_again(run, tmp_path, monkeypatch):
    path = walked(run.records, CONFIG, tmp_path / "missed.sqlite", monkeypatch, missing(1))
    evidence = replace(run.evidence, events=events_of(path, CONFIG.config_hash, CONFIG.symbol))
    found = explained(evidence)
    frozen = freeze(evidence, tmp_path / "elsewhere" / "a.case")
    assert freeze(thaw(frozen), tmp_path / "b.case").read_bytes() == frozen.read_bytes()
    done = CliRunner().invoke(cli, ["explain", str(frozen), "--json"])
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.output)["cases"]
    assert told["difference_usdt"] == told["causes_usdt"]["missed fill"] == (found.live - found.backtest) / PER_USDT
    assert len(told["trades"]) == len(found.trades)
    page = (tmp_path / "elsewhere" / "a.case.html").read_text()
    assert "EXPLAINED" in page and "missed fill" in page


@pytest.mark.parametrize(
    ("name", "words"), [("nothing", "no journal or case nothing"), ("damaged.case", "is not a case that")]
)
def test_what_is_no_run_is_said_in_one_sentence(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.case").write_bytes(b"PK nothing")
    done = CliRunner().invoke(cli, ["explain", name])
    assert words in str(done.exception)


def test_what_is_not_followed_is_refused_in_a_sentence(run, monkeypatch):
    body = pl.col("body").str.replace('"resolution":"tick"', '"resolution":"bar"')
    by_bars = replace(run.evidence, events=run.evidence.events.with_columns(body))
    with pytest.raises(ValueError, match="is a run at bar resolution: only runs at tick resolution are followed"):
        explain(by_bars.case)
    monkeypatch.setattr(explain_case, "looks_at_map", lambda config: True)
    with pytest.raises(ValueError, match="momentum decides by the liquidation map, which is not made again from bars"):
        CliRunner().invoke(cli, ["explain", str(run.path)], catch_exceptions=False)
    proofs = proofs_of(run.path, feed_folder(run.path), None)
    assert [proof.holds for proof in proofs] == [True, None, None, None]
    assert "decides by the liquidation map" in proofs[1].found


@pytest.fixture
def at_rest(run, tmp_path, monkeypatch):
    """The run again with entries that rest, through a broker: its journal, and its evidence beside the same lake."""
    config = a_config(**OFTEN, resting=RestingEntry(offset_bps=1.0, lifetime_ms=90_000))
    hashes = [each.config_hash.encode() for each in (CONFIG, config)]
    records = [record._replace(payload=record.payload.replace(*hashes)) for record in run.records]

    def traded(broker):
        path = walked(records, config, tmp_path / "resting.sqlite", monkeypatch, broker)
        (evidence,) = gather(path, feed_folder(path), run.lake)
        return path, evidence

    return traded


def test_a_run_whose_entries_rest_is_its_backtest(run, at_rest):
    path, _ = at_rest(TickBroker)
    *proofs, traded = proofs_of(path, feed_folder(path), run.lake)
    assert [proof.holds for proof in (*proofs, traded)] == [True] * 4
    assert int(traded.found.split()[0]) > 2  # trades


def test_an_entry_that_rested_in_vain_is_a_missed_fill(at_rest):
    found = explained(at_rest(missing_at_rest(2))[1])
    assert list(made(found)) == ["missed fill"]


def test_the_latest_run_is_the_newest_journal_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(explain_case, "JOURNALS", tmp_path)
    with pytest.raises(LookupError, match=f"no journal of a run in {tmp_path}; `aster-live --mode paper` writes"):
        explain_case.find_run("latest")
    a_journal(tmp_path / "ran.sqlite", age_s=100)
    a_journal(tmp_path / "failed.sqlite", ())
    assert explain_case.find_run("latest").name == "ran.sqlite"
