"""``aster demo``: the main job end to end on a synthetic market, in its own folder; safe to interrupt and repeat."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data import synthetic
from data.lake import Lake
from live.config import load_chosen
from live.journal import trades as journal_trades
from pipelines.identity import CHECKOUT
from pipelines.promote import promote
from pipelines.runs import FINISHED, default_runs, runs
from pipelines.sweep_job import Progress, run_sweep
from pipelines.sweep_report import Replay, write_sweep_report

MARKET = synthetic.MarketSpec(
    symbols=(synthetic.BTC_LIKE, synthetic.ALT_LIKE),
    start=datetime(2026, 1, 5, tzinfo=UTC),
    days=14,
    seed=7,
    trades_per_second=0.4,
    quote_interval_s=2,
    depth_interval_s=10,
    momentum_edge=0.6,
)

SWEEP = """\
# A momentum sweep on the synthetic market. Money has no defaults.
name = "demo"
strategy = "momentum"
symbols = ["BTCUSDT"]
start = 2026-01-05
end = 2026-01-19
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
cooldown_bars = 10

[folds]
train_days = 5.0
test_days = 2.0
embargo_bars = 240

[grid]
momentum_multiple = [1.2, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 3.0]
volatility_window_bars = [10, 15, 20, 30, 45, 60, 90, 120]
volume_multiple = [1.0, 1.3, 1.6]
volume_window_bars = [30]
target_bps = [60, 100, 150]
stop_bps = [30, 50]
activation_bps = [25, 50]
activation_buffer_bps = [0.5]
callback_bps = [10, 15]
target_gap_bps = [4]
max_spread_ticks = [10]
max_funding_bps = [5]
"""


def run_demo(
    folder: Path | None, progress: Progress, *, market: synthetic.MarketSpec = MARKET, sweep: str = SWEEP
) -> dict[str, Any]:
    """Run every step and return the report's path and what happened, a sentence per step.

    What an interrupted demo finished is kept: days of the market, blocks of the sweep, events of the replay.
    """
    folder = (folder or default_runs() / "demo").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lake = Lake(folder / "lake", create=True)
    landed = synthetic.fill_lake(lake, market, lambda done, total: progress("market, symbol-days", done, total))

    config_path = folder / "sweep.toml"
    config_path.write_text(sweep)
    run = run_sweep(config_path, lake, folder / "sweeps", progress)
    for older in runs(folder / "sweeps"):
        if older.path != run.path and older.manifest["state"] == FINISHED:
            shutil.rmtree(older.path)

    chosen_path = promote(run, lake, rank=1, destination=folder / "chosen.toml")
    chosen = load_chosen(chosen_path).config

    journal = run.path / "replay.sqlite"
    progress("replay", 0, 1)
    done = subprocess.run(
        [sys.executable, "-m", "live.runner", "--config", str(chosen_path), "--mode", "replay", "--lake",
         str(lake.root), "--start", run.config.start.isoformat(), "--end", run.config.end.isoformat(),
         "--journal", str(journal), "--json"],
        capture_output=True, text=True, cwd=CHECKOUT,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"the replay failed: {done.stderr.strip()}")
    progress("replay", 1, 1)
    replayed = json.loads(done.stdout)
    trades = journal_trades(journal, chosen.config_hash, chosen.symbol)

    progress("report", 0, 1)
    report = write_sweep_report(
        run, lake, Replay(config=chosen, trades=trades, journal=journal.name), folder / "report.html"
    )
    progress("report", 1, 1)
    rows = sum(entry.rows for entry in lake.files())
    return {
        "report": str(report),
        "run": str(run.path),
        "chosen": str(chosen_path),
        "replay": replayed,
        "summary": [
            f"market: {rows:,} rows in the lake, {sum(landed.values()):,} of them new",
            f"sweep: {run.manifest['configs']:,} configs on {len(run.frame('walk_forward_folds'))} folds",
            f"promoted: rank 1, config {chosen.config_hash[:12]}",
            f"replay: {trades.height} trades, net {trades['net_pnl_usdt'].sum():+.2f} USDT after fees and funding",
        ],
    }
