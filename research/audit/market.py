"""Bars for an audit: a market of a day that has everything in it, and the three ways to take its future away.

What may be known at row *i* is what the market before it says; so the bars are cut after a row, or what follows a row
becomes another market, or what lies long before it is forgotten.
"""

from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import polars as pl

from research.bars import BARS, KLINE_DELAY_MS, Bars
from research.clusters.columns import CLUSTER_COLUMNS
from research.clusters.grid import SIDES
from research.execution_bars import EXECUTION

N_ROWS = 1_500  # crosses midnight, and every hour often
MINUTE_MS = 60_000
LATENCY_MS = 250
TICK_SIZE = 0.01
KEPT = 128  # futures; every subject of a file is shown the same
_START_MS = int(datetime(2026, 3, 1, 20, 17, tzinfo=UTC).timestamp() * 1_000)
_GAPS = ((0.31, 4), (0.52, 9), (0.83, 2))  # where, as a fraction of the rows, and for how many rows
_CLUSTER_ROWS = 25  # a cluster stays where it is for so long

_PRICES = ("open", "high", "low", "close", "bid_price", "ask_price", "mark_price", "index_price")
_OHLC = ("open", "high", "low", "close")
_INSTRUMENT = {
    "tick_size": TICK_SIZE,
    "step_size": 0.001,
    "min_notional_usdt": 5.0,
    "min_quantity": 0.001,
    "max_quantity": 1e6,
    "market_max_quantity": 1e6,
    "funding_interval_hours": 8,
    "status": "TRADING",
}


