"""``aster demo``: the main job end to end over sockets, on an exchange of our own, in its own folder.

Loopback exchange, recorder and paper runner are processes of their own, as they would be on real markets; time is told
by the exchange, so that days pass in seconds and every run records the same. Safe to interrupt and repeat: what was
recorded is kept, and what was not finished goes on.
"""

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tomli_w

from data import synthetic
from data.config import load
from data.lake import Lake
from data.schema import RAW, TRIALS
from data.sealer import seal_folder
from pipelines.children import alone_in
from pipelines.demo_exchange import Exchange
from pipelines.demo_paper import trade_on_paper
from pipelines.paper_report import paper_sentence, resolution_sentence
from pipelines.promote import promote
from pipelines.runs import FINISHED, default_runs, runs, write_whole
from pipelines.sweep_job import Progress, run_sweep
from pipelines.sweep_report import SYNTHETIC, write_sweep_report
from research.sweep import SweepConfig

MARKET = synthetic.MarketSpec(
    symbols=(synthetic.BTC_LIKE,),
    start=datetime(2026, 1, 5, tzinfo=UTC),
    days=9,
    seed=3,
    trades_per_second=0.3,
    quote_interval_s=2,
    depth_interval_s=20,
    mark_interval_s=1,
    momentum_edge=0.8,
)

SWEEP = """\
# A momentum sweep on the synthetic market. Money has no defaults.
name = "demo"
strategy = "momentum"
symbols = ["BTCUSDT"]
start = 2026-01-05
end = 2026-01-13           # from here on the winner trades on paper
capital_usdt = 1000.0      # returns and drawdowns are fractions of this
min_trades = 10            # fewer on a train fold and a config cannot be picked

[costs]
taker_fee_bps = 4.0
maker_fee_bps = 2.0
slippage_bps = 0.5
latency_ms = 150

[orders]
notional_usdt = 500.0
max_notional_usdt = 600.0
entry_limit_ticks = 2
cooldown_bars = 5

[folds]
train_days = 3.0
test_days = 1.0
embargo_bars = 240

[grid]
momentum_multiple = [1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0]
volatility_window_bars = [10, 15, 20, 30, 45, 60, 90, 120]
volume_multiple = [1.0, 1.3, 1.6]
volume_window_bars = [30]
target_bps = [60, 100, 150]
stop_bps = [30, 40, 50]
activation_bps = [25, 50]
activation_buffer_bps = [0.5]
callback_bps = [12]
target_gap_bps = [4]
max_spread_ticks = [10]
max_funding_bps = [5]
"""

RECORDER = """\
symbols = {symbols}
sockets = 1               # this exchange breaks no connection, and half the messages are recorded in half the time
flush_interval_s = 21600  # of market time, which passes in seconds
"""

_MARGIN = timedelta(minutes=1)  # the last bar's orders meet the market in the minute after it
_RECORDING = "record, market hours"


