"""Would the strategy have earned as much on a map that knows nothing? The same strategy, on two hundred such maps.

Each kind of placebo keeps something of the real map and destroys what would make it a map: where the levels lie
(rotated), when they were there (shifted), which of them are heavy (permuted), on which side (mirrored). Two more put
the levels where others look without any liquidation in mind: round numbers, and prices at which much was traded. The
real result's rank among theirs is its p: random zones fail in all but five of a hundred cases.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from research.clusters.grid import DELTA
from research.clusters.validation.magnet import require_one_map
from research.clusters.validation.verdicts import RESULTS

MAPS = 200
DAY_MS = 86_400_000

BANDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.10)  # log distance; within one, masses are exchanged
WEIGHTS = (
    "open_interest",
    "mass_src_usd",
    "leverage_tier",
    "liquidation_count",
    "strength",
    "zscore",
    "strength_seed",
    "confidence",
    "p_liq_touch",
    "active",
)  # columns that belong to a cluster's mass, not to its place

NODES = 20  # volume nodes kept, the heaviest

Strategy = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The real map with the mark at each of its rows: what placebos are made of.

    Attributes
    ----------
    clusters : rows of one map that name a level, those without a mark left out; ascending by symbol and avail_time.
    mark : float64, shape (n_rows,). marks : the bars they come from.
    distance : |ln(level / mark)|, shape (n_rows,); toward : 1 above the mark ("short"), -1 below.
    """

    clusters: pl.DataFrame
    mark: np.ndarray
    marks: pl.DataFrame
    distance: np.ndarray
    toward: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PlaceboTest:
    """What the strategy earned on the real map and on the placebos.

    Attributes
    ----------
    pnl_usdt : on the real map. p_value : share of maps, the real one among them, that earned as much or more.
    maps : map, kind, symbol, side, pnl_usdt, n_trades: every placebo by cell; a cell without trades has no row.
    results : rows for ``verdicts``: metric "placebo_rank", band "all", the kinds, then "SYMBOL" and "SYMBOL side".
    """

    pnl_usdt: float
    p_value: float
    maps: pl.DataFrame
    results: pl.DataFrame


