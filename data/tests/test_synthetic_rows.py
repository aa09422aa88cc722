"""The synthetic market's rows: consistent with each other, plausible, and honest about what is planted in them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from data.schema import TABLES
from data.synthetic import ALT_LIKE, BTC_LIKE, MarketSpec, generate, planted_clusters
from data.synthetic_kernels import DAY_SECONDS
from data.synthetic_market import Market
from data.synthetic_rows import TABLE_ROWS

MARKET = MarketSpec(
    symbols=(BTC_LIKE, ALT_LIKE), start=datetime(2026, 1, 1, tzinfo=UTC), days=4, seed=7, depth_interval_s=10
)
SYMBOLS = ("BTCUSDT", "ASTERUSDT")
FIRST, SECOND = MARKET.dates[:2]


@lru_cache(maxsize=8)
def tables(symbol: str, day: date, spec: MarketSpec = MARKET) -> dict[str, pl.DataFrame]:
    """One day's rows, kept for the next test."""
    return generate(spec, symbol, day)


def whole(table: str, symbol: str, spec: MarketSpec = MARKET) -> pl.DataFrame:
    """One table's rows of all days."""
    return pl.concat([tables(symbol, day, spec)[table] for day in spec.dates])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_table_has_its_schema_order_keys_and_no_missing_prices(symbol):
    frames = tables(symbol, FIRST)
    assert set(frames) == {
        "klines", "mark_klines", "index_klines", "trades", "book_ticker", "depth", "mark_price", "funding",
        "force_orders", "open_interest", "instruments",
    }  # fmt: skip
    for name, frame in frames.items():
        table = TABLES[name]
        assert frame.schema == table.columns
        assert frame[table.time].is_sorted()
        assert frame.select(table.key).is_unique().all(), name
        assert frame[table.time].dt.date().unique().to_list() == [FIRST]
        assert set(frame["source"]) == {"synthetic"}
        for column in frame.select(pl.selectors.float()).columns:
            unused_level = name == "depth" and int(column.rsplit("_", 1)[-1]) >= 5
            assert frame[column].null_count() == (frame.height if unused_level else 0), column
            assert frame[column].drop_nulls().is_finite().all(), column


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_what_reached_us_was_sent_before_and_happened_before_that(symbol):
    for name, frame in tables(symbol, FIRST).items():
        if "sent_time" in frame.columns and name != "klines":
            assert (frame["event_time"] <= frame["sent_time"]).all(), name
        if "sent_time" in frame.columns:
            assert (frame["sent_time"] < frame["recv_time"]).all(), name


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_klines_are_exactly_their_trades(symbol):
    frames = tables(symbol, SECOND)
    trades = frames["trades"].with_columns(
        minute=pl.col("event_time").dt.truncate("1m"), notional=pl.col("price") * pl.col("quantity")
    )
    bought = ~pl.col("is_buyer_maker")
    bars = trades.group_by("minute", maintain_order=True).agg(
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"),
        pl.col("quantity").sum().alias("volume"),
        pl.col("notional").sum().alias("quote_volume"),
        pl.len().cast(pl.Int64).alias("trade_count"),
        pl.col("quantity").filter(bought).sum().alias("taker_buy_volume"),
        pl.col("notional").filter(bought).sum().alias("taker_buy_quote_volume"),
        pl.col("first_trade_id").first(),
        pl.col("last_trade_id").last(),
    )
    klines = frames["klines"].filter(pl.col("trade_count") > 0)
    assert klines["open_time"].equals(bars["minute"])
    for name in ("open", "high", "low", "close", "trade_count", "first_trade_id", "last_trade_id"):
        assert klines[name].equals(bars[name], check_names=False), name
    for name in ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"):
        assert klines[name].equals(bars[name].round(8), check_names=False), (
            name
        )  # float sums drift; eight decimals do not


def test_a_minute_without_trades_is_a_flat_bar_at_the_previous_close():
    quiet = replace(MARKET, trades_per_second=0.01)
    klines = whole("klines", "ASTERUSDT", quiet)
    previous = klines["close"].shift(1, fill_value=ALT_LIKE.start_price)
    empty = klines.filter(klines["trade_count"] == 0)
    assert klines.height == 4 * 1_440
    assert empty.height > 500
    assert (empty["open"] == previous.filter(klines["trade_count"] == 0)).all()
    assert empty.select((pl.col("open") == pl.col("high")) & (pl.col("open") == pl.col("low"))).to_series().all()
    assert empty.select("volume", "quote_volume", "taker_buy_volume").sum().row(0) == (0.0, 0.0, 0.0)
    assert set(empty["last_trade_id"]) == {-1}


