"""Does a map predict: all that validation asks, of the maps of one lake, as frames."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from data.lake import Lake
from pipelines.cluster_data import mapped_symbols, mark_minutes
from pipelines.clusters_job import StoredMap, read_map
from research.clusters.confidence import ConfidenceConfig, with_confidence
from research.clusters.inputs import Unavailable, liquidations
from research.clusters.outcomes import Question
from research.clusters.validation.approach import approach
from research.clusters.validation.calibration import FACTORS, RELIABILITY, SCORES, calibration, judged_rows, score_card
from research.clusters.validation.episodes import episode_samples, episodes
from research.clusters.validation.location import location, location_samples
from research.clusters.validation.magnet import BlockTest, lift_test, magnet_samples, magnet_test, tidy
from research.clusters.validation.mass_effect import mass_effect, reached_buckets
from research.clusters.validation.placebo import KINDS, PlaceboTest, economic_placebo
from research.clusters.validation.reactions import reaction_samples, reactions
from research.clusters.validation.verdicts import GATES, MIN_DAYS, MIN_SYMBOLS, VERDICTS, verdicts

Tell = Callable[[str, int, int], None]

ALL = "all"  # symbols together
MIN_PRINTS = 10  # forced orders of a symbol below which nothing is asked about where they fell
_STEPS = ("map", "liquidations", "confidence")
_FOREIGN_ONLY = "only liquidations of another venue, and no open interest: no map can be made of that"


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
    verdicts : rows of ``VERDICTS`` with a column symbol: ``ALL`` for the answers over all of them together, and where
        there are several, the figures of each, which are never a verdict.
    magnet, published : the test of walls and the iid lift over a base rate that others publish, which is shown beside
        it and decides nothing; None without a map.
    bins, scores : reliability of the probabilities.
    placebo : None without a trade.
    """

    asked: Asked
    reasons: dict[str, str] = field(default_factory=dict)
    maps: dict[str, StoredMap] = field(default_factory=dict)
    prints: dict[str, int | None] = field(default_factory=dict)
    verdicts: pl.DataFrame = field(default_factory=lambda: _with_symbol(VERDICTS.to_frame(), ""))
    magnet: BlockTest | None = None
    published: BlockTest | None = None
    bins: pl.DataFrame = field(default_factory=RELIABILITY.to_frame)
    scores: pl.DataFrame = field(default_factory=SCORES.to_frame)
    placebo: PlaceboTest | None = None


def judge(asked: Asked, tell: Tell) -> Judged:
    """Ask everything of every map; reasons instead of answers where there is no data."""
    try:
        lake = Lake(asked.folder)
    except LookupError:
        return Judged(asked=asked, reasons={"": f"there is no lake at {asked.folder}"})
    there, others = mapped_symbols(lake)
    if not there:
        return Judged(
            asked=asked, reasons={"": f"{asked.folder} holds neither open interest nor liquidations of aster"}
        )
    maps, prints, marks, samples = {}, {}, [], []
    reasons = {} if asked.symbols else dict.fromkeys(others, _FOREIGN_ONLY)
    located, reached, claims = ([] for _ in range(3))
    symbols = asked.symbols or there
    for number, symbol in enumerate(symbols):
        tell(f"{_STEPS[0]}, {symbol}", number, len(symbols))
        found = read_map(lake, symbol, asked.source or None, asked.start, asked.end)
        if reason := _nothing_to_judge(found):
            reasons[symbol] = reason
            continue
        first, last = found.heatmap["ts"].min(), found.heatmap["ts"].max()
        minutes = mark_minutes(lake, found.key, first, last)
        orders = liquidations(lake, symbol, first, last) if lake.span("force_orders", symbol) else None
        maps[symbol], prints[symbol] = found, None if orders is None else orders.height
        marks.append(minutes)
        tell(f"{_STEPS[1]}, {symbol}", number, len(symbols))
        if orders is not None and orders.height >= MIN_PRINTS:
            sums = {"min_print_usdt": asked.min_print_usdt}
            located.append(location_samples(found.profiles, minutes, orders, horizon_s=asked.horizon_s, **sums))
            reached.append(reached_buckets(found.profiles, minutes, orders, **sums))
            at_least = {"min_realised_usdt": max(asked.min_print_usdt, 1.0), "horizons_s": (asked.horizon_s,)}
            claims.append(episode_samples(_living(found), minutes, orders, **at_least))
        tell(f"{_STEPS[2]}, {symbol}", number, len(symbols))
        question = Question(horizon_s=asked.horizon_s, min_print_usdt=asked.min_print_usdt)
        scored = with_confidence(_living(found), minutes, orders, ConfidenceConfig(question=question))
        samples.append(scored.samples.with_columns(symbol=pl.lit(symbol)))
    if not maps:
        return Judged(asked=asked, reasons=reasons)
    metrics = [
        *_each(located, lambda rows: location(rows, horizon_s=asked.horizon_s)),
        *_each(reached, mass_effect),
        *_each(claims, episodes),
    ]
    return _together(asked, reasons, maps, prints, metrics, pl.concat(marks), pl.concat(samples), tell)


