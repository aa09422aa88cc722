"""Which code runs: what a sweep was made with, what a promotion approved, and what the runner is must be comparable."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("data", "research", "live", "pipelines")


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
    from research.fills import FILL_MODEL_VERSION  # late: who asks for the checkout alone needs no compiler
    from research.kernel import ENGINE_VERSION

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
        is_dirty=is_dirty(),
        lock_hash=hashlib.sha256((CHECKOUT / "requirements.lock").read_bytes()).hexdigest(),
        engine_version=ENGINE_VERSION,
        fill_model_version=FILL_MODEL_VERSION,
    )


def is_dirty() -> bool | None:
    """Whether a file differs from what was committed, or is new; None where there is no git or no repository.

    What a filter takes out of a notebook is no difference, though ``git status`` takes another size for one.
    """
    others = "--", ":!live/configs"
    changed = _git("diff", "HEAD", "--name-only", *others)
    new = _git("ls-files", "--others", "--exclude-standard", *others)
    return None if changed is None or new is None else bool(changed or new)


def _git(*arguments: str) -> str | None:
    """Output of a git command; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
