"""What does not trade for real: unsigned, tampered with, of other code, out of date, or never proven on paper (F32)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import tomli_w

from data.venues.signing import OperatorKey, message_signer, signed_message
from live.approval import Approval, Demands, PaperStage, Prediction
from live.config import Chosen, load_chosen, risk_of
from live.gates import EntryLimits
from live.identity import CodeIdentity
from live.oversight import RiskConfig
from live.promotion import document_of, prediction_of, real_refusals, signed_text, stage_refusals
from live.risk import RiskLimits

OPERATOR, OTHER = OperatorKey("0x" + "11" * 32), OperatorKey("0x" + "22" * 32)
NOW = datetime(2026, 3, 10, tzinfo=UTC)
CODE = CodeIdentity(
    code_hash="c0de", commit=None, is_dirty=False, lock_hash="10c4", engine_version=1, fill_model_version=1
)  # fmt: skip
RISK = RiskConfig(
    paper_equity_usdt=1_000.0,
    account=RiskLimits(max_daily_drawdown=0.05, max_drawdown=0.2, max_losses_in_a_row=5),
    entries=EntryLimits(
        max_symbol_notional_usdt=500.0,
        max_total_notional_usdt=500.0,
        max_open_orders_per_symbol=1,
        max_entries_per_hour=10,
    ),
)
PAPER = PaperStage(chain_head="ab", days=8.0, trades=40, mean_net_bps=1.0, low_bps=-2.0, high_bps=3.0)
APPROVAL = Approval(
    operator=OPERATOR.address, approved=NOW, expires=NOW + timedelta(days=30), code_hash="c0de", lock_hash="10c4",
    paper=PAPER, parity=("P1 ab",),
)  # fmt: skip


@pytest.fixture
def approved(config):
    """A config that may trade for real: ``approved(days=3.0)`` with another paper stage."""

    def build(key=OPERATOR, **paper) -> Chosen:
        chosen = Chosen(
            config_hash=config().config_hash,
            config=config(),
            provenance={"run": "by hand", "statistical_gate": True, "data_end": NOW - timedelta(days=3)},
            risk=RISK,
            approval=replace(APPROVAL, paper=replace(PAPER, **paper)),
        )
        return signed(chosen, key)

    return build


def signed(chosen: Chosen, key=OPERATOR) -> Chosen:
    signature = signed_message(signed_text(document_of(chosen)), key)
    return replace(chosen, approval=replace(chosen.approval, signature=signature))


def refused(chosen: Chosen, *, now=NOW, code=CODE, agent=OTHER.address) -> list[str]:
    return real_refusals(chosen, operator=OPERATOR.address, trading_signer=agent, code=code, now=now)


def test_what_is_approved_may_trade_also_when_it_was_read_from_a_file(approved, tmp_path):
    chosen, path = approved(), tmp_path / "chosen.toml"
    path.write_text(tomli_w.dumps(document_of(chosen)))
    assert refused(chosen) == [] == refused(load_chosen(path))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("max_daily_drawdown = 0.05", "max_daily_drawdown = 0.5"), "it was changed"),
        (lambda text: text.replace("trades = 40", "trades = 41"), "it was changed"),
        (lambda text: text.replace('run = "by hand"', 'run = "by foot"'), "it was changed"),
        (lambda text: text.replace("2026-04-09", "2027-04-09"), "it was changed"),
        (lambda text: text[: text.index("[approval]")], "it is not approved"),
    ],
)
def test_one_changed_line_of_the_file_is_refused(approved, tmp_path, change, reason):
    text, path = tomli_w.dumps(document_of(approved())), tmp_path / "chosen.toml"
    assert change(text) != text
    path.write_text(change(text))
    assert any(reason in each for each in refused(load_chosen(path)))


def test_the_operators_key_counts_and_no_other(approved):
    assert refused(approved(OTHER)) == [f"its signature is not {OPERATOR.address}'s: another signed, or it was changed"]
    named = replace(approved(), approval=replace(APPROVAL, operator=OTHER.address))
    assert refused(signed(named, OTHER), agent=None) == refused(approved(OTHER))


def test_the_key_that_trades_cannot_approve(approved):
    (reason,) = refused(approved(), agent=OPERATOR.address)
    assert "approved with the key that trades" in reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (replace(CODE, code_hash="other"), "the code that runs is not the code that was approved"),
        (replace(CODE, lock_hash="other"), "the locked libraries are not those that were approved"),
        (replace(CODE, is_dirty=True), "the checkout has uncommitted changes"),
    ],
)
def test_other_code_is_refused(approved, code, reason):
    assert refused(approved(), code=code) == [reason]


def test_an_approval_ends_and_data_grow_old(approved):
    assert refused(approved(), now=NOW + timedelta(days=29, hours=23)) == []
    assert refused(approved(), now=NOW + timedelta(days=30)) == [
        "the approval ended 2026-04-09 00:00 UTC; approve it again"
    ]
    assert any("sweep on newer data" in each for each in refused(approved(), now=NOW + timedelta(days=58)))


def test_what_the_gate_refused_or_exceeds_the_limits_is_refused(approved, config):
    chosen = approved()
    unproven = signed(replace(chosen, provenance={**chosen.provenance, "statistical_gate": False}))
    assert refused(unproven) == ["the statistical gate did not let it through"]
    large = config(max_notional_usdt=501.0)
    assert refused(signed(replace(chosen, config=large, config_hash=large.config_hash))) == [
        "its max_notional_usdt 501 is above the limit of 500 USDT per symbol"
    ]
    assert refused(replace(chosen, risk=None)) == ["it has no [risk]: promote it with --risk"]


@pytest.mark.parametrize(
    ("paper", "reason"),
    [
        ({"days": 6.9}, "6.9 days on paper, 7 are asked for"),
        ({"trades": 29}, "29 trades on paper, 30 are asked for"),
        ({"mean_net_bps": -2.1}, "paper trades earned -2.10 bps each, predicted were -2.00 to +3.00"),
        ({"mean_net_bps": 3.1}, "paper trades earned +3.10 bps each, predicted were -2.00 to +3.00"),
    ],
)
def test_a_paper_stage_that_lacks_something_is_refused(approved, paper, reason):
    assert refused(approved(**paper)) == [reason]
    assert stage_refusals(replace(PAPER, **paper), Demands()) == [reason]


def test_a_prediction_is_as_wide_as_both_samples_are_small():
    listed = pl.DataFrame(
        {"reason": ["target", "stop", "open"], "net_pnl_usdt": [0.3, -0.1, 9.0], "quantity": [1.0] * 3,
         "entry_price": [100.0] * 3}
    )  # fmt: skip
    found = prediction_of(listed)
    assert (found.trades, round(found.mean_net_bps, 9), round(found.deviation_net_bps, 6)) == (2, 10.0, 28.284271)
    low, high = Prediction(trades=100, mean_net_bps=1.0, deviation_net_bps=10.0).interval_bps(25)
    assert (round(low, 4), round(high, 4)) == (round(1.0 - 1.96 * 5**0.5, 4), round(1.0 + 1.96 * 5**0.5, 4))


def test_the_signer_of_a_message_is_found_and_a_changed_one_is_anothers():
    signature = signed_message("aster", OPERATOR)
    assert message_signer("aster", signature) == OPERATOR.address
    assert message_signer("Aster", signature) != OPERATOR.address
    for broken in ("0x", signature[:-1], "0x" + "0" * 130):
        with pytest.raises(ValueError, match="signature:"):
            message_signer("aster", broken)


def test_the_exchanges_own_test_symbols_are_refused(config, promoted):
    with pytest.raises(ValueError, match="TESTUSDT is one of the exchange's own test symbols"):
        load_chosen(promoted(config(symbol="TESTUSDT")))


def test_configs_that_run_together_have_one_risk(approved):
    chosen = approved()
    assert risk_of([chosen, chosen]) == RISK
    with pytest.raises(ValueError, match="it limits the run as a whole"):
        risk_of([chosen, replace(chosen, risk=None)])
