"""From one net to another, cause by cause."""

from collections.abc import Sequence

import plotly.graph_objects as go

from research import formats
from research.plots.style import INS, LONG, SHORT, dress, number_axis

_ROW_PX = 30
_LEFT_PX = 96


def plot_causes(start_usdt: float, causes: Sequence[tuple[str, float]], *, title: str) -> go.Figure:
    """Bars from the backtest's net to the runner's, each beginning where the one above it ended.

    Parameters
    ----------
    causes : (name, USDT) in the order they are told.
    """
    figure, reached = go.Figure(), start_usdt
    steps = [("backtest", 0.0, start_usdt, INS)]
    for name, amount in causes:
        steps.append((name, reached, amount, LONG if amount > 0.0 else SHORT))
        reached += amount
    steps.append(("live", 0.0, reached, INS))
    names, bases, lengths, colours = zip(*steps, strict=True)
    figure.add_bar(
        y=names,
        x=lengths,
        base=bases,
        orientation="h",
        width=0.62,
        marker={"color": colours},
        text=[formats.usdt(length, signed=True) for length in lengths],
        textposition="auto",
        hovertext=[f"<b>{name}</b> {formats.number(length, 6, signed=True)} USDT" for name, _, length, _ in steps],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    figure.update_layout(
        xaxis=number_axis("net, USDT", zeroline=True),
        yaxis={"autorange": "reversed", "showgrid": False, "ticks": ""},
    )
    return dress(
        figure,
        title=title,
        caption="Each bar begins where the one above it ended: what a cause made the runner earn more (blue) or less "
        "(orange) than the backtest.",
        plot_px=_ROW_PX * len(steps),
        left_px=_LEFT_PX,
        narrow_left_px=_LEFT_PX,
    )
