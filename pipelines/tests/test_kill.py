"""Jobs killed half-way (SIGKILL, real processes) and started again end as if nothing had happened."""

import json
from pathlib import Path

from conftest import SMALL_SWEEP
from data.lake import Lake
from pipelines.tests.killing import finish, kill_when, start


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
