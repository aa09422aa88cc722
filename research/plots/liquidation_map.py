"""Where would liquidations cluster, and where did they happen? The map, its clusters, and what was realised."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.clusters.profiles import Profiles
from research.clusters.raster import (
    MAX_ROWS,
    Z_EDGES,
    MassScale,
    Raster,
    coarser,
    column_width_ms,
    is_fresh,
    now_in_rows,
    raster,
    z_scores,
)
from research.plots.candles import draw_candles, span, time_range
from research.plots.cluster_lives import cluster_lives
from research.plots.liquidation_map_layers import (
    SCALE_PX,
    draw_boxes,
    draw_ends,
    draw_gaps,
    draw_mark,
    draw_mass,
    draw_now,
    draw_scale,
    drawn_lives,
    label_now,
    unit_of,
)
from research.plots.overlays import draw_overlays
from research.plots.realised import bar_realised, mark_realised, realised_sums
from research.plots.style import SURFACE, dress, number_axis
from research.thin import CANDLE_INTERVALS_MS, missing_runs

MAX_SUMS = 180  # bars of realised liquidations below the map: 4 h each in 30 days

_PLOT_PX, _NARROW_PLOT_PX = 640, 900
_STRIP = 1 - SCALE_PX / _PLOT_PX
_WIDE = {
    "xaxis": [0, 0.845],
    "yaxis": [0.185, _STRIP - 9 / _PLOT_PX],
    "xaxis2": [0.857, 1],
    "yaxis4": [0.185, _STRIP - 9 / _PLOT_PX],
    "yaxis3": [0, 0.14],
    "xaxis5": [0.5, 0.845],
    "yaxis5": [_STRIP, 1],
}
_NARROW = {  # the profile of now goes below
    "xaxis": [0, 1],
    "yaxis": [0.5, 1 - 40 / _NARROW_PLOT_PX],
    "xaxis2": [0, 1],
    "yaxis4": [0, 0.28],
    "yaxis3": [0.39, 0.48],
    "xaxis5": [0.46, 1],
    "yaxis5": [1 - SCALE_PX / _NARROW_PLOT_PX, 1],
}
_MARGINS = (0.06, 0.02, 0.005)  # of the price, above and below the candles: the widest that fits is drawn


def plot_liquidation_map(
    profiles: Profiles,
    bars: pl.DataFrame,
    *,
    scale: MassScale,
    tick_size: float,
    clusters: pl.DataFrame,
    events: pl.DataFrame,
    force_orders: pl.DataFrame | None,
    overlays: pl.DataFrame | None = None,
    colour: Literal["usdt", "z"] = "usdt",
    note: str = "",
) -> go.Figure:
    """Mass at risk behind candles, tracked clusters, realised liquidations, and the mass now.

    Parameters
    ----------
    profiles : snapshots of one map in the range to draw, at least one.
    bars : open_time (UTC, ascending), open, high, low, close of the mark price (USDT; NaN in bars nothing was seen of).
    scale : ``research.clusters.raster.mass_scale`` of the 30 days before; colours never follow what is in view.
    clusters, events : rows of ``data.schema_clusters.CLUSTERS`` and ``CLUSTER_EVENTS`` of this map; none is fine.
    force_orders : rows of ``data.schema.FORCE_ORDERS``; None where the stream was not recorded.
    overlays : rows of ``research.overlays.LINES``, drawn over the candles.
    colour : "usdt" for money per price row, "z" for standard deviations from what was usual at that distance.
    note : a sentence more for the caption, such as whose data these are.

    Raises
    ------
    ValueError
        When there is no snapshot or no bar: nothing is drawn instead of an empty map.
    """
    if not len(profiles):
        raise ValueError(
            f"{profiles.symbol}, map of {profiles.source}: no snapshot; widen the range, or run `aster clusters`"
        )
    figure, interval, notes = draw_candles(bars, tick_size)
    scale, low, rows = _price_rows(bars, scale)
    is_z = colour == "z"
    fit = {"low_usdt": low, "rows": rows, "row_usdt": scale.row_usdt, "column_ms": column_width_ms(profiles)}
    picture = raster(profiles, **fit, z=z_scores(profiles, scale) if is_z else None)
    spec = f",.{formats.decimals_of(tick_size)}f"
    draw_mass(figure, picture, Z_EDGES if is_z else scale.edges_usdt, spec, is_z=is_z)
    narrow = _draw_scale(figure, profiles, scale, is_z)
    gap_notes = draw_gaps(figure, picture, missing_runs(bars))
    fresh = np.flatnonzero(is_fresh(profiles))
    mark = float(profiles.mark[fresh[-1]]) if len(fresh) else float("nan")
    lives = cluster_lives(clusters, events).filter(
        pl.col("price_hi") > low, pl.col("price_lo") < low + rows * scale.row_usdt
    )
    drawn = drawn_lives(lives)
    draw_boxes(figure, drawn, mark, tick_size)
    if overlays is not None:
        notes.append(draw_overlays(figure, overlays, spec))
    mass_now = now_in_rows(profiles, picture)
    unit = draw_now(figure, picture, mass_now, spec)
    if np.isfinite(mark):
        draw_mark(figure, mark)
    label_now(figure, lives, picture, mark, round(_PLOT_PX * (_WIDE["yaxis"][1] - _WIDE["yaxis"][0])))
    notes += [_boxes_sentence(drawn, lives), _draw_realised(figure, force_orders, bars, interval)]
    draw_ends(figure, drawn, mark, tick_size)
    _lay_out(figure, picture, unit)
    sums = {f"annotations[{i}].text": f"{one.text}, USDT / {span(_sums_ms(bars))}"
            for i, one in enumerate(figure.layout.annotations) if "shorts closed" in one.text}  # fmt: skip
    title = f"{profiles.symbol}: {_what(profiles)}, {_length(bars)}"  # one line beside the buttons in half a screen
    lead = _lead(profiles, scale, picture, mass_now, fresh, is_z)
    return dress(
        figure,
        title=title,
        caption=" ".join(part for part in (*lead, *gap_notes, *notes, note) if part),
        plot_px=_PLOT_PX,
        narrow_plot_px=_NARROW_PLOT_PX,
        top_px=20,
        narrow_top_px=24,
        legend_below=True,
        narrow=_narrow(figure, narrow | sums),
    )


def _price_rows(bars: pl.DataFrame, scale: MassScale) -> tuple[MassScale, float, int]:
    """Rows around the candles: the scale (with coarser rows where the price went too far), low edge, how many."""
    lowest, highest = float(bars["low"].fill_nan(None).min()), float(bars["high"].fill_nan(None).max())
    while True:
        for margin in _MARGINS:
            low = max(1.0, np.floor(lowest * (1.0 - margin) / scale.row_usdt)) * scale.row_usdt
            rows = int(np.ceil((highest * (1.0 + margin) - low) / scale.row_usdt))
            if rows <= MAX_ROWS:
                return scale, float(low), rows
        scale = coarser(scale)


def _boxes_sentence(drawn: pl.DataFrame, lives: pl.DataFrame) -> str:
    if lives.is_empty():
        return "No cluster was active at these prices."
    if len(drawn) == len(lives):
        return "Boxes are the tracked clusters."
    return f"Boxes are tracked clusters, {len(drawn)} of {formats.count(len(lives))}: the active, then the largest."


def _draw_realised(figure: go.Figure, force_orders: pl.DataFrame | None, bars: pl.DataFrame, interval: int) -> str:
    """Triangles on the candles and sums below; returns a sentence for the caption."""
    if force_orders is None:
        figure.update_layout(yaxis3={"title": {"text": "realised<br>USDT"}, "range": [-1, 1], "tickvals": [0]})
        # Without a trace Plotly leaves the panel out, and a hole where it was.
        middle = sum(time_range(bars)) // 2
        figure.add_scatter(x=[middle], y=[None], yaxis="y3", hoverinfo="skip", showlegend=False)
        figure.add_annotation(text="not recorded", x=middle, y=0, yref="y3", bgcolor=SURFACE)
        return "Liquidations were not recorded: nothing says where they happened."
    sums_ms = _sums_ms(bars)
    axis = bar_realised(figure, realised_sums(force_orders, bars, sums_ms), sums_ms, "y3")
    figure.update_layout(yaxis3=axis)
    return mark_realised(figure, force_orders, bars, interval)


def _sums_ms(bars: pl.DataFrame) -> int:
    first, last = time_range(bars)
    return next((one for one in CANDLE_INTERVALS_MS if (last - first) / one <= MAX_SUMS), CANDLE_INTERVALS_MS[-1])


def _lay_out(figure: go.Figure, picture: Raster, unit: str) -> None:
    high = picture.low_usdt + picture.row_usdt * len(picture.values)
    figure.update_layout(
        xaxis={"anchor": "y3", "showgrid": False},
        yaxis=number_axis("mark price (USDT)", showgrid=False, range=[picture.low_usdt, high]),
        xaxis2=number_axis(f"now ({unit})", anchor="y4", nticks=3, tickangle=0, fixedrange=True),
        yaxis4=number_axis("", anchor="x2", matches="y", showticklabels=False, ticks="", showgrid=False),
        yaxis3={"anchor": "x", "fixedrange": True},
    )
    for axis, domain in _WIDE.items():
        figure.layout[axis].domain = domain


def _narrow(figure: go.Figure, more: dict) -> dict:
    """On a phone: map, sums, and the profile of now one under the other; bands are too thin for their label."""
    layout = {f"{axis}.domain": domain for axis, domain in _NARROW.items()}
    layout |= {f"annotations[{i}].visible": False for i, one in enumerate(figure.layout.annotations) if one.textangle}
    marks = {
        index: {"marker.sizeref": 3.0 * trace.marker.sizeref}
        if trace.marker.sizemode == "area"
        else {"marker.size": 0.6 * trace.marker.size}
        for index, trace in enumerate(figure.data)
        if trace.type == "scatter" and trace.mode == "markers"
    }
    return {
        "layout": {**layout, **more, "xaxis.nticks": 5, "yaxis4.showticklabels": True, "yaxis3.title.text": ""},
        "data": marks,
    }


def _what(profiles: Profiles) -> str:
    return "recorded liquidations, decayed" if _is_reactive(profiles) else "estimated and realised liquidations"


def _is_reactive(profiles: Profiles) -> bool:
    return profiles.source == "force_orders"


def _draw_scale(figure: go.Figure, profiles: Profiles, scale: MassScale, is_z: bool) -> dict:
    if is_z:
        return draw_scale(figure, Z_EDGES, "standard deviations above usual at that distance", "σ above usual")
    unit, word = unit_of(scale.edges_usdt[2])
    what = "recorded, decayed" if _is_reactive(profiles) else "estimated at risk"
    row = f"{scale.row_usdt:,.8g}".replace(",", formats.NARROW_SPACE)
    edges = tuple(edge / unit for edge in scale.edges_usdt)
    return draw_scale(figure, edges, f"{what}, {word} per {row} USDT step", f"{word} / {row} USDT")


def _length(bars: pl.DataFrame) -> str:
    first, last = time_range(bars)
    days = (last - first) / 86_400_000
    # A range ends with the last minute that was seen: a day may be one short.
    return f"{days:.0f} days" if days >= 1.5 else "1 day" if days > 0.99 else formats.age((last - first) / 1000)


def _lead(
    profiles: Profiles, scale: MassScale, picture: Raster, mass_now: np.ndarray, fresh: np.ndarray, is_z: bool
) -> list[str]:
    """What the plum areas mean, whose numbers they are, what their colours are fixed to, what was cut."""
    if _is_reactive(profiles):
        sentences = ["Plum areas are liquidations that were recorded, fading with time."]
    else:
        placed = float(profiles.placed_share[fresh[-1]]) if len(fresh) else float("nan")
        sentences = [
            f"Plum areas are an estimate: open interest of {profiles.source} placed at assumed leverage, a lower "
            f"bound; {formats.percent(placed)} of it lies inside the map's window now. Cross margin cannot be located."
        ]
    start, end = (np.datetime64(one, "ms").item() for one in (scale.start_ms, scale.end_ms))
    own = " (this range itself: nothing earlier is known)" if scale.end_ms > profiles.time_ms[0] else ""
    against = "what was usual at each distance" if is_z else "quantiles of the mass"
    sentences.append(f"Colours are fixed to {against} from {start:%d %b} to {end:%d %b %Y}{own}; no zoom moves them.")
    total = float(profiles.mass_usdt[fresh[-1]].sum()) if len(fresh) else 0.0
    outside = 1.0 - float(mass_now.sum()) / total if total > 0.0 else 0.0
    cut = f"{formats.percent(outside)} of the mass now lies beyond the prices drawn. " if outside >= 0.001 else ""
    spacing = int(np.median(np.diff(profiles.time_ms))) if len(profiles) > 1 else picture.column_ms
    if picture.column_ms > spacing:
        cut += f"A column is the largest of its snapshots in {span(picture.column_ms)}."
    return [*sentences, cut.strip()]
