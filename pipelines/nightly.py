"""``aster nightly``: a UTC day is closed, step by step, each step in a process of its own.

A night's folder says how far it is: what failed or was interrupted is tried again by the same command, what is done is
not. One failure does not stop the rest, and is told loudly.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from data.config import load
from live.alerts import destinations
from pipelines.children import Child, ChildFailed, alone_in
from pipelines.runs import write_whole

NIGHTS, NIGHT = "nightly", "night.json"
_LAKE, _STUDY = "pipelines.nightly_lake", "pipelines.nightly_study"
STEPS = {  # in their order, and where each is: what a step does not need takes seconds to import
    "repair": _LAKE,
    "compact": _LAKE,
    "prove": _LAKE,
    "health": _STUDY,
    "maps": _STUDY,
    "validate": _STUDY,
    "walk_forward": _STUDY,
    "market": _STUDY,
    "parity": "pipelines.nightly_parity",
}
DONE, FAILED = "done", "failed"
NOBODY = "none"  # in place of a promoted config

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class NightSettings:
    """What is done every night.

    Parameters
    ----------
    symbols : whose maps and pages are made.
    venue : whom repairs ask: aster, loopback or a URL; empty for nobody.
    weight : request weight per minute that repairs may use.
    source : whose open interest maps are made of; empty for the first with data.
    report_days : how far back pages look.
    sweeps : configs whose walk-forward is run again up to the night, beside the promoted one's.
    chosen : the promoted config; empty for ``live/configs/chosen.toml``, where there is one; "none" for nobody.
    journals : folder of the runner's journals; those of the day are proven. Empty for ``live/journals``.
    placebo_maps : maps that know nothing, which the validation compares with.
    raw_days : how long raw rows stay in the lake.
    keep_nights : how long the pages of a night stay; its figures always do.
    steps : those that are run, in the order of ``STEPS``; empty for all.
    """

    symbols: tuple[str, ...]
    venue: str = ""
    weight: int = 1_200
    source: str = ""
    report_days: int = 30
    sweeps: tuple[Path, ...] = ()
    chosen: str = ""
    journals: str = ""
    placebo_maps: int = 200
    raw_days: int = 30
    keep_nights: int = 90
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError('symbols: expected at least one, such as ["BTCUSDT"]')
        for name in ("weight", "report_days", "placebo_maps", "raw_days", "keep_nights"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if unknown := set(self.steps) - set(STEPS):
            raise ValueError(f"steps: there is no {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step found.

    Parameters
    ----------
    note : what was done, in a sentence.
    facts : figures by name, as text; nights are compared by them.
    human : what a person has to do, a sentence each; empty when nothing.
    pages : (words, file in the night's folder).
    damaged : files of the lake that it told about: where another step names one of them, it says nothing new.
    """

    note: str
    facts: dict[str, str] = field(default_factory=dict)
    human: tuple[str, ...] = ()
    pages: tuple[tuple[str, str], ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a step went."""

    name: str
    state: str  # DONE or FAILED
    seconds: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night's folder."""

    day: date
    folder: Path
    lake: Path
    settings: NightSettings

    @property
    def start(self) -> datetime:
        """When the day began."""
        return datetime.combine(self.day, time(tzinfo=UTC))

    @property
    def end(self) -> datetime:
        """When it was over."""
        return self.start + timedelta(days=1)

    @property
    def report_start(self) -> datetime:
        """From when on pages look."""
        return self.end - timedelta(days=self.settings.report_days)

    def steps(self) -> dict[str, Step]:
        """What is known of its steps, in the order they were run."""
        return _steps(self.folder)


def run_night(
    day: date | None, settings_path: Path, lake: Path, runs: Path, progress: Progress, *, again: bool = False
) -> Night:
    """Run what is not done yet of a night, write its page and the index over all nights, tell people what they must do.

    Parameters
    ----------
    day : the UTC day to close; None for yesterday.
    runs : folder in which ``nightly`` lies.
    again : forget what was done of this night.

    Raises
    ------
    ValueError
        On a day that is not over, on settings that cannot be read, when another process closes a night, or when the
        file of alert addresses is open to others.
    """
    from pipelines.nightly_alerts import alert
    from pipelines.nightly_report import write_index, write_night

    settings, addresses = load(NightSettings, settings_path, str(settings_path)), destinations()
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    day = day or yesterday
    if day > yesterday:
        raise ValueError(f"{day} is not over (UTC): the newest day that can be closed is {yesterday}")
    nights = runs / NIGHTS
    with alone_in(nights) as lock:
        night = _open(nights / str(day), day, settings, settings_path, lake, again=again)
        _run_steps(night, lock, progress)
        write_night(night, previous(night))
        _retire(nights, settings.keep_nights, night)
        write_index(nights)
        alert(night, addresses)
    return night


def open_night(folder: Path) -> Night:
    """The night of a folder, as ``run_night`` left it."""
    told = json.loads((folder / NIGHT).read_text())
    return Night(
        day=date.fromisoformat(told["day"]),
        folder=folder,
        lake=Path(told["lake"]),
        settings=load(NightSettings, told["settings"], str(folder / NIGHT)),
    )


def nights_in(folder: Path) -> list[Night]:
    """All nights below a folder, oldest first."""
    return [open_night(path.parent) for path in sorted(folder.glob(f"*/{NIGHT}"))]


def previous(night: Night) -> Night | None:
    """The newest night before this one with the same lake and settings; figures of others are not its own of before."""
    asked = (night.lake, night.settings)
    earlier = [
        other
        for other in nights_in(night.folder.parent)
        if other.day < night.day and (other.lake, other.settings) == asked
    ]
    return earlier[-1] if earlier else None


def changes(night: Night, before: Night) -> list[tuple[str, str, str]]:
    """(fact, what it was, what it is) of all facts that are not what they were; – where there was or is none."""
    was, now = facts_of(before), facts_of(night)
    names = [*now, *(name for name in was if name not in now)]
    return [(name, was.get(name, "–"), now.get(name, "–")) for name in names if was.get(name) != now.get(name)]


def facts_of(night: Night) -> dict[str, str]:
    """All facts of a night."""
    return {name: text for step in night.steps().values() for name, text in step.outcome.facts.items()}


def human_of(night: Night) -> list[tuple[str, str]]:
    """(step, what a person has to do), failures first; of a damaged file only the step speaks that found it."""
    steps = night.steps().values()
    failed = [(step, f"failed: {step.outcome.note}") for step in steps if step.state == FAILED]
    said = failed + [(step, sentence) for step in steps for sentence in step.outcome.human]
    damaged = [path for step in steps for path in step.outcome.damaged]
    return [
        (step.name, sentence)
        for step, sentence in said
        if step.outcome.damaged or not any(path in sentence for path in damaged)
    ]


def pages_of(night: Night) -> Iterator[tuple[str, str]]:
    """(words, file) of the pages that are still there."""
    for step in night.steps().values():
        for words, name in step.outcome.pages:
            if (night.folder / name).exists():
                yield words, name


def _open(folder: Path, day: date, settings: NightSettings, path: Path, lake: Path, *, again: bool) -> Night:
    """A new night, or the one that is there if it was asked for the same."""
    sweeps = tuple((path.parent / sweep).resolve() for sweep in settings.sweeps)
    told = {"day": str(day), "lake": str(lake.resolve()), "settings": _plain({**asdict(settings), "sweeps": sweeps})}
    known = folder / NIGHT  # not there where the night was killed as it began, or as it was forgotten
    if folder.exists() and (again or not known.exists() or json.loads(known.read_text()) != told):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NIGHT, (json.dumps(told, indent=2) + "\n").encode())
    return open_night(folder)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [str(one) for one in value] if isinstance(value, tuple) else value for name, value in settings.items()
    }


