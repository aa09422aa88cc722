"""A damaged file's rows once more, from the raw log; what is not there any more goes into the gap ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from data import ledger, raw
from data.lake import Lake
from data.landing import Lander, Landing
from data.manifest import FileEntry
from data.schema import GAPS, QUARANTINE, RAW, TABLES
from data.wal import Kind

_BEFORE = timedelta(minutes=10)  # whole segments, and our clock may have been slow
_AFTER = timedelta(minutes=10)  # the exchange may send so late


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What became of a damaged file.

    Parameters
    ----------
    aside : where it lies now.
    lost : rows that it held.
    recovered : rows that are in the lake again.
    gaps : new rows of the ledger, cause corrupt, for what is not.
    """

    path: str
    table: str
    aside: Path
    lost: int
    recovered: int
    gaps: int


def rebuild(lake: Lake, path: str, now: datetime | None = None) -> Rebuilt:
    """Set a damaged file aside and store its rows again from the raw log, as far as that is retained and readable.

    Parameters
    ----------
    path : of a file of the lake, relative to it.
    now : for the ledger; None for the machine's clock.

    Raises
    ------
    LookupError
        When the lake has no such file.
    OSError
        When the disk is full or not writable. What was stored again by then stays; ``aster repair`` finds the rest.
    """
    entry = next((entry for entry in lake.files() if entry.path == path), None)
    if entry is None:
        raise LookupError(f"{path}: the lake has no such file; give a path that `aster verify` names")
    lost = lake.facts([entry.table]).filter(pl.col("path") == path)
    aside = lake.set_aside(path)
    recovered = 0 if entry.table == RAW.name else _restore(lake, entry)
    gaps = 0
    if recovered < entry.rows:
        rows = ledger.corrupt(lake, lost, datetime.now(UTC) if now is None else now)
        gaps = lake.append(GAPS.name, rows, origin=f"rebuild {path}").landed
    return Rebuilt(
        path=path, table=entry.table, aside=aside, lost=entry.rows, recovered=min(recovered, entry.rows), gaps=gaps
    )


def _restore(lake: Lake, entry: FileEntry) -> int:
    """Store the rows of a file's date again; returns how many were new."""
    table = TABLES[entry.table]
    landed = 0
    for landing in _landings(lake, entry):
        found = landing.quarantine if table is QUARANTINE else landing.tables.get(table.name)
        if found is not None:
            of_the_day = found.filter(pl.col(table.time).dt.date() == entry.dt)
            landed += lake.append(table.name, of_the_day, origin=f"rebuild {entry.path}").landed
    return landed


def _landings(lake: Lake, entry: FileEntry) -> Iterator[Landing]:
    """What the raw log holds that may have been in the file: what arrived meanwhile, and every later answer.

    Segment by segment, as when they were sealed: the same records give the same rows.
    """
    start, end = entry.min_time - _BEFORE, entry.max_time + _AFTER
    landers: dict[str, Lander] = {}
    for rows in raw.read(lake, start=start, end=end, skip_damaged=True):
        parts = rows.sort("segment", "line").partition_by("segment", maintain_order=True)
        landers = {name: landers.get(name) or Lander(segment=name) for name in (part["segment"][0] for part in parts)}
        for lander, part in zip(landers.values(), parts, strict=True):
            lander.add(raw.as_records(part))
            yield lander.take()
    answers = Lander(segment="answers")
    for rows in raw.read(lake, start=end, kinds=[Kind.ANSWER], skip_damaged=True):
        answers.add(raw.as_records(rows))
        yield answers.take()
