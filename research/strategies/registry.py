"""The strategies, by name. A new one is a module beside this file and a line here."""

from importlib import import_module
from types import ModuleType

STRATEGIES: dict[str, ModuleType] = {
    name: import_module(f"research.strategies.{name}")
    for name in (
        "momentum",
        "liquidation_fade",
        "liquidation_hunt",
        "support_resistance",
        "cluster_breakout",
    )
}


def strategy(name: str) -> ModuleType:
    """The module of a strategy: NAME, Params, Row, GRID, columns, decide; EXIT_PARAMS where they are told apart."""
    if name not in STRATEGIES:
        raise LookupError(f"unknown strategy {name!r}; there are {sorted(STRATEGIES)}")
    return STRATEGIES[name]
