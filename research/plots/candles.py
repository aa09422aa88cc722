"""Candles without a candlestick trace: the small plotly.js build has none. Gaps and the mark line go with them."""

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import GRID, INK, MUTED, SURFACE, dress, number_axis, time_axis
from research.thin import bar_interval_ms, epoch_ms, merge_candles, missing_runs, thin_line

MAX_GAP_BANDS = 40


def draw_candles(bars: pl.DataFrame, tick_size: float) -> tuple[go.Figure, int, list[str]]:
    """A figure with candles, gap bands and the mark line; the candle interval in ms; sentences for the caption."""
    if bars.is_empty():
        raise ValueError("no bars to draw: the range is empty; widen it, or run `aster import` on recordings of it")
    candles, interval = merge_candles(bars)
    middle = epoch_ms(candles["open_time"]) + interval / 2
    opened, high, low, close = (candles[name].to_numpy() for name in ("open", "high", "low", "close"))
    gap = np.full(len(middle), np.nan)
    figure = go.Figure()
    # Two pieces per candle, so that the wick does not cross a hollow body: lines lie above bars.
    figure.add_scatter(
        x=np.column_stack([middle] * 6).ravel(),
        y=np.column_stack([low, np.minimum(opened, close), gap, np.maximum(opened, close), high, gap]).ravel(),
        mode="lines",
        line={"color": INK, "width": 1},
        hoverinfo="skip",
        showlegend=False,
        name="wick",
    )
    spec = f",.{formats.decimals_of(tick_size)}f"
    for name, rising, fill in (("rising", close >= opened, SURFACE), ("falling", close < opened, INK)):
        figure.add_bar(
            x=middle[rising],
            base=opened[rising],
            y=(close - opened)[rising],
            width=interval * 0.7,
            marker={"color": fill, "line": {"color": INK, "width": 1}},
            customdata=np.column_stack([opened, high, low, close])[rising],
            hovertemplate=f"<b>%{{customdata[3]:{spec}}}</b> USDT<br>open %{{customdata[0]:{spec}}}, "
            f"high %{{customdata[1]:{spec}}}, low %{{customdata[2]:{spec}}}<br>%{{x|%d %b %H:%M}} UTC<extra></extra>",
            showlegend=False,
            name=name,
        )
    notes = ["Candles hollow up, solid down."]
    if interval > bar_interval_ms(bars):
        notes = [f"{formats.count(len(bars))} bars merged to candles of {span(interval)}, hollow up, solid down."]
    if _has_marks(bars):
        x, y = thin_line(epoch_ms(bars["open_time"]), _heard_marks(bars))
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": MUTED, "width": 1, "dash": "dash"},
            name="mark price",
            hovertemplate=f"<b>%{{y:{spec}}}</b> USDT mark<br>%{{x|%d %b %H:%M}} UTC<extra></extra>",
        )
    notes += _mark_gaps(figure, bars)
    figure.update_layout(
        xaxis=time_axis(range=list(time_range(bars))),
        yaxis=number_axis("price (USDT)"),
    )
    return figure, interval, notes


def _has_marks(bars: pl.DataFrame) -> bool:
    """Whether marks were recorded: where the last price stands in for each of them, there is no line to draw."""
    if "mark_price" not in bars.columns:
        return False
    known = bars.select("close", pl.col("mark_price").fill_nan(None)).drop_nulls()
    return bool((known["mark_price"] != known["close"]).any())


def _heard_marks(bars: pl.DataFrame) -> np.ndarray:
    """The mark of each bar, NaN where the last one heard is from before the bar and the one before it."""
    mark = bars["mark_price"].fill_null(np.nan).to_numpy()
    if "mark_age_ms" not in bars.columns:
        return mark
    return np.where(bars["mark_age_ms"].fill_null(np.nan).to_numpy() <= 2 * bar_interval_ms(bars), mark, np.nan)


def _mark_gaps(figure: go.Figure, bars: pl.DataFrame) -> list[str]:
    """Bands over what was not seen."""
    gaps = missing_runs(bars)
    longest = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:MAX_GAP_BANDS]
    first, last = time_range(bars)
    for start, end in longest:
        figure.add_shape(type="rect", x0=start, x1=end, y0=0, y1=1, yref="paper", fillcolor=GRID, line={"width": 0})
        if end - start >= (last - first) / 60:
            figure.add_annotation(
                text=f"no data {formats.age((end - start) / 1000)}",
                textangle=-90,
                x=(start + end) / 2,
                y=1,
                yref="y domain",
                yanchor="top",
                yshift=-6,
            )
    if not gaps:
        return []
    share = sum(end - start for start, end in gaps) / (last - first)
    where = "one gap" if len(gaps) == 1 else f"{formats.count(len(gaps))} gaps"
    note = f"Grey: {formats.percent(share)} of the range was not seen, in {where}"
    return [note + (f" ({MAX_GAP_BANDS} longest drawn)." if len(gaps) > MAX_GAP_BANDS else ".")]


def time_range(bars: pl.DataFrame) -> tuple[float, float]:
    """First open and last close, milliseconds since 1970."""
    times = epoch_ms(bars["open_time"])
    return float(times[0]), float(times[-1]) + bar_interval_ms(bars)


def span(interval_ms: float) -> str:
    """An interval in words: 2 h, 15 min."""
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if interval_ms >= unit_ms and interval_ms % unit_ms == 0:
            return f"{interval_ms / unit_ms:.0f} {unit}"
    return f"{interval_ms / 1000:g} s"


def finish(figure: go.Figure, title: str, sentences: list[str], *, plot_px: int) -> go.Figure:
    """Title, caption and pixel frame of a market figure."""
    notes = {f"annotations[{i}].visible": False for i, one in enumerate(figure.layout.annotations) if one.textangle}
    marks = {
        index: {"marker.sizeref": 3.0 * trace.marker.sizeref}
        if trace.marker.sizemode == "area"
        else {"marker.size": 0.7 * trace.marker.size}
        for index, trace in enumerate(figure.data)
        if trace.type == "scatter" and trace.mode == "markers"
    }
    return dress(
        figure,
        title=title,
        caption=" ".join(sentences),
        plot_px=plot_px,
        narrow_plot_px=320,
        # Bands are too thin for their label there, candles too thin for large marks.
        narrow={"layout": {**notes, "xaxis.nticks": 5}, "data": marks},
    )
