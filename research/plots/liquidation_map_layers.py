"""The layers of the liquidation map: mass behind, cluster boxes before, the profile of now at the right."""

from collections.abc import Iterator

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.clusters.raster import Raster, as_counts
from research.plots.equity import spread
from research.plots.style import GRID, INK, LIQ, MASS_RAMP, MUTED, SURFACE
from research.thin import epoch_ms, runs

MAX_BOXES = 60
MAX_LABELS = 8
SCALE_PX = 11

_UNITS = {1.0: "USDT", 1e3: "k USDT", 1e6: "M USDT", 1e9: "bn USDT"}
_BARE = {"showgrid": False, "ticks": "", "showline": False, "ticklabelstandoff": 3}
_LOOKS = {  # of a box by how its cluster ended: legend, dash, width, colour, mark at the end
    "FADED": ("cluster faded ○ (positions closed)", "dot", 1.0, MUTED, "circle"),
    "BROKEN": ("cluster broken ✕ (price went through)", "solid", 1.0, INK, "x"),
    "OTHER": ("cluster merged, consumed or stale", "dash", 1.0, MUTED, None),
    "ACTIVE": ("cluster active", "solid", 2.4, INK, None),
}


def draw_mass(figure: go.Figure, picture: Raster, edges: tuple[float, ...], spec: str, *, is_z: bool) -> str:
    """The heatmap, a trace per run of columns that were seen; returns the unit of its numbers."""
    if is_z:
        numbers, unit, word, digits = picture.values, 1.0, "standard deviations", ".1f"
    else:
        numbers, unit = as_counts(picture.values, edges[0])
        word, digits = _UNITS[unit], ",.0f" if numbers.dtype == np.uint16 else ",.1f"
    top = 2.0 * edges[-1] / unit
    column, half = picture.column_ms, picture.row_usdt / 2
    starts = picture.start_ms + column * np.arange(picture.values.shape[1], dtype=np.float64)
    for first, last in runs(starts, picture.seen, column):
        a, b = round((first - picture.start_ms) / column), round((last - picture.start_ms) / column)
        figure.add_heatmap(
            z=np.ascontiguousarray(numbers[:, a:b]),
            x0=first + column / 2,
            dx=column,
            y0=picture.low_usdt + half,
            dy=picture.row_usdt,
            zmin=0.0,
            zmax=top,
            colorscale=steps([edge / unit / top for edge in edges]),
            showscale=False,
            hovertemplate=f"<b>%{{z:{digits}}} {word}</b>{' above usual' if is_z else ' at risk'}<br>"
            f"%{{y:{spec}}} ± {half:,.8g} USDT<br>%{{x|%d %b %H:%M}} UTC ± {formats.age(column / 2000)}<extra></extra>",
            name="mass",
            showlegend=False,
        )
    return word


def steps(stops: list[float]) -> list[list]:
    """A colour scale of plain steps: blank below the first stop, a colour of the ramp from each stop on."""
    levels = [0.0, *stops, 1.0]
    colours = [SURFACE, *MASS_RAMP]
    return [[levels[i + end], colour] for i, colour in enumerate(colours) for end in (0, 1)]


def draw_scale(figure: go.Figure, edges: tuple[float, ...], words: str, narrow_words: str) -> dict:
    """The colours as a strip of their own on x5, y5: plotly.js 4.1 misplaces titles in figures with a colour bar.

    Returns the strip's changes on a narrow page.
    """
    figure.add_heatmap(
        z=[[0.5 + i for i in range(len(edges))]],
        x0=0.5,
        dx=1,
        zmin=0,
        zmax=len(edges),
        colorscale=[[(i + end) / len(edges), colour] for i, colour in enumerate(MASS_RAMP) for end in (0, 1)],
        showscale=False,
        hoverinfo="skip",
        xaxis="x5",
        yaxis="y5",
        name="colours",
        showlegend=False,
    )
    figure.update_layout(
        xaxis5={
            "anchor": "y5",
            "side": "top",
            "range": [0, len(edges)],
            "tickvals": list(range(len(edges))),
            "ticktext": [f"{edge:g}" for edge in edges],
            "tickangle": 0,
            "fixedrange": True,
            **_BARE,
        },
        yaxis5={"anchor": "x5", "showticklabels": False, "fixedrange": True, **_BARE},
    )
    figure.add_annotation(
        name="scale",
        text=words,
        x=0,
        y=0.5,
        xref="x5 domain",
        yref="y5 domain",
        xanchor="right",
        yanchor="middle",
        xshift=-12,
    )
    return {f"annotations[{len(figure.layout.annotations) - 1}].text": narrow_words}


