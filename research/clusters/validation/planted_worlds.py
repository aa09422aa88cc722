"""Synthetic markets with planted crowds, and what each map makes of them: for ``validation.planted``.

The maps see what the exchange publishes, when it is received: mark and trade bars, open interest, and prior art's also
the order book. They are told the contract's highest leverage. Nothing planted reaches them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from data.synthetic import MarketSpec, SymbolSpec, generate, planted_clusters
from research.clusters.extraction import find
from research.clusters.legacy import book_share, legacy_clusters
from research.clusters.lifecycle import follow, marks_of
from research.clusters.predictive import predictive_map
from research.clusters.profiles import SourceBars
from research.clusters.tiers import MapConfig
from research.clusters.validation.planted import counted, judged

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 8
TABLES = ("mark_klines", "klines", "open_interest", "depth")
MINUTE_MS = 60_000
BAR_DELAY_MS = 3_000  # by then every bar of these markets was received
BOOK_LEVELS = 5
OURS, CHANCE, PRIOR_SMEAR = "ours", "ours on other days", "ours, default smear"
LEGACY, AS_FEW, AS_FEW_BY_CHANCE = "legacy", "ours, as few as legacy", "as few, other days"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedWorld:
    """One market, as it was published.

    Parameters
    ----------
    crowds : what ``planted_clusters`` tells.
    bars : of the mark, with volume and open interest.
    book : avail_ms, bid_usdt, ask_usdt: what rests on the first levels.
    """

    symbol: SymbolSpec
    crowds: pl.DataFrame
    bars: SourceBars
    book: pl.DataFrame


def planted_world(symbol: SymbolSpec, seed: int, *, days: int = DAYS) -> PlantedWorld:
    """The market of a seed."""
    spec = MarketSpec(
        symbols=(symbol,), start=START, days=days, seed=seed, quote_interval_s=60, depth_interval_s=60,
        depth_levels=BOOK_LEVELS,
    )  # fmt: skip
    made = [generate(spec, symbol.symbol, day) for day in spec.dates]
    rows = {table: pl.concat([day[table] for day in made]) for table in TABLES}
    return PlantedWorld(
        symbol=symbol,
        crowds=planted_clusters(spec, symbol.symbol),
        bars=_bars(symbol.symbol, rows),
        book=_book(rows["depth"]),
    )


def crowds_found(world: PlantedWorld, seed: int = 0) -> pl.DataFrame:
    """``judged`` of every map, under its name in the column ``map``.

    "ours" is told that nobody here adds or withdraws margin, which is how these markets are made (``smear=0``); the
    row beside it keeps the prior for real ones.
    """
    marks = marks_of(world.bars)
    crowds = counted(world.crowds, marks)
    highest = world.symbol.max_leverage
    ours = _ours(world.bars, MapConfig(max_leverage=highest, smear=0.0))
    legacy = judged(crowds, _legacy(world, ours), marks)
    few = legacy["levels"].cast(pl.Int64).to_numpy()
    judgements = {
        OURS: judged(crowds, ours, marks),
        CHANCE: judged(crowds, ours, marks, by_chance=True, seed=seed),
        PRIOR_SMEAR: judged(crowds, _ours(world.bars, MapConfig(max_leverage=highest)), marks),
        LEGACY: legacy,
        AS_FEW: judged(crowds, ours, marks, most=few),
        AS_FEW_BY_CHANCE: judged(crowds, ours, marks, most=few, by_chance=True, seed=seed),
    }
    return pl.concat([rows.with_columns(map=pl.lit(name)) for name, rows in judgements.items()])


def _ours(bars: SourceBars, config: MapConfig) -> pl.DataFrame:
    profiles, _ = predictive_map(bars, config)
    clusters, _, _ = follow(find(profiles), profiles, marks_of(bars))
    return clusters


def _legacy(world: PlantedWorld, ours: pl.DataFrame) -> pl.DataFrame:
    """Prior art's levels at the moments of our snapshots, from the newest bar and book known then."""
    moments = ours.select("ts", "avail_time").unique(maintain_order=True)
    avail_ms = moments["avail_time"].dt.epoch("ms").to_numpy()
    bar = np.searchsorted(world.bars.avail_ms, avail_ms, side="right") - 1
    book = np.searchsorted(world.book["avail_ms"].to_numpy(), avail_ms, side="right") - 1
    price = world.bars.mark_close[bar]
    resting = world.book.select("bid_usdt", "ask_usdt").rows()
    known = moments.with_columns(
        price=pl.Series(price),
        open_interest_usdt=pl.Series(price * world.bars.open_interest[bar]),
        long_share=pl.Series([book_share(*resting[row]) for row in book]),
    )
    return legacy_clusters(known, symbol=world.symbol.symbol)


def _bars(symbol: str, rows: dict[str, pl.DataFrame]) -> SourceBars:
    marks, trades = (rows[name].sort("open_time") for name in ("mark_klines", "klines"))
    time_ms = marks["open_time"].dt.epoch("ms").to_numpy() + MINUTE_MS
    avail_ms = time_ms + BAR_DELAY_MS
    known = rows["open_interest"].sort("recv_time")
    at = np.searchsorted(known["recv_time"].dt.epoch("ms").to_numpy(), avail_ms) - 1
    return SourceBars(
        symbol=symbol,
        source="aster",
        time_ms=time_ms,
        avail_ms=avail_ms,
        mark_high=marks["high"].to_numpy(),
        mark_low=marks["low"].to_numpy(),
        mark_close=marks["close"].to_numpy(),
        volume_usdt=trades["quote_volume"].to_numpy(),
        open_interest=known["open_interest"].to_numpy()[at],
        is_new=np.diff(at, prepend=-1) > 0,
    )


def _book(depth: pl.DataFrame) -> pl.DataFrame:
    resting = {
        f"{side}_usdt": pl.sum_horizontal(
            pl.col(f"{side}_price_{level}") * pl.col(f"{side}_quantity_{level}") for level in range(BOOK_LEVELS)
        )
        for side in ("bid", "ask")
    }
    return depth.sort("recv_time").select(avail_ms=pl.col("recv_time").dt.epoch("ms"), **resting)
