"""Notebook 06, what happened last night: what needs a person, what changed, and how the nights before went."""

from IPython.display import HTML, Markdown

from pipelines.nightly import NIGHTS, Night, changes, human_of, nights_in, pages_of, previous
from pipelines.nightly_report import headline, went
from pipelines.notebook_views import NOTHING, named, show, words
from pipelines.report import Table
from pipelines.runs import default_runs
from research import formats

SHOWN_NIGHTS = 30


def open_last(runs: str, day: str) -> Night | None:
    """The night of a day, or the newest; None where there was none.

    Raises
    ------
    LookupError
        When nobody closed that day, naming those that were.
    """
    nights = nights_in(named(runs, default_runs()) / NIGHTS)
    if not day:
        return nights[-1] if nights else None
    for night in nights:
        if str(night.day) == day:
            return night
    raise LookupError(f"{day} was not closed; closed are {', '.join(str(night.day) for night in nights) or 'none'}")


def night_sentence(night: Night | None) -> Markdown:
    """The night in a line; where there is none, how to have one."""
    if night is None:
        return Markdown(
            "No night was closed yet. Copy `pipelines/nightly.toml`, name your symbols, and run `aster nightly`; "
            "`pipelines/deploy` has a timer for it."
        )
    return Markdown(f"**{night.day}: {headline(night)}.**")


def to_do(night: Night | None) -> HTML | Markdown:
    """What a person has to do."""
    if night is None:
        return NOTHING
    if not human_of(night):
        return Markdown("Nothing to do.")
    rows = tuple((words(step), what) for step, what in human_of(night))
    return show(Table(title="To do", columns=("step", "what"), align="ll", rows=rows, is_prose=True))


def changed(night: Night | None) -> HTML | Markdown:
    """Every figure that is not what it was the night before."""
    before = previous(night) if night is not None else None
    if before is None:
        return Markdown("There is no night before, with the same settings, to compare with.")
    rows = tuple(changes(night, before))
    if not rows:
        return Markdown(f"Nothing changed since {before.day}.")
    title = f"Figures that changed since {before.day}"
    return show(Table(title=title, columns=("figure", "was", "is"), align="lll", rows=rows, is_prose=True))


def steps(night: Night | None) -> HTML | Markdown:
    """What was done and how long it took."""
    rows = tuple(
        (words(step.name), went(step), step.outcome.note, formats.age(step.seconds))
        for step in (night.steps().values() if night is not None else ())
    )
    return show(Table(title="Steps", columns=("step", "went", "what", "took"), align="lllr", rows=rows, is_prose=True))


def pages(night: Night | None) -> Markdown:
    """Where its pages are."""
    found = list(pages_of(night)) if night is not None else []
    return Markdown("\n".join(f"- {what}: `{night.folder / name}`" for what, name in found) or "It has no pages.")


def nights_before(night: Night | None) -> HTML | Markdown:
    """How the nights up to this one went, newest first."""
    rows = tuple((str(other.day), headline(other)) for other in reversed(_up_to(night)[-SHOWN_NIGHTS:]))
    return show(Table(title="Nights", columns=("day, UTC", "night"), align="ll", rows=rows, is_prose=True))


def nights_sentence(night: Night | None) -> Markdown:
    """How many nights needed a person."""
    shown = _up_to(night)[-SHOWN_NIGHTS:]
    if not shown:
        return Markdown("**Nobody can say: no night was closed yet.**")
    needed = sum(bool(human_of(other)) for other in shown)
    if len(shown) == 1:
        return Markdown(f"**There was one night so far, and it needed {'a person' if needed else 'nobody'}.**")
    return Markdown(f"**Of the last {formats.count(len(shown))} nights, {formats.count(needed)} needed a person.**")


def _up_to(night: Night | None) -> list[Night]:
    return [] if night is None else [one for one in nights_in(night.folder.parent) if one.day <= night.day]
