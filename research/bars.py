"""Bars: one row per clock interval with everything a decision may look at and what the market did after it.

Row *i* is known at its ``avail_time``; nothing in its signal columns was received later. Its execution columns describe
the window that begins when an order decided on the row reaches the market (``research.execution_bars``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from data.schema import TIME_MS, interval_ms
from research.execution_bars import EXECUTION, execution_bars
from research.fills import Market
from research.forced_orders import forced_sums
from research.recorded import (
    REACH,
    TRADE_COLUMNS,
    Reading,
    Recorded,
    Substitutions,
    by_known_time,
    epoch_ms,
    event_ms,
    known_marks,
    last_known,
    received_ms,
)
from research.strategies.gates import MAX_MARK_AGE_MS, MAX_QUOTE_AGE_MS
from research.thinned import read_thinned
from research.trade_bars import trade_bars, trade_bars_of_pieces

if TYPE_CHECKING:
    from data.lake import Lake

Number = TypeVar("Number", float, pl.Expr)

# When nobody recorded the receipt of a final kline: 99 % of them came within 2.7 s of the close.
KLINE_DELAY_MS = 3_000

SIGNAL = pl.Schema(
    {
        "open_time": TIME_MS,
        "close_time": TIME_MS,  # open_time plus the interval
        "avail_time": TIME_MS,  # earliest moment a decision may use this row; never decreases
        "is_gap": pl.Boolean,  # a slot nobody saw
        "open": pl.Float64,  # the bar's own numbers are NaN in a gap; a flat bar without volume is a bar
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,  # base
        "quote_volume": pl.Float64,  # USDT
        "trade_count": pl.Float64,
        "taker_buy_volume": pl.Float64,  # base
        "bid_price": pl.Float64,  # last quote known at avail_time, none older than REACH
        "bid_quantity": pl.Float64,  # base
        "ask_price": pl.Float64,
        "ask_quantity": pl.Float64,  # base
        "quote_age_ms": pl.Float64,
        "mark_price": pl.Float64,  # last mark known at avail_time: of the stream, or the close of a mark kline
        "index_price": pl.Float64,
        "mark_age_ms": pl.Float64,
        "funding_rate": pl.Float64,  # fraction per interval: last of the mark stream, else last settled
        "funding_interval_hours": pl.Float64,
        "half_spread_bps": pl.Float64,  # of a fresh quote, then carried: what a market order pays beyond the price
        "last_mark_ratio": pl.Float64,  # close / mark while the mark is fresh, then carried; 1 before the first
        "forced_sell_usdt": pl.Float64,  # liquidations of longs told in the slot, 0 where nobody listened
        "forced_buy_usdt": pl.Float64,  # of shorts
        "can_enter": pl.Boolean,  # seen, and the instrument was TRADING
    }
)
BARS = pl.Schema({**SIGNAL, **EXECUTION})

_BAR_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "taker_buy_volume")
MARKET_COLUMNS = {"bid": "bid_price", "ask": "ask_price"} | {
    name: f"exec_{name}" for name in ("mark_open", "mark_high", "mark_low")
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bars:
    """Bars of one symbol.

    Attributes
    ----------
    frame : columns of ``BARS``, contiguous slots, ascending.
    instrument : row of the instruments table in force at the first slot; its tick and step hold for all of them.
    substituted : sentences on what was assumed in place of missing data; every result prints them.
    """

    symbol: str
    interval: str
    frame: pl.DataFrame
    instrument: Mapping[str, Any]
    substituted: tuple[str, ...] = ()

    def market(self) -> Market:
        """The arrays fills are computed from."""
        columns = {field: self.frame[MARKET_COLUMNS.get(field, field)] for field in Market._fields}
        # Numba compiles anew for read-only arrays; writable ones are the same type wherever they come from.
        return Market(**{field: column.to_numpy(writable=True) for field, column in columns.items()})


def build_bars(
    lake: "Lake",
    symbol: str,
    start: datetime,
    end: datetime,
    *,
    interval: str = "1m",
    latency_ms: int,
    substitutions: Substitutions,
    venue: str = "aster",
    prices: str | None = None,
) -> Bars:
    """Bars of the slots that open in [start, end), from what the lake recorded.

    A row does not depend on the range asked for: execution windows of the last rows reach past ``end`` as far as the
    lake does. Only what is carried over gaps starts with the range. A day of trades, quotes or marks is in memory at a
    time, however long the range is (``research.thinned``).

    Parameters
    ----------
    venue : whose contract it is.
    prices : another venue, whose market stands in for that of ``venue``.

    Raises
    ------
    LookupError
        When no slot of the range was seen, or the instrument is unknown at ``start``.
    ValueError
        When the range holds no slot, tick or step size changes inside it, or a substitution lacks its interval.
    """
    length = interval_ms(interval)
    first_ms, end_ms = (-(-epoch_ms(moment) // length) * length for moment in (start, end))
    if first_ms >= end_ms:
        raise ValueError(f"no {interval} slot opens in [{start:%Y-%m-%d %H:%M:%S}, {end:%Y-%m-%d %H:%M:%S})")
    n_rows = (end_ms - first_ms) // length
    # The last windows end with the times and klines of rows after the range: the last kline closes beyond them.
    n_after = (KLINE_DELAY_MS + latency_ms) // length + 1
    open_ms = np.arange(first_ms, end_ms + n_after * length, length)
    with lake.still() as (still, _):
        instrument = dict(still.instrument(symbol, start, venue=venue))
        reading = Reading(lake=still, symbol=symbol, start=start, end=end, interval=interval, venue=prices or venue)
        # The last rows are known after the range has ended: what changed until then counts.
        contract = still.scan("instruments", symbols=[symbol], end=end + reading.reach, venue=venue)
        recorded = replace(reading.all_but_the_long(), instruments=contract)
        _refuse_grid_change(recorded.instruments, symbol, start, end, instrument)
        traded = trade_bars_of_pieces(reading.pieces("trades", TRADE_COLUMNS), interval)
        slots = _bars_on_slots(recorded, traded, open_ms, interval)
        avail_ms = slots["avail_ms"].to_numpy()
        timed = _with_own_interval(substitutions, instrument)
        recorded = read_thinned(reading, recorded, avail_ms, avail_ms + latency_ms, timed)
    acting = substitutions_in_effect(substitutions, recorded, symbol, instrument)
    signal = _signal_of(recorded, slots, length, float(instrument["tick_size"]), acting)
    if signal["is_gap"].head(n_rows).all():
        raise LookupError(_nothing_seen(lake, symbol, start, end, prices or venue))
    execution = execution_bars(signal, recorded, latency_ms=latency_ms, substitutions=acting)
    stand_in = (f"prices and funding of {prices} stand in for those of {venue}",) if prices not in (None, venue) else ()
    return Bars(
        symbol=symbol,
        interval=interval,
        frame=signal.hstack(execution).head(n_rows).select(list(BARS)),
        instrument=instrument,
        substituted=stand_in + _sentences(recorded, acting),
    )


def signal_bars(
    recorded: Recorded, open_ms: np.ndarray, *, interval: str, tick_size: float, substitutions: Substitutions
) -> pl.DataFrame:
    """What was known about each slot, frame of ``SIGNAL``.

    Parameters
    ----------
    open_ms : int64, contiguous slots of the interval, ms.
    substitutions : those in effect.
    """
    slots = _bars_on_slots(recorded, trade_bars(recorded.trades, interval), open_ms, interval)
    return _signal_of(recorded, slots, interval_ms(interval), tick_size, substitutions)


def _signal_of(
    recorded: Recorded, slots: pl.DataFrame, length: int, tick_size: float, substitutions: Substitutions
) -> pl.DataFrame:
    avail_ms, close = slots["avail_ms"].to_numpy(), slots["close"]
    instrument = _in_force(recorded.instruments, avail_ms)
    frame = pl.concat(
        [
            slots,
            _quotes(recorded, avail_ms, close, tick_size, substitutions),
            _marks(recorded, avail_ms, close, length, substitutions),
            _funding(recorded, avail_ms, instrument["funding_interval_hours"], substitutions),
            forced_sums(recorded.force_orders, slots["open_ms"].to_numpy(), length),
        ],
        how="horizontal",
    ).with_columns(
        open_time="open_ms",
        close_time=pl.col("open_ms") + length,
        avail_time="avail_ms",
        is_gap=close.is_null(),
        can_enter=close.is_not_null() & (instrument["status"] == "TRADING").fill_null(value=False),
    )
    return frame.select(list(SIGNAL)).cast(SIGNAL).with_columns(pl.col(pl.Float64).fill_null(np.nan))


def _bars_on_slots(recorded: Recorded, traded: pl.DataFrame, open_ms: np.ndarray, interval: str) -> pl.DataFrame:
    """open_ms, bar columns and avail_ms per slot: the recorded kline, else the bar from trades; nulls in a gap.

    A slot that a runner gave up is a gap from then on: it did not have the bar, whatever came later. Trades do not
    stand in for a bar that the ledger misses: who traded then would have asked for it in vain too, or may still.
    """
    length = interval_ms(interval)
    expected_ms = pl.col("open_ms") + length + KLINE_DELAY_MS
    # A clock that lags receives a bar before it closed.
    received = pl.max_horizontal(received_ms(), pl.col("open_ms") + length)
    open_of = pl.col("open_time").dt.epoch("ms")
    klines = recorded.klines.with_columns(open_ms=open_of).select(
        "open_ms",
        *_BAR_COLUMNS,
        known_ms=pl.when(pl.col("recv_time").is_not_null()).then(received).otherwise(expected_ms),
    )
    missed = _slots_in_gaps(recorded.gaps, open_ms)
    given_up = missed.filter("is_given_up").group_by("open_ms").agg(known_ms=pl.col("detected_ms").min())
    traded = (
        traded.with_columns(open_ms=open_of)
        .select("open_ms", *_BAR_COLUMNS, known_ms=pl.max_horizontal(pl.col("known_time").dt.epoch("ms"), expected_ms))
        .join(klines, on="open_ms", how="anti")
        .join(missed, on="open_ms", how="anti")
    )
    seen = pl.concat([klines, traded]).join(given_up, on="open_ms", how="anti")
    slots = pl.DataFrame({"open_ms": open_ms})
    bars = slots.join(pl.concat([seen, given_up], how="diagonal"), on="open_ms", how="left", maintain_order="left")
    # A late bar holds up the rows after it: a decision on row i needs every row up to i.
    return bars.select("open_ms", *_BAR_COLUMNS, avail_ms=pl.col("known_ms").fill_null(expected_ms).cum_max())


def _slots_in_gaps(gaps: pl.DataFrame, open_ms: np.ndarray) -> pl.DataFrame:
    """Slots inside gaps that the ledger's newest word does not call repaired: open_ms, detected_ms, is_given_up.

    A runner gives a bar up while it trades, at ``detected_ms``. What becomes of the gaps of a recording is found out
    long after, and told with the source that was asked.
    """
    newest = gaps.sort("detected_time", maintain_order=True).unique("gap_id", keep="last", maintain_order=True)
    known = newest.filter(pl.col("state") != "repaired").select(
        pl.col("from_time", "to_time", "detected_time").dt.epoch("ms").name.replace("_time$", "_ms"),
        is_given_up=(pl.col("state") == "unrepairable") & pl.col("repair_source").is_null(),
    )
    inside = pl.col("open_ms") > pl.col("from_ms"), pl.col("open_ms") < pl.col("to_ms")
    return pl.DataFrame({"open_ms": open_ms}).join_where(known, *inside)


def half_spread_bps(bid: Number, ask: Number) -> Number:
    """Half the spread as bps of the mid, of numbers or of columns."""
    return 1e4 * (ask - bid) / (ask + bid)


def _quotes(
    recorded: Recorded, avail_ms: np.ndarray, close: pl.Series, tick_size: float, substitutions: Substitutions
) -> pl.DataFrame:
    if substitutions.spread_ticks is not None:
        half_spread = substitutions.spread_ticks * tick_size / 2
        return pl.select(
            bid_price=close - half_spread,
            bid_quantity=None,
            ask_price=close + half_spread,
            ask_quantity=None,
            quote_age_ms=close * 0.0,
            half_spread_bps=1e4 * half_spread / close.forward_fill(),
        )
    bid, ask, age = pl.col("bid_price"), pl.col("ask_price"), pl.col("quote_age_ms")
    is_sound = (age <= MAX_QUOTE_AGE_MS) & (bid > 0.0) & (bid <= ask)
    return (
        last_known(by_known_time(recorded.quotes), avail_ms, REACH)
        .rename({"age_ms": "quote_age_ms"})
        .select(
            "bid_price",
            "bid_quantity",
            "ask_price",
            "ask_quantity",
            "quote_age_ms",
            half_spread_bps=pl.when(is_sound).then(half_spread_bps(bid, ask)).forward_fill(),
        )
    )


def _marks(
    recorded: Recorded, avail_ms: np.ndarray, close: pl.Series, length: int, substitutions: Substitutions
) -> pl.DataFrame:
    if substitutions.mark == "last":
        return pl.select(mark_price=close, index_price=close, mark_age_ms=close * 0.0, last_mark_ratio=1.0)
    return (
        last_known(known_marks(recorded, length), avail_ms, REACH)
        .rename({"age_ms": "mark_age_ms"})
        .with_columns(close=close)
        .select(
            "mark_price",
            "index_price",
            "mark_age_ms",
            last_mark_ratio=pl.when(pl.col("mark_age_ms") <= MAX_MARK_AGE_MS)
            .then(pl.col("close") / pl.col("mark_price"))
            .forward_fill()
            .fill_null(1.0),
        )
    )


def _funding(
    recorded: Recorded, avail_ms: np.ndarray, instrument_hours: pl.Series, substitutions: Substitutions
) -> pl.DataFrame:
    streamed = last_known(by_known_time(recorded.marks.drop_nulls("funding_rate")), avail_ms, REACH)
    settled = last_known(recorded.funding.with_columns(known_ms=event_ms()), avail_ms, timedelta.max)
    rate_bps, hours = substitutions.funding_rate_bps, substitutions.funding_interval_hours
    return pl.select(
        funding_rate=pl.coalesce(
            streamed["funding_rate"], settled["funding_rate"], None if rate_bps is None else rate_bps / 1e4
        ),
        funding_interval_hours=pl.coalesce(settled["interval_hours"], instrument_hours, hours),
    )


def _in_force(instruments: pl.DataFrame, at_ms: np.ndarray) -> pl.DataFrame:
    rows = instruments.select("status", "funding_interval_hours", known_ms=event_ms())
    return last_known(rows, at_ms, timedelta.max)


def _refuse_grid_change(
    instruments: pl.DataFrame, symbol: str, start: datetime, end: datetime, instrument: Mapping[str, Any]
) -> None:
    inside = instruments.filter(pl.col("event_time").is_between(start, end, closed="left"))
    for name in ("tick_size", "step_size"):
        changed = inside.filter(pl.col(name) != instrument[name])
        if len(changed):
            moment, size = changed["event_time"][0], changed[name][0]
            raise ValueError(
                f"{name} of {symbol} changes from {instrument[name]:g} to {size:g} at {moment:%Y-%m-%d %H:%M}: "
                "build the bars before and after it separately"
            )


def substitutions_in_effect(
    substitutions: Substitutions, recorded: Recorded, symbol: str, instrument: Mapping[str, Any]
) -> Substitutions:
    """The substitutions that act on these rows, with the instrument's own funding interval where it tells one."""
    acting = _with_own_interval(substitutions.in_effect(recorded), instrument)
    if acting.funding_rate_bps is not None and acting.funding_interval_hours is None:
        raise ValueError(
            f"substitutions: funding_rate_bps needs funding_interval_hours, the instrument {symbol} does not tell it"
        )
    return acting


