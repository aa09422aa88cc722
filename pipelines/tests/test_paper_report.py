import tomllib
from dataclasses import replace

import polars as pl
import pytest

from conftest import SMALL_SWEEP
from data.config import load
from pipelines.paper_report import PaperRun, paper_gate, paper_section, paper_sentence
from research.bars import build_bars
from research.engine import backtest, backtest_ticks
from research.sweep import SweepConfig
from research.ticks import read_ticks, resolution_difference


@pytest.fixture(scope="module")
def market(synthetic_lake, synthetic_spec):
    """What a paper run on the synthetic market would have: config, bars, and both backtests."""
    sweep = load(SweepConfig, tomllib.loads(SMALL_SWEEP))
    config = sweep.trading_config("BTCUSDT", sweep.params(0))
    span = (synthetic_spec.start, synthetic_spec.end)
    terms = {"interval": "1m", "substitutions": config.substitutions}
    bars = build_bars(synthetic_lake, "BTCUSDT", *span, latency_ms=config.costs.latency_ms, **terms)
    ticks = read_ticks(synthetic_lake, "BTCUSDT", *span, **terms)
    return config, bars, backtest(config, bars, min_coverage=0.0).trades, backtest_ticks(config, bars, ticks)


@pytest.fixture
def paper(market) -> PaperRun:
    """A run that did what the backtest does."""
    config, bars, at_bars, ticks = market
    difference = resolution_difference(at_bars, ticks)
    return PaperRun(
        config=config,
        trades=ticks,
        ticks=ticks,
        at_bars=at_bars,
        bars=bars,
        difference=difference,
        is_same_chain=True,
        chain_head="0" * 64,
    )


def test_trade_for_trade_is_a_gate_that_holds(paper):
    count = f"{paper.trades.height}"
    assert paper_gate(paper).passes
    assert paper_gate(paper).value == f"{count} of {count} trades"
    assert "the same trades, to the last digit" in paper_sentence(paper)


def test_one_price_off_by_a_tick_fails_and_is_named(paper):
    first = pl.int_range(pl.len()) == 0
    price = paper.trades["exit_price"][0]
    other = paper.trades.with_columns(exit_price=pl.when(first).then(price + 0.1).otherwise("exit_price"))
    differs = replace(paper, trades=other)
    assert not paper_gate(differs).passes
    assert paper_gate(differs).value == f"{other.height - 1} of {other.height} trades"
    assert f"trade 1 ({other['trade_id'][0]}) has exit_price {price + 0.1}" in paper_sentence(differs)


def test_a_trade_that_only_paper_made_fails(paper):
    fewer = replace(paper, ticks=paper.ticks.head(-1))
    assert not paper_gate(fewer).passes
    assert f"{paper.trades.height} trades here, {paper.trades.height - 1} there" in paper_sentence(fewer)


def test_a_replay_that_wrote_another_journal_fails(paper):
    strayed = replace(paper, is_same_chain=False)
    assert not paper_gate(strayed).passes
    assert "the replay of the runner's log wrote another journal" in paper_sentence(strayed)


def test_the_section_shows_the_accounts_side_by_side_and_the_resolutions_apart(paper):
    section = paper_section(paper)
    accounts, resolutions, trades = section.tables
    assert accounts.rows[0] == (
        "trades", str(paper.trades.height), str(paper.ticks.height), str(paper.at_bars.height)
    )  # fmt: skip
    assert [label for label, _ in resolutions.rows] == list(paper.difference)
    assert trades.title.endswith("(paper)")
    assert len(section.figures) == 1


def test_a_run_without_trades_has_no_figure_and_proves_nothing(paper):
    idle = replace(paper, trades=paper.trades.clear(), ticks=paper.ticks.clear())
    assert paper_section(idle).figures == ()
    assert paper_gate(idle).passes is None
