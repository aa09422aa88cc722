"""What the views of all notebooks share: tables and progress for a cell and for the page made of it.

A notebook is a list of calls into its own ``pipelines.notebook_*`` and ``research.plots``.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path

from IPython.display import HTML, DisplayHandle, Markdown

from pipelines.children import ChildFailed
from pipelines.identity import CHECKOUT
from pipelines.jobs import Job, job_of
from pipelines.report import Table, cell_text
from pipelines.runs import FINISHED
from research import formats

NOTHING = Markdown("Nothing to show: there are no such rows.")


def show(table: Table) -> HTML | Markdown:
    """A table for a notebook and for its page; a sentence where it has no rows."""
    if not table.rows:
        return NOTHING
    sides = ["right" if letter == "r" else "left" for letter in table.align]
    # JupyterLab aligns every cell to the right unless the cell itself says otherwise.
    head = "".join(
        f'<th class="{side}" style="text-align:{side}">{escape(name)}</th>'
        for name, side in zip(table.columns, sides, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{side}" style="text-align:{side}{_whole(table, place)}" data-heading="{escape(name)}">'
            f"{cell_text(cell)}</td>"
            for place, (cell, name, side) in enumerate(zip(row, table.columns, sides, strict=True))
        )
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return HTML(
        f'<div class="card"><h3>{escape(table.title)}</h3><table class="{table.style}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}</div>"
    )


def _whole(table: Table, place: int) -> str:
    """Keeps numbers, and the first column of a table that has room, on one line."""
    return ";white-space:nowrap" if table.align[place] == "r" or (place == 0 and table.style != "many") else ""


def progress() -> Callable[[str, int, int], None]:
    """A function (what, done, total) that keeps one line of the cell's output up to date."""
    line = DisplayHandle()
    shown = []

    def tell(what: str, done: int, total: int) -> None:
        show_line = line.update if shown else line.display
        shown[:] = [Markdown(f"{what}: {done} of {total}")]
        show_line(shown[0])

    return tell


def finished_job(*command: str) -> Job:
    """The job of an ``aster`` command line once it has finished; its progress is a line of the cell until then.

    It is started unless it runs or has finished already, whoever started it. Neither a stopped cell nor a closed kernel
    ends it: the same cell meets it again.

    Raises
    ------
    ChildFailed
        When it failed, was stopped or got lost.
    """
    job = job_of(command, CHECKOUT)
    if job.state != FINISHED:
        job.begin(command, CHECKOUT)
    state = job.follow(progress())
    if state != FINISHED:
        raise ChildFailed(f"job {job.name} is {state}: {job.last_words}; run the cell again to start it again")
    return job


def named(place: str, otherwise: Path) -> Path:
    """A file or folder as a parameter names it: relative to the checkout, not to where the kernel runs."""
    return CHECKOUT / place if place else otherwise


def earned(usdt: float) -> str:
    """What a sentence says of a result: earned 12.30 USDT, lost 4.10 USDT."""
    return f"{'lost' if usdt < 0.0 else 'earned'} {formats.usdt(abs(usdt))} USDT"


def words(name: str) -> str:
    """A parameter as people read it: stop_bps prints stop bps."""
    return name.replace("_", " ")
