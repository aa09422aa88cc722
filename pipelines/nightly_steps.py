"""One step of a night: ``python -m pipelines.nightly_steps FOLDER STEP`` runs it and prints its outcome as JSON."""

import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from pipelines.nightly import STEPS, open_night
from pipelines.terminal import ERRORS


def main(folder: str, name: str) -> int:
    """Run one step; what a user can mend is one sentence and status 1."""
    try:
        outcome = getattr(import_module(STEPS[name]), name)(open_night(Path(folder)))
    except (ValueError, OSError, LookupError, RuntimeError) as error:
        ERRORS.print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
