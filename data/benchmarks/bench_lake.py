"""``aster bench lake``: how fast a year is queried, how small rows are stored, how fast files are merged and proven.

The shortest of repeated runs counts: other work on the machine only ever adds time. Everything is made in the folder
that is given; the synthetic year stays there and is used again.
"""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from data import parquet, wal
from data.benchmarks.figures import figure
from data.benchmarks.frames import mixed_frames
from data.benchmarks.memory import memory_figures
from data.benchmarks.year import DAYS, FIRST_DAY, SYMBOLS, day_rows, year
from data.compaction import compact
from data.convert import import_path
from data.coverage import coverage
from data.lake import Lake
from data.manifest import FileEntry, NewFile
from data.merge import merge
from data.schema import BOOK_TICKER, DEPTH, KLINES, RAW, TRADES
from data.sealer import seal
from data.table import Table

TARGET_BYTES = {TRADES.name: 11.0, BOOK_TICKER.name: 20.0, DEPTH.name: 60.0}
TARGET_RAW_BYTES = 36.0
TARGET_DAY_MS = 10.0
TARGET_MONTH_MS = 50.0
TARGET_COVERAGE_S = 1.0
TARGET_BUILD_MINUTES = 6.0
TARGET_TAIL_S = 1.0
TARGET_ROWS_PER_SECOND = 1_500_000.0

_REPEATS = 30
_FRAMES = 120_000
_PACE = 5_000  # frames a second
_FILES, _FILE_ROWS = 1_440, 2_000
_FLIPPED = 1_000
_COLLECTIONS = ("collector-2025-09-24", "collector-2025-11-28", "midfreq-logs")
_VWAP = "SELECT sum(price * quantity) / sum(quantity) AS vwap FROM trades"
_BARS = "SELECT * FROM klines ORDER BY open_time"
_RECORDED = "SELECT count(*) AS trades FROM trades WHERE source = 'ws'"
_COUNTED = "SELECT symbol, date_trunc('day', event_time) AS day, count(*) AS rows FROM trades GROUP BY ALL"
_FIRST_NS = 1_758_739_000 * 10**9

Tell = Callable[[str, int, int], None]


