"""How fragile a record is: what its fills may cost, how deep it could have fallen, what it hangs on.

Bands of drawdown: stationary bootstrap, Politis, D. and Romano, J. (1994). A record that one day or one trade carries
is an anecdote, whatever its Sharpe says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from research import formats
from research.gate import Finding
from research.metrics import bootstrap_rows, drawdown

MIN_EARNING = 0.5  # share of the surface; told only
BAND_DRAWS = 500
BAND_LEVEL = 0.9

LEFT_OUT = pl.Schema(
    {
        "name": pl.String,
        "net_pnl_usdt": pl.Float64,
        "without_usdt": pl.Float64,  # what the record earns when this is left out
        "share_of_profit": pl.Float64,  # of the record's net PnL; null where it earned nothing
    }
)
_PART = {name: LEFT_OUT[name] for name in ("name", "net_pnl_usdt")}


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """What the trades of a record paid in fees, and what they could have paid, the trades themselves held fixed.

    Prices are as filled, so spread and slippage are paid already. NaN without a fill.

    Parameters
    ----------
    fills : entries, and exits of closed trades.
    traded_usdt : notional of all fills.
    charged_bps : fees over the notional traded, per fill.
    break_even_bps : fee per fill at which nothing is left: gross PnL less funding over the notional traded.
    """

    fills: int
    traded_usdt: float
    charged_bps: float
    break_even_bps: float

    @property
    def round_trip_bps(self) -> float:
        """Fee of entry and exit together at which nothing is left."""
        return 2.0 * self.break_even_bps

    @property
    def margin_bps(self) -> float:
        """What a fill may cost more than it did, whatever for."""
        return self.break_even_bps - self.charged_bps


def break_even(trades: pl.DataFrame) -> BreakEven:
    """Break-even cost of a trade list, frame of ``research.trades.TRADES``; an open trade has one fill."""
    closed = trades.filter(pl.col("reason") != "open")
    traded = float((trades["quantity"] * trades["entry_price"]).sum())
    traded += float((closed["quantity"] * closed["exit_price"]).sum())
    earned = float(trades["gross_pnl_usdt"].sum()) - float(trades["funding_usdt"].sum())
    return BreakEven(
        fills=trades.height + closed.height,
        traded_usdt=traded,
        charged_bps=1e4 * float(trades["fees_usdt"].sum()) / traded if traded else math.nan,
        break_even_bps=1e4 * earned / traded if traded else math.nan,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawdownBand:
    """The deepest fall so far after each period: of the record, and of its PnL drawn anew in blocks.

    Parameters
    ----------
    block : mean length of what stays together, periods.
    observed, low, median, high : float64, shape (n_periods,), USDT, <= 0; ``low`` is the deep end.
    share_deeper : of the draws that fell as deep as the record, or deeper.
    """

    block: int
    observed: np.ndarray
    low: np.ndarray
    median: np.ndarray
    high: np.ndarray
    share_deeper: float


def drawdown_band(
    pnl: np.ndarray, *, block: int, draws: int = BAND_DRAWS, level: float = BAND_LEVEL, seed: int = 0
) -> DrawdownBand | None:
    """Band of the deepest fall by stationary bootstrap; None where there are not two blocks.

    Parameters
    ----------
    pnl : float64, shape (n_periods,), USDT per period in order.
    """
    n_periods = len(pnl)
    if n_periods < 2 * block:
        return None
    drawn = pnl[bootstrap_rows(n_periods, block=block, draws=draws, seed=seed)]
    depths = _deepest(drawn)
    observed = _deepest(pnl)
    tail = (1.0 - level) / 2.0
    low, median, high = np.quantile(depths, [tail, 0.5, 1.0 - tail], axis=0)
    return DrawdownBand(
        block=block,
        observed=observed,
        low=low,
        median=median,
        high=high,
        share_deeper=float(np.mean(depths[:, -1] <= observed[-1])),
    )


def _deepest(pnl: np.ndarray) -> np.ndarray:
    """Deepest fall so far, periods on the last axis."""
    return np.minimum.accumulate(drawdown(np.cumsum(pnl, axis=-1)), axis=-1)


def left_out(names: Sequence[str], net_pnl_usdt: Sequence[float]) -> pl.DataFrame:
    """The record without each of its parts, the best part first; columns of ``LEFT_OUT``.

    Parameters
    ----------
    names, net_pnl_usdt : of the parts, which add up to the record: its days, symbols or trades.
    """
    net = pl.col("net_pnl_usdt")
    earned = pl.when(net.sum() > 0.0).then(net.sum())
    parts = pl.DataFrame({"name": names, "net_pnl_usdt": net_pnl_usdt}, schema_overrides=_PART)
    return (
        parts.with_columns(without_usdt=net.sum() - net, share_of_profit=net / earned)
        .sort("net_pnl_usdt", descending=True, maintain_order=True)
        .cast(LEFT_OUT)
    )


def fewest_to_lose(parts: pl.DataFrame) -> int | None:
    """How many of the best parts must be left out until nothing is earned; None where nothing was.

    Parameters
    ----------
    parts : frame of ``LEFT_OUT``.
    """
    kept = np.cumsum(parts["net_pnl_usdt"].to_numpy())
    if not len(kept) or kept[-1] <= 0.0:
        return None
    return int(np.argmax(kept[-1] - kept <= 0.0)) + 1


def robustness_finding(surface: pl.DataFrame, cost: BreakEven, days: pl.DataFrame) -> Finding:
    """Does the record survive worse terms? Told, and decides nothing.

    How much worse the terms could be is a choice, not a measurement, and the corners of the surface count as much as
    its middle: there is no limit that luck would pass in a known share of cases.

    Parameters
    ----------
    surface : frame of ``research.surface.SURFACE``. ``days`` of ``LEFT_OUT``.
    """
    total, earning = surface.height, int((surface["net_pnl_usdt"] > 0.0).sum())
    sentence = "nothing was traded, so that there is nothing to strain"
    if cost.fills:
        sentence = (
            f"{earning} of {total} combinations of later orders, dearer fees, more slippage and later starts earn; "
            f"{_left(cost)}; without its best day the record is {formats.usdt(days['without_usdt'][0], signed=True)} "
            "USDT"
        )
    return Finding(
        name="earns on worse terms",
        value=f"{earning} of {total}" if cost.fills else formats.UNKNOWN,
        limit="> half",
        passes=earning > MIN_EARNING * total if cost.fills else None,
        decides=False,
        sentence=sentence,
    )


def _left(cost: BreakEven) -> str:
    """The fee at which nothing is left beside what was charged; a record may lose without any."""
    charged, even = (formats.bps(abs(bps), signed=False) for bps in (cost.charged_bps, cost.break_even_bps))
    if cost.break_even_bps < 0.0:
        return f"free of fees it would lose {even} bps per fill, and {charged} were charged"
    return f"nothing is left at fees of {even} bps per fill, {charged} were charged"
