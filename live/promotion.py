"""What a promoted config needs before it trades for real, and every reason why it must not.

The statistical gate speaks at promotion. What is here is operational: the code that was tested is the code that runs,
a paper stage went as predicted, its replay decided the same, and the operator has signed for exactly this file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from data.config import canonical_json, load
from live.approval import Demands, PaperStage, Prediction
from live.config import Chosen
from live.identity import CodeIdentity
from live.journal import read_journal
from live.journal_trades import trades

_DAY_MS = 86_400_000


def prediction_of(listed: pl.DataFrame) -> Prediction:
    """Of a trade list, frame of ``research.trades.TRADES``."""
    net = net_bps(listed)
    return Prediction(
        trades=len(net),
        mean_net_bps=float(net.mean() or 0.0),
        deviation_net_bps=float(net.std() or 0.0) if len(net) > 1 else 0.0,
    )


def net_bps(listed: pl.DataFrame) -> pl.Series:
    """Net of every closed trade, bps of its notional at entry."""
    closed = listed.filter(pl.col("reason") != "open")
    return (closed["net_pnl_usdt"] / (closed["quantity"] * closed["entry_price"]) * 1e4).rename("net_bps")


def paper_stage(journal: Path, chosen: Chosen) -> PaperStage:
    """What a paper run's journal says of a config.

    Raises
    ------
    LookupError
        When there is no such journal, or the config did not run in it.
    ValueError
        When the journal is of another mode, or not sound.
    """
    events = read_journal(journal)
    own = events.filter(pl.col("config_hash") == chosen.config_hash)
    if own.is_empty():
        raise LookupError(
            f"{journal}: config {chosen.config_hash[:10]} did not run in it; give the journal of its own paper run"
        )
    mode = json.loads(own["body"][0])["mode"]
    if mode != "paper":
        raise ValueError(f"{journal}: expected the journal of a paper run, got one of mode {mode}")
    net = net_bps(trades(journal, chosen.config_hash, chosen.config.symbol))
    low, high = predicted(chosen).interval_bps(len(net))
    return PaperStage(
        chain_head=events["hash"][-1],
        days=(own["ts_ms"].max() - own["ts_ms"].min()) / _DAY_MS,
        trades=len(net),
        mean_net_bps=float(net.mean() or 0.0),
        low_bps=low,
        high_bps=high,
    )


def predicted(chosen: Chosen) -> Prediction:
    """What the sweep predicts of the config's trades.

    Raises
    ------
    ValueError
        When the file was promoted by code that did not predict.
    """
    told = chosen.provenance.get("prediction")
    if told is None:
        raise ValueError("[provenance] has no prediction of its trades; promote it again")
    return load(Prediction, told, "[provenance.prediction]")


def signed_text(document: Mapping[str, Any]) -> str:
    """What the operator signs: the file in its canonical form, less the signature."""
    approval = {name: value for name, value in document["approval"].items() if name != "signature"}
    return canonical_json({**document, "approval": approval}).decode()


def document_of(chosen: Chosen) -> dict[str, Any]:
    """A promoted config as plain values, what is None left out: TOML has no word for it."""
    return _without_none(asdict(chosen))


def real_refusals(
    chosen: Chosen, *, operator: str, trading_signer: str | None, code: CodeIdentity, now: datetime
) -> list[str]:
    """Every reason why a config must not trade for real; none when it may.

    Parameters
    ----------
    operator : the address that the account's owner trusts; not out of the file itself.
    trading_signer : address of the agent that signs orders; None of an API key.
    code : that runs.
    now : UTC.
    """
    approval, risk, orders = chosen.approval, chosen.risk, chosen.config.orders
    if approval is None:
        return ["it is not approved: nobody has signed for it; `aster approve` does after a paper stage"]
    if risk is None:
        return ["it has no [risk]: promote it with --risk"]
    demands, paper = approval.demands, approval.paper
    data_end = chosen.provenance.get("data_end")
    oldest = now - timedelta(days=demands.most_data_age_days)
    said = [
        (chosen.provenance.get("statistical_gate") is not True, "the statistical gate did not let it through"),
        (
            not _is_signed(chosen, operator),
            f"its signature is not {operator}'s: another signed, or it was changed",
        ),
        (
            trading_signer is not None and trading_signer.lower() == approval.operator.lower(),
            "it was approved with the key that trades; the operator's key is another one",
        ),
        (now >= approval.expires, f"the approval ended {approval.expires:%Y-%m-%d %H:%M} UTC; approve it again"),
        (
            data_end is None or data_end < oldest,
            f"its data end {data_end}, more than {demands.most_data_age_days:g} days ago; sweep on newer data",
        ),
        (code.code_hash != approval.code_hash, "the code that runs is not the code that was approved"),
        (code.lock_hash != approval.lock_hash, "the locked libraries are not those that were approved"),
        (bool(code.is_dirty), "the checkout has uncommitted changes"),
        (
            orders.max_notional_usdt > risk.entries.max_symbol_notional_usdt,
            f"its max_notional_usdt {orders.max_notional_usdt:g} is above the limit of "
            f"{risk.entries.max_symbol_notional_usdt:g} USDT per symbol",
        ),
        (not approval.parity, "no replay of its paper stage is named"),
    ]
    return [reason for holds, reason in said if holds] + stage_refusals(paper, demands)


def stage_refusals(paper: PaperStage, demands: Demands) -> list[str]:
    """What is lacking of a paper stage."""
    said = [
        (
            paper.days < demands.least_paper_days,
            f"{paper.days:.1f} days on paper, {demands.least_paper_days:g} are asked for",
        ),
        (
            paper.trades < demands.least_paper_trades,
            f"{paper.trades} trades on paper, {demands.least_paper_trades} are asked for",
        ),
        (
            not paper.low_bps <= paper.mean_net_bps <= paper.high_bps,
            f"paper trades earned {paper.mean_net_bps:+.2f} bps each, predicted were {paper.low_bps:+.2f} to "
            f"{paper.high_bps:+.2f}",
        ),
    ]
    return [reason for holds, reason in said if holds]


def _is_signed(chosen: Chosen, operator: str) -> bool:
    if chosen.approval.operator.lower() != operator.lower():
        return False
    from data.venues.signing import message_signer  # a second to import, which only a signature needs

    try:
        signer = message_signer(signed_text(document_of(chosen)), chosen.approval.signature)
    except ValueError:
        return False
    return signer.lower() == operator.lower()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, tuple | list) else value
