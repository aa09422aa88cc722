"""Retention, repair and rebuilding, killed at any moment: run again, the lake is what it would have been.

Sealing and merging are killed in test_sealer and test_compaction, whole recorders in test_integrity_kill.
"""

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from data import wal
from data.compaction import compact, main
from data.ledger import newest
from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import SyntheticSource
from data.schema import TABLES, TRADES, conform
from data.sealer import seal_folder
from data.tests.test_repair import KEPT, MARKET, START, recorded_with_holes
from data.tests.test_sealer import logged, market
from data.verify import verify

ROOT = Path(__file__).parents[2]
MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
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
RETIRE = KILLED + """
from data.compaction import main

sys.addaudithook(strike)
sys.exit(main(sys.argv[2:]))
"""
REBUILD = KILLED + """
from datetime import UTC, datetime
from pathlib import Path
from data.lake import Lake
from data.rebuild import rebuild

lake = Lake(Path(sys.argv[2]))
sys.addaudithook(strike)
for problem in lake.verify():
    rebuild(lake, problem.path, datetime(2026, 6, 1, tzinfo=UTC))
"""
REPAIR = KILLED + """
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
