"""Technical overlays: what a line is of, and that it knows nothing of candles that have not closed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from research.feature_kernels import ema
from research.overlays import Overlay, overlay_lines, overlays

START = datetime(2026, 2, 10, tzinfo=UTC)


def bars(closes: list[float]) -> pl.DataFrame:
    """Bars of a minute."""
    times = [START + timedelta(minutes=minute) for minute in range(len(closes))]
    return pl.DataFrame({"open_time": times, "close": closes}).with_columns(pl.col("open_time").dt.cast_time_unit("ms"))


def line(closes: list[float], names: str) -> list[tuple[int, float]]:
    """Minutes since the start at which a value was known, and the value."""
    drawn = overlay_lines(bars(closes), overlays(names))
    return [((time - START) // timedelta(minutes=1), value) for time, value in drawn.select("time", "value").rows()]


def test_a_name_says_what_is_drawn():
    ema_hourly, band = overlays("ema_20_1h, bollinger_20_5m, ema_20_1h")
    assert ema_hourly == Overlay(kind="ema", candles=20, interval="1h")
    assert [(each.label, each.reach) for each in (ema_hourly, band)] == [
        ("EMA 20 × 1 h", timedelta(hours=80)),
        ("Bollinger 20 × 5 min", timedelta(minutes=100)),
    ]
    assert overlays("") == ()


@pytest.mark.parametrize("name", ["ema_20", "ema_0_1h", "vwap_20_1h", "ema_20_1w"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match=f"such as ema_20_1h or bollinger_20_1h .* got '{name}'"):
        overlays(name)


def test_an_interval_within_a_bar_is_refused():
    with pytest.raises(ValueError, match="overlay ema_2_1m: 1m is no multiple of the bars' interval"):
        overlay_lines(bars([1.0] * 4).gather_every(2), overlays("ema_2_1m"))


def test_a_value_stands_where_its_last_candle_closed_and_an_open_candle_has_none():
    # Candles of two minutes close at 2, 4, 6 and 8; a mean of one candle begins after four of them.
    assert line([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], "ema_1_2m") == [(8, 8.0)]


def test_an_exponential_mean_is_the_feature_that_strategies_decide_on():
    closes = np.cumsum(np.ones(30)) ** 1.5
    assert [value for _, value in line(closes.tolist(), "ema_3_1m")] == ema(closes, 3)[11:].tolist()


def test_a_band_lies_two_standard_deviations_off_the_mean():
    assert line([1.0, 3.0, 5.0], "bollinger_2_1m") == [(2, 4.0), (3, 6.0), (2, 0.0), (3, 2.0)]


def test_what_was_not_seen_breaks_the_line_and_counts_for_nothing():
    nan = float("nan")
    known = line([1.0, 1.0, 3.0, nan, 5.0], "bollinger_2_1m")[:4]
    assert [minute for minute, _ in known] == [2, 3, 4, 5]
    assert known[0][1] == 1.0 and np.isnan(known[2][1]) and known[3][1] == 6.0


def test_the_past_of_a_line_does_not_change_when_the_future_arrives():
    closes = (100.0 + np.sin(np.arange(300.0))).tolist()
    wanted = overlays("ema_5_3m, bollinger_7_5m")
    whole = overlay_lines(bars(closes), wanted)
    for minutes in (120, 121, 199):
        known = overlay_lines(bars(closes[:minutes]), wanted)
        assert known.equals(whole.filter(pl.col("time") <= START + timedelta(minutes=minutes)))
        assert known.height > 0
