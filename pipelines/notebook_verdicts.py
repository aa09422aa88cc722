"""Notebook 03, does the map predict: verdicts with their intervals, and what lies behind them."""

import math

import polars as pl
from IPython.display import HTML, Markdown

from data.config import parse_utc
from data.lake import default_lake
from pipelines.map_judging import ALL, Asked, Judged, judge
from pipelines.notebook_views import NOTHING, named, progress, show
from pipelines.report import Table
from research import formats, plots
from research.clusters.validation.verdicts import (
    EVIDENCE,
    GATES,
    MIN_DAYS,
    MIN_SYMBOLS,
    NO_EVIDENCE,
    TOO_LITTLE,
    by_chance,
)
from research.plots.style import Figure

_WHOLE = "all"  # band
_SHOWN_SYMBOLS = 5  # named where many share one reason
_KINDS = {  # of placebo maps, in words
    "all": "all placebo maps",
    "rotated": "all distances turned by one offset",
    "shifted": "the map of another day",
    "mirrored": "sides swapped",
    "round_numbers": "levels at round numbers",
    "volume_nodes": "levels where most was traded",
}
_REACTIONS = {"reaction_touched": "touch", "reaction_broken": "break"}


def ask(
    lake: str,
    symbols: str,
    source: str,
    start: str,
    end: str,
    horizon_h: float,
    min_print_usdt: float,
    cost_bps: float,
    placebo_maps: int,
) -> Judged:
    """Build or read the maps and judge them.

    Raises
    ------
    ValueError
        On a horizon that is no whole number of minutes above zero.
    """
    horizon_s = round(horizon_h * 3_600)
    if horizon_s <= 0 or horizon_s % 60:
        raise ValueError(f"horizon_h: expected whole minutes above zero, got {horizon_h} h")
    return judge(
        Asked(
            folder=named(lake, default_lake()),
            symbols=tuple(one.strip().upper() for one in symbols.split(",") if one.strip()),
            source=source.strip(),
            start=parse_utc(start) if start else None,
            end=parse_utc(end) if end else None,
            horizon_s=horizon_s,
            min_print_usdt=min_print_usdt,
            cost_bps=cost_bps,
            placebo_maps=placebo_maps,
        ),
        progress(),
    )


def judged_maps(judged: Judged) -> HTML | Markdown:
    """Which maps were judged over which range, and why others were not."""
    if not judged.maps:
        why = "; ".join(f"{names}: {reason}" if names else reason for names, reason in _reasons(judged))
        return Markdown(
            f"No map was judged: {why}. Record with `aster record`, or import a history of open interest and "
            "liquidations with `aster import --format okx` and `--format force-orders`; a seeded synthetic market is "
            "at hand: run `from pipelines.notebook_lake import synthetic_lake` and `lake = synthetic_lake()` in a cell "
            "of its own, then the cells from here on again."
        )
    rows = [
        (
            symbol,
            f"{found.key.source} on prices of {found.key.venue}",
            formats.moment(found.heatmap["ts"].min()),
            formats.moment(found.heatmap["ts"].max()),
            formats.count(found.clusters.filter("active")["cluster_id"].n_unique()),
            formats.count(judged.prints[symbol]),
        )
        for symbol, found in judged.maps.items()
    ]
    reasons = "".join(f" Not judged: {names}: {reason}." for names, reason in _reasons(judged))
    return show(
        Table(
            title="What is judged",
            columns=("symbol", "map of", "first snapshot", "last snapshot", "active clusters", "liquidations"),
            align="llllrr",
            rows=tuple(rows),
            note=(
                f"Nothing is called evidence, either way, below {MIN_SYMBOLS} symbols or {MIN_DAYS} days with "
                f"events. – under liquidations: aster's were never recorded.{reasons}"
            ),
        )
    )


def _reasons(judged: Judged) -> list[tuple[str, str]]:
    """Symbols that were not judged, put together where they share a reason; "" for the lake itself."""
    alike: dict[str, list[str]] = {}
    for symbol, reason in judged.reasons.items():
        alike.setdefault(reason.replace(symbol, "it") if symbol else reason, []).append(symbol)
    return [
        (
            ", ".join(symbols[:_SHOWN_SYMBOLS])
            + (f" and {formats.count(len(symbols) - _SHOWN_SYMBOLS)} more" if len(symbols) > _SHOWN_SYMBOLS else ""),
            reason,
        )
        for reason, symbols in alike.items()
    ]


def verdict_table(judged: Judged) -> HTML | Markdown:
    """One row per question, over all symbols: figure, interval, gate, verdict; and what chance alone would pass."""
    return NOTHING if _main(judged).is_empty() else show(verdicts_in_words(judged))


