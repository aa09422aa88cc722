"""What a month of a liquid symbol takes of the memory: importing it, merging it, building features over it.

Each is a process of its own, the command that a user would type; its largest resident size counts.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from data import parquet
from data.benchmarks.figures import figure
from data.lake import Lake
from data.manifest import NewFile
from data.schema import BOOK_TICKER, DEPTH, INSTRUMENTS, KLINES, MARK_PRICE, TABLES, TRADES, conform
from data.table import TIME_MS, Table

DAYS = 30
TARGET_MB = 1_500.0
SYMBOL = "LIQUIDUSDT"
A_DAY = {"trades": 300_000, "book_ticker": 864_000, "depth": 864_000, "mark_price": 86_400, "klines": 1_440}
_IMPORTED_A_DAY = {"trades": 300_000, "prices": 86_400, "orderbook": 86_400}  # the prior collector kept one a second
_FIRST = date(2025, 1, 1)
_HOURS, _LEVELS = 24, 5
_HOUR_MS = 3_600_000
_PROCESSES = 2
_ROOT = Path(__file__).parents[2]
_FEATURES = "return_bps_20,volatility_bps_60,trade_imbalance_20,spread_ticks,book_imbalance,mark_index_basis_bps"
# The kernel tells a process's own peak since it began; what a parent is told of its child includes the parent's peak.
_RUN = """
import atexit, re, runpy, sys
from pathlib import Path
peak = lambda: re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
atexit.register(lambda: print(peak()))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class _Hour(NamedTuple):
    """A file to be written: the rows of a table in an hour, counted from the first."""

    table: str
    number: int
    path: str


def memory_figures(folder: Path, days: int = DAYS) -> list[dict]:
    """Figures of the three; see ``data.benchmarks.figures``.

    Parameters
    ----------
    folder : where the lakes and the files to import are made; emptied first, and left empty.
    days : fewer for a test.
    """
    shutil.rmtree(folder, ignore_errors=True)
    recorded, imported, files = (folder / name for name in ("recorded", "imported", "files"))
    _record(recorded, days)
    _write_collection(files, days)
    cli = ("pipelines.cli",)
    start, end = _FIRST, _FIRST + timedelta(days=days)
    of_symbol = ("--symbol", SYMBOL, "--start", f"{start}", "--end", f"{end}", "--names", _FEATURES)
    measured = (
        ("import", f"{_millions(_IMPORTED_A_DAY.values(), days)} CSV rows",
         (*cli, "import", f"{files}", "--format", "collector", "--lake", f"{imported}")),
        ("compaction", f"{_millions(A_DAY.values(), days)} rows in {_HOURS * days:,} files a table",
         ("data.compaction", f"{recorded}", "--daily")),
        ("features", f"bars and {_FEATURES.count(',') + 1} features",
         (*cli, "features", *of_symbol, "--lake", f"{recorded}")),
    )  # fmt: skip
    figures = []
    for what, rows, arguments in measured:
        used = figure(
            f"memory: {what} of {days} days of a liquid symbol, {rows}", _peak_mb(*arguments), "MB", at_most=TARGET_MB
        )
        figures.append(used)
    shutil.rmtree(folder)
    return figures


def _millions(rows_a_day: Sequence[int], days: int) -> str:
    return f"{sum(rows_a_day) * days / 1e6:.1f} M"


def _peak_mb(module: str, *arguments: str) -> float:
    """The largest resident size of a run of ``python -m module``, in millions of bytes.

    Raises
    ------
    RuntimeError
        When it fails; with the end of what it said.
    """
    command = [sys.executable, "-c", _RUN, module, *arguments]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip()[-400:]
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with status {done.returncode}: {words}")
    return int(done.stdout.split()[-1]) * 1_024 / 1e6


def _record(root: Path, days: int) -> None:
    """A lake as hourly merges leave it: an hour a file."""
    lake = Lake(root, create=True)
    rules = {"venue": "aster", "symbol": SYMBOL, "event_time": _moment(0), "status": "TRADING", "tick_size": 0.1}
    rules |= {"step_size": 0.001, "min_notional_usdt": 5.0, "funding_interval_hours": 8.0, "source": "synthetic"}
    lake.append(INSTRUMENTS.name, conform(pl.DataFrame([rules]), INSTRUMENTS), origin="synthetic")
    with lake.merging(), ProcessPoolExecutor(_PROCESSES, get_context("spawn")) as pool:
        hours = [
            _Hour(table, number, lake.place(table, _moment(number).date()))
            for number in range(_HOURS * days)
            for table in A_DAY
        ]
        lake.replace([], list(pool.map(partial(_write_hour, root), hours, chunksize=8)))


def _write_hour(root: Path, hour: _Hour) -> NewFile:
    table = TABLES[hour.table]
    rows = _rows(table, hour.number)
    written = parquet.write(root / hour.path, rows, table)
    return NewFile.of(table, _moment(hour.number).date(), hour.path, rows, written=written, origin="hour", level=1)


