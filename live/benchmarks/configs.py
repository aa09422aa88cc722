"""A market, a champion that decides on it often, and challengers that differ in their stops."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from research.engine import TradingConfig
from research.order_settings import Costs, Orders

if TYPE_CHECKING:
    from data.synthetic import MarketSpec

START = datetime(2026, 1, 5, 6, 42, 20, tzinfo=UTC)
_PARAMS = {
    "momentum_multiple": 0.6, "volatility_window_bars": 5, "volume_multiple": 0.8, "volume_window_bars": 10,
    "target_bps": 40.0, "stop_bps": 20.0, "activation_bps": 20.0, "activation_buffer_bps": 0.5, "callback_bps": 10.0,
    "target_gap_bps": 4.0, "max_spread_ticks": 10.0, "max_funding_bps": 5.0,
}  # fmt: skip


def market(hours: float) -> "MarketSpec":
    """What is played from ``START`` on, for so many hours and a little longer."""
    from data.synthetic import BTC_LIKE, MarketSpec  # compiled: nothing that a runner brings

    return MarketSpec(
        symbols=(BTC_LIKE,),
        start=START.replace(minute=0, second=0),
        days=(hours + 1.5) / 24,
        seed=7,
        trades_per_second=0.4,
        quote_interval_s=2,
        depth_interval_s=20,
        mark_interval_s=1,
        momentum_edge=0.6,
    )


def champion(**params: float) -> TradingConfig:
    """A config that enters a few times an hour on the synthetic market; keywords replace params."""
    return TradingConfig(
        strategy="momentum",
        symbol="BTCUSDT",
        params={**_PARAMS, **params},
        costs=Costs(taker_fee_bps=4.0, maker_fee_bps=0.5, slippage_bps=0.5, latency_ms=150),
        orders=Orders(notional_usdt=500.0, max_notional_usdt=600.0, entry_limit_ticks=2, cooldown_bars=1),
    )


def challengers(count: int) -> list[TradingConfig]:
    """So many others on the same feed."""
    return [champion(stop_bps=20.0 + 0.25 * number) for number in range(1, count + 1)]
