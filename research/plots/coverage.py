"""Is the lake complete? The gap calendar."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import (
    GRID,
    HALT_BG,
    HALT_INK,
    INK,
    MUTED,
    RULE,
    SURFACE,
    WARN_BG,
    WARN_INK,
    dress,
    escaped,
    time_axis,
)
from research.thin import epoch_ms, runs

MAX_ROWS, MAX_COLUMNS = 60, 400
COMPLETE = 0.999  # fraction of the expected rows from which on a cell counts as complete

_DAY_MS, _HOUR_MS = 86_400_000.0, 3_600_000.0
_ROW_PX, _NARROW_ROW_PX = 22, 30
_WIDE_PX, _NARROW_PX = 1190, 255
_GLYPH_PX = 11
_LEAST_GLYPH_CELL_PX = 8.0  # narrower cells tell their state by hatching, lightness and hover
# state: (glyph, word, fill, glyph's colour); the order is that of the colour scale
_STATES = {
    "complete": ("", "complete", SURFACE, INK),
    "unknown": ("", "recorded, completeness unknown", GRID, INK),
    "repaired": ("R", "repaired", GRID, INK),
    "open": ("!", "open", WARN_BG, WARN_INK),
    "unrepairable": ("✕", "unrepairable", HALT_BG, HALT_INK),
}
_BLANK = "missing"  # no row at all
_STREAM = ("table", "symbol", "interval")


def plot_gap_calendar(coverage: pl.DataFrame, *, title: str = "Gap calendar: what the lake holds") -> go.Figure:
    """Streams against days (or hours): what is complete, repaired or lacks rows, and when nothing was recorded.

    Parameters
    ----------
    coverage : ``data.coverage.COVERAGE``, a row per table, symbol, interval and date. ``hour`` (UTC) may stand for
        ``date`` in spans under 14 days, state may be "repaired", and a column ``cause`` is shown where there is one.
        The 60 most damaged streams and the latest 400 columns are drawn.
    """
    column = "hour" if "hour" in coverage.columns else "date"
    step = _HOUR_MS if column == "hour" else _DAY_MS
    if coverage.is_empty():
        raise ValueError("no coverage to draw: the frame has no rows; run `aster coverage` on a lake with data")
    strange = set(coverage["state"].unique()) - {*_STATES, _BLANK}
    if strange:
        raise ValueError(f"unknown coverage states {sorted(strange)}; expected {[*_STATES, _BLANK]}")
    # Too little is missing to alarm anyone; the hover still counts it.
    nearly = (pl.col("covered") >= COMPLETE).fill_null(False) & pl.col("state").is_in(["open", "unrepairable"])
    coverage = coverage.with_columns(state=pl.when(nearly).then(pl.lit("complete")).otherwise("state"))
    streams = _streams(coverage)
    times = epoch_ms(coverage[column])
    first = max(times.min(), times.max() - (MAX_COLUMNS - 1) * step)
    n_columns = round((times.max() - first) / step) + 1

    codes = np.full((len(streams), n_columns), np.nan)
    hover = [["" for _ in range(n_columns)] for _ in streams]
    rows = {stream: row for row, stream in enumerate(streams)}
    order = list(_STATES)
    for time, entry in zip(times, coverage.iter_rows(named=True), strict=True):
        row = rows.get(tuple(entry[name] for name in _STREAM))
        if row is None or time < first or entry["state"] == _BLANK:
            continue
        cell = round((time - first) / step)
        codes[row, cell] = order.index(entry["state"])
        hover[row][cell] = _cell_text(entry)
    figure = go.Figure()
    _add_cells(figure, codes, hover, first, step, streams, column)
    _add_hatches(figure, codes, first, step)
    wide = _add_glyphs(figure, codes, first, step, _WIDE_PX / n_columns)
    narrow = _add_glyphs(figure, codes, first, step, _NARROW_PX / n_columns, visible=False)
    _add_legend(figure, codes)
    labels = [" ".join(filter(None, stream)) for stream in streams]
    figure.update_layout(
        xaxis=time_axis(range=[first, first + n_columns * step], showgrid=False),
        yaxis={
            "tickvals": list(range(len(streams))),
            "ticktext": [escaped(label) for label in labels],
            "range": [len(streams) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "ticklabelstandoff": 6,
            "showline": False,
        },
    )
    stacked = [escaped(label).replace(" ", "<br>", 1) for label in labels]
    return dress(
        figure,
        title=title,
        caption=_caption(coverage, len(streams), column, times, first),
        plot_px=max(_ROW_PX * len(streams), 44),
        narrow_plot_px=max(_NARROW_ROW_PX * len(streams), 60),
        left_px=min(24 + 7 * max(len(label) for label in labels), 220),
        narrow_left_px=104,
        narrow={
            "layout": {"yaxis.ticktext": stacked, "xaxis.nticks": 4},
            "data": {
                1: {"xgap": _gap_px(_NARROW_PX / n_columns)},
                **{index: {"visible": False} for index in wide},
                **{index: {"visible": True} for index in narrow},
            },
        },
    )


def _streams(coverage: pl.DataFrame) -> list[tuple[str, str, str | None]]:
    """Streams to draw, most damaged first: what cannot be repaired, then what is open, then what was."""
    damage = ("unrepairable", "open", "repaired")
    counted = coverage.group_by(_STREAM).agg(
        *(pl.col("state").eq(state).sum().alias(state) for state in damage), pl.col("missing").sum()
    )
    by = [*damage, "missing", *_STREAM]
    ranked = counted.sort(by, descending=[name not in _STREAM for name in by]).head(MAX_ROWS)
    return list(ranked.select(_STREAM).iter_rows())


def _add_cells(
    figure: go.Figure,
    codes: np.ndarray,
    hover: list[list[str]],
    first: float,
    step: float,
    streams: list[tuple[str, str, str | None]],
    column: str,
) -> None:
    place = {"x0": first + step / 2, "dx": step, "y0": 0, "dy": 1, "hoverongaps": False, "showscale": False}
    # A cell is a grey square under a smaller one, which leaves an outline; nothing at all where nothing was recorded.
    figure.add_heatmap(
        z=np.where(np.isnan(codes), np.nan, 1.0),
        zmin=0,
        zmax=1,
        colorscale=[[0, RULE], [1, RULE]],
        hoverinfo="skip",
        name="recorded",
        showlegend=False,
        **place,
    )
    edges = np.repeat(np.arange(len(_STATES) + 1) / len(_STATES), 2)[1:-1]
    fills = [fill for _, _, fill, _ in _STATES.values() for _ in range(2)]
    names = np.array([[escaped(" ".join(filter(None, stream)))] * codes.shape[1] for stream in streams])
    figure.add_heatmap(
        z=codes,
        zmin=-0.5,
        zmax=len(_STATES) - 0.5,
        colorscale=[[float(edge), fill] for edge, fill in zip(edges, fills, strict=True)],
        xgap=_gap_px(_WIDE_PX / codes.shape[1]),
        ygap=2,
        customdata=names,
        hovertext=hover,
        hovertemplate="%{hovertext}<br>%{customdata}<br>%{x|"
        + ("%d %b %Y %H:00" if column == "hour" else "%d %b %Y")
        + "} UTC<extra></extra>",
        name="state",
        showlegend=False,
        **place,
    )


def _gap_px(cell_px: float) -> int:
    """Outline between cells; between thin ones it would be most of the picture."""
    return 1 if cell_px >= _LEAST_GLYPH_CELL_PX else 0


def _add_hatches(figure: go.Figure, codes: np.ndarray, first: float, step: float) -> None:
    """Hatching over repaired cells, one bar per run of them."""
    found = _found(codes, "repaired")
    if not found:
        return
    figure.add_bar(
        orientation="h",
        base=[first + start * step for _, start, _ in found],
        x=[(end - start) * step for _, start, end in found],
        y=[row for row, _, _ in found],
        width=0.86,
        marker={
            "color": GRID,
            "line": {"width": 0},
            "pattern": {"shape": "/", "size": 5, "solidity": 0.25, "fgcolor": MUTED, "bgcolor": GRID},
        },
        hoverinfo="skip",
        name="R repaired",
        legendrank=1001,
    )


def _add_glyphs(
    figure: go.Figure, codes: np.ndarray, first: float, step: float, cell_px: float, visible: bool = True
) -> list[int]:
    """One sign per run of damaged cells where they are wide enough; returns the numbers of the traces added."""
    added = []
    for state, (glyph, word, _, colour) in _STATES.items():
        found = _found(codes, state) if glyph and cell_px >= _LEAST_GLYPH_CELL_PX else []
        if not found:
            continue
        added.append(len(figure.data))
        figure.add_scatter(
            x=[first + (start + end) / 2 * step for _, start, end in found],
            y=[row for row, _, _ in found],
            mode="text",
            text=[f"<b>{glyph}</b>"] * len(found),
            textfont={"size": _GLYPH_PX, "color": colour},
            hoverinfo="skip",
            showlegend=False,
            name=word,
            visible=visible,
        )
    return added


def _found(codes: np.ndarray, state: str) -> list[tuple[int, int, int]]:
    """(row, first column, last column + 1) of every run of a state."""
    code = list(_STATES).index(state)
    columns = np.arange(codes.shape[1], dtype=float)
    return [(row, int(a), int(b)) for row in range(len(codes)) for a, b in runs(columns, codes[row] == code, 1.0)]


def _add_legend(figure: go.Figure, codes: np.ndarray) -> None:
    for code, (state, (glyph, word, fill, _)) in enumerate(_STATES.items()):
        if state == "repaired":
            continue  # its hatched bars stand in the legend themselves
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=f"{glyph} {word}".strip(),
            hoverinfo="skip",
            marker={"symbol": "square", "size": 12, "color": fill, "line": {"width": 1, "color": RULE}},
            showlegend=bool(np.any(codes == code)),
        )


def _cell_text(entry: dict) -> str:
    state, gap = entry["state"], entry["longest_gap_ms"]
    silence = f"longest gap {formats.age(None if gap is None else gap / 1000)}"
    if state == "complete":
        lacking = f", {formats.count(entry['missing'])} missing" if entry["missing"] else ""
        return f"<b>{formats.percent(entry['covered'], decimals=2)}</b> complete{lacking}"
    if state == "unknown":
        return f"<b>recorded</b>, completeness unknown, {silence}"
    about = "about " if entry["is_estimate"] else ""
    parts = [
        f"<b>{about}{formats.count(entry['missing'])} missing</b>",
        silence,
        escaped(entry.get("cause") or ""),
        _STATES[state][1],
    ]
    return ", ".join(filter(None, parts))


def _caption(coverage: pl.DataFrame, drawn: int, column: str, times: np.ndarray, first: float) -> str:
    counted = dict(coverage.group_by("state").len().iter_rows())
    parts = [
        f"{formats.count(counted[state])} {words}"
        for state, words in (
            ("complete", f"complete ({formats.percent(COMPLETE)} or more)"),
            ("repaired", "repaired"),
            ("open", "open"),
            ("unrepairable", "beyond repair"),
            ("unknown", "recorded where nobody can know what is missing"),
        )
        if state in counted
    ]
    total = coverage.select(_STREAM).n_unique()
    cut = "" if total == drawn else f" {drawn} of {total} streams are drawn."
    if times.min() < first:
        cut += f" The latest {MAX_COLUMNS} columns are drawn."
    noun = "stream-hours" if column == "hour" else "stream-days"
    kept = formats.count(len(coverage) - counted.get(_BLANK, 0))
    return f"Of {kept} {noun}: {', '.join(parts)}. Blank: no row. Most damaged stream first.{cut}"
