"""Bars of rows read piece by piece and thinned equal, to the last bit, those of everything read at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data import schema
from data.convert import import_path
from data.lake import Lake
from research import recorded
from research.bars import BARS, build_bars, signal_bars, substitutions_in_effect
from research.execution_bars import execution_bars
from research.recorded import Substitutions, counted_trades, mark_track, read_recorded, trade_track
from research.thinned import kept_marks, kept_quotes, kept_trades

MINUTE = 60_000
NOON = 1_764_331_200_000  # 2025-11-28 12:00 UTC
N_MINUTES = 150
LATENCY_MS = 250
PIECES = [timedelta(minutes=7), timedelta(hours=1), timedelta(days=1), timedelta(days=1_000)]
NO_SUBSTITUTION = Substitutions()
ASSUMED = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=1.0, funding_interval_hours=8.0)


def at(minute: float) -> datetime:
    return datetime.fromtimestamp((NOON + minute * MINUTE) / 1_000, tz=UTC)


def assert_pieces_do_not_matter(
    monkeypatch, lake: Lake, symbol: str, start: datetime, end: datetime, assumed: Substitutions = NO_SUBSTITUTION
) -> pl.DataFrame:
    """Compare with the bars of everything that was recorded, which are returned."""
    everything = read_recorded(lake, symbol, start, end, interval="1m")
    instrument = lake.instrument(symbol, start)
    acting = substitutions_in_effect(assumed, everything, symbol, instrument)
    open_ms = np.arange(-(-start.timestamp() // 60) * MINUTE, end.timestamp() * 1_000, MINUTE).astype(np.int64)
    tick_size = instrument["tick_size"]
    # The window of the last row ends with the bar after the range.
    signal = signal_bars(
        everything, np.append(open_ms, open_ms[-1] + MINUTE), interval="1m", tick_size=tick_size, substitutions=acting
    )
    execution = execution_bars(signal, everything, latency_ms=LATENCY_MS, substitutions=acting)
    expected = signal.hstack(execution).head(len(open_ms)).select(list(BARS))
    for piece in PIECES:
        monkeypatch.setattr(recorded, "PIECE", piece)
        bars = build_bars(lake, symbol, start, end, latency_ms=LATENCY_MS, substitutions=assumed)
        assert_frame_equal(bars.frame, expected, check_exact=True)
    return expected


def rows(table: schema.Table, **columns) -> pl.DataFrame:
    """Rows of one contract."""
    fixed = {"venue": "aster", "symbol": "BNBUSDT", "source": "ws", "interval": "1m"}
    frame = pl.DataFrame(columns, strict=False)
    return schema.conform(
        frame.with_columns(pl.lit(value).alias(name) for name, value in fixed.items() if name in table.columns), table
    )


def recorded_lake(root: Path, seed: int) -> Lake:
    """Two and a half hours of everything: holes, late rows, ids out of order in time, an hour and more around."""
    rng = np.random.default_rng(seed)
    late_share = (0.0, 0.02, 0.2)[seed % 3]

    def moments(count: int) -> np.ndarray:
        return NOON + np.unique(rng.integers(-70 * MINUTE, (N_MINUTES + 70) * MINUTE, count))

    def received(times: np.ndarray) -> list[int | None]:
        after = rng.integers(-50, 900, len(times))
        after = np.where(rng.random(len(times)) < late_share, rng.integers(0, 90 * MINUTE, len(times)), after)
        ns = (times + after) * 1_000_000 + rng.integers(0, 1_000_000, len(times))
        return [None if rng.random() < 0.1 else int(one) for one in ns]

    def walk(count: int) -> np.ndarray:
        return 100.0 + np.cumsum(rng.normal(0.0, 0.05, count))

    def without_holes(frame: pl.DataFrame) -> pl.DataFrame:
        for begun in rng.integers(0, N_MINUTES, 3):
            length = rng.integers(1, 80)
            frame = frame.filter(~pl.col("event_time").is_between(at(int(begun)), at(int(begun + length))))
        return frame

    lake = Lake(root, create=True)
    open_ms = NOON + np.arange(-75, N_MINUTES + 75) * MINUTE
    close = walk(len(open_ms))
    bars = {"open": close - 0.01, "high": close + 0.1, "low": close - 0.1, "close": close}
    klines = rows(schema.KLINES, open_time=open_ms, volume=close, recv_time=received(open_ms + MINUTE), **bars)
    lake.append("klines", klines.filter(pl.Series(rng.random(len(close)) < 0.6)), origin="test")
    if seed % 2:
        lake.append("mark_klines", rows(schema.MARK_KLINES, open_time=open_ms, **bars), origin="test")
    times = moments(2_000)
    trades = rows(
        schema.TRADES,
        agg_trade_id=np.argsort(np.argsort(np.arange(len(times)) + rng.uniform(0.0, 3.0, len(times)))),
        event_time=times,
        recv_time=received(times),
        price=walk(len(times)),
        quantity=rng.random(len(times)),
        is_buyer_maker=rng.random(len(times)) < 0.5,
        is_ambiguous=rng.random(len(times)) < 0.001,
    )
    lake.append("trades", trades.filter(pl.Series(rng.random(len(times)) < 0.995)), origin="test")
    times = moments(2_500)
    bid = walk(len(times))
    quotes = {"bid_price": bid, "bid_quantity": bid, "ask_price": bid + 0.1, "ask_quantity": 2.0 * bid}
    quotes |= {"update_id": np.arange(len(times)), "event_time": times, "recv_time": received(times)}
    lake.append("book_ticker", without_holes(rows(schema.BOOK_TICKER, **quotes)), origin="test")
    times = moments(9_000)
    marks = rows(
        schema.MARK_PRICE,
        event_time=times,
        recv_time=received(times),
        mark_price=[None if rng.random() < 0.02 else price for price in walk(len(times))],
        index_price=walk(len(times)),
        funding_rate=[None if rng.random() < 0.1 else rate for rate in rng.normal(0.0, 1e-4, len(times))],
        next_funding_time=(times // (20 * MINUTE) + rng.choice([1, 2], len(times), p=[0.9, 0.1])) * 20 * MINUTE,
    )
    lake.append("mark_price", without_holes(marks), origin="test")
    funding = {"event_time": times[[100, 5_000]] // MINUTE * MINUTE, "funding_rate": [1e-4, -1e-4]}
    lake.append("funding", rows(schema.FUNDING, interval_hours=[8.0, 4.0], **funding), origin="test")
    rules = {"status": "TRADING", "tick_size": 0.1, "step_size": 0.01, "funding_interval_hours": 8.0}
    lake.append("instruments", rows(schema.INSTRUMENTS, event_time=[NOON - 86_400_000], **rules), origin="test")
    return lake


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_pieces_equal_those_of_everything_whatever_came_late_or_is_missing(seed, tmp_path, monkeypatch):
    lake = recorded_lake(tmp_path / "lake", seed)
    bars = assert_pieces_do_not_matter(monkeypatch, lake, "BNBUSDT", at(0), at(N_MINUTES))
    assert 0 < bars["is_gap"].sum() < N_MINUTES and bars["funding_per_unit"].n_unique() > 2
    assert bars["exec_open"].is_nan().any() and not bars["exec_mark_open"].is_nan().all()


def test_pieces_of_a_synthetic_market_do_not_matter_across_midnight(synthetic_lake, monkeypatch):
    start = datetime(2026, 1, 5, 21, tzinfo=UTC)
    bars = assert_pieces_do_not_matter(monkeypatch, synthetic_lake, "BTCUSDT", start, start + timedelta(hours=6))
    assert not bars["exec_bid"].is_nan().all()


@pytest.mark.parametrize("assumed", [NO_SUBSTITUTION, ASSUMED])
def test_pieces_of_a_real_recording_do_not_matter(real_data, tmp_path, monkeypatch, assumed):
    lake = Lake(tmp_path / "lake", create=True)
    start, end = datetime(2025, 11, 28, 10, tzinfo=UTC), datetime(2025, 11, 28, 14, tzinfo=UTC)
    import_path(lake, real_data / "collector-2025-11-28", format="collector", symbol="BNBUSDT")
    rules = real_data / "exchangeInfo-response.json"
    import_path(lake, rules, format="exchange-info", symbol="BNBUSDT", effective=start)
    bars = assert_pieces_do_not_matter(monkeypatch, lake, "BNBUSDT", start, end, assumed)
    assert 0 < bars["is_gap"].sum() < len(bars)


def test_quotes_that_stop_before_a_piece_ends_are_carried_into_the_next_by_their_age(tmp_path, monkeypatch):
    lake = Lake(tmp_path / "lake", create=True)
    open_ms = NOON + np.arange(6) * MINUTE
    flat = dict.fromkeys(("open", "high", "low", "close"), 100.0)
    lake.append("klines", rows(schema.KLINES, open_time=open_ms, **flat), origin="test")
    lake.append(
        "book_ticker",
        rows(schema.BOOK_TICKER, update_id=[1], event_time=[NOON + 30_000], bid_price=[99.9], ask_price=[100.1]),
        origin="test",
    )
    rules = {"status": "TRADING", "tick_size": 0.1, "step_size": 0.01}
    lake.append("instruments", rows(schema.INSTRUMENTS, event_time=[NOON - MINUTE], **rules), origin="test")
    monkeypatch.setattr(recorded, "PIECE", timedelta(minutes=1))
    bars = build_bars(lake, "BNBUSDT", at(0), at(4), latency_ms=0, substitutions=ASSUMED)
    assert bars.frame["quote_age_ms"].to_list() == [33_000.0, 93_000.0, 153_000.0, 213_000.0]
    assert not any("quotes" in sentence for sentence in bars.substituted)


def test_what_is_kept_of_trades_has_the_same_holes_and_is_a_handful_per_window():
    ids = np.delete(np.arange(10_000), [4_000, 7_000])
    trades = rows(schema.TRADES, agg_trade_id=ids, event_time=NOON + ids * 100, price=100.0 + np.sin(ids))
    exec_ms = NOON + np.arange(0, 1_000_000, MINUTE)
    kept = kept_trades(counted_trades(trades), exec_ms)
    assert len(kept) < 5 * len(exec_ms) + 5
    whole, thin = trade_track(trades), trade_track(kept)
    assert thin.hole_from_ms.tolist() == whole.hole_from_ms.tolist() == [NOON + 399_900, NOON + 699_900]
    assert thin.hole_to_ms.tolist() == whole.hole_to_ms.tolist()


def test_what_is_kept_of_marks_is_silent_where_all_of_them_are():
    seconds = np.delete(np.arange(600), np.arange(200, 230))
    marks = rows(schema.MARK_PRICE, event_time=NOON + seconds * 1_000, mark_price=100.0 + np.sin(seconds))
    exec_ms = NOON + np.arange(0, 600_000, MINUTE)
    kept = kept_marks(marks, exec_ms, np.empty(0, np.int64), exec_ms)
    assert len(kept) < len(marks) / 3
    whole, thin = mark_track(marks), mark_track(kept)
    assert thin.hole_from_ms.tolist() == whole.hole_from_ms.tolist() == [NOON + 199_000]
    assert thin.hole_to_ms.tolist() == whole.hole_to_ms.tolist() == [NOON + 230_000]


def test_of_quotes_the_last_known_at_each_moment_is_kept_and_the_last_of_all():
    quotes = rows(schema.BOOK_TICKER, event_time=NOON + np.arange(0, 6_000, 1_000), bid_price=np.arange(6.0))
    kept = kept_quotes(quotes, NOON + np.array([-5_000, 1_500, 1_600, 3_000, 90_000]))
    assert kept["bid_price"].to_list() == [1.0, 3.0, 5.0]
