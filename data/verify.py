"""Proof that the lake's files are what was stored, and that the manifest says of them what is in them."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from data import parquet
from data.facts import described, describing, merged
from data.lake_reader import SET_ASIDE, LakeReader
from data.manifest import CorruptFile, FileEntry
from data.manifest_entries import to_time
from data.schema import TABLES
from data.table import TIME_MS

LOST = ".lost"  # beside a file that was set aside: what it held, until its rows are made again
_TOLD = ("venue", "symbol", "interval", "rows", "counted", "first_time", "last_time", "first_id", "last_id", "missing")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing ``verify`` found. ``path`` is relative to the lake; ``table`` is None for a file of no table."""

    path: str
    table: str | None
    message: str


def verify(lake: LakeReader, tell: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Prove every file to the last bit, compare its rows with what the manifest counts, and look for strays.

    A file whose content is right but whose modification time is not (a copied lake) is trusted from now on.

    Parameters
    ----------
    tell : called with how many files are done, and of how many.

    Returns
    -------
    In the order of the files, then those whose rebuild was interrupted, strays last; nothing where all is well.
    """
    strays = set(lake.strays())
    entries = lake.files()
    paths = {entry.path for entry in entries}
    facts = {name: _facts(lake, name) for name in {entry.table for entry in entries}}
    problems = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda entry: _examine(lake, entry, facts[entry.table]), entries)
        for done, (entry, message) in enumerate(zip(entries, found, strict=True), start=1):
            if message is not None:
                problems.append(Problem(path=entry.path, table=entry.table, message=message))
            if tell is not None:
                tell(done, len(entries))
    if problems:  # a merge may have put another file in the place of one meanwhile
        current = {entry.path for entry in lake.files()}
        problems = [problem for problem in problems if problem.path in current]
    for path, lost in unfinished(lake).items():
        if path not in paths:
            message = "set aside by a rebuild that did not finish: its rows are not all made again"
            problems.append(Problem(path=path, table=lost["table"][0], message=message))
            strays.discard(path)
    for path in sorted(strays.intersection(lake.strays())):
        message = "not in the manifest: left by an append that did not finish, or put there by hand"
        problems.append(Problem(path=path, table=None, message=message))
    return problems


def unfinished(lake: LakeReader) -> dict[str, pl.DataFrame]:
    """Files that a rebuild set aside, or was about to, and what each held (``Lake.facts``), by path."""
    notes = sorted((lake.root / SET_ASIDE).glob(f"*{LOST}"))
    return {lost["path"][0]: lost for lost in map(pl.read_ipc, notes)}


def _facts(lake: LakeReader, table: str) -> Mapping[str, pl.DataFrame] | None:
    """What the manifest counts in each file of a table; None where a damaged file of an older lake is in the way."""
    try:
        found = lake.facts([table]).partition_by("path", as_dict=True)
    except CorruptFile:
        return None
    return {path: facts.select(_TOLD).sort(_TOLD) for (path,), facts in found.items()}


def _examine(lake: LakeReader, entry: FileEntry, facts: Mapping[str, pl.DataFrame] | None) -> str | None:
    """What is wrong with a file; None when nothing is."""
    modified_ns = entry.modified_ns
    try:
        modified_ns = parquet.prove(lake.root, entry)
        message = _miscounted(lake, entry, facts)
    except CorruptFile as error:
        message = str(error)
    if message is None and modified_ns != entry.modified_ns:
        lake.trust(entry.path, modified_ns)
    return message


def _miscounted(lake: LakeReader, entry: FileEntry, facts: Mapping[str, pl.DataFrame] | None) -> str | None:
    """What the manifest says wrongly about a file's rows; checks the pages that it reads."""
    table = TABLES[entry.table]
    pieces = parquet.pieces(lake.root, entry, table, describing(table))
    own = merged([described(piece, table) for piece in pieces], table).facts
    found = (own["rows"].sum(), to_time(own["first_ms"].min()), to_time(own["last_ms"].max()))
    told = (entry.rows, entry.min_time, entry.max_time)
    if found != told:
        return f"the manifest says {told} (rows, first, last), the file has {found}"
    own = own.with_columns(
        first_time=pl.col("first_ms").cast(TIME_MS), last_time=pl.col("last_ms").cast(TIME_MS)
    ).select(_TOLD)
    if facts is not None and (entry.path not in facts or not own.sort(_TOLD).equals(facts[entry.path])):
        return f"the manifest counts other rows per symbol than the file has: {own.to_dicts()[:3]} …"
    return None
