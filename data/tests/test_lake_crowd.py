"""A lake that many use at once: readers, one who appends, one who merges, a reader that was stopped."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import median

import polars as pl

from data.lake import Lake
from data.tests.test_lake import BEFORE, trades
from data.tests.test_lake_writer import NEXT_DAY, merge

ROOT = Path(__file__).parents[2]
READERS = """
import sys, threading, time
from pathlib import Path
from data.lake import Lake

root, stop = Path(sys.argv[1]), Path(sys.argv[2])
failures, looks = [], []

def read(lake):
    seen = 0
    while not stop.exists():
        with lake.still() as (moment, _):
            found = moment.scan("trades")["agg_trade_id"].to_list()
            counted = sum(entry.rows for entry in moment.files("trades"))
        if found != list(range(1, len(found) + 1)) or len(found) != counted or len(found) < seen:
            failures.append(f"{found} of {counted} rows after {seen}")
        seen = len(found)
        looks.append(seen)
        time.sleep(0.02)

readers = [threading.Thread(target=read, args=(Lake(root),)) for _ in range(5)]
for reader in readers:
    reader.start()
print("reading", flush=True)
for reader in readers:
    reader.join()
print(len(looks), failures)
sys.exit(len(failures) > 0 or len(looks) < 5)
"""
STOPPED = """
import os, signal, sys
from pathlib import Path
from data import manifest_database

with manifest_database.reading(Path(sys.argv[1]) / "manifest.sqlite") as database:
    rows = database.execute("SELECT path FROM files ORDER BY id")
    first = rows.fetchone()
    print("in the middle", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    print(1 + len(rows.fetchall()), *database.execute("SELECT sum(rows) FROM files").fetchone())
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    return process


def write_at_once(lake: Lake) -> float:
    """Change something; refused, and not waited for, when anybody is in the way. How long it took, ms."""
    before = time.perf_counter()
    with closing(sqlite3.connect(lake.root / "manifest.sqlite", timeout=0, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT OR REPLACE INTO segments VALUES ('a', 1, 0, 0)")
        database.execute("COMMIT")
    return (time.perf_counter() - before) * 1_000


def test_readers_a_stopped_one_among_them_hold_up_nobody_and_see_one_moment(tmp_path, capsys):
    lake = Lake(tmp_path / "lake", create=True)
    for number in (1, 2):
        lake.append("trades", trades([number], start=NEXT_DAY), origin="wal")
    stopped = start(STOPPED, lake.root)
    crowd = [start(READERS, lake.root, tmp_path / "stop") for _ in range(2)]
    done = threading.Event()
    merged = []

    def keep_merging() -> None:
        merger = Lake(lake.root)
        while not done.is_set():
            small = [entry for entry in merger.files("trades") if entry.level == 0]
            if len(small) > 2:
                with merger.merging():
                    merged.append(merge(merger, small))
                merger.drop_replaced(BEFORE - timedelta(days=1))

    merging = threading.Thread(target=keep_merging)
    merging.start()
    for number in range(3, 15):
        lake.append("trades", trades([number], start=NEXT_DAY), origin="wal")
    done.set()
    merging.join()
    took_ms = [write_at_once(lake) for _ in range(100)]
    (tmp_path / "stop").touch()
    said = [process.communicate(timeout=60)[0] for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0], said
    stopped.send_signal(signal.SIGCONT)
    assert stopped.communicate(timeout=60)[0].split() == ["2", "2"]
    assert len(merged) > 0
    assert all(merged)
    assert lake.scan("trades")["agg_trade_id"].to_list() == list(range(1, 15))
    assert lake.verify() == []
    with capsys.disabled():
        print(
            f"\n{len(merged)} merges; 100 writes beside 10 readers and a stopped one: none refused, "
            f"median {median(took_ms):.1f} ms, longest {max(took_ms):.1f} ms"
        )


def test_who_appends_to_one_table_does_not_wait_for_who_appends_to_another(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    clock = pl.DataFrame({"venue": "aster", "event_time": [BEFORE], "offset_ms": 1.0})
    with lake._manifest.locked("depth", "conflicts"), lake.merging():
        assert lake.append("clock", clock, origin="rest").landed == 1
