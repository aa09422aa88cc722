"""What the dashboard costs: its answers under load, its memory, and that a flood of pages does not touch the runner.

Everything goes over sockets of this machine, to a process of its own. A runner's part is played by a journal writer
that commits an intent as a runner does before an order leaves.
"""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from data.benchmarks.figures import figure
from data.lake import Lake
from data.schema import conform
from data.schema_clusters import OI_STATE
from live.benchmarks.bench_dashboard_run import bench_fills, bench_flood, bench_table
from live.journal import Journal, Record
from research.clusters.grid import BUCKETS, first_bucket
from research.clusters.profiles import Profiles
from research.clusters.tables import heatmap_rows

TRADES = 10_000
DAYS = 30
PER_SECOND, SECONDS = 100, 5
TABS, SILENT_TABS = 40, 10
WRITES = 100
_PAUSE_S = 0.05  # more orders than a minute's bars ever make
STATE = ("/api/overview", "/api/positions", "/api/account", "/api/stats", "/api/orders", "/api/health", "/metrics")
PICTURE = (f"/api/heatmap/BTCUSDT/picture?days={DAYS}",)
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_ROOT = Path(__file__).parents[2]
_AT_WORK = """
maps = "{}/heatmap/**/*.parquet"
polars.scan_parquet(maps).group_by("symbol").agg(polars.len()).collect()
duckdb.sql(f"SELECT symbol, count(*) FROM '{{maps}}' GROUP BY symbol").pl()
"""
_LIBRARIES = "import fastapi, uvicorn, sse_starlette, polars, duckdb, pyarrow, numpy, tomli_w, click"


def bench_dashboard(folder: Path) -> list[dict]:
    """Answers per second and their latency, memory, and a runner's commits with and without a flood of pages."""
    folder.mkdir(parents=True, exist_ok=True)
    lake, journal = _lake(folder / "lake"), folder / "bench.sqlite"
    for old in folder.glob("bench.sqlite*"):
        old.unlink()
    with Journal(journal) as writer:
        for first in range(0, TRADES, 500):
            writer.append(record for number in range(first, first + 500) for record in _trade(number))
        alone = _commits(writer, TRADES)
        with _served(journal, lake) as served:
            state, picture = (_under_load(served.address, paths) for paths in (STATE, PICTURE))
            resident = _resident_mb(served.process.pid)
            sorted_table = bench_table(served.address, TRADES + WRITES)
            with _tabs(served.address) as heard:
                flooded = _commits(writer, 2 * TRADES)
                delays = _delays_ms(writer, heard)
    libraries = _libraries_mb(lake)
    return [
        figure("state p50 at 100 requests/s", np.quantile(state, 0.5), "ms"),
        figure("state p99 at 100 requests/s", np.quantile(state, 0.99), "ms", at_most=20.0),
        figure("30-day map p50 at 100 requests/s", np.quantile(picture, 0.5), "ms"),
        figure("30-day map p99 at 100 requests/s", np.quantile(picture, 0.99), "ms", at_most=100.0),
        figure("event in the journal to a listening client p95", np.quantile(delays, 0.95), "ms", at_most=250.0),
        figure("resident beyond its libraries", resident - libraries, "MB", baseline="libraries at work",
               baseline_value=libraries, at_most=100.0),
        figure("runner's commit p50 with 50 pages, 10 of them stuck", np.quantile(flooded, 0.5), "ms",
               baseline="no dashboard", baseline_value=np.quantile(alone, 0.5)),
        figure("runner's commit p99 with 50 pages, 10 of them stuck", np.quantile(flooded, 0.99), "ms",
               baseline="no dashboard", baseline_value=np.quantile(alone, 0.99)),
        *sorted_table,
        *bench_fills(folder),
        *bench_flood(folder, lambda path: _started(path, lake), _tabs),
    ]  # fmt: skip


class _Served(NamedTuple):
    process: subprocess.Popen
    address: tuple[str, int]


