"""A strategy that nobody knows yet is swept, promoted, traded on paper and shown: SWEEP LAKE FOLDER CACHE.

Research is plain (``research.jit``), for to compile it all for a new strategy takes a minute; the rest is compiled as
ever, from the cache of the checkout that has not got the strategy.
"""

import json
import sys
from pathlib import Path

import numba


def main(sweep: str, place: str, folder: Path, cache: str) -> None:
    """Modules come after it is settled where compiled code lies."""
    numba.config.CACHE_DIR = cache
    from data.lake import Lake
    from live.config import load_chosen
    from live.journal_trades import trades
    from live.tests.paper_run import paper
    from pipelines import notebook_sweep, notebook_trades
    from pipelines.promote import promote
    from pipelines.sweep_job import run_sweep

    lake = Lake(Path(place))
    run = run_sweep(Path(sweep), lake, folder / "runs", lambda what, done, total: None)
    chosen = promote(run, lake, rank=1, destination=folder / "chosen.toml")
    config, journal = load_chosen(chosen).config, folder / "paper.sqlite"
    paper([config], journal, hours=1.0, resolution="bar")
    swept = notebook_sweep.open_sweep(str(run.path), place, "")
    traded = notebook_trades.follow(str(chosen), str(journal), place, "2026-01-05", "2026-01-05T12:00")
    told = {
        "strategy": config.strategy,
        "swept": run.frame("results").height,
        "paper": trades(journal, config.config_hash, config.symbol).height,
        "notebook 04": notebook_sweep.about_sweep(swept).data,
        "notebook 05": notebook_trades.about_config(traded).data,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])
