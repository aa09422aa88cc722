"""Small frames with something of everything that figures show, and each figure drawn from them."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import plotly.graph_objects as go
import polars as pl

from data.coverage import COVERAGE
from research import plots
from research.trades import TRADES

START = datetime(2026, 2, 10, tzinfo=UTC)


def bars(n: int = 2_000, minutes: int = 1) -> pl.DataFrame:
    """A price that rises one tick per bar; bars 500 to 559 were not seen."""
    opened = 100.0 + 0.1 * np.arange(n)
    opened[500:560] = np.nan
    times = [START + timedelta(minutes=minutes * i) for i in range(n)]
    frame = pl.DataFrame({"open_time": times, "open": opened, "high": opened + 0.3, "low": opened - 0.2})
    return frame.with_columns(pl.col("open_time").dt.cast_time_unit("ms"), close=pl.col("open") + 0.1)


def trades(n: int, reason: str = "target") -> pl.DataFrame:
    """Trades a minute apart that gain their own number in USDT; every second one is short."""
    rows = [
        {
            "trade_id": f"t{i}", "symbol": "BTCUSDT", "side": 1 - 2 * (i % 2),
            "entry_row_time": START + timedelta(minutes=i), "entry_time": START + timedelta(minutes=i),
            "exit_time": START + timedelta(minutes=i + 5), "quantity": 1.0, "entry_price": 100.0, "exit_price": 101.0,
            "stop_price": 99.0, "target_price": 101.0, "activation_price": 100.5, "callback_bps": 20.0,
            "reason": reason, "gross_pnl_usdt": float(i), "fees_usdt": 0.1, "funding_usdt": 0.0,
            "net_pnl_usdt": float(i), "is_ambiguous": False,
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TRADES)


def force_orders(start: datetime = START, price: float = 100.0) -> pl.DataFrame:
    """Two longs closed for 1 000 USDT each in one candle, a short closed for 500 in another."""
    return pl.DataFrame(
        {"event_time": [start + timedelta(minutes=minute) for minute in (0, 1, 60)], "side": ["SELL", "SELL", "BUY"],
         "average_price": [price] * 3, "filled_quantity": [1_000.0 / price, 1_000.0 / price, 500.0 / price]},
        schema_overrides={"event_time": pl.Datetime("ms", "UTC")},
    )  # fmt: skip


def equity(n: int = 9_000) -> pl.DataFrame:
    curve = np.cumsum(np.sin(np.arange(n) / 50.0))
    peak = np.maximum.accumulate(np.maximum(curve, 0.0))
    return pl.DataFrame(
        {
            "time": [START + timedelta(minutes=i) for i in range(n)],
            "equity_usdt": curve,
            "drawdown_usdt": curve - peak,
            "exposure_usdt": 1_000.0 * np.sign(np.sin(np.arange(n) / 300.0)),
            "is_oos": np.arange(n) >= n // 3,
        }
    )


def scores(columns: int = 6, rows: int = 5) -> pl.DataFrame:
    """A hill of out-of-sample Sharpe in the middle; the last column has too few trades."""
    cells = [
        (
            x,
            10.0 * y,
            1.5 - abs(x - columns // 2) - abs(y - 1 - rows // 2),
            2.0 - abs(x - 3),
            10 if x == columns else 100,
        )
        for x in range(1, columns + 1)
        for y in range(1, rows + 1)
    ]
    return pl.DataFrame(cells, schema=["k", "window_bars", "oos_sharpe", "is_sharpe", "trades"], orient="row")


def folds(n: int = 4, params: str = "k 2, window 45") -> pl.DataFrame:
    def row(i: int) -> dict:
        at = START + timedelta(days=10 * i)
        return {
            "fold": i + 1, "train_start": at, "train_end": at + timedelta(days=30),
            "test_start": at + timedelta(days=31), "test_end": at + timedelta(days=41),
            "in_sample_sharpe": 2.0, "oos_sharpe": None if i == 2 else 1.0 - i, "oos_low": None if i == 2 else -1.0 - i,
            "oos_high": None if i == 2 else 2.0, "trades": 30, "net_bps": 1.1,
            "params": {1: params.replace("45", "60"), 2: "no pick, too few trades"}.get(i, params),
            "changed": i in (1, 3),
        }  # fmt: skip

    return pl.DataFrame([row(i) for i in range(n)])


def coverage(days: int = 20) -> pl.DataFrame:
    """klines lack rows on the second day, trades of a day in the middle are gone for good, quotes begin late."""
    damage = {("klines", 1): "open", ("trades", 9): "unrepairable", ("klines", 5): "repaired"}
    rows = [
        {
            "table": table, "symbol": "BTCUSDT", "interval": "1m" if table == "klines" else None,
            "date": date(2026, 2, 10) + timedelta(days=day), "covered": 0.9, "missing": 7, "is_estimate": False,
            "longest_gap_ms": 90_000,
            "state": "missing" if table == "book_ticker" and day < 3
            else "unknown" if table == "book_ticker" else damage.get((table, day), "complete"),
        }
        for table in ("klines", "trades", "book_ticker")
        for day in range(days)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=COVERAGE)


def parameters(frame: pl.DataFrame | None = None, **more: object) -> go.Figure:
    axes = {"x": plots.Axis(column="k", label="k (σ)"), "y": plots.Axis(column="window_bars", label="window (bars)")}
    settings = {"title": "Sharpe", "chosen": (3, 20.0), "folds": 4, "min_trades": 60, "configs_tried": 30}
    return plots.plot_parameters(scores() if frame is None else frame, **axes, **(settings | more))


def every_figure() -> dict[str, go.Figure]:
    market = {"symbol": "BTCUSDT", "tick_size": 0.1}
    marked = bars().with_columns(mark_price=pl.col("close") + 0.1)
    return {
        "candles": plots.plot_candles(marked, **market, force_orders=force_orders()),
        "trades": plots.plot_trades(bars(), trades(200), **market),
        "few trades": plots.plot_trades(bars(100), trades(4), **market),
        "liquidations": plots.plot_liquidations(bars(), force_orders(), **market),
        "equity": plots.plot_equity(equity(), title="Equity"),
        "parameters": parameters(),
        "folds": plots.plot_walk_forward(folds()),
        "gap calendar": plots.plot_gap_calendar(coverage()),
    }


FIGURES = every_figure()


def trace(figure: go.Figure, name: str) -> go.Figure:
    return next(one for one in figure.data if one.name == name)
