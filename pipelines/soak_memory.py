"""What the processes of a soak weigh, and whether those that stay grow."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from data.benchmarks.figures import figure

FLAT_MIB = 24.0  # by how much the memory may differ between the second quarter and the last
SAMPLE_S = 5.0


def samples(pid: int, names: Mapping[bytes, str], other: str) -> Iterator[tuple[str, float]]:
    """Of a process and those it has started: which it is, and its own memory, MiB.

    Parameters
    ----------
    names : by a word of the command; ``other`` of every other.
    """
    for each in _family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            command = Path(f"/proc/{each}/cmdline").read_bytes()
            found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text(), flags=re.MULTILINE)
            if found:
                yield next((name for word, name in names.items() if word in command), other), int(found[1]) / 1_024


def flat(memory: pl.DataFrame, process: str) -> Iterator[dict[str, Any]]:
    """Figures of whether a process grows.

    Parameters
    ----------
    memory : seconds, process, memory_mib.
    """
    quarter = (pl.col("seconds") * 4 // memory["seconds"].max()).cast(pl.Int64)
    own = memory.filter(pl.col("process") == process)
    early, late = (own.filter(quarter.is_in(parts))["memory_mib"].median() for parts in ([1], [3, 4]))
    yield figure(f"memory of the {process}, second quarter", early, "MiB")
    yield figure(f"memory of the {process}, last quarter", late, "MiB", at_most=early + FLAT_MIB)


def _family(pid: int) -> Iterator[int]:
    """A process and those it has started."""
    yield pid
    for told in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in told.read_text().split():
                yield from _family(int(child))
