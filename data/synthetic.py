"""A seeded market that never was, in the lake's own tables: for tests, the demo and the loopback exchange.

The same spec gives the same rows, whichever day is asked for first and however many days there are. What is planted is
documented where it is set: momentum, mean reversion, and crowds whose liquidation levels `planted_clusters` returns.
Nothing found in these data says anything about a real market.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import polars as pl

from data.config import config_hash
from data.schema import SIDE, TABLES, conform
from data.synthetic_kernels import DAY_SECONDS, LONG
from data.synthetic_market import Market
from data.synthetic_rows import TABLE_ROWS
from data.table import TIME_MS

if TYPE_CHECKING:
    from data.lake import Lake

ORIGIN = datetime(2020, 1, 1, tzinfo=UTC)
MAY_BE_EMPTY = ("funding", "force_orders")  # on a day of their own making; every other table has rows every day
FUNDING_HOURS = (1, 2, 4, 6, 8, 12, 24)


@dataclass(frozen=True, kw_only=True)
class SymbolSpec:
    """One symbol's market.

    Parameters
    ----------
    tick_size, step_size : grid of quoted prices (USDT) and of quantities (base units).
    daily_volatility : standard deviation of a day's log return, before what liquidations add.
    off_grid_share : fraction of trades printed inside the spread, off the tick grid.
    trade_notional_usdt, book_notional_usdt : mean size of a trade, mean size resting at the touch.
    open_interest_usdt : notional held at the start, one-sided; six tenths of it between hedgers.
    cluster_notional_usdt, clusters_per_day, leverages : crowds: median size, how often one forms, what it may take.
    impact_bps_per_million : price move per million USDT of liquidations.
    bracket_notional_usdt, max_leverage, maintenance_margin_rate : the first bracket; the second has half the leverage
        and twice the rate.
    """

    symbol: str
    start_price: float
    tick_size: float
    step_size: float
    daily_volatility: float
    off_grid_share: float
    trade_notional_usdt: float
    book_notional_usdt: float
    open_interest_usdt: float
    cluster_notional_usdt: float
    clusters_per_day: float
    leverages: tuple[float, ...]
    impact_bps_per_million: float
    bracket_notional_usdt: float
    max_leverage: float
    maintenance_margin_rate: float
    funding_interval_hours: int

    def __post_init__(self) -> None:
        if self.funding_interval_hours not in FUNDING_HOURS:
            hours = self.funding_interval_hours
            raise ValueError(f"{self.symbol} funding_interval_hours: expected one of {FUNDING_HOURS}, got {hours}")
        highest = min(self.max_leverage, 1 / self.maintenance_margin_rate)
        if max(self.leverages) > highest:
            raise ValueError(f"{self.symbol} leverages: expected at most {highest:g}, got {max(self.leverages):g}")


BTC_LIKE = SymbolSpec(
    symbol="BTCUSDT", start_price=60_000.0, tick_size=0.1, step_size=0.001, daily_volatility=0.03, off_grid_share=0.0,
    trade_notional_usdt=2_000.0, book_notional_usdt=100_000.0, open_interest_usdt=50e6, cluster_notional_usdt=2e6,
    clusters_per_day=5.0, leverages=(25.0, 50.0, 100.0), impact_bps_per_million=12.0, bracket_notional_usdt=50_000.0,
    max_leverage=125.0, maintenance_margin_rate=0.004, funding_interval_hours=8,
)  # fmt: skip
ALT_LIKE = SymbolSpec(
    symbol="ASTERUSDT", start_price=0.8, tick_size=0.0001, step_size=0.01, daily_volatility=0.05, off_grid_share=0.25,
    trade_notional_usdt=400.0, book_notional_usdt=8_000.0, open_interest_usdt=8e6, cluster_notional_usdt=400e3,
    clusters_per_day=5.0, leverages=(10.0, 20.0, 40.0), impact_bps_per_million=100.0, bracket_notional_usdt=5_000.0,
    max_leverage=50.0, maintenance_margin_rate=0.01, funding_interval_hours=4,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Hole:
    """Rows to leave out: one table and symbol, [start, end) of the table's time."""

    table: str
    symbol: str
    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class MarketSpec:
    """A synthetic market.

    Parameters
    ----------
    start : first moment, UTC, on a whole minute.
    days : length; [start, start + days) is filled, to the minute.
    trades_per_second : mean over a day, before crowds and liquidations add theirs.
    quote_interval_s, depth_interval_s, mark_interval_s, open_interest_interval_s : seconds between rows.
    depth_levels : 5, 10 or 20.
    momentum_edge : planted. The fraction of a strong, busy minute's log return that is expected to follow over the next
        five minutes, evenly; 0 plants none. Strong: beyond two standard deviations of the last hours' minutes. Busy:
        1.3 times the usual number of trades. Measured on klines it is half to two thirds of that: klines and the index
        do not agree on which minutes are strong, and mean reversion takes some back.
    mean_reversion : planted. In ranging spells (half of the time, about 90 minutes each) the fraction of the distance
        from the half-hour average that is expected to close in ten minutes; 0 plants none.
    holes : rows that were "never received".

    Notes
    -----
    With both edges at 0 the index is a martingale apart from liquidations: a cascade feeds on itself, and four tenths
    of its impact fades within minutes.
    """

    symbols: tuple[SymbolSpec, ...]
    start: datetime
    days: float
    seed: int
    trades_per_second: float = 1.0
    quote_interval_s: int = 1
    depth_interval_s: int = 2
    depth_levels: int = 5
    mark_interval_s: int = 1
    open_interest_interval_s: int = 60
    momentum_edge: float = 0.35
    mean_reversion: float = 0.1
    holes: tuple[Hole, ...] = ()

    def __post_init__(self) -> None:
        if self.start.utcoffset() != timedelta(0) or self.start.second or self.start.microsecond or self.start < ORIGIN:
            raise ValueError(f"start: expected a whole UTC minute from 2020 on, got {self.start!r}; pass tzinfo=UTC")
        if self.end <= self.start:
            raise ValueError(f"days: expected at least a minute, got {self.days}")
        names = [symbol.symbol for symbol in self.symbols]
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"symbols: expected one or more different ones, got {names}")
        for name in ("quote_interval_s", "depth_interval_s", "mark_interval_s", "open_interest_interval_s"):
            seconds = getattr(self, name)
            if seconds < 1 or DAY_SECONDS % seconds or (name == "mark_interval_s" and 60 % seconds):
                raise ValueError(f"{name}: expected whole seconds that divide a day (marks: a minute), got {seconds}")
        if self.depth_interval_s % self.quote_interval_s:
            intervals = f"{self.quote_interval_s}, got {self.depth_interval_s}"
            raise ValueError(f"depth_interval_s: expected a multiple of quote_interval_s {intervals}")
        if self.depth_levels not in (5, 10, 20):
            raise ValueError(f"depth_levels: expected 5, 10 or 20, got {self.depth_levels}")
        for hole in self.holes:
            if hole.table not in TABLE_ROWS or hole.symbol not in names:
                known = f"tables are {list(TABLE_ROWS)}, symbols {names}"
                raise ValueError(f"holes: no {hole.table!r} of {hole.symbol!r} here; {known}")
            if not self.start <= hole.start < hole.end <= self.end:
                span = f"{self.start} to {self.end}"
                raise ValueError(f"holes: expected start before end, both in {span}, got {hole.start} to {hole.end}")

    @property
    def end(self) -> datetime:
        """First moment after the market."""
        return self.start + timedelta(minutes=round(self.days * 1_440))

    @property
    def dates(self) -> list[date]:
        """UTC days that hold rows, in order."""
        last = (self.end - timedelta(microseconds=1)).date()
        return [self.start.date() + timedelta(days=day) for day in range((last - self.start.date()).days + 1)]

    def symbol(self, name: str) -> SymbolSpec:
        """The spec of one symbol; LookupError names those there are."""
        for symbol in self.symbols:
            if symbol.symbol == name:
                return symbol
        raise LookupError(f"no symbol {name!r} in this market: it has {[symbol.symbol for symbol in self.symbols]}")


