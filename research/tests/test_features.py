import math

import numpy as np
import polars as pl
import pytest

from research.bars import BARS, Bars
from research.clusters.columns import CLUSTER_COLUMNS
from research.features import (
    FEATURES,
    arrays_of,
    cluster_columns_of,
    compute,
    feature_of,
    features_frame,
    lookback_bars,
)
from research.strategies import momentum

CONSTANTS = {"tick_size": 0.1, "taker_fee_bps": 4.0}
WINDOWS = (1, 2, 7, 30)
# Of the many that only hand on a column of the liquidation map or measure it from the mark, one stands for all.
OF_MAP = ("near_long_lo_bps", "open_interest_change_bps")
STEMS = [stem for stem, feature in FEATURES.items() if stem in OF_MAP or not set(feature.inputs) & set(CLUSTER_COLUMNS)]
NAMES = [
    name
    for stem in STEMS
    for name in ([stem] if FEATURES[stem].window != "required" else [])
    + [f"{stem}_{w}" for w in WINDOWS if FEATURES[stem].window]
]
COLUMNS = sorted({column for stem in STEMS for column in FEATURES[stem].inputs})


def market(n_rows: int, seed: int, *, is_whole: bool = False) -> dict[str, np.ndarray]:
    """Random bars: gaps, minutes without volume, missing quotes and marks, prices no bar can have."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, n_rows)))
    open_ = close * np.exp(rng.normal(0.0, 5e-4, n_rows))
    volume = rng.exponential(10.0, n_rows) * (is_whole | (rng.random(n_rows) > 0.1))
    bid = np.floor(close * 10.0) / 10.0
    arrays = {
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + rng.exponential(5e-4, n_rows)),
        "low": np.minimum(open_, close) * (1.0 - rng.exponential(5e-4, n_rows)),
        "close": close,
        "volume": volume,
        "quote_volume": volume * close,
        "taker_buy_volume": volume * rng.random(n_rows),
        "bid_price": bid,
        "ask_price": bid + 0.1 * rng.integers(-1, 5, n_rows),
        "bid_quantity": rng.random(n_rows),
        "ask_quantity": rng.random(n_rows),
        "quote_age_ms": rng.uniform(0.0, 5_000.0, n_rows),
        "mark_price": close * (1.0 + rng.normal(0.0, 1e-4, n_rows)),
        "mark_age_ms": rng.uniform(0.0, 5_000.0, n_rows),
        "index_price": close * (1.0 + rng.normal(0.0, 1e-4, n_rows)),
        "funding_rate": rng.normal(0.0, 1e-4, n_rows),
        "funding_interval_hours": np.full(n_rows, 8.0),
        "near_long_lo": close * rng.uniform(0.98, 0.999, n_rows),
        "open_interest": rng.uniform(1e4, 2e4, n_rows),
    }
    for name in ("forced_sell_usdt", "forced_buy_usdt"):
        own = np.random.default_rng([seed, len(name)])  # the other columns stay what they are
        arrays[name] = own.exponential(1e4, n_rows) * (own.random(n_rows) < 0.2)
    if is_whole:
        return arrays
    arrays["high"][rng.random(n_rows) < 0.003] = 1.0
    arrays["low"][rng.random(n_rows) < 0.003] = -1.0
    for group, share in (
        (BAR, 0.01),
        (("bid_price", "ask_price"), 0.1),
        (("mark_price",), 0.1),
        (("index_price",), 0.1),
        (("near_long_lo",), 0.1),
        (("open_interest",), 0.1),
        (("forced_sell_usdt", "forced_buy_usdt"), 0.01),
    ):
        missing = rng.random(n_rows) < share
        for name in group:
            arrays[name][missing] = np.nan
    return arrays


BAR = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume")


# The definitions once more, one row at a time, to be read. ``bar(k)`` is the bar k rows ago.


def slow_return(bar, window):
    between = [bar(k)["close"] for k in range(window + 1)]
    return math.nan if any(math.isnan(price) for price in between) else 1e4 * (between[0] / between[-1] - 1)


def slow_variance(bar):
    open_, high, low, close = (bar(0)[name] for name in ("open", "high", "low", "close"))
    is_bad = any(math.isnan(price) or price <= 0 for price in (open_, high, low, close))
    if is_bad or high < max(open_, close) or low > min(open_, close):
        return math.nan
    up = math.log(high / close) * math.log(high / open_)
    return up + math.log(low / close) * math.log(low / open_)


def slow_volatility(bar, window):
    return 1e4 * math.sqrt(sum(slow_variance(lambda _, k=k: bar(k)) for k in range(window)) / window)


def slow_imbalance(bar, window):
    total = sum(bar(k)["volume"] for k in range(window))
    bought = sum(bar(k)["taker_buy_volume"] for k in range(window))
    return (2 * bought - total) / total if total > 0 else math.nan


def slow_vwap_distance(bar, window):
    total = sum(bar(k)["volume"] for k in range(window))
    return (
        1e4 * (bar(0)["close"] * total / sum(bar(k)["quote_volume"] for k in range(window)) - 1)
        if total > 0
        else math.nan
    )


def slow_spread(bar):
    spread = bar(0)["ask_price"] - bar(0)["bid_price"]
    return spread if spread >= 0 else math.nan


def slow_ticks(bar):
    return math.nan if math.isnan(slow_spread(bar)) else float(round(slow_spread(bar) / 0.1))


def slow_book_imbalance(bar):
    bid, ask = bar(0)["bid_quantity"], bar(0)["ask_quantity"]
    return (bid - ask) / (bid + ask)


def slow_ema(bar, window):
    alpha, oldest = 2 / (window + 1), 4 * window - 1
    newer = sum(alpha * (1 - alpha) ** k * bar(k)["close"] for k in range(oldest))
    return newer + (1 - alpha) ** oldest * bar(oldest)["close"]


SLOW = {
    "return_bps": slow_return,
    "rs_variance": slow_variance,
    "volatility_bps": slow_volatility,
    "volume": lambda bar: bar(0)["volume"],
    "mean_volume": lambda bar, window: sum(bar(k)["volume"] for k in range(window)) / window,
    "trade_imbalance": slow_imbalance,
    "vwap_distance_bps": slow_vwap_distance,
    "spread_bps": lambda bar: 2e4 * slow_spread(bar) / (bar(0)["ask_price"] + bar(0)["bid_price"]),
    "spread_ticks": slow_ticks,
    "book_imbalance": slow_book_imbalance,
    "opening_loss_long_bps": lambda bar: 1e4 * (bar(0)["ask_price"] / bar(0)["mark_price"] - 1),
    "opening_loss_short_bps": lambda bar: 1e4 * (bar(0)["mark_price"] / bar(0)["bid_price"] - 1),
    "mark_index_basis_bps": lambda bar: 1e4 * (bar(0)["mark_price"] / bar(0)["index_price"] - 1),
    "funding_bps": lambda bar: 1e4 * bar(0)["funding_rate"],
    "funding_interval_hours": lambda bar: bar(0)["funding_interval_hours"],
    "quote_age_ms": lambda bar: bar(0)["quote_age_ms"],
    "mark_age_ms": lambda bar: bar(0)["mark_age_ms"],
    "taker_fee_bps": lambda bar: 4.0,
    "tick_size": lambda bar: 0.1,
    "close": lambda bar: bar(0)["close"],
    "bid_price": lambda bar: bar(0)["bid_price"],
    "ask_price": lambda bar: bar(0)["ask_price"],
    "mark_price": lambda bar: bar(0)["mark_price"],
    "ema": slow_ema,
    "forced_sell_usdt": lambda bar, window: sum(bar(k)["forced_sell_usdt"] for k in range(window)),
    "forced_buy_usdt": lambda bar, window: sum(bar(k)["forced_buy_usdt"] for k in range(window)),
    "open_interest_change_bps": lambda bar, window: 1e4 * (bar(0)["open_interest"] / bar(window)["open_interest"] - 1),
    "near_long_lo_bps": lambda bar: 1e4 * (bar(0)["near_long_lo"] / bar(0)["mark_price"] - 1),
}


def slowly(arrays: dict[str, np.ndarray], name: str) -> list[float]:
    rows = [
        dict(zip(arrays, values, strict=True)) for values in zip(*(a.tolist() for a in arrays.values()), strict=True)
    ]
    feature, window = feature_of(name)
    first = feature.rows_before + feature.reach * (window or 1) - 1
    extra = () if window is None else (window,)
    stem = next(stem for stem, known in FEATURES.items() if known is feature)
    return [
        SLOW[stem](lambda k, i=i: rows[i - k], *extra) if i >= first else math.nan  # too little history
        for i in range(len(rows))
    ]


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint64)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_is_what_its_definition_says(name):
    for seed in range(3):
        arrays = market(400, seed)
        values = compute(arrays, [name], constants=CONSTANTS)[name]
        assert values.dtype == np.float64
        assert np.isfinite(values).any()
        np.testing.assert_allclose(values, slowly(arrays, name), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_buffer_gives_the_same_bits_as_all_history(name):
    arrays = market(600, 7)
    whole = bits(compute(arrays, [name], constants=CONSTANTS)[name])
    needed = lookback_bars([name])
    rng = np.random.default_rng(3)
    for _ in range(30):
        length = needed + int(rng.integers(0, 50))
        first = int(rng.integers(0, 600 - length))
        buffer = {column: values[first : first + length].copy() for column, values in arrays.items()}
        short = bits(compute(buffer, [name], constants=CONSTANTS)[name])
        assert np.array_equal(short[needed - 1 :], whole[first + needed - 1 : first + length])


@pytest.mark.parametrize("name", NAMES)
def test_a_buffer_one_row_short_is_not_ready(name):
    needed = lookback_bars([name])
    values = compute(market(needed, 1, is_whole=True), [name], constants=CONSTANTS)[name]
    assert np.isnan(values[:-1]).all() and not np.isnan(values[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_past_does_not_change_when_the_future_is_scrambled_or_cut(name):
    arrays = market(200, 5)
    whole = bits(compute(arrays, [name], constants=CONSTANTS)[name])
    rng = np.random.default_rng(11)
    for now in rng.integers(1, 200, 20):
        past = {column: values[:now].copy() for column, values in arrays.items()}
        scrambled = {column: np.append(values, rng.uniform(-1e6, 1e6, 200 - now)) for column, values in past.items()}
        for changed in (past, scrambled):
            assert np.array_equal(bits(compute(changed, [name], constants=CONSTANTS)[name])[:now], whole[:now])


OF_BARS = [name for name in NAMES if set(feature_of(name)[0].inputs) & set(BAR) and not feature_of(name)[0].constants]


@pytest.mark.parametrize("name", OF_BARS)
def test_a_window_that_touches_a_gap_is_not_ready(name):
    arrays = market(300, 2, is_whole=True)
    for column in BAR:
        arrays[column][150] = np.nan
    values = compute(arrays, [name], constants=CONSTANTS)[name]
    reach = lookback_bars([name])
    assert np.flatnonzero(np.isnan(values[reach:])).tolist() == list(range(150 - reach, 150))


def one_row(**columns: float) -> dict[str, np.ndarray]:
    return {name: np.array([value]) for name, value in columns.items()}


def test_a_return_of_one_percent_is_100_bps():
    values = compute({"close": np.array([100.0, 101.0, 102.01])}, ["return_bps", "return_bps_2"])
    assert values["return_bps"].tolist() == pytest.approx([math.nan, 100.0, 100.0], nan_ok=True)
    assert values["return_bps_2"][2] == pytest.approx(201.0)


def test_a_bar_that_rises_straight_has_no_rogers_satchell_variance():
    straight = one_row(open=100.0, high=110.0, low=100.0, close=110.0)
    there_and_back = one_row(open=100.0, high=100.0 * math.e, low=100.0, close=100.0)
    assert compute(straight, ["rs_variance"])["rs_variance"].tolist() == [0.0]
    assert compute(there_and_back, ["rs_variance"])["rs_variance"].tolist() == pytest.approx([1.0])
    assert compute(there_and_back, ["volatility_bps_1"])["volatility_bps_1"].tolist() == pytest.approx([10_000.0])


@pytest.mark.parametrize("bad", [{"high": 99.0}, {"low": 101.0}, {"low": 0.0}, {"open": math.nan}, {"high": math.inf}])
def test_prices_no_bar_can_have_make_the_variance_nan(bad):
    bar = one_row(**({"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.5} | bad))
    assert np.isnan(compute(bar, ["rs_variance"])["rs_variance"]).all()


def test_the_spread_is_counted_in_whole_ticks():
    quote = one_row(bid_price=67_605.2, ask_price=67_605.4)  # as floats 0.19999999999709
    assert compute(quote, ["spread_ticks"], constants=CONSTANTS)["spread_ticks"].tolist() == [2.0]


def test_a_crossed_quote_closes_the_gate():
    crossed = one_row(bid_price=100.1, ask_price=100.0)
    values = compute(crossed, ["spread_ticks", "spread_bps"], constants=CONSTANTS)
    assert np.isnan(values["spread_ticks"]).all() and np.isnan(values["spread_bps"]).all()


def test_opening_loses_the_way_to_the_mark():
    row = one_row(bid_price=99.0, ask_price=101.0, mark_price=100.0)
    values = compute(row, ["opening_loss_long_bps", "opening_loss_short_bps"])
    assert values["opening_loss_long_bps"].tolist() == pytest.approx([100.0])
    assert values["opening_loss_short_bps"].tolist() == pytest.approx([1e4 / 99.0])


def test_three_bought_and_one_sold_is_half():
    row = one_row(volume=4.0, taker_buy_volume=3.0)
    assert compute(row, ["trade_imbalance_1"])["trade_imbalance_1"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spread_tick", "unknown feature 'spread_tick'; did you mean spread_ticks?"),
        ("volatilty_bps_30", "did you mean volatility_bps?"),
        ("mean_volume", "needs a window in bars, such as mean_volume_30"),
        ("spread_bps_5", "has no window; write spread_bps"),
        ("return_bps_0", "at least 1 bar"),
        ("volume", "needs the column 'volume'"),
    ],
)
def test_a_name_that_cannot_be_computed_says_why(name, message):
    with pytest.raises(LookupError, match=message.replace("?", r"\?")):
        compute({"close": np.array([1.0])}, [name], constants=CONSTANTS)


def test_a_missing_constant_is_named():
    with pytest.raises(LookupError, match="needs the constant 'taker_fee_bps'"):
        compute({"close": np.array([1.0])}, ["taker_fee_bps"])


def test_momentum_asks_only_for_features_there_are():
    values = [grid[-1] for grid in momentum.GRID.values()]
    assert lookback_bars(momentum.columns(momentum.Params(*values))) == 60


def test_every_input_is_a_column_of_the_bars_or_of_the_map_beside_them():
    assert {column for feature in FEATURES.values() for column in feature.inputs} <= {*BARS, *CLUSTER_COLUMNS}
    assert not set(BARS) & set(CLUSTER_COLUMNS)
    assert sorted(market(1, 0)) == COLUMNS


def test_every_column_of_the_map_is_a_feature_as_it_is():
    arrays = {name: np.array([float(number)]) for number, name in enumerate(CLUSTER_COLUMNS)}
    values = compute(arrays, list(CLUSTER_COLUMNS))
    assert [float(values[name][0]) for name in CLUSTER_COLUMNS] == list(range(len(CLUSTER_COLUMNS)))


def test_features_tell_which_columns_of_the_map_they_need():
    assert cluster_columns_of(["return_bps_30", "ema_9"]) == []
    asked = ["near_long_lo_bps", "break_usdt", "close", "open_interest_change_bps_5"]
    assert cluster_columns_of(asked) == ["near_long_lo", "break_usdt", "open_interest"]


def test_the_frame_has_the_times_and_one_column_per_name():
    numbers = pl.DataFrame({name: [1.0] * 3 for name, dtype in BARS.items() if dtype == pl.Float64})
    times = pl.DataFrame({"open_time": [0, 1, 2], "avail_time": [3, 4, 5]}).cast(pl.Datetime("ms", "UTC"))
    bars = Bars(symbol="BNBUSDT", interval="1m", frame=times.hstack(numbers), instrument={"tick_size": 0.5})
    features = features_frame(bars, ["spread_ticks", "mean_volume_2", "taker_fee_bps"], taker_fee_bps=4.0)
    assert features.columns == ["open_time", "avail_time", "spread_ticks", "mean_volume_2", "taker_fee_bps"]
    assert features.row(2)[2:] == (0.0, 1.0, 4.0)
    assert all(values.flags["WRITEABLE"] and values.flags["C_CONTIGUOUS"] for values in arrays_of(bars).values())
