"""The demo's paper run, and the replay and the backtests that must say the same."""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from data import wal
from data.lake import Lake
from data.sealer import seal_folder
from live.config import load_chosen
from live.identity import code_identity
from live.journal_trades import trades as journal_trades
from pipelines.demo_exchange import Exchange
from pipelines.paper_report import PaperRun
from pipelines.runs import write_whole
from pipelines.sweep_job import Progress
from research.bars import build_bars
from research.engine import TradingConfig, backtest, backtest_ticks
from research.ticks import read_ticks, resolution_difference

_TRADING, _CHECKING = "paper, market minutes", "replay and backtests"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def trade_on_paper(
    chosen: Path, lake: Lake, folder: Path, exchange: Exchange, start: datetime, end: datetime, progress: Progress
) -> PaperRun:
    """Run the promoted config on the exchange's streams from ``start`` to ``end``, and check what it did.

    A run that was killed goes on where its input log ends; a finished one is made again.

    Parameters
    ----------
    lake : for the runner's warm start.
    folder : of the run: journal, input log, the lake sealed from it.
    """
    config = load_chosen(chosen).config
    journal = folder / "journal.sqlite"
    feed = folder / "journal.sqlite.feed"
    _begin(folder, config)
    reached = max(_last_receipt(feed), start)
    span = end - start

    def tell(now: datetime) -> None:
        passed = min(max(now - start, timedelta()), span)
        progress(_TRADING, passed // timedelta(minutes=1), span // timedelta(minutes=1))

    with exchange.client(
        "paper runner", "live.runner", "--config", str(chosen), "--mode", "paper", "--venue", exchange.at(reached),
        "--resolution", "tick", "--lake", str(lake.root), "--journal", str(journal),
        "--run-length", f"{(end - reached).total_seconds()}s", "--json",
    ) as runner:  # fmt: skip
        exchange.follow(runner, tell)
    tell(end)

    progress(_CHECKING, 0, 2)
    with exchange.client(
        "replay", "live.runner", "--config", str(chosen), "--mode", "replay", "--feed", str(feed),
        "--journal", str(folder / "replay.sqlite"), "--json",
    ) as replay:  # fmt: skip
        replay.until(lambda: False)
    progress(_CHECKING, 1, 2)
    sealed = Lake(folder / "lake", create=True)
    seal_folder(feed, sealed, keep=True)
    paper = _beside_backtests(config, journal, sealed, json.loads(runner.printed), json.loads(replay.printed))
    (folder / _UNFINISHED).unlink()
    progress(_CHECKING, 2, 2)
    return paper


_UNFINISHED = "unfinished.json"


def _begin(folder: Path, config: TradingConfig) -> None:
    """Make room for a run, unless one of the same config and code is to be finished there."""
    identity = json.dumps({"config_hash": config.config_hash, "code_hash": code_identity().code_hash})
    unfinished = folder / _UNFINISHED
    if not unfinished.exists() or unfinished.read_text() != identity:
        shutil.rmtree(folder, ignore_errors=True)
        write_whole(unfinished, identity.encode())


def _last_receipt(feed: Path) -> datetime:
    """When the last record of an input log arrived, rounded up to the microsecond; 1970 without one."""
    last_ns = max((record.recv_ns for segment in wal.segments(feed)[-1:] for record in wal.read(segment)), default=0)
    return _EPOCH + timedelta(microseconds=-(-last_ns // 1_000))


def _beside_backtests(
    config: TradingConfig, journal: Path, sealed: Lake, paper: Mapping[str, Any], replay: Mapping[str, Any]
) -> PaperRun:
    """The run beside the backtests of its own recording, over the rows that its feed told."""
    told = paper["configs"][0]
    start, end = (_EPOCH + timedelta(milliseconds=told[name]) for name in ("rows_start_ms", "rows_end_ms"))
    terms = {"interval": config.interval, "substitutions": config.substitutions}
    bars = build_bars(sealed, config.symbol, start, end, latency_ms=config.costs.latency_ms, **terms)
    at_bars = backtest(config, bars, min_coverage=0.0).trades
    ticks = backtest_ticks(
        config, bars, read_ticks(sealed, config.symbol, start, end, **terms), end_ms=told["ended_ms"]
    )
    return PaperRun(
        config=config,
        trades=journal_trades(journal, config.config_hash, config.symbol),
        ticks=ticks,
        at_bars=at_bars,
        difference=resolution_difference(at_bars, ticks),
        bars=bars,
        is_same_chain=paper["chain_head"] == replay["chain_head"],
        chain_head=paper["chain_head"],
    )
