"""``aster bench``: every claim of speed beside its baseline, measured in one run."""

import os
import platform
from pathlib import Path
from typing import Any

from pipelines.identity import CHECKOUT, code_identity


def real_data() -> Path | None:
    """Folder of real recordings (``ASTER_REAL_DATA``, default beside the checkout); None where there is none."""
    folder = Path(os.environ.get("ASTER_REAL_DATA", CHECKOUT.parent / "shared" / "real"))
    return folder if folder.is_dir() else None


def run_bench(name: str) -> dict[str, Any]:
    """Figures of one benchmark: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Raises
    ------
    LookupError
        When there is no benchmark of that name.
    """
    if name != "sweep":
        raise LookupError(f"no benchmark {name!r}; there is: sweep")
    from research.benchmarks.bench_sweep import bench_minutes, bench_sweep

    figures = bench_sweep(bench_minutes(real_data()))
    return {"name": name, "machine": machine(), "figures": figures}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": code_identity().commit,
    }
