"""A paper run on the loopback exchange, and everything that must say the same."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from polars.testing import assert_frame_equal

from data import synthetic
from data.clock import FollowedClock
from data.lake import Lake
from data.loopback.server import Loopback
from data.loopback.tape import Source, SyntheticSource
from data.sealer import seal_folder
from data.venues.aster import venue_of
from data.wal import Log
from live.dispatch import walk
from live.journal import Journal, feed_folder
from live.journal_trades import trades
from live.oversight import RiskConfig
from live.session import Session
from live.shadows import Shadows
from live.stream_feed import StreamFeed
from research.bars import Bars, build_bars
from research.engine import TradingConfig, backtest, backtest_ticks
from research.ticks import read_ticks, resolution_difference

OPENING = datetime(2026, 1, 5, 6, tzinfo=UTC)
START = OPENING.replace(minute=42, second=20)
MARKET = synthetic.MarketSpec(
    symbols=(synthetic.BTC_LIKE, synthetic.ALT_LIKE),
    start=OPENING,
    days=5 / 24,
    seed=7,
    trades_per_second=0.4,
    quote_interval_s=2,
    depth_interval_s=20,
    mark_interval_s=1,
    momentum_edge=0.6,
)
OFTEN = {
    "momentum_multiple": 0.6,
    "volume_multiple": 0.8,
    "max_spread_ticks": 10.0,
    "max_funding_bps": 5.0,
    "notional_usdt": 500.0,
    "max_notional_usdt": 600.0,
    "stop_bps": 20.0,
    "target_bps": 40.0,
    "symbol": "BTCUSDT",
}


@cache
def market() -> SyntheticSource:
    """The market to play; made once."""
    return SyntheticSource(MARKET)


def paper(
    configs: Sequence[TradingConfig],
    path: Path,
    *,
    hours: float,
    resolution: str = "tick",
    lake: Path | None = None,
    limits: RiskConfig | None = None,
    shadows: Shadows | None = None,
    source: Source | None = None,
    at_the_start: Callable[[Loopback], None] = lambda exchange: None,
    **exchange,
) -> tuple[Session, str]:
    """Trade on paper for so many hours of a market, of the one there is from ``START`` on; session, journal's head."""

    async def trade() -> Session:
        async with Loopback(source or market(), **{"start": START, **exchange}) as loopback:
            venue = await venue_of(loopback.rest_url)
            session = Session(
                configs, venue, FollowedClock(), log, journal,
                resolution=resolution, limits=limits, lake=lake, run_length_s=hours * 3_600, shadows=shadows,
            )  # fmt: skip
            begun = iter([True])
            await session.run(asyncio.Event(), lambda progress: next(begun, None) and at_the_start(loopback))
            return session

    with ExitStack() as stack:
        log = stack.enter_context(Log(feed_folder(path)))
        journal = stack.enter_context(Journal(path, log.sync))
        return asyncio.run(trade()), journal.head


def assert_proven(
    configs: Sequence[TradingConfig], path: Path, head: str, *, beside: Callable[[Bars], Bars] = lambda bars: bars
) -> list[pl.DataFrame]:
    """The trades per config: those of the journal, which the replay of its log writes again and the backtest finds.

    Prints what bar resolution hides. ``beside`` adds columns to the bars that the lake does not hold.
    """
    with Journal(path.with_suffix(".replayed")) as journal:
        dispatcher = walk(configs, feed_folder(path), journal)
        assert journal.head == head
    lake = Lake(path.with_suffix(".lake"), create=True)
    for sealed in seal_folder(feed_folder(path), lake, keep=True):
        assert not sealed.quarantined
    listed = []
    for config, seat in zip(configs, dispatcher.seats, strict=True):
        bar_trades, tick_trades = backtests(config, seat.feed, lake, beside)
        listed.append(trades(path, config.config_hash, config.symbol))
        expected = tick_trades if dispatcher.resolution == "tick" else bar_trades
        assert_frame_equal(listed[-1], expected, check_exact=True)
        for label, value in resolution_difference(bar_trades, tick_trades).items():
            print(f"{config.symbol} {label}: {value:.4g}")
    return listed


def backtests(
    config: TradingConfig, feed: StreamFeed, lake: Lake, beside: Callable[[Bars], Bars]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Trades on the lake at bar and at tick resolution, of the rows that the feed told."""
    bars = beside(bars_of(config, feed, lake))
    assert (bars.frame.height, bars.frame["is_gap"].sum()) == (feed.bars + feed.gaps, feed.gaps)
    ticks = read_ticks(lake, config.symbol, **_asked(config, feed))
    bar_trades = backtest(config, bars, last=bars.frame.height - 1, min_coverage=0.0).trades
    return bar_trades, backtest_ticks(config, bars, ticks, end_ms=feed.ended_ms)


def bars_of(config: TradingConfig, feed: StreamFeed, lake: Lake) -> Bars:
    """The lake's bars of the rows that the feed told."""
    return build_bars(lake, config.symbol, latency_ms=config.costs.latency_ms, **_asked(config, feed))


def _asked(config: TradingConfig, feed: StreamFeed) -> dict[str, Any]:
    start, end = (datetime.fromtimestamp(ms / 1_000, UTC) for ms in (feed.first_ms, feed.told_until_ms))
    return {"start": start, "end": end, "interval": config.interval, "substitutions": config.substitutions}
