"""Realised liquidations as marks: triangles on candles, and bars of sums, shorts closed up and longs closed down."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.candles import span, time_range
from research.plots.style import LIQ, SURFACE
from research.thin import epoch_ms

MAX_MARKS = 80
_MAX_MARK_PX = 26


def realised_sums(force_orders: pl.DataFrame, bars: pl.DataFrame, interval: int) -> pl.DataFrame:
    """Realised liquidations per interval and side, in the range of ``bars``.

    Returns
    -------
    open_time, side, usdt, price (mean by USDT), prints, single (the largest).
    """
    first, last = time_range(bars)
    times = pl.col("event_time").dt.epoch("ms")
    usdt = pl.col("average_price") * pl.col("filled_quantity")
    return (
        force_orders.filter((times >= first) & (times < last))
        .with_columns(pl.col("side").cast(pl.String), usdt.alias("usdt"))
        .filter(pl.col("usdt") > 0.0)
        .sort("event_time")
        .group_by_dynamic(pl.col("event_time"), every=f"{interval}ms", group_by="side")
        .agg(
            pl.col("usdt").sum(),
            ((pl.col("average_price") * pl.col("usdt")).sum() / pl.col("usdt").sum()).alias("price"),
            pl.len().alias("prints"),
            pl.col("usdt").max().alias("single"),
        )
        .rename({"event_time": "open_time"})
    )


def mark_realised(figure: go.Figure, force_orders: pl.DataFrame, bars: pl.DataFrame, interval: int) -> str:
    """Triangles per candle and side, their area proportional to the sum; returns a sentence for the caption."""
    sums = realised_sums(force_orders, bars, interval)
    if sums.is_empty():
        return "No liquidation was recorded in this range."
    drawn = sums.top_k(MAX_MARKS, by="usdt").sort("open_time")
    largest = float(drawn["usdt"].max())
    for side, name, marker in (
        ("SELL", "realised: longs closed (forced sell)", {"symbol": "triangle-down", "color": LIQ}),
        ("BUY", "realised: shorts closed (forced buy)", {"symbol": "triangle-up", "color": SURFACE}),
    ):
        own = drawn.filter(pl.col("side") == side)
        if own.is_empty():
            continue
        figure.add_scatter(
            x=epoch_ms(own["open_time"]) + interval / 2,
            y=own["price"].to_numpy(),
            mode="markers",
            marker={
                **marker,
                "size": own["usdt"].to_numpy(),
                "sizemode": "area",
                "sizeref": 2.0 * largest / _MAX_MARK_PX**2,
                "sizemin": 3,
                "line": {"color": LIQ if side == "BUY" else SURFACE, "width": 1.5 if side == "BUY" else 1},
                "opacity": 1,
            },
            name=name,
            hovertext=[
                f"<b>{formats.usdt(usdt)}</b> USDT liquidated<br>{prints} prints, largest {formats.usdt(single)}<br>"
                f"{time:%d %b %H:%M} UTC"
                for usdt, prints, single, time in own.select("usdt", "prints", "single", "open_time").iter_rows()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    cut = ""
    if len(drawn) < len(sums):
        least = formats.usdt(float(drawn["usdt"].min()))
        cut = f" (the {MAX_MARKS} largest of {formats.count(len(sums))}, from {least} USDT on)"
    return (
        f"Plum triangles happened: realised liquidations summed per candle and side{cut}. The feed carries at most "
        "one per symbol and second, so sums are lower bounds."
    )


def bar_realised(figure: go.Figure, sums: pl.DataFrame, interval: int, axis: str) -> dict:
    """Bars of ``realised_sums`` on the y axis ``axis`` (such as "y2"); returns that axis' settings."""
    for side, sign, name in (("BUY", 1.0, "shorts closed"), ("SELL", -1.0, "longs closed")):
        own = sums.filter(pl.col("side") == side)
        figure.add_bar(
            x=epoch_ms(own["open_time"]) + interval / 2,
            y=sign * own["usdt"].to_numpy(),
            width=interval * 0.85,
            yaxis=axis,
            marker={"color": LIQ if side == "SELL" else SURFACE, "line": {"color": LIQ, "width": 1}},
            hovertext=[
                f"<b>{formats.usdt(usdt)}</b> USDT, {name}<br>{prints} prints<br>{time:%d %b %H:%M} UTC"
                for usdt, prints, time in own.select("usdt", "prints", "open_time").iter_rows()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name=name,
        )
    for text, y, anchor in (("△ shorts closed", 1.0, "top"), ("▼ longs closed", 0.0, "bottom")):
        figure.add_annotation(
            text=text,
            x=0,
            y=y,
            xref="x domain",
            yref=f"{axis} domain",
            xanchor="left",
            yanchor=anchor,
            xshift=6,
        )
    largest = float(sums["usdt"].max() or 1.0)
    ticks = _mirrored_ticks(largest)
    return {
        "title": {"text": f"realised<br>USDT / {span(interval)}"},
        "range": [-largest * 1.25, largest * 1.25],
        "tickvals": ticks,
        "ticktext": [_short(abs(tick)) for tick in ticks],
        "zeroline": True,
    }


def _short(usdt: float) -> str:
    """A round sum in so few letters that the axis title stays free: 5 000, 50 k, 2 M."""
    if usdt < 1e4:
        return formats.usdt(usdt).removesuffix(".00")
    scale, letter = (1e6, "M") if usdt >= 1e6 else (1e3, "k")
    return f"{formats.number(usdt / scale, 0)}{formats.NARROW_SPACE}{letter}"


def _mirrored_ticks(largest: float) -> list[float]:
    """A round number up and down, and zero."""
    step = 10.0 ** np.floor(np.log10(largest))
    tick = next(step * factor for factor in (5.0, 2.0, 1.0) if step * factor <= largest)
    return [-tick, 0.0, tick]
