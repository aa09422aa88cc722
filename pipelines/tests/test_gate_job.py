"""The gate in a sweep's folder, and the holdout that promotion opens."""

import json
import math
import re
import shutil
import tomllib

import polars as pl
import pytest

from data.lake import Lake
from live.config import load_chosen
from pipelines.gate_job import findings_of, gate_of
from pipelines.promote import promote
from pipelines.runs import RunFolder
from pipelines.sweep_job import run_sweep
from pipelines.sweep_report import write_sweep_report
from research.resting import RestingEntry
from research.sweep import NOT_RANKED


@pytest.fixture(scope="module")
def swept(synthetic_lake, tmp_path_factory):
    """A finished sweep that kept the last half day, and its lake."""
    from conftest import SMALL_SWEEP

    folder = tmp_path_factory.mktemp("held")
    shutil.copytree(synthetic_lake.root, folder / "lake")
    (folder / "held.toml").write_text(SMALL_SWEEP.replace("embargo_bars = 60", "embargo_bars = 60\nholdout_days = 0.5"))
    lake = Lake(folder / "lake")
    return run_sweep(folder / "held.toml", lake, folder / "runs", lambda *told: None), lake


def test_the_search_does_not_see_the_holdout(swept):
    run, _ = swept
    assert run.frame("walk_forward_folds")["test_end"].max() < run.config.end.replace(day=7, hour=12)
    assert run.frame("walk_forward_folds").height == 3


def test_every_finding_has_a_value_a_limit_and_a_sentence(swept):
    run, lake = swept
    judged = gate_of(run, "BTCUSDT")
    assert not judged["passes"]
    assert judged["verdict"].startswith("fails the statistical gate")
    assert all(each["value"] and each["limit"] and each["sentence"] for each in judged["findings"])
    assert [row["multiple"] for row in judged["costs"]] == [1.0, 1.5, 2.0]
    counted = lake.scan("trials")
    assert counted.filter(pl.col("run") == run.path.name)["configs"].to_list() == [9]
    assert judged["trials"]["total"] == counted["configs"].sum()  # with those of earlier sweeps in the copied lake


def test_promotion_opens_the_holdout_once_and_a_second_opening_is_the_second(swept, tmp_path):
    run, lake = swept
    found = []
    for rank in (1, 2, 1):
        document = tomllib.loads(promote(run, lake, rank=rank, destination=tmp_path / "chosen.toml").read_text())
        found.append(next(one for one in document["provenance"]["findings"] if one.startswith("the holdout earned")))
        assert document["provenance"]["statistical_gate"] is False
    assert "opening number 2" not in found[0] and "opening number 2" in found[1]
    assert found[2] == found[0]
    assert lake.scan("holdouts").height == 2
    assert findings_of(run, "BTCUSDT")[-1].name == "holdout"
    assert json.loads((run.path / "holdout.json").read_text())["BTCUSDT"]["decides"]


def test_a_holdout_whose_days_another_search_has_seen_is_not_unseen(swept, tmp_path):
    run, lake = swept
    copied, again = Lake(shutil.copytree(lake.root, tmp_path / "lake")), RunFolder(tmp_path / "run")
    shutil.copytree(run.path, again.path)
    own = lake.scan("trials").filter(pl.col("run") == run.path.name)
    own_days = own.with_columns(digest=pl.lit("on the same days"))
    all_days = own.with_columns(digest=pl.lit("on all days"), to_time=pl.lit(run.config.end))
    said = {}
    for name, search in (("same", own_days), ("all", all_days)):
        copied.append("trials", search.with_columns(evaluated_time=pl.lit(run.config.end)), origin=name)
        promote(again, copied, rank=1, destination=tmp_path / "chosen.toml")
        said[name] = findings_of(again, "BTCUSDT")[-1]
    assert said["all"].passes is False
    assert "searches that saw some of these days before: " in said["all"].sentence
    assert said["all"].sentence != said["same"].sentence


def test_a_run_that_picked_nothing_is_promoted_and_its_holdout_compared_with_nothing(swept, tmp_path):
    from conftest import SMALL_SWEEP

    _, lake = swept
    asking = SMALL_SWEEP.replace("min_trades = 3", "min_trades = 100_000").replace('"small"', '"nothing"')
    (tmp_path / "nothing.toml").write_text(asking.replace("embargo_bars = 60", "embargo_bars = 60\nholdout_days = 0.5"))
    run = run_sweep(tmp_path / "nothing.toml", lake, tmp_path / "runs", lambda *told: None)
    assert run.frame("walk_forward_equity").is_empty()
    document = tomllib.loads(promote(run, lake, rank=1, destination=tmp_path / "chosen.toml").read_text())
    assert document["provenance"]["statistical_gate"] is False
    assert "there is no record to compare it with" in document["provenance"]["findings"][-1]
    assert findings_of(run, "BTCUSDT")[-1].passes is None


def test_the_report_shows_the_gate(swept):
    run, lake = swept
    page = write_sweep_report(run, lake).read_text()
    assert "Is it luck?" in page
    assert "NOT PROMOTABLE" in page
    assert "rank among sign-shuffled data" in page
    assert re.search(r"<dt>Sharpe, out of sample, 90 % interval</dt><dd>−?[\d.]+ \[−?[\d.]+, −?[\d.]+\]</dd>", page)
    assert "<dt>worst drawdown, of 1\u202f000.00 USDT</dt>" in page
    total = gate_of(run, "BTCUSDT")["trials"]["total"]
    assert f"9 configs are here, {total} were ever tried on these days." in page


def test_a_report_on_configs_that_nobody_could_rank_shows_no_ranks(swept, tmp_path):
    run, lake = swept
    copied = RunFolder(shutil.copytree(run.path, tmp_path / "unranked"))
    copied.write_frame("results", run.frame("results").with_columns(score=pl.lit(-math.inf)))
    page = write_sweep_report(copied, lake).read_text()
    best_ten = page.split("Best ten by train folds")[1].split("</div>")[0]
    assert NOT_RANKED in best_ten and "<td" not in best_ten
    assert "None is marked as chosen: the train folds rank no config." in page


def test_a_config_whose_entries_rest_is_swept_confirmed_judged_and_promoted(synthetic_lake, tmp_path):
    from conftest import SMALL_SWEEP

    shutil.copytree(synthetic_lake.root, tmp_path / "lake")  # trials are counted in it
    changed = SMALL_SWEEP.replace("[folds]", "[orders.resting]\noffset_bps = 1.0\nlifetime_ms = 150_000\n\n[folds]")
    for old, new in (
        ("end = 2026-01-08", "end = 2026-01-06T12:00:00"),
        ("top = 2", "top = 1"),
        ("[10, 20, 30]", "[10]"),
    ):
        assert old in changed
        changed = changed.replace(old, new)
    (tmp_path / "resting.toml").write_text(changed)
    lake = Lake(tmp_path / "lake")
    run = run_sweep(tmp_path / "resting.toml", lake, tmp_path / "runs", lambda *told: None)
    (confirmed,) = json.loads((run.path / "confirmation.json").read_text())
    assert confirmed["trades"] > 10 and confirmed["worst_difference"] < 1e-9
    (found,) = (one for one in findings_of(run, "BTCUSDT") if one.name == "entries that rest")
    assert found.decides and "filled trade by trade the record earns" in found.sentence
    chosen = load_chosen(promote(run, lake, rank=1, destination=tmp_path / "chosen.toml"))
    assert chosen.config.orders.resting == RestingEntry(offset_bps=1.0, lifetime_ms=150_000)
