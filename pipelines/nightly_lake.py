"""What a night does for the lake itself: holes filled, files merged and proven."""

from datetime import UTC, datetime

from data.lake import Lake
from data.rebuild import is_logged, rebuild
from data.unrecorded import asked, unheard_ends
from data.verify import verify
from pipelines.nightly import Night, Outcome
from pipelines.upkeep import fill_gaps, merge_files
from research import formats

_SHOWN = 5  # of a long list; more damaged files are not mended unasked


def repair(night: Night) -> Outcome:
    """Ask the exchange for what is missing."""
    if not night.settings.venue:
        return Outcome(note="no venue is named in the settings: nobody was asked for what is missing")
    lake = Lake(night.lake)
    silent = _silent(lake, night.end)  # what is brought now hides it from the next step
    report = fill_gaps(lake, night.settings.venue, night.settings.weight, lambda _: None, end=night.end)
    if report is None:
        return Outcome(note="no gap is open that could be repaired", facts={"gaps that stay open": "0"}, human=silent)
    states = ", ".join(f"{formats.count(count)} {state}" for state, count in report.states.items())
    return Outcome(
        note=f"{formats.count(report.gaps)} gaps looked at: {states}",
        facts={"gaps that stay open": formats.count(report.states.get("open", 0))},
        human=(*silent, *report.trouble),
    )


def _silent(lake: Lake, end: datetime) -> tuple[str, ...]:
    """What a person has to do about streams that nobody heard up to the end of the day."""
    ends = unheard_ends(lake, asked(lake), end=end, now=datetime.now(UTC))
    if not ends:
        return ()
    since = datetime.fromtimestamp(min(lost.from_ns for lost in ends) // 10**9, UTC)
    causes = " and ".join(sorted({lost.cause for lost in ends}))
    return (
        f"nobody heard {formats.count(len(ends))} streams at the end of the day, some since {since:%Y-%m-%d %H:%M} UTC "
        f"({causes}): is the recorder running? See `aster record status`",
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
    """Prove every file against its manifest; the rows of a few damaged ones are made again where the raw log has them.

    Many are no accident, and what the log no longer has would become a gap: a person decides then.
    """
    lake = Lake(night.lake)
    problems = verify(lake, lambda done, total: None)
    damaged = [problem.path for problem in problems if problem.table is not None]
    logged = [path for path in damaged if is_logged(lake, path)] if len(damaged) <= _SHOWN else []
    human = [_made_again(lake, path) for path in logged]
    if left := [path for path in damaged if path not in logged]:
        human.append(
            f"damaged: {_listed(left)}: run `aster verify --set-aside`, then `aster nightly --day {night.day} --again`"
        )
    if strays := [problem.path for problem in problems if problem.table is None]:
        human.append(f"not of the lake, though they lie in it: {_listed(strays)}: move them elsewhere")
    return Outcome(
        note=f"{formats.count(len(lake.files()))} files proven, {formats.count(len(problems))} with problems",
        facts={"damaged files": formats.count(len(damaged))},
        human=tuple(human),
        damaged=tuple(damaged),
    )


def _made_again(lake: Lake, path: str) -> str:
    """Make a damaged file's rows again; what became of them."""
    made = rebuild(lake, path)
    rows = f"{formats.count(made.recovered)} of {formats.count(made.lost)} rows were"
    rest = f", {formats.count(made.gaps)} gaps entered for the rest" if made.gaps else ""
    return (
        f"a file of {made.table} was damaged: {rows} made again from the raw log{rest}; it lies in {made.aside} now. "
        "Look after that disk: it changed what was stored"
    )


def _listed(paths: list[str]) -> str:
    return "; ".join([*paths[:_SHOWN], *([f"and {len(paths) - _SHOWN} more"] if len(paths) > _SHOWN else [])])
