"""What is settled before a config runs on a symbol: what it looks at, how far back, on which terms it trades. Pure."""

from dataclasses import dataclass
from types import ModuleType

from data.schema import interval_ms
from live.feed import Header
from research import features
from research.bars import SIGNAL
from research.clusters.columns import CLUSTER_COLUMNS
from research.engine import TradingConfig, feature_constants, feature_names, refusals, terms_of
from research.fills import Terms
from research.strategies.registry import strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """What stays the same while a config runs on a symbol.

    Attributes
    ----------
    inputs : names of the values in ``BarClosed.inputs``.
    lookback_bars : rows that the features of one row are computed from.
    instance : three characters in every client order id.
    """

    config: TradingConfig
    config_hash: str
    strategy: ModuleType
    params: tuple
    columns: tuple[str, ...]
    terms: Terms
    constants: dict[str, float]
    inputs: tuple[str, ...]
    lookback_bars: int
    interval_ms: int
    instance: str


def input_names(config: TradingConfig) -> tuple[str, ...]:
    """The columns that the config's features and sizes are computed from, of bars and map, all known when the bar is.

    Raises
    ------
    ValueError
        When a feature looks at what the market did after the decision.
    """
    names = feature_names(strategy(config.strategy), [config.typed_params()], config.orders)
    needed = dict.fromkeys(column for name in names for column in features.feature_of(name)[0].inputs)
    if ahead := sorted(set(needed) - set(SIGNAL) - set(CLUSTER_COLUMNS)):
        raise ValueError(f"strategy {config.strategy} looks ahead: {ahead} are not known at the decision")
    return tuple(needed)


def lookback_bars(config: TradingConfig) -> int:
    """Rows that the features of one row are computed from, the row included."""
    return features.lookback_bars(feature_names(strategy(config.strategy), [config.typed_params()], config.orders))


def rules_of(config: TradingConfig, header: Header, instance: str) -> Rules:
    """Settle everything that does not change during the run.

    Raises
    ------
    ValueError
        When the exchange could not execute the config.
    """
    if reasons := refusals(config, header.instrument):
        raise ValueError(f"{config.symbol}: not executable: " + "; ".join(reasons))
    module, params = strategy(config.strategy), config.typed_params()
    columns = tuple(module.columns(params))
    return Rules(
        config=config,
        config_hash=config.config_hash,
        strategy=module,
        params=params,
        columns=columns,
        terms=terms_of(config.costs, config.orders, header.instrument),
        constants=feature_constants(config.costs, header.instrument),
        inputs=header.inputs,
        lookback_bars=lookback_bars(config),
        interval_ms=interval_ms(config.interval),
        instance=instance,
    )