@contextmanager
def _served(journal: Path, lake: Path) -> Iterator[_Served]:
    process, address = _started(journal, lake)
    try:
        while not json.loads(_get(http.client.HTTPConnection(*address), "/api/trades?limit=1"))["total"] >= TRADES:
            time.sleep(0.1)
        yield _Served(process, address)
    finally:
        process.terminate()
        process.communicate()


def _started(journal: Path, lake: Path) -> _Served:
    """A dashboard that answers; the journal may come later."""
    command = [sys.executable, "-m", "live.dashboard.server", "--journal", str(journal), "--lake", str(lake), "--port",
               "0", "--candidate", str(lake.parent / "candidate.toml")]  # fmt: skip
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    told = urlsplit(process.stdout.readline().strip())
    return _Served(process, (told.hostname, told.port))


def _under_load(address: tuple[str, int], paths: Sequence[str]) -> np.ndarray:
    """Milliseconds from when a request was due to its last byte; they are due whether those before are back or not."""
    local = threading.local()
    for path in paths:
        _get(http.client.HTTPConnection(*address), path)  # the first one of a kind makes what is then kept
    begun = time.perf_counter() + 0.2

    def one(number: int) -> float:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(*address)
        due = begun + number / PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        _get(local.connection, paths[number % len(paths)])
        return (time.perf_counter() - due) * 1e3

    with ThreadPoolExecutor(8) as pool:
        return np.array(list(pool.map(one, range(PER_SECOND * SECONDS))))


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ValueError(f"{path}: expected 200, got {answer.status}: {body[:200]!r}")
    return body


def _commits(writer: Journal, first: int) -> np.ndarray:
    """Milliseconds that committing a decision and its intent takes, at some distance from each other."""
    spent = []
    for number in range(first, first + WRITES):
        decision, intent, *rest = _trade(number)
        begun = time.perf_counter()
        writer.append([decision, intent])
        spent.append((time.perf_counter() - begun) * 1e3)
        writer.append(rest)
        time.sleep(_PAUSE_S)
    return np.array(spent)


