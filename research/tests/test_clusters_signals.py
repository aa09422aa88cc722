"""Clusters become signals: prices of the traded venue, stops beyond clusters, reward over risk of what is told."""

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.lake import Lake
from data.schema_clusters import CLUSTERS
from data.table import conform
from research.clusters import tables
from research.clusters.levels import Level, breakeven_winrate, risk_reward, stop_beyond, trend
from research.clusters.signals import Market, Rules, Signal, batch, signal, signal_rows

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = Rules(cost_bps=10.0)
PRIOR_ART = {
    "symbol", "signal", "entry_price", "stop_loss", "take_profit", "confidence", "risk_reward", "reason",
    "cluster_data", "support_levels", "resistance_levels", "market_sentiment",
}  # fmt: skip


def market(price: float = 100.0, **given) -> Market:
    return Market(**{"symbol": "BTCUSDT", "price": price, "at": NOON, "tick_size": 0.1} | given)


def cluster(side: str, peak: float, strength: float = 0.8, half_width: float = 0.1, **given) -> dict:
    return {
        "symbol": "BTCUSDT",
        "source": "binance",
        "map_id": "a1",
        "ts": NOON - timedelta(seconds=2),
        "avail_time": NOON - timedelta(seconds=1),
        "cluster_id": 7,
        "side": side,
        "state": "ACTIVE",
        "active": True,
        "price_level": peak,
        "price_lo": peak - half_width,
        "price_hi": peak + half_width,
        "strength": strength,
        "open_interest": 3_500_000.0,
        "available": True,
    } | given


def clusters(*rows: dict) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows)), CLUSTERS) if rows else CLUSTERS.empty()


def levels(side: str, *found: tuple[float, float], half_width: float = 0.1) -> list[Level]:
    """Clusters of one side at these peaks and strengths, seen from 100."""
    rows = clusters(*(cluster(side, peak, strength, half_width) for peak, strength in found))
    return [Level.of(row, 100.0) for row in rows.iter_rows(named=True)]


def made(*rows: dict, rules: Rules = RULES, **given) -> Signal:
    return signal(clusters(*rows), market(**given), rules, source="binance", map_id="a1")


# --- The rule --------------------------------------------------------------------------------------------------------


def test_shorts_above_are_hunted_with_a_stop_behind_the_longs_below():
    found = made(cluster("short", 101.5), cluster("long", 99.0))
    assert (found.signal, found.entry_price, found.take_profit) == ("LONG", 100.0, 101.5)
    assert found.stop_loss == 98.8  # the cluster ends at 98.9, ten basis points below that is 98.801, the tick 0.1
    assert found.risk_reward == pytest.approx(1.5 / 1.2)
    assert found.reason == "Very strong short liquidation cluster at $101.5 (strength: 0.80, OI: $3.5M by binance)"


def test_longs_below_are_hunted_with_a_stop_behind_the_shorts_above():
    found = made(cluster("long", 98.5), cluster("short", 100.8, 0.5))
    assert (found.signal, found.take_profit, found.stop_loss) == ("SHORT", 98.5, 101.1)  # 100.9 and ten basis points


def test_both_sides_are_looked_at_and_the_stronger_one_is_taken():
    assert made(cluster("short", 101.5, 0.7), cluster("long", 98.5, 0.9)).signal == "SHORT"
    assert made(cluster("short", 101.5, 0.9), cluster("long", 98.5, 0.7)).signal == "LONG"


def test_calibrated_confidence_decides_before_strength():
    sure = cluster("short", 101.5, 0.7, confidence=0.4)
    assert made(sure, cluster("long", 98.5, 0.9, confidence=0.1)).signal == "LONG"


def test_the_price_of_the_traded_venue_is_the_entry_and_the_distance_is_from_it():
    found = made(cluster("short", 101.5, distance_from_price=9.9), price=100.24)
    assert found.entry_price == 100.2
    assert found.distance_from_price == pytest.approx((101.5 / 100.24 - 1.0) * 100.0)


def test_a_cluster_that_the_price_has_reached_is_no_target():
    found = made(cluster("short", 101.5), price=101.45)
    assert (found.signal, found.resistance_levels) == ("NEUTRAL", ())


