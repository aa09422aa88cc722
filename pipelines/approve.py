"""``aster approve``: after a paper stage the operator signs for a promoted config, and it may trade for real."""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import tomli_w

from data.venues.signing import OperatorKey, signed_message
from live.approval import Approval, Demands
from live.config import Chosen, load_chosen
from live.dispatch import walk
from live.identity import code_identity
from live.journal import Journal, feed_folder
from live.promotion import document_of, paper_stage, signed_text, stage_refusals
from pipelines.runs import write_whole

_HEADER = (
    "# Approved by `aster approve`. Any edit breaks its signature, and the runner refuses to trade it for real.\n\n"
)


def approve(
    path: Path, journal: Path, key: OperatorKey, *, demands: Demands, days: float, now: datetime | None = None
) -> Approval:
    """Sign for a promoted config, in place.

    Parameters
    ----------
    journal : of the paper run; its input log is replayed.
    days : how long the approval holds.

    Raises
    ------
    ValueError
        When the paper stage lacks something, its replay decides otherwise, the code is not committed or there is no
        [risk]: all reasons at once.
    LookupError
        When there is no such file, or the config is not in the journal.
    """
    chosen, code, now = load_chosen(path), code_identity(), now or datetime.now(UTC)
    paper = paper_stage(journal, chosen)
    replayed = replayed_head(chosen, journal)
    reasons = stage_refusals(paper, demands)
    if chosen.risk is None:
        reasons.append("it has no [risk]: promote it with --risk")
    if replayed != paper.chain_head:
        reasons.append(
            f"the replay of its input log ends with {replayed[:12]}, the run with {paper.chain_head[:12]}: the "
            "code is not the one that traded; run a paper stage with this code, or approve with the code of that run"
        )
    if reasons:
        raise ValueError(f"{path} is not approved: " + "; ".join(reasons))
    approval = Approval(
        operator=key.address,
        approved=now.replace(microsecond=0),
        expires=now.replace(microsecond=0) + timedelta(days=days),
        code_hash=code.code_hash,
        lock_hash=code.lock_hash,
        paper=paper,
        parity=(f"P1 {replayed}",),
        demands=demands,
    )
    signature = signed_message(signed_text(document_of(replace(chosen, approval=approval))), key)
    approval = replace(approval, signature=signature)
    document = document_of(replace(chosen, approval=approval))
    write_whole(path, (_HEADER + tomli_w.dumps(document)).encode())
    return approval


def replayed_head(chosen: Chosen, journal: Path) -> str:
    """Hash of the last event that the replay of a paper run's input log writes."""
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "replayed.sqlite") as again:
        walk([chosen.config], feed_folder(journal), again)
        return again.head
