"""What a night proves of the day's runs: replay, engine, feed and backtest say what the runner did.

A run that decided otherwise than its replay or its backtest is told: it enters nothing until the operator has looked.
"""

from datetime import UTC, datetime
from pathlib import Path

from data.clock import RealClock
from data.lake import Lake
from live.commands import ALARM_HOLDS_MS, ask
from live.ctl import JOURNALS
from live.journal import feed_folder, read_journal
from pipelines.nightly import Night, Outcome
from pipelines.parity import FEED, parity_id, proofs_of
from research import formats


def parity(night: Night) -> Outcome:
    """Prove every run that traded on the day; one that cannot be proven is told."""
    folder = Path(night.settings.journals) if night.settings.journals else JOURNALS
    facts, human, runs = {}, [], 0
    for path in (path for path in sorted(folder.glob("*.sqlite")) if feed_folder(path).is_dir()):
        try:
            proofs = proofs_of(path, feed_folder(path), Lake(night.lake)) if _ran(path, night) else None
        except (ValueError, LookupError) as error:
            runs += 1
            human.append(f"{path.name} could not be proven: {error}")
            continue
        if proofs is None:
            continue
        runs += 1
        facts[f"{path.name}: parity"] = parity_id(proofs)[:12]
        broken = [proof for proof in proofs if proof.holds is False]
        found = "; ".join(f"{proof.name}: {proof.found}" for proof in broken)
        if broken:
            human.append(f"{path.name}: {found}: run `aster explain {path}` before anything new is entered")
        if any(proof.name != FEED for proof in broken):  # what was not heard has its gaps; it decided nothing otherwise
            ask(
                path, "parity", None, by="nightly", now_ms=RealClock().now_ms(), patience_ms=ALARM_HOLDS_MS, why=found
            )  # fmt: skip
    return Outcome(note=_note(runs, len(human)), facts=facts, human=tuple(human))


def _note(runs: int, unproven: int) -> str:
    if not runs:
        return "nothing traded that day"
    what = "one run" if runs == 1 else f"{formats.count(runs)} runs"
    return f"{what} of the day, {f'{formats.count(unproven)} not proven' if unproven else 'all of it proven'}"


def _ran(journal: Path, night: Night) -> bool:
    """Whether a journal was written to on the day."""
    written = read_journal(journal)["ts_ms"]
    if written.is_empty():
        return False
    first, last = (datetime.fromtimestamp(ms / 1_000, UTC) for ms in (written.min(), written.max()))
    return first < night.end and last >= night.start
