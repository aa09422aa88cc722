"""Run folders: one per sweep, readable for ever, resumable until finished."""

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from data.config import load
from pipelines.identity import CHECKOUT
from research.sweep import SweepConfig

FINISHED, RUNNING = "finished", "running"


def default_runs() -> Path:
    """Folder of runs: ``ASTER_RUNS`` or ``pipelines/runs`` in the checkout."""
    return Path(os.environ.get("ASTER_RUNS", CHECKOUT / "pipelines" / "runs"))


@dataclass(frozen=True)
class RunFolder:
    """A sweep's folder: config.toml, manifest.json, blocks/, results.parquet and what was made of them."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run was computed from and how far it is."""
        return json.loads((self.path / "manifest.json").read_text())

    @property
    def config(self) -> SweepConfig:
        """The sweep's own copy of its config."""
        return load(SweepConfig, self.path / "config.toml", str(self.path / "config.toml"))

    def frame(self, name: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A Parquet file of the run, such as results, evaluated, folds, trades, equity; all columns, or these."""
        return pl.read_parquet(self._stored(name), columns=columns)

    def scan(self, name: str) -> pl.LazyFrame:
        """The same, read where it is asked for something."""
        return pl.scan_parquet(self._stored(name))

    def _stored(self, name: str) -> Path:
        path = self.path / f"{name}.parquet"
        if not path.exists():
            raise LookupError(
                f"{path} does not exist: the run is {self.manifest['state']}; run `aster sweep` to finish it"
            )
        return path

    def write_frame(self, name: str, frame: pl.DataFrame) -> None:
        """Write a Parquet file of the run, whole or not at all."""
        encoded = io.BytesIO()
        frame.write_parquet(encoded, compression="zstd", statistics=False)
        write_whole(self.path / f"{name}.parquet", encoded.getvalue())

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file of the run, whole or not at all."""
        text = json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"
        write_whole(self.path / name, text.encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: a full disk leaves what was there before, and says so."""
    # A name of its own: two processes may go on with one sweep, and write the same block at the same time.
    part = path.with_name(f"{path.name}.{uuid4().hex[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: {len(content):,} bytes for {path} were not written; free space there and run the same "
            "command again: what is finished is kept",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def runs(folder: Path) -> Iterator[RunFolder]:
    """Every run below a folder, oldest first."""
    for manifest in sorted(folder.glob("*/manifest.json")):
        yield RunFolder(manifest.parent)


def open_run(folder: Path, name: str) -> RunFolder:
    """A run by its path, its folder name, or ``latest`` (the newest finished).

    Raises
    ------
    LookupError
        Naming the runs there are.
    """
    if (Path(name) / "manifest.json").exists():
        return RunFolder(Path(name).resolve())
    there = list(runs(folder))
    if name == "latest" and (finished := [run for run in there if run.manifest["state"] == FINISHED]):
        return finished[-1]
    for run in there:
        if run.path.name == name:
            return run
    raise LookupError(f"no run {name!r} in {folder}; there are: {', '.join(run.path.name for run in there) or 'none'}")


def start_run(folder: Path, name: str, identity: dict[str, Any]) -> tuple[RunFolder, bool]:
    """The unfinished run of this identity to go on with, or a new folder; and whether it is resumed."""
    for run in runs(folder):
        manifest = run.manifest
        if manifest["state"] == RUNNING and manifest["identity"] == identity:
            return run, True
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    path = folder / stamp
    attempt = 1
    while path.exists():
        attempt += 1
        path = folder / f"{stamp}-{attempt}"
    path.mkdir(parents=True)
    return RunFolder(path), False
