"""Retention, repair and rebuilding, killed at any moment: run again, the lake is what it would have been.

Sealing and merging are killed in test_sealer and test_compaction, whole recorders in test_integrity_kill.
"""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data import parquet, wal
from data.compaction import compact, main
from data.ledger import newest
from data.lake import Lake, NewFile
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.schema import TABLES, TRADES, conform
from data.sealer import seal_folder
from data.tests.test_repair import KEPT, MARKET, START, recorded_with_holes
from data.tests.test_sealer import logged, market
from data.verify import verify

ROOT = Path(__file__).parents[2]
MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
SEED, KILLS = 7, int(os.environ.get("ASTER_KILLS", "2"))  # more with ASTER_KILLS=50
STATED = ("detected_time", "quarantined_time")  # when it was seen, by the machine's clock

# runs a part of the project, and is killed just before it touches a file for the nth time
KILLED = """
import os, signal, sys

left = int(sys.argv[1])

def strike(event, _):
    global left
    if event in ("open", "os.rename", "os.remove", "sqlite3.connect"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

"""
RETIRE = (
    KILLED
    + """
from data.compaction import main

sys.addaudithook(strike)
sys.exit(main(sys.argv[2:]))
"""
)
REBUILD = (
    KILLED
    + """
from datetime import UTC, datetime
from pathlib import Path
from data.lake import Lake
from data.rebuild import rebuild

lake = Lake(Path(sys.argv[2]))
sys.addaudithook(strike)
for problem in lake.verify():
    if problem.table is not None:
        rebuild(lake, problem.path, datetime(2026, 6, 1, tzinfo=UTC))
"""
)
REPAIR = (
    KILLED
    + """
import asyncio
from pathlib import Path
from data.clock import FollowedClock
from data.lake import Lake
from data.repair import repair
from data.venues.aster import AsterRest, venue_of
from data.venues.weights import Budget

async def repaired(root, url):
    clock = FollowedClock()
    async with AsterRest(await venue_of(url), clock) as rest:
        sys.addaudithook(strike)
        await repair(Lake(Path(root)), rest, Budget(clock, 2_400), clock)

asyncio.run(repaired(*sys.argv[2:]))
"""
)
NEVER = 10**9


def struck(program: str, touches: int, *arguments: str) -> bool:
    """Run it to the end or to its death; whether it was killed."""
    command = [sys.executable, "-c", program, str(touches), *arguments]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.returncode in (-signal.SIGKILL, 0), run.stderr
    return run.returncode != 0


def result_hashes(lake: Lake) -> dict[str, str]:
    """Of the content of each table that has any: what is read, whatever the files."""
    hashes = {}
    for name, table in TABLES.items():
        rows = lake.scan(name).drop(STATED, strict=False)
        if name == "gaps":
            rows = newest(lake).drop(STATED, strict=False)
        if rows.height:
            text = rows.sort(pl.all(), nulls_last=True) if name != "raw" else rows.drop("payload").sort(pl.all())
            hashes[name] = hashlib.sha256(text.write_json().encode()).hexdigest()
    return hashes


@pytest.fixture(scope="module")
def retiring(tmp_path_factory) -> Path:
    """A lake with raw rows that are too old and replaced files that nobody reads any more; copy it, never write to it."""
    lake = Lake(tmp_path_factory.mktemp("retiring") / "lake", create=True)
    for numbers in (range(60), range(50, 120)):
        logged(lake.root / "wal" / "0", *market(numbers))
        seal_folder(lake.root / "wal", lake)
    compact(lake, level=2, now=datetime(2026, 7, 1, tzinfo=UTC))
    with sqlite3.connect(lake.root / "manifest.sqlite") as manifest:
        manifest.execute("UPDATE replaced SET replaced_ms = 0")
    manifest.close()
    return lake.root


def files_of(root: Path) -> list[int]:
    """Sizes of the Parquet files that are there, listed or not."""
    return sorted(path.stat().st_size for path in root.rglob("dt=*/*.parquet"))


