"""Which maps of a lake there are, how far each is built, and what it takes to go on.

A map's rows are in the lake's tables; beside them, in ``maps/<symbol>/<source>``, lies one file per map with its state.
It is written after the rows: killed in between, the next build makes the same rows again, and the lake knows them.
"""

import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from data.config import config_hash
from research.clusters import lifecycle, predictive, reactive
from research.clusters.anchoring import BasisState
from research.clusters.hybrid import HybridConfig
from research.clusters.tiers import MapConfig

FORMAT = 1  # of states and of the rows: another number is another map
FOLDER = "maps"
_ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """What a map is made with; another value of any of these is another map.

    Parameters
    ----------
    every_minutes : from one snapshot to the next.
    top : clusters followed per side.
    horizon_s, min_print_usdt : what confidence is of: a forced order of that size inside the cluster by then.
    half_life_s : of forced orders, in maps of them.
    map : what is assumed about positions.
    hybrid : how sources are put together.
    """

    every_minutes: int = 5
    top: int = 20
    horizon_s: int = 14_400
    min_print_usdt: float = 0.0  # any
    half_life_s: float = float(reactive.HALF_LIFE_S)
    map: MapConfig = field(default_factory=MapConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.every_minutes <= 60 or 60 % self.every_minutes:
            raise ValueError(f"every_minutes: expected a divisor of 60, got {self.every_minutes}")


@dataclass(frozen=True, kw_only=True)
class MapKey:
    """One map.

    Parameters
    ----------
    symbol : as aster calls it.
    source : whose data it is made of.
    venue : where its prices hold: aster, or the source itself where no mark of aster is recorded.
    begin : of its data.
    layers : the maps a hybrid one is made of, which may become more.
    """

    symbol: str
    source: str
    venue: str
    begin: datetime
    settings: MapSettings
    layers: tuple["MapKey", ...] = ()

    @property
    def map_id(self) -> str:
        """12 hex digits: a hash of source, venue, beginning and settings."""
        told = {"format": FORMAT} | {name: getattr(self, name) for name in ("source", "venue", "begin", "settings")}
        return config_hash(told)[:12]


@dataclass(frozen=True, kw_only=True, eq=False)
class MapState:
    """Where a build stopped: everything before ``until`` is in the lake.

    Parameters
    ----------
    oi_base : open interest of the last snapshot, for the change to the next one; NaN before the first.
    book, basis, orders, clusters : what each step of the build goes on from; None before it began, or without it.
    """

    until: datetime
    oi_base: float = math.nan
    basis: BasisState | None = None
    book: predictive.State | None = None
    orders: reactive.ReactiveState | None = None
    clusters: lifecycle.State | None = None

    def to_bytes(self) -> bytes:
        """All of it; ``from_bytes`` gives it back."""
        basis = None if self.basis is None else vars(self.basis)
        about = {"format": FORMAT, "until": self.until.isoformat(), "oi_base": self.oi_base, "basis": basis}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(_ABOUT, json.dumps(about))
            for name, part in (("book", self.book), ("orders", self.orders), ("clusters", self.clusters)):
                if part is not None:
                    file.writestr(name, part.to_bytes())
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, settings: MapSettings) -> Self:
        """What ``to_bytes`` wrote of a map with these settings."""
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            parts = {name: file.read(name) for name in file.namelist()}
        about = json.loads(parts.pop(_ABOUT))
        return cls(
            until=datetime.fromisoformat(about["until"]),
            oi_base=about["oi_base"],
            basis=None if about["basis"] is None else BasisState(**about["basis"]),
            book=predictive.State.from_bytes(parts["book"], settings.map) if "book" in parts else None,
            orders=reactive.ReactiveState.from_bytes(parts["orders"]) if "orders" in parts else None,
            clusters=lifecycle.State.from_bytes(parts["clusters"]) if "clusters" in parts else None,
        )


def load(root: Path, key: MapKey) -> MapState | None:
    """Where the build of a map stopped; None where it has not begun."""
    try:
        return MapState.from_bytes(_path(root, key).read_bytes(), key.settings)
    except FileNotFoundError:
        return None


def save(root: Path, key: MapKey, state: MapState) -> None:
    """Write the state down; whoever reads meanwhile sees the one before."""
    path = _path(root, key)
    unnamed = path.with_suffix(".tmp")
    with unnamed.open("wb") as file:
        file.write(state.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    unnamed.replace(path)


@contextmanager
def building(root: Path, key: MapKey) -> Iterator[None]:
    """Held while a map is built, by one at a time.

    Raises
    ------
    ValueError
        When another process builds this map.
    """
    path = _path(root, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{key.symbol} {key.source}: another process builds this map; wait for it to end") from None


def _path(root: Path, key: MapKey) -> Path:
    return root / FOLDER / key.symbol / key.source / f"{key.map_id}.state"