def generate(spec: MarketSpec, symbol: str, day: date) -> dict[str, pl.DataFrame]:
    """Every table's rows of one symbol and UTC day, in the lake's schema and order; instruments on the first day only.

    Raises
    ------
    LookupError
        If the market has no such symbol or day.
    """
    if day not in spec.dates:
        raise LookupError(f"no rows on {day}: the market runs from {spec.start} to {spec.end}")
    market = _market(spec, symbol)
    today = market.day((day - spec.start.date()).days)
    rows = {table: rows_of(market, today) for table, rows_of in TABLE_ROWS.items()}
    if day == spec.start.date():
        rows["instruments"] = _instrument(spec, symbol)
    return {table: _kept(spec, table, symbol, frame) for table, frame in rows.items()}


def _market(spec: MarketSpec, symbol: str) -> Market:
    """The market behind a spec; what only chooses rows (days, holes) or adds symbols does not make it another one."""
    return _remembered_market(replace(spec, symbols=(spec.symbol(symbol),), days=1.0, holes=()))


@lru_cache(maxsize=8)
def _remembered_market(spec: MarketSpec) -> Market:
    return Market(spec, spec.symbols[0])


def _kept(spec: MarketSpec, table: str, symbol: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The table's rows inside the market's span and outside its holes, in the schema."""
    time = pl.col(TABLES[table].time)
    frame = frame.with_columns(venue=pl.lit("aster"), symbol=pl.lit(symbol), source=pl.lit("synthetic"))
    rows = conform(frame, TABLES[table]).filter(time >= spec.start, time < spec.end)
    for hole in spec.holes:
        if (hole.table, hole.symbol) == (table, symbol):
            rows = rows.filter((time < hole.start) | (time >= hole.end))
    return rows


def _instrument(spec: MarketSpec, symbol: str) -> pl.DataFrame:
    """The contract's rules, in force from the start, with two leverage brackets."""
    one = spec.symbol(symbol)
    first, rate = one.bracket_notional_usdt, one.maintenance_margin_rate
    brackets = [
        {"notional_floor_usdt": 0.0, "notional_cap_usdt": first, "max_leverage": one.max_leverage,
         "maintenance_margin_rate": rate, "maintenance_amount_usdt": 0.0},
        {"notional_floor_usdt": first, "notional_cap_usdt": 20 * first, "max_leverage": one.max_leverage / 2,
         "maintenance_margin_rate": 2 * rate, "maintenance_amount_usdt": first * rate},
    ]  # fmt: skip
    row = {
        "event_time": spec.start, "status": "TRADING", "underlying_type": "COIN", "onboard_time": ORIGIN,
        "tick_size": one.tick_size, "step_size": one.step_size, "min_quantity": one.step_size,
        "max_quantity": 1e6 * one.step_size, "market_max_quantity": 1e5 * one.step_size, "min_notional_usdt": 5.0,
        "price_multiplier_up": 1.05, "price_multiplier_down": 0.95, "max_orders": 200, "max_conditional_orders": 10,
        "liquidation_fee": 0.025, "trigger_protect": 0.05, "market_take_bound": 0.05,
        "funding_interval_hours": float(one.funding_interval_hours), "brackets": brackets,
    }  # fmt: skip
    return pl.DataFrame([row])


def fill_lake(lake: "Lake", spec: MarketSpec, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Land the whole market, day by day; returns rows landed per table.

    Interrupted and started again it goes on where it was: days that are stored whole are not made again, rows already
    present are left alone. ``progress`` is called with the symbol-days done and their total.

    Raises
    ------
    ValueError
        If the lake holds other rows under the same keys, from another spec or from a real exchange.
    """
    landed = dict.fromkeys(TABLES, 0)
    stored = {(entry.table, entry.origin) for entry in lake.files()}
    total = len(spec.dates) * len(spec.symbols)
    done = 0
    for day in spec.dates:
        for symbol in spec.symbols:
            origin = f"synthetic {config_hash(spec)[:12]} {symbol.symbol} {day}"
            is_stored = all((table, origin) in stored for table in TABLE_ROWS if table not in MAY_BE_EMPTY)
            frames = {} if is_stored else generate(spec, symbol.symbol, day)
            for table, frame in frames.items():
                result = lake.append(table, frame, origin=origin)
                if result.conflicts:
                    raise ValueError(
                        f"{table} {symbol.symbol} {day}: expected an empty lake or the same rows, got other rows under "
                        f"{result.conflicts} keys; fill an empty lake"
                    )
                landed[table] += result.landed
            done += 1
            if progress is not None:
                progress(done, total)
    return {table: rows for table, rows in landed.items() if rows}


def planted_clusters(spec: MarketSpec, symbol: str) -> pl.DataFrame:
    """The crowds of the market and where they were truly liquidated, by opening time.

    Told from midnight of the first UTC day to the end of the last one, whatever part of those days the spec covers.

    Returns
    -------
    cluster_id : consecutive per symbol from 0.
    side : of the forced order; SELL closes longs and lies below the price at which they opened.
    leverage; opened_from, opened_to : when the crowd opened, [from, to).
    price_level, price_low, price_high : mark prices that liquidate it: mean by quantity, first and last.
    quantity, notional_usdt : opened, base units and USDT at the level.
    first_liquidation, last_liquidation : null when the mark never came there.
    liquidated_quantity : base units; the rest was closed voluntarily or is still open at the end.
    """
    market = _market(spec, symbol)
    clusters = market.clusters(len(spec.dates))
    frame = pl.DataFrame({name: clusters[name] for name in clusters.dtype.names})
    level = pl.col("level_sum") / pl.col("quantity")

    def moment(name: str) -> pl.Expr:
        ms = pl.when(pl.col(name) >= 0).then(market.midnight_ms + pl.col(name) * 1_000)
        return ms.cast(TIME_MS).alias(name)

    return frame.select(
        pl.int_range(pl.len()).alias("cluster_id"),
        pl.lit(symbol).alias("symbol"),
        pl.when(pl.col("side") == LONG).then(pl.lit("SELL")).otherwise(pl.lit("BUY")).cast(SIDE).alias("side"),
        "leverage",
        moment("opened_from"),
        moment("opened_to"),
        level.alias("price_level"),
        pl.col("low").alias("price_low"),
        pl.col("high").alias("price_high"),
        "quantity",
        pl.col("level_sum").alias("notional_usdt"),
        moment("first_liquidation"),
        moment("last_liquidation"),
        "liquidated_quantity",
    )
