"""Technical overlays on a figure with candles."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research.plots.style import OVERLAY, SURFACE
from research.thin import MAX_LINE_POINTS, epoch_ms, thin_line

_DASHES = (
    "solid",
    "8px,3px",
    "2px,3px",
    "8px,3px,2px,3px",
)  # one colour, as it says what a line is; the dash says which


def draw_overlays(figure: go.Figure, lines: pl.DataFrame, spec: str) -> str:
    """Draw rows of ``research.overlays.LINES``, as steps: between two closes nothing new was known.

    Returns a sentence for the caption, empty without lines.

    Parameters
    ----------
    spec : of prices, as D3 formats them.
    """
    labels = lines["label"].unique(maintain_order=True)
    for index, label in enumerate(labels):
        parts = lines.filter(pl.col("label") == label).partition_by("part", maintain_order=True)
        x, y, part = (
            np.concatenate(columns) for columns in zip(*(_points(own, len(parts)) for own in parts), strict=True)
        )
        shape = {"mode": "lines", "x": x, "y": y}
        figure.add_scatter(
            **shape,
            line={"color": SURFACE, "width": 4, "shape": "hv"},
            hoverinfo="skip",
            showlegend=False,
            name=f"halo, {label}",
        )
        figure.add_scatter(
            **shape,
            line={"color": OVERLAY, "width": 1.8, "shape": "hv", "dash": _DASHES[index % len(_DASHES)]},
            customdata=part,
            hovertemplate=f"<b>%{{y:{spec}}}</b> USDT<br>{label}, %{{customdata}}<br>"
            "known %{x|%d %b %H:%M} UTC<extra></extra>",
            name=label,
        )
    if labels.is_empty():
        return ""
    return "Lines are of closed candles, from when they were known; they begin where enough candles lie before them."


def _points(line: pl.DataFrame, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One part of an overlay with what separates it from the next one."""
    x, y = thin_line(epoch_ms(line["time"]), line["value"].to_numpy(), MAX_LINE_POINTS // parts - 1)
    return np.append(x, x[-1]), np.append(y, np.nan), np.full(len(x) + 1, line["part"][0], dtype=object)