def test_retention_killed_at_any_moment_ends_where_it_would_have(retiring, tmp_path):
    chance = random.Random(SEED)
    roots = [shutil.copytree(retiring, tmp_path / name) for name in ("undisturbed", "killed")]
    before = result_hashes(Lake(retiring))
    kills = sum(
        struck(RETIRE, chance.randrange(1, 39), str(roots[1]), "--daily", "--raw-days", "1") for _ in range(KILLS)
    )
    for root in roots:
        for _ in range(2):
            assert main([str(root), "--daily", "--raw-days", "1"]) == 0
    undisturbed, killed = map(Lake, roots)
    assert kills
    assert (
        result_hashes(killed)
        == result_hashes(undisturbed)
        == {name: told for name, told in before.items() if name != "raw"}
    )
    assert files_of(roots[1]) == files_of(roots[0]) != files_of(retiring)
    assert killed.verify() == []


def test_a_repair_killed_at_any_moment_ends_where_it_would_have(tmp_path):
    chance = random.Random(SEED)
    undisturbed, killed = (recorded_with_holes(tmp_path / name, KEPT) for name in ("undisturbed", "killed"))

    async def play() -> int:
        begins = START + timedelta(minutes=24)
        async with Loopback(SyntheticSource(MARKET), speed=None, start=begins) as exchange:
            url = exchange.rest_url
            kills = 0
            for _ in range(KILLS):
                kills += await asyncio.to_thread(struck, REPAIR, chance.randrange(1, 250), str(killed.root), url)
            for lake in (undisturbed, killed):
                await asyncio.to_thread(struck, REPAIR, NEVER, str(lake.root), url)
        return kills

    assert asyncio.run(play()) > 0
    ended, wanted = (result_hashes(lake) for lake in (killed, undisturbed))
    for hashes in (ended, wanted):
        hashes.pop("raw")  # some questions were asked twice
    assert ended == wanted
    assert newest(killed)["state"].sort().to_list() == ["partial", "repaired", "repaired", "repaired"]
    assert wal.all_segments(killed.root / "wal") == []
    assert killed.verify() == []


def flip(path: Path, chance: random.Random) -> None:
    """One bit of a file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_rebuilding_killed_at_any_moment_loses_nothing_that_the_raw_log_has(tmp_path):
    chance = random.Random(SEED)
    lake = Lake(tmp_path / "lake", create=True)
    for numbers in (range(60), range(50, 120)):
        logged(lake.root / "wal" / "0", *market(numbers))
        seal_folder(lake.root / "wal", lake)
    whole = result_hashes(lake)
    damaged = [lake.files(table)[0].path for table in ("book_ticker", "trades", "quarantine")]
    for path in damaged:
        flip(lake.root / path, chance)
    kills = sum(struck(REBUILD, chance.randrange(10, 90), str(lake.root)) for _ in range(KILLS))
    assert kills
    assert not struck(REBUILD, NEVER, str(lake.root))
    assert result_hashes(lake) == whole
    assert len(list((lake.root / "set_aside").rglob("*.parquet"))) == len(damaged)
    assert lake.verify() == []


FILES, ROWS = 1_000, 8


def test_one_flipped_bit_in_each_of_a_thousand_files_is_found(tmp_path):
    chance = random.Random(SEED)
    lake = Lake(tmp_path / "lake", create=True)
    with lake.merging():
        files = []
        for number in range(FILES):
            ids = [ROWS * number + each for each in range(ROWS)]
            times = [MIDNIGHT + timedelta(seconds=each) for each in ids]
            rows = {"venue": "aster", "symbol": "BTCUSDT", "agg_trade_id": ids, "event_time": times, "price": 1.5}
            trades = conform(pl.DataFrame(rows), TRADES)
            path = lake.place(TRADES.name, MIDNIGHT.date())
            written = parquet.write(lake.root / path, trades, TRADES)
            files.append(NewFile.of(TRADES, MIDNIGHT.date(), path, trades, written=written, origin="test"))
        lake.replace([], files)
    assert verify(lake) == []
    for entry in lake.files():
        flip(lake.root / entry.path, chance)
    problems = verify(lake)
    assert {problem.path for problem in problems} == {entry.path for entry in lake.files()}
    assert len(problems) == FILES
