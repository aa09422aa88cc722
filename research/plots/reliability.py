"""Does 0.3 mean 30 %? What was predicted against what happened, a square panel per factor."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import GRID, INK, INS, MUTED, OOS, SURFACE, dress

FACTORS = {
    "p_touch": "reached within the horizon",
    "p_liq_touch": "liquidated there, once reached",
    "confidence": "reached and liquidated",
}

_PLOT_PX, _NARROW_PANEL_PX = 430, 420
_HAPPENED = "happened (share)"  # side by side the panels share it
_LARGEST_PX = 16
_LEAST_WIDTH = 0.01  # of a histogram bar: equal predictions share one bin without width


def plot_reliability(bins: pl.DataFrame, scores: pl.DataFrame, *, title: str) -> go.Figure:
    """Frequency against prediction with intervals by days, and how many predictions there are of each size.

    Parameters
    ----------
    bins : rows of ``validation.calibration.RELIABILITY``: a factor without rows gets an empty panel that says so.
    scores : rows of ``validation.calibration.SCORES``, one per factor; panels come in this order.
    title : what is judged; "uncalibrated" is added where a factor fails its gate.

    Raises
    ------
    ValueError
        Without a score: there is nothing to say then.
    """
    if scores.is_empty():
        raise ValueError("no scores to draw: expected a row per factor; run the calibration first")
    figure = go.Figure()
    panels = scores.height
    wide, narrow = _places(panels)
    for number, score in enumerate(scores.iter_rows(named=True)):
        own = bins.filter(pl.col("factor") == score["factor"]).sort("predicted")
        _draw_panel(figure, own, number, bool(score["calibrated"]))
        _head_panel(figure, own, score, number)
        for axis, domain in wide[number].items():
            figure.layout[axis].domain = domain
    failing = [one for one in scores.iter_rows(named=True) if not one["calibrated"]]
    return dress(
        figure,
        title=title + (": uncalibrated" if failing else ""),
        caption=_caption(failing),
        plot_px=_PLOT_PX,
        narrow_plot_px=_NARROW_PANEL_PX * panels,
        top_px=52,
        narrow={"layout": _narrow_layout(narrow)},
    )


def _axes(number: int) -> tuple[str, str]:
    """Numbers that Plotly knows the square's and the histogram's axes by."""
    return (str(2 * number + 1) if number else ""), str(2 * number + 2)


def _places(panels: int) -> tuple[list[dict], list[dict]]:
    """Domains per panel: side by side, and on a narrow page one under the other."""
    wide, narrow = [], []
    gap = 0.07
    width = (1.0 - gap * (panels - 1)) / panels
    # A panel of a page 1 230 px wide is square at this width.
    square = min(width, 0.78 * _PLOT_PX / 1_150)
    for number in range(panels):
        across = [number * (width + gap), number * (width + gap) + square]
        top, bottom = 1.0 - number / panels, 1.0 - (number + 1) / panels
        height = top - bottom
        wide.append(_panel(number, across, (0.22, 1.0), (0.0, 0.14)))
        places = (bottom + 0.36 * height, top - 0.02 * height), (bottom + 0.18 * height, bottom + 0.3 * height)
        narrow.append(_panel(number, [0.0, 1.0], *places))
    return wide, narrow


def _panel(number: int, across: list[float], square: tuple[float, float], below: tuple[float, float]) -> dict:
    one, two = _axes(number)
    return {f"xaxis{one}": across, f"yaxis{one}": square, f"xaxis{two}": across, f"yaxis{two}": below}


def _narrow_layout(places: list[dict]) -> dict:
    """One panel under the other, each with what its axis says."""
    told = {f"yaxis{_axes(number)[0]}.title.text": _HAPPENED for number in range(len(places))}
    return told | {f"{axis}.domain": domain for one in places for axis, domain in one.items()}


def _draw_panel(figure: go.Figure, bins: pl.DataFrame, number: int, is_calibrated: bool) -> None:
    axis, below = _axes(number)
    on_square = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        showlegend=False,
        name="as predicted",
        **on_square,
    )
    predicted, observed = bins["predicted"].to_numpy(), bins["observed"].to_numpy()
    low, high, n = bins["low"].to_numpy(), bins["high"].to_numpy(), bins["n"].to_numpy()
    colour = OOS if is_calibrated else INS
    figure.add_scatter(
        x=predicted,
        y=observed,
        mode="lines+markers",
        line={"color": colour, "width": 1},
        marker={
            "size": n.astype(float),
            "sizemode": "area",
            "sizeref": 2.0 * float(n.max(initial=1)) / _LARGEST_PX**2,
            "sizemin": 4,
            "opacity": 1,
            "color": colour,
            "line": {"color": SURFACE, "width": 1},
        },
        error_y={
            "type": "data",
            "array": np.maximum(high - observed, 0.0),
            "arrayminus": np.maximum(observed - low, 0.0),
            "color": INK,
            "thickness": 1,
            "width": 3,
        },
        hovertext=[
            f"<b>{formats.percent(row['observed'])}</b> happened of {formats.percent(row['predicted'])} predicted<br>"
            f"95 % interval by days {formats.percent(row['low'])} to {formats.percent(row['high'])}<br>"
            f"{formats.count(row['n'])} predictions"
            for row in bins.iter_rows(named=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        name="observed",
        **on_square,
    )
    left, right = bins["predicted_low"].to_numpy(), bins["predicted_high"].to_numpy()
    width = np.maximum(right - left, _LEAST_WIDTH)
    total = max(float(n.sum()), 1.0)
    figure.add_bar(
        x=(left + right) / 2,
        y=n / width / total,
        width=width,
        marker={"color": INS, "line": {"color": SURFACE, "width": 1}},
        customdata=n,
        hovertemplate="<b>%{customdata:,}</b> predictions near %{x:.0%}<extra></extra>",
        xaxis=f"x{below}",
        yaxis=f"y{below}",
        showlegend=False,
        name="predictions",
    )
    percent = {"tickformat": ".0%", "range": [0, 1], "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    figure.update_layout(
        {
            f"xaxis{axis}": {"anchor": f"y{axis}", **percent, "showticklabels": False, "ticks": ""},
            f"yaxis{axis}": {"anchor": f"x{axis}", **percent, "title": {"text": "" if number else _HAPPENED}},
            f"xaxis{below}": {"anchor": f"y{below}", **percent, "title": {"text": "predicted (share)"}},
            f"yaxis{below}": {"anchor": f"x{below}", "showticklabels": False, "ticks": "", "gridcolor": GRID,
                              "rangemode": "tozero"},
        }
    )  # fmt: skip


def _head_panel(figure: go.Figure, bins: pl.DataFrame, score: dict, number: int) -> None:
    axis, _ = _axes(number)
    place = {"xref": f"x{axis} domain", "yref": f"y{axis} domain"}
    skill, low, high = (
        formats.number(score[name], 3, signed=True) for name in ("brier_skill", "brier_skill_low", "brier_skill_high")
    )
    ece = f"ECE {formats.number(score['ece'], 3)}" if score["n"] else "no score"
    lines = (  # short ones: three panels stand side by side from 600 px on
        f"<b>{FACTORS.get(score['factor'], score['factor'])}</b>",
        ece if score["calibrated"] else f"{ece} · uncalibrated",
        f"skill {skill} [{low}, {high}]" if score["n"] else "",
    )
    figure.add_annotation(
        text="<br>".join(filter(None, lines)),
        x=0, y=1, xanchor="left", yanchor="bottom", yshift=4, align="left", font={"size": 12, "color": INK}, **place,
    )  # fmt: skip
    figure.add_annotation(
        text=f"n {formats.count(score['n'])}, {formats.count(score['n_days'])} days",
        x=1, y=0, xanchor="right", yanchor="bottom", xshift=-6, yshift=4, **place,
    )  # fmt: skip
    if bins.is_empty():
        figure.add_annotation(
            text="too little data:<br>no prediction<br>whose outcome<br>is known",
            x=0.5,
            y=0.5,
            font={"size": 12},
            **place,
        )


def _caption(failing: list[dict]) -> str:
    words = (
        "Dots are predictions made before their outcome, in bins of equal count; their area is the count and the bars "
        "are 95 % intervals by days. On the dashed line 0.3 means 30 %. Below: how often each size was predicted."
    )
    gate = "Brier skill above 0 with its whole interval and ECE of at most 0.05, on enough days and symbols"
    if not failing:
        return f"{words} Green: the gate holds, {gate}."
    names = ", ".join(FACTORS.get(one["factor"], one["factor"]) for one in failing)
    return f"{words} Grey fails the gate ({gate}) and may not be read as a probability: {names}."
