"""Performance figures from PnL in USDT on a fixed notional: sums, not compounding.

Sharpe and its kin are ratios of mean to deviation of equally spaced PnL, annualised by the square root of the number of
periods in a year of 365 days (crypto trades every day); the capital base cancels. Sharpe, W. F. (1994), "The Sharpe
Ratio"; Sortino, F. and Price, L. (1994); Politis, D. and Romano, J. (1994), "The Stationary Bootstrap".
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

MINUTES_PER_YEAR = 365 * 24 * 60


def sharpe_from_sums(total: np.ndarray, squares: np.ndarray, n_bars: int, bars_per_year: float) -> np.ndarray:
    """Annualised Sharpe ratio from the sum and the sum of squares of bar PnL; NaN without any deviation.

    Parameters
    ----------
    total, squares : float64, shape (n_configs,)
        Sum of the PnL per bar (USDT) and of its square over ``n_bars`` bars.
    """
    mean = np.asarray(total) / n_bars
    variance = np.asarray(squares) / n_bars - mean * mean
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = mean / np.sqrt(variance) * np.sqrt(bars_per_year)
    return np.where(variance > 0.0, ratio, np.nan)


def sharpe(pnl: np.ndarray, periods_per_year: float) -> float:
    """Annualised Sharpe ratio of equally spaced PnL; NaN when it never varies or is empty."""
    if len(pnl) == 0:
        return float("nan")
    squares = np.array([np.sum(np.square(pnl))])
    return float(sharpe_from_sums(np.array([np.sum(pnl)]), squares, len(pnl), periods_per_year)[0])


def sortino(pnl: np.ndarray, periods_per_year: float) -> float:
    """Mean over downside deviation around zero, annualised; NaN without a losing period."""
    downside = float(np.sqrt(np.mean(np.square(np.minimum(pnl, 0.0))))) if len(pnl) else 0.0
    return float(np.mean(pnl) / downside * np.sqrt(periods_per_year)) if downside > 0.0 else float("nan")


def drawdown(equity_usdt: np.ndarray) -> np.ndarray:
    """Fall below the running peak of equity that started at zero, USDT, <= 0; shape as given, time on the last axis."""
    peak = np.maximum.accumulate(np.maximum(equity_usdt, 0.0), axis=-1)
    return equity_usdt - peak


def bootstrap_rows(n_rows: int, *, block: int, draws: int, seed: int) -> np.ndarray:
    """Rows that a stationary bootstrap takes: blocks of mean length ``block``, which go on from the end at the start.

    Returns
    -------
    int64, shape (draws, n_rows).
    """
    rng = np.random.default_rng(seed)
    starts_new = rng.random((draws, n_rows)) < 1.0 / block
    starts_new[:, 0] = True
    start = rng.integers(0, n_rows, (draws, n_rows))
    # Position inside the sample: the last fresh start plus the steps since.
    step = np.arange(n_rows)
    last_start = np.maximum.accumulate(np.where(starts_new, step, 0), axis=1)
    return (np.take_along_axis(start, last_start, axis=1) + step - last_start) % n_rows


def bootstrap_sharpe(
    pnl: np.ndarray, periods_per_year: float, *, block: int, draws: int = 500, level: float = 0.9, seed: int = 0
) -> tuple[float, float]:
    """Interval of the Sharpe ratio by stationary bootstrap with mean block length ``block`` periods.

    Returns
    -------
    (low, high) at ``level``; NaN when fewer than two blocks of data exist or the PnL never varies.
    """
    n = len(pnl)
    if n < 2 * block or not np.any(pnl):
        return float("nan"), float("nan")
    samples = pnl[bootstrap_rows(n, block=block, draws=draws, seed=seed)]
    ratios = sharpe_from_sums(samples.sum(axis=1), np.square(samples).sum(axis=1), n, periods_per_year)
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) == 0:
        return float("nan"), float("nan")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return float(low), float(high)


def summary(
    trades: pl.DataFrame, equity: pl.DataFrame, *, capital_usdt: float, bars_per_year: float
) -> dict[str, float]:
    """The figures a result prints, units in the names.

    Parameters
    ----------
    trades : frame of ``research.trades.TRADES``; open trades count in PnL, not in the trade statistics.
    equity : frame with equity_usdt and position per bar.
    capital_usdt : the base that returns and drawdown are fractions of.
    """
    closed = trades.filter(pl.col("reason") != "open")
    curve = equity["equity_usdt"].to_numpy()
    pnl = np.diff(curve, prepend=0.0)
    net = closed["net_pnl_usdt"].to_numpy()
    notional = (closed["quantity"] * closed["entry_price"]).to_numpy()
    losses = -net[net < 0.0].sum()
    return {
        "return": float(curve[-1] / capital_usdt) if len(curve) else float("nan"),
        "net_pnl_usdt": float(curve[-1]) if len(curve) else float("nan"),
        "fees_usdt": float(trades["fees_usdt"].sum()),
        "funding_usdt": float(trades["funding_usdt"].sum()),
        "sharpe": sharpe(pnl, bars_per_year),
        "sortino": sortino(pnl, bars_per_year),
        "max_drawdown": float(drawdown(curve).min() / capital_usdt) if len(curve) else float("nan"),
        "trades": float(len(closed)),
        "win_rate": float(np.mean(net > 0.0)) if len(net) else float("nan"),
        "net_bps_per_trade": float(net.sum() / notional.sum() * 1e4) if len(net) else float("nan"),
        "profit_factor": float(net[net > 0.0].sum() / losses) if losses > 0.0 else float("nan"),
        "exposure": float(np.mean(equity["position"].to_numpy() != 0)) if len(curve) else float("nan"),
        "turnover_usdt": float(2.0 * notional.sum()),
    }


LABELS: Mapping[str, str] = {
    "return": "Return [%]",
    "net_pnl_usdt": "Net PnL [USDT]",
    "fees_usdt": "Fees [USDT]",
    "funding_usdt": "Funding paid [USDT]",
    "sharpe": "Sharpe, annualised",
    "sortino": "Sortino, annualised",
    "max_drawdown": "Max drawdown [%]",
    "trades": "Trades [n]",
    "win_rate": "Win rate [%]",
    "net_bps_per_trade": "Net per trade [bps]",
    "profit_factor": "Profit factor",
    "exposure": "Exposure [%]",
    "turnover_usdt": "Turnover [USDT]",
}
