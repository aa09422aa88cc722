"""``aster bench``: every claim of speed beside its baseline, measured in one run."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parents[1]


def real_data() -> Path | None:
    """Folder of real recordings (``ASTER_REAL_DATA``, default beside the checkout); None where there is none."""
    folder = Path(os.environ.get("ASTER_REAL_DATA", _CHECKOUT.parent / "shared" / "real"))
    return folder if folder.is_dir() else None


BENCHMARKS = (
    "sweep", "gate", "fills", "features", "clusters", "record", "lake", "live", "dashboard", "soak", "live-soak",
)  # fmt: skip


def run_bench(name: str, folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Figures of one of ``BENCHMARKS``: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Parameters
    ----------
    folder : for what is made on the way: ``lake`` keeps its synthetic year there, ``dashboard`` its month of a map,
        ``soak`` what it recorded, ``live-soak`` its journal.
    minutes : how long ``soak`` and ``live-soak`` take.
    """
    return {"name": name, "machine": machine(), "figures": _figures(name, folder, minutes, tell)}


def _figures(name: str, folder: Path, minutes: float, tell: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    if name == "sweep":
        from research.benchmarks.bench_sweep import bench_minutes, bench_sweep

        return bench_sweep(bench_minutes(real_data()))
    if name == "gate":
        from research.benchmarks.bench_gate import bench_gate

        return bench_gate(tell)
    if name == "fills":
        from research.benchmarks.bench_fills import bench_fills

        return bench_fills()
    if name == "features":
        from research.benchmarks.bench_features import bench_features

        return bench_features()
    if name == "clusters":
        from research.benchmarks.bench_clusters import bench_clusters

        return bench_clusters()
    if name == "record":
        from data.benchmarks.bench_record import bench_record

        return bench_record(real_data())
    if name == "lake":
        from data.benchmarks.bench_lake import bench_lake

        return bench_lake(folder, real_data(), tell)
    if name == "live":
        from live.benchmarks.bench_live import bench_live

        return bench_live(tell)
    if name == "dashboard":
        from live.benchmarks.bench_dashboard import bench_dashboard

        return bench_dashboard(folder)
    if name == "live-soak":
        from pipelines.live_soak import run_live_soak

        return run_live_soak(folder, minutes, tell)
    from pipelines.soak import run_soak

    return run_soak(folder, minutes, tell)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from live.identity import code_identity

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": code_identity().commit,
    }