def _moment(hour: int) -> datetime:
    return datetime(_FIRST.year, _FIRST.month, _FIRST.day, tzinfo=UTC) + timedelta(hours=hour)


def _rows(table: Table, hour: int) -> pl.DataFrame:
    """A table's rows in that hour, in its order: a walk of ticks, seeded."""
    count = A_DAY[table.name] // _HOURS
    random = np.random.default_rng((hour, count))
    first_ms = int(_moment(hour).timestamp()) * 1_000
    times_ms = first_ms + ((np.arange(count) + random.random(count)) * (_HOUR_MS / count)).astype(np.int64)
    ids = hour * count + np.arange(count)
    ticks = 600_000 + np.cumsum(random.integers(-1, 2, count))

    def sizes() -> np.ndarray:
        return np.maximum(np.rint(random.lognormal(0.0, 1.0, count) * 1_000), 1) / 1_000

    if table is TRADES:
        own = {"agg_trade_id": ids, "price": ticks / 10, "quantity": sizes(), "is_buyer_maker": ticks % 2 == 0,
               "first_trade_id": 2 * ids, "last_trade_id": 2 * ids + 1}  # fmt: skip
    elif table is BOOK_TICKER:
        own = {"update_id": 10 * ids, "bid_price": ticks / 10, "bid_quantity": sizes(),
               "ask_price": (ticks + 1) / 10, "ask_quantity": sizes()}  # fmt: skip
    elif table is DEPTH:
        own = {"update_id": 10 * ids + 5, "previous_update_id": 10 * ids - 5, "levels": _LEVELS}
        for level in range(_LEVELS):
            own |= {f"bid_price_{level}": (ticks - level) / 10, f"ask_price_{level}": (ticks + 1 + level) / 10}
            own |= {f"{side}_quantity_{level}": sizes() for side in ("bid", "ask")}
    elif table is MARK_PRICE:
        times_ms = first_ms + np.arange(count) * 1_000
        own = {"mark_price": ticks / 10, "index_price": (ticks + 2) / 10, "funding_rate": 1e-4}
    else:
        times_ms = first_ms + np.arange(count) * 60_000
        own = {"interval": "1m", "open": ticks / 10, "high": (ticks + 9) / 10, "low": (ticks - 9) / 10,
               "close": ticks / 10, "volume": 60.0, "quote_volume": 6.0 * ticks, "trade_count": 208,
               "taker_buy_volume": 30.0, "taker_buy_quote_volume": 3.0 * ticks}  # fmt: skip
    own |= {table.time: pl.Series(times_ms).cast(TIME_MS)}
    if table is KLINES:
        received_ms = times_ms + 60_200
    else:
        received_ms = times_ms + 20
        own |= {"sent_time": pl.Series(times_ms + 3).cast(TIME_MS)} if "sent_time" in table.columns else {}
    jitter_ns = random.integers(0, 1_000_000, count)
    own |= {"recv_time": pl.Series(received_ms * 10**6 + jitter_ns).cast(table.columns["recv_time"])}
    constant = {"venue": "aster", "symbol": SYMBOL, "source": "ws"}
    return conform(pl.DataFrame(own).with_columns(**{name: pl.lit(value) for name, value in constant.items()}), table)


def _write_collection(folder: Path, days: int) -> None:
    """The prior collector's three files of the symbol, one row after the other."""
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(_PROCESSES, get_context("spawn")) as pool:
        list(pool.map(partial(_write_csv, folder, days), _IMPORTED_A_DAY))


def _write_csv(folder: Path, days: int, kind: str) -> None:
    count = _IMPORTED_A_DAY[kind]
    with (folder / f"{kind}_{SYMBOL}.csv").open("wb") as file:
        for day in range(days):
            random = np.random.default_rng((day, count))
            first_ms = int(_moment(_HOURS * day).timestamp()) * 1_000
            times_ms = first_ms + (np.arange(count) * (_HOURS * _HOUR_MS / count)).astype(np.int64)
            ticks = 600_000 + np.cumsum(random.integers(-1, 2, count))
            sizes = np.maximum(np.rint(random.lognormal(0.0, 1.0, (count, 2)) * 1_000), 1) / 1_000
            price = ticks / 10
            if kind == "trades":
                columns = {"id": day * count + np.arange(count), "unix_timestamp_ms": times_ms,
                           "side": np.where(ticks % 2, "buy", "sell"), "price": price,
                           "quantity": sizes[:, 0]}  # fmt: skip
            elif kind == "prices":
                columns = {"unix_timestamp_ms": times_ms, "bid": price, "ask": price + 0.1, "mid": price + 0.05}
            else:
                columns = {"unix_timestamp_ms": times_ms, "lastUpdateId": 10 * (day * count + np.arange(count))}
                for at, (side, step) in enumerate((("bid", -0.1), ("ask", 0.1))):
                    for level in range(_LEVELS):
                        columns[f"{side}_price_{level}"] = price + step * (level + at)
                        columns[f"{side}_qty_{level}"] = sizes[:, at]
            pl.DataFrame(columns).write_csv(file, include_header=day == 0, float_precision=6)
