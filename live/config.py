"""The one file a run is started from: a promoted config, proven unchanged since it was promoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.config import load
from live.approval import Approval
from live.oversight import RiskConfig
from research.engine import TradingConfig


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A promoted config.

    Attributes
    ----------
    config_hash : sha256 of the canonical JSON form of ``config``, as written at promotion.
    config : what is traded.
    provenance : where it came from; not part of the hash.
    risk : what a run of it may lose and hold; None: a paper run is watched by nobody, a real one is refused.
    approval : by which the operator lets it trade for real; None: it may not.
    """

    config_hash: str
    config: TradingConfig
    provenance: dict[str, Any]
    risk: RiskConfig | None = None
    approval: Approval | None = None


def load_chosen(path: Path) -> Chosen:
    """Read a promoted config.

    Raises
    ------
    LookupError
        When there is no such file.
    ValueError
        On an unknown or missing key, or when the config is not the one that was promoted.
    """
    if not path.is_file():
        raise LookupError(f"no config at {path}; `aster promote RUN --rank N` writes one")
    chosen = load(Chosen, path, str(path))
    if chosen.config.config_hash != chosen.config_hash:
        raise ValueError(
            f"{path}: config_hash is {chosen.config_hash}, but [config] hashes to {chosen.config.config_hash}: "
            "it was edited after promotion; promote again"
        )
    if chosen.config.symbol.startswith("TEST"):
        raise ValueError(f"{path}: {chosen.config.symbol} is one of the exchange's own test symbols; take another")
    return chosen


def risk_of(chosen: Sequence[Chosen]) -> RiskConfig | None:
    """The limits of a run of these together.

    Raises
    ------
    ValueError
        When they do not say the same: the limits are those of the account.
    """
    first = chosen[0].risk
    for other in chosen:
        if other.risk != first:
            raise ValueError(
                f"[risk] of {other.config.symbol} is not that of {chosen[0].config.symbol}: it limits the run as a "
                "whole, so all of its files say the same"
            )
    return first
