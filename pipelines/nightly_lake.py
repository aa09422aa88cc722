"""What a night does for the lake itself: holes filled, files merged and proven."""

from data.lake import Lake
from data.verify import verify
from pipelines.nightly import Night, Outcome
from pipelines.upkeep import fill_gaps, merge_files
from research import formats

_SHOWN = 5  # of a long list


def repair(night: Night) -> Outcome:
    """Ask the exchange for what is missing."""
    if not night.settings.venue:
        return Outcome(note="no venue is named in the settings: nobody was asked for what is missing")
    said: list[str] = []
    report = fill_gaps(Lake(night.lake), night.settings.venue, night.settings.weight, said.append, end=night.end)
    if report is None:
        return Outcome(note="no gap is open that could be repaired", facts={"gaps that stay open": "0"})
    states = ", ".join(f"{formats.count(count)} {state}" for state, count in report.states.items())
    return Outcome(
        note=f"{formats.count(report.gaps)} gaps looked at: {states}",
        facts={"gaps that stay open": formats.count(report.states.get("open", 0))},
        human=tuple(report.trouble),
    )


def compact(night: Night) -> Outcome:
    """Merge the files of days that are over."""
    found = merge_files(Lake(night.lake), night.settings.raw_days, lambda *told: None)
    files = sum(each.files_before - each.files_after for each in found.merged)
    return Outcome(
        note=f"{formats.count(files)} files fewer, {formats.count(found.retired)} raw files retired",
        human=tuple(f"{trouble}: run `aster verify --set-aside`, then `aster compact`" for trouble in found.troubles),
    )


def prove(night: Night) -> Outcome:
    """Prove every file against its manifest."""
    lake = Lake(night.lake)
    problems = [f"{problem.path}: {problem.message}" for problem in verify(lake, lambda done, total: None)]
    shown = [*problems[:_SHOWN], *([f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])]
    return Outcome(
        note=f"{formats.count(len(lake.files()))} files proven, {formats.count(len(problems))} with problems",
        facts={"damaged files": formats.count(len(problems))},
        human=(f"{'; '.join(shown)}: run `aster verify --set-aside`",) if problems else (),
    )