def test_a_kline_arrives_between_300_ms_and_2900_ms_after_its_end():
    klines = whole("klines", "BTCUSDT")
    late_ms = (
        klines["recv_time"] - klines["open_time"].cast(pl.Datetime("ns", "UTC"))
    ).dt.total_milliseconds() - 60_000
    assert late_ms.min() >= 300
    assert late_ms.max() <= 2_900
    assert 1_300 < late_ms.median() < 1_500


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trade_ids_are_consecutive_across_days_and_raw_ids_are_not(symbol):
    trades = whole("trades", symbol)
    assert trades["agg_trade_id"].to_list() == list(range(1, trades.height + 1))
    assert trades["first_trade_id"].diff().drop_nulls().min() >= 1
    assert trades["first_trade_id"].diff().drop_nulls().max() > 1


@pytest.mark.parametrize("one", [BTC_LIKE, ALT_LIKE], ids=lambda one: one.symbol)
def test_quotes_lie_on_the_tick_grid_and_never_cross(one):
    quotes = whole("book_ticker", one.symbol)
    for name in ("bid_price", "ask_price"):
        ticks = (quotes[name] / one.tick_size).round()
        assert (quotes[name] == (ticks * one.tick_size).round(4)).all()
    assert (quotes["bid_price"] < quotes["ask_price"]).all()
    assert quotes["update_id"].diff().drop_nulls().min() > 0


@pytest.mark.parametrize("spec", [MARKET, replace(MARKET, quote_interval_s=5, depth_interval_s=10)], ids=["1 s", "5 s"])
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_trades_print_at_or_inside_the_touch_on_the_side_of_the_taker(symbol, spec):
    frames = tables(symbol, FIRST, spec)
    quotes = frames["book_ticker"].select("event_time", "bid_price", "ask_price")
    trades = frames["trades"].join_asof(quotes, on="event_time")
    assert (trades["bid_price"] <= trades["price"]).all()
    assert (trades["price"] <= trades["ask_price"]).all()
    touch = trades.filter((pl.col("price") == pl.col("bid_price")) | (pl.col("price") == pl.col("ask_price")))
    assert (touch["is_buyer_maker"] == (touch["price"] == touch["bid_price"])).all()
    off_grid = 1 - touch.height / trades.height
    assert off_grid == pytest.approx(0.0 if symbol == "BTCUSDT" else 0.25, abs=0.03)


@pytest.mark.parametrize("levels", [5, 20])
def test_depth_starts_at_the_touch_and_moves_away_from_it(levels):
    frames = generate(replace(MARKET, depth_levels=levels), "ASTERUSDT", SECOND)
    depth = frames["depth"].join(frames["book_ticker"], on="update_id", suffix="_touch", validate="1:1")
    assert depth.height == 8_640
    assert (depth["event_time"] == depth["event_time_touch"]).all()
    for side in ("bid", "ask"):
        assert (depth[f"{side}_price_0"] == depth[f"{side}_price"]).all()
        assert (depth[f"{side}_quantity_0"] == depth[f"{side}_quantity"]).all()
        prices = depth.select([f"{side}_price_{level}" for level in range(levels)]).to_numpy()
        away = np.diff(prices, axis=1)
        assert (away < 0).all() if side == "bid" else (away > 0).all()
    assert depth["previous_update_id"].to_list()[1:] == depth["update_id"].to_list()[:-1]


