"""The synthetic market day after day: its path, the touch of its book and its trades, as whole ticks and steps."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import polars as pl

from data import synthetic_kernels as kernels
from data.synthetic_kernels import DAY_SECONDS

if TYPE_CHECKING:
    from data.synthetic import MarketSpec, SymbolSpec

DAY_MS = 86_400_000
QUOTE_JITTER_MS = 200  # a second's quote arrives within its first 200 ms
UNITS_PER_TICK = 100  # trade prices are counted in hundredths of a tick: prints may lie off the grid
SIZE_SD = 1.2  # of the logarithm of a trade's size


@dataclass(frozen=True, kw_only=True)
class Close:
    """What the next day goes on from."""

    state: np.ndarray  # STATE, shape (1,)
    positions: np.ndarray  # POSITION, open ones
    clusters: np.ndarray  # CLUSTER, every one so far
    next_trade_id: int
    last_price_units: int
    funding_rate: float  # last published estimate; NaN before the first


@dataclass(frozen=True, kw_only=True)
class Day:
    """One simulated UTC day.

    Parameters
    ----------
    seconds : SECOND array, shape (86,400,).
    opens_ms : int64, shape (86,401,); when each second's prices reach the book, epoch ms; the last is next midnight.
    bid_ticks, ask_ticks, bid_steps, ask_steps : int64, shape (n_quotes,); the touch, every ``quote_interval_s``.
    trades : event_ms, price_units, steps, is_buyer_maker, is_forced; in order.
    """

    index: int
    seconds: np.ndarray
    opens_ms: np.ndarray
    bid_ticks: np.ndarray
    ask_ticks: np.ndarray
    bid_steps: np.ndarray
    ask_steps: np.ndarray
    trades: pl.DataFrame
    before: Close


class Market:
    """One symbol's market from its first midnight on; remembers how each day closed, so that any day can be had."""

    def __init__(self, spec: "MarketSpec", symbol: "SymbolSpec") -> None:
        self.spec, self.symbol = spec, symbol
        self.midnight_ms = int(spec.start.timestamp()) // DAY_SECONDS * DAY_MS
        self.rules = kernels.Rules(
            start_price=symbol.start_price,
            tick_size=symbol.tick_size,
            step_size=symbol.step_size,
            daily_volatility=symbol.daily_volatility,
            trades_per_second=float(spec.trades_per_second),
            trade_notional_usdt=symbol.trade_notional_usdt,
            open_interest_usdt=symbol.open_interest_usdt,
            cluster_notional_usdt=symbol.cluster_notional_usdt,
            clusters_per_day=symbol.clusters_per_day,
            leverages=np.array(symbol.leverages),
            maintenance_margin_rate=symbol.maintenance_margin_rate,
            impact_bps_per_million=symbol.impact_bps_per_million,
            funding_interval_s=symbol.funding_interval_hours * 3_600,
            momentum_edge=float(spec.momentum_edge),
            mean_reversion=float(spec.mean_reversion),
        )
        state, positions = np.zeros(1, kernels.STATE), np.zeros(200, kernels.POSITION)
        kernels.open_market(self.rng(0, "opening"), self.rules, state[0], positions)
        self._closes = [
            Close(
                state=state,
                positions=positions[: state["positions"][0]],
                clusters=np.zeros(0, kernels.CLUSTER),
                next_trade_id=1,
                last_price_units=round(symbol.start_price / symbol.tick_size) * UNITS_PER_TICK,
                funding_rate=float("nan"),
            )
        ]

    def rng(self, day: int, purpose: str) -> np.random.Generator:
        """A generator of its own for every symbol, day and purpose, so that no table's draws disturb another's."""
        return np.random.default_rng([self.spec.seed, crc32(self.symbol.symbol.encode()), day, crc32(purpose.encode())])

    def day(self, index: int) -> Day:
        """The day ``index`` days after the first one; days before it are simulated once, to get there."""
        while len(self._closes) <= index:
            self._simulate(len(self._closes) - 1)
        return self._simulate(index)

    def clusters(self, days: int) -> np.ndarray:
        """CLUSTER records as they stand after so many days."""
        while len(self._closes) <= days:
            self._simulate(len(self._closes) - 1)
        return self._closes[days].clusters

    def _simulate(self, index: int) -> Day:
        before = self._closes[index]
        state = before.state.copy()
        positions = np.concatenate([before.positions, np.zeros(2_000, kernels.POSITION)])
        clusters = np.concatenate([before.clusters, np.zeros(1_500, kernels.CLUSTER)])
        seconds = kernels.simulate_day(self.rng(index, "path"), self.rules, index, state[0], positions, clusters)
        book = _touch(self, index, seconds)
        trades = _draw_trades(self, index, seconds, book)
        if len(self._closes) == index + 1:
            close = Close(
                state=state,
                positions=positions[: state["positions"][0]].copy(),
                clusters=clusters[: state["clusters"][0]].copy(),
                next_trade_id=before.next_trade_id + trades.height,
                last_price_units=trades["price_units"][-1] if trades.height else before.last_price_units,
                funding_rate=float(seconds["funding_rate"][-self.spec.mark_interval_s]),
            )
            self._closes.append(close)
        return Day(index=index, seconds=seconds, trades=trades, before=before, **book)

    def prices(self, units: np.ndarray | pl.Series) -> np.ndarray:
        """Prices from hundredths of a tick, each the float nearest to its decimal."""
        return _decimals(units, self.symbol.tick_size, UNITS_PER_TICK)

    def quantities(self, steps: np.ndarray | pl.Series) -> np.ndarray:
        """Base quantities from steps."""
        return _decimals(steps, self.symbol.step_size, 1)

    def notionals(self, unit_steps: np.ndarray | pl.Series) -> np.ndarray:
        """USDT from sums of price units times steps."""
        size = Decimal(str(self.symbol.tick_size)) * Decimal(str(self.symbol.step_size))
        return _decimals(unit_steps, size, UNITS_PER_TICK)

    def sizes(self, rng: np.random.Generator, notional_usdt: float, prices: np.ndarray, log_sd: float) -> np.ndarray:
        """Log-normal sizes of the given mean, in steps, at least one."""
        notional = notional_usdt * np.exp(log_sd * rng.standard_normal(prices.shape) - log_sd**2 / 2)
        return np.maximum(notional / prices / self.symbol.step_size, 1.0).astype(np.int64)