@pytest.mark.parametrize(
    ("row", "rules", "why"),
    [
        (cluster("short", 101.5, 0.55), {}, "no cluster of strength 0.6 within 200 bps: the best has 0.55 at 150 bps"),
        (cluster("short", 103.0), {}, "no cluster of strength 0.6 within 200 bps: the best has 0.80 at 300 bps"),
        (cluster("short", 101.5, state="BROKEN"), {}, "no cluster of strength 0.6 within 200 bps: none is intact"),
        (cluster("short", 100.2), {}, "the short cluster at 100.2 is nearer than 25 bps"),
        (cluster("short", 101.5), {"needs_trend": True}, "the short cluster at 101.5 is not along the trend"),
        (cluster("short", 101.5), {"min_stop_bps": 299.0}, "pays 0.50 of what its stop risks, less than 0.55"),
        (cluster("short", 101.5), {"cost_bps": 200.0}, "the short cluster at 101.5 is nearer than a round trip costs"),
    ],
)
def test_a_neutral_signal_says_why(row, rules, why):
    found = made(row, rules=Rules(**{"cost_bps": 10.0} | rules))
    assert (found.signal, found.available, found.compact()) == ("NEUTRAL", True, None)
    assert why in found.reason


def test_a_cluster_of_unknown_strength_does_not_hide_the_best():
    unknown = cluster("short", 101.5, math.nan)
    wanted = "no cluster of strength 0.6 within 200 bps: "
    assert made(unknown, cluster("short", 101.8, 0.4)).reason == f"{wanted}the best has 0.40 at 180 bps"
    assert made(unknown).reason == f"{wanted}how strong the one at 150 bps is cannot be told yet"


def test_support_and_resistance_are_the_strong_levels_nearest_first():
    rows = [cluster("long", 98.0), cluster("long", 99.0, 0.5), cluster("long", 99.5, 0.49), cluster("short", 101.5)]
    found = made(*rows)
    assert (found.support_levels, found.resistance_levels) == ((99.0, 98.0), (101.5,))


@pytest.mark.parametrize(
    ("ratio", "word"), [(1.15, "BULLISH_BIAS"), (1.05, "NEUTRAL"), (0.8, "BEARISH_BIAS"), (math.nan, "UNKNOWN")]
)
def test_the_crowd_leans_in_prior_art_s_words(ratio, word):
    assert made(cluster("short", 101.5), long_short_ratio=ratio).sentiment == word


# --- Stops and figures -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([1, -1]),
    st.lists(st.tuples(st.floats(5.0, 250.0), st.floats(0.0, 1.0)), max_size=6, unique_by=lambda each: each[0] // 25),
)
def test_a_stop_never_lies_at_a_cluster(sign, found):
    side = "long" if sign > 0 else "short"
    behind = levels(side, *((100.0 * (1.0 - sign * away / 1e4), strength) for away, strength in found), half_width=0.05)
    stop = stop_beyond(
        100.0, sign, behind, protecting=0.5, margin_bps=5.0, least_bps=30.0, most_bps=300.0, tick_size=0.01
    )
    if stop is not None:
        assert 30.0 - 1e-9 < sign * (100.0 - stop) * 100.0 < 300.0 + 1e-9
        assert not [level for level in behind if level.lo * 0.9995 < stop < level.hi * 1.0005]


def test_a_stop_that_would_lie_at_the_next_cluster_goes_beyond_that_too():
    behind = levels("long", (99.5, 0.9), (99.25, 0.9))
    terms = {"protecting": 0.5, "margin_bps": 10.0, "least_bps": 30.0, "tick_size": 0.01}
    assert stop_beyond(100.0, 1, behind, most_bps=300.0, **terms) == 99.05  # 99.15 less ten basis points
    assert stop_beyond(100.0, 1, behind, most_bps=90.0, **terms) is None


def test_prior_art_s_example_pays_two_fifths_of_its_risk_and_not_two_and_a_half():
    assert risk_reward(89_175.10, 87_386.99, 89_874.15) == pytest.approx(0.39, abs=0.005)


def test_the_break_even_rate_of_prior_art_is_64_5_per_cent_free_of_charge_and_72_8_at_7_bps():
    assert breakeven_winrate(10_000.0, 9_945.455, 10_030.0, 0.0) == pytest.approx(0.645, abs=5e-4)
    assert breakeven_winrate(10_000.0, 9_945.455, 10_030.0, 7.0) == pytest.approx(0.728, abs=5e-4)


