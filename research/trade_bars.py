"""Bars from aggregate trades, for minutes without a recorded kline and for any grid klines do not have."""

from collections.abc import Iterable

import numpy as np
import polars as pl

from data.schema import TIME_MS, interval_ms
from research.jit import njit
from research.recorded import counted_trades, known_ms, trade_track, window_ohlc
from research.thinned import kept_trades

TRADE_BARS = pl.Schema(
    {
        "open_time": TIME_MS,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,  # base
        "quote_volume": pl.Float64,  # USDT
        "trade_count": pl.Int64,  # aggregate trades; the exchange's klines count single fills
        "taker_buy_volume": pl.Float64,  # base
        "first_agg_trade_id": pl.Int64,  # null in a bar without trades
        "last_agg_trade_id": pl.Int64,
        "known_time": TIME_MS,  # when the first trade after the bar proved that none is missing
    }
)


def trade_bars(trades: pl.DataFrame, interval: str = "1m") -> pl.DataFrame:
    """Bars from aggregate trades, frame of ``TRADE_BARS``: only slots of which no trade can be missing.

    A slot without trades between consecutive ids is a flat bar without volume. The slots of the very first and the very
    last trade are left out: nothing proves that they are complete.

    Parameters
    ----------
    trades : frame of ``data.schema.TRADES``, ascending by time and id; ambiguous rows do not count.
    """
    return trade_bars_of_pieces([trades], interval)


def trade_bars_of_pieces(pieces: Iterable[pl.DataFrame], interval: str = "1m") -> pl.DataFrame:
    """``trade_bars`` of trades that come in several frames, one after the other; no slot is in two of them."""
    length = interval_ms(interval)
    summed, ends = [], []
    for trades in pieces:
        counted = counted_trades(trades)
        if len(counted):
            summed.append(_traded_slots(counted, length))
            ends.append(kept_trades(counted, np.empty(0, np.int64)))
    if not summed:
        return TRADE_BARS.to_frame()
    traded, track = pl.concat(summed), trade_track(pl.concat(ends))
    open_ms = np.arange(track.time_ms[0] // length * length, track.time_ms[-1] + 1, length)
    open_ms = open_ms[track.is_seen(open_ms, open_ms + length)]
    traded_ms = traded["open_time"].to_numpy()
    row = np.searchsorted(traded_ms, open_ms, side="right") - 1
    bars = traded[row].with_columns(
        open_time=open_ms,
        is_flat=traded_ms[row] != open_ms,
        proven_ms=traded["first_known_ms"].to_numpy()[row + 1],
    )
    sums = ("volume", "quote_volume", "trade_count", "taker_buy_volume")
    return bars.with_columns(
        *(pl.when("is_flat").then("close").otherwise(name).alias(name) for name in ("open", "high", "low")),
        *(pl.when("is_flat").then(0).otherwise(name).alias(name) for name in sums),
        *(pl.when(~pl.col("is_flat")).then(name).alias(name) for name in ("first_agg_trade_id", "last_agg_trade_id")),
        known_time=pl.when("is_flat").then("proven_ms").otherwise(pl.max_horizontal("proven_ms", "last_known_ms")),
    ).select(pl.col(name).cast(dtype) for name, dtype in TRADE_BARS.items())


def _traded_slots(counted: pl.DataFrame, length: int) -> pl.DataFrame:
    """The slots with trades: columns of ``TRADE_BARS`` up to the ids, ``first_known_ms`` of the first trade and
    ``last_known_ms`` when all of them were known."""
    slot = counted["event_time"].dt.epoch("ms").to_numpy() // length
    first = np.flatnonzero(np.diff(slot, prepend=slot[0] - 1))
    after = np.append(first[1:], len(slot))
    price, ids = counted["price"].to_numpy(writable=True), counted["agg_trade_id"].to_numpy()
    known = counted.select(known_ms()).to_series().to_numpy(writable=True)
    volume, quote_volume, taker_buy_volume, last_known = _sums(
        first,
        after,
        price,
        counted["quantity"].to_numpy(writable=True),
        counted["is_buyer_maker"].to_numpy(writable=True),
        known,
    )
    open_, high, low, close = window_ohlc(price, first, after, np.ones(len(first), dtype=bool))
    return pl.DataFrame(
        {
            "open_time": slot[first] * length,
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "quote_volume": quote_volume,
            "trade_count": after - first,
            "taker_buy_volume": taker_buy_volume,
            "first_agg_trade_id": ids[first],
            "last_agg_trade_id": ids[after - 1],
            "first_known_ms": known[first],
            "last_known_ms": last_known,
        }
    )


@njit
def _sums(first, after, price, quantity, is_buyer_maker, known):
    n_bars = len(first)
    volume, quote_volume, taker_buy_volume = np.zeros(n_bars), np.zeros(n_bars), np.zeros(n_bars)
    last_known = np.zeros(n_bars, dtype=np.int64)
    for bar in range(n_bars):
        for row in range(first[bar], after[bar]):
            volume[bar] += quantity[row]
            quote_volume[bar] += price[row] * quantity[row]
            if not is_buyer_maker[row]:
                taker_buy_volume[bar] += quantity[row]
            last_known[bar] = max(last_known[bar], known[row])
    return volume, quote_volume, taker_buy_volume, last_known
