"""One figure of a benchmark, beside its baseline and its target."""

import re
from pathlib import Path


def figure(
    what: str,
    value: float,
    unit: str,
    *,
    baseline: str | None = None,
    baseline_value: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    ratio_at_least: float | None = None,
) -> dict:
    """What ``aster bench`` prints: what, value, unit, baseline, baseline_value, ratio, target, holds."""
    ratio = None if baseline_value is None else value / baseline_value
    targets = [target for target in (at_least, at_most, ratio_at_least) if target is not None]
    return {
        "what": what,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": baseline_value,
        "ratio": ratio,
        "target": targets[0] if targets else None,
        "holds": (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
        and (ratio_at_least is None or ratio >= ratio_at_least),
    }


def peak_mib() -> float:
    """Most memory this process held since it began, MiB; what ``getrusage`` tells includes its parent's peak."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(told[1]) / 1_024