def audit_bars(n_rows: int = N_ROWS, *, seed: int = 5) -> Bars:
    """One-minute bars of a market that never was: quiet and wild minutes, gaps, quotes, marks, funding, clusters.

    Every bar opens away from the close before it, so that no price of one bar passes for one of the next. The
    liquidation map's columns (``CLUSTER_COLUMNS``) stand beside those of the bars.
    """
    random = np.random.default_rng(seed)
    open_ms = _START_MS + np.arange(n_rows) * MINUTE_MS
    avail_ms = open_ms + MINUTE_MS + random.integers(700, KLINE_DELAY_MS, n_rows)
    is_gap = np.zeros(n_rows, bool)
    for place, length in _GAPS:
        is_gap[int(place * n_rows) : int(place * n_rows) + length] = True

    is_wild = random.random(n_rows) < 0.06
    move_bps = random.normal(0.0, 5.0, n_rows) * np.where(is_wild, 8.0, 1.0)
    jump_bps = random.choice([-1.0, 1.0], n_rows) * random.uniform(0.5, 3.0, n_rows)
    close = _on_tick(600.0 * np.exp(np.cumsum(move_bps + jump_bps) / 1e4))
    before = np.append(600.0, close[:-1])
    open_ = _on_tick(before * (1.0 + jump_bps / 1e4))
    high = _on_tick(np.maximum(open_, close) * (1.0 + random.exponential(2.0, n_rows) / 1e4))
    low = _on_tick(np.minimum(open_, close) * (1.0 - random.exponential(2.0, n_rows) / 1e4))
    volume = random.lognormal(3.0, 0.5, n_rows) * (1.0 + np.abs(move_bps) / 5.0)
    bought = np.clip(0.5 + move_bps / 100.0 + random.normal(0.0, 0.1, n_rows), 0.0, 1.0)
    bid = close - TICK_SIZE * random.integers(0, 3, n_rows)
    ask = bid + TICK_SIZE * random.integers(1, 3, n_rows)
    mark = close * np.exp(np.cumsum(random.normal(0.0, 0.05, n_rows)) / 1e4)
    seen = {
        "open": open_, "high": high, "low": low, "close": close,
        "volume": volume, "quote_volume": volume * (high + low) / 2.0, "trade_count": np.rint(volume * 3.0),
        "taker_buy_volume": volume * bought,
        "bid_price": bid, "bid_quantity": random.lognormal(1.0, 1.0, n_rows),
        "ask_price": ask, "ask_quantity": random.lognormal(1.0, 1.0, n_rows),
        "quote_age_ms": random.choice([40.0, 300.0, 1_500.0, 2_500.0], n_rows, p=[0.4, 0.3, 0.25, 0.05]),
        "mark_price": mark, "index_price": mark * (1.0 + random.normal(0.0, 0.5, n_rows) / 1e4),
        "mark_age_ms": random.choice([200.0, 900.0, 4_000.0], n_rows, p=[0.5, 0.45, 0.05]),
        "last_mark_ratio": close / mark,
        "forced_sell_usdt": np.where(is_wild & (move_bps < 0.0), random.lognormal(10.0, 1.0, n_rows), 0.0),
        "forced_buy_usdt": np.where(is_wild & (move_bps > 0.0), random.lognormal(10.0, 1.0, n_rows), 0.0),
    }  # fmt: skip
    frame = pl.DataFrame(
        {
            "open_time": open_ms,
            "close_time": open_ms + MINUTE_MS,
            "avail_time": np.maximum.accumulate(avail_ms),
            "is_gap": is_gap,
            **{name: np.where(is_gap, np.nan, values) for name, values in seen.items()},
            "funding_rate": np.repeat(random.normal(0.0, 0.5e-4, n_rows // 60 + 1), 60)[:n_rows],
            "funding_interval_hours": np.full(n_rows, 8.0),
            "half_spread_bps": 1e4 * (ask - bid) / (ask + bid),
            "can_enter": ~is_gap,
            "exec_time": np.maximum.accumulate(avail_ms) + LATENCY_MS,
            "funding_per_unit": np.zeros(n_rows),
            **_clusters(random, close),
        }
    )
    frame = _with_windows(frame).select(*BARS, *CLUSTER_COLUMNS)
    return Bars(
        symbol="AUDITUSDT", interval="1m", frame=frame.cast({**BARS, **CLUSTER_COLUMNS}), instrument=_INSTRUMENT
    )


@lru_cache(KEPT)
def cut(bars: Bars, row: int) -> Bars:
    """The bars as they stood when row ``row`` - 1 was the newest: what followed its decision had not happened."""
    return replace(bars, frame=_newest_unfinished(bars.frame.head(row)))


@lru_cache(KEPT)
def short(bars: Bars, row: int, n_rows: int) -> Bars:
    """The last ``n_rows`` of ``cut``: a live buffer that holds no more."""
    return replace(bars, frame=cut(bars, row).frame.tail(n_rows))


@lru_cache(KEPT)
def scrambled(bars: Bars, row: int, *, keeps_open: bool = False) -> Bars:
    """The same bars up to row ``row`` and from there on another market; times stay.

    The later rows change places and scale, each by a factor of its own, so that neither a level nor a return nor a
    statistic of the whole survives. Bars stay bars: a row's prices keep their order, execution windows are those of the
    new market.

    Parameters
    ----------
    keeps_open : the new market opens where the old one did, so that an order of row ``row`` - 1 is filled as it was.
    """
    frame, random = bars.frame, np.random.default_rng(row)
    past, future = frame.head(row), frame.tail(frame.height - row)
    times = [name for name, dtype in frame.schema.items() if dtype.is_temporal()]
    prices = [name for name in frame.columns if name in _PRICES or _is_cluster_price(name)]
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float() and name not in EXECUTION]
    others = [name for name in floats if name not in prices]
    shuffled = future[random.permutation(future.height)].with_columns(future.select(times))
    price_factor = pl.Series(random.uniform(0.5, 2.0, future.height))
    other_factor = pl.Series(random.uniform(0.3, 3.0, future.height))
    shuffled = shuffled.with_columns(
        *(pl.col(name) * price_factor for name in prices), *(pl.col(name) * other_factor for name in others)
    )
    if keeps_open:
        shuffled = pl.concat([_opening_as(future.head(1), shuffled.head(1)), shuffled.tail(-1)])
    windows = _with_windows(pl.concat([past, shuffled]))
    # The window of the last row that stays lies in the future.
    return replace(bars, frame=pl.concat([frame.head(row - 1), windows.tail(frame.height - row + 1)]))


def _opening_as(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The new bar, its range stretched to the open of the old one."""
    opened = new.with_columns(old.select("open", "is_gap", "can_enter", "last_mark_ratio", "half_spread_bps"))
    return opened.with_columns(high=pl.max_horizontal("open", "high"), low=pl.min_horizontal("open", "low"))


def _with_windows(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with execution columns that fit its bars: kline *i* + 1 for row *i*, NaN where it was not seen."""
    after = frame.select(pl.col(*_OHLC, "last_mark_ratio", "half_spread_bps").shift(-1).fill_null(np.nan))
    ratio, half_spread = after["last_mark_ratio"], after["half_spread_bps"] / 1e4
    return frame.with_columns(
        **{f"exec_{name}": after[name] for name in _OHLC},
        **{f"exec_mark_{name}": after[name] / ratio for name in _OHLC},
        exec_bid=after["open"] * (1.0 - half_spread),
        exec_ask=after["open"] * (1.0 + half_spread),
    ).select(frame.columns + [name for name in EXECUTION if name not in frame.columns])


def _newest_unfinished(frame: pl.DataFrame) -> pl.DataFrame:
    """The window of the newest row has not happened."""
    is_newest = pl.int_range(pl.len()) == frame.height - 1
    unknown = [name for name, dtype in EXECUTION.items() if dtype.is_float()]
    return frame.with_columns(pl.when(~is_newest).then(pl.col(unknown)).otherwise(np.nan))


def _clusters(random: np.random.Generator, close: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a liquidation map whose clusters stand still for a while and are then others."""
    n_rows = len(close)
    first = np.arange(n_rows) // _CLUSTER_ROWS * _CLUSTER_ROWS
    n_spells = n_rows // _CLUSTER_ROWS + 1

    def spells(values: np.ndarray) -> np.ndarray:
        return values[np.arange(n_rows) // _CLUSTER_ROWS]

    columns = {}
    for pick, nearest, farthest in (("near", 5.0, 60.0), ("strong", 20.0, 180.0)):
        for side in SIDES:
            outward = -1.0 if side == "long" else 1.0
            price = close[first] * (1.0 + outward * spells(random.uniform(nearest, farthest, n_spells)) / 1e4)
            columns |= {
                f"{pick}_{side}_price": price,
                f"{pick}_{side}_lo": price * (1.0 - 3.0 / 1e4),
                f"{pick}_{side}_hi": price * (1.0 + 3.0 / 1e4),
                f"{pick}_{side}_strength": spells(random.uniform(0.5, 1.0, n_spells)),
                f"{pick}_{side}_usdt": spells(random.lognormal(14.5, 1.0, n_spells)),
                f"{pick}_{side}_confidence": spells(random.uniform(0.0, 1.0, n_spells)),
            }
            if pick == "near":
                columns[f"near_{side}_far"] = price * (1.0 + outward * 8.0 / 1e4)
    direction = spells(random.choice([-1.0, 1.0, np.nan], n_spells))
    edge = close[first] * (1.0 - direction * 4.0 / 1e4)
    open_interest = 1e6 * np.exp(np.cumsum(random.normal(0.0, 10.0, n_rows)) / 1e4)
    return columns | {
        "break_direction": direction,
        "break_age_bars": np.where(np.isnan(direction), np.nan, np.arange(n_rows) - first + 1.0),
        "break_lo": edge * (1.0 - 2.0 / 1e4),
        "break_hi": edge * (1.0 + 2.0 / 1e4),
        "break_usdt": np.where(np.isnan(direction), np.nan, spells(random.lognormal(14.5, 1.0, n_spells))),
        "open_interest": open_interest,
        "open_interest_usdt": open_interest * close,
        "long_short_ratio": np.exp(random.normal(0.0, 0.2, n_rows)),
        "map_age_ms": random.uniform(1_000.0, 300_000.0, n_rows),
    }


def _is_cluster_price(name: str) -> bool:
    return name in CLUSTER_COLUMNS and name.endswith(("_price", "_lo", "_hi", "_far"))


def _on_tick(price: np.ndarray) -> np.ndarray:
    return np.round(np.rint(price / TICK_SIZE) * TICK_SIZE, 2)
