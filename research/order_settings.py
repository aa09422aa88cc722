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
    resting: RestingEntry | None = None  # entries wait in the book in place of taking; at tick resolution only

    def __post_init__(self) -> None:
        if self.risk_usdt is not None and not self.risk_usdt > 0.0:
            raise ValueError(f"risk_usdt {self.risk_usdt:g} must be above 0; leave it out for a fixed notional")
        if self.max_daily_loss_usdt is not None and not self.max_daily_loss_usdt > 0.0:
            raise ValueError(
                f"max_daily_loss_usdt {self.max_daily_loss_usdt:g} must be above 0: it is a loss; leave it out for none"
            )
        if not self.leverage >= 1.0:
            raise ValueError(f"leverage {self.leverage:g} is under 1, which the exchange cannot set; write 1 or more")
