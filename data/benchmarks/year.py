"""A synthetic year for benchmarks: 20 symbols, 365 days, 20,000 trades and 1,440 bars a day each; seeded.

The day files are written as a daily close leaves them and become part of the lake at once, by two processes: going
through the recorder would take a year too.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from data import parquet
from data.lake import Lake
from data.manifest import NewFile
from data.schema import KLINES, TRADES, conform
from data.table import TIME_MS, Table

FIRST_DAY = date(2025, 1, 1)
DAYS = 365
SYMBOLS = tuple(f"S{number:02d}USDT" for number in range(20))
TRADES_A_DAY = 20_000
_DAY_MS = 86_400_000
_MINUTES = 1_440
_PROCESSES = 2


def year(folder: Path, tell: Callable[[int, int], None], days: int = DAYS) -> tuple[Lake, bool]:
    """The lake of the year in ``folder``, and whether it had to be made.

    Parameters
    ----------
    tell : called with how many days are done, and of how many.
    days : fewer for a test.
    """
    lake = Lake(folder, create=True)
    have = {entry.dt for entry in lake.files(KLINES.name)}
    wanted = [FIRST_DAY + timedelta(days=number) for number in range(days)]
    missing = [day for day in wanted if day not in have]
    if not missing:
        return lake, False
    with lake.merging(), ProcessPoolExecutor(_PROCESSES, get_context("spawn")) as pool:
        places = [(day, lake.place(TRADES.name, day), lake.place(KLINES.name, day)) for day in missing]
        made: list[NewFile] = []
        for done, files in enumerate(pool.map(partial(_make, folder), places), start=len(have) + 1):
            made += files
            tell(done, days)
            if len(made) >= 60 or done == days:
                lake.replace([], made)
                made = []
    return lake, True


def _make(root: Path, place: tuple[date, str, str]) -> list[NewFile]:
    """Write one day of both tables."""
    day, trades_path, klines_path = place
    trades, klines = day_rows(day)
    return [_write(root, TRADES, day, trades_path, trades), _write(root, KLINES, day, klines_path, klines)]


def _write(root: Path, table: Table, day: date, path: str, rows: pl.DataFrame) -> NewFile:
    written = parquet.write(root / path, rows, table, level=parquet.MERGED_LEVEL)
    return NewFile.of(table, day, path, rows, written=written, origin="synthetic year", level=2)


def day_rows(day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(trades, one-minute klines) of every symbol on one day, in the tables' order."""
    number = (day - FIRST_DAY).days
    midnight_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000
    trades, klines = zip(
        *(_symbol_day(symbol, at, number, midnight_ms) for at, symbol in enumerate(SYMBOLS)), strict=True
    )
    return pl.concat(trades), pl.concat(klines)


def _symbol_day(symbol: str, at: int, number: int, midnight_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    random = np.random.default_rng((at, number))
    count = TRADES_A_DAY
    times = midnight_ms + ((np.arange(count) + random.random(count)) * (_DAY_MS / count)).astype(np.int64)
    ticks = 100_000 + 1_000 * at + np.cumsum(random.integers(-2, 3, count))
    prices = np.maximum(ticks, 1) / 100
    quantities = np.maximum(np.rint(random.lognormal(0.0, 1.0, count) * 1_000), 1) / 1_000
    buys = random.random(count) < 0.5
    ids = number * count + np.arange(count)
    own = {"venue": pl.lit("aster"), "symbol": pl.lit(symbol), "source": pl.lit("synthetic")}
    trades = pl.DataFrame(
        {
            "agg_trade_id": ids,
            "event_time": pl.Series(times).cast(TIME_MS),
            "price": prices,
            "quantity": quantities,
            "is_buyer_maker": ~buys,
            "first_trade_id": 2 * ids,
            "last_trade_id": 2 * ids + 1,
            "sent_time": pl.Series(times + 3).cast(TIME_MS),
        }
    ).with_columns(**own, is_ambiguous=False)
    starts = np.searchsorted(times, midnight_ms + 60_000 * np.arange(_MINUTES))
    ends = np.append(starts[1:], count)
    notional = prices * quantities
    klines = pl.DataFrame(
        {
            "open_time": pl.Series(midnight_ms + 60_000 * np.arange(_MINUTES)).cast(TIME_MS),
            "open": prices[starts],
            "high": np.maximum.reduceat(prices, starts),
            "low": np.minimum.reduceat(prices, starts),
            "close": prices[ends - 1],
            "volume": np.add.reduceat(quantities, starts),
            "quote_volume": np.add.reduceat(notional, starts),
            "trade_count": ends - starts,
            "taker_buy_volume": np.add.reduceat(quantities * buys, starts),
            "taker_buy_quote_volume": np.add.reduceat(notional * buys, starts),
        }
    ).with_columns(**own, interval=pl.lit("1m"))
    return conform(trades, TRADES), conform(klines, KLINES)
