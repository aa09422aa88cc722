"""One day of the synthetic market as rows of the lake's tables.

Prices and quantities stay whole numbers of ticks and steps until the last moment, so that a kline equals the sum of its
trades to the last digit. Times are integers of their column's unit; venue, symbol and source are left to the caller.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from data.synthetic_kernels import DAY_SECONDS
from data.synthetic_market import DAY_MS, UNITS_PER_TICK, Day, Market

NS_PER_MS = 1_000_000


def _arrival(rng: np.random.Generator, event_ms: np.ndarray) -> dict[str, np.ndarray]:
    """When the exchange sent each message and when it reached us, in order, some 60 ms later."""
    sent_ms = np.maximum.accumulate(event_ms + rng.integers(0, 5, event_ms.size))
    latency_ns = (60 * NS_PER_MS * np.exp(0.4 * rng.standard_normal(event_ms.size))).astype(np.int64)
    return {"sent_time": sent_ms, "recv_time": np.maximum.accumulate(sent_ms * NS_PER_MS + latency_ns)}


def _bar_arrival(rng: np.random.Generator, open_ms: np.ndarray) -> np.ndarray:
    """Receive times of 1m bars, ns: 0.3 to 2.9 s after their end, half of them within 1.4 s."""
    late_ns = ((0.3 + 2.6 * rng.beta(2.0, 2.6, open_ms.size)) * 1e9).astype(np.int64)
    return (open_ms + 60_000) * NS_PER_MS + late_ns


def _raw_trade_id(agg_trade_id: np.ndarray) -> np.ndarray:
    """Raw ids: each aggregate here is one fill, and ids are not dense."""
    return 3 * agg_trade_id + agg_trade_id * 7_919 % 3


def _update_id(second: np.ndarray) -> np.ndarray:
    """Order book ids by second since the first midnight: they grow, by steps of their own."""
    return 1_000_000 + 40 * second + second * 7_919 % 40


def _trades(market: Market, day: Day) -> pl.DataFrame:
    event_ms = day.trades["event_ms"].to_numpy()
    agg_trade_id = day.before.next_trade_id + np.arange(event_ms.size)
    raw_trade_id = _raw_trade_id(agg_trade_id)
    return pl.DataFrame(
        {
            "agg_trade_id": agg_trade_id,
            "event_time": event_ms,
            "price": market.prices(day.trades["price_units"]),
            "quantity": market.quantities(day.trades["steps"]),
            "is_buyer_maker": day.trades["is_buyer_maker"],
            "first_trade_id": raw_trade_id,
            "last_trade_id": raw_trade_id,
            **_arrival(market.rng(day.index, "trade arrival"), event_ms),
        }
    ).with_columns(is_ambiguous=False)


def _klines(market: Market, day: Day) -> pl.DataFrame:
    """1m bars that are exactly their trades; without trades, flat at the previous close."""
    minutes = pl.DataFrame({"open_ms": market.midnight_ms + day.index * DAY_MS + np.arange(1_440) * 60_000})
    buys = ~pl.col("is_buyer_maker")
    notional = pl.col("price_units") * pl.col("steps")
    price = pl.col("price_units")
    bars = (
        day.trades.with_columns(
            open_ms=pl.col("event_ms") // 60_000 * 60_000,
            trade_id=day.before.next_trade_id + pl.int_range(pl.len()),
        )
        .group_by("open_ms")
        .agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            pl.col("steps").sum().alias("volume"),
            notional.sum().alias("quote_volume"),
            pl.len().alias("trade_count"),
            pl.col("steps").filter(buys).sum().alias("taker_buy_volume"),
            notional.filter(buys).sum().alias("taker_buy_quote_volume"),
            pl.col("trade_id").first().alias("first_id"),
            pl.col("trade_id").last().alias("last_id"),
        )
    )
    close = pl.col("close").forward_fill().fill_null(day.before.last_price_units)
    bars = (
        minutes.join(bars, on="open_ms", how="left", maintain_order="left")
        .with_columns(close)
        .with_columns(pl.col("open", "high", "low").fill_null(pl.col("close")))
        .with_columns(pl.selectors.numeric().fill_null(0))
    )
    recv_ns = _bar_arrival(market.rng(day.index, "kline arrival"), bars["open_ms"].to_numpy())
    first_id, last_id = (_raw_trade_id(bars[name].fill_null(0).to_numpy()) for name in ("first_id", "last_id"))
    has_trades = bars["trade_count"].to_numpy() > 0
    return pl.DataFrame(
        {
            "open_time": bars["open_ms"],
            **{name: market.prices(bars[name]) for name in ("open", "high", "low", "close")},
            **{name: market.quantities(bars[name]) for name in ("volume", "taker_buy_volume")},
            **{name: market.notionals(bars[name]) for name in ("quote_volume", "taker_buy_quote_volume")},
            "trade_count": bars["trade_count"],
            "first_trade_id": np.where(has_trades, first_id, -1),
            "last_trade_id": np.where(has_trades, last_id, -1),
            "sent_time": recv_ns // NS_PER_MS - 60,
            "recv_time": recv_ns,
        }
    ).with_columns(interval=pl.lit("1m"))


def _book_ticker(market: Market, day: Day) -> pl.DataFrame:
    """The touch at every change."""
    every = market.spec.quote_interval_s
    event_ms = day.opens_ms[:-1:every]
    touch = {
        "bid_price": market.prices(day.bid_ticks * UNITS_PER_TICK),
        "bid_quantity": market.quantities(day.bid_steps),
        "ask_price": market.prices(day.ask_ticks * UNITS_PER_TICK),
        "ask_quantity": market.quantities(day.ask_steps),
    }
    frame = pl.DataFrame(
        {
            "update_id": _update_id(day.index * DAY_SECONDS + np.arange(0, DAY_SECONDS, every)),
            "event_time": event_ms,
            **touch,
            **_arrival(market.rng(day.index, "quote arrival"), event_ms),
        }
    ).with_columns(clock=pl.lit("exchange"))
    return frame.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in touch))


def _depth(market: Market, day: Day) -> pl.DataFrame:
    """Partial books whose best level is the touch; deeper levels leave gaps and grow."""
    every, levels = market.spec.depth_interval_s, market.spec.depth_levels
    second = np.arange(0, DAY_SECONDS, every)
    quote = second // market.spec.quote_interval_s
    event_ms = day.opens_ms[:-1:every]
    rng = market.rng(day.index, "depth")
    columns = {}
    for side, best, size, away in (("bid", day.bid_ticks, day.bid_steps, -1), ("ask", day.ask_ticks, day.ask_steps, 1)):
        ticks, steps = best[quote], size[quote]
        for level in range(levels):
            columns[f"{side}_price_{level}"] = market.prices(ticks * UNITS_PER_TICK)
            columns[f"{side}_quantity_{level}"] = market.quantities(steps)
            ticks = np.maximum(ticks + away * (1 + rng.poisson(0.5, ticks.size)), 1)
            mean_notional = market.symbol.book_notional_usdt * (1 + 0.3 * level)
            steps = market.sizes(rng, mean_notional, day.seconds["mid_price"][second], 0.8)
    absolute = day.index * DAY_SECONDS + second
    return pl.DataFrame(
        {
            "first_update_id": _update_id(absolute),
            "update_id": _update_id(absolute),
            "previous_update_id": _update_id(absolute - every),
            "event_time": event_ms,
            **columns,
            **_arrival(market.rng(day.index, "depth arrival"), event_ms),
        }
    ).with_columns(levels=levels, clock=pl.lit("exchange"))


def _mark_price(market: Market, day: Day) -> pl.DataFrame:
    every = market.spec.mark_interval_s
    seconds = day.seconds[::every]
    event_ms = market.midnight_ms + day.index * DAY_MS + np.arange(0, DAY_SECONDS, every) * 1_000
    interval_ms = market.rules.funding_interval_s * 1_000
    return pl.DataFrame(
        {
            "event_time": event_ms,
            "mark_price": seconds["mark_price"].round(8),
            "index_price": seconds["index_price"].round(8),
            "estimated_settle_price": seconds["index_price"].round(8),
            "funding_rate": seconds["funding_rate"].round(8),
            "next_funding_time": (event_ms // interval_ms + 1) * interval_ms,
            "recv_time": _arrival(market.rng(day.index, "mark arrival"), event_ms)["recv_time"],
        }
    ).with_columns(clock=pl.lit("exchange"))


def _reference_klines(market: Market, day: Day, price: str) -> pl.DataFrame:
    """1m bars of the mark or index price as published."""
    every = market.spec.mark_interval_s
    published = day.seconds[price][::every].round(8).reshape(1_440, 60 // every)
    open_ms = market.midnight_ms + day.index * DAY_MS + np.arange(1_440) * 60_000
    return pl.DataFrame(
        {
            "open_time": open_ms,
            "open": published[:, 0],
            "high": published.max(axis=1),
            "low": published.min(axis=1),
            "close": published[:, -1],
            "recv_time": _bar_arrival(market.rng(day.index, f"{price} kline arrival"), open_ms),
        }
    ).with_columns(interval=pl.lit("1m"))


def _funding(market: Market, day: Day) -> pl.DataFrame:
    """Settlements at the last published estimate; none at the first midnight, which has no estimate before it."""
    interval_s = market.rules.funding_interval_s
    settled = np.arange(0, DAY_SECONDS, interval_s)
    rate = day.seconds["funding_rate"][settled - market.spec.mark_interval_s]
    rate[0] = day.before.funding_rate
    frame = pl.DataFrame(
        {
            "event_time": market.midnight_ms + day.index * DAY_MS + settled * 1_000,
            "funding_rate": rate.round(8),
        }
    ).with_columns(interval_hours=interval_s / 3_600)
    return frame.filter(pl.col("funding_rate").is_not_nan())


def _force_orders(market: Market, day: Day) -> pl.DataFrame:
    """The last forced order of each second, all that the stream shows of a cascade."""
    last = (
        day.trades.filter("is_forced")
        .with_columns(second=pl.col("event_ms") // 1_000)
        .unique("second", keep="last", maintain_order=True)
    )
    event_ms = last["event_ms"].to_numpy()
    is_sell = last["is_buyer_maker"].to_numpy()
    units = last["price_units"].to_numpy()
    limit_ticks = np.floor(units * np.where(is_sell, 0.99, 1.01) / UNITS_PER_TICK).astype(np.int64)
    quantity = market.quantities(last["steps"])
    return pl.DataFrame(
        {
            "event_time": event_ms,
            "side": np.where(is_sell, "SELL", "BUY"),
            "quantity": quantity,
            "price": market.prices(limit_ticks * UNITS_PER_TICK),
            "average_price": market.prices(units),
            "last_filled_quantity": quantity,
            "filled_quantity": quantity,
            **_arrival(market.rng(day.index, "liquidation arrival"), event_ms),
        }
    ).with_columns(status=pl.lit("FILLED"))


def _open_interest(market: Market, day: Day) -> pl.DataFrame:
    every = market.spec.open_interest_interval_s
    seconds = day.seconds[::every]
    event_ms = market.midnight_ms + day.index * DAY_MS + np.arange(0, DAY_SECONDS, every) * 1_000
    steps = np.round(seconds["open_interest"] / market.symbol.step_size).astype(np.int64)
    open_interest = market.quantities(steps)
    return pl.DataFrame(
        {
            "event_time": event_ms,
            "open_interest": open_interest,
            "open_interest_usdt": (open_interest * seconds["mark_price"]).round(2),
            "recv_time": _arrival(market.rng(day.index, "open interest arrival"), event_ms)["recv_time"],
        }
    )


TABLE_ROWS: dict[str, Callable[[Market, Day], pl.DataFrame]] = {
    "klines": _klines,
    "trades": _trades,
    "book_ticker": _book_ticker,
    "depth": _depth,
    "mark_price": _mark_price,
    "mark_klines": partial(_reference_klines, price="mark_price"),
    "index_klines": partial(_reference_klines, price="index_price"),
    "funding": _funding,
    "force_orders": _force_orders,
    "open_interest": _open_interest,
}
