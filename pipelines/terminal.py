"""What the command line shows: progress bars on a terminal, tables, JSON for scripts."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import click
import polars as pl
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

ERRORS = Console(stderr=True, highlight=False)
_WORD = 10  # letters of a heading that no narrow table breaks
_BETWEEN = 2  # spaces from a column to the next

Progress = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Yield a function (what, done, total) that keeps one bar per ``what``; silent where stderr is not a terminal.

    In a job it is the function that the command line was given, which writes them down.
    """
    context = click.get_current_context(silent=True)
    if context is not None and context.obj is not None:
        yield context.obj
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=ERRORS, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def print_json(content: Any) -> None:
    """One JSON value on stdout: times as ISO 8601 UTC, NaN as null."""
    print(json.dumps(_plain(content), default=str))


def output() -> Console:
    """Standard output; wide where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def print_rows(rows: Sequence[Mapping[str, Any]], title: str | None = None, *, right: Sequence[str] = ()) -> None:
    """A table on stdout; says so when it is empty. Numbers stand to the right, as do the columns named in ``right``."""
    console = output()
    if not rows:
        console.print(f"{title or 'result'}: no rows")
        return
    if title:
        console.print(title, style="italic", markup=False)  # as a table's own title it would wrap to the table's width
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [[_cell(value) for value in row.values()] for row in rows]
    widths = _widths([str(name) for name in rows[0]], cells, console.width)
    console.width = max(console.width, sum(widths) + _BETWEEN * (len(widths) - 1))
    for (name, value), width in zip(rows[0].items(), widths, strict=True):
        table.add_column(
            str(name),
            justify="right" if isinstance(value, int | float) or name in right else "left",
            overflow="fold",
            width=width,
        )
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _widths(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is: as its text, or less, down to the words of its heading, where the terminal is narrow.

    Where not even those fit, whole lines are printed, which the terminal wraps: none of them loses its last columns.
    """
    texts = [[name, *(row[place] for row in cells)] for place, name in enumerate(names)]
    whole = [max((cell_len(line) for text in column for line in text.splitlines()), default=0) for column in texts]
    least = [min(max(map(cell_len, name.split()), default=0), _WORD) for name in names]
    room = width - _BETWEEN * (len(names) - 1)
    if sum(least) > room:
        return whole
    widths = list(whole)
    while sum(widths) > room:
        widest = max((place for place in range(len(widths)) if widths[place] > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def print_frame(frame: pl.DataFrame, title: str | None = None, limit: int = 200) -> None:
    """A frame as a table, at most ``limit`` rows, saying how many were left out."""
    print_rows(frame.head(limit).to_dicts(), title)
    if frame.height > limit:
        print(f"... {frame.height - limit} more rows; narrow the query or use --json")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") + (f".{value.microsecond // 1000:03d}" if value.microsecond else "")
    return str(value)