def test_a_signal_that_tells_another_ratio_than_its_prices_is_our_bug():
    head = {
        "symbol": "BTCUSDT",
        "source": "okx",
        "map_id": "a1",
        "ts": NOON,
        "avail_time": NOON,
        "strategy": "hunt",
        "rules_id": "",
    }
    prices = {"entry_price": 100.0, "stop_loss": 99.0, "take_profit": 101.0}
    with pytest.raises(AssertionError):
        Signal(**head, **prices, available=True, reason="", signal="LONG", risk_reward=2.5)


def test_the_trend_is_that_of_two_exponential_means():
    rising = 100.0 + np.arange(30.0)
    means = {"fast_bars": 9, "slow_bars": 21, "band_bps": 5.0}
    several = (rising, rising[::-1], np.full(30, 100.0), rising[:20])
    assert [trend(closes, **means) for closes in several] == [1, -1, 0, 0]
    assert trend(rising[:20], fast_bars=5, slow_bars=20, band_bps=5.0) == 1
    with pytest.raises(ValueError, match="fast mean of fewer bars than the slow one, got 21 and 9"):
        Rules(cost_bps=None, trend_fast_bars=21, trend_slow_bars=9)


# --- Real data or none -----------------------------------------------------------------------------------------------


def test_without_clusters_there_is_no_signal_but_a_reason():
    found = made()
    assert (found.available, found.signal) == (False, None)
    assert found.reason == ("no map of BTCUSDT from binance is known; run `aster clusters --symbol BTCUSDT`")


def test_the_reason_of_a_map_that_is_not_there_is_passed_on():
    why = tables.unavailable_row("BTCUSDT", "binance", "a1", NOON, "no open interest of BTCUSDT")
    assert signal(why, market(), RULES, source="binance", map_id="a1").reason == "no open interest of BTCUSDT"


def test_a_map_without_clusters_is_neutral_and_not_missing():
    found = made({**cluster("short", 101.5), "cluster_id": None, "available": False, "reason": tables.NO_CLUSTERS})
    assert (found.available, found.signal) == (True, "NEUTRAL")


def test_old_clusters_make_no_signal():
    found = made(cluster("short", 101.5), at=NOON + timedelta(hours=1))
    assert found.reason == "the newest map of BTCUSDT from binance is 3601 s old, more than 900"


def test_clusters_that_are_not_known_yet_change_nothing():
    now = cluster("short", 101.5)
    later = cluster("long", 98.5, 0.99, ts=NOON, avail_time=NOON + timedelta(seconds=1))
    assert made(now, later) == made(now)


# --- What is told ----------------------------------------------------------------------------------------------------


def test_the_object_has_every_field_of_prior_art_and_says_since_when_until_when_and_at_what_cost():
    told = made(cluster("short", 101.5), cluster("long", 99.0), long_short_ratio=1.15, trend=1).as_json()
    assert set(told) >= PRIOR_ART
    assert set(told["cluster_data"]) >= {"price_level", "side", "strength", "open_interest", "distance_from_price"}
    assert told["market_sentiment"] == {"sentiment": "BULLISH_BIAS", "long_short_ratio": 1.15, "ratio_source": None}
    assert told["compact"] == {"dir": "LONG", "entry": 100.0, "sl": 98.8, "tp": 101.5, "conf": None,
                               "rr": told["risk_reward"], "trend_aligned": True}  # fmt: skip
    assert (told["avail_time"], told["valid_until"]) == ("2026-01-01T12:00:00Z", "2026-01-01T12:05:00Z")
    assert told["breakeven_winrate"] == pytest.approx((120.0 + 10.0) / (120.0 + 150.0))
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_batch_names_the_symbols_without_real_data_and_why():
    other = signal(clusters(), market(symbol="XAUUSDT"), RULES, source="binance", map_id="a1")
    told = batch([made(cluster("short", 101.5)), other])
    assert list(told["signals"]) == ["BTCUSDT"]
    assert "no map of XAUUSDT" in told["omitted"]["XAUUSDT"]


def test_signals_go_into_the_lake_once(tmp_path):
    lake = Lake(tmp_path, create=True)
    rows = signal_rows([made(cluster("short", 101.5), cluster("long", 99.0)), made(symbol="XAUUSDT")])
    assert [lake.append("signals", rows, origin="test").landed for _ in range(2)] == [2, 0]
    found = lake.sql("SELECT symbol, signal, available, support_levels FROM signals ORDER BY 1").rows()
    assert found == [("BTCUSDT", "LONG", True, [99.0]), ("XAUUSDT", None, False, [])]