def unit_of(value: float) -> tuple[float, str]:
    """The unit in which an amount has few digits: 500 USDT, k USDT, M USDT."""
    return next((unit, word) for unit, word in reversed(_UNITS.items()) if value >= unit or unit == 1.0)


def drawn_lives(lives: pl.DataFrame) -> pl.DataFrame:
    """The active, then the largest, at most ``MAX_BOXES``."""
    is_active = pl.col("state") == "ACTIVE"
    return pl.concat([lives.filter(is_active), lives.filter(~is_active)]).head(MAX_BOXES)


def draw_boxes(figure: go.Figure, lives: pl.DataFrame, mark: float, tick_size: float) -> None:
    """Boxes [first, last] × [lo, hi] with a halo."""
    for (name, dash, width, colour, _), own in _by_look(lives):
        x, y = _outlines(own)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": SURFACE, "width": width + 2},
            hoverinfo="skip",
            showlegend=False,
            name=f"halo, {name}",
        )
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": width, "dash": dash},
            hovertext=np.repeat(_life_texts(own, mark, tick_size), 6).tolist(),
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
        )


def draw_ends(figure: go.Figure, lives: pl.DataFrame, mark: float, tick_size: float) -> None:
    """A mark where a cluster broke or faded, above all else: a large triangle often lies there."""
    for (name, _, _, _, symbol), own in _by_look(lives):
        if symbol is None:
            continue
        marker = {"symbol": symbol, "size": 8, "color": SURFACE if symbol == "circle" else INK}
        figure.add_scatter(
            x=epoch_ms(own["last"]),
            y=own["price_level"].to_numpy(),
            mode="markers",
            marker={**marker, "line": {"color": INK if symbol == "circle" else SURFACE, "width": 1.4}},
            hovertext=_life_texts(own, mark, tick_size),
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
            name=f"end, {name}",
        )


def _by_look(lives: pl.DataFrame) -> Iterator[tuple[tuple, pl.DataFrame]]:
    kind = pl.when(pl.col("state").is_in(list(_LOOKS))).then("state").otherwise(pl.lit("OTHER"))
    for state, look in _LOOKS.items():
        own = lives.filter(kind == state)
        if not own.is_empty():
            yield look, own