@contextmanager
def _tabs(address: tuple[str, int]) -> Iterator[dict[int, float]]:
    """Many open streams, some of which read nothing; when the first one heard each event."""
    heard: dict[int, float] = {}
    sockets = [socket.create_connection(address) for _ in range(TABS + SILENT_TABS)]
    for each in sockets:
        each.sendall(f"GET /api/stream HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode())

    def listen(one: socket.socket, is_first: bool) -> None:
        with one.makefile("rb") as lines:
            for line in lines:
                if is_first and line.startswith(b"id: "):
                    heard.setdefault(int(line[4:]), time.perf_counter())

    threads = [
        threading.Thread(target=listen, args=(one, at == 0), daemon=True) for at, one in enumerate(sockets[:TABS])
    ]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    yield heard
    for each in sockets:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def _delays_ms(writer: Journal, heard: dict[int, float]) -> np.ndarray:
    """From the commit of an event to a client that has it."""
    delays = []
    number = 1 + 5 * (TRADES + 2 * WRITES)  # events so far
    until = time.perf_counter() + 20.0
    while max(heard, default=0) < number and time.perf_counter() < until:
        time.sleep(0.01)
    for each in range(40):
        writer.append([_record(each, "note", None, None, said=each)])
        written, number = time.perf_counter(), number + 1
        until = written + 5.0
        while number not in heard and time.perf_counter() < until:
            time.sleep(0.001)
        delays.append((heard.get(number, until) - written) * 1e3)
        time.sleep(0.037)
    return np.array(delays)


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1e3


def _libraries_mb(lake: Path) -> float:
    """Of a process that imports them and has asked either engine one question: what they take to be at work."""
    told = "print(next(x for x in open('/proc/self/status') if x.startswith('VmRSS')).split()[1])"
    code = f"{_LIBRARIES}{_AT_WORK.format(lake)}{told}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e3


def _trade(number: int) -> list[Record]:
    """Five events of one trade: decided, sent, filled, protected, stopped."""
    trade, time_ms = f"t{number:09d}", 1_767_225_600_000 + number * 60_000
    side, price = (1 if number % 2 else -1), 60_000.0 + number % 97
    stop = price * (1 - side * 0.002 * (1 if number % 3 else -1))
    entry, exit_ = f"wbppr-{trade}-E0", f"wbppr-{trade}-S0"
    first = [_start()] if number == 0 else []
    fill = {"quantity": 0.01, "fee_usdt": 0.24}
    told = [
        _record(time_ms, "decision", trade, entry, side=side, features={}),
        _record(time_ms, "intent", trade, entry, leg="E", type="LIMIT IOC", side=side, quantity=0.01,
                decision_price=price),
        _record(time_ms, "fill", trade, entry, leg="E", side=side, price=price, filled_ms=time_ms, **fill),
        _record(time_ms, "intent", trade, exit_, leg="S", type="STOP_MARKET", side=-side, quantity=0.01,
                stop_price=stop),
        _record(time_ms + 30_000, "fill", trade, exit_, leg="S", side=-side, reason="stop", price=stop,
                filled_ms=time_ms + 30_000, **fill),
    ]  # fmt: skip
    return first + told


def _start() -> Record:
    config = {
        "interval": "1m", "strategy": "momentum", "costs": {"taker_fee_bps": 4.0, "slippage_bps": 0.5},
        "orders": {"max_notional_usdt": 1_000.0, "leverage": 1.0},
    }  # fmt: skip
    instrument = {"tick_size": 0.1, "step_size": 0.001}
    return _record(1_767_225_600_000, "start", None, None, mode="paper", config=config, instrument=instrument,
                   resolution="tick", assumptions=[])  # fmt: skip


def _record(time_ms: int, kind: str, trade: str | None, name: str | None, **body) -> Record:
    return Record(
        ts_ms=time_ms, kind=kind, config_hash="0" * 64, symbol="BTCUSDT", trade_id=trade, client_order_id=name,
        body={"interval": "1m", "open_time_ms": time_ms, **body},
    )  # fmt: skip


def _lake(root: Path) -> Path:
    """A lake with a month of a map, every five minutes; made once."""
    if root.is_dir():
        return root
    random = np.random.default_rng(5)
    for day in range(DAYS):
        lake = Lake(root, create=True)
        profiles = _profiles(random, _FIRST + timedelta(days=day))
        rows = heatmap_rows(profiles, "benchmark")
        states = rows.filter(pl.col("side") == "long").select(
            "venue", "symbol", "source", "map_id", "ts", "avail_time", "mark_price",
            pl.lit(1e9).alias("total_oi_usd"), pl.lit(0.8).alias("placed_share"), pl.lit(False).alias("is_stale"),
        )  # fmt: skip
        lake.append("heatmap", rows, origin="bench")
        lake.append("oi_state", conform(states, OI_STATE), origin="bench")
    return root


def _profiles(random: np.random.Generator, day: datetime) -> Profiles:
    """A day of snapshots with a few clusters each."""
    count = 288
    time_ms = round(day.timestamp() * 1e3) + 300_000 * np.arange(count)
    mark = 60_000.0 * np.exp(np.cumsum(random.normal(0.0, 5e-4, count)))
    mass = random.lognormal(10.0, 2.0, (count, 2, BUCKETS)) * (random.random((1, 2, BUCKETS)) < 0.3)
    unknown = np.full(count, np.nan)
    return Profiles(
        symbol="BTCUSDT", source="aster", time_ms=time_ms, avail_ms=time_ms, first_bucket=first_bucket(mark),
        mass_usdt=mass.astype(np.float32), mark=mark, swept_usdt=np.zeros((count, 2)),
        open_interest_usdt=np.full(count, 1e9), placed_share=np.full(count, 0.8), is_stale=np.zeros(count, bool),
        basis_bps=unknown, basis_deviation_bps=unknown,
    )  # fmt: skip
