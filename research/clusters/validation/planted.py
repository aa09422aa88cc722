"""Were the crowds of a synthetic market where the map said: one look per crowd, the same number of levels for all maps.

The rules, settled on markets of other seeds than those that are reported:

- A crowd counts when it is larger than the median of its market's, formed at least a day after the market's beginning,
  and an hour after it had formed nothing of it was liquidated and it lay within a tenth of the mark.
- It is looked at once, at that moment, in the newest snapshot known then.
- A map names its ten strongest levels on the crowd's side within a tenth of the mark, or as many as it has; of equal
  strength, or without one, the heavier. Prior art has two: beside it our map is also told with as few.
- It found the crowd when one of them lies within 20 bps of the prices at which the crowd is liquidated. Those prices
  are 30 to 90 bps wide, as the mark moves while a crowd forms. Whether one lies within 20 bps of their mean is told
  beside it: stricter than a map can be, as one that knew every leverage came to seven in ten.
- Chance is the same map on other days: as many levels, as far from the mark. It knows how far away levels are and how
  they keep apart, and nothing about where these crowds opened. It finds many: ten levels a side within a tenth leave
  little room to miss, so what a map knows is its lead over chance and not its share.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from research.clusters.grid import LONG
from research.clusters.outcomes import Marks, living, marks_of, sides_of

WITHIN = 20e-4  # log price
LEVELS = 10  # per side
REACH = 0.1  # from the mark, log price
LOOK_AFTER = timedelta(hours=1)
WARM_UP = timedelta(days=1)
OTHER_DAYS = 20  # moments per crowd that chance is told from
DAY_MS = 86_400_000

_SURE = 1.96  # standard deviations of the intervals
_MILLISECOND = timedelta(milliseconds=1)


def counted(planted: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    """The crowds that count, with ``look_ms``, when they are looked at.

    Parameters
    ----------
    planted : all of one market's, as ``data.synthetic.planted_clusters`` tells them.
    marks : minute bars of its mark from its beginning to its end: ts, mark_high, mark_low, mark_close.
    """
    bars = marks_of(marks)
    first_ms, last_ms = int(bars.time_ms[0]), int(bars.time_ms[-1])
    epoch = {name: pl.col(name).dt.epoch("ms") for name in ("opened_from", "opened_to", "first_liquidation")}
    look_ms = epoch["opened_to"] + LOOK_AFTER // _MILLISECOND
    crowds = planted.filter(pl.col("notional_usdt") > pl.col("notional_usdt").median()).with_columns(look_ms=look_ms)
    crowds = crowds.filter(
        epoch["opened_from"] >= first_ms + WARM_UP // _MILLISECOND,
        pl.col("look_ms") <= last_ms,
        (epoch["first_liquidation"] > pl.col("look_ms")).fill_null(value=True),
    )
    distance = np.log(crowds["price_level"].to_numpy() / _mark_at(bars, crowds["look_ms"].to_numpy()))
    return crowds.filter(pl.Series(np.abs(distance) <= REACH))


def judged(
    crowds: pl.DataFrame,
    clusters: pl.DataFrame,
    marks: pl.DataFrame,
    *,
    most: np.ndarray | None = None,
    by_chance: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """Whether one map found each of the crowds that ``counted`` gives.

    Parameters
    ----------
    clusters : rows of ``CLUSTERS`` of one map of the same market.
    most : int64, levels that may be named for each crowd; None for ``LEVELS``.
    by_chance : ask the map about other days, at least a day away, instead.

    Returns
    -------
    The crowds with ``levels``, how many were named, ``is_found`` and ``is_at_mean``: 0 or 1, by chance the mean over
    ``OTHER_DAYS`` moments.
    """
    named = _named(clusters, marks_of(marks))
    moments = np.unique(named.avail_ms)
    settled = moments[moments >= moments[0] + WARM_UP // _MILLISECOND]
    random = np.random.default_rng(seed)
    most = np.full(len(crowds), LEVELS) if most is None else most
    found = []
    for crowd, allowed in zip(crowds.iter_rows(named=True), most, strict=True):
        at = moments[[np.searchsorted(moments, crowd["look_ms"], side="right") - 1]]
        if by_chance:
            at = random.choice(settled[np.abs(settled - crowd["look_ms"]) >= DAY_MS], OTHER_DAYS)
        is_long = crowd["side"] == "SELL"
        mark = _mark_at(named.bars, np.array([crowd["look_ms"]]))[0]
        low, mean, high = np.log(np.array([crowd[f"price_{name}"] for name in ("low", "level", "high")]) / mark)
        looks = [named.offsets(moment, is_long=is_long)[:allowed] for moment in at]
        found.append(
            {
                "levels": np.mean([len(offsets) for offsets in looks]),
                "is_found": np.mean([((low - WITHIN <= each) & (each <= high + WITHIN)).any() for each in looks]),
                "is_at_mean": np.mean([(np.abs(each - mean) <= WITHIN).any() for each in looks]),
            }
        )
    schema = dict.fromkeys(("levels", "is_found", "is_at_mean"), pl.Float64)
    return crowds.hstack(pl.DataFrame(found, schema=schema))


def shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Per ``map``, and ``symbol`` where there are several, which share of the crowds was found.

    Parameters
    ----------
    rows : of ``judged``, of any number of markets, with the column ``map``.

    Returns
    -------
    map, symbol ("all" for the maps' own rows), crowds, levels, and found, found_low, found_high, at_mean, at_mean_low,
    at_mean_high: shares with Wilson's intervals at 95 %, crowds taken for independent. By chance the moments of one
    crowd are averaged before.
    """
    both = pl.concat([rows, rows.with_columns(symbol=pl.lit("all"))])
    told = both.group_by("map", "symbol", maintain_order=True).agg(
        crowds=pl.len(),
        levels=pl.col("levels").mean(),
        found=pl.col("is_found").mean(),
        at_mean=pl.col("is_at_mean").mean(),
    )
    intervals = {}
    for name in ("found", "at_mean"):
        low, high = wilson(told[name].to_numpy(), told["crowds"].to_numpy())
        intervals |= {f"{name}_low": low, f"{name}_high": high}
    columns = ["map", "symbol", "crowds", "levels"]
    columns += [f"{name}{end}" for name in ("found", "at_mean") for end in ("", "_low", "_high")]
    return told.with_columns(**{name: pl.Series(values) for name, values in intervals.items()}).select(columns)


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share at 95 %.

    Source
    ------
    Wilson, E. (1927), "Probable inference, the law of succession, and statistical inference".
    """
    weight = _SURE**2 / n
    middle = (share + weight / 2.0) / (1.0 + weight)
    half = np.sqrt(weight * share * (1.0 - share) + weight**2 / 4.0) / (1.0 + weight)
    return middle - half, middle + half


@dataclass(frozen=True, kw_only=True, eq=False)
class _Named:
    """Levels within reach by ``avail_ms``, the strongest first; ``offset`` is their log distance from the mark."""

    bars: Marks
    avail_ms: np.ndarray
    is_long: np.ndarray
    offset: np.ndarray

    def offsets(self, moment: int, *, is_long: bool) -> np.ndarray:
        """What the map names on one side in the snapshot of this moment."""
        here = slice(*np.searchsorted(self.avail_ms, [moment, moment + 1]))
        return self.offset[here][self.is_long[here] == is_long]


def _named(clusters: pl.DataFrame, bars: Marks) -> _Named:
    strength = pl.col("strength").fill_null(0.0)
    rows = living(clusters).sort("avail_time", strength, "mass_src_usd", descending=[False, True, True])
    avail_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
    offset = np.log(rows["price_level"].to_numpy() / _mark_at(bars, avail_ms))
    kept = np.abs(offset) <= REACH
    return _Named(bars=bars, avail_ms=avail_ms[kept], is_long=(sides_of(rows) == LONG)[kept], offset=offset[kept])


def _mark_at(bars: Marks, moment_ms: np.ndarray) -> np.ndarray:
    """The last mark known at each moment; NaN before the first."""
    bar = bars.last_known(moment_ms)
    return np.where(bar >= 0, bars.close[bar], np.nan)
