from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from data.table import TIME_MS
from research.clusters.outcomes import Question, band_of, living, marks_of, orders_of, outcomes

MINUTE_MS = 60_000
QUESTION = Question(horizon_s=300, min_print_usdt=100.0)


def marks_frame(close, symbol="BTCUSDT") -> pl.DataFrame:
    close = np.asarray(close, float)
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(close),
            "ts": pl.Series(MINUTE_MS * np.arange(1, len(close) + 1)).cast(TIME_MS),
            "mark_high": close,
            "mark_low": close,
            "mark_close": close,
        }
    )


def cluster_rows(*rows) -> pl.DataFrame:
    """(minute, cluster_id, side, price_lo, price_hi) each."""
    minute, cluster_id, side, low, high = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "symbol": ["BTCUSDT"] * len(rows),
            "avail_time": pl.Series([m * MINUTE_MS + 1_000 for m in minute]).cast(TIME_MS),
            "cluster_id": list(cluster_id),
            "side": list(side),
            "price_lo": list(low),
            "price_hi": list(high),
            "available": [True] * len(rows),
        }
    )


def order_rows(*rows) -> pl.DataFrame:
    """(second, side, price, usdt) each."""
    second, side, price, usdt = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "event_time": pl.Series([s * 1_000 for s in second]).cast(TIME_MS),
            "side": list(side),
            "average_price": [float(p) for p in price],
            "filled_quantity": [u / p for u, p in zip(usdt, price, strict=True)],
        }
    )


FIRST = (0, "BUY", 500.0, 1.0)  # somebody records forced orders from the start on
FALL = [100, 100, 99, 98, 97, 97, 97, 97, 97, 97, 97]


def test_a_long_cluster_is_touched_when_the_mark_falls_to_its_upper_edge():
    rows = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks_frame(FALL)), None, QUESTION)
    assert rows["touch_time"].to_list() == [datetime(1970, 1, 1, 0, 4, tzinfo=UTC)]
    assert rows["is_touched"].to_list() == [True]
    assert rows["distance"][0] == pytest.approx(np.log(100 / 98.5))


def test_a_sell_order_inside_a_touched_long_cluster_liquidates_it():
    orders = orders_of(order_rows(FIRST, (210, "SELL", 98.0, 150.0), (220, "SELL", 98.1, 50.0)))
    rows = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks_frame(FALL)), orders, QUESTION)
    assert rows["is_liquidated"].to_list() == [True]
    assert rows["realised_usdt"][0] == pytest.approx(200.0)
    assert rows["prints"].to_list() == [1]


@pytest.mark.parametrize(
    "order",
    [(210, "BUY", 98.0, 150.0), (210, "SELL", 99.0, 150.0), (30, "SELL", 98.0, 150.0), (210, "SELL", 98.0, 99.0)],
    ids=["other side", "outside", "before the row", "too small"],
)
def test_other_orders_do_not(order):
    orders = orders_of(order_rows(FIRST, order))
    rows = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks_frame(FALL)), orders, QUESTION)
    assert rows["is_liquidated"].to_list() == [False]


def test_a_cluster_nobody_reaches_is_neither_touched_nor_judged_further():
    orders = orders_of(order_rows(FIRST))
    rows = outcomes(cluster_rows((1, 0, "short", 101.0, 102.0)), marks_of(marks_frame(FALL)), orders, QUESTION)
    assert (rows["is_touched"].to_list(), rows["is_liquidated"].to_list()) == ([False], [None])


def test_an_outcome_is_unknown_until_its_window_and_the_late_reports_are_over():
    marks = marks_frame(FALL)
    early = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks.head(7)), None, QUESTION)
    late = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks.head(8)), None, QUESTION)
    assert (early["is_touched"].to_list(), early["known_time"].to_list()) == ([None], [None])
    # Asked at 1:01, over at 6:01, settled at 7:01: known with the bar that closes at 8:00, a second later.
    assert late["known_time"].to_list() == [datetime(1970, 1, 1, 0, 8, 1, tzinfo=UTC)]


def test_nothing_is_known_of_liquidations_before_anybody_recorded_them():
    orders = orders_of(order_rows((210, "SELL", 98.0, 150.0)))
    rows = outcomes(cluster_rows((1, 0, "long", 96.0, 98.5)), marks_of(marks_frame(FALL)), orders, QUESTION)
    assert rows["is_liquidated"].to_list() == [None]


def test_a_window_full_of_holes_is_not_judged():
    close = np.array(FALL, float)
    close[2:5] = np.nan
    rows = outcomes(cluster_rows((1, 0, "long", 90.0, 91.0)), marks_of(marks_frame(close)), None, QUESTION)
    assert rows["is_touched"].to_list() == [None]


def test_closing_rows_and_rows_without_data_predict_nothing():
    rows = cluster_rows((1, 0, "long", 96.0, 98.5), (2, 0, "long", 96.0, 98.5), (3, 1, "long", 96.0, 98.5))
    rows = rows.with_columns(state=pl.Series(["ACTIVE", "BROKEN", "ACTIVE"]), available=pl.Series([True, True, False]))
    assert living(rows)["cluster_id"].to_list() == [0]


def test_clusters_of_two_symbols_are_refused():
    rows = cluster_rows((1, 0, "long", 96.0, 98.5), (1, 1, "long", 96.0, 98.5))
    with pytest.raises(ValueError, match="one map"):
        living(rows.with_columns(symbol=pl.Series(["BTCUSDT", "ETHUSDT"])))


def test_bands_are_named_in_per_cent():
    assert band_of(np.array([0.0, 0.005, 0.0299, 0.5, np.nan])).to_list() == ["0-0.5", "0.5-1", "2-3", "10+", None]
