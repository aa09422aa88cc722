"""The strategies, by name. A new one is a module beside this file and a line here."""

from types import ModuleType

from research.strategies import cluster_breakout, liquidation_fade, liquidation_hunt, momentum, support_resistance

STRATEGIES: dict[str, ModuleType] = {
    module.NAME: module
    for module in (momentum, liquidation_fade, liquidation_hunt, support_resistance, cluster_breakout)
}


def strategy(name: str) -> ModuleType:
    """The module of a strategy: NAME, Params, Row, GRID, columns, decide; EXIT_PARAMS where they are told apart."""
    if name not in STRATEGIES:
        raise LookupError(f"unknown strategy {name!r}; there are {sorted(STRATEGIES)}")
    return STRATEGIES[name]