def _run_steps(night: Night, lock: int, progress: Progress) -> None:
    known, asked = night.steps(), night.settings.steps or STEPS
    for place, name in enumerate(STEPS):
        progress("night", place, len(STEPS))
        if name not in asked or (name in known and known[name].state == DONE):
            continue
        began = datetime.now(UTC)
        state, outcome = _run_step(night, name, lock)
        seconds = (datetime.now(UTC) - began).total_seconds()
        step = {"name": name, "state": state, "seconds": round(seconds, 1), "outcome": asdict(outcome)}
        write_whole(night.folder / "steps" / f"{place:02d}-{name}.json", (json.dumps(step, indent=2) + "\n").encode())
    progress("night", len(STEPS), len(STEPS))


def _run_step(night: Night, name: str, lock: int) -> tuple[str, Outcome]:
    """Run a step in a process of its own: a leak, a crash or a kill there is that step's alone."""
    logs = night.folder / "logs"
    try:
        with Child(name, "pipelines.nightly_steps", str(night.folder), name, logs=logs, lock=lock) as child:
            child.until(lambda: False)
            told = json.loads(child.printed.splitlines()[-1])
    except ChildFailed as error:
        return FAILED, Outcome(note=str(error))
    return DONE, _outcome(told)


def _outcome(told: dict[str, Any]) -> Outcome:
    return Outcome(
        note=told["note"],
        facts=told["facts"],
        human=tuple(told["human"]),
        pages=tuple((words, name) for words, name in told["pages"]),
        damaged=tuple(told.get("damaged", ())),  # nights of before did not tell
    )


def _steps(folder: Path) -> dict[str, Step]:
    found = (json.loads(path.read_text()) for path in sorted((folder / "steps").glob("*.json")))
    return {step["name"]: Step(**{**step, "outcome": _outcome(step["outcome"])}) for step in found}


def _retire(nights: Path, keep: int, closed: Night) -> None:
    """Remove all but the figures of nights that are too old: they stay in the index and in comparisons.

    The one that was just closed stays whole until the next, however old it is: its page is what was asked for.
    """
    for night in nights_in(nights)[:-keep]:
        if night.day == closed.day:
            continue
        for path in night.folder.iterdir():
            if path.name in (NIGHT, "steps"):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
