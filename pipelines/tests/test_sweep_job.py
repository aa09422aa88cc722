"""A sweep in its run folder: resumable, repeatable, confirmed."""

import errno
import json
import math
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from data.lake import Lake
from live.config import load_chosen
from pipelines.cli import cli
from pipelines.notebook_sweep import beside_others, open_sweep
from pipelines.promote import promote
from pipelines.robust_job import run_robust
from pipelines.run_history import comparison, history
from pipelines.runs import RunFolder, open_run, write_whole
from pipelines.sweep_job import bars_for, run_sweep
from research.surface import Strains

ONE = Strains(added_latency_ms=(0,), fee_multiples=(1.0,), added_slippage_bps=(0.0,), starts=(0.0,))


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def test_the_run_folder_holds_everything_that_was_made(finished):
    manifest = finished.manifest
    assert manifest["state"] == "finished"
    assert manifest["configs"] == 9
    assert set(manifest["identity"]) == {"config_hash", "code_hash", "lock_hash", "data"}
    assert all(len(sha) == 64 for sha in manifest["identity"]["data"].values())
    results = finished.frame("results")
    assert results["rank"].to_list() == list(range(1, 10))
    assert finished.frame("walk_forward_folds").height == 4


def test_a_sweep_that_had_nothing_left_to_evaluate_tells_no_speed(finished, synthetic_lake, tmp_path):
    def interrupt(what, done, total):
        if what == "VectorBT":
            raise KeyboardInterrupt

    config = str(finished.path / "config.toml")
    with pytest.raises(KeyboardInterrupt):
        run_sweep(Path(config), synthetic_lake, tmp_path, interrupt)
    command = ["sweep", config, "--runs", str(tmp_path), "--no-notebook", "--lake", str(synthetic_lake.root)]
    told = CliRunner().invoke(cli, command, catch_exceptions=False).stdout
    assert "best five" in told and "config-bars" not in told


@pytest.mark.parametrize("text", ['symbols = ["BTCUSDT"]\n', "not TOML"])
def test_a_file_that_is_no_promoted_config_is_not_replaced(finished, synthetic_lake, tmp_path, text):
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    command = ["promote", str(finished.path), "--rank", "1", "--out", str(mine), "--lake", str(synthetic_lake.root)]
    failed = CliRunner().invoke(cli, command).exception
    assert isinstance(failed, ValueError) and str(failed).startswith(f"{mine} is there, and no promoted config")
    assert mine.read_text() == text


def test_vectorbt_confirmed_the_best(finished):
    confirmed = json.loads((finished.path / "confirmation.json").read_text())
    assert [(entry["symbol"], entry["rank"]) for entry in confirmed] == [("BTCUSDT", 1), ("BTCUSDT", 2)]
    trades = pl.read_parquet(finished.path / "top" / "BTCUSDT-rank01-trades.parquet")
    assert trades.height == confirmed[0]["trades"]


def test_the_same_sweep_again_gives_the_same_bytes(finished, synthetic_lake):
    again = run_sweep(finished.path / "config.toml", synthetic_lake, finished.path.parent, quiet)
    assert again.path != finished.path
    assert again.manifest["identity"] == finished.manifest["identity"]
    for name in ("results", "evaluated", "walk_forward_trades"):
        assert (again.path / f"{name}.parquet").read_bytes() == (finished.path / f"{name}.parquet").read_bytes()


def test_an_interrupted_sweep_goes_on_where_it_stopped(finished, synthetic_lake, tmp_path):
    def interrupt(what, done, total):
        if what == "configs" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(finished.path / "config.toml", synthetic_lake, tmp_path, interrupt)
    (half,) = tmp_path.iterdir()
    blocks = {path: path.stat().st_mtime_ns for path in (half / "blocks").iterdir()}
    assert len(blocks) == 3
    resumed = run_sweep(finished.path / "config.toml", synthetic_lake, tmp_path, quiet)
    assert resumed.path == half
    assert all(path.stat().st_mtime_ns == time for path, time in blocks.items())
    assert (half / "results.parquet").read_bytes() == (finished.path / "results.parquet").read_bytes()


