"""Jobs killed half-way (SIGKILL, real processes) and started again end as if nothing had happened."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from conftest import SMALL_SWEEP
from data.lake import Lake
from pipelines.identity import CHECKOUT

PATIENCE_S = 120


def start(*arguments: str, lake: Path | None = None) -> subprocess.Popen:
    """A process of ours."""
    environment = os.environ | ({"ASTER_LAKE": str(lake)} if lake else {})
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT,
        env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """Standard output of a process that must succeed."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out


def kill_when(process: subprocess.Popen, has_begun) -> None:
    """SIGKILL the process as soon as there is something half-done to lose."""
    deadline = time.monotonic() + PATIENCE_S
    while not has_begun():
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        assert time.monotonic() < deadline, "nothing to kill appeared"
        time.sleep(0.002)
    process.kill()
    process.communicate()


def write_trades(folder: Path, files: int, rows: int) -> None:
    """Collector files of many symbols, so that an import takes a while."""
    folder.mkdir()
    for k in range(files):
        lines = (f"{i},{1_758_715_675_000 + 100 * i},buy,{100 + i % 7:.6f},1.500000" for i in range(1, rows + 1))
        text = "id,unix_timestamp_ms,side,price,quantity\n" + "\n".join(lines) + "\n"
        (folder / f"trades_SYM{k:02d}USDT.csv").write_text(text)


def test_an_import_killed_half_way_and_repeated_lands_every_row_once(tmp_path):
    write_trades(tmp_path / "csv", files=12, rows=3_000)
    command = ("-m", "pipelines.cli", "import", str(tmp_path / "csv"), "--format", "collector", "--json")
    lake = tmp_path / "lake"
    kill_when(start(*command, lake=lake), lambda: len(list(lake.glob("trades/*/*.parquet"))) >= 3)
    assert len(Lake(lake).symbols("trades")) < 12
    finish(start(*command, lake=lake))
    counted = Lake(lake).sql(
        "select count(*) as rows, count(distinct (symbol, agg_trade_id)) as distinct_rows from trades"
    )
    assert counted.row(0) == (36_000, 36_000)
    assert Lake(lake).verify() == []


def test_a_sweep_killed_half_way_and_repeated_gives_the_same_table(finished, synthetic_lake, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(SMALL_SWEEP)
    command = ("-m", "pipelines.cli", "sweep", str(config), "--no-notebook", "--json", "--runs")
    runs = tmp_path / "killed"
    kill_when(start(*command, str(runs), lake=synthetic_lake.root), lambda: len(list(runs.glob("*/blocks/*"))) >= 2)
    (killed,) = runs.iterdir()
    assert json.loads((killed / "manifest.json").read_text())["state"] == "running"
    again = json.loads(finish(start(*command, str(runs), lake=synthetic_lake.root)))
    assert Path(again["run"]) == killed
    assert (killed / "results.parquet").read_bytes() == (finished.path / "results.parquet").read_bytes()


def some(folder: Path, pattern: str, at_least_bytes: int) -> bool:
    """Whether a file of that name has grown that far."""
    return any(path.stat().st_size >= at_least_bytes for path in folder.glob(pattern))


def test_a_demo_killed_twice_and_repeated_ends_as_if_nothing_had_happened(demo_done, tiny_demo, tmp_path):
    folder = tmp_path / "demo"
    for half_done, at_least_bytes in (
        ("lake/trades/*/*.parquet", 1),
        ("paper/*.feed/*.wal", 1_000_000),
    ):
        kill_when(start("-c", tiny_demo, str(folder)), partial(some, folder, half_done, at_least_bytes))
        assert not (folder / "report.html").exists()
    result = json.loads(finish(start("-c", tiny_demo, str(folder))))
    assert (folder / "report.html").exists()
    assert result["summary"][0].endswith(" 0 of them new")
    undisturbed, expected = demo_done
    assert result["paper"]["agrees"]
    assert result["paper"]["trades"] == expected["paper"]["trades"]
    assert stored(folder / "lake") == stored(undisturbed / "lake")
    assert Lake(folder / "lake").verify() == []


def stored(lake: Path) -> dict[str, list]:
    """Every row of the streams in a lake, less where it came from."""
    return {
        table: Lake(lake).scan(table).drop("source").rows()
        for table in ("klines", "kline_updates", "trades", "book_ticker", "depth", "mark_price", "force_orders")
    }
