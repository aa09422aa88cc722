"""What all figures share: colours, type, the Plotly template, and how a figure is framed in a notebook and on a page.

Figures are drawn in the light colours. Every colour of the palette is a string of its own, so the dark theme is one
dictionary swap over the finished figure (``paint``), in Python and in the page's script alike.
"""

import html
import json
import textwrap
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io as pio

Figure = go.Figure
Theme = Literal["light", "dark"]

# name: (light, dark). No two light strings are equal: the swap would mix them up.
TOKENS = {
    "bg": ("#FBFAF7", "#0E1218"),
    "surface": ("#FFFFFF", "#161B23"),
    "ink": ("#1B1F27", "#E8EAEE"),
    "muted": ("#5A6372", "#9AA4B4"),
    "long": ("#176BCB", "#3BA7FF"),
    "short": ("#B63A06", "#FA9A32"),
    "liq": ("#8A2470", "#EE62B9"),
    "overlay": ("#7A6400", "#D8C24A"),
    "oos": ("#04775A", "#6EDBA2"),
    "ins": ("#868C98", "#727882"),
    "warn_bg": ("#FFE08A", "#5A4406"),
    "warn_ink": ("#4A3500", "#FFE08A"),
    "halt_bg": ("#A1123F", "#C92A5A"),
    "halt_ink": ("#FFF", "#FFF"),
    "rule": ("#D9D7D0", "#2C3440"),
    "grid": ("#ECEAE4", "#222935"),
}
BG, SURFACE, INK, MUTED, LONG, SHORT, LIQ, OVERLAY, OOS, INS, WARN_BG, WARN_INK, HALT_BG, HALT_INK, RULE, GRID = (
    light for light, _ in TOKENS.values()
)
OOS_RAMP = ("#B5A998", "#DAD3C9", "#F6F4F0", "#D9EEE6", "#A6D8C5", "#6DBFA3", "#38A082")  # negative to positive
OOS_STOPS = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0)  # near-white stands at zero: no loss is ever green
_OOS_RAMP_DARK = ("#5E5346", "#3C3731", "#20262F", "#1B3832", "#194D41", "#176350", "#13745A")
MASS_RAMP = ("#F7E9F3", "#EBC9E0", "#D796C3", "#B95C9F", "#8A2471", "#4E0B40")  # little to much at risk
_MASS_RAMP_DARK = ("#241A2C", "#43203F", "#75296A", "#B33A91", "#EE62BA", "#FFD9F1")
_RAMPS = ((OOS_RAMP, _OOS_RAMP_DARK), (MASS_RAMP, _MASS_RAMP_DARK))
DARK = dict(TOKENS.values()) | {colour: dark for ramp in _RAMPS for colour, dark in zip(*ramp, strict=True)}

FONT = "Inter, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
CONFIG = {
    "showSendToCloud": False,  # plotly.js offers "Share chart…" otherwise: one click uploads the figure's data
    "plotlyServerURL": "",
    "displaylogo": False,
    "responsive": True,
    "showAxisRangeEntryBoxes": False,
    "modeBarButtons": [["toImage", "pan2d", "resetScale2d"]],
}

_AXIS = {
    "gridcolor": GRID,
    "showgrid": True,  # Plotly leaves it out under bars
    "linecolor": RULE,
    "showline": True,
    "zeroline": False,
    "zerolinecolor": MUTED,
    "zerolinewidth": 1,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": RULE,
    "tickfont": {"size": 11, "color": MUTED},
    "title": {"font": {"size": 11, "color": MUTED}, "standoff": 8},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": INK},
        "title": {"font": {"size": 15, "color": INK}, "x": 0, "xref": "paper", "xanchor": "left"},
        "paper_bgcolor": SURFACE,
        "plot_bgcolor": SURFACE,
        "colorway": [INK, INS],
        "colorscale": {
            "sequential": [[0, SURFACE], [1, INS]],
            "sequentialminus": [[0, INS], [1, SURFACE]],
            "diverging": [[stop, colour] for stop, colour in zip(OOS_STOPS, OOS_RAMP, strict=True)],
        },
        "separators": ".\u202f",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": RULE, "font": {"size": 12, "color": INK}, "align": "left"},
        "legend": {"font": {"size": 11, "color": MUTED}, "orientation": "h", "x": 0},
        "modebar": {"bgcolor": SURFACE, "color": MUTED, "activecolor": INK},
        "annotationdefaults": {"font": {"size": 11, "color": MUTED}, "showarrow": False, "arrowcolor": MUTED},
        "shapedefaults": {"line": {"width": 0}, "layer": "below"},
        "bargap": 0,
        "barmode": "overlay",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)

