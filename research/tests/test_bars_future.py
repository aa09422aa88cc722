"""No row knows what came after it: the future is scrambled, then cut, and nothing before it changes."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data import schema
from research.bars import Recorded, Substitutions, signal_bars
from research.execution_bars import execution_bars

MINUTE = 60_000
NOON = 1_764_331_200_000
N_MINUTES = 40
LATENCY_MS = 250
event_ms = pl.col("event_time").dt.epoch("ms")
PRICES = ("open", "high", "low", "close", "price", "bid_price", "ask_price", "mark_price", "index_price")
QUANTITIES = ("volume", "quote_volume", "quantity", "bid_quantity", "ask_quantity", "funding_rate", "interval_hours")


def recording(seed: int) -> Recorded:
    """Forty minutes of everything, with holes in everything."""
    rng = np.random.default_rng(seed)
    end_ms = N_MINUTES * MINUTE

    def moments(count: int) -> np.ndarray:
        return NOON + np.sort(rng.integers(-5 * MINUTE, end_ms + 5 * MINUTE, count))

    def received(times: np.ndarray) -> list[int | None]:
        at = (times + rng.integers(5, 900, len(times))) * 1_000_000 + rng.integers(0, 1_000_000, len(times))
        return [None if rng.random() < 0.1 else int(ns) for ns in at]

    def walk(count: int) -> np.ndarray:
        return 100.0 + np.cumsum(rng.normal(0.0, 0.05, count))

    def keep(frame: pl.DataFrame, share: float) -> pl.DataFrame:
        return frame.filter(pl.Series(rng.random(len(frame)) < share))

    def klines(table: schema.Table, share: float) -> pl.DataFrame:
        open_ms = NOON + np.arange(-5, N_MINUTES + 5) * MINUTE
        close = walk(len(open_ms))
        columns = {"open_time": open_ms, "open": close - 0.01, "high": close + 0.1, "low": close - 0.1, "close": close}
        if table is schema.KLINES:
            volume = rng.random(len(close))
            columns |= {"volume": volume, "quote_volume": volume * 100.0, "recv_time": received(open_ms + MINUTE)}
        return keep(schema.conform(pl.DataFrame(columns).with_columns(source=pl.lit("ws")), table), share)

    times = moments(1_200)
    trades = schema.conform(
        pl.DataFrame(
            {
                "agg_trade_id": np.arange(len(times)),
                "event_time": times,
                "recv_time": received(times),
                "price": walk(len(times)),
                "quantity": rng.random(len(times)),
                "is_buyer_maker": rng.random(len(times)) < 0.5,
            }
        ),
        schema.TRADES,
    )
    times = moments(2_000)
    bid = walk(len(times))
    quotes = {"event_time": times, "recv_time": received(times), "bid_price": bid, "ask_price": bid + 0.1}
    quotes |= {"bid_quantity": rng.random(len(bid)), "ask_quantity": rng.random(len(bid))}
    times = moments(1_500)
    marks = {"event_time": times, "recv_time": received(times), "mark_price": walk(len(times))}
    marks |= {"index_price": walk(len(times)), "funding_rate": rng.normal(0, 1e-4, len(times))}
    funding = {"event_time": moments(6), "funding_rate": rng.normal(0, 1e-4, 6), "interval_hours": rng.random(6)}
    lost_ms = NOON + np.array([7, 21]) * MINUTE
    lost = {"gap_id": ["a", "b"], "state": ["unrepairable"] * 2, "from_time": lost_ms, "to_time": lost_ms + 3 * MINUTE}
    lost["detected_time"] = lost_ms + 3 * MINUTE + 41_000
    status = {"event_time": [NOON - 10 * MINUTE, NOON + 30 * MINUTE], "status": ["TRADING", "SETTLING"]}
    return Recorded(
        klines=klines(schema.KLINES, 0.5),
        trades=keep(trades, 0.995),
        quotes=schema.conform(pl.DataFrame(quotes), schema.BOOK_TICKER),
        marks=keep(schema.conform(pl.DataFrame(marks), schema.MARK_PRICE), 0.98),
        mark_klines=klines(schema.MARK_KLINES, 0.8),
        index_klines=klines(schema.INDEX_KLINES, 0.8),
        funding=schema.conform(pl.DataFrame(funding), schema.FUNDING),
        instruments=schema.conform(pl.DataFrame(status), schema.INSTRUMENTS),
        gaps=schema.conform(pl.DataFrame(lost), schema.GAPS),
    )


def known(table: str) -> pl.Expr:
    """When a row of the table was known, in ms."""
    if table == "gaps":
        return pl.col("detected_time").dt.epoch("ms")
    happened_ms = pl.col("open_time").dt.epoch("ms") + MINUTE if table.endswith("klines") else event_ms
    if table in ("funding", "instruments"):
        return happened_ms
    return pl.coalesce((pl.col("recv_time").dt.epoch("ns") / 1e6).ceil().cast(pl.Int64), happened_ms)


def after(recorded: Recorded, is_future, change) -> Recorded:
    """The recording with ``change`` done to the rows that ``is_future(table)`` marks."""
    changed = {}
    for table, frame in vars(recorded).items():
        future = is_future(table)
        changed[table] = pl.concat([frame.filter(~future), change(frame.filter(future))]) if len(frame) else frame
    ordered = {"trades": ["event_time", "agg_trade_id"]}
    return Recorded(
        **{
            table: frame.sort(
                ordered.get(table)
                or [name for name in ("open_time", "event_time", "detected_time") if name in frame.columns]
            )
            for table, frame in changed.items()
        }
    )


def scrambled(frame: pl.DataFrame) -> pl.DataFrame:
    """Every number replaced; times and ids stay."""
    rng = np.random.default_rng(len(frame))
    names = [name for name in (*PRICES, *QUANTITIES) if name in frame.columns]
    noise = {name: pl.Series(rng.uniform(1.0, 1e6, len(frame)), dtype=pl.Float64) for name in names}
    return frame.with_columns(**noise)


def cut(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.clear()


def signal(recorded: Recorded) -> pl.DataFrame:
    open_ms = NOON + np.arange(N_MINUTES) * MINUTE
    return signal_bars(recorded, open_ms, interval="1m", tick_size=0.1, substitutions=Substitutions())


@pytest.mark.parametrize("change", [scrambled, cut])
@pytest.mark.parametrize("seed", range(3))
def test_a_signal_row_knows_nothing_that_came_after_it(seed, change):
    recorded = recording(seed)
    whole = signal(recorded)
    assert 0 < whole["is_gap"].sum() < N_MINUTES / 2
    for row in range(0, N_MINUTES, 3):
        avail_ms = int(whole["avail_time"].dt.epoch("ms")[row])
        past = after(recorded, lambda table, now=avail_ms: known(table) > now, change)
        assert_frame_equal(signal(past)[: row + 1], whole[: row + 1], check_exact=True)


@pytest.mark.parametrize("seed", range(3))
def test_an_execution_bar_holds_nothing_from_after_its_end(seed):
    recorded = recording(seed)
    bars = signal(recorded)

    def executed(changed: Recorded) -> pl.DataFrame:
        return execution_bars(bars, changed, latency_ms=LATENCY_MS, substitutions=Substitutions())

    whole = executed(recorded)
    assert whole["exec_open"].is_nan().sum() < N_MINUTES / 2
    for row in range(1, N_MINUTES, 3):
        end_ms = int(whole["exec_time"].dt.epoch("ms")[row])

        def is_future(table: str, end_ms: int = end_ms) -> pl.Expr:
            if table == "trades":
                return event_ms >= end_ms
            return known(table) >= end_ms if table == "marks" else known(table) > end_ms

        assert_frame_equal(executed(after(recorded, is_future, scrambled))[:row], whole[:row], check_exact=True)


@pytest.mark.parametrize("seed", range(3))
def test_every_window_holds_exactly_the_trades_inside_it(seed):
    recorded = recording(seed)
    trades = recorded.trades.with_columns(agg_trade_id=pl.int_range(pl.len()))  # nothing is missing
    recorded = Recorded(trades=trades, klines=recorded.klines)
    execution = execution_bars(signal(recorded), recorded, latency_ms=LATENCY_MS, substitutions=Substitutions())
    ends = execution["exec_time"].to_list()
    for row, bar in enumerate(execution[:-1].iter_rows(named=True)):
        prices = trades.filter((pl.col("event_time") >= ends[row]) & (pl.col("event_time") < ends[row + 1]))["price"]
        if prices.is_empty():
            prices = trades.filter(pl.col("event_time") < ends[row])["price"].tail(1)
        expected = (prices[0], prices.max(), prices.min(), prices[-1])
        assert (bar["exec_open"], bar["exec_high"], bar["exec_low"], bar["exec_close"]) == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_quote_of_a_row_is_the_last_one_received(seed):
    recorded = recording(seed)
    quotes = recorded.quotes.with_columns(known=known("quotes"))
    for bar in signal(recorded).iter_rows(named=True):
        now = round(bar["avail_time"].timestamp() * 1_000)
        seen = quotes.filter(pl.col("known") <= now).sort("known", maintain_order=True).row(-1, named=True)
        assert (bar["bid_price"], bar["ask_quantity"]) == (seen["bid_price"], seen["ask_quantity"])
        assert bar["quote_age_ms"] == now - seen["known"]
