"""The candidate: a config that is edited beside the one that runs, checked, and written as a file to promote.

The runner never reads it by itself. Its file is what `aster-live --config` takes, and says that nothing was tested.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from data.config import load
from live.dashboard.answers import Answer, Config, Moment
from research.engine import TradingConfig, refusals

_HEADER = "# Edited in the dashboard and never tested. Read by people; `aster-live --config` runs it on paper.\n\n"


class Edited(BaseModel):
    """A config as the page sends it, and which one it began as."""

    model_config = ConfigDict(extra="forbid")

    config: Annotated[dict[str, Any], Field(description="every key of a trading config; see `running`")]
    based_on: Annotated[str, Field(description="config_hash that it began as", max_length=64)]


class Change(Answer):
    """One value that differs from the config it began as."""

    key: Annotated[str, Field(examples=["orders.notional_usdt"])]
    running: Any
    candidate: Any


class Checked(Answer):
    """What is wrong with a candidate, or that nothing is."""

    is_valid: bool
    problems: list[str]
    config_hash: str | None
    changes: list[Change]
    saved_as: Annotated[str | None, Field(description="the file, once it was saved")] = None


class Configs(Answer):
    """What runs, and the candidate that was saved last."""

    running: list[Config]
    candidate: dict[str, Any] | None
    candidate_hash: str | None
    candidate_saved: Moment
    candidate_path: str


class Candidate:
    """The candidate's file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def configs(self, running: list[Config]) -> Configs:
        """Everything that the page shows."""
        stored = tomllib.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        return Configs(
            running=running,
            candidate=stored.get("config"),
            candidate_hash=stored.get("config_hash"),
            candidate_saved=stored.get("provenance", {}).get("created"),
            candidate_path=str(self.path),
        )

    def check(self, edited: Edited, running: Config | None, instrument: Mapping[str, Any]) -> Checked:
        """Whether that could run: every key is known, every value possible, and the exchange could execute it."""
        try:
            config = load(TradingConfig, edited.config, "candidate")
        except (ValueError, LookupError) as error:  # a lookup: of a strategy that there is not
            return Checked(is_valid=False, problems=[str(error)], config_hash=None, changes=[])
        problems = refusals(config, instrument) if instrument else []
        before, after = ({} if running is None else dict(_leaves(running.config))), dict(_leaves(plain(config)))
        changes = [
            Change(key=key, running=before.get(key), candidate=after.get(key))
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key)
        ]
        return Checked(is_valid=not problems, problems=problems, config_hash=config.config_hash, changes=changes)

    def save(self, edited: Edited, checked: Checked) -> Checked:
        """Write it, whole or not at all; what runs is not touched.

        Raises
        ------
        ValueError
            When it is not valid.
        """
        if not checked.is_valid:
            raise ValueError("; ".join(checked.problems))
        config = load(TradingConfig, edited.config, "candidate")
        provenance = {
            "run": "edited in the dashboard",
            "based_on": edited.based_on,
            "created": datetime.now(UTC).replace(microsecond=0),
            "statistical_gate": False,
            "findings": ["edited by hand: no sweep, no walk-forward and no gate has seen this config"],
        }
        document = {"config_hash": config.config_hash, "config": plain(config), "provenance": provenance}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        part.write_text(_HEADER + tomli_w.dumps(document), encoding="utf-8")
        part.replace(self.path)
        return checked.model_copy(update={"saved_as": str(self.path)})


def plain(value: Any) -> Any:
    """A config as TOML and JSON have it: what is None is left out."""
    if isinstance(value, TradingConfig):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no table, by its dotted name."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, item in value.items():
        if item is not None:
            yield from _leaves(item, f"{path}.{key}" if path else key)
