"""A finished sweep on worse terms: in its folder, on its page, among its findings."""

import json
import shutil

import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from pipelines.gate_job import findings_of
from pipelines.robust_job import run_robust
from pipelines.robust_report import write_robust_report
from pipelines.runs import RunFolder
from research.surface import Strains

FEW = Strains(added_latency_ms=(0, 60_000), fee_multiples=(1.0, 2.0), added_slippage_bps=(0.0, 2.0), starts=(0.0, 0.5))


@pytest.fixture(scope="module")
def strained(finished, synthetic_lake, tmp_path_factory):
    """A run with what was found of it."""
    run = RunFolder(tmp_path_factory.mktemp("robust") / finished.path.name)
    shutil.copytree(finished.path, run.path)
    return run, run_robust(run, synthetic_lake, lambda *told: None, FEW)


def test_on_its_own_terms_the_record_is_traded_again_as_it_was(strained):
    run, (found,) = strained
    own = found.surface.filter("is_own")
    assert found.is_repeated
    assert own["trades"][0] == run.frame("walk_forward_folds")["trades"].sum()
    assert found.surface.height == 2 * 2 * 2 * 2


def test_later_orders_and_later_starts_earn_something_else(strained):
    _, (found,) = strained
    for name, own in (("latency_ms", (0, 4.0, 0.5)), ("start_bars", (150, 4.0, 0.5))):
        fixed = "start_bars" if name == "latency_ms" else "latency_ms"
        same = found.surface.filter(**dict(zip((fixed, "taker_fee_bps", "slippage_bps"), own, strict=True)))
        assert same[name].n_unique() == same["net_pnl_usdt"].n_unique() == 2


def test_days_and_trades_add_up_to_the_record(strained):
    _, (found,) = strained
    assert found.days["net_pnl_usdt"].sum() == pytest.approx(found.net_pnl_usdt)
    assert found.trades["net_pnl_usdt"].sum() == pytest.approx(found.net_pnl_usdt)
    assert found.days["name"].sort().to_list() == ["2026-01-06", "2026-01-07"]


def test_the_folder_holds_it_and_the_gate_tells_it(strained):
    run, (found,) = strained
    written = json.loads((run.path / "robust.json").read_text())
    told = written["symbols"]["BTCUSDT"]
    assert len(told["surface"]) == 16
    assert told["break_even"]["fills"] == found.cost.fills
    assert [band["block_hours"] for band in told["drawdown"]] == [6.0]  # two days are no two blocks of a day
    assert written["without_symbol"][0]["without_usdt"] == 0.0
    last = findings_of(run, "BTCUSDT")[-1]
    assert last == found.finding
    assert not last.decides


def test_the_command_writes_the_page_and_the_report_names_it(strained, synthetic_lake, monkeypatch):
    run, found = strained
    monkeypatch.setattr("pipelines.robust_job.run_robust", lambda *asked: found)
    done = CliRunner().invoke(cli, ["robust", str(run.path), "--lake", str(synthetic_lake.root), "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["symbols"]["BTCUSDT"]["is_repeated"]
    page = (run.path / "robust.html").read_text()
    assert printed["report"] == str(run.path / "robust.html")
    for part in ("what if the terms were worse?", "how deep could it have fallen?", "what does it hang on?"):
        assert f"BTCUSDT: {part}" in page
    assert "earns on worse terms" in (run.path / "report.html").read_text()


def test_of_several_symbols_each_is_left_out_once(strained, tmp_path):
    run, (found,) = strained
    copied = RunFolder(tmp_path / "two")
    shutil.copytree(run.path, copied.path)
    page = write_robust_report(copied, [found, found]).read_text()
    assert "Does one symbol carry it?" in page


def test_an_unfinished_run_is_refused(strained, synthetic_lake, tmp_path):
    run, _ = strained
    half = RunFolder(tmp_path / "half")
    shutil.copytree(run.path, half.path)
    (half.path / "walk_forward_folds.parquet").unlink()
    with pytest.raises(LookupError, match="run `aster sweep` to finish it"):
        run_robust(half, synthetic_lake, lambda *told: None, FEW)
