"""What maps are made of, read from the lake."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from data.convert import import_path
from data.lake import Lake
from data.schema import TABLES, TIME_NS
from research.clusters import inputs
from research.clusters.inputs import Unavailable, source_bars

START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
START_MS = int(START.timestamp() * 1_000)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def put(lake: Lake, table: str, time: str, *rows: dict, venue: str = "aster", symbol: str = "BTCUSDT") -> None:
    """Rows with ``at`` (and ``recv``) in seconds after START for ``time`` (and ``recv_time``)."""
    made = [
        {
            **{name: value for name, value in row.items() if name not in ("at", "recv")},
            time: START + timedelta(seconds=row["at"]),
            **({"recv_time": START + timedelta(seconds=row["recv"])} if "recv" in row else {}),
        }
        for row in rows
    ]
    frame = pl.DataFrame(made).with_columns(venue=pl.lit(venue), symbol=pl.lit(symbol), source=pl.lit("import"))
    lake.append(table, frame.cast({pl.Datetime: TIME_NS}), origin="test")


def kline(at: float, low: float, high: float, close: float, **more) -> dict:
    return {"at": at, "interval": "1m", "open": close, "high": high, "low": low, "close": close, **more}


def interest(at: float, base: float, **more) -> dict:
    return {"at": at, "open_interest": base, **more}


def minutes(count: int) -> datetime:
    return START + count * MINUTE


def since_start(ms: np.ndarray) -> list[float]:
    """Seconds after START."""
    return ((ms - START_MS) / 1_000).tolist()


def test_asters_bars_are_its_mark_klines_with_the_volume_of_its_trades(lake):
    put(lake, "mark_klines", "open_time", kline(0, 99.0, 101.0, 100.0), kline(60, 99.5, 102.0, 101.0))
    put(lake, "klines", "open_time", kline(0, 90.0, 110.0, 100.0, volume=3.0, quote_volume=301.0),
        kline(60, 90.0, 110.0, 100.0, volume=2.0))  # fmt: skip
    put(lake, "open_interest", "event_time", interest(-30, 7.0))
    bars = source_bars(lake, "BTCUSDT", "aster", START, minutes(2))
    assert (bars.mark_low.tolist(), bars.mark_high.tolist()) == ([99.0, 99.5], [101.0, 102.0])
    assert bars.volume_usdt.tolist() == [301.0, 200.0]
    assert since_start(bars.time_ms) == [60.0, 120.0]
    assert since_start(bars.avail_ms) == [61.0, 121.0]
    assert bars.substituted == ()


def test_a_minute_without_a_mark_kline_is_made_of_the_stream(lake):
    put(lake, "mark_klines", "open_time", kline(0, 99.0, 101.0, 100.0))
    streamed = [(61, 100.0, 61.2), (80, 98.0, 80.2), (119, 99.0, 119.2), (119.9, 50.0, 121.5)]
    put(
        lake, "mark_price", "event_time", *({"at": at, "mark_price": mark, "recv": recv} for at, mark, recv in streamed)
    )
    put(lake, "open_interest", "event_time", interest(-30, 7.0))
    bars = source_bars(lake, "BTCUSDT", "aster", START, minutes(2))
    assert bars.mark_close.tolist() == [100.0, 99.0]  # the last one came after the bar was used
    assert (bars.mark_low[1], bars.mark_high[1]) == (98.0, 100.0)


def test_bars_begin_with_the_first_mark_and_a_minute_nobody_saw_is_nan(lake):
    put(lake, "mark_klines", "open_time", kline(60, 99.0, 101.0, 100.0), kline(180, 99.0, 101.0, 100.0))
    put(lake, "open_interest", "event_time", interest(-30, 7.0))
    bars = source_bars(lake, "BTCUSDT", "aster", START, minutes(4))
    np.testing.assert_array_equal(bars.mark_close, [100.0, np.nan, 100.0])
    assert since_start(bars.avail_ms) == [121.0, 183.0, 241.0]  # an unseen minute is waited for
    begun = source_bars(lake, "BTCUSDT", "aster", START, minutes(4), begun=True)
    np.testing.assert_array_equal(begun.mark_close, [np.nan, 100.0, np.nan, 100.0])
    unseen = source_bars(lake, "BTCUSDT", "aster", minutes(9), minutes(11), begun=True)
    assert np.isnan(unseen.mark_close).tolist() == [True, True]
    assert unseen.open_interest.tolist() == [7.0, 7.0]


def test_open_interest_counts_from_its_receipt_or_a_minute_after_its_stamp(lake):
    put(lake, "mark_klines", "open_time", *(kline(60 * i, 99.0, 101.0, 100.0) for i in range(4)))
    put(lake, "open_interest", "event_time", interest(0, 5.0), interest(60, 6.0, recv=110.0), interest(125, 7.0),
        interest(100, 8.0, recv=185.0))  # fmt: skip
    bars = source_bars(lake, "BTCUSDT", "aster", START, minutes(4))
    # the second was received at 110; the third is known at 185; the last tells of before the third
    assert bars.open_interest.tolist() == [5.0, 6.0, 6.0, 7.0]
    assert bars.is_new.tolist() == [True, True, False, True]
    assert since_start(bars.open_interest_ms) == [0.0, 60.0, 60.0, 125.0]


def test_open_interest_of_more_than_a_day_ago_counts_no_more(lake):
    day = 86_400.0
    put(lake, "mark_klines", "open_time", *(kline(60 * i, 99.0, 101.0, 100.0) for i in range(4)))
    put(lake, "open_interest", "event_time", interest(125 - day, 5.0))
    bars = source_bars(lake, "BTCUSDT", "aster", START, minutes(4))
    np.testing.assert_array_equal(bars.open_interest, [5.0, 5.0, np.nan, np.nan])
    assert (bars.open_interest_ms[2:] == -1).all()
    whole = source_bars(lake, "BTCUSDT", "aster", START - timedelta(days=2), minutes(4), begun=True)
    np.testing.assert_array_equal(whole.open_interest[-4:], bars.open_interest)


def test_klines_stand_in_for_another_venues_mark_and_it_is_said(lake):
    put(lake, "klines", "open_time", kline(0, 99.0, 101.0, 100.0, quote_volume=5.0, recv=62.0), venue="binance")
    put(lake, "open_interest", "event_time", interest(-90, 7.0), venue="binance")
    bars = source_bars(lake, "BTCUSDT", "binance", START, minutes(1))
    assert (bars.source, bars.mark_high.tolist(), bars.volume_usdt.tolist()) == ("binance", [101.0], [5.0])
    assert since_start(bars.avail_ms) == [62.0]
    assert bars.substituted == ("no mark price of binance is recorded: high, low and close of its klines stand in",)


def test_before_a_venues_own_klines_asters_mark_stands_in_and_it_is_said(lake):
    put(lake, "mark_klines", "open_time", kline(0, 99.0, 101.0, 100.0), kline(60, 99.0, 101.0, 100.0))
    put(lake, "open_interest", "event_time", interest(-90, 7.0), venue="hyperliquid")
    bars = source_bars(lake, "BTCUSDT", "hyperliquid", START, minutes(2))
    assert bars.mark_close.tolist() == [100.0, 100.0]
    assert np.isnan(bars.volume_usdt).all()
    assert bars.substituted == (
        "no klines of hyperliquid are recorded to begin with: Aster's mark stands in for its mark",
    )
    put(lake, "klines", "open_time", kline(60, 96.0, 98.0, 97.0), venue="hyperliquid")
    both = source_bars(lake, "BTCUSDT", "hyperliquid", START, minutes(2))
    assert both.mark_close.tolist() == [100.0, 97.0]
    assert len(both.substituted) == 2


def test_another_multiple_of_the_asset_keeps_its_own_units(lake):
    put(lake, "mark_klines", "open_time", kline(0, 9.9, 10.1, 10.0), symbol="1000PEPEUSDT")
    put(lake, "open_interest", "event_time", interest(-90, 7.0), venue="okx", symbol="PEPEUSDT")
    bars = source_bars(lake, "1000PEPEUSDT", "okx", START, minutes(1))
    assert (bars.symbol, bars.mark_close[0]) == ("PEPEUSDT", pytest.approx(0.01))


def test_without_real_input_there_are_no_bars_and_the_reason_is_told(lake):
    none = source_bars(lake, "BTCUSDT", "aster", START, minutes(2))
    assert none == Unavailable(reason="no open interest of BTCUSDT at aster in the lake")
    put(lake, "open_interest", "event_time", interest(-90, 7.0))
    assert source_bars(lake, "BTCUSDT", "aster", START, minutes(2)) == Unavailable(
        reason="no mark price or klines of BTCUSDT at aster from 2026-01-05 00:00 to 2026-01-05 00:02 UTC"
    )
    put(lake, "mark_klines", "open_time", kline(-86_400 * 3, 99.0, 101.0, 100.0))
    early = source_bars(lake, "BTCUSDT", "aster", START - timedelta(days=3), START - timedelta(days=2))
    assert early.reason.startswith("no open interest of BTCUSDT at aster from 2026-01-02")
    assert inputs.marks(lake, "ETHUSDT", START, minutes(2)).reason.startswith("no mark price of ETHUSDT at aster")


def test_an_unknown_source_and_an_empty_range_are_refused(lake):
    with pytest.raises(ValueError, match="unknown source 'bybit'; expected one of aster, binance"):
        source_bars(lake, "BTCUSDT", "bybit", START, minutes(2))
    put(lake, "open_interest", "event_time", interest(-90, 7.0))
    with pytest.raises(ValueError, match="no minute opens from"):
        source_bars(lake, "BTCUSDT", "aster", START, START)


def test_marks_have_a_row_for_every_minute_somebody_saw(lake):
    put(lake, "mark_klines", "open_time", kline(0, 99.0, 101.0, 100.0), kline(120, 98.0, 99.0, 98.5))
    marks = inputs.marks(lake, "BTCUSDT", START, minutes(3))
    assert marks.schema == inputs.MARKS
    assert since_start(marks["ts"].dt.epoch("ms").to_numpy()) == [60.0, 180.0]
    assert marks.select("mark_high", "mark_low", "mark_close").rows() == [(101.0, 99.0, 100.0), (99.0, 98.0, 98.5)]


def test_a_liquidation_is_known_at_its_receipt_or_a_second_later(lake):
    order = {"side": "SELL", "quantity": 1.0, "price": 99.0, "average_price": 100.0, "filled_quantity": 1.0}
    put(lake, "force_orders", "event_time", {"at": 10, **order, "recv": 12.5}, {"at": 11, **order},
        {"at": 20, **order, "recv": 19.0})  # fmt: skip
    orders = inputs.liquidations(lake, "BTCUSDT", START, minutes(1))
    assert since_start(orders["avail_time"].dt.epoch("ms").to_numpy()) == [12.0, 12.5, 20.0]
    assert orders["side"].to_list() == ["SELL"] * 3
    assert inputs.liquidations(lake, "BTCUSDT", START, minutes(1), venue="binance").is_empty()


def test_ratios_and_funding_are_known_after_their_stamp(lake):
    for venue in ("okx", "binance"):
        put(lake, "ratios", "event_time", {"at": 0, "kind": "taker_buy_sell", "value": 2.0}, venue=venue)
    put(lake, "funding", "event_time", {"at": -3_600, "funding_rate": 1e-4, "interval_hours": 8.0}, venue="okx")
    for venue, known in (("okx", 60.0), ("binance", 360.0)):
        ratios = inputs.ratios(lake, "BTCUSDT", venue, START, minutes(1))
        assert since_start(ratios["avail_time"].dt.epoch("ms").to_numpy()) == [known]
    funding = inputs.funding(lake, "BTCUSDT", "okx", START, minutes(1))
    assert since_start(funding["avail_time"].dt.epoch("ms").to_numpy()) == [-3_540.0]


def test_a_ratio_that_is_told_after_a_newer_one_is_no_news(lake):
    rows = (
        {"at": 0, "kind": "taker_buy_sell", "value": 3.0},  # missed, and repaired later: known after six minutes
        {"at": 0, "kind": "long_short_accounts", "value": 1.5},
        {"at": 300, "kind": "taker_buy_sell", "value": 2.0, "recv": 330.0},
    )
    put(lake, "ratios", "event_time", *rows, venue="binance")
    found = inputs.ratios(lake, "BTCUSDT", "binance", START, minutes(10))
    assert found.select("kind", "value").rows() == [("taker_buy_sell", 2.0), ("long_short_accounts", 1.5)]


def test_what_was_not_known_yet_changes_no_bar(lake, tmp_path):
    rng = np.random.default_rng(5)
    streams = {"mark_klines": [], "klines": [], "mark_price": [], "open_interest": []}
    for minute in range(12):
        at, price = 60.0 * minute, 100.0 + rng.normal()
        late = at + 60.0 + rng.choice([0.4, 0.9, 1.6, 2.9, 3.5, 200.0])
        streams["klines"].append(kline(at, price - 1, price + 1, price, quote_volume=price, recv=late))
        if rng.random() < 0.5:
            streams["mark_klines"].append(kline(at, price - 1, price + 1, price, recv=late - 0.3))
        for second in rng.uniform(0, 60, 3):
            recv = at + second + rng.choice([0.1, 0.9, 4.0])
            streams["mark_price"].append({"at": round(at + second, 3), "mark_price": price, "recv": recv})
        recv = at + rng.choice([0.2, 70.0, 130.0])
        streams["open_interest"].append(interest(at, 5.0 + minute, recv=recv))
    times = {name: TABLES[name].time for name in streams}
    for name, rows in streams.items():
        put(lake, name, times[name], *rows)
    whole = source_bars(lake, "BTCUSDT", "aster", START, minutes(12))
    assert len(set(np.diff(whole.avail_ms))) > 2
    for cut in (3, 7, 10):
        until = (whole.avail_ms[cut] - START_MS) / 1_000
        then = Lake(tmp_path / f"lake{cut}", create=True)
        for name, rows in streams.items():
            put(then, name, times[name], *(row for row in rows if row["recv"] <= until))
        known = source_bars(then, "BTCUSDT", "aster", START, minutes(12))
        for field in fields(known):
            values = getattr(known, field.name)
            if isinstance(values, np.ndarray):
                np.testing.assert_array_equal(
                    values[: cut + 1], getattr(whole, field.name)[: cut + 1], err_msg=field.name
                )


def test_the_synthetic_markets_marks_come_from_its_stream(synthetic_lake, synthetic_spec):
    start, end = synthetic_spec.start, synthetic_spec.start + timedelta(hours=2)
    bars = source_bars(synthetic_lake, "BTCUSDT", "aster", start, end)
    assert len(bars) == 120
    assert np.isfinite(bars.mark_close).all()
    assert (bars.mark_low <= bars.mark_close).all()
    assert (bars.mark_close <= bars.mark_high).all()
    assert bars.is_new[1:].mean() > 0.9


def test_the_real_okx_history_makes_bars(lake, real_data, tmp_path):
    folder = tmp_path / "okx-SOLUSDT"
    folder.mkdir()
    start, end = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 3, tzinfo=UTC)
    for name in ("ohlcv_1m", "open_interest"):
        whole = pl.read_parquet(real_data / "okx-SOLUSDT" / f"{name}.parquet")
        whole.filter(pl.col("ts") < end.timestamp() * 1_000).write_parquet(folder / f"{name}.parquet")
    import_path(lake, folder, format="okx")
    bars = source_bars(lake, "SOLUSDT", "okx", start, end)
    assert len(bars) == 2 * 1_440
    assert bars.is_new.sum() == 2 * 24
    assert np.isfinite(bars.open_interest).all()
    assert np.isfinite(bars.mark_close).all()
    assert (bars.open_interest_ms + 60_000 <= bars.avail_ms).all()
    assert 2e6 < bars.open_interest.min() < bars.open_interest.max() < 6e6