def _nothing_to_judge(found: StoredMap | Unavailable) -> str:
    """Why a map cannot be judged; empty where it can."""
    if isinstance(found, Unavailable):
        return found.reason
    if found.heatmap.is_empty():
        return "its map has no snapshot in this range"
    return "" if found.clusters["active"].any() else "its map shows no active cluster in this range"


def _each(samples: list[pl.DataFrame], test: Callable[[pl.DataFrame], pl.DataFrame]) -> Iterable[pl.DataFrame]:
    """A test over the symbols together, then, where there are several, of each; n_symbols says what stands behind."""
    own = {rows["symbol"][0]: rows for rows in samples if rows.height}
    if own:
        yield _with_symbol(test(pl.concat(own.values())), ALL).with_columns(n_symbols=pl.lit(len(own), pl.Int64))
    for symbol, rows in own.items() if len(own) > 1 else ():
        yield _with_symbol(test(rows), symbol).with_columns(n_symbols=pl.lit(1, pl.Int64))


def _together(
    asked: Asked,
    reasons: dict[str, str],
    maps: dict[str, StoredMap],
    prints: dict[str, int | None],
    metrics: list[pl.DataFrame],
    marks: pl.DataFrame,
    samples: pl.DataFrame,
    tell: Tell,
) -> Judged:
    """The questions that are asked of all symbols at once, and the verdicts."""
    walls = pl.concat([_living(found) for found in maps.values()]).filter("active")
    events = pl.concat([found.events for found in maps.values()])
    tell("magnet", 0, 3)
    standing = magnet_samples(walls, marks, horizon_s=asked.horizon_s)
    magnet = magnet_test(standing)
    pulled = [_with_symbol(tidy(magnet, horizon_s=asked.horizon_s), ALL)]
    if len(maps) > 1:
        by_symbol = sorted(standing.partition_by("symbol", as_dict=True).items())
        pulled += [_with_symbol(tidy(magnet_test(own), horizon_s=asked.horizon_s), name) for (name,), own in by_symbol]
    tell("reactions", 1, 3)
    reacted = _with_symbol(reactions(reaction_samples(events, marks)), ALL)
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
    # Of some symbols nobody recorded liquidations: they stand behind the chance of being reached alone.
    behind = {factor: judged_rows(samples, factor)["symbol"].n_unique() for factor in FACTORS}
    calibrated = calibrated.with_columns(n_symbols=pl.col("band").replace_strict(behind, return_dtype=pl.Int64))
    results = [*pulled, reacted, *metrics, _with_symbol(calibrated, ALL), _with_symbol(placebo.results, ALL)]
    rows = pl.concat(results, how="diagonal_relaxed").filter(pl.col("metric").is_in(list(GATES)))
    return Judged(
        asked=asked,
        reasons=reasons,
        maps=maps,
        prints=prints,
        verdicts=verdicts(rows).with_columns(rows["symbol"]),
        magnet=magnet,
        published=lift_test(standing),
        bins=bins,
        scores=_enough(score_card(calibrated), behind),
        placebo=placebo,
    )


def _enough(scores: pl.DataFrame, behind: Mapping[str, int]) -> pl.DataFrame:
    """A gate that holds on few days or symbols holds by chance: no colour before there is enough."""
    symbols = pl.col("factor").replace_strict(behind, return_dtype=pl.Int64)
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