_TITLE_PX = 42
_LEGEND_PX = 30
_BUTTONS_PX = 18  # of Plotly, top right
_LEGEND_ROW_PX = 21
_HALF_SCREEN_PX = 640  # of drawing
_CAPTION_LINE_PX = 17
_CHARACTER_PX = 5.5  # of a caption
_COLUMN_PX = 592  # of a notebook's outputs on a screen of 1024 px, with JupyterLab's list of files beside them


def time_axis(**more: Any) -> dict:
    """Settings of an axis of UTC times given as milliseconds since 1970."""
    stops = [
        ([None, 59_999], "%H:%M:%S\n%d %b"),
        ([60_000, 86_399_999], "%H:%M\n%d %b"),
        ([86_400_000, "M1"], "%d %b\n%Y"),
        (["M1", None], "%b\n%Y"),
    ]
    return {
        "type": "date",
        "title": {"text": "time (UTC)"},
        "tickformatstops": [{"dtickrange": span, "value": value} for span, value in stops],
        "nticks": 10,
        **more,
    }


def number_axis(title: str, **more: Any) -> dict:
    """Settings of an axis of plain numbers; the title carries the unit."""
    return {"title": {"text": title}, "tickformat": ",~f", **more}


def escaped(text: str) -> str:
    """Text for inside a figure, where Plotly would read tags and links."""
    return html.escape(text, quote=False)


