"""What became of clusters: touched or not, liquidated or not, within a horizon. Labels: everything here looks ahead.

A cluster is touched when the mark reaches its near edge after ``avail_time``, and liquidated when a forced order of its
side was filled inside it after that. An outcome has a ``known_time``; what fits on outcomes takes only those known by
then. The feed of forced orders shows at most one a second and symbol, so money is a lower bound.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data.table import TIME_MS
from research.clusters.grid import LONG, SHORT
from research.clusters.touch import BAR_LAG_MS, BAR_MS, MIN_COVERAGE, volatility
from research.jit import njit

BANDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.10)  # distance of the near edge from the mark, log price
BAND_NAMES = ("0-0.5", "0.5-1", "1-2", "2-3", "3-5", "5-10", "10+")  # the same in per cent, as tables show them
ENDED = ("BROKEN", "FADED", "MERGED", "CONSUMED")  # states of closing rows: there is nothing left to predict
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a cluster.

    Parameters
    ----------
    horizon_s : seconds within which it must be touched and liquidated.
    min_print_usdt : a forced order counts from this notional on.
    settle_s : a forced order may be reported this much after the horizon.
    tolerance_bps : a fill this far outside the cluster still belongs to it.
    """

    horizon_s: int
    min_print_usdt: float
    settle_s: int = 60
    tolerance_bps: float = 0.0

    def __post_init__(self) -> None:
        if self.horizon_s < 60 or self.min_print_usdt < 0.0:
            got = f"horizon_s {self.horizon_s}, min_print_usdt {self.min_print_usdt}"
            raise ValueError(f"expected a horizon of a minute or more and min_print_usdt of 0 or more, got {got}")


@njit
def future_first_touch(first_bar, end_bar, is_long, edge, high, low):
    """First bar of [first, end) that reaches each near edge; ``end`` where none does."""
    touched = end_bar.copy()
    for row in range(len(edge)):
        for bar in range(first_bar[row], end_bar[row]):
            if (low[bar] <= edge[row]) if is_long[row] else (high[bar] >= edge[row]):
                touched[row] = bar
                break
    return touched


@njit
def sums_inside(first_order, end_order, is_long, low_edge, high_edge, orders, min_print_usdt, realised, prints):
    """Add each zone's forced orders of [first, end): notional, and how many count. ``orders``: sold, price, usdt."""
    for row in range(len(low_edge)):
        for order in range(first_order[row], end_order[row]):
            price = orders[order, 1]
            if (orders[order, 0] > 0.0) == is_long[row] and low_edge[row] <= price <= high_edge[row]:
                realised[row] += orders[order, 2]
                prints[row] += orders[order, 2] >= min_print_usdt


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """Bars of the mark price as arrays, and the volatility known after each of them.

    Parameters
    ----------
    time_ms : int64, shape (n,), closes of minute bars, ascending.
    high, low, close, sigma : float64, shape (n,)
    """

    time_ms: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    sigma: np.ndarray

    def last_known(self, avail_ms: np.ndarray) -> np.ndarray:
        """Index of the last bar that a decision at each moment may use; -1 before the first."""
        return np.searchsorted(self.time_ms, avail_ms - BAR_LAG_MS, side="right") - 1


def marks_of(frame: pl.DataFrame) -> Marks:
    """Arrays of a frame of minute bars: ts (close of the bar), mark_high, mark_low, mark_close.

    Raises
    ------
    ValueError
        If times do not ascend.
    """
    time_ms = frame["ts"].dt.epoch("ms").to_numpy()
    if (np.diff(time_ms) <= 0).any():
        raise ValueError("expected one mark bar per minute in ascending order; take one symbol and sort by ts")
    high, low, close = (_floats(frame[name]) for name in _MARK_COLUMNS)
    sigma, _ = volatility(time_ms, close)
    return Marks(time_ms=time_ms, high=high, low=low, close=close, sigma=sigma)


def _floats(column: pl.Series) -> np.ndarray:
    # Polars' own memory is read-only: another type to Numba, and another compilation.
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy(writable=True)


_MARK_COLUMNS = ("mark_high", "mark_low", "mark_close")


