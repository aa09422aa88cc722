"""The one file a run is started from: a promoted config, proven unchanged since it was promoted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.config import load
from research.engine import TradingConfig


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A promoted config.

    Attributes
    ----------
    config_hash : sha256 of the canonical JSON form of ``config``, as written at promotion.
    config : what is traded.
    provenance : where it came from; not part of the hash.
    """

    config_hash: str
    config: TradingConfig
    provenance: dict[str, Any]


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
    return chosen
