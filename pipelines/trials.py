"""The lake's memory of who looked at which days: every search, and every holdout that was opened."""

import getpass
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256

import polars as pl

from data.config import config_hash
from data.lake import Lake
from data.object_store import RemoteLake
from data.schema import HOLDOUTS, TRIALS
from research.bars import Bars
from research.evidence import Trials
from research.sweep import SweepConfig, search_rows


def count_trials(lake: Lake, config: SweepConfig, bars: Bars, results: pl.DataFrame, run: str) -> Trials:
    """Write down that these configs were evaluated on these days, and say what the lake knows of the days.

    A search that repeats an older one, on the same days with the same configs, costs and orders, is that one. A lake in
    object storage is only read: what is searched there is not counted for others.

    Parameters
    ----------
    results : ranked table of the symbol.
    run : name of the run's folder.
    """
    frame = bars.frame[: search_rows(config, bars.frame.height)]
    sharpes = results["in_sample_sharpe"].fill_nan(0.0)
    searched = {"grid": config.grid} if config.is_grid else {"configs": sha256(config.table().tobytes()).hexdigest()}
    row = {
        "symbol": bars.symbol,
        "strategy": config.strategy,
        "interval": config.interval,
        "from_time": frame["open_time"][0],
        "to_time": frame["close_time"][-1],
        "digest": config_hash({**searched, "costs": asdict(config.costs), "orders": asdict(config.orders)}),
        "configs": results.height,
        "sharpe_mean": sharpes.mean(),
        "sharpe_variance": sharpes.var() or 0.0,
        "run": run,
        "evaluated_time": datetime.now(UTC),
    }
    if not isinstance(lake, RemoteLake):
        lake.append(TRIALS.name, pl.DataFrame([row]), origin=run)
    known = lake.scan(TRIALS.name, symbols=[bars.symbol])
    known = known.filter(pl.col("from_time") < row["to_time"], pl.col("to_time") > row["from_time"])
    own = known.filter(*(pl.col(name) == row[name] for name in TRIALS.key))
    since = own["evaluated_time"].min() or row["evaluated_time"]
    earlier = known.filter(pl.col("evaluated_time") < since)
    return trials_of(earlier, known if own.height else pl.concat([known, pl.DataFrame([row], schema=known.schema)]))


def trials_of(earlier: pl.DataFrame, known: pl.DataFrame) -> Trials:
    """The figures of rows of ``TRIALS``: the searches that came earlier, and all of them."""
    configs = known["configs"]
    total = int(configs.sum())
    mean = float((configs * known["sharpe_mean"]).sum() / total)
    spread = known["sharpe_variance"] + (known["sharpe_mean"] - mean) ** 2
    return Trials(
        earlier=int(earlier["configs"].sum()),
        total=total,
        variance=float((configs * spread).sum() / total),
    )


def opened(
    lake: Lake, *, symbol: str, start: datetime, end: datetime, config: str, run: str, net_pnl_usdt: float, trades: int
) -> tuple[int, datetime]:
    """Write down that a holdout was opened for a config; which opening of these days that is, and when it first was.

    The same config again sees nothing new: it keeps its number. Any other config is the next one.

    Parameters
    ----------
    start, end : rows of the holdout, UTC.
    config : hash of the config that was run on it.

    Raises
    ------
    ValueError
        When the lake is only read: an opening that nobody can write down must not happen.
    """
    row = {
        "symbol": symbol,
        "from_time": start,
        "to_time": end,
        "config_hash": config,
        "opened_by": f"{getpass.getuser()}@{socket.gethostname()}",
        "run": run,
        "net_pnl_usdt": net_pnl_usdt,
        "trades": trades,
        "opened_time": datetime.now(UTC),
    }
    lake.append(HOLDOUTS.name, pl.DataFrame([row]), origin=run)
    known = lake.scan(HOLDOUTS.name, symbols=[symbol])
    overlapping = known.filter(pl.col("from_time") < end, pl.col("to_time") > start).sort("opened_time")
    own = overlapping.filter(pl.col("config_hash") == config)["opened_time"].min()
    others = overlapping.filter(pl.col("opened_time") < own, pl.col("config_hash") != config)
    return 1 + others["config_hash"].n_unique(), own


def searches_before(lake: Lake, moment: datetime, *, symbol: str, start: datetime, end: datetime) -> int:
    """How many searches had run over some of the days of [start, end) before a moment."""
    known = lake.scan(TRIALS.name, symbols=[symbol])
    overlapping = known.filter(pl.col("from_time") < end, pl.col("to_time") > start)
    return overlapping.filter(pl.col("evaluated_time") < moment).height
