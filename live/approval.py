"""The operator's word on a promoted config, as it stands in the file; ``live.promotion`` says what it is worth."""

import math
from dataclasses import dataclass, field
from datetime import datetime

_WIDTH = 1.96  # standard errors to either side: 95 of 100 honest paper stages lie within


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one trade earned out of sample; net of costs, bps of its notional."""

    trades: int
    mean_net_bps: float
    deviation_net_bps: float

    def interval_bps(self, paper_trades: int) -> tuple[float, float]:
        """Where the mean of so many further trades should lie."""
        if not self.trades or not paper_trades:
            return -math.inf, math.inf
        error = self.deviation_net_bps * math.sqrt(1.0 / self.trades + 1.0 / paper_trades)
        return self.mean_net_bps - _WIDTH * error, self.mean_net_bps + _WIDTH * error


@dataclass(frozen=True, kw_only=True)
class PaperStage:
    """What a config did on paper, of a journal that ends with ``chain_head``.

    Attributes
    ----------
    days : from the first event to the last.
    low_bps, high_bps : the predicted interval of ``mean_net_bps``.
    """

    chain_head: str
    days: float
    trades: int
    mean_net_bps: float
    low_bps: float
    high_bps: float


@dataclass(frozen=True, kw_only=True)
class Demands:
    """How much is asked for before a config trades for real."""

    least_paper_days: float = 7.0
    least_paper_trades: int = 30
    most_data_age_days: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Approval:
    """The operator's word. All of the file but ``signature`` itself is signed, in its canonical form.

    Attributes
    ----------
    operator : address of the key that signed; never one that trades.
    code_hash, lock_hash : of the code and the locked libraries that were tested.
    parity : of what was replayed, and came out the same.
    """

    operator: str
    approved: datetime
    expires: datetime
    code_hash: str
    lock_hash: str
    paper: PaperStage
    parity: tuple[str, ...]
    demands: Demands = field(default_factory=Demands)
    signature: str = ""
