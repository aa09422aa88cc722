"""The page of ``aster robust``: what is left on worse terms, how deep it could have fallen, what it hangs on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.report import Gate, Section, Table, Verdict, write_report
from pipelines.robust_job import SHOWN_PARTS, Robustness, symbols_left_out
from pipelines.runs import RunFolder
from research import formats, plots
from research.plots.style import Figure
from research.robustness import DrawdownBand, fewest_to_lose
from research.surface import over_starts

PAGE = "robust.html"

NOT_MODELLED = ("what the selection would pick on worse terms", "larger orders (the report's capacity table has them)")


def write_robust_report(run: RunFolder, found: Sequence[Robustness]) -> Path:
    """Write ``robust.html`` of a run and return its path."""
    config = run.config
    sections = [section for each in found for section in _sections(each)]
    if len(found) > 1:
        without = _without("symbol", symbols_left_out(list(found)))
        sections.append(Section(title="Does one symbol carry it?", tables=(without,)))
    return write_report(
        run.path / PAGE,
        title=f"{config.name}: how fragile is the record?",
        verdict=Verdict(
            headline=_headline(found),
            sentence=f"{config.strategy} {config.interval}, {formats.moment(config.start)} to "
            f"{formats.moment(config.end)}. " + "; ".join(f"{one.symbol}: {one.finding.sentence}" for one in found),
            key_numbers=_key_numbers(found[0]),
            gates=tuple(_gate(one) for one in found),
        ),
        sections=sections,
        facts=[
            ("run", run.path.name),
            ("own terms", f"taker fee {config.costs.taker_fee_bps:g} bps, slippage {config.costs.slippage_bps:g} bps, "
             f"latency {config.costs.latency_ms} ms"),
            *(("repeated", _repeated(one)) for one in found),
        ],
        not_modelled=NOT_MODELLED,
    )  # fmt: skip


def _headline(found: Sequence[Robustness]) -> str:
    holding = [one.symbol for one in found if one.finding.passes]
    others = [one.symbol for one in found if not one.finding.passes]
    parts = [f"{', '.join(holding)}: earns on most worse terms"] if holding else []
    parts += [f"{', '.join(others)}: does not earn on most worse terms"] if others else []
    return "; ".join(parts)


def _key_numbers(found: Robustness) -> tuple[tuple[str, str], ...]:
    return (
        (f"{found.symbol}: net, USDT", formats.usdt(found.net_pnl_usdt, signed=True)),
        ("worst terms, net, USDT", formats.usdt(found.surface["net_pnl_usdt"].min(), signed=True)),
        ("break-even fee, bps per fill", formats.bps(found.cost.break_even_bps, signed=False)),
        ("without its best day, USDT", formats.usdt(_first(found.days, "without_usdt"), signed=True)),
    )


def _gate(found: Robustness) -> Gate:
    one = found.finding
    return Gate(name=f"{found.symbol} {one.name}", value=one.value, limit=one.limit, passes=one.passes)


def _repeated(found: Robustness) -> str:
    if found.is_repeated:
        return f"{found.symbol}: traded again on its own terms it earns the same"
    return f"{found.symbol}: NOT the sweep's record: code or data changed since; sweep again"


def _sections(found: Robustness) -> tuple[Section, Section, Section]:
    symbol, surface = found.symbol, found.surface
    title = f"{symbol}: what following the procedure earns as fees, slippage and latency grow, USDT"
    return (
        Section(
            title=f"{symbol}: what if the terms were worse?",
            intro="Later orders meet other execution bars, dearer fees raise the floors of exits too, and a later "
            "start moves every fold, so that the procedure picks anew.",
            figures=(plots.plot_cost_surface(over_starts(surface), title=title),),
            tables=(_latencies(surface), _starts(surface), _break_even(found)),
        ),
        Section(
            title=f"{symbol}: how deep could it have fallen?",
            intro="Its hours drawn anew in blocks, some of them twice and some not at all (stationary bootstrap).",
            figures=_band_figures(found),
            tables=(_bands(found),),
        ),
        Section(
            title=f"{symbol}: what does it hang on?",
            tables=(_without("UTC day", found.days), _without("trade", found.trades)),
        ),
    )


def _latencies(surface: pl.DataFrame) -> Table:
    own = surface.filter("is_own").row(0, named=True)
    same = surface.filter(**{name: own[name] for name in ("taker_fee_bps", "slippage_bps", "start_bars")})
    is_moved = same["net_pnl_usdt"].n_unique() > 1
    return Table(
        title="Later orders, at the run's own costs",
        columns=("latency, ms", "net, USDT", "Sharpe", "trades"),
        align="rrrr",
        rows=tuple((formats.count(row["latency_ms"]), *_earned(row)) for row in same.to_dicts()),
        note=""
        if is_moved
        else "Latency changes nothing here: without recorded trades and quotes an order meets the next kline's open "
        "whenever it comes within the minute.",
    )


def _starts(surface: pl.DataFrame) -> Table:
    own = surface.filter("is_own").row(0, named=True)
    same = surface.filter(**{name: own[name] for name in ("latency_ms", "taker_fee_bps", "slippage_bps")})
    return Table(
        title="Later starts, on the run's own terms",
        columns=("starts later by, bars", "folds traded", "net, USDT", "Sharpe", "trades"),
        align="rrrrr",
        rows=tuple(
            (formats.count(row["start_bars"]), formats.count(row["folds"]), *_earned(row)) for row in same.to_dicts()
        ),
        note="A later start leaves fewer rows to trade: compare signs and Sharpes.",
    )


def _earned(row: dict) -> tuple[str, str, str]:
    return formats.usdt(row["net_pnl_usdt"], signed=True), formats.ratio(row["sharpe"]), formats.count(row["trades"])


def _break_even(found: Robustness) -> Table:
    cost = found.cost
    return Table(
        title="Break-even cost, the trades held as they were",
        columns=("what", "per fill, bps", "per round trip, bps"),
        align="lrr",
        rows=tuple(
            (what, formats.bps(per_fill, signed=False), formats.bps(2.0 * per_fill, signed=False))
            for what, per_fill in (
                ("fees charged", cost.charged_bps),
                ("fees at which nothing is left", cost.break_even_bps),
                ("room between them", cost.margin_bps),
            )
        ),
        note=f"Gross PnL less funding over {formats.usdt(cost.traded_usdt)} USDT traded in "
        f"{formats.count(cost.fills)} fills. Prices are as filled: spread and slippage are paid already."
        + (" Below zero: it loses even where no fee is charged." if cost.break_even_bps < 0.0 else ""),
    )


def _band_figures(found: Robustness) -> tuple[Figure, ...]:
    if not found.bands:
        return ()
    band = found.bands[-1]
    frame = pl.DataFrame(
        {
            "days": np.arange(1, len(band.observed) + 1) * found.period_hours / 24.0,
            "observed_usdt": band.observed,
            "low_usdt": band.low,
            "median_usdt": band.median,
            "high_usdt": band.high,
        }
    )
    title = f"{found.symbol}: deepest fall of the record, and of its hours drawn anew"
    return (plots.plot_drawdown_band(frame, title=title, block=_hours(found, band)),)


def _bands(found: Robustness) -> Table:
    return Table(
        title="Deepest fall over the whole record, USDT",
        columns=(
            "kept together",
            "the record",
            "5 % are deeper than",
            "median",
            "5 % are shallower than",
            "drawn as deep",
        ),
        align="rrrrrr",
        rows=tuple(
            (
                _hours(found, band),
                *(formats.usdt(curve[-1]) for curve in (band.observed, band.low, band.median, band.high)),
                formats.percent(band.share_deeper),
            )
            for band in found.bands
        ),
        note="By the hour: inside an hour it may have been deeper."
        if found.bands
        else "The record is too short: two blocks are needed.",
    )


def _hours(found: Robustness, band: DrawdownBand) -> str:
    return f"{band.block * found.period_hours:g} h"


def _without(what: str, parts: pl.DataFrame) -> Table:
    fewest = fewest_to_lose(parts)
    return Table(
        title=f"Without its best {what}s, one at a time",
        columns=(what, "its net, USDT", "the record without it, USDT", "share of the profit"),
        align="lrrr",
        rows=tuple(
            (
                row["name"],
                formats.usdt(row["net_pnl_usdt"], signed=True),
                formats.usdt(row["without_usdt"], signed=True),
                formats.percent(row["share_of_profit"]),
            )
            for row in parts.head(SHOWN_PARTS).to_dicts()
        ),
        note=f"The best {min(SHOWN_PARTS, parts.height)} of {formats.count(parts.height)}. "
        + (
            "There is no profit to share."
            if fewest is None
            else f"Without its best {formats.count(fewest)} together nothing is earned."
        ),
    )


def _first(parts: pl.DataFrame, column: str) -> float | None:
    return None if parts.is_empty() else parts[column][0]