def run_demo(
    folder: Path | None, progress: Progress, *, market: synthetic.MarketSpec = MARKET, sweep: str = SWEEP
) -> dict[str, Any]:
    """Run every step and return the report's path and what happened, a sentence per step.

    The sweep's range is recorded; what the market goes on with is traded on paper.

    Raises
    ------
    ValueError
        When a process of the demo fails, with its last words; when the folder holds something else.
    """
    folder = (folder or default_runs() / "demo").resolve()
    with alone_in(folder) as lock, ExitStack() as running:
        _make_room(folder, market)
        config_path = folder / "sweep.toml"
        write_whole(config_path, sweep.encode())
        until = load(SweepConfig, config_path, "the demo's sweep").end + _MARGIN
        lake, recorded = _recorded(folder, market, until, lock, progress)
        rows = sum(entry.rows for entry in lake.files() if entry.table not in (RAW.name, TRIALS.name))
        run = run_sweep(config_path, lake, folder / "sweeps", progress)
        for older in runs(folder / "sweeps"):
            if older.path != run.path and older.manifest["state"] == FINISHED:
                shutil.rmtree(older.path)
        chosen = promote(run, lake, rank=1, destination=folder / "chosen.toml")
        exchange = Exchange(folder, running, lock, quiet_every_s=10.0)
        paper = trade_on_paper(chosen, lake, folder / "paper", exchange, until, market.end, progress)

    progress("report", 0, 1)
    report = write_sweep_report(run, lake, paper, folder / "report.html", market=SYNTHETIC)
    progress("report", 1, 1)
    return {
        "report": str(report),
        "run": str(run.path),
        "chosen": str(chosen),
        "paper": {"trades": paper.trades.height, "agrees": paper.agrees, "chain_head": paper.chain_head},
        "summary": [
            f"market: {rows:,} rows in the lake, {recorded:,} of them new",
            f"sweep: {run.manifest['configs']:,} configs on {len(run.frame('walk_forward_folds'))} folds",
            f"promoted: rank 1, config {paper.config.config_hash[:12]}",
            f"paper: {paper_sentence(paper)}",
            f"resolution: {resolution_sentence(paper)}",
        ],
    }


def _make_room(folder: Path, market: synthetic.MarketSpec) -> None:
    """Write down which market this folder is about; what was made of another one goes."""
    spec = folder / "market.toml"
    text = tomli_w.dumps(asdict(market))
    if spec.exists() and spec.read_text() == text:
        return
    there = [path for name in ("lake", "paper", "sweeps", "recorded.json") if (path := folder / name).exists()]
    if there and not spec.exists():
        names = ", ".join(path.name for path in there)
        raise ValueError(f"{folder} holds {names} that no demo put there: remove it, or give another --folder")
    for path in there:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_whole(spec, text.encode())


def _recorded(
    folder: Path, market: synthetic.MarketSpec, until: datetime, lock: int, progress: Progress
) -> tuple[Lake, int]:
    """The market up to ``until`` in a lake, and how many of its rows were recorded just now.

    A recorder does not trade, so the exchange need not wait for it as often as for a runner.
    """
    root, done = folder / "lake", folder / "recorded.json"
    hours = (until - market.start) // timedelta(hours=1)
    if done.exists() and json.loads(done.read_text())["until"] == until.isoformat():
        progress(_RECORDING, hours, hours)
        return Lake(root), 0
    reached = _reached(root, market)
    settings = folder / "recorder.toml"
    symbols = json.dumps([symbol.symbol for symbol in market.symbols])
    write_whole(settings, RECORDER.format(symbols=symbols).encode())
    length_s = (until - reached).total_seconds()
    with ExitStack() as running:
        exchange = Exchange(folder, running, lock, quiet_every_s=60.0)
        recorder = running.enter_context(exchange.client(
            "recorder", "pipelines.cli", "record", "--venue", exchange.at(reached), "--config", str(settings), "--lake",
            str(root), "--run-length", f"{length_s}s", "--json",
        ))  # fmt: skip
        exchange.follow(recorder, lambda now: progress(_RECORDING, (now - market.start) // timedelta(hours=1), hours))
    status = json.loads(recorder.printed)
    if status["trouble"]:
        raise ValueError(f"the recorder had trouble: {'; '.join(status['trouble'])}")
    progress(_RECORDING, hours, hours)
    write_whole(done, json.dumps({"until": until.isoformat(), "messages": status["messages"]}).encode())
    return Lake(root), sum(status["landed"].values())


def _reached(root: Path, market: synthetic.MarketSpec) -> datetime:
    """From when on a killed recording goes on: the whole minute up to which everything is in the lake."""
    if not (root / "wal").is_dir():
        return market.start
    lake = Lake(root, create=True)
    seal_folder(root / "wal", lake)
    spans = [lake.span("book_ticker", symbol.symbol) for symbol in market.symbols]
    if None in spans:
        return market.start
    return max(min(last for _, last in spans).replace(second=0, microsecond=0), market.start)
