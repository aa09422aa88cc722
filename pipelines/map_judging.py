"""Does a map predict: all that validation asks, of the maps of one lake, as frames."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from data.lake import Lake
from pipelines.clusters_job import StoredMap, read_map
from pipelines.map_reading import map_symbols, mark_minutes
from research.clusters.confidence import ConfidenceConfig, with_confidence
from research.clusters.inputs import Unavailable, liquidations
from research.clusters.outcomes import Question
from research.clusters.validation.approach import approach
from research.clusters.validation.bootstrap import METRICS
from research.clusters.validation.calibration import RELIABILITY, SCORES, calibration, score_card
from research.clusters.validation.episodes import episodes
from research.clusters.validation.location import location, mass_effect
from research.clusters.validation.magnet import lift_test, magnet_samples, magnet_test, tidy
from research.clusters.validation.placebo import KINDS, PlaceboTest, economic_placebo
from research.clusters.validation.reactions import reaction_samples, reactions
from research.clusters.validation.verdicts import GATES, MIN_DAYS, MIN_SYMBOLS, VERDICTS, verdicts

Tell = Callable[[str, int, int], None]

MIN_PRINTS = 10  # forced orders of a symbol below which nothing is asked about where they fell
_STEPS = ("map", "liquidations", "confidence")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is judged.

    Parameters
    ----------
    symbols : empty for all of which a map can be made. source : empty for the first with data.
    horizon_s : how far ahead a map is asked to see.
    min_print_usdt : forced orders below it do not count.
    cost_bps : of a round trip, in the placebo test.
    placebo_maps : how many maps that know nothing.
    """

    folder: Path
    symbols: tuple[str, ...]
    source: str
    start: datetime | None
    end: datetime | None
    horizon_s: int
    min_print_usdt: float
    cost_bps: float
    placebo_maps: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The answers, as frames.

    Attributes
    ----------
    reasons : why a symbol (or the lake, under "") was not judged.
    maps : per symbol the stored map; ``prints`` how many forced orders there are of it, None where not recorded.
    verdicts : rows of ``VERDICTS`` with a column symbol, "all" for answers over all of them.
    published : the iid lift over a base rate that others publish: shown beside the test, never a verdict.
    bins, scores : reliability of the probabilities.
    placebo : None without a trade.
    """

    asked: Asked
    reasons: dict[str, str] = field(default_factory=dict)
    maps: dict[str, StoredMap] = field(default_factory=dict)
    prints: dict[str, int | None] = field(default_factory=dict)
    verdicts: pl.DataFrame = field(default_factory=lambda: _with_symbol(VERDICTS.to_frame(), ""))
    published: pl.DataFrame = field(default_factory=METRICS.to_frame)
    bins: pl.DataFrame = field(default_factory=RELIABILITY.to_frame)
    scores: pl.DataFrame = field(default_factory=SCORES.to_frame)
    placebo: PlaceboTest | None = None


def judge(asked: Asked, tell: Tell) -> Judged:
    """Ask everything of every map; reasons instead of answers where there is no data."""
    try:
        lake = Lake(asked.folder)
    except LookupError:
        return Judged(asked=asked, reasons={"": f"there is no lake at {asked.folder}"})
    there = map_symbols(lake)
    if not there:
        return Judged(asked=asked, reasons={"": f"{asked.folder} holds neither open interest nor liquidations"})
    maps, reasons, prints, metrics, marks, samples = {}, {}, {}, [], [], []
    symbols = asked.symbols or there
    for number, symbol in enumerate(symbols):
        tell(f"{_STEPS[0]}, {symbol}", number, len(symbols))
        found = read_map(lake, symbol, asked.source or None, asked.start, asked.end)
        if isinstance(found, Unavailable) or found.heatmap.is_empty():
            reasons[symbol] = (
                found.reason if isinstance(found, Unavailable) else "its map has no snapshot in this range"
            )
            continue
        first, last = found.heatmap["ts"].min(), found.heatmap["ts"].max()
        minutes = mark_minutes(lake, found.key, first, last)
        orders = liquidations(lake, symbol, first, last) if lake.span("force_orders", symbol) else None
        maps[symbol], prints[symbol] = found, None if orders is None else orders.height
        marks.append(minutes)
        tell(f"{_STEPS[1]}, {symbol}", number, len(symbols))
        if orders is not None and orders.height >= MIN_PRINTS:
            metrics.append(_with_symbol(_located(found, minutes, orders, asked), symbol))
        tell(f"{_STEPS[2]}, {symbol}", number, len(symbols))
        question = Question(horizon_s=asked.horizon_s, min_print_usdt=asked.min_print_usdt)
        scored = with_confidence(_living(found), minutes, orders, ConfidenceConfig(question=question))
        samples.append(scored.samples.with_columns(symbol=pl.lit(symbol)))
    if not maps:
        return Judged(asked=asked, reasons=reasons)
    return _pooled(asked, reasons, maps, prints, metrics, pl.concat(marks), pl.concat(samples), tell)


def _located(found: StoredMap, minutes: pl.DataFrame, orders: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """Where liquidations fell, against the map and against its clusters."""
    sums = {"min_print_usdt": asked.min_print_usdt}
    return pl.concat(
        [
            location(found.profiles, minutes, orders, horizon_s=asked.horizon_s, **sums),
            mass_effect(found.profiles, minutes, orders, **sums),
            episodes(
                _living(found),
                minutes,
                orders,
                min_realised_usdt=max(asked.min_print_usdt, 1.0),
                horizons_s=(asked.horizon_s,),
            ),
        ]
    )


def _pooled(
    asked: Asked,
    reasons: dict[str, str],
    maps: dict[str, StoredMap],
    prints: dict[str, int | None],
    metrics: list[pl.DataFrame],
    marks: pl.DataFrame,
    samples: pl.DataFrame,
    tell: Tell,
) -> Judged:
    walls = pl.concat([_living(found) for found in maps.values()]).filter("active")
    events = pl.concat([found.events for found in maps.values()])
    tell("magnet", 0, 3)
    standing = magnet_samples(walls, marks, horizon_s=asked.horizon_s)
    pulled = [_with_symbol(tidy(magnet_test(standing), horizon_s=asked.horizon_s), "all")]
    for (symbol,), own in sorted(standing.partition_by("symbol", as_dict=True).items()):
        pulled.append(_with_symbol(tidy(magnet_test(own), horizon_s=asked.horizon_s), symbol))
    tell("reactions", 1, 3)
    reacted = _with_symbol(reactions(reaction_samples(events, marks)), "all")
    tell("placebo maps", 2, 3)
    strategy = approach(marks, cost_bps=asked.cost_bps, horizon_s=asked.horizon_s)
    kinds = [kind for kind in KINDS if kind != "permuted"]  # the rule reads no masses: a permuted map is the real one
    placebo = economic_placebo(
        strategy,
        walls,
        marks,
        maps=asked.placebo_maps,
        kinds=kinds,
        progress=lambda done, of: tell("placebo maps", done, of),
    )
    bins, calibrated = calibration(samples, asked.horizon_s)
    results = [*pulled, reacted, *metrics, _with_symbol(calibrated, "all"), _with_symbol(placebo.results, "all")]
    rows = pl.concat(results, how="diagonal_relaxed").filter(pl.col("metric").is_in(list(GATES)))
    return Judged(
        asked=asked,
        reasons=reasons,
        maps=maps,
        prints=prints,
        verdicts=verdicts(rows, n_symbols=len(maps)).with_columns(rows["symbol"]),
        published=tidy(lift_test(standing), metric="lift", horizon_s=asked.horizon_s),
        bins=bins,
        scores=_enough(score_card(calibrated), len(maps)),
        placebo=placebo,
    )


def _enough(scores: pl.DataFrame, symbols: int) -> pl.DataFrame:
    """A gate that holds on few days or symbols holds by chance: no colour before there is enough."""
    is_enough = (pl.col("n_days") >= MIN_DAYS) & (symbols >= MIN_SYMBOLS)
    return scores.with_columns(pl.col("calibrated") & is_enough)


def _living(found: StoredMap) -> pl.DataFrame:
    """Rows of living clusters; what is at risk on the source stands in where aster's share of it is not known."""
    mass = pl.coalesce(pl.col("open_interest").fill_nan(None), pl.col("mass_src_usd"))
    return found.clusters.filter(pl.col("available"), pl.col("cluster_id").is_not_null()).with_columns(
        mass.alias("open_interest")
    )


def _with_symbol(rows: pl.DataFrame, symbol: str) -> pl.DataFrame:
    return rows.with_columns(symbol=pl.lit(symbol))