def dress(
    figure: go.Figure,
    *,
    title: str,
    caption: str,
    plot_px: int,
    narrow_plot_px: int | None = None,
    top_px: int = 12,
    bottom_px: int = 58,
    left_px: int = 64,
    narrow_left_px: int = 60,
    right_px: int = 24,
    narrow_top_px: int | None = None,
    legend_below: bool = False,
    narrow: dict | None = None,
) -> go.Figure:
    """Give a figure its template, title, caption and pixel frame; returns the same figure.

    Parameters
    ----------
    title : what is shown. ``caption`` may conclude, and states what was cut.
    plot_px : height between the margins; ``narrow_plot_px`` the same on a page under 600 px wide.
    top_px, bottom_px : room that the drawing itself needs above and below, without title, legend and caption.
    legend_below : the legend goes under the drawing, as it always does on a narrow page.
    narrow : changes on a narrow page: ``{"layout": {path: value}, "data": {trace index: {path: value}}}``.
    """
    names = [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    # Nobody knows how wide a notebook's column is: the caption stands clear of the legend in half a screen too.
    below_px = _LEGEND_PX + (_legend_rows(names, _HALF_SCREEN_PX) - 1) * _LEGEND_ROW_PX if names and legend_below else 0
    frame = {
        "plot": plot_px,
        "narrow_plot": narrow_plot_px or plot_px,
        "top": top_px + (_LEGEND_PX if names and not legend_below else _BUTTONS_PX),
        "narrow_top": top_px if narrow_top_px is None else narrow_top_px,
        "bottom": bottom_px + below_px,
        "axis": bottom_px,
        "narrow_bottom": bottom_px + (_legend_rows(names, 329 - narrow_left_px) * _LEGEND_ROW_PX if names else 0),
        "left": left_px,
        "narrow_left": narrow_left_px,
        "right": right_px,
    }
    lines = textwrap.wrap(caption, int((_COLUMN_PX - left_px - 12) / _CHARACTER_PX))
    figure.update_layout(
        template=TEMPLATE,
        meta={"title": title, "caption": caption, "frame": frame, "narrow": narrow or {}},
        showlegend=bool(names),
        legend={"y": -bottom_px / plot_px, "yanchor": "top"}
        if legend_below
        else {"y": 1 + 10 / plot_px, "yanchor": "bottom"},
    )
    figure.add_annotation(
        name="caption",
        text="<br>".join(escaped(line) for line in lines),
        font={"size": 12},
        align="left",
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-frame["bottom"],
    )
    top, bottom = _TITLE_PX + frame["top"], frame["bottom"] + _CAPTION_LINE_PX * len(lines) + 14
    height = top + plot_px + bottom
    return figure.update_layout(
        title={"text": escaped(title), "yref": "container", "y": 1 - 18 / height, "yanchor": "top"},
        margin={"l": left_px, "r": right_px, "t": top, "b": bottom},
        height=height,
    )


def name_panel(figure: go.Figure, text: str, axis: str) -> None:
    """Write a panel's name above its top left corner; ``axis`` is its number in Plotly, empty for the first."""
    figure.add_annotation(
        text=text,
        x=0,
        y=1,
        xref=f"x{axis} domain",
        yref=f"y{axis} domain",
        xanchor="left",
        yanchor="bottom",
        yshift=4,
        font={"size": 12, "color": INK},
    )


def _legend_rows(names: list[str], width_px: float) -> int:
    """Rows that Plotly gives a horizontal legend: one when all entries fit, else columns of the widest."""
    entries = [46 + 5.8 * len(name) for name in names]
    if sum(entries) <= width_px:
        return 1
    columns = max(1, int(width_px // max(entries)))
    return -(-len(entries) // columns)


def for_page(figure: go.Figure) -> dict:
    """The figure as a page wants it: title and caption apart as plain text, the drawing without them.

    Returns
    -------
    dict
        ``title``, ``caption``, ``data``, ``layout`` and ``narrow`` (the changes under 600 px), ready for JSON.

    Raises
    ------
    ValueError
        If the figure was not made in ``research.plots``.
    """
    drawing = json.loads(figure.to_json())
    layout = drawing["layout"]
    meta = layout.pop("meta", {})
    if "frame" not in meta:
        raise ValueError("a page draws figures of research.plots only: this one has no title, caption and frame")
    frame, narrow = meta["frame"], meta["narrow"]
    del layout["title"]
    # The template is the same in every figure of a page, which carries it once.
    del layout["template"]
    layout["annotations"] = [one for one in layout["annotations"] if one.get("name") != "caption"]
    layout["margin"] = {"l": frame["left"], "r": frame["right"], "t": frame["top"], "b": frame["bottom"]}
    layout["height"] = frame["top"] + frame["plot"] + frame["bottom"]
    narrow_layout = {
        "margin.l": frame["narrow_left"],
        "margin.r": 12,
        "margin.t": frame["narrow_top"],
        "margin.b": frame["narrow_bottom"],
        "height": frame["narrow_top"] + frame["narrow_plot"] + frame["narrow_bottom"],
        "legend.y": -(frame["axis"] + 4) / frame["narrow_plot"],
        "legend.yanchor": "top",
        **narrow.get("layout", {}),
    }
    return {
        "title": meta["title"],
        "caption": meta["caption"],
        "data": drawing["data"],
        "layout": layout,
        "narrow": {"layout": narrow_layout, "data": narrow.get("data", {})},
    }


def for_notebook(figure: go.Figure) -> dict:
    """The figure as a notebook stores it: content by MIME type."""
    return pio.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())


def paint(drawing: Any, theme: Theme) -> Any:
    """A copy of a figure's JSON (or any part of it) in the colours of ``theme``."""
    if theme == "light":
        return drawing
    if isinstance(drawing, dict):
        return {key: paint(value, theme) for key, value in drawing.items()}
    if isinstance(drawing, list):
        return [paint(value, theme) for value in drawing]
    return DARK.get(drawing, drawing) if isinstance(drawing, str) else drawing


def refuse_uploads() -> None:
    """Set ``CONFIG`` on every Plotly renderer, so that no notebook offers to upload a figure's data.

    JupyterLab resizes figures itself; a responsive one in an output of a widget loses its height on a change of tab.
    """
    for name in pio.renderers:
        renderer = pio.renderers[name]
        if hasattr(renderer, "config"):
            renderer.config = {**(renderer.config or {}), **CONFIG, "responsive": False}
