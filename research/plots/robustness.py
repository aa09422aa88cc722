"""How a record stands worse terms, and how deep it could have fallen."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import GRID, INK, INS, OOS_RAMP, OOS_STOPS, dress, name_panel, number_axis
from research.thin import thin_line

_PLOT_PX, _NARROW_PANEL_PX = 240, 230
_GAP = 0.02  # between panels side by side
_NARROW_GAP = 0.34  # of a panel's height, between panels one under the other
_BARE = {"showgrid": False, "ticks": "", "showline": False, "ticklabelstandoff": 4}


def plot_cost_surface(cells: pl.DataFrame, *, title: str) -> go.Figure:
    """Net PnL by fee and slippage, a panel per latency.

    Parameters
    ----------
    cells : rows of ``research.surface.over_starts``, every combination once.

    Raises
    ------
    ValueError
        Without a row.
    """
    if cells.is_empty():
        raise ValueError("no surface to draw: the frame has no rows")
    latencies, fees, slippages = (
        cells[name].unique().sort().to_list() for name in ("latency_ms", "taker_fee_bps", "slippage_bps")
    )
    limit = float(cells["median_usdt"].abs().max()) or 1.0
    n_panels = len(latencies)
    width = (1.0 - _GAP * (n_panels - 1)) / n_panels
    narrow_gap = _NARROW_GAP / n_panels
    narrow_height = (1.0 - narrow_gap * (n_panels - 1)) / n_panels
    figure, narrow = go.Figure(), {}
    for number, latency_ms in enumerate(latencies):
        axis = str(number + 1) if number else ""
        own = cells.filter(pl.col("latency_ms") == latency_ms).sort("taker_fee_bps", "slippage_bps")
        _add_panel(figure, own, (len(fees), len(slippages)), axis, limit)
        left, top = number * (width + _GAP), 1.0 - number * (narrow_height + narrow_gap)
        figure.update_layout(
            {
                f"xaxis{axis}": {
                    **number_axis("slippage (bps per fill)", anchor=f"y{axis}", **_ticks(slippages)),
                    "domain": [left, min(left + width, 1.0)],
                },
                f"yaxis{axis}": {
                    **number_axis("" if number else "taker fee (bps per fill)", anchor=f"x{axis}", **_ticks(fees)),
                    "showticklabels": number == 0,
                },
            }
        )
        name_panel(figure, f"<b>latency {formats.count(latency_ms)} ms</b>", axis)
        narrow |= {
            f"xaxis{axis}.domain": [0.0, 1.0],
            f"yaxis{axis}.domain": [max(top - narrow_height, 0.0), top],
            f"yaxis{axis}.showticklabels": True,
        }
    earning = int((cells["median_usdt"] > 0.0).sum())
    return dress(
        figure,
        title=title,
        caption=f"Net PnL in USDT, median over the starts; {earning} of {cells.height} cells earn. Bottom left "
        "of each panel: the run's own fee and slippage; the first panel has its own latency.",
        plot_px=_PLOT_PX,
        narrow_plot_px=_NARROW_PANEL_PX * n_panels,
        top_px=22,
        narrow_top_px=26,
        narrow={"layout": narrow},
    )


def plot_drawdown_band(band: pl.DataFrame, *, title: str, block: str) -> go.Figure:
    """The deepest fall so far: of the record, and of its PnL drawn anew in blocks.

    Parameters
    ----------
    band : days (of the record, ascending), observed_usdt, low_usdt, median_usdt, high_usdt (all <= 0).
    block : what stayed together, such as "24 h".

    Raises
    ------
    ValueError
        Without a row.
    """
    if band.is_empty():
        raise ValueError("no drawdown to draw: the frame has no rows")
    figure, days = go.Figure(), band["days"].to_numpy()
    for column, name, look in (
        ("high_usdt", "shallow end", {"line": {"color": INS, "width": 0}, "showlegend": False}),
        (
            "low_usdt",
            "90 % of what was drawn anew",
            {"line": {"color": INS, "width": 0}, "fill": "tonexty", "fillcolor": GRID},
        ),
        ("median_usdt", "median of it", {"line": {"color": INS, "width": 1.5, "dash": "5px,2px"}}),
        ("observed_usdt", "the record", {"line": {"color": INK, "width": 1.8}}),
    ):
        x, y = thin_line(days, band[column].to_numpy())
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            hovertext=[
                f"<b>{formats.usdt(value)}</b> USDT, {name}<br>by day {day:.1f}"
                for day, value in zip(x, y, strict=True)
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
            **look,
        )
    figure.update_layout(
        xaxis=number_axis("days of the record"), yaxis=number_axis("deepest fall so far<br>USDT", rangemode="tozero")
    )
    last = band.row(-1, named=True)
    return dress(
        figure,
        title=title,
        caption=f"The record fell {formats.usdt(-last['observed_usdt'])} USDT at most. Its hours drawn anew, "
        f"{block} together at a time, fall {formats.usdt(-last['high_usdt'])} to "
        f"{formats.usdt(-last['low_usdt'])} USDT in nine of ten cases.",
        plot_px=260,
        narrow_plot_px=240,
    )


def _add_panel(figure: go.Figure, cells: pl.DataFrame, shape: tuple[int, int], axis: str, limit: float) -> None:
    """The cells of one latency, fees upward and slippages to the right."""
    net = cells["median_usdt"].to_numpy().reshape(shape)
    decimals = 0 if limit >= 100.0 else 1
    figure.add_heatmap(
        z=net,
        zmin=-limit,
        zmax=limit,
        colorscale=[[stop, colour] for stop, colour in zip(OOS_STOPS, OOS_RAMP, strict=True)],
        xgap=1.5,
        ygap=1.5,
        text=[[formats.number(value, decimals, signed=True) for value in row] for row in net],
        texttemplate="%{text}",
        textfont={"size": 11, "color": INK},
        hovertext=np.array(_hover(cells)).reshape(shape).tolist(),
        hovertemplate="%{hovertext}<extra></extra>",
        showscale=False,
        name=f"latency {cells['latency_ms'][0]} ms",
        showlegend=False,
        xaxis=f"x{axis}",
        yaxis=f"y{axis}",
    )


def _ticks(values: list[float]) -> dict:
    """A tick per value, cells numbered from zero."""
    return {
        "tickvals": list(range(len(values))),
        "ticktext": [f"{value:g}" for value in values],
        "range": [-0.5, len(values) - 0.5],
        **_BARE,
    }


def _hover(cells: pl.DataFrame) -> list[str]:
    return [
        f"<b>{formats.usdt(row['median_usdt'], signed=True)}</b> USDT net, "
        f"{formats.usdt(row['worst_usdt'], signed=True)} to {formats.usdt(row['best_usdt'], signed=True)} by start<br>"
        f"fee {row['taker_fee_bps']:g} bps, slippage {row['slippage_bps']:g} bps<br>latency {row['latency_ms']} ms"
        for row in cells.iter_rows(named=True)
    ]
