"""What a result was computed from: code, dependencies, data. Two runs with one identity give the same bytes."""

import hashlib
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from data.lake import Lake
from research.cluster_bars import READ_BEFORE
from research.fills import FILL_MODEL_VERSION
from research.kernel import ENGINE_VERSION

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("data", "research", "live", "pipelines")

# Tables a sweep's bars are built from.
BAR_TABLES = (
    "klines",
    "trades",
    "book_ticker",
    "mark_price",
    "mark_klines",
    "index_klines",
    "funding",
    "instruments",
)
# And those that the columns of a liquidation map come from.
MAP_TABLES = ("clusters", "cluster_events", "oi_state")


@dataclass(frozen=True, kw_only=True)
class CodeIdentity:
    """The code that ran, less ``live/configs`` (committing a promoted file changes nothing) and tests."""

    code_hash: str
    commit: str | None  # None outside a git checkout
    is_dirty: bool | None
    lock_hash: str
    engine_version: int
    fill_model_version: int


def code_identity() -> CodeIdentity:
    """Hash the sources and the lock file; ask git for the commit where there is one."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).parts
            if "tests" not in parts and parts[:2] not in (("data", "lake"), ("live", "configs"), ("pipelines", "runs")):
                digest.update("/".join(parts).encode())
                digest.update(path.read_bytes())
    return CodeIdentity(
        code_hash=digest.hexdigest(),
        commit=_git("rev-parse", "HEAD"),
        is_dirty=None if (status := _git("status", "--porcelain", "--", ":!live/configs")) is None else bool(status),
        lock_hash=hashlib.sha256((CHECKOUT / "requirements.lock").read_bytes()).hexdigest(),
        engine_version=ENGINE_VERSION,
        fill_model_version=FILL_MODEL_VERSION,
    )


def _git(*arguments: str) -> str | None:
    """Output of a git command; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def data_identity(lake: Lake, start: datetime, end: datetime, *, with_map: bool) -> dict[str, str]:
    """Sha256 per lake file that bars of [start, end) may read; instruments of any date.

    Parameters
    ----------
    with_map : the bars carry the columns of a liquidation map.
    """
    chosen = [
        entry
        for table in BAR_TABLES
        for entry in lake.files(table)
        if table == "instruments" or start.date() <= entry.dt <= end.date()
    ]
    if with_map:
        first = (start - READ_BEFORE).date()
        chosen += [entry for table in MAP_TABLES for entry in lake.files(table) if first <= entry.dt <= end.date()]
    return {str(entry.path): entry.sha256 for entry in sorted(chosen, key=lambda entry: str(entry.path))}
