"""What a night looks at again: health, maps, whether they predict, the promoted config, the market."""

import tomllib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import tomli_w

from data.config import load, parse_utc
from data.coverage import coverage
from data.lake import Lake
from live.config import Chosen, load_chosen
from pipelines.cluster_report import living
from pipelines.clusters_job import read_map
from pipelines.gate_job import gate_of
from pipelines.map_judging import Asked, judge
from pipelines.map_view import Question, look
from pipelines.market_report import covered_days, gaps_section, liquidations_section, market_section
from pipelines.nightly import NOBODY, Night, Outcome
from pipelines.notebook_lake import symbols_in
from pipelines.notebook_map import liquidation_map
from pipelines.notebook_verdicts import verdicts_in_words, verdicts_sentence
from pipelines.notebooks import execute
from pipelines.promote import CHOSEN
from pipelines.report import Section, Verdict, write_report
from pipelines.runs import RunFolder
from pipelines.sweep_job import run_sweep
from pipelines.sweep_report import write_sweep_report
from research import formats
from research.bars import Substitutions, build_bars
from research.clusters.inputs import Unavailable
from research.clusters.validation.verdicts import TOO_LITTLE
from research.sweep import SweepConfig

_SHOWN = 5  # of a long list
_RECORDED = ("klines", "trades", "book_ticker", "mark_price")
_STEADY = (*_RECORDED, "depth")  # a day without a row of these is no quiet day
_LATE = timedelta(minutes=10)  # before the end of the day: a stream that ends earlier has ended
_ELSE_CHOSEN = f'where it was swept on another lake, name one promoted from this lake, or "{NOBODY}", as `chosen`'
_ELSE_SWEEPS = "take it out of `sweeps`"


def health(night: Night) -> Outcome:
    """Say what was recorded of the day and what is missing."""
    lake, symbols = Lake(night.lake), night.settings.symbols
    covered = _covered(lake, night)
    wanting = covered.filter(pl.col("state").is_in(["open", "missing"]))
    ended = pl.col("last_time") < night.end - _LATE
    pages = ()
    if known := [symbol for symbol in symbols if symbol in symbols_in(lake)]:
        execute(
            "01_is_the_lake_complete",
            night.folder / "health.ipynb",
            {
                "lake": str(night.lake),
                "symbols": ",".join(known),
                "start": _first_shown(lake, known, night).isoformat(),
                "end": night.end.isoformat(),
            },
        )
        pages = (("Is the lake complete?", "health.html"),)
    silent = [symbol for symbol in symbols if covered.filter(pl.col("symbol") == symbol).is_empty()]
    human = [f"{symbol}: not a row was recorded that day: is the recorder running?" for symbol in silent]
    given_up = covered.filter(pl.col("state") == "unrepairable").height
    gone = _gone(lake, covered, night).filter(~pl.col("symbol").is_in(silent))
    if names := _streams(gone):
        human.append(
            f"not heard at all that day, but the day before: {names}: is the recorder asked for this still? See "
            "`aster record status`"
        )
    if names := _streams(wanting.filter(ended)):
        last = wanting.filter(ended)["last_time"].min()
        human.append(
            f"recorded until {last:%H:%M} UTC only: {names}: is the recorder running? Started again, it asks for what "
            "it missed"
        )
    if names := _streams(wanting.filter(~ended)):
        human.append(f"incomplete: {names}: run `aster repair --start {night.day}`")
    return Outcome(
        note=f"{formats.count(covered.height + gone.height)} streams, "
        f"{formats.count(wanting.height + gone.height + given_up)} incomplete"
        f"{f', {formats.count(given_up)} of them for good' if given_up else ''}",
        facts={f"{row['table']} {row['symbol']}": _state(row) for row in covered.to_dicts()},
        human=tuple(human),
        pages=pages,
    )


def maps(night: Night) -> Outcome:
    """Bring the liquidation maps up to the end of the day."""
    lake, facts, missing = Lake(night.lake), {}, []
    for symbol in night.settings.symbols:
        found = read_map(lake, symbol, night.settings.source or None, night.start, night.end)
        if isinstance(found, Unavailable):
            missing.append(f"{symbol}: {found.reason}")
            facts[f"clusters of {symbol}"] = "no map"
        else:
            facts[f"clusters of {symbol}"] = formats.count(living(found).height)
    note = "; ".join(missing) if missing else f"maps of {', '.join(night.settings.symbols)}"
    return Outcome(note=note, facts=facts)


