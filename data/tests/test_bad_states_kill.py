"""Retention, repair and rebuilding, killed at any moment: run again, the lake is what it would have been.

Sealing and merging are killed in test_sealer and test_compaction, whole recorders in test_integrity_kill.
"""

import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data import parquet, wal
from data.clock import FollowedClock
from data.compaction import compact, main
from data.lake import Lake, NewFile
from data.ledger import newest
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.rebuild import rebuild
from data.repair import repair
from data.schema import TABLES, TRADES, conform
from data.sealer import seal_folder
from data.tests.finished_segments import logged, market
from data.tests.struck_program import STRIKE, main_of, struck
from data.tests.test_repair import KEPT, MARKET, START, recorded_with_holes
from data.venues.aster import AsterRest, venue_of
from data.venues.weights import Budget
from data.verify import verify

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
SEED, KILLS = 7, int(os.environ.get("ASTER_KILLS", "2"))  # more with ASTER_KILLS=50
STATED = ("detected_time", "quarantined_time")  # when it was seen, by the machine's clock

REBUILD = (
    STRIKE
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
    STRIKE
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


def result_hashes(lake: Lake) -> dict[str, str]:
    """Of the content of each table that has any: what is read, whatever the files."""
    hashes = {}
    for name in TABLES:
        rows = (newest(lake) if name == "gaps" else lake.scan(name)).drop(STATED, strict=False)
        if rows.height:
            rows = rows.with_columns(pl.col(pl.Binary).bin.encode("hex")).sort(pl.all(), nulls_last=True)
            hashes[name] = hashlib.sha256(rows.write_json().encode()).hexdigest()
    return hashes


@pytest.fixture(scope="module")
def retiring(tmp_path_factory) -> Path:
    """A lake with raw rows that are too old, and replaced files that nobody reads any more; copy it."""
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
    kept = result_hashes(Lake(retiring))
    kept.pop("raw")
    how = ("--daily", "--raw-days", "1")
    kills = sum(struck(main_of("data.compaction"), chance.randrange(1, 39), str(roots[1]), *how) for _ in range(KILLS))
    for root in roots:
        for _ in range(2):
            assert main([str(root), *how]) == 0
    undisturbed, killed = map(Lake, roots)
    assert kills
    assert result_hashes(killed) == result_hashes(undisturbed) == kept
    assert files_of(roots[1]) == files_of(roots[0]) != files_of(retiring)
    assert killed.verify() == []


def test_a_repair_killed_at_any_moment_ends_where_it_would_have(tmp_path):
    chance = random.Random(SEED)
    undisturbed, killed = (recorded_with_holes(tmp_path / name, KEPT) for name in ("undisturbed", "killed"))

    async def play() -> int:
        begins = START + timedelta(minutes=24)
        async with Loopback(SyntheticSource(MARKET), speed=None, start=begins) as exchange:
            url = exchange.rest_url
            touches = [chance.randrange(20, 200) for _ in range(KILLS)]
            kills = sum([await asyncio.to_thread(struck, REPAIR, each, str(killed.root), url) for each in touches])
            for lake in (undisturbed, killed):
                clock = FollowedClock()
                async with AsterRest(await venue_of(url), clock) as rest:
                    await repair(lake, rest, Budget(clock, 2_400), clock)
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
    for problem in verify(lake):
        if problem.table is not None:
            rebuild(lake, problem.path, MIDNIGHT)
    assert result_hashes(lake) == whole
    assert len(list((lake.root / "set_aside").rglob("*.parquet"))) == len(damaged)
    assert lake.verify() == []


FILES = 1_000


def test_one_flipped_bit_in_each_of_a_thousand_files_is_found(tmp_path):
    """They are copies of one: what is proven is bytes against the manifest, file by file."""
    chance = random.Random(SEED)
    lake = Lake(tmp_path / "lake", create=True)
    rows = {"venue": "aster", "symbol": "BTCUSDT", "agg_trade_id": range(9), "event_time": [MIDNIGHT] * 9, "price": 1.5}
    trades = conform(pl.DataFrame(rows), TRADES)
    with lake.merging():
        path = lake.place(TRADES.name, MIDNIGHT.date())
        written = parquet.write(lake.root / path, trades, TRADES)
        file = NewFile.of(TRADES, MIDNIGHT.date(), path, trades, written=written, origin="test")
        paths = [path, *(path.replace(".parquet", f"-{number}.parquet") for number in range(1, FILES))]
        for copy in paths[1:]:
            shutil.copy2(lake.root / path, lake.root / copy)
        lake.replace([], [replace(file, entry=replace(file.entry, path=each)) for each in paths])
    for each in paths:
        flip(lake.root / each, chance)
    problems = verify(lake)
    assert {problem.path for problem in problems} == set(paths)
    assert len(problems) == FILES
