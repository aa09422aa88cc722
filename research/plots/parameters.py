"""Do neighbouring parameters agree? The out-of-sample grid, its plateau, and what in-sample promised."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plateau import Plateau, outline, plateau
from research.plots.grids import Axis, Grids
from research.plots.style import (
    HALT_BG,
    INK,
    INS,
    MUTED,
    OOS,
    OOS_RAMP,
    OOS_STOPS,
    RULE,
    SURFACE,
    dress,
    escaped,
    name_panel,
    number_axis,
)

MAX_NUMBERED = 20  # cells per axis; beyond, the numbers are left to the hover
_NARROW_NUMBERED_COLUMNS = 8

_PLOT_PX, _NARROW_PLOT_PX = 500, 930
_WIDE_PX, _NARROW_WIDE_PX = 820, 270  # of the out-of-sample grid
_SCALE_PX = 11
_WIDE = {
    "xaxis": [0, 0.64],
    "yaxis": [0, 1 - (_SCALE_PX + 9) / _PLOT_PX],
    "xaxis2": [0.72, 1],
    "yaxis2": [0.57, 1 - (_SCALE_PX + 9) / _PLOT_PX],
    "xaxis3": [0.72, 1],
    "yaxis3": [0, 0.42],
    "xaxis4": [0.42, 0.64],
    "yaxis4": [1 - _SCALE_PX / _PLOT_PX, 1],
}
_NARROW = {  # one panel under the other
    "xaxis": [0, 1],
    "yaxis": [0.62, 1 - (_SCALE_PX + 28) / _NARROW_PLOT_PX],
    "xaxis2": [0, 1],
    "yaxis2": [0.33, 0.52],
    "xaxis3": [0, 1],
    "yaxis3": [0, 0.24],
    "xaxis4": [0.62, 1],
    "yaxis4": [1 - _SCALE_PX / _NARROW_PLOT_PX, 1],
}
_BARE = {"showgrid": False, "ticks": "", "showline": False, "ticklabelstandoff": 4}
_ZERO = OOS_STOPS.index(0.5)
_RAMP = [[stop, colour] for stop, colour in zip(OOS_STOPS, OOS_RAMP, strict=True)]


def plot_parameters(
    scores: pl.DataFrame,
    *,
    x: Axis,
    y: Axis,
    title: str,
    chosen: tuple[float, float] | None,
    folds: int,
    min_trades: int,
    configs_tried: int,
    limit: float = 1.5,
) -> go.Figure:
    """Out-of-sample Sharpe per pair of parameters, the same grid in sample, and one against the other.

    Parameters
    ----------
    scores : a row per config: the columns of ``x`` and ``y``, oos_sharpe (median over the test folds), is_sharpe
        (over the train folds), trades (out of sample). One row per (x, y): fix other parameters first.
    chosen : (x value, y value) of the config that the procedure picked on the train folds; the test grid shows
        whether its neighbours agree and never selects. None where the train folds rank none.
    min_trades : cells with fewer trades stay blank.
    configs_tried : all that was ever tried on these days, by this search and others, for the caption.
    limit : Sharpe at which the colours end, the same in all figures of a report.
    """
    grids = Grids.of(scores, x.column, y.column, min_trades)
    shape = plateau(grids.out_of_sample)
    place = None if chosen is None else (grids.row(chosen[1]), grids.column(chosen[0]))
    figure = go.Figure()
    _add_grid(figure, grids, x, y, limit)
    _add_scale(figure, limit)
    _add_in_sample(figure, grids, x, y)
    _add_marks(figure, grids, shape, place)
    _add_scatter(figure, grids, shape, place, x, y)
    _lay_out(figure, grids, x, y, folds)
    return dress(
        figure,
        title=title,
        caption=_caption(grids, shape, place, x, y, min_trades, configs_tried),
        plot_px=_PLOT_PX,
        narrow_plot_px=_NARROW_PLOT_PX,
        top_px=22,
        narrow_top_px=26,
        legend_below=True,
        narrow_left_px=52,
        narrow=_narrow(figure, grids),
    )


def _add_grid(figure: go.Figure, grids: Grids, x: Axis, y: Axis, limit: float) -> None:
    numbered = max(len(grids.x), len(grids.y)) <= MAX_NUMBERED
    figure.add_heatmap(
        z=grids.out_of_sample,
        zmin=-limit,
        zmax=limit,
        colorscale=_RAMP,
        xgap=1.5,
        ygap=1.5,
        text=[[_cell_text(value) for value in row] for row in grids.out_of_sample] if numbered else None,
        texttemplate="%{text}" if numbered else None,
        textfont={"size": 11, "color": INK},
        hovertext=grids.hover(x, y),
        hovertemplate="%{hovertext}<extra></extra>",
        showscale=False,
        name="out of sample",
        showlegend=False,
    )


def _add_scale(figure: go.Figure, limit: float) -> None:
    """The colours as a strip of its own: plotly.js 4.1 misplaces titles in figures with a colour bar."""
    figure.add_heatmap(
        z=[list(OOS_STOPS)],
        zmin=0,
        zmax=1,
        colorscale=_RAMP,
        showscale=False,
        hoverinfo="skip",
        xaxis="x4",
        yaxis="y4",
        name="colours",
        showlegend=False,
    )
    figure.update_layout(
        xaxis4={
            "anchor": "y4",
            "side": "top",
            "tickvals": [0, _ZERO, len(OOS_STOPS) - 1],
            "ticktext": [f"≤ {formats.number(-limit, 1)}", "0", f"≥ {formats.number(limit, 1)}"],
            **_BARE,
        },
        yaxis4={"anchor": "x4", "showticklabels": False, **_BARE},
    )
    figure.add_annotation(
        text="Sharpe, annualised, after costs",
        x=0,
        y=0.5,
        xref="x4 domain",
        yref="y4 domain",
        xanchor="right",
        yanchor="middle",
        xshift=-14,
    )


def _cell_text(value: float) -> str:
    return "·" if np.isnan(value) else formats.number(value, 1)


def _add_in_sample(figure: go.Figure, grids: Grids, x: Axis, y: Axis) -> None:
    values = grids.in_sample
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if np.isfinite(values).any() else (0.0, 1.0)
    figure.add_heatmap(
        z=values,
        # A little below the lowest, so that it still differs from a blank cell.
        zmin=low - 0.08 * max(high - low, 0.1),
        zmax=max(high, low + 0.1),
        colorscale=[[0, SURFACE], [1, INS]],
        xgap=1,
        ygap=1,
        showscale=False,
        hovertext=grids.hover(x, y),
        hovertemplate="%{hovertext}<extra></extra>",
        xaxis="x2",
        yaxis="y2",
        name="in sample",
        showlegend=False,
    )


def _add_marks(figure: go.Figure, grids: Grids, shape: Plateau, chosen: tuple[int, int] | None) -> None:
    """Outline of the plateau, circle and diamond, on both grids."""
    size = _mark_px(_PLOT_PX / len(grids.y), _WIDE_PX / len(grids.x))
    for axis, scale, in_legend in (("", 1.0, True), ("2", 0.45, False)):
        axes = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "hoverinfo": "skip"}
        outline_x, outline_y = outline(shape.members)
        if outline_x:
            figure.add_scatter(
                x=outline_x,
                y=outline_y,
                mode="lines",
                line={"color": INK, "width": 3 if in_legend else 2},
                name=f"plateau ({_configs(int(shape.members.sum()))})",
                showlegend=in_legend,
                **axes,
            )
        for place, symbol, colour, grow, name in (
            (chosen, "circle-open", INK, 1.0, "chosen on the train folds"),
            (shape.lone_best, "diamond-open", HALT_BG, 1.2, "best single config: stands alone"),
        ):
            if place is None:
                continue
            at = {"x": [place[1]], "y": [place[0]], "mode": "markers", **axes}
            across = size * grow * scale
            figure.add_scatter(
                marker={"symbol": symbol, "size": across, "color": SURFACE, "line": {"width": 5, "color": SURFACE}},
                showlegend=False,
                name=f"halo of {name}",
                **at,
            )
            figure.add_scatter(
                marker={"symbol": symbol, "size": across, "color": colour, "line": {"width": 2.2, "color": colour}},
                showlegend=in_legend,
                name=name,
                **at,
            )


def _add_scatter(
    figure: go.Figure, grids: Grids, shape: Plateau, chosen: tuple[int, int] | None, x: Axis, y: Axis
) -> None:
    known = np.isfinite(grids.in_sample) & np.isfinite(grids.out_of_sample)
    hover = np.array(grids.hover(x, y))
    axes = {"xaxis": "x3", "yaxis": "y3", "mode": "markers", "showlegend": False}
    for cells, colour, size, name in (
        (known & ~shape.members, INS, 6, "configs"),
        (known & shape.members, OOS, 8, "plateau configs"),
    ):
        figure.add_scatter(
            x=grids.in_sample[cells],
            y=grids.out_of_sample[cells],
            hovertext=hover[cells].tolist(),
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
            marker={"size": size, "color": colour, "line": {"width": 0.8, "color": SURFACE}},
            **axes,
        )
    for place, symbol, colour in ((chosen, "circle-open", INK), (shape.lone_best, "diamond-open", HALT_BG)):
        if place is not None and known[place]:
            figure.add_scatter(
                x=[grids.in_sample[place]],
                y=[grids.out_of_sample[place]],
                hoverinfo="skip",
                name="marked config",
                marker={"symbol": symbol, "size": 14, "color": colour, "line": {"width": 2.2, "color": colour}},
                **axes,
            )
    ends = grids.in_sample[known], grids.out_of_sample[known]
    low, high = (max(end.min() for end in ends), min(end.max() for end in ends)) if known.any() else (0.0, 1.0)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MUTED, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        xaxis="x3",
        yaxis="y3",
        name="no shrinkage",
        showlegend=False,
    )
    figure.add_annotation(
        text="no shrinkage", x=high, y=high, xref="x3", yref="y3", xanchor="right", yanchor="bottom", xshift=-8
    )


def _lay_out(figure: go.Figure, grids: Grids, x: Axis, y: Axis, folds: int) -> None:
    figure.update_layout(
        xaxis={"title": {"text": escaped(x.label)}, **_values(grids.x, 20), **_BARE},
        yaxis={"title": {"text": escaped(y.label)}, **_values(grids.y, 24), **_BARE},
        xaxis2={"anchor": "y2", **_values(grids.x, 6), **_BARE},
        yaxis2={"anchor": "x2", **_values(grids.y, 6), **_BARE},
        xaxis3=number_axis("in-sample Sharpe", anchor="y3", zeroline=True, zerolinecolor=RULE),
        yaxis3=number_axis("out-of-sample Sharpe", anchor="x3", zeroline=True, zerolinecolor=RULE),
    )
    for axis, domain in _WIDE.items():
        figure.layout[axis].domain = domain
    median = f", median of {folds} folds" if folds > 1 else ""
    for text, axis in (
        (f"<b>out of sample</b>{median}", ""),
        ("<b>in sample</b>, same grid (grey: not evidence)", "2"),
        ("in sample → out of sample, every config", "3"),
    ):
        name_panel(figure, text, axis)


def _narrow(figure: go.Figure, grids: Grids) -> dict:
    """One panel under the other; numbers only where they fit."""
    layout = {f"{axis}.domain": domain for axis, domain in _NARROW.items()}
    across = _mark_px(_NARROW_PLOT_PX / 3 / len(grids.y), _NARROW_WIDE_PX / len(grids.x))
    data = {
        index: {"marker.size": across}
        for index, trace in enumerate(figure.data)
        if trace.type == "scatter" and trace.xaxis == "x" and trace.mode == "markers"
    }
    if len(grids.x) > _NARROW_NUMBERED_COLUMNS:
        data[0] = {"texttemplate": ""}
        layout |= {"xaxis.tickvals": figure.layout.xaxis2.tickvals, "xaxis.ticktext": figure.layout.xaxis2.ticktext}
    return {"layout": layout, "data": data}


def _mark_px(*cell_px: float) -> float:
    """Size of a mark inside a cell."""
    return float(np.clip(0.75 * min(cell_px), 12, 30))


def _values(values: list[float], at_most: int) -> dict:
    """Tick settings: every value, or every n-th when there are many."""
    step = -(-len(values) // at_most)
    index = list(range(0, len(values), step))
    return {
        "tickvals": index,
        "ticktext": [formats.setting(values[i]) for i in index],
        "range": [-0.5, len(values) - 0.5],
    }


def _configs(count: int) -> str:
    return f"{formats.count(count)} config" + ("" if count == 1 else "s")


def _caption(
    grids: Grids,
    shape: Plateau,
    chosen: tuple[int, int] | None,
    x: Axis,
    y: Axis,
    min_trades: int,
    configs_tried: int,
) -> str:
    def named(place: tuple[int, int]) -> str:
        return f"{x.at(grids.x[place[1]])}, {y.at(grids.y[place[0]])}"

    sentences = []
    if chosen is None:
        sentences.append("None is marked as chosen: the train folds rank no config.")
    else:
        inside = (
            f"inside a plateau of {_configs(int(shape.members.sum()))}"
            if shape.members[chosen]
            else "off the plateau"
            if shape.members.any()
            else "and there is no plateau"
        )
        sentences.append(
            f"Chosen on the train folds: {named(chosen)}; out-of-sample Sharpe "
            f"{formats.ratio(grids.out_of_sample[chosen])} (in sample {formats.ratio(grids.in_sample[chosen])}), "
            f"{inside}."
        )
    if shape.lone_best is not None:
        sentences.append(
            f"The best single config ({named(shape.lone_best)}: {formats.ratio(grids.out_of_sample[shape.lone_best])}) "
            f"stands alone: the worst quarter of its neighbours is "
            f"{formats.ratio(shape.lower_quartile[shape.lone_best])}."
        )
    blank = int(np.isnan(grids.out_of_sample).sum())
    if blank:
        sentences.append(
            f"{_configs(blank)} with fewer than {min_trades} trades {'is' if blank == 1 else 'are'} blank."
        )
    here = formats.count(np.isfinite(grids.trades).sum())
    sentences.append(f"{here} configs are here, {formats.count(configs_tried)} were ever tried on these days.")
    return " ".join(sentences)