@dataclass(frozen=True, kw_only=True, eq=False)
class Orders:
    """Forced orders as arrays, ascending; ``side`` is that of the position: LONG where the order sold.

    Parameters
    ----------
    time_ms : int64; price, usdt : float64; side : int64; all of shape (n,).
    """

    time_ms: np.ndarray
    side: np.ndarray
    price: np.ndarray
    usdt: np.ndarray


def orders_of(force_orders: pl.DataFrame) -> Orders:
    """Arrays of rows of ``FORCE_ORDERS``, at their average fill price; rows without a fill are left out."""
    usdt = pl.col("average_price") * pl.col("filled_quantity")
    rows = force_orders.filter(usdt > 0.0).sort("event_time")
    return Orders(
        time_ms=rows["event_time"].dt.epoch("ms").to_numpy(),
        side=np.where(rows["side"].cast(pl.String).to_numpy() == "SELL", LONG, SHORT),
        price=rows["average_price"].to_numpy(),
        usdt=rows.select(usdt)["average_price"].to_numpy(),
    )


def living(clusters: pl.DataFrame) -> pl.DataFrame:
    """The rows of one symbol's clusters that predict something, by avail_time; neither closing nor unavailable rows.

    Raises
    ------
    ValueError
        If the rows belong to several symbols, sources or maps: their ids and prices do not compare.
    """
    rows = clusters.filter(pl.col("available"), pl.col("cluster_id").is_not_null())
    if "state" in rows.columns:
        rows = rows.filter(~pl.col("state").fill_null("").is_in(ENDED))
    maps = [name for name in ("venue", "symbol", "source", "map_id") if name in rows.columns]
    if len(rows) and rows.select(maps).n_unique() > 1:
        raise ValueError(
            f"expected the clusters of one map, got {rows.select(maps).unique().rows()}; filter them first"
        )
    return rows.sort("avail_time", "cluster_id")


def outcomes(clusters: pl.DataFrame, marks: Marks, orders: Orders | None, question: Question) -> pl.DataFrame:
    """The living rows with where they were and what became of them.

    Parameters
    ----------
    clusters : rows of one symbol's CLUSTERS: avail_time, cluster_id, side, price_lo, price_hi, available.
    orders : None where nobody recorded forced orders. Windows that begin before the first one are not judged.

    Returns
    -------
    The columns given, those of ``placed`` and

    touch_time : close of the first bar that reached it; null where none did.
    is_touched : null while unknown, and where too few of the window's marks were seen.
    is_liquidated : a print of ``min_print_usdt`` or more fell inside; null where not touched or not known.
    realised_usdt, prints : all notional inside, and prints that count; 0 where not touched.
    known_time : when all this was known; null until then.
    """
    rows = living(clusters)
    row_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
    side = sides_of(rows)
    low_edge, high_edge = rows["price_lo"].to_numpy(), rows["price_hi"].to_numpy()
    if orders is None:
        orders = Orders(time_ms=np.zeros(0, np.int64), side=np.zeros(0, np.int64), price=np.zeros(0), usdt=np.zeros(0))
    touch_ms, realised, prints, is_covered, known_ms = zones(row_ms, side, low_edge, high_edge, marks, orders, question)
    is_touched = touch_ms < NEVER
    is_over = known_ms < NEVER
    is_recorded = is_over & (row_ms >= (orders.time_ms[0] if len(orders.time_ms) else NEVER))
    return placed(rows, marks).with_columns(
        _moments("touch_time", touch_ms, is_touched),
        pl.Series("is_touched", _nullable(is_touched, is_over & is_covered), dtype=pl.Boolean),
        pl.Series("is_liquidated", _nullable(prints > 0, is_recorded & is_covered & is_touched), dtype=pl.Boolean),
        pl.Series("realised_usdt", realised),
        pl.Series("prints", prints),
        _moments("known_time", known_ms, is_over),
    )


