"""The market and what we did in it: candles, trades, realised liquidations."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.candles import draw_candles, finish, span, time_range
from research.plots.realised import bar_realised, mark_realised, realised_sums
from research.plots.style import LONG, SHORT, SURFACE, escaped
from research.thin import epoch_ms

MAX_TRADES = 150
MAX_TRADES_WITH_LEVELS = 12
_EXTREME_TRADES = 20  # the worst and the best that are always drawn


def plot_candles(
    bars: pl.DataFrame, *, symbol: str, tick_size: float, force_orders: pl.DataFrame | None = None
) -> go.Figure:
    """Candles, gaps and, where given, realised liquidations.

    Parameters
    ----------
    bars : open_time (UTC, ascending), open, high, low, close (USDT; NaN in bars nothing was seen of), and optionally
        mark_price, which is drawn as a line unless it is the close of every bar: then none was recorded. With
        mark_age_ms the line has a hole where none was heard.
    force_orders : rows of ``data.schema.FORCE_ORDERS``.
    """
    figure, interval, notes = draw_candles(bars, tick_size)
    if force_orders is not None:
        notes.append(mark_realised(figure, force_orders, bars, interval))
    return finish(figure, f"{symbol}: candles of {span(interval)}", notes, plot_px=440)


def plot_trades(
    bars: pl.DataFrame,
    trades: pl.DataFrame,
    *,
    symbol: str,
    tick_size: float,
    force_orders: pl.DataFrame | None = None,
) -> go.Figure:
    """Candles with our entries and exits; with few trades also the levels of their orders.

    Parameters
    ----------
    bars, force_orders : as in ``plot_candles``.
    trades : rows of ``research.trades.TRADES``; those that touch the range of ``bars`` are drawn, at most 150: the
        20 worst and the 20 best, then the latest.
    """
    figure, interval, notes = draw_candles(bars, tick_size)
    if force_orders is not None:
        notes.append(mark_realised(figure, force_orders, bars, interval))
    first, last = time_range(bars)
    entry, leave = epoch_ms(trades["entry_time"]), epoch_ms(trades["exit_time"])
    inside = trades.filter(pl.Series((entry <= last) & (leave >= first)))
    drawn = _worth_drawing(inside)
    for side, name, colour, symbol_name in (
        (1, "long", LONG, "triangle-up"),
        (-1, "short", SHORT, "triangle-down"),
    ):
        own = drawn.filter(pl.col("side") == side)
        if own.is_empty():
            continue
        if len(drawn) <= MAX_TRADES_WITH_LEVELS:
            _mark_levels(figure, own, name, colour)
        _mark_trades(figure, own, name, colour, symbol_name, tick_size)
    if len(drawn) < len(inside):
        notes.append(
            f"{len(drawn)} of {formats.count(len(inside))} trades are drawn: "
            f"the {_EXTREME_TRADES} worst, the {_EXTREME_TRADES} best, then the latest."
        )
    elif drawn.is_empty():
        notes.append("No trade in this range.")
    else:
        notes.append("The one trade of this range." if len(drawn) == 1 else f"All {len(drawn)} trades of this range.")
    if 0 < len(drawn) <= MAX_TRADES_WITH_LEVELS:
        trails = ", price that arms the trailing order dash-dotted" if drawn["activation_price"].count() else ""
        notes.append(f"Stop solid, target dotted{trails}.")
    return finish(figure, f"{symbol}: trades on candles of {span(interval)}", notes, plot_px=440)


def plot_liquidations(bars: pl.DataFrame, force_orders: pl.DataFrame, *, symbol: str, tick_size: float) -> go.Figure:
    """Candles with realised liquidations, and their sum per candle below: shorts closed up, longs closed down.

    Parameters
    ----------
    bars, force_orders : as in ``plot_candles``.
    """
    figure, interval, notes = draw_candles(bars, tick_size)
    notes.append(mark_realised(figure, force_orders, bars, interval))
    axis = bar_realised(figure, realised_sums(force_orders, bars, interval), interval, "y2")
    figure.update_layout(
        yaxis={"domain": [0.3, 1.0]}, yaxis2={"domain": [0.0, 0.22], "anchor": "x", **axis}, xaxis={"anchor": "y2"}
    )
    return finish(figure, f"{symbol}: realised liquidations", notes, plot_px=520)


def _worth_drawing(trades: pl.DataFrame) -> pl.DataFrame:
    """The worst and the best trades, then the latest, at most ``MAX_TRADES``, in order of entry."""
    if len(trades) <= MAX_TRADES:
        return trades.sort("entry_time")
    ranked = trades.sort("net_pnl_usdt")
    extremes = pl.concat([ranked.head(_EXTREME_TRADES), ranked.tail(_EXTREME_TRADES)])
    rest = ranked.slice(_EXTREME_TRADES, len(ranked) - 2 * _EXTREME_TRADES).sort("entry_time")
    return pl.concat([extremes, rest.tail(MAX_TRADES - 2 * _EXTREME_TRADES)]).sort("entry_time")


def _mark_trades(
    figure: go.Figure, trades: pl.DataFrame, name: str, colour: str, symbol: str, tick_size: float
) -> None:
    """Entry triangles, exit circles and the lines between them, of one side; a trade still held has no circle."""
    entered, left = epoch_ms(trades["entry_time"]), epoch_ms(trades["exit_time"])
    entry, leave = trades["entry_price"].to_numpy(), trades["exit_price"].to_numpy()
    gap = np.full(len(trades), np.nan)
    hover = np.array([_trade_text(trade, name, tick_size) for trade in trades.iter_rows(named=True)])
    figure.add_scatter(
        x=np.column_stack([entered, left, left]).ravel(),
        y=np.column_stack([entry, leave, gap]).ravel(),
        mode="lines",
        line={"color": colour, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
        name=f"{name} held",
    )
    exits = {"symbol": "circle-open", "size": 8, "color": colour, "line": {"width": 2, "color": colour}}
    entries = {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 1, "color": SURFACE}}
    closed = (trades["reason"] != "open").to_numpy()
    for x, y, texts, marker, label, rank in (
        (left[closed], leave[closed], hover[closed], exits, f"{name} exit", 1001),
        (entered, entry, hover, entries, f"{name} entry", 1000),
    ):
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker=marker,
            name=label,
            legendrank=rank,
            hovertext=texts.tolist(),
            hovertemplate="%{hovertext}<extra></extra>",
        )


def _mark_levels(figure: go.Figure, trades: pl.DataFrame, name: str, colour: str) -> None:
    """Prices of the orders that stood while a trade was held."""
    entered, left = epoch_ms(trades["entry_time"]), epoch_ms(trades["exit_time"])
    gap = np.full(len(trades), np.nan)
    for column, dash, label in (
        ("stop_price", "solid", "stop"),
        ("target_price", "dot", "target"),
        ("activation_price", "dashdot", "trailing from"),
    ):
        level = trades[column].fill_null(np.nan).to_numpy()
        if np.isnan(level).all():
            continue
        figure.add_scatter(
            x=np.column_stack([entered, left, left]).ravel(),
            y=np.column_stack([level, level, gap]).ravel(),
            mode="lines",
            line={"color": colour, "width": 1, "dash": dash},
            hovertemplate=f"<b>%{{y:,.8~f}}</b> USDT {label}<extra></extra>",
            showlegend=False,
            name=f"{name} {label}",
        )


def _trade_text(trade: dict, side: str, tick_size: float) -> str:
    held = (trade["exit_time"] - trade["entry_time"]).total_seconds()
    return (
        f"<b>{formats.usdt(trade['net_pnl_usdt'], signed=True)}</b> USDT net, {side}, {escaped(trade['reason'])}<br>"
        f"{formats.price(trade['entry_price'], tick_size)} → {formats.price(trade['exit_price'], tick_size)}, "
        f"fees {formats.usdt(trade['fees_usdt'])}, funding {formats.usdt(trade['funding_usdt'])}<br>"
        f"{trade['entry_time']:%d %b %H:%M} UTC, {formats.age(held)}"
    )