def verdicts_in_words(judged: Judged) -> Table:
    """The rows of ``verdict_table``."""
    main = _main(judged)
    rows = tuple(
        (
            row["question"],
            _factor(row["band"]) if row["metric"] in ("brier_skill", "ece") else _of(judged),
            _figure(row),
            row["gate"],
            formats.count(row["n"]),
            formats.count(row["n_days"]),
            row["verdict"],
        )
        for row in main.iter_rows(named=True)
    )
    told = main.filter(pl.col("verdict") != TOO_LITTLE)
    chance, passed = by_chance(told["metric"]), told.filter(pl.col("verdict") == EVIDENCE).height
    counted = (
        f"of {formats.count(told.height)} with enough data, {formats.number(chance, 1)} would show evidence by chance "
        f"if the map knew nothing; {formats.count(passed)} do"
        if told.height
        else "none has enough data yet"
    )
    return Table(
        title="Verdicts",
        columns=("question", "of", "figure (95 % interval by days)", "evidence would be", "n", "days", "verdict"),
        align="llllrrl",
        rows=rows,
        note=f"Many rows are many tests, and each is judged by itself: {counted}. Read the table whole.",
    )


def by_symbol(judged: Judged) -> HTML | Markdown:
    """The figures of each symbol beside each other; never a verdict."""
    metrics = ("magnet_excess", "location_log_gain", "mass_beta", "reach_lift")
    rows = judged.verdicts.filter(
        pl.col("metric").is_in(metrics), pl.col("symbol") != ALL, pl.col("band") == _WHOLE, pl.col("n") > 0
    )
    if rows.is_empty():
        return Markdown("Symbol by symbol: there is one, or none.")
    cells = {(row["symbol"], row["metric"]): row for row in rows.iter_rows(named=True)}
    passed = {place for place, row in cells.items() if GATES[row["metric"]].holds(*_numbers(row))}
    table = tuple(
        (
            symbol,
            *(
                _figure(cells[symbol, metric], with_unit=False) + (" *" if (symbol, metric) in passed else "")
                if (symbol, metric) in cells
                else formats.UNKNOWN
                for metric in metrics
            ),
        )
        for symbol in sorted(set(rows["symbol"]))
    )
    return show(
        Table(
            title="Symbol by symbol",
            columns=(
                "symbol", "walls just reached, per 100", "gain over distance, nats", "elasticity of mass",
                "lift once reached, times",
            ),
            align="lrrrr",
            rows=table,
            note=(
                "* past the gate of its question. One symbol is never evidence: of these "
                f"{formats.count(len(cells))} figures {formats.number(by_chance(rows['metric']), 1)} would lie past "
                f"their gates by chance if the map knew nothing; {formats.count(len(passed))} do."
            ),
        )
    )  # fmt: skip


def magnet(judged: Judged) -> Figure | Markdown:
    """Are walls reached more often than levels beside them: over all symbols and of each."""
    rows = judged.verdicts.filter(pl.col("metric") == "magnet_excess", pl.col("n") > 0)
    if rows.is_empty():
        return NOTHING
    ours, lift = judged.magnet, judged.published
    low, high = (formats.number(100.0 * bound, 1, signed=True) for bound in (lift.low, lift.high))
    return plots.plot_intervals(
        _scaled(rows.with_columns(label=_label(judged)), 100.0),
        title=f"Magnet: does the price just reach walls within {_hours(judged)}?",
        axis="excess (per 100 walls)",
        limit=0.0,
        caption=(
            "A wall counts when the price goes just as far as it and hardly farther, against eight levels beside it at "
            f"the same moment; days are the blocks: t = {formats.number(ours.t, 2, signed=True)}. Others publish the "
            "touch rate less that of any moment, samples taken as independent: here "
            f"{formats.number(100.0 * lift.value, 1, signed=True)} per 100 [{low}, {high}], "
            f"t = {formats.number(lift.t, 1, signed=True)}, which is wrong about half the time in worlds without any "
            "magnet."
        ),
    )


def reacted(judged: Judged) -> Figure | Markdown:
    """Returns after touches and breaks, beyond those after touches like them."""
    rows = judged.verdicts.filter(pl.col("metric").is_in(list(_REACTIONS)), pl.col("n") > 0)
    if rows.is_empty():
        return NOTHING
    label = pl.format(
        "{} {}, {} min",
        pl.col("metric").replace_strict(_REACTIONS),
        pl.col("band").replace({_WHOLE: "of any", "long": "of longs", "short": "of shorts"}),
        pl.col("horizon_s") // 60,
    )
    return plots.plot_intervals(
        rows.with_columns(label=label),
        title="Reactions: what the price does after a touch or a break",
        axis="excess return (bps)",
        limit=0.0,
        caption=(
            "Right: the price goes on through. Left: it turns back. In excess of touches of other levels after the "
            "same approach, volatility and change of open interest; before costs."
        ),
    )


def located(judged: Judged) -> Figure | Markdown:
    """Do clusters that the price reaches see more liquidations than buckets like them: by distance."""
    rows = judged.verdicts.filter(pl.col("metric") == "reach_lift", pl.col("n") > 0)
    if rows.is_empty():
        return NOTHING
    label = pl.format("{}, {}", _label(judged), pl.col("band").replace({_WHOLE: "any distance"}))
    return plots.plot_intervals(
        rows.with_columns(label=label),
        title="Location: liquidations in reached clusters, against buckets like them",
        axis="lift (times)",
        limit=1.0,
        caption=(
            "Bands are distances in per cent when a cluster was first shown. Buckets like them lie as far, on the same "
            "side, and were reached as well: what is left is where the map says."
        ),
    )