def _with_own_interval(substitutions: Substitutions, instrument: Mapping[str, Any]) -> Substitutions:
    hours = instrument["funding_interval_hours"] or substitutions.funding_interval_hours
    return replace(substitutions, funding_interval_hours=hours)


def _nothing_seen(lake: "Lake", symbol: str, start: datetime, end: datetime, venue: str) -> str:
    spans = [span for table in ("klines", "trades") if (span := lake.span(table, symbol, venue))]
    held = "nothing of this symbol"
    if spans:
        held = f"{min(first for first, _ in spans):%Y-%m-%d %H:%M} to {max(last for _, last in spans):%Y-%m-%d %H:%M}"
    return (
        f"no klines or trades for {symbol} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}: the lake has {held}; "
        "record with `aster record` or bring in that range with `aster import`, or change start and end"
    )


def _sentences(recorded: Recorded, acting: Substitutions) -> tuple[str, ...]:
    sentences = []
    if acting.spread_ticks is not None:
        unit = "tick" if acting.spread_ticks == 1.0 else "ticks"
        sentences.append(f"no quotes recorded: spread of {acting.spread_ticks:g} {unit} assumed")
    if acting.mark == "last":
        sentences.append("no mark recorded: the last price taken for mark and index")
    if acting.funding_rate_bps is not None:
        rate_bps, hours = acting.funding_rate_bps, acting.funding_interval_hours
        sentences.append(f"no funding recorded: {rate_bps:g} bps every {hours:g} h assumed")
    elif not recorded.has_funding:
        sentences.append("no funding recorded: none is paid")
    return tuple(sentences)