def placed(rows: pl.DataFrame, marks: Marks) -> pl.DataFrame:
    """Cluster rows with where they were; looks at nothing after their ``avail_time``.

    Returns
    -------
    The columns given and

    distance : log distance of the near edge from the last mark, 0 inside; null without a mark.
    sigma : volatility then, per square root of a second; null where unknown.
    band : of ``BAND_NAMES``; null without a distance.
    """
    side = sides_of(rows)
    row_ms = rows["avail_time"].dt.epoch("ms").to_numpy()
    distance, sigma = where_from(row_ms, side, rows["price_lo"].to_numpy(), rows["price_hi"].to_numpy(), marks)
    return rows.with_columns(
        pl.Series("distance", distance, nan_to_null=True),
        pl.Series("sigma", sigma, nan_to_null=True),
        band_of(distance),
    )


def zones(row_ms, side, low_edge, high_edge, marks: Marks, orders: Orders, question: Question):
    """Touch (ms, ``NEVER``), realised USDT, prints, whether the marks cover the window, and when all was known (ms)."""
    slack = question.tolerance_bps / 1e4
    is_long = np.asarray(side == LONG)
    low_edge, high_edge = low_edge * (1.0 - slack), high_edge * (1.0 + slack)
    end_ms = row_ms + 1_000 * question.horizon_s
    settled_ms = end_ms + 1_000 * question.settle_s
    first, end = (np.searchsorted(marks.time_ms, moment, side="right") for moment in (row_ms, end_ms))
    bar = future_first_touch(first, end, is_long, np.where(is_long, high_edge, low_edge), marks.high, marks.low)
    touch_ms = np.where(bar < end, np.append(marks.time_ms, NEVER)[bar], NEVER)

    # The touch happened somewhere inside its bar, but not before the row.
    since_ms = np.maximum(np.where(bar < end, touch_ms, settled_ms) - BAR_MS, row_ms)
    since = np.searchsorted(orders.time_ms, since_ms, side="right")
    until = np.where(bar < end, np.searchsorted(orders.time_ms, settled_ms, side="right"), since)
    columns = np.column_stack([orders.side == LONG, orders.price, orders.usdt]).astype(np.float64)
    realised, prints = np.zeros(len(row_ms)), np.zeros(len(row_ms), np.int64)
    sums_inside(since, until, is_long, low_edge, high_edge, columns, float(question.min_print_usdt), realised, prints)

    seen = np.concatenate([[0], np.cumsum(np.isfinite(marks.high) & np.isfinite(marks.low))])
    is_covered = seen[end] - seen[first] >= MIN_COVERAGE * question.horizon_s * 1_000 / BAR_MS - 1
    close = np.append(marks.time_ms, NEVER - BAR_LAG_MS)
    known_ms = close[np.searchsorted(marks.time_ms, settled_ms, side="left")] + BAR_LAG_MS
    return touch_ms, realised, prints, is_covered, known_ms


def where_from(row_ms, side, low_edge, high_edge, marks: Marks) -> tuple[np.ndarray, np.ndarray]:
    """Log distance from the last known mark to the near edge (0 inside or beyond) and sigma then; NaN before both."""
    bar = marks.last_known(row_ms)
    is_known = bar >= 0
    close = np.where(is_known, marks.close[bar], np.nan)
    to_edge = np.where(side == LONG, np.log(close / high_edge), np.log(low_edge / close))
    return np.maximum(to_edge, 0.0), np.where(is_known, marks.sigma[bar], np.nan)


def band_of(distance: np.ndarray) -> pl.Series:
    """Name of the distance band; null where the distance is NaN."""
    number = np.searchsorted(BANDS, distance, side="right") - 1
    names = pl.Series("band", BAND_NAMES).gather(np.minimum(number, len(BAND_NAMES) - 1))
    return names.to_frame().select(
        pl.when(pl.Series(np.isfinite(distance))).then(pl.col("band")).otherwise(None).alias("band")
    )["band"]


def sides_of(rows: pl.DataFrame) -> np.ndarray:
    """LONG or SHORT of each row."""
    return np.where(rows["side"].cast(pl.String).to_numpy() == "long", LONG, SHORT)


def _nullable(flags: np.ndarray, is_known: np.ndarray) -> list[bool | None]:
    return np.where(is_known, flags, None).tolist()


def _moments(name: str, time_ms: np.ndarray, is_known: np.ndarray) -> pl.Series:
    return pl.Series(name, np.where(is_known, time_ms, None).tolist(), dtype=pl.Int64).cast(TIME_MS)
