"""Figures with their intervals, one under the other, and the limit that evidence must clear."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import INK, INS, MUTED, OOS, SURFACE, dress, escaped, number_axis

MAX_ROWS = 60

_ROW_PX = 26
_LOOKS = {  # of a verdict: legend, colour, mark
    "evidence": ("evidence", OOS, "circle"),
    "no evidence": ("no evidence", INK, "circle-open"),
    "too little data": ("too little data", INS, "x-thin"),
}


def plot_intervals(results: pl.DataFrame, *, title: str, axis: str, limit: float, caption: str) -> go.Figure:
    """Value and interval per row around a limit.

    Parameters
    ----------
    results : label, value, low, high (NaN where unknown), n, n_days, verdict ("evidence", "no evidence", "too little
        data"); all in the unit that ``axis`` names. The first 60 are drawn, top down.
    limit : drawn as a line: 0 where no effect is 0.

    Raises
    ------
    ValueError
        Without a row.
    """
    if results.is_empty():
        raise ValueError(f"{title}: no result to draw; run the validation on a range with clusters first")
    drawn = results.head(MAX_ROWS).with_row_index("row")
    figure = go.Figure()
    figure.add_shape(
        type="line",
        x0=limit,
        x1=limit,
        y0=0,
        y1=1,
        yref="y domain",
        line={"color": MUTED, "width": 1, "dash": "dash"},
        layer="above",
    )
    for verdict, (name, colour, symbol) in _LOOKS.items():
        own = drawn.filter(pl.col("verdict") == verdict)
        if own.is_empty():
            continue
        rows, gap = own["row"].to_numpy().astype(float), np.full(own.height, np.nan)
        figure.add_scatter(
            x=np.column_stack([own["low"], own["high"], gap]).ravel(),
            y=np.column_stack([rows, rows, gap]).ravel(),
            mode="lines",
            line={"color": colour, "width": 2},
            hoverinfo="skip",
            showlegend=False,
            name=f"interval, {name}",
        )
        figure.add_scatter(
            x=own["value"].to_numpy(),
            y=rows,
            mode="markers",
            marker={"symbol": symbol, "size": 10, "color": colour,
                    "line": {"color": SURFACE if symbol == "circle" else colour, "width": 2}},
            hovertext=[
                f"<b>{formats.number(row['value'], 2, signed=True)}</b> [{formats.number(row['low'], 2, signed=True)}, "
                f"{formats.number(row['high'], 2, signed=True)}]<br>{escaped(row['label'])}: {verdict}<br>"
                f"{formats.count(row['n'])} samples on {formats.count(row['n_days'])} days"
                for row in own.iter_rows(named=True)
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
        )  # fmt: skip
    for row in drawn.filter(pl.col("value").fill_nan(None).is_null())["row"]:
        figure.add_annotation(text="no figure", x=limit, y=row, xanchor="left", xshift=6)
    known = drawn.select("value", "low", "high").fill_nan(None)
    ends = [one for column in known for one in column.drop_nulls()] + [limit]
    pad = 0.06 * (max(ends) - min(ends) or 1.0)
    figure.update_layout(
        xaxis=number_axis(axis, range=[min(ends) - pad, max(ends) + pad]),
        yaxis={
            "tickvals": list(range(drawn.height)),
            "ticktext": [escaped(label) for label in drawn["label"]],
            "range": [drawn.height - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "ticklabelstandoff": 4,
        },
    )
    cut = f" {drawn.height} of {formats.count(results.height)} rows are drawn." if drawn.height < results.height else ""
    longest = max(len(label) for label in drawn["label"])
    return dress(
        figure,
        title=title,
        caption=caption + cut,
        plot_px=max(90, _ROW_PX * drawn.height),
        left_px=int(24 + 6.1 * longest),
        narrow_left_px=int(min(150, 24 + 6.1 * longest)),
        legend_below=True,
    )
