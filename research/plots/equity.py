"""Equity, drawdown and exposure on one time axis."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import GRID, INK, INS, LONG, MUTED, SHORT, dress, number_axis, time_axis
from research.thin import epoch_ms, runs, thin_line

_LABELLED_DRAWDOWNS = 3


def plot_equity(equity: pl.DataFrame, *, title: str) -> go.Figure:
    """Equity, the fall below its peak, and what was held.

    Out of sample is solid ink; in sample is dashed grey on a shaded background and carries no drawdown labels.

    Parameters
    ----------
    equity : time (UTC, ascending), equity_usdt (after costs), drawdown_usdt (<= 0, ``research.metrics.drawdown``),
        exposure_usdt (signed notional, short negative), is_oos. NaN breaks a line.
    """
    if equity.is_empty():
        raise ValueError("no equity to draw: the frame has no rows")
    times = epoch_ms(equity["time"])
    curve, fall, exposure = (
        equity[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("equity_usdt", "drawdown_usdt", "exposure_usdt")
    )
    is_oos = equity["is_oos"].to_numpy()
    figure = go.Figure()
    _add_curve(figure, times, curve, is_oos)
    _add_line(
        figure,
        times,
        fall,
        says="below the peak",
        line={"color": MUTED, "width": 1},
        fill="tozeroy",
        fillcolor=GRID,
        yaxis="y2",
        name="drawdown",
        showlegend=False,
    )
    for held, colour, name in ((np.maximum(exposure, 0.0), LONG, "long"), (np.minimum(exposure, 0.0), SHORT, "short")):
        _add_line(
            figure,
            times,
            held,
            says=name,
            line={"color": colour, "width": 0, "shape": "hv"},
            fill="tozeroy",
            fillcolor=colour,
            yaxis="y3",
            name=name,
            showlegend=False,
        )
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for first, last in runs(times, ~is_oos, step):
        figure.add_shape(type="rect", x0=first, x1=last, y0=0, y1=1, yref="paper", fillcolor=GRID, opacity=0.6)

    deepest = float(np.nanmin(fall)) if np.isfinite(fall).any() else 0.0
    narrow = _label_drawdowns(figure, worst_drawdowns(times, np.where(is_oos, fall, 0.0)), times, deepest)
    largest = float(np.nanmax(np.abs(exposure))) if np.isfinite(exposure).any() else 0.0
    figure.update_layout(
        xaxis=time_axis(anchor="y3", range=[times[0], times[-1] + step]),
        yaxis=number_axis("equity<br>USDT", domain=[0.45, 1.0], zeroline=True),
        yaxis2=number_axis("drawdown<br>USDT", domain=[0.18, 0.41], anchor="x", range=[(deepest or -1.0) * 1.5, 0.0]),
        yaxis3=number_axis(
            "exposure<br>USDT",
            domain=[0.0, 0.14],
            anchor="x",
            zeroline=True,
            range=[-1.1 * (largest or 1.0), 1.1 * (largest or 1.0)],
            nticks=4,
        ),
    )
    return dress(
        figure,
        title=title,
        caption=_caption(curve, is_oos),
        plot_px=460,
        narrow_plot_px=420,
        narrow={"layout": {**narrow, "xaxis.nticks": 5}},
    )


def worst_drawdowns(times: np.ndarray, drawdown_usdt: np.ndarray, count: int = _LABELLED_DRAWDOWNS) -> list[dict]:
    """The deepest falls below the peak, deepest first.

    Parameters
    ----------
    times : float64, shape (n_points,), milliseconds. ``drawdown_usdt`` the same shape, <= 0, zero at a peak; NaN
        counts as inside the fall around it.

    Returns
    -------
    list of dict
        trough_time (ms), depth_usdt (< 0), days (from the peak before to the recovery, or to the end of the data).
    """
    falls = []
    for first, last in runs(np.arange(len(times), dtype=float), ~(drawdown_usdt == 0.0), 1.0):
        start, end = int(first), int(last)
        if np.isnan(drawdown_usdt[start:end]).all():
            continue
        trough = start + int(np.nanargmin(drawdown_usdt[start:end]))
        peak, recovery = times[max(start - 1, 0)], times[min(end, len(times) - 1)]
        falls.append(
            {
                "trough_time": float(times[trough]),
                "depth_usdt": float(drawdown_usdt[trough]),
                "days": float(recovery - peak) / 86_400_000,
            }
        )
    return sorted(falls, key=lambda fall: fall["depth_usdt"])[:count]


def _add_curve(figure: go.Figure, times: np.ndarray, curve: np.ndarray, is_oos: np.ndarray) -> None:
    # The grey line runs one point further, so that it meets the solid one.
    before = np.concatenate([[False], ~is_oos[:-1]])
    for shown, name, line in (
        (~is_oos | before, "in sample", {"color": INS, "width": 1.5, "dash": "5px,2px"}),
        (is_oos, "out of sample", {"color": INK, "width": 1.8}),
    ):
        if not shown.any() or (name == "in sample" and is_oos.all()):
            continue
        own = np.where(shown, curve, np.nan)
        _add_line(figure, times, own, says=name, line=line, name=name, showlegend=not is_oos.all())


def _add_line(figure: go.Figure, times: np.ndarray, values: np.ndarray, *, says: str, **look: Any) -> None:
    """A thinned line; its hover shows the value as text, because Plotly would write minus as a hyphen."""
    x, y = thin_line(times, values)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        hovertext=[formats.usdt(value) for value in y],
        hovertemplate=f"<b>%{{hovertext}}</b> USDT, {says}<br>%{{x|%d %b %Y %H:%M}} UTC<extra></extra>",
        **look,
    )


def _label_drawdowns(figure: go.Figure, falls: list[dict], times: np.ndarray, deepest: float) -> dict:
    """Write depth and days under the troughs; returns where the labels go on a narrow page."""
    falls = sorted(falls, key=lambda fall: fall["trough_time"])
    span = max(times[-1] - times[0], 1.0)
    places = [(fall["trough_time"] - times[0]) / span for fall in falls]
    wide, tight = (spread(places, gap, gap * 0.55) for gap in (0.12, 0.31))
    narrow = {}
    for fall, place, narrow_place in zip(falls, wide, tight, strict=True):
        figure.add_annotation(
            text=f"{formats.usdt(fall['depth_usdt'])} · {formats.number(fall['days'], 1)} d",
            x=fall["trough_time"],
            y=fall["depth_usdt"],
            yref="y2",
            axref="x",
            ayref="y2",
            ax=times[0] + place * span,
            ay=deepest * 1.36,
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            font={"size": 11, "color": INK},
        )
        narrow[f"annotations[{len(figure.layout.annotations) - 1}].ax"] = times[0] + narrow_place * span
    return narrow


def spread(places: list[float], gap: float, margin: float) -> list[float]:
    """Ascending places in 0..1 moved as little as needed to lie ``gap`` apart and ``margin`` from both ends."""
    moved = []
    for place in places:
        moved.append(max(place, margin, moved[-1] + gap if moved else margin))
    limit = 1.0 - margin
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved


def _caption(curve: np.ndarray, is_oos: np.ndarray) -> str:
    seen = np.flatnonzero(is_oos & np.isfinite(curve))
    if not len(seen):
        return "In sample only: this is not evidence. After costs, fixed notional, not compounded."
    before = np.flatnonzero(~is_oos[: seen[0]] & np.isfinite(curve[: seen[0]]))
    start = curve[before[-1]] if len(before) else 0.0
    gained = formats.usdt(float(curve[seen[-1]] - start), signed=True)
    shaded = "" if is_oos.all() else " Shaded and dashed is in sample: not evidence."
    return (
        f"Out of sample {gained} USDT after costs, fixed notional, not compounded. The worst drawdowns are labelled "
        f"with depth in USDT and days from peak to recovery, or to the end. Exposure: long up, short down.{shaded}"
    )