def bench_lake(folder: Path, real_data: Path | None, tell: Tell) -> list[dict]:
    """Figures: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Parameters
    ----------
    folder : where lakes are made.
    real_data : folder of the real recordings; without them no bytes per recorded row.
    tell : called with what is being measured, and how far it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measures = (
        ("queries over a year", lambda: _queries(folder / "year", real_data, tell)),
        ("bytes per row", lambda: _sizes(_empty(folder / "sizes"), real_data)),
        ("raw log and sealing", lambda: _sealing(_empty(folder / "sealed"), real_data)),
        ("compaction", lambda: _compaction(_empty(folder / "merged"))),
        ("verification", lambda: _verification(_empty(folder / "flipped"))),
        ("memory over thirty days", lambda: memory_figures(folder / "memory")),
    )
    figures = []
    for done, (what, measure) in enumerate(measures):
        tell(what, done, len(measures))
        figures += measure()
    tell("done", len(measures), len(measures))
    return figures


def _queries(folder: Path, real_data: Path | None, tell: Tell) -> list[dict]:
    """What people ask of a lake of a year: through it, and of DuckDB alone where somebody tells it the files."""
    begun = time.perf_counter()
    lake, is_new = year(folder, lambda done, of: tell("making the year", done, of), DAYS)
    minutes = (time.perf_counter() - begun) / 60
    symbol, day = SYMBOLS[7], _midnight(FIRST_DAY) + timedelta(days=DAYS // 2)
    month = {"start": day, "end": day + timedelta(days=30)}
    of_month = {"symbols": [symbol], **month}
    of_day = {**of_month, "end": day + timedelta(days=1)}
    csv = folder.parent / "month.csv"
    lake.scan(TRADES.name, **of_month, columns=["event_time", "price", "quantity"]).write_csv(csv)
    from_csv = (
        pl.scan_csv(csv, try_parse_dates=True)
        .filter(pl.col("event_time").dt.date() == day.date())
        .select((pl.col("price") * pl.col("quantity")).sum() / pl.col("quantity").sum())
    )
    rows = sum(entry.rows for entry in lake.files(TRADES.name))
    figures = []
    if is_new:
        what = f"making {rows / 1e6:.0f} M trades, once"
        figures.append(figure(what, minutes, "minutes", at_most=TARGET_BUILD_MINUTES))
    fresh = datetime.fromtimestamp(_FIRST_NS // 10**9, UTC)
    of_now = {"start": fresh - timedelta(hours=1), "end": fresh + timedelta(hours=1)}
    fresh_s = _logged_to_queried(lake, mixed_frames(5 * _PACE, real_data), **of_now)
    shutil.rmtree(folder / "wal")  # never sealed: the year stays as it was made
    return [
        *figures,
        figure(
            f"average price of a symbol's day among {rows / 1e6:.0f} M trades",
            _best_ms(lambda: lake.sql(_VWAP, **of_day)),
            "ms",
            baseline="the same from one month's CSV of the symbol",
            baseline_value=_best_ms(from_csv.collect),
            at_most=TARGET_DAY_MS,
        ),
        figure("the same by DuckDB alone, told the day's file", _alone_ms(lake, TRADES, _VWAP, of_day), "ms"),
        figure(
            "a symbol's month of 1m bars",
            _best_ms(lambda: lake.sql(_BARS, **of_month)),
            "ms",
            baseline="the same by DuckDB alone, told the month's files",
            baseline_value=_alone_ms(lake, KLINES, _BARS, of_month),
            at_most=TARGET_MONTH_MS,
        ),
        figure(
            f"coverage of everything, {len(SYMBOLS)} symbols and {DAYS} days",
            _best_ms(lambda: coverage(lake), repeats=3) / 1_000,
            "s",
            baseline="only to count the trades of each symbol's day by SQL, of thirty days",
            baseline_value=_best_ms(lambda: lake.sql(_COUNTED, **month), repeats=1) / 1_000,
            at_most=TARGET_COVERAGE_S,
        ),
        figure(
            f"a second of {_PACE:,} frames, logged to queried beside the year, slowest",
            fresh_s,
            "s",
            at_most=TARGET_TAIL_S,
        ),
    ]


def _alone_ms(lake: Lake, table: Table, query: str, narrowed: dict) -> float:
    """What a query takes that names its files and the symbol and time itself, in a DuckDB that does nothing else."""
    (symbol,), start, end = narrowed.values()
    days = [entry for entry in lake.files(table.name) if start.date() <= entry.dt < end.date()]
    rows = (
        f"(SELECT * FROM read_parquet({[str(lake.root / entry.path) for entry in days]}) WHERE symbol = '{symbol}' "
        f"AND {table.time} >= TIMESTAMPTZ '{start.isoformat()}' AND {table.time} < TIMESTAMPTZ '{end.isoformat()}')"
    )
    with duckdb.connect() as database:
        database.execute("SET GLOBAL parquet_metadata_cache = true")  # as the lake does
        return _best_ms(lambda: database.sql(query.replace(f"FROM {table.name}", f"FROM {rows}")).pl())


def _sizes(folder: Path, real_data: Path | None) -> list[dict]:
    """Stored bytes per recorded row, days closed, beside the same columns as CSV."""
    if real_data is None:
        return []
    lake = Lake(folder, create=True)
    for name in _COLLECTIONS:
        import_path(lake, real_data / name, format="midfreq" if name.startswith("midfreq") else "collector")
    compact(lake, level=2, now=datetime.now(UTC))
    figures = []
    for table, target in TARGET_BYTES.items():
        files = lake.files(table)
        rows = sum(entry.rows for entry in files)
        kept = lake.scan(table)
        told = kept.select(name for name in kept.columns if kept[name].null_count() < kept.height)
        figures.append(
            figure(
                f"{table}: {rows:,} recorded rows",
                sum(entry.bytes for entry in files) / rows,
                "bytes/row",
                baseline="CSV of the same columns",
                baseline_value=len(told.write_csv()) / rows,
                at_most=target,
            )
        )
    return figures


def _sealing(folder: Path, real_data: Path | None) -> list[dict]:
    """A recorder's log in the mix of the wire: queried while it grows, then sealed."""
    frames = mixed_frames(_FRAMES, real_data)
    lake = Lake(folder, create=True)
    slowest_s = _logged_to_queried(lake, frames)
    (segment,) = wal.all_segments(folder / "wal")
    begun = time.perf_counter()
    sealed = seal(segment, lake)
    seconds = time.perf_counter() - begun
    (entry,) = lake.files(RAW.name)
    return [
        figure(
            f"raw: {entry.rows:,} frames as they came",
            entry.bytes / entry.rows,
            "bytes/frame",
            baseline="on the wire",
            baseline_value=sum(map(len, frames)) / len(frames),
            at_most=TARGET_RAW_BYTES,
        ),
        figure(f"a second of {_PACE:,} frames, logged to queried, slowest", slowest_s, "s", at_most=TARGET_TAIL_S),
        figure("sealed: decoded, checked, written, read back", sealed.records / seconds, "frames/s", at_least=_PACE),
    ]