@pytest.mark.parametrize(("symbol", "hours"), [("BTCUSDT", 8), ("ASTERUSDT", 4)])
def test_funding_is_settled_on_time_at_the_last_estimate(symbol, hours):
    funding, marks = whole("funding", symbol), whole("mark_price", symbol)
    expected = [MARKET.start + timedelta(hours=hours * count) for count in range(1, 4 * 24 // hours)]
    assert funding["event_time"].to_list() == expected
    assert set(funding["interval_hours"]) == {float(hours)}
    before = funding.join(marks.with_columns(pl.col("event_time") + pl.duration(seconds=1)), on="event_time")
    assert (before["funding_rate"] == before["funding_rate_right"]).all()
    assert (before["next_funding_time"] == before["event_time"]).all()
    assert funding["funding_rate"].abs().max() < 0.002


def test_the_mark_is_smoother_than_trades_and_stays_near_the_index():
    marks = whole("mark_price", "BTCUSDT")
    quotes = whole("book_ticker", "BTCUSDT")
    basis_bps = (marks["mark_price"] / marks["index_price"] - 1) * 1e4
    last = (quotes["bid_price"] + quotes["ask_price"]) / 2
    assert 0.5 < basis_bps.std() < 5.0
    assert marks["mark_price"].log().diff().std() < last.log().diff().std()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_reference_klines_are_the_published_prices(symbol):
    frames = tables(symbol, FIRST)
    for table, price in (("mark_klines", "mark_price"), ("index_klines", "index_price")):
        bars = frames["mark_price"].group_by_dynamic("event_time", every="1m").agg(
            pl.col(price).first().alias("open"), pl.col(price).max().alias("high"),
            pl.col(price).min().alias("low"), pl.col(price).last().alias("close"),
        )  # fmt: skip
        assert frames[table].select("open", "high", "low", "close").equals(bars.drop("event_time"))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_at_most_one_forced_order_is_published_per_second_and_it_is_one_of_the_trades(symbol):
    forced, trades = whole("force_orders", symbol), whole("trades", symbol)
    assert forced.height > 100
    assert forced["event_time"].dt.truncate("1s").is_unique().all()
    match = forced.with_columns(is_buyer_maker=pl.col("side") == "SELL").join(
        trades,
        left_on=["event_time", "average_price", "filled_quantity", "is_buyer_maker"],
        right_on=["event_time", "price", "quantity", "is_buyer_maker"],
        how="semi",
    )
    assert match.height == forced.height
    limit_is_worse = pl.when(pl.col("side") == "SELL").then(pl.col("price") < pl.col("average_price"))
    assert forced.select(limit_is_worse.otherwise(pl.col("price") > pl.col("average_price"))).to_series().all()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_longs_are_liquidated_when_the_mark_falls_to_their_level_and_not_before(symbol):
    marks = whole("mark_price", symbol).select("event_time", "mark_price")
    clusters = planted_clusters(MARKET, symbol)
    reached = clusters.drop_nulls("first_liquidation").join(marks, left_on="first_liquidation", right_on="event_time")
    assert reached.height > 5
    longs = reached.filter(side="SELL")
    shorts = reached.filter(side="BUY")
    assert (longs["mark_price"] <= longs["price_high"]).all()
    assert (shorts["mark_price"] >= shorts["price_low"]).all()
    for cluster in clusters.filter(pl.col("first_liquidation").is_null()).iter_rows(named=True):
        later = marks.filter(pl.col("event_time") >= cluster["opened_to"])["mark_price"]
        is_long = cluster["side"] == "SELL"
        assert later.len() == 0 or (
            later.min() > cluster["price_high"] if is_long else later.max() < cluster["price_low"]
        )


def test_every_first_liquidation_of_a_cluster_is_followed_by_a_forced_order_of_its_side():
    forced = whole("force_orders", "BTCUSDT")
    for cluster in planted_clusters(MARKET, "BTCUSDT").drop_nulls("first_liquidation").iter_rows(named=True):
        start = cluster["first_liquidation"]
        seen = forced.filter(pl.col("event_time").is_between(start, start + timedelta(minutes=2)))
        assert cluster["side"] in seen["side"].to_list()


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_crowd_opens_at_its_leverage_and_open_interest_grows_by_it(side):
    clusters = planted_clusters(MARKET, "BTCUSDT").filter(
        pl.col("side") == side,
        pl.col("first_liquidation").fill_null(MARKET.end) >= pl.col("opened_to"),
        pl.col("opened_to") < MARKET.end,
    )
    interest = whole("open_interest", "BTCUSDT").select("event_time", "open_interest")
    marks = whole("mark_price", "BTCUSDT").select("event_time", "mark_price")
    grown = (
        clusters.with_columns(pl.col("opened_from") - pl.duration(minutes=1))
        .join(interest, left_on="opened_from", right_on="event_time")
        .join(interest, left_on="opened_to", right_on="event_time", suffix="_after")
        .join(marks, left_on="opened_to", right_on="event_time")
    )
    assert grown.height > 3
    added = grown["open_interest_after"] - grown["open_interest"]
    assert (added / grown["quantity"]).median() == pytest.approx(1.0, abs=0.2)  # others open and close meanwhile
    distance = (grown["price_level"] / grown["mark_price"] - 1).abs()
    assert ((distance - 1 / grown["leverage"]).abs() < 0.015).all()


def test_liquidations_take_from_a_cluster_at_most_what_it_opened():
    clusters = planted_clusters(MARKET, "BTCUSDT")
    assert (clusters["liquidated_quantity"] <= clusters["quantity"]).all()
    assert ((clusters["liquidated_quantity"] > 0) == clusters["first_liquidation"].is_not_null()).all()
    assert (clusters["price_low"] <= clusters["price_level"]).all()
    assert (clusters["price_level"] <= clusters["price_high"]).all()


@pytest.mark.parametrize("one", [BTC_LIKE, ALT_LIKE], ids=lambda one: one.symbol)
def test_all_that_is_liquidated_in_a_second_is_traded_in_it(one):
    day = Market(MARKET, one).day(0)
    second = np.searchsorted(day.opens_ms, day.trades["event_ms"].to_numpy(), side="right") - 1
    is_forced = day.trades["is_forced"].to_numpy()
    traded = np.bincount(second[is_forced], day.trades["steps"].to_numpy()[is_forced], minlength=DAY_SECONDS)
    assert traded.sum() > 0
    assert (traded == day.seconds["forced_steps"]).all()


def test_forced_orders_push_the_price_further_their_way():
    forced = whole("force_orders", "ASTERUSDT").select(pl.col("event_time").dt.truncate("1s"), "side")
    index = whole("mark_price", "ASTERUSDT").select(
        "event_time", move=(pl.col("index_price").shift(-1) / pl.col("index_price")).log()
    )
    moves = forced.join(index, on="event_time").drop_nulls()
    along = moves.select(pl.when(pl.col("side") == "BUY").then(pl.col("move")).otherwise(-pl.col("move"))).to_series()
    assert along.mean() > 4 * along.std() / np.sqrt(along.len())


@pytest.mark.parametrize("one", [BTC_LIKE, ALT_LIKE], ids=lambda one: one.symbol)
def test_the_path_is_plausible(one):
    klines = whole("klines", one.symbol)
    returns = klines["close"].log().diff().drop_nulls()
    daily_volatility = returns.std() * np.sqrt(1_440)
    assert 0.6 < daily_volatility / one.daily_volatility < 2.0
    assert returns.kurtosis() > 3  # fat tails: excess over the normal's
    assert klines["close"].min() / one.start_price > 0.5
    assert klines["close"].max() / one.start_price < 2.0
    assert 0.7 < klines["trade_count"].sum() / (4 * 86_400) < 2.0


def following(edge: float) -> tuple[float, float]:
    """Mean return (bps) in the direction of a strong, busy minute over the five minutes after it, and its error."""
    returns = []
    for seed in (1, 2, 3):
        spec = MarketSpec(
            symbols=(BTC_LIKE,), start=MARKET.start, days=6, seed=seed, momentum_edge=edge, mean_reversion=0.0
        )
        market = Market(spec, BTC_LIKE)
        klines = pl.concat([TABLE_ROWS["klines"](market, market.day(index)) for index in range(6)])
        minutes = klines.select(
            "volume", move=pl.col("close").log().diff(), after=(pl.col("close").shift(-5) / pl.col("close")).log()
        )
        minutes = minutes.drop_nulls().with_columns(
            usual_move=(pl.col("move") ** 2).ewm_mean(half_life=240).sqrt(),
            usual_volume=pl.col("volume").ewm_mean(half_life=240),
        )
        strong = minutes.filter(
            pl.col("move").abs() > 2 * pl.col("usual_move"), pl.col("volume") > 1.3 * pl.col("usual_volume")
        )
        returns.append(strong.select(pl.col("move").sign() * pl.col("after")).to_series() * 1e4)
    everything = pl.concat(returns)
    return everything.mean(), everything.std() / np.sqrt(everything.len())


def test_momentum_is_there_when_planted_and_not_otherwise():
    planted, planted_error = following(0.5)
    none, none_error = following(0.0)
    assert planted > 5 * planted_error
    assert abs(none) < 3 * none_error
