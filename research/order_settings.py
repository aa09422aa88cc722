"""What trading costs and how a decision becomes orders: the sections of a config that ``research.fills`` goes by."""

from dataclasses import dataclass
from typing import Literal

from research.resting import RestingEntry
from research.sizing import OpenInterestSize


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What trading costs. No defaults: no run is free by accident."""

    taker_fee_bps: float  # of notional, per fill
    maker_fee_bps: float  # of notional, per fill
    slippage_bps: float  # of price, against us, on every market order beyond the spread
    latency_ms: int  # decision to market

    def __post_init__(self) -> None:
        for name in ("taker_fee_bps", "slippage_bps", "latency_ms"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} {getattr(self, name):g} would pay us: write what it costs, 0 or more")


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How a decision becomes orders: size, limits, pauses.

    Without ``risk_usdt`` every trade has one notional; with it, one loss at its stop (prior-art 001), and the notional
    times the leverage is what its margin carries at most. ``open_interest_size`` scales either.
    """

    notional_usdt: float  # per trade, rounded up to the step
    max_notional_usdt: float  # never above this
    entry_limit_ticks: int  # how far beyond the touch seen at decision the IOC limit lies
    cooldown_bars: int  # signal bars without entries after an exit; the bar of the exit itself always counts
    entry_hours: tuple[int, ...] = tuple(range(24))  # UTC hours in which entries are allowed
    leverage: float = 1.0  # margin set on the exchange, isolated; does not change a fixed notional
    trailing: Literal["exchange"] = "exchange"  # native trailing order; callbacks under 10 bps cannot be executed
    risk_usdt: float | None = None  # lost where the stop lies as planned, before fees, spread and slippage
    open_interest_size: OpenInterestSize | None = None
    max_daily_loss_usdt: float | None = None  # no entry for the rest of a UTC day that lost as much
    resting: RestingEntry | None = None  # entries wait in the book in place of taking

    def __post_init__(self) -> None:
        if not self.notional_usdt > 0.0:
            raise ValueError(f"notional_usdt {self.notional_usdt:g} must be above 0: it is what a trade is worth")
        for hour in self.entry_hours:
            if hour not in range(24):  # it would never come, and midnight is 0
                raise ValueError(f"entry_hours {hour} is no hour of a day; write 0 to 23")
        if self.risk_usdt is not None and not self.risk_usdt > 0.0:
            raise ValueError(f"risk_usdt {self.risk_usdt:g} must be above 0; leave it out for a fixed notional")
        if self.max_daily_loss_usdt is not None and not self.max_daily_loss_usdt > 0.0:
            raise ValueError(
                f"max_daily_loss_usdt {self.max_daily_loss_usdt:g} must be above 0: it is a loss; leave it out for none"
            )
        if not self.leverage >= 1.0:
            raise ValueError(f"leverage {self.leverage:g} is under 1, which the exchange cannot set; write 1 or more")
        if self.leverage % 1.0:
            # A runner would set the whole number below, and the backtest liquidate by another.
            low = self.leverage // 1.0
            raise ValueError(
                f"leverage {self.leverage:g} cannot be set, the exchange takes whole numbers; "
                f"write {low:g} or {low + 1.0:g}"
            )


def sizes_in_words(orders: Orders) -> list[str]:
    """What is not seen from a notional."""
    sentences = []
    if orders.risk_usdt is not None:
        carried_usdt = min(orders.notional_usdt * orders.leverage, orders.max_notional_usdt)
        sentences.append(f"size: {orders.risk_usdt:g} USDT lost at the stop, {carried_usdt:g} USDT of notional at most")
    if orders.open_interest_size is not None:
        sentences.append("size scaled by open interest and crowd; no entry where the open interest is not known")
    return sentences


_FILLED_BY = {
    "bar": "the first bar wholly within that life whose range goes through their price fills them whole",
    "tick": "the first trade through their price fills them whole",
}


def resting_in_words(orders: Orders, costs: Costs, resolution: Literal["bar", "tick"]) -> list[str]:
    """How entries come about that do not take."""
    resting = orders.resting
    if resting is None:
        return []
    return [
        f"entries rest {resting.offset_bps:g} bps behind the touch for {resting.lifetime_ms / 1e3:g} s; "
        f"{_FILLED_BY[resolution]}, for a maker fee of {costs.maker_fee_bps:g} bps"
    ]
