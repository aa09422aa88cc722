"""Bars from aggregate trades, for minutes without a recorded kline and for any grid klines do not have."""

import numpy as np
import polars as pl

from data.schema import TIME_MS, interval_ms
from research.jit import njit
from research.recorded import counted_trades, known_ms, trade_track

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
    counted = counted_trades(trades)
    if counted.is_empty():
        return TRADE_BARS.to_frame()
    length = interval_ms(interval)
    track = trade_track(counted)
    open_ms = np.arange(track.time_ms[0] // length * length, track.time_ms[-1] + 1, length)
    open_ms = open_ms[track.is_seen(open_ms, open_ms + length)]
    first, after = track.rows_of(open_ms, open_ms + length)
    volume, quote_volume, taker_buy_volume, known = _sums(
        first,
        after,
        track.price,
        counted["quantity"].to_numpy(writable=True),
        counted["is_buyer_maker"].to_numpy(writable=True),
        counted.select(known_ms()).to_series().to_numpy(writable=True),
    )
    open_, high, low, close = track.ohlc(open_ms, open_ms + length)
    ids, is_flat = counted["agg_trade_id"].to_numpy(), first == after
    bars = {
        "open_time": open_ms,
        "open": open_,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "quote_volume": quote_volume,
        "trade_count": after - first,
        "taker_buy_volume": taker_buy_volume,
        "first_agg_trade_id": pl.Series(ids[first]).set(pl.Series(is_flat), None),
        "last_agg_trade_id": pl.Series(ids[after - 1]).set(pl.Series(is_flat), None),
        "known_time": known,
    }
    return pl.DataFrame(bars).cast(TRADE_BARS)


@njit
def _sums(first, after, price, quantity, is_buyer_maker, known):
    n_bars = len(first)
    volume, quote_volume, taker_buy_volume = np.zeros(n_bars), np.zeros(n_bars), np.zeros(n_bars)
    known_at = np.zeros(n_bars, dtype=np.int64)
    for bar in range(n_bars):
        known_at[bar] = known[after[bar]]
        for row in range(first[bar], after[bar]):
            volume[bar] += quantity[row]
            quote_volume[bar] += price[row] * quantity[row]
            if not is_buyer_maker[row]:
                taker_buy_volume[bar] += quantity[row]
            known_at[bar] = max(known_at[bar], known[row])
    return volume, quote_volume, taker_buy_volume, known_at