def calibrated(judged: Judged) -> Figure | Markdown:
    """Does 0.3 mean 30 %."""
    if judged.scores.is_empty():
        return NOTHING
    return plots.plot_reliability(
        judged.bins, judged.scores, title=f"Probabilities of clusters within {_hours(judged)}"
    )


def placebos(judged: Judged) -> HTML | Markdown:
    """What the plainest rule earns on this map, and how many maps that know nothing earn as much."""
    rows = judged.verdicts.filter(pl.col("metric") == "placebo_rank", pl.col("band").is_in(list(_KINDS)))
    if judged.placebo is None or rows.is_empty():
        return NOTHING
    of_maps = judged.placebo.maps.group_by("map", "kind").agg(pl.col("pnl_usdt").sum())
    told = []
    for row in rows.iter_rows(named=True):
        own = of_maps if row["band"] == _WHOLE else of_maps.filter(pl.col("kind") == row["band"])
        told.append(
            (
                _KINDS[row["band"]],
                formats.count(own.height),
                formats.usdt(judged.placebo.pnl_usdt if row["n"] else None, signed=True),
                formats.usdt(own["pnl_usdt"].median(), signed=True),
                formats.number(row["value"], 3),
                row["verdict"],
            )
        )
    return show(
        Table(
            title="The same rule on maps that know nothing",
            columns=(
                "placebo", "maps that traded", "earned on this map, USDT", "median placebo, USDT", "rank p", "verdict"
            ),
            align="lrrrrl",
            rows=tuple(told),
            note=(
                "The rule: once per cluster, 1 000 USDT towards it from 20 to 150 bps away, stop as far behind, "
                f"{judged.asked.cost_bps:g} bps a round trip. It is a yardstick, no strategy."
            ),
        )
    )  # fmt: skip


def verdicts_sentence(judged: Judged) -> Markdown:
    """Does the map predict."""
    main = _main(judged)
    if main.is_empty():
        return Markdown("**Nobody can say: there was no map to judge.**")
    found = {verdict: main.filter(pl.col("verdict") == verdict) for verdict in (EVIDENCE, NO_EVIDENCE, TOO_LITTLE)}
    counts = ", ".join(f"{verdict} on {formats.count(rows.height)}" for verdict, rows in found.items() if rows.height)
    if found[TOO_LITTLE].height == main.height:
        seen = ((len(judged.maps), MIN_SYMBOLS, "symbols"), (int(main["n_days"].max()), MIN_DAYS, "days with events"))
        short = [f"{formats.count(n)} of {least} {what}" for n, least, what in seen if n < least]
        return Markdown(f"**Too little data to say whether the map predicts: {' and '.join(short) or counts}.**")
    verdict = "In part" if found[EVIDENCE].height else "No evidence that it does"
    chance = by_chance(main.filter(pl.col("verdict") != TOO_LITTLE)["metric"])
    return Markdown(
        f"**{verdict}: of {formats.count(main.height)} questions, {counts}; chance alone would answer "
        f"{formats.number(chance, 1)} with evidence.**"
    )


def _main(judged: Judged) -> pl.DataFrame:
    """The rows that answer a question as a whole, over all symbols, in the order of the gates."""
    whole = (pl.col("band") == _WHOLE) | pl.col("metric").is_in(["brier_skill", "ece"])
    longest = pl.col("horizon_s") == pl.col("horizon_s").max().over("metric")
    order = {metric: place for place, metric in enumerate(GATES)}
    return (
        judged.verdicts.filter(pl.col("symbol") == ALL, whole)
        .filter(longest)
        .with_columns(place=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort("place", maintain_order=True)
        .drop("place")
    )


def _of(judged: Judged) -> str:
    """Of whom the answers over all symbols are."""
    return next(iter(judged.maps)) if len(judged.maps) == 1 else f"{len(judged.maps)} symbols"


def _label(judged: Judged) -> pl.Expr:
    return pl.col("symbol").replace({ALL: _of(judged)})


def _scaled(rows: pl.DataFrame, factor: float) -> pl.DataFrame:
    return rows.with_columns(pl.col("value", "low", "high") * factor)


def _factor(name: str) -> str:
    return {"p_touch": "being reached", "p_liq_touch": "liquidations once reached", "confidence": "both"}.get(
        name, name
    )


def _hours(judged: Judged) -> str:
    return (
        formats.age(judged.asked.horizon_s)
        if judged.asked.horizon_s % 3_600
        else f"{judged.asked.horizon_s // 3_600} h"
    )


def _figure(row: dict, *, with_unit: bool = True) -> str:
    value, low, high = _numbers(row)
    return formats.UNKNOWN if math.isnan(value) else GATES[row["metric"]].figure(value, low, high, with_unit=with_unit)


def _numbers(row: dict) -> tuple[float, float, float]:
    value, low, high = (float("nan") if row[name] is None else row[name] for name in ("value", "low", "high"))
    return value, low, high