def _decimals(counts: np.ndarray | pl.Series, size: float | Decimal, divisor: int) -> np.ndarray:
    """``counts * size / divisor`` with one rounding, the last: both sides of the division are whole numbers."""
    numerator, denominator = (Decimal(str(size)) / divisor).as_integer_ratio()
    return np.asarray(counts) * float(numerator) / float(denominator)


def _touch(market: Market, index: int, seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Best bid and ask at every quote, on the tick grid, and when each second's prices reach the book."""
    rng = market.rng(index, "touch")
    midnight_ms = market.midnight_ms + index * DAY_MS
    opens_ms = midnight_ms + np.arange(DAY_SECONDS + 1) * 1_000
    opens_ms[:-1] += rng.integers(0, QUOTE_JITTER_MS, DAY_SECONDS)
    quoted = seconds[:: market.spec.quote_interval_s]
    spread = quoted["spread_ticks"]
    mid_ticks = quoted["mid_price"] / market.symbol.tick_size
    bid_ticks = np.maximum(np.floor(mid_ticks - (spread - 1) / 2), 1).astype(np.int64)
    notional = market.symbol.book_notional_usdt
    return {
        "opens_ms": opens_ms,
        "bid_ticks": bid_ticks,
        "ask_ticks": bid_ticks + spread.astype(np.int64),
        "bid_steps": market.sizes(rng, notional, quoted["mid_price"], 0.8),
        "ask_steps": market.sizes(rng, notional, quoted["mid_price"], 0.8),
    }


def _draw_trades(market: Market, index: int, seconds: np.ndarray, book: dict[str, np.ndarray]) -> pl.DataFrame:
    """Trades at or inside the touch of their moment; forced ones sum to what was liquidated in their second."""
    rng = market.rng(index, "trades")
    ordinary = np.repeat(np.arange(DAY_SECONDS), seconds["trades"])
    forced = np.repeat(np.arange(DAY_SECONDS), seconds["forced_trades"])
    second = np.concatenate([ordinary, forced])
    is_forced = np.arange(second.size) >= ordinary.size
    opens_ms = book["opens_ms"]
    open_for_ms = opens_ms[second + 1] - opens_ms[second]
    event_ms = opens_ms[second] + (rng.random(second.size) * open_for_ms).astype(np.int64)

    is_buy = rng.random(second.size) < seconds["buy_share"][second]
    is_buy[is_forced] = seconds["forced_side"][forced] == kernels.LONG
    quote = second // market.spec.quote_interval_s
    bid, ask = book["bid_ticks"][quote] * UNITS_PER_TICK, book["ask_ticks"][quote] * UNITS_PER_TICK
    inside = rng.integers(bid + 1, ask)
    is_inside = (rng.random(second.size) < market.symbol.off_grid_share) & ~is_forced
    units = np.where(is_inside, inside, np.where(is_buy, ask, bid))

    steps = market.sizes(rng, market.symbol.trade_notional_usdt, seconds["mid_price"][second], SIZE_SD)
    parts = seconds["forced_trades"][forced]
    place = np.arange(forced.size) - np.searchsorted(forced, forced)  # 0, 1, ... within its second
    whole = seconds["forced_steps"][forced]
    steps[is_forced] = whole // parts + (place < whole % parts)

    order = np.argsort(event_ms, kind="stable")
    return pl.DataFrame(
        {
            "event_ms": event_ms[order],
            "price_units": units[order],
            "steps": steps[order],
            "is_buyer_maker": ~is_buy[order],
            "is_forced": is_forced[order],
        }
    )
