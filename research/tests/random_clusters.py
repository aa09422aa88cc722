"""Random columns of a liquidation map around a price, full of what real ones do rarely."""

import numpy as np
import polars as pl

from research.clusters.columns import CLUSTER_COLUMNS, PICKS


def random_columns(random: np.random.Generator, mark: np.ndarray) -> pl.DataFrame:
    """Frame of ``CLUSTER_COLUMNS``: clusters 5 to 150 bps away, breaks every few rows, rows without a map.

    Parameters
    ----------
    mark : the price that the clusters stand around; NaN in a gap.
    """
    n_rows = len(mark)
    price = pl.Series(mark).fill_nan(None).forward_fill().backward_fill().to_numpy()

    def beyond(base: np.ndarray, outward: int, low_bps: float, high_bps: float) -> np.ndarray:
        return base * (1.0 + outward * random.uniform(low_bps, high_bps, n_rows) / 1e4)

    columns = {name: np.full(n_rows, np.nan) for name in CLUSTER_COLUMNS}
    for side, outward in (("long", -1), ("short", 1)):
        for pick in PICKS:
            near_edge = beyond(price, outward, -5.0, 60.0)
            peak = beyond(near_edge, outward, 2.0, 30.0)
            far_edge = beyond(peak, outward, 2.0, 30.0)
            lo, hi = (far_edge, near_edge) if side == "long" else (near_edge, far_edge)
            values = {"price": peak, "lo": lo, "hi": hi, "strength": random.choice([0.3, 0.55, 0.8, 1.0], n_rows)}
            values |= {"usdt": random.lognormal(14.5, 1.0, n_rows), "confidence": random.uniform(0.0, 1.0, n_rows)}
            columns |= {f"{pick}_{side}_{name}": value for name, value in values.items()}
        columns[f"near_{side}_far"] = beyond(
            columns[f"near_{side}_{'lo' if side == 'long' else 'hi'}"], outward, 0, 20.0
        )
    direction = random.choice([-1.0, 1.0], n_rows)
    near_edge = price * (1.0 - direction * random.uniform(-5.0, 30.0, n_rows) / 1e4)
    far_edge = near_edge * (1.0 - direction * random.uniform(5.0, 40.0, n_rows) / 1e4)
    columns |= {"break_direction": direction, "break_age_bars": random.uniform(0.0, 6.0, n_rows)}
    columns |= {"break_lo": np.minimum(near_edge, far_edge), "break_hi": np.maximum(near_edge, far_edge)}
    columns |= {"break_usdt": random.lognormal(14.5, 1.0, n_rows), "open_interest": random.uniform(1e6, 2e6, n_rows)}
    columns |= {"open_interest_usdt": random.lognormal(21.0, 1.0, n_rows), "map_age_ms": np.full(n_rows, 4_000.0)}
    columns |= {"long_short_ratio": random.uniform(0.5, 1.6, n_rows)}
    is_blind = random.random(n_rows) < 0.05
    for column in columns.values():
        column[is_blind | (random.random(n_rows) < 0.01)] = np.nan
    return pl.DataFrame(columns).select(list(CLUSTER_COLUMNS))
