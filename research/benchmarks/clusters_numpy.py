"""A baseline of the clusters benchmark: the predictive map as a loop over bars with NumPy operations inside.

It is written for bars that all have a mark and a value of open interest, on a grid as wide as the bars need: less to do
than the real map. Scales are lazy here too.
"""

import numpy as np

from research.clusters.grid import BUCKETS, HALF_WINDOW, LONG, SHORT, bucket_of, centre
from research.clusters.profiles import SourceBars
from research.clusters.tiers import ROOM, MapConfig, tier_tables

MARGIN = 1_000  # columns beyond the range of the bars


def numpy_map(bars: SourceBars, config: MapConfig, *, every_bars: int) -> np.ndarray:
    """Masses in USDT after each ``every_bars``-th bar, shape (n_snapshots, 2, BUCKETS)."""
    tables = tier_tables(config)
    lows, highs, marks = (bucket_of(prices) for prices in (bars.mark_low, bars.mark_high, bars.mark_close))
    origin = lows.min() - MARGIN
    n_columns = highs.max() - origin + MARGIN
    prices = centre(origin + np.arange(n_columns))
    lows, highs, marks = lows - origin, highs - origin, marks - origin
    columns = np.zeros((2, tables.tiers.size, n_columns))  # times scale: base units
    scale, totals = np.ones((2, tables.tiers.size)), np.zeros((2, tables.tiers.size))
    traded = bars.volume_usdt / bars.mark_close
    elapsed_ms = np.diff(bars.time_ms, prepend=bars.time_ms[0])
    shown = np.zeros((len(bars) // every_bars, 2, BUCKETS))
    for bar, open_interest in enumerate(bars.open_interest):
        low, high = lows[bar], highs[bar]
        if bar:
            for side, swept in ((LONG, slice(low, highs[bar - 1])), (SHORT, slice(lows[bar - 1], high + 1))):
                totals[side] -= scale[side] * columns[side, :, swept].sum(axis=1)
                columns[side, :, swept] = 0.0
        stays = np.minimum(1.0, open_interest / np.maximum(totals.sum(axis=1), 1e-300))[:, None] * np.exp(
            -tables.tiers["closing_per_ms"] * elapsed_ms[bar]
            - tables.tiers["closing_per_turnover"] * traded[bar] / open_interest
        )
        totals *= stays
        scale *= stays
        opened = (open_interest - totals.sum(axis=1))[:, None] * tables.kernels["share"][0]
        totals += opened
        lazy = opened / scale / (high - low + 1)
        for side in (LONG, SHORT):
            for tier in range(tables.tiers.size):
                kernel = tables.kernels[0, side, tier]
                parts = lazy[side, tier] * tables.parts[0, side, tier, ROOM : ROOM + kernel["n_offsets"]]
                for entry in range(low, high + 1):
                    first = entry + kernel["first_offset"]
                    columns[side, tier, first : first + parts.size] += parts
        for side in (LONG, SHORT):
            totals[side] -= scale[side] * columns[side, :, low : high + 1].sum(axis=1)
            columns[side, :, low : high + 1] = 0.0
        if (bar + 1) % every_bars == 0:
            window = slice(marks[bar] - HALF_WINDOW, marks[bar] + HALF_WINDOW)
            shown[bar // every_bars] = (scale[:, :, None] * columns[:, :, window]).sum(axis=1) * prices[window]
    return shown
