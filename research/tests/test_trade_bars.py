from datetime import UTC, datetime

import polars as pl
import pytest

from data import schema
from data.convert import import_path
from data.lake import Lake
from research.trade_bars import TRADE_BARS, trade_bars

MINUTE = 60_000
NOON = 1_764_331_200_000  # 2025-11-28 12:00 UTC


def trades(*prints: tuple[int, int, float, float, bool], **columns) -> pl.DataFrame:
    """Trades as (id, ms after noon, price, quantity, aggressor sold)."""
    ids, times, prices, quantities, sold = zip(*prints, strict=True)
    return schema.conform(
        pl.DataFrame(
            {
                "agg_trade_id": ids,
                "event_time": [NOON + ms for ms in times],
                "price": prices,
                "quantity": quantities,
                "is_buyer_maker": sold,
                **columns,
            }
        ),
        schema.TRADES,
    )


BEFORE, AFTER = (1, -1, 9.0, 1.0, False), (5, 60_000, 8.0, 1.0, False)


def test_a_bar_sums_up_its_trades():
    inside = [(2, 0, 10.0, 1.0, False), (3, 30_000, 12.0, 2.0, True), (4, 59_999, 11.0, 3.0, False)]
    bar = trade_bars(trades(BEFORE, *inside, AFTER)).row(0, named=True)
    assert bar == {
        "open_time": datetime(2025, 11, 28, 12, tzinfo=UTC),
        "open": 10.0,
        "high": 12.0,
        "low": 10.0,
        "close": 11.0,
        "volume": 6.0,
        "quote_volume": 67.0,
        "trade_count": 3,
        "taker_buy_volume": 4.0,
        "first_agg_trade_id": 2,
        "last_agg_trade_id": 4,
        "known_time": datetime(2025, 11, 28, 12, 1, tzinfo=UTC),
    }


def test_a_minute_without_trades_is_flat_at_the_last_price():
    bar = trade_bars(trades(BEFORE, (2, 60_000, 8.0, 1.0, False))).row(0, named=True)
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (9.0, 9.0, 9.0, 9.0)
    assert (bar["volume"], bar["trade_count"], bar["first_agg_trade_id"], bar["last_agg_trade_id"]) == (
        0.0,
        0,
        None,
        None,
    )


def opened(*prints: tuple[int, int]) -> list[int]:
    """Minutes after noon that become bars, from trades as (id, ms after noon)."""
    bars = trade_bars(trades(*((number, ms, 10.0, 1.0, False) for number, ms in prints)))
    return ((bars["open_time"].dt.epoch("ms") - NOON) // MINUTE).to_list()


def test_the_minutes_of_the_first_and_the_last_trade_are_not_proven():
    assert opened((1, 1_000), (2, 70_000), (3, 130_000)) == [1]
    assert opened((1, 0), (2, 60_000), (3, 120_000)) == [1]  # others may have printed in the very first millisecond


def test_every_minute_a_hole_in_the_ids_touches_is_left_out():
    hole = [(3, 70_000), (7, 190_000)]
    assert opened((1, -1), (2, 1_000), *hole, (8, 250_000), (9, 301_000)) == [0, 4]
    assert opened((1, -1), (3, 60_000), (4, 120_000)) == []  # the missing one may have printed at 60,000 ms
    assert opened((1, -1), (4, 10_000), (6, 20_000), (7, 60_000), (8, 130_000), (3, 200_000), (9, 301_000)) == [4]


def test_ids_out_of_order_in_time_are_no_hole():
    assert opened((1, -1), (3, 1_000), (2, 1_001), (4, 60_000)) == [0]


def test_a_trade_that_may_repeat_others_does_not_count():
    mixed = trades(BEFORE, (2, 0, 10.0, 1.0, False), (900, 5, 99.0, 9.0, False), (3, 60_000, 8.0, 1.0, False))
    bars = trade_bars(mixed.with_columns(is_ambiguous=pl.col("agg_trade_id") == 900))
    assert bars.select("high", "volume").rows() == [(10.0, 1.0)]


def test_no_trades_make_no_bars():
    assert trade_bars(schema.TRADES.empty()).equals(TRADE_BARS.to_frame())
    assert opened((1, 1_000)) == []


def test_bars_from_recorded_trades_are_the_exchanges_klines(real_data, tmp_path):
    folder = real_data / "collector-2025-11-28"
    lake = Lake(tmp_path / "lake", create=True)
    import_path(lake, folder, format="collector")
    bars = trade_bars(lake.scan("trades", symbols=["BNBUSDT"]))
    golden = (
        pl.read_csv(folder / "golden_BNBUSDT_1m_trades_vs_klines.csv")
        .filter(pl.col("ohlc_eq") & pl.col("vol_eq") & pl.col("tb_eq"))
        .unique("open_time")
        .with_columns(pl.col("open_time").cast(schema.TIME_MS))
    )
    both = golden.join(bars, on="open_time", suffix="_built")
    assert len(golden) == len(both) == 54
    for name in ("open", "high", "low", "close"):
        assert both[name].to_list() == both[f"{name}_built"].to_list()
    assert both["volume_built"].to_list() == pytest.approx(both["volume"].to_list(), rel=1e-12)
    assert both["taker_buy_volume"].to_list() == pytest.approx(both["taker_buy_base"].to_list(), rel=1e-12)
    assert both["quote_volume_built"].to_list() == pytest.approx(both["quote_volume"].to_list(), rel=1e-9)
    print(f"bars from trades equal the exchange's klines in all {len(both)} covered minutes")
