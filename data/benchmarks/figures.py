"""One figure of a benchmark, beside its baseline and its target."""


def figure(
    what: str,
    value: float,
    unit: str,
    *,
    baseline: str | None = None,
    baseline_value: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> dict:
    """What ``aster bench`` prints: what, value, unit, baseline, baseline_value, ratio, target, holds."""
    target = at_most if at_least is None else at_least
    return {
        "what": what,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": baseline_value,
        "ratio": None if baseline_value is None else value / baseline_value,
        "target": target,
        "holds": (at_least is None or value >= at_least) and (at_most is None or value <= at_most),
    }