def _outlines(lives: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    first, last = epoch_ms(lives["first"]), epoch_ms(lives["last"])
    low, high = lives["price_lo"].to_numpy(), lives["price_hi"].to_numpy()
    gap = np.full(len(lives), np.nan)
    x = np.column_stack([first, last, last, first, first, gap])
    return x.ravel(), np.column_stack([low, low, high, high, low, gap]).ravel()


def _life_texts(lives: pl.DataFrame, mark: float, tick_size: float) -> list[str]:
    return [_life_text(row, mark, tick_size) for row in lives.iter_rows(named=True)]


def _life_text(row: dict, mark: float, tick_size: float) -> str:
    whose = "longs" if row["side"] == "long" else "shorts"
    realised = f", {formats.usdt(row['realised_usd'])} realised" if row["realised_usd"] else ""
    end = "still active" if row["state"] == "ACTIVE" else f"{row['state'].lower()} {row['last']:%d %b %H:%M}{realised}"
    place = formats.bps(10_000.0 * (row["price_level"] / mark - 1.0))
    return (
        f"<b>{formats.usdt(row['mass_usdt'])}</b> USDT at most, {whose}, cluster {row['cluster_id']}<br>"
        f"peak {formats.price(row['price_level'], tick_size)}, {place} bps from the mark now<br>"
        f"{row['first']:%d %b %H:%M} UTC, {end}"
    )


def draw_now(figure: go.Figure, picture: Raster, mass_usdt: np.ndarray, spec: str) -> str:
    """Bars of the mass now per price row on x2, y4; returns the unit of their axis."""
    largest = float(mass_usdt.max(initial=0.0))
    unit, word = unit_of(largest)
    held = mass_usdt > 0.0
    centres = picture.low_usdt + picture.row_usdt * (np.arange(len(mass_usdt)) + 0.5)
    figure.add_bar(
        x=(mass_usdt / unit)[held].astype(np.float32),
        y=centres[held],
        width=picture.row_usdt,
        orientation="h",
        xaxis="x2",
        yaxis="y4",
        marker={"color": LIQ, "line": {"width": 0}},
        hovertemplate=f"<b>%{{x:,.2f}} {word}</b> at risk now<br>"
        f"%{{y:{spec}}} ± {picture.row_usdt / 2:,.8g} USDT<extra></extra>",
        name="now",
        showlegend=False,
    )
    figure.update_layout(xaxis2={"range": [0.0, max(largest / unit, 1e-9) / 0.4]})
    return word


def label_now(figure: go.Figure, lives: pl.DataFrame, picture: Raster, mark: float, px: int) -> None:
    """Price and distance of the largest active clusters, and the mark, at the right; moved apart where they collide."""
    height = picture.row_usdt * len(picture.values)
    active = lives.filter(
        pl.col("state") == "ACTIVE", pl.col("price_level").is_between(picture.low_usdt, picture.low_usdt + height)
    ).head(MAX_LABELS)
    decimals = formats.decimals_of(picture.row_usdt / 10.0)  # a peak is known to a row, no better
    labels = [
        (level, f"{formats.number(level, decimals)} · {formats.number(1e4 * (level / mark - 1.0), 0, signed=True)} bps")
        for level in active["price_level"]
    ]
    if np.isfinite(mark):
        labels.append((mark, f"mark {formats.number(mark, decimals)}"))
    labels.sort()
    places = spread([(price - picture.low_usdt) / height for price, _ in labels], 14 / px, 8 / px)
    for place, (_, text) in zip(places, labels, strict=True):
        figure.add_annotation(
            name="label",
            text=text,
            x=1,
            y=picture.low_usdt + place * height,
            xref="x2 domain",
            yref="y4",
            xanchor="right",
            yanchor="middle",
            font={"size": 11, "color": INK},
            bgcolor=SURFACE,
            borderpad=0,
        )


def draw_mark(figure: go.Figure, mark: float) -> None:
    """The mark now, dashed across the map and the profile."""
    for xref, yref in (("x domain", "y"), ("x2 domain", "y4")):
        figure.add_shape(
            type="line", x0=0, x1=1, y0=mark, y1=mark, xref=xref, yref=yref, layer="above",
            line={"color": MUTED, "width": 1, "dash": "dash"},
        )  # fmt: skip


def draw_gaps(figure: go.Figure, picture: Raster, bar_gaps: list[tuple[float, float]]) -> list[str]:
    """Bands where the map is missing though the price is not; the price's own bands cover map and sums alike."""
    bands = list(figure.layout.shapes)
    figure.layout.shapes = ()
    for band in bands:
        for axis in ("y", "y3"):
            figure.add_shape(
                type="rect", x0=band.x0, x1=band.x1, y0=0, y1=1, xref="x", yref=f"{axis} domain", fillcolor=GRID,
                line={"width": 0}, layer="above",
            )  # fmt: skip
    column = picture.column_ms
    starts = picture.start_ms + column * np.arange(picture.values.shape[1], dtype=np.float64)
    missing = [
        (first, last)
        for first, last in runs(starts, ~picture.seen, column)
        if not any(start - column <= first and last <= end + column for start, end in bar_gaps)
    ]
    for first, last in missing:
        figure.add_shape(
            type="rect", x0=first, x1=last, y0=0, y1=1, xref="x", yref="y domain", fillcolor=GRID, line={"width": 0}
        )
        if last - first >= len(starts) * column / 60:
            figure.add_annotation(
                text=f"no map {formats.age((last - first) / 1000)}",
                textangle=-90,
                x=(first + last) / 2,
                y=1,
                yref="y domain",
                yanchor="top",
                yshift=-6,
            )
    if not missing:
        return []
    share = sum(last - first for first, last in missing) / (len(starts) * column)
    return [f"In {formats.percent(share)} of the range the map is missing: its input was missing or stale."]