def validate(night: Night) -> Outcome:
    """Ask again whether the maps predict."""
    judged = judge(
        Asked(
            folder=night.lake, symbols=night.settings.symbols, source=night.settings.source, start=None,
            end=night.end, horizon_s=4 * 3_600, min_print_usdt=0.0, cost_bps=10.0,
            placebo_maps=night.settings.placebo_maps,
        ),
        _quiet,
    )  # fmt: skip
    if not judged.maps:
        return Outcome(note="; ".join(f"{symbol}: {reason}" for symbol, reason in judged.reasons.items()))
    table = verdicts_in_words(judged)
    question, verdict = table.columns.index("question"), table.columns.index("verdict")
    told = [row for row in table.rows if row[verdict] != TOO_LITTLE]
    write_report(
        night.folder / "clusters.html",
        title=f"Does the map predict? {night.day}",
        verdict=Verdict(
            headline=verdicts_sentence(judged).data.strip("*."),
            sentence=f"Maps of {', '.join(judged.maps)}, up to the end of {night.day}.",
        ),
        sections=(Section(title="Question by question", tables=(table,)),),
        facts=(),
        not_modelled=(),
    )
    return Outcome(
        note=f"{formats.count(len(table.rows))} questions, {formats.count(len(told))} with enough data",
        facts={f"{row[question]} ({row[1]})": row[verdict] for row in table.rows},
        pages=(("Does the map predict?", "clusters.html"),),
    )


def walk_forward(night: Night) -> Outcome:
    """Run the walk-forward of the promoted config's sweep again, up to the end of the day, and of the sweeps named."""
    lake, facts, human, pages, notes = Lake(night.lake), {}, [], [], []
    chosen = _promoted(night)
    configs = [(sweep, None) for sweep in night.settings.sweeps]
    if chosen is None:
        notes.append("nothing is promoted")
    else:
        configs.insert(0, (night.folder.parent.parent / chosen.provenance["run"] / "config.toml", chosen))
    for path, running in configs:
        if not path.exists():
            human.append(
                f"{path} is not there, and its walk-forward cannot be run again: give the --runs that it was swept "
                "with, or sweep and promote again"
            )
            continue
        moved = night.folder / "sweeps" / f"{path.parent.name if running else path.stem}.toml"
        moved.parent.mkdir(exist_ok=True)
        moved.write_text(tomli_w.dumps(_up_to(tomllib.loads(path.read_text()), night.end)))
        if lacking := _lacking(lake, load(SweepConfig, moved, str(path))):
            human.append(f"{lacking}; or {_ELSE_CHOSEN if running else _ELSE_SWEEPS}")
            notes.append(f"{moved.stem} is not walked forward")
            continue
        run = run_sweep(moved, lake, moved.parent / "runs", _quiet)
        page = f"{moved.stem}.html"
        write_sweep_report(run, lake, path=night.folder / page)
        pages.append((f"Walk-forward of {run.config.name}", page))
        for symbol in run.config.symbols:
            judged = gate_of(run, symbol)
            facts[f"{run.config.name} on {symbol}, gate"] = "passes" if judged["passes"] else "fails"
            facts[f"{run.config.name} on {symbol}, out of sample"] = _earned(run, symbol)
        if running is not None:
            human += _drift(run, running)
        notes.append(f"{run.config.name}: {_earned(run, run.config.symbols[0])}")
    return Outcome(note="; ".join(notes), facts=facts, human=tuple(human), pages=tuple(pages))


def market(night: Night) -> Outcome:
    """A page per symbol: prices, the liquidation map, realised liquidations, gaps."""
    lake, pages, left_out = Lake(night.lake), [], []
    for symbol in night.settings.symbols:
        first = lake.span("klines", symbol)
        if first is None:
            left_out.append(f"{symbol} has no bars")
            continue
        start = max(night.report_start, _midnight(first[0]))
        bars = build_bars(lake, symbol, start, night.end, interval="1m", latency_ms=0, substitutions=Substitutions())
        covered = covered_days(lake, (symbol,), start, night.end)
        forced = lake.scan("force_orders", symbols=[symbol], start=start, end=night.end)
        seen = look(
            Question(folder=night.lake, symbol=symbol, source=night.settings.source, start=start, end=night.end)
        )
        at_risk = (
            Section(title="Liquidation map", intro=seen.reason)
            if seen.map is None
            else Section(title="Liquidation map", figures=(liquidation_map(seen),))
        )
        name = f"market-{symbol}.html"
        write_report(
            night.folder / name,
            title=f"{symbol}, {night.day}",
            verdict=Verdict(headline=f"{symbol} on {night.day}", sentence=_moved(bars.frame, night)),
            sections=(
                market_section(bars, covered),
                at_risk,
                liquidations_section(bars, forced),
                gaps_section(lake, covered, (symbol,), start, night.end),
            ),
            facts=(("range", f"{formats.moment(start)} to {formats.moment(night.end)}"),),
            not_modelled=(),
        )
        pages.append((f"The market of {symbol}", name))
    return Outcome(note="; ".join(left_out) or f"pages of {', '.join(night.settings.symbols)}", pages=tuple(pages))


def _quiet(what: str, done: int, total: int) -> None:
    """Nobody watches a step."""