def test_a_sweep_whose_results_can_be_read_is_counted_even_if_it_is_never_finished(synthetic_lake, tmp_path):
    from conftest import SMALL_SWEEP

    def interrupt(what, done, total):
        if what == "walk-forward":
            raise KeyboardInterrupt

    shutil.copytree(synthetic_lake.root, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    (tmp_path / "small.toml").write_text(SMALL_SWEEP.replace("stop_bps = [30]", "stop_bps = [35]"))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(tmp_path / "small.toml", lake, tmp_path / "runs", interrupt)
    (half,) = (tmp_path / "runs").iterdir()
    assert pl.read_parquet(half / "results.parquet").height == 9
    assert lake.scan("trials").filter(pl.col("run") == half.name)["configs"].to_list() == [9]
    run_sweep(tmp_path / "small.toml", lake, tmp_path / "runs", quiet)
    assert lake.scan("trials").filter(pl.col("run") == half.name)["configs"].to_list() == [9]


SEARCH = """
[search]
method = "optuna"
configs = 64
seed = 1

[search.ranges]
momentum_multiple = {low = 1.0, high = 2.0}
volatility_window_bars = {low = 10, high = 30, step = 5}
stop_bps = {low = 20, high = 60, log = true}
"""


def test_optuna_looks_at_train_rows_and_an_interrupted_search_comes_to_the_same(synthetic_lake, tmp_path):
    from conftest import SMALL_SWEEP

    ranges = ("momentum_multiple", "volatility_window_bars", "stop_bps")
    kept = [line for line in SMALL_SWEEP.splitlines() if not line.startswith(ranges)]
    path = tmp_path / "search.toml"
    path.write_text('selection = "best"\n' + "\n".join(kept) + SEARCH)
    finished = run_sweep(path, synthetic_lake, tmp_path / "whole", quiet)

    def interrupt(what, done, total):
        if what == "search" and done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(path, synthetic_lake, tmp_path / "halves", interrupt)
    (half,) = (tmp_path / "halves").iterdir()
    blocks = {path: path.stat().st_mtime_ns for path in (half / "blocks").iterdir()}
    assert sorted(path.stem for path in blocks) == [f"BTCUSDT-fold0{k}-search-00000000" for k in (1, 2, 3, 4)]
    resumed = run_sweep(path, synthetic_lake, tmp_path / "halves", quiet)
    assert resumed.path == half
    assert all(path.stat().st_mtime_ns == time for path, time in blocks.items())
    for name in ("results", "evaluated", "walk_forward_trades"):
        assert (half / f"{name}.parquet").read_bytes() == (finished.path / f"{name}.parquet").read_bytes()

    evaluated = finished.frame("evaluated")
    n_configs = finished.frame("results").height
    assert finished.manifest["configs"] == n_configs
    assert evaluated.filter("is_found", pl.col("part") == "train").group_by("fold").len()["len"].max() <= 64
    trials = synthetic_lake.scan("trials", symbols=["BTCUSDT"]).filter(pl.col("run") == finished.path.name)
    assert trials["configs"].to_list() == [n_configs]

    (strained,) = run_robust(finished, synthetic_lake, quiet, replace(ONE, starts=(0.0, 0.5)))
    assert strained.is_repeated
    assert strained.surface["folds"].to_list() == [4, 3]  # a later start leaves one fold less, and Optuna looks anew


def test_a_sweep_of_what_was_never_recorded_is_refused_before_a_trial_is_counted(synthetic_lake, tmp_path, monkeypatch):
    from conftest import SMALL_SWEEP

    def without_funding(*asked):
        bars = bars_for(*asked)
        return replace(bars, frame=bars.frame.with_columns(funding_rate=pl.lit(math.nan)))

    monkeypatch.setattr("pipelines.sweep_job.bars_for", without_funding)
    (tmp_path / "small.toml").write_text(SMALL_SWEEP)
    before = synthetic_lake.scan("trials").height
    with pytest.raises(ValueError, match="BTCUSDT: momentum enters only with a funding rate, which none of the bars"):
        run_sweep(tmp_path / "small.toml", synthetic_lake, tmp_path / "runs", quiet)
    assert not (tmp_path / "runs").exists() and synthetic_lake.scan("trials").height == before


def test_a_full_disk_is_said_and_the_sweep_goes_on_when_there_is_room(finished, synthetic_lake, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes

    def full(path, content):
        if "test-" in path.name:
            write_bytes(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="free space there and run the same command again"):
            run_sweep(finished.path / "config.toml", synthetic_lake, tmp_path, quiet)
    (half,) = tmp_path.iterdir()
    assert [path.suffix for path in (half / "blocks").iterdir()] == [".parquet"]
    resumed = run_sweep(finished.path / "config.toml", synthetic_lake, tmp_path, quiet)
    assert resumed.path == half
    assert (half / "results.parquet").read_bytes() == (finished.path / "results.parquet").read_bytes()


def test_two_processes_that_go_on_with_one_sweep_may_write_the_same_file_at_once(tmp_path, monkeypatch):
    path, replaced = tmp_path / "block.parquet", Path.replace

    def after_another_process(part, target):
        monkeypatch.undo()
        write_whole(path, b"rows")
        return replaced(part, target)

    monkeypatch.setattr(Path, "replace", after_another_process)
    write_whole(path, b"rows")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"rows"]


def test_promotion_writes_a_config_that_the_runner_accepts(finished, synthetic_lake, tmp_path):
    path = promote(finished, synthetic_lake, rank=2, destination=tmp_path / "chosen.toml")
    chosen = load_chosen(path)
    row = finished.frame("results").row(1, named=True)
    assert chosen.config.params["momentum_multiple"] == row["momentum_multiple"]
    assert chosen.config.config_hash == tomllib.loads(path.read_text())["config_hash"]
    provenance = tomllib.loads(path.read_text())["provenance"]
    assert provenance["run"] == finished.path.name
    assert provenance["configs_tried"] == 9
    assert any("statistical gate" in finding for finding in provenance["findings"])


def test_a_holdout_shorter_than_a_bar_is_none(finished, synthetic_lake, tmp_path):
    copied = RunFolder(shutil.copytree(finished.path, tmp_path / "short"))
    config = (copied.path / "config.toml").read_text()
    (copied.path / "config.toml").write_text(config.replace("[folds]", "[folds]\nholdout_days = 0.0003"))
    document = tomllib.loads(promote(copied, synthetic_lake, rank=1, destination=tmp_path / "chosen.toml").read_text())
    assert document["provenance"]["findings"][-1].startswith("no holdout was kept")


def test_an_edited_promoted_file_is_refused(finished, synthetic_lake, tmp_path):
    path = promote(finished, synthetic_lake, rank=1, destination=tmp_path / "chosen.toml")
    path.write_text(path.read_text().replace("stop_bps = 30.0", "stop_bps = 31.0"))
    with pytest.raises(ValueError, match="hash"):
        load_chosen(path)


def test_a_rank_that_nobody_confirmed_is_refused(finished, synthetic_lake, tmp_path):
    with pytest.raises(ValueError, match="rank 5 of BTCUSDT was not confirmed"):
        promote(finished, synthetic_lake, rank=5, destination=tmp_path / "chosen.toml")


def test_a_rank_beyond_the_table_is_refused(finished, synthetic_lake, tmp_path):
    with pytest.raises(LookupError, match="no rank 99"):
        promote(finished, synthetic_lake, rank=99, destination=tmp_path / "chosen.toml")


def test_runs_are_found_by_name_path_and_latest(finished):
    folder = finished.path.parent
    assert open_run(folder, finished.path.name).path == finished.path
    assert open_run(folder, str(finished.path)).path == finished.path
    assert open_run(folder, "latest").manifest["state"] == "finished"
    with pytest.raises(LookupError, match="no run 'nothing'"):
        open_run(folder, "nothing")


def test_the_history_tells_what_following_the_procedure_earned_and_what_was_promoted(
    finished, synthetic_lake, tmp_path
):
    promote(finished, synthetic_lake, rank=1, destination=tmp_path / "chosen.toml")
    row = history(finished.path.parent, tmp_path).row(0, named=True)
    folds = finished.frame("walk_forward_folds")
    equity = finished.frame("walk_forward_equity")["equity_usdt"]
    assert (row["run"], row["symbols"], row["folds"]) == (finished.path.name, "BTCUSDT", 4)
    assert row["oos_trades"] == folds["trades"].sum()
    assert row["oos_net_pnl_usdt"] == pytest.approx(equity[-1])
    assert row["oos_max_drawdown_usdt"] == pytest.approx((equity - equity.cum_max().clip(lower_bound=0.0)).min())
    assert row["promoted"] == "chosen.toml (BTCUSDT, rank 1)"
    assert row["findings"] > 0


def test_two_runs_are_compared_by_their_figures_and_by_what_their_configs_have_different(finished, tmp_path):
    folder = tmp_path / "runs"
    for name, fee in (("cheap", "4.0"), ("dear", "5.0")):
        shutil.copytree(finished.path, folder / name)
        config = folder / name / "config.toml"
        config.write_text(config.read_text().replace("taker_fee_bps = 4.0", f"taker_fee_bps = {fee}"))
    told = {row["what"]: row for row in comparison(folder, "cheap", "dear").to_dicts()}
    assert told["oos_trades"]["is_same"]
    assert (told["config: costs.taker_fee_bps"]["one"], told["config: costs.taker_fee_bps"]["other"]) == ("4", "5")
    assert [what for what in told if what.startswith("config: ")] == ["config: costs.taker_fee_bps"]


def test_sweeps_of_the_same_data_stand_beside_each_other(finished, synthetic_lake, tmp_path):
    for name in ("one", "other", "elsewhere"):
        shutil.copytree(finished.path, tmp_path / name)
    manifest = json.loads((tmp_path / "elsewhere/manifest.json").read_text())
    (tmp_path / "elsewhere/manifest.json").write_text(json.dumps({**manifest, "range": ["2025-01-01", "2025-01-04"]}))
    table = beside_others(open_sweep(str(tmp_path / "one"), str(synthetic_lake.root), "")).data
    assert re.findall(r"other|one \(this one\)|elsewhere", table) == ["other", "one (this one)"]
