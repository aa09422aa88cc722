"""A sweep's config beside the promoted one: which settings differ, and where the sweep tried that one, too."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipelines.run_history import flat
from pipelines.runs import RunFolder
from research import formats
from research.engine import TradingConfig


def differences(promoted: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(setting, as promoted, as it would be) of all settings that are not the same; – where one has none.

    Parameters
    ----------
    promoted, candidate : ``TradingConfig`` as plain values, as ``asdict`` or a file's ``[config]`` has them.
    """
    was, would_be = dict(flat(promoted)), dict(flat(candidate))
    names = [*would_be, *(name for name in was if name not in would_be)]
    pairs = [(name, was.get(name), would_be.get(name)) for name in names]
    return [(name.removeprefix("params."), _text(one), _text(other)) for name, one, other in pairs if one != other]


def row_of(run: RunFolder, config: TradingConfig) -> dict[str, Any] | None:
    """A config's row in a sweep's results; None where the sweep did not try it."""
    swept = run.config
    if config.strategy != swept.strategy or config.symbol not in swept.symbols:
        return None
    rows = run.frame("results").filter(
        pl.col("symbol") == config.symbol, *(pl.col(name) == config.params[name] for name in swept.swept)
    )
    for row in rows.iter_rows(named=True):
        if swept.trading_config(config.symbol, swept.params_of(row)).config_hash == config.config_hash:
            return row
    return None


def _text(value: object) -> str:
    if value is None:
        return formats.UNKNOWN
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
