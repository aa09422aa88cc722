"""The operator signs for what was run on paper, and for nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import tomli_w

from data.venues.signing import OperatorKey
from live.approval import Demands, Prediction
from live.config import Chosen, load_chosen
from live.identity import code_identity
from live.journal import Journal
from live.promotion import document_of, real_refusals
from live.tests.conftest import a_config
from live.tests.paper_run import OFTEN, paper
from live.tests.test_promotion import RISK
from pipelines.approve import approve

KEY, NOW = OperatorKey("0x" + "11" * 32), datetime(2026, 1, 6, tzinfo=UTC)
FEW = Demands(least_paper_days=0.01, least_paper_trades=2)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A promoted file and the journal of its paper run."""
    folder = tmp_path_factory.mktemp("stage")
    config = a_config(**{**OFTEN, "max_notional_usdt": 500.0})
    prediction = Prediction(trades=50, mean_net_bps=0.0, deviation_net_bps=50.0)
    provenance = {"statistical_gate": True, "data_end": NOW - timedelta(days=1), "prediction": vars(prediction)}
    chosen = Chosen(config_hash=config.config_hash, config=config, provenance=provenance, risk=RISK)
    path, journal = folder / "chosen.toml", folder / "paper.sqlite"
    path.write_text(tomli_w.dumps(document_of(chosen)))
    paper([config], journal, hours=0.4)
    return path, journal


def test_a_paper_stage_is_signed_for_and_the_runner_takes_it(stage, tmp_path):
    path = tmp_path / "chosen.toml"
    path.write_bytes(stage[0].read_bytes())
    approval = approve(path, stage[1], KEY, demands=FEW, days=30, now=NOW)
    chosen = load_chosen(path)
    assert chosen.approval == approval
    assert approval.paper.trades >= 2 and approval.parity == (f"P1 {approval.paper.chain_head}",)
    code = replace(code_identity(), is_dirty=False)
    assert real_refusals(chosen, operator=KEY.address, trading_signer=None, code=code, now=NOW) == []
    approve(path, stage[1], KEY, demands=FEW, days=60, now=NOW)  # again, for longer
    assert load_chosen(path).approval.expires == NOW + timedelta(days=60)


def test_too_short_a_stage_is_refused_with_every_reason_and_the_file_stays(stage):
    path, journal = stage
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"0\.0 days on paper, 7 are .*trades on paper, 1000 are asked for"):
        approve(path, journal, KEY, demands=Demands(least_paper_trades=1_000), days=30, now=NOW)
    assert path.read_bytes() == before


def test_a_run_that_this_code_does_not_repeat_is_refused_with_what_to_do(stage, monkeypatch):
    monkeypatch.setattr("pipelines.approve.replayed_head", lambda chosen, journal: "0" * 64)
    with pytest.raises(ValueError, match=r"ends with 0{12}, .* run a paper stage with this code, or approve with the"):
        approve(*stage, KEY, demands=FEW, days=30, now=NOW)


def test_a_config_that_did_not_run_there_is_refused(stage, tmp_path):
    with Journal(tmp_path / "empty.sqlite"):
        pass
    with pytest.raises(LookupError, match="did not run in it; give the journal of its own paper run"):
        approve(stage[0], tmp_path / "empty.sqlite", KEY, demands=FEW, days=30, now=NOW)