def _logged_to_queried(lake: Lake, frames: Sequence[bytes], **narrowed: datetime) -> float:
    """Write frames into the lake's log, a second of them at a time; how long it took at most until a query told all."""
    chance = random.Random(0)
    slowest_s = 0.0
    trades = 0
    with wal.Log(lake.root / "wal" / "0") as log:
        recv_ns = _FIRST_NS
        for first in range(0, len(frames), _PACE):
            for frame in frames[first : first + _PACE]:
                recv_ns += round(chance.expovariate(_PACE) * 1e9)
                log.write(recv_ns, wal.Kind.FRAME, wal.connection_of("aster"), frame)
                trades += b'"aggTrade"' in frame
            begun = time.perf_counter()
            seen = lake.sql(_RECORDED, **narrowed, tail=True)["trades"].item()
            slowest_s = max(slowest_s, time.perf_counter() - begun)
            assert seen == trades, (seen, trades)
    return slowest_s


def _compaction(folder: Path) -> list[dict]:
    """A day of minutes' files becomes one, twice: by itself, then as the daily close does it."""
    trades, _ = day_rows(FIRST_DAY)
    rows = pl.concat([trades] * 8).sort("event_time", maintain_order=True).head(_FILES * _FILE_ROWS)
    rows = rows.with_columns(pl.int_range(pl.len()).over("symbol").alias("agg_trade_id"))  # they follow the time
    lake = _filled(folder, [rows.slice(first, _FILE_ROWS) for first in range(0, rows.height, _FILE_ROWS)])
    entries = lake.files(TRADES.name)
    begun = time.perf_counter()
    with lake.merging():
        alone = merge(lake, TRADES, FIRST_DAY, entries, level=2)
    seconds = time.perf_counter() - begun
    (closed,) = compact(lake, level=2, now=_midnight(FIRST_DAY) + timedelta(days=2), tables=[TRADES.name]).merged
    same = [file.entry.sha256 for file in alone.files] == [entry.sha256 for entry in lake.files(TRADES.name)]
    return [
        figure(
            f"merged: {_FILES:,} files of {_FILE_ROWS:,} trades, proven before and after",
            rows.height / min(seconds, closed.seconds),
            "rows/s",
            baseline="DuckDB COPY of the same files, ordered, nothing proven",
            baseline_value=rows.height / _copy_s(folder, entries),
            at_least=TARGET_ROWS_PER_SECOND,
        ),
        figure("the same bytes when merged again", float(same), "of 1", at_least=1.0),
    ]


def _copy_s(folder: Path, entries: Sequence[FileEntry]) -> float:
    """Seconds that DuckDB takes to write the rows of files into one."""
    paths = ", ".join(f"'{folder / entry.path}'" for entry in entries)
    begun = time.perf_counter()
    duckdb.execute(
        f"COPY (SELECT * FROM read_parquet([{paths}]) ORDER BY symbol, event_time, agg_trade_id) TO "
        f"'{folder / 'copy.parquet'}' (FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
    ).fetchall()
    return time.perf_counter() - begun


def _verification(folder: Path) -> list[dict]:
    """One bit is flipped in each of many files."""
    trades, _ = day_rows(FIRST_DAY)
    chance = random.Random(0)
    lake = _filled(folder, [trades.slice(100 * number, 100) for number in range(_FLIPPED)])
    begun = time.perf_counter()
    clean = len(lake.verify())
    seconds = time.perf_counter() - begun
    for entry in lake.files():
        content = bytearray((folder / entry.path).read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / entry.path).write_bytes(content)
    found = {problem.path for problem in lake.verify()}
    return [
        figure(f"found: one flipped bit in each of {_FLIPPED:,} files", len(found) / _FLIPPED, "of 1", at_least=1.0),
        figure("found where nothing is wrong", float(clean), "files", at_most=0.0),
        figure("files proven", _FLIPPED / seconds, "files/s"),
    ]


def _filled(folder: Path, pieces: Sequence[pl.DataFrame]) -> Lake:
    """A lake with a sealed file of trades per piece."""
    lake = Lake(folder, create=True)
    with lake.merging():
        files = []
        for piece in pieces:
            path = lake.place(TRADES.name, FIRST_DAY)
            rows = piece.sort(TRADES.sort)
            written = parquet.write(folder / path, rows, TRADES)
            files.append(NewFile.of(TRADES, FIRST_DAY, path, rows, written=written, origin="bench"))
        lake.replace([], files)
    return lake


def _best_ms(measure: Callable[[], object], repeats: int = _REPEATS) -> float:
    """The shortest of some runs, after one that warms up."""
    measure()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        measure()
        seconds.append(time.perf_counter() - begun)
    return min(seconds) * 1_000


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
