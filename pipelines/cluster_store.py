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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from research.clusters import lifecycle, predictive, reactive
from research.clusters.anchoring import BasisState
from research.clusters.maps import FORMAT, MapKey, MapSettings

FOLDER = "maps"
_ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class MapState:
    """Where a build stopped: everything before ``until`` is in the lake.

    Parameters
    ----------
    oi_base : open interest of the last snapshot, for the change to the next one; NaN before the first.
    book, basis, orders, clusters : what each step of the build goes on from; None before it began, or without it.
    inputs : how many rows it was made of, see ``cluster_inputs.count``; None where nobody counted.
    """

    until: datetime
    oi_base: float = math.nan
    basis: BasisState | None = None
    book: predictive.State | None = None
    orders: reactive.ReactiveState | None = None
    clusters: lifecycle.State | None = None
    inputs: dict[str, int] | None = None

    def to_bytes(self) -> bytes:
        """All of it; ``from_bytes`` gives it back."""
        basis = None if self.basis is None else vars(self.basis)
        plain = {"until": self.until.isoformat(), "oi_base": self.oi_base, "inputs": self.inputs}
        about = {"format": FORMAT, **plain, "basis": basis}
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
            inputs=about.get("inputs"),
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
