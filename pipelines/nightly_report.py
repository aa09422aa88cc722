"""A night's page, which says first what needs a person and what changed, and the index over all nights."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipelines.nightly import DONE, Night, Step, changes, facts_of, human_of, nights_in, pages_of
from pipelines.page import Figures, page_html
from pipelines.report import Link, Section, Table, Verdict, write_report
from pipelines.runs import write_whole
from research import formats

PAGE = "report.html"
_SHOWN_CHANGES = 60


def headline(night: Night) -> str:
    """The night in a line."""
    failed = sum(step.state != DONE for step in night.steps().values())
    needs = len(human_of(night))
    if failed:
        return f"{formats.count(failed)} of {len(night.steps())} steps failed, {_things(needs)} a person"
    return f"{_things(needs)} a person" if needs else f"Nothing needs a person: all {len(night.steps())} steps are done"


def went(step: Step) -> str:
    """How a step went, in a word."""
    return "done" if step.state == DONE else "✕ failed"


def write_night(night: Night, before: Night | None) -> Path:
    """Write ``report.html`` of a night, compared with the one before it."""
    steps, human = night.steps(), human_of(night)
    changed = changes(night, before) if before is not None else []
    if before is None:
        since = "This is the first night with these settings: there is nothing to compare it with."
    elif changed:
        of = formats.count(len(facts_of(night)))
        since = f"{formats.count(len(changed))} of {of} figures changed since {before.day}."
    else:
        since = f"Nothing changed since {before.day}."
    sections = [
        Section(
            title="What needs a person",
            intro="" if human else "Nothing.",
            tables=_table("To do", ("step", "what to do"), "ll", [(_words(name), say) for name, say in human]),
        ),
        Section(
            title=f"What changed since {before.day}" if before else "What changed",
            intro="" if changed else since,
            tables=_table("Figures", ("figure", "was", "is"), "lll", changed[:_SHOWN_CHANGES], is_prose=False),
        ),
        Section(title="Pages", links=tuple(Link(words=words, target=name) for words, name in pages_of(night))),
        Section(
            title="Steps",
            tables=_table(
                "What was done",
                ("step", "went", "what", "took"),
                "lllr",
                [
                    (_words(step.name), went(step), step.outcome.note, formats.age(step.seconds))
                    for step in steps.values()
                ],
            ),
        ),
        Section(
            title="All figures",
            tables=_table("Figures", ("figure", "is"), "ll", list(facts_of(night).items()), is_prose=False),
        ),
        Section(title="Asked", intro=f"{', '.join(night.settings.symbols)} in the lake {night.lake}, the day in UTC."),
    ]
    return write_report(
        night.folder / PAGE,
        title=f"Night of {night.day}",
        verdict=Verdict(
            headline=headline(night),
            sentence=since,
            key_numbers=(
                ("needs a person", formats.count(len(human))),
                ("figures that changed", formats.count(len(changed)) if before else formats.UNKNOWN),
                ("steps done", f"{sum(step.state == DONE for step in steps.values())} of {len(steps)}"),
            ),
        ),
        sections=sections,
        facts=(),
        not_modelled=(),
    )


def write_index(nights: Path) -> Path:
    """Write ``index.html`` over all nights, newest first."""
    rows = []
    for night in reversed(nights_in(nights)):
        page = night.folder / PAGE
        day = f'<a href="{night.day}/{PAGE}">{night.day}</a>' if page.exists() else str(night.day)
        links = " · ".join(
            f'<a href="{night.day}/{escape(name)}">{escape(words)}</a>' for words, name in pages_of(night)
        )
        rows.append(
            f'<tr><td data-heading="day">{day}</td><td data-heading="night">{escape(headline(night))}</td>'
            f'<td data-heading="pages">{links}</td></tr>'
        )
    newest = nights_in(nights)[-1]
    body = (
        f'<section class="verdict"><h1>{escape(headline(newest))}</h1><p class="sentence">The newest night is '
        f"{newest.day}.</p></section>"
        '<section class="part"><h2>All nights</h2><div class="card"><table class="prose"><thead><tr>'
        '<th scope="col">day, UTC</th><th scope="col">night</th><th scope="col">pages</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
    path = nights / "index.html"
    write_whole(path, page_html("Nights", body, Figures()).encode())
    return path


def _things(count: int) -> str:
    return f"{formats.count(count)} things need" if count != 1 else "one thing needs"


def _words(name: str) -> str:
    return name.replace("_", "-")


def _table(
    title: str, columns: tuple[str, ...], align: str, rows: Sequence[tuple[str, ...]], *, is_prose: bool = True
) -> tuple[Table, ...]:
    """One table, or none where it has no rows."""
    return (Table(title=title, columns=columns, align=align, rows=tuple(rows), is_prose=is_prose),) if rows else ()