def _covered(lake: Lake, night: Night) -> pl.DataFrame:
    """How complete the day is; before the first row ever of a stream nothing is missing, and nobody could repair it."""
    covered = covered_days(lake, night.settings.symbols, night.start, night.end)
    told = []
    for (table, symbol), days in covered.group_by("table", "symbol", maintain_order=True):
        first, _ = lake.span(table, symbol)
        has_begun = first > night.start
        told.append(coverage(lake, tables=[table], symbols=[symbol], start=first, end=night.end) if has_begun else days)
    return pl.concat(told) if told else covered


def _gone(lake: Lake, covered: pl.DataFrame, night: Night) -> pl.DataFrame:
    """Streams of the day before of which the day has no row at all, so that ``covered`` leaves them out."""
    before = covered_days(lake, night.settings.symbols, night.start - timedelta(days=1), night.start)
    steady = before.filter(pl.col("table").is_in(_STEADY))
    return steady.join(covered, on=["table", "symbol", "interval"], how="anti", nulls_equal=True)


def _streams(covered: pl.DataFrame) -> str:
    names = [f"{table} {symbol}" for table, symbol in covered.select("table", "symbol").iter_rows()]
    return f"{', '.join(names[:_SHOWN])}{' and more' if len(names) > _SHOWN else ''}"


def _state(row: dict) -> str:
    """How a stream is; of some nobody can say how much should have come."""
    return "recorded" if row["covered"] is None else f"{row['state']}, {formats.percent(row['covered'], decimals=2)}"


def _first_shown(lake: Lake, symbols: Sequence[str], night: Night) -> datetime:
    """From when on the lake is looked at: what lies before the first recording is no hole."""
    spans = [span for symbol in symbols for table in _RECORDED if (span := lake.span(table, symbol))]
    return max(night.report_start, _midnight(min(first for first, _ in spans))) if spans else night.report_start


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _promoted(night: Night) -> Chosen | None:
    """The promoted config that is walked forward; None where there is none.

    Raises
    ------
    LookupError
        When the settings name a file that is not there.
    """
    named = night.settings.chosen
    if named == NOBODY or not (named or CHOSEN.exists()):
        return None
    try:
        return load_chosen(Path(named or CHOSEN).absolute())
    except LookupError as error:
        raise LookupError(f'chosen in the settings: {error}; name another file, or "{NOBODY}" for nobody') from error


def _lacking(lake: Lake, config: SweepConfig) -> str:
    """What a lake lacks of the days that a sweep asks for, where it was not recorded for as long; else nothing."""
    spare = (1.0 - config.min_coverage) * (config.end - config.start)
    for symbol in config.symbols:
        spans = [span for table in ("klines", "trades") if (span := lake.span(table, symbol, config.prices))]
        first = min((first for first, _ in spans), default=None)
        if first is None or first > config.start + spare:
            has = "nothing of it" if first is None else f"it from {formats.moment(first)} on"
            return (
                f"{config.name} is not walked forward: it asks for {symbol} from {formats.moment(config.start)} on, "
                f"and the lake has {has}: bring the days before with `aster backfill`"
            )
    return ""


def _up_to(config: dict, end: datetime) -> dict:
    """A sweep's TOML, its range moved to end with the night."""
    first, last = (parse_utc(str(config[name])) for name in ("start", "end"))
    return {**config, "start": end - (last - first), "end": end}


def _earned(run: RunFolder, symbol: str) -> str:
    folds = run.frame("walk_forward_folds").filter(pl.col("symbol") == symbol)
    trades = run.frame("walk_forward_trades").filter(pl.col("symbol") == symbol).height
    return f"{formats.usdt(folds['net_pnl_usdt'].sum(), signed=True)} USDT in {formats.count(trades)} trades"


def _drift(run: RunFolder, running: Chosen) -> list[str]:
    """What speaks against the promoted config after another day."""
    symbol = running.config.symbol
    found = []
    if running.provenance["statistical_gate"] and not gate_of(run, symbol)["passes"]:  # else it was known
        found.append(f"the promoted config's procedure {gate_of(run, symbol)['verdict']}")
    newest = run.frame("walk_forward_folds").filter(pl.col("symbol") == symbol).sort("fold").tail(1)
    if newest.height and newest["config"][0] is not None:
        rows = run.frame("results").filter(pl.col("symbol") == symbol, pl.col("config") == newest["config"][0])
        params = run.config.params_of(rows.row(0, named=True))._asdict()
        other = [f"{name} {formats.ratio(running.config.params[name])} → {formats.ratio(value)}"
                 for name, value in params.items() if running.config.params.get(name) != value]  # fmt: skip
        if other:
            found.append(f"the newest fold would trade other parameters than those promoted: {', '.join(other)}")
    return found


def _moved(bars: pl.DataFrame, night: Night) -> str:
    """How far the price went that day."""
    day = bars.filter(pl.col("open_time") >= night.start, pl.col("close").is_not_nan())
    if day.is_empty():
        return "Nothing was recorded that day."
    change = day["close"][-1] / day["open"][0] - 1.0
    return (
        f"{formats.percent(change, signed=True)} over the day; highest {day['high'].max():.6g}, lowest "
        f"{day['low'].min():.6g}."
    )
