"""One HTML file that says what came out, opens offline and sends nothing: verdict first, figures and tables below."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pipelines.page import MAX_BYTES, Figures, page_html
from research.plots.style import Figure

_MANY_COLUMNS = 4  # wider tables become one block per row on a narrow page


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One condition of promotion, its figures already formatted."""

    name: str
    value: str
    limit: str
    passes: bool | None  # None: could not be measured, which is not a pass


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The first screen. No in-sample numbers belong here.

    Parameters
    ----------
    headline : the verdict in words; ``gate_headline`` makes one from gates.
    sentence : what was earned, where, after costs.
    key_numbers : (label, value) with units in the labels.
    figure : shown without scrolling, usually the walk-forward strip.
    """

    headline: str
    sentence: str
    key_numbers: tuple[tuple[str, str], ...] = ()
    gates: tuple[Gate, ...] = ()
    figure: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns.

    Parameters
    ----------
    columns : headings, units included.
    align : a letter per column, ``l`` or ``r``; numbers go right.
    rows : cells as formatted text (``research.formats``).
    is_prose : its cells are sentences, which need room.
    """

    title: str
    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    is_prose: bool = False

    def __post_init__(self) -> None:
        widths = {len(self.columns), len(self.align), *(len(row) for row in self.rows)}
        if len(widths) != 1 or set(self.align) - {"l", "r"}:
            raise ValueError(
                f"table {self.title!r}: every row needs one cell per column and align one letter l or r per column; "
                f"got {len(self.columns)} columns, align {self.align!r}, row widths {sorted(widths)}"
            )

    @property
    def style(self) -> str:
        """How it uses the page's width."""
        return "prose" if self.is_prose else "many" if len(self.columns) > _MANY_COLUMNS else "few"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way to another page: what it answers, and its file beside this one."""

    words: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with what belongs to it."""

    title: str
    intro: str = ""
    links: tuple[Link, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


def gate_headline(gates: Sequence[Gate]) -> str:
    """The verdict that gates amount to: a gate that could not be measured is not passed."""
    failing = sum(gate.passes is False for gate in gates)
    unmeasured = sum(gate.passes is None for gate in gates)
    if not gates:
        return "NOT PROMOTABLE: no gate was measured"
    if not failing and not unmeasured:
        return f"PROMOTABLE: all {len(gates)} gates hold"
    parts = [f"{failing} of {len(gates)} gates fail"] if failing else []
    parts += [f"{unmeasured} of {len(gates)} could not be measured"] if unmeasured else []
    return f"NOT PROMOTABLE: {', '.join(parts)}"


def write_report(
    path: Path,
    *,
    title: str,
    verdict: Verdict,
    sections: Sequence[Section],
    facts: Sequence[tuple[str, str]],
    not_modelled: Sequence[str],
) -> Path:
    """Write the report and return its path; an existing file is replaced in one step.

    Parameters
    ----------
    facts : (what, value) of the run: data completeness, configs tried, commit, lock.
    not_modelled : what the numbers leave out; printed beside the gates.

    Raises
    ------
    ValueError
        When the page would exceed 8 MB.
    """
    figures = Figures()
    body = _first_screen(verdict, facts, not_modelled, figures) + "".join(_section(one, figures) for one in sections)
    page = page_html(title, body, figures).encode()
    if len(page) > MAX_BYTES:
        raise ValueError(
            f"{path}: the report would be {len(page) / 1e6:.1f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB; "
            "draw fewer figures or fewer table rows"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(page)
    unfinished.replace(path)
    return path


def _first_screen(
    verdict: Verdict, facts: Sequence[tuple[str, str]], not_modelled: Sequence[str], figures: Figures
) -> str:
    parts = [f'<h1>{escape(verdict.headline)}</h1><p class="sentence">{escape(verdict.sentence)}</p>']
    if verdict.key_numbers:
        tiles = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in verdict.key_numbers)
        parts.append(f'<dl class="card numbers">{tiles}</dl>')
    limits = ""
    if not_modelled:
        limits += f"<p><b>Not modelled:</b> {escape(', '.join(not_modelled))}.</p>"
    if facts:
        limits += f'<dl class="facts">{"".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts)}</dl>'
    cards = [_gates(verdict.gates)] if verdict.gates else []
    cards += [f'<div class="card limits">{limits}</div>'] if limits else []
    if cards:
        parts.append(f'<div class="split{"" if len(cards) == 2 else " single"}">{"".join(cards)}</div>')
    if verdict.figure is not None:
        parts.append(figures.card(verdict.figure))
    return f'<section class="verdict"><div>{parts[0]}</div>{"".join(parts[1:])}</section>\n'


def _gates(gates: Sequence[Gate]) -> str:
    signs = {
        True: '<span aria-label="holds">✓</span>',
        False: '<span class="chip fail">✕ fails</span>',
        None: '<span class="chip unknown">! not measured</span>',
    }
    rows = "".join(
        f'<tr class="{"" if gate.passes else "fails"}"><th scope="row">{escape(gate.name)}</th>'
        f'<td class="right">{escape(gate.value)}</td><td class="right">{escape(gate.limit)}</td>'
        f'<td class="right">{signs[gate.passes]}</td></tr>'
        for gate in gates
    )
    head = '<th>gate</th><th class="right">value</th><th class="right">limit</th><th class="right">holds</th>'
    return f'<div class="card"><table class="gates"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _section(section: Section, figures: Figures) -> str:
    intro = f'<p class="intro">{escape(section.intro)}</p>' if section.intro else ""
    links = "".join(f'<li><a href="{escape(one.target)}">{escape(one.words)}</a></li>' for one in section.links)
    content = "".join(figures.card(one) for one in section.figures) + "".join(_table(one) for one in section.tables)
    listed = f'<ul class="card links">{links}</ul>' if links else ""
    return f'<section class="part"><h2>{escape(section.title)}</h2>{intro}{listed}{content}</section>\n'


def cell_text(cell: str) -> str:
    """A cell's text, what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(cell))


def _table(table: Table) -> str:
    sides = ["right" if letter == "r" else "left" for letter in table.align]
    head = "".join(
        f'<th scope="col" class="{side}">{escape(name)}</th>' for name, side in zip(table.columns, sides, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{side}" data-heading="{escape(name)}">{cell_text(cell)}</td>'
            for cell, side, name in zip(row, sides, table.columns, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="card"><h3>{escape(table.title)}</h3>'
        f'<table class="{table.style}"><thead>'
        f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}</div>\n"
    )