def economic_placebo(
    strategy: Strategy,
    clusters: pl.DataFrame,
    marks: pl.DataFrame,
    *,
    maps: int = MAPS,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PlaceboTest:
    """Run the strategy on the real map and on placebo maps.

    Parameters
    ----------
    strategy : takes a clusters frame, gives its trades: symbol, side (of the cluster or of the trade, as it likes),
        avail_time (when it was decided), pnl_usdt. Any rule of entry, exit and cost is its own.
    clusters : symbol, avail_time, cluster_id, side ("long", "short"), price_level and what else the strategy reads;
        rows of one map. Rows without a level (nothing there, no data) are left out.
    marks : symbol, ts (end of the bar), mark_close, and volume_usdt where it is known; ascending per symbol.
    maps : how many placebos, the kinds in turn.
    kinds : of ``KINDS``; all of them where not given. To a strategy that reads no masses a permuted map is the real
        one, and a map that earned the same counts against it: leave that kind out then.
    progress : called with the maps done and their total.

    Raises
    ------
    ValueError
        For a kind that is not known, or rows of more than one map.
    """
    kinds = tuple(KINDS) if kinds is None else tuple(kinds)
    strange = sorted(set(kinds) - set(KINDS))
    if strange:
        raise ValueError(f"kinds: {strange} are not known; expected some of {list(KINDS)}")
    ground = ground_of(clusters, marks)
    real = strategy(ground.clusters)
    cells = []
    for number in range(maps):
        kind = kinds[number % len(kinds)]
        trades = strategy(placebo_map(kind, ground, seed=seed, number=number))
        cells.append(_cells(trades).with_columns(map=pl.lit(number, pl.Int64), kind=pl.lit(kind)))
        if progress is not None:
            progress(number + 1, maps)
    told = pl.DataFrame({"map": range(maps), "kind": [kinds[number % len(kinds)] for number in range(maps)]})
    frame = pl.concat(cells).select("map", "kind", "symbol", "side", "pnl_usdt", "n_trades")
    results = _results(real, frame, told)
    return PlaceboTest(
        pnl_usdt=float(real["pnl_usdt"].sum()), p_value=float(results["value"][0]), maps=frame, results=results
    )


def _cells(trades: pl.DataFrame) -> pl.DataFrame:
    return trades.group_by("symbol", "side", maintain_order=True).agg(
        pl.col("pnl_usdt").sum().cast(pl.Float64), pl.len().cast(pl.Int64).alias("n_trades")
    )


def _results(real: pl.DataFrame, cells: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """The rank over everything, per kind of placebo, per symbol and per symbol and side of the real trades."""

    def row(band: str, trades: pl.DataFrame, placebos: pl.DataFrame, among: pl.DataFrame) -> dict:
        # A map on which nothing was traded earned nothing: it counts, with zero.
        earned = (
            among.select("map")
            .join(placebos.group_by("map").agg(pl.col("pnl_usdt").sum()), on="map", how="left", maintain_order="left")[
                "pnl_usdt"
            ]
            .fill_null(0.0)
        )
        as_much = int((earned >= trades["pnl_usdt"].sum()).sum())
        return {
            "metric": "placebo_rank",
            "band": band,
            "horizon_s": 0,
            "value": (1 + as_much) / (1 + among.height) if trades.height else float("nan"),
            "low": float("nan"),
            "high": float("nan"),
            "n": trades.height,
            "n_days": trades["avail_time"].dt.date().n_unique(),
            "n_symbols": trades["symbol"].n_unique(),
        }

    rows = [row("all", real, cells, told)]
    for kind in told["kind"].unique(maintain_order=True):
        rows.append(row(kind, real, cells.filter(pl.col("kind") == kind), told.filter(pl.col("kind") == kind)))
    for symbol in real["symbol"].unique().sort():
        of_symbol = pl.col("symbol") == symbol
        mine, theirs = real.filter(of_symbol), cells.filter(of_symbol)
        rows.append(row(symbol, mine, theirs, told))
        for side in mine["side"].unique().sort():
            of_side = pl.col("side") == side
            rows.append(row(f"{symbol} {side}", mine.filter(of_side), theirs.filter(of_side), told))
    return pl.DataFrame(rows, schema=RESULTS)


def ground_of(clusters: pl.DataFrame, marks: pl.DataFrame) -> Ground:
    """The map's rows that name a level, with the mark that was last known at each."""
    require_one_map(clusters)
    rows = clusters.filter(pl.col("price_level").is_not_null()).sort("symbol", "avail_time", "cluster_id")
    mark = _marks_at(rows["symbol"], rows["avail_time"], marks)
    seen = np.isfinite(mark)
    rows, mark = rows.filter(seen), mark[seen]
    level = rows["price_level"].to_numpy()
    toward = np.where(rows["side"].to_numpy() == "short", 1.0, -1.0)
    return Ground(
        clusters=rows, mark=mark, marks=marks, distance=np.maximum(toward * np.log(level / mark), 0.0), toward=toward
    )


def _marks_at(symbol: pl.Series, at: pl.Series, marks: pl.DataFrame) -> np.ndarray:
    """Close of the last bar that ended by each moment, at most a minute earlier; NaN where there is none."""
    asked = pl.DataFrame({"symbol": symbol, "ts": at}).with_row_index("row").sort("ts")
    bars = marks.select("symbol", "ts", "mark_close").sort("ts")
    found = asked.join_asof(bars, on="ts", by="symbol", tolerance="1m", check_sortedness=False)
    return found.sort("row")["mark_close"].fill_null(float("nan")).to_numpy()


def placebo_map(kind: str, ground: Ground, *, seed: int, number: int) -> pl.DataFrame:
    """One placebo map, rows and columns as in the real one; (seed, number) say which of its kind."""
    return KINDS[kind](ground, np.random.default_rng([seed, number]))


def _moved(
    ground: Ground,
    level: np.ndarray,
    *,
    rows: pl.DataFrame | None = None,
    mark: np.ndarray | None = None,
    toward: np.ndarray | None = None,
) -> pl.DataFrame:
    """The map's rows at other levels: edges keep their ratio to the level, distances are told anew.

    Rows whose level is NaN are left out. ``rows``, ``mark``, ``toward``: where they are not those of the ground.
    """
    rows = ground.clusters if rows is None else rows
    mark = ground.mark if mark is None else mark
    ratio = level / rows["price_level"].to_numpy()
    changed = [pl.Series("price_level", level)]
    changed += [(rows[name] * ratio).alias(name) for name in ("price_lo", "price_hi") if name in rows.columns]
    log_distance = np.log(level / mark)
    if "dist_bps" in rows.columns:
        changed.append(pl.Series("dist_bps", 1e4 * (level / mark - 1.0)))
    if "distance_from_price" in rows.columns:
        changed.append(pl.Series("distance_from_price", 100.0 * np.abs(level / mark - 1.0)))
    if "dist_sigma" in rows.columns:
        with np.errstate(divide="ignore", invalid="ignore"):
            farther = np.abs(log_distance) / ground.distance
        changed.append((rows["dist_sigma"].abs() * farther * np.sign(log_distance)).alias("dist_sigma"))
    if toward is not None:
        changed.append(pl.Series("side", np.where(toward > 0.0, "short", "long"), dtype=pl.String))
    return rows.with_columns(changed).filter(np.isfinite(level))


def _rotated(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """All distances moved by one random offset, around the circle of the distances that the map has."""
    offset = random.uniform(0.1, 0.9)
    near, far = ground.distance.min(initial=np.inf), ground.distance.max(initial=0.0)
    turned = near + (ground.distance - near + offset * (far - near)) % max(far - near, 1e-12)
    return _moved(ground, ground.mark * np.exp(ground.toward * turned))


def _shifted(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """The map of another day: every snapshot comes whole days later, the last days first; distances stay."""
    rows = ground.clusters
    day = rows["avail_time"].dt.epoch("ms").to_numpy() // DAY_MS
    n_days = int(day.max() - day.min()) + 1 if day.size else 1
    later = int(random.integers(1, n_days)) if n_days > 1 else 0
    moved_days = np.where(day - day.min() + later < n_days, later, later - n_days) if day.size else day
    by = pl.Series(moved_days * DAY_MS).cast(pl.Duration("ms"))
    moments = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
    rows = rows.with_columns((pl.col(name) + by).alias(name) for name in moments)
    mark = _marks_at(rows["symbol"], rows["avail_time"], ground.marks)
    shifted = _moved(ground, mark * np.exp(ground.toward * ground.distance), rows=rows, mark=mark)
    return shifted.sort("symbol", "avail_time", "cluster_id")


def _permuted(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """Masses exchanged between the clusters of a symbol and side that first appeared in the same distance band.

    A cluster takes over the whole life of another one's mass, so that heavy clusters stay heavy: a mass drawn anew for
    every snapshot would flicker, and strategies would trade every cluster once.
    """
    rows = ground.clusters
    weights = [name for name in WEIGHTS if name in rows.columns]
    band = np.searchsorted(BANDS, ground.distance, side="right")
    order = pl.DataFrame(
        {"symbol": rows["symbol"], "cluster_id": rows["cluster_id"], "side": rows["side"], "band": band}
    ).with_row_index("row")
    lives = order.group_by("symbol", "cluster_id", maintain_order=True).agg(
        pl.col("side", "band").first(), pl.col("row").cast(pl.Int64)
    )
    donor = np.arange(rows.height)
    for cell in lives.partition_by("symbol", "side", "band", maintain_order=True):
        life = cell["row"].to_list()
        for mine, theirs in zip(life, random.permutation(len(life)), strict=True):
            given = np.asarray(life[theirs])
            donor[mine] = given[np.minimum(np.arange(len(mine)), len(given) - 1)]
    return rows.with_columns(rows.select(weights)[donor]) if weights else rows


def _mirrored(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """Both sides swapped: every level as far on the other side of the mark. Masses are permuted, else all are alike."""
    permuted = _permuted(ground, random)
    level = ground.mark * np.exp(-ground.toward * ground.distance)
    return _moved(ground, level, rows=permuted, toward=-ground.toward)


def _round_numbers(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """Levels at the nearest round number on their side: a multiple of 1, 2 or 5 times a power of ten, masses permuted.

    The round numbers of a map lie a quarter of a per cent to two per cent apart.
    """
    permuted = _permuted(ground, random)
    wanted = np.exp(random.uniform(np.log(0.0025), np.log(0.02)))
    level = ground.clusters["price_level"].to_numpy()
    # One step per symbol, from its first mark: a step that followed the price would move the levels.
    _, first, which = np.unique(ground.clusters["symbol"].to_numpy(), return_index=True, return_inverse=True)
    step = np.array([_round_step(wanted * mark) for mark in ground.mark[first]])[which] if first.size else level
    nearest = np.round(level / step) * step
    is_beyond = ground.toward * (nearest - ground.mark) > 0.0
    outward = (
        np.where(ground.toward > 0.0, np.floor(ground.mark / step) + 1.0, np.ceil(ground.mark / step) - 1.0) * step
    )
    snapped = np.where(is_beyond, nearest, outward)
    return _moved(ground, np.where(snapped > 0.0, snapped, np.nan), rows=permuted)


def _round_step(wanted: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above."""
    power = 10.0 ** np.floor(np.log10(wanted))
    return power * max(digit for digit in (1.0, 2.0, 5.0) if digit * power <= wanted * (1.0 + 1e-12) or digit == 1.0)


def _volume_nodes(ground: Ground, random: np.random.Generator) -> pl.DataFrame:
    """Levels at the nearest node of the volume profile on their side, masses permuted.

    A profile covers the one to seven whole days before the day of a snapshot, in buckets of the map; its nodes are the
    heaviest local maxima. Without volumes it counts minutes. Rows with no node on their side are left out.
    """
    permuted = _permuted(ground, random)
    window_days = int(random.integers(1, 8))
    level = np.full(ground.mark.size, np.nan)
    rows = ground.clusters.select(
        "symbol", (pl.col("avail_time").dt.epoch("ms") // DAY_MS).alias("day")
    ).with_row_index("row")
    bars = ground.marks.filter(pl.col("mark_close").is_finite()).select(
        "symbol",
        ((pl.col("ts").dt.epoch("ms") - 1) // DAY_MS).alias("day"),
        (pl.col("mark_close").log() / DELTA).floor().cast(pl.Int64).alias("bucket"),
        (pl.col("volume_usdt").fill_nan(0.0) if "volume_usdt" in ground.marks.columns else pl.lit(1.0)).alias("volume"),
    )
    profiles = bars.group_by("symbol", "day", "bucket").agg(pl.col("volume").sum())
    by_symbol = profiles.partition_by("symbol", as_dict=True)
    for (symbol, day), part in rows.partition_by("symbol", "day", as_dict=True).items():
        if (symbol,) not in by_symbol:
            continue
        past = by_symbol[symbol,].filter(pl.col("day").is_between(day - window_days, day - 1))
        index = part["row"].to_numpy()
        level[index] = _nearest_node(_nodes(past), ground, index)
    return _moved(ground, level, rows=permuted)


def _nodes(profile: pl.DataFrame) -> np.ndarray:
    """Prices of the heaviest local maxima of a profile (bucket, volume), ascending."""
    if profile.is_empty():
        return np.empty(0)
    bucket = profile["bucket"].to_numpy()
    volume = np.zeros(bucket.max() - bucket.min() + 3)
    np.add.at(volume, bucket - bucket.min() + 1, profile["volume"].to_numpy())
    inner = volume[1:-1]
    peak = np.flatnonzero((inner > 0.0) & (inner >= volume[:-2]) & (inner > volume[2:]))
    heaviest = peak[np.argsort(inner[peak])[-NODES:]]
    return np.exp((np.sort(heaviest) + bucket.min() + 0.5) * DELTA)


def _nearest_node(nodes: np.ndarray, ground: Ground, index: np.ndarray) -> np.ndarray:
    """The node nearest to each row's level among those on its side of the mark; NaN where there is none."""
    level = ground.clusters["price_level"].to_numpy()[index]
    apart = np.abs(np.log(nodes[None, :] / level[:, None])) if nodes.size else np.empty((index.size, 0))
    apart[ground.toward[index][:, None] * (nodes[None, :] - ground.mark[index][:, None]) <= 0.0] = np.inf
    if not nodes.size:
        return np.full(index.size, np.nan)
    best = apart.argmin(axis=1)
    return np.where(np.isfinite(apart[np.arange(index.size), best]), nodes[best], np.nan)


KINDS: dict[str, Callable[[Ground, np.random.Generator], pl.DataFrame]] = {
    "rotated": _rotated,
    "shifted": _shifted,
    "permuted": _permuted,
    "mirrored": _mirrored,
    "round_numbers": _round_numbers,
    "volume_nodes": _volume_nodes,
}
