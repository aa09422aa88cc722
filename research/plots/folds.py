"""Does it survive each fold? The walk-forward strip."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import INK, INS, OOS, dress, escaped, number_axis, time_axis
from research.thin import epoch_ms

MAX_FOLDS = 60
_ALL_NUMBERED = 8  # folds; beyond, their bars are thinner than a number

_CHANGED = {0: "never changed", 1: "changed once (bold)"}
_FIGURES = ("in_sample_sharpe", "oos_sharpe", "oos_low", "oos_high")

_WIDE_PX, _NARROW_PX = 1_100, 290  # drawing widths, on pages of 1,280 and 375, that the parameter texts must fit
_CHARACTER_PX, _LINE_PX = 5.2, 14
_MAX_ROTATED_CHARACTERS = 32
_DOTS_PX, _BETWEEN_PX = 120, 14


def plot_walk_forward(folds: pl.DataFrame, *, title: str = "Walk-forward: train, pause, test") -> go.Figure:
    """Per fold its train and test windows, both Sharpe ratios, and what was chosen.

    Parameters
    ----------
    folds : a row per fold, in order: fold, train_start, train_end, test_start, test_end (UTC), in_sample_sharpe,
        oos_sharpe, oos_low, oos_high (90 % block bootstrap), trades, net_bps (per trade, after costs), params (text),
        changed (against the fold before). Figures are null where no config was picked, NaN where the picked one did not
        trade. The latest 60 are drawn.
    """
    if folds.is_empty():
        raise ValueError("no folds to draw: the frame has no rows")
    drawn = folds.tail(MAX_FOLDS)
    figure = go.Figure()
    _add_windows(figure, drawn)
    _add_sharpes(figure, drawn)
    texts = _Texts.of(drawn)
    bars_px = float(np.clip(96 / len(drawn), 4, 16)) * len(drawn)
    wide, narrow = (_rows(bars_px, px) for px in (texts.wide_px, texts.narrow_px))
    figure.update_layout(
        xaxis=time_axis(anchor="free", position=0.0, range=texts.range_ms),
        yaxis=number_axis("fold", domain=wide.windows, autorange="reversed", showgrid=False, **_fold_ticks(drawn)),
        yaxis2=number_axis("Sharpe", domain=wide.dots, anchor="x", zeroline=True, nticks=5),
    )
    moved = texts.add(figure, drawn, wide.texts, narrow.texts)
    return dress(
        figure,
        title=title,
        caption=_caption(folds, len(drawn)),
        plot_px=round(wide.height),
        narrow_plot_px=round(narrow.height),
        narrow={"layout": {"yaxis.domain": narrow.windows, "yaxis2.domain": narrow.dots, "xaxis.nticks": 4, **moved}},
    )


def _fold_ticks(folds: pl.DataFrame) -> dict:
    """Every fold's number where there is room."""
    return {"dtick": 1} if len(folds) <= _ALL_NUMBERED else {"nticks": 5}


@dataclass(frozen=True)
class _Rows:
    """Where the rows of the strip lie, as fractions of its height in pixels."""

    height: float
    windows: list[float]
    dots: list[float]
    texts: float  # upper edge of the texts


def _rows(bars_px: float, texts_px: float) -> _Rows:
    height = bars_px + _BETWEEN_PX + _DOTS_PX + texts_px
    dots = [texts_px / height, (texts_px + _DOTS_PX) / height]
    return _Rows(height, [1.0 - bars_px / height, 1.0], dots, max(texts_px - 6, 0.0) / height)


@dataclass(frozen=True)
class _Texts:
    """The chosen parameters as text: on lines, turned upright, or (empty) left to the hover.

    The last test may be shorter than the others; its text has as much room as theirs.
    """

    middles_ms: np.ndarray
    range_ms: list[float]
    wide: list[str]
    wide_angle: int
    wide_px: float
    narrow: list[str]
    narrow_angle: int
    narrow_px: float

    @classmethod
    def of(cls, folds: pl.DataFrame) -> "_Texts":
        starts = epoch_ms(folds["test_start"])
        first, last = epoch_ms(folds["train_start"])[0], epoch_ms(folds["test_end"])[-1]
        step = np.min(np.diff(starts)) if len(folds) > 1 else last - starts[0]
        last = max(last, starts[-1] + step)
        share = float(step / (last - first)) if len(folds) > 1 else 0.3
        wide = _set(folds, share * _WIDE_PX)
        return cls(starts + step / 2, [first, last], *wide, *_set(folds, share * _NARROW_PX))

    def add(self, figure: go.Figure, folds: pl.DataFrame, wide_y: float, narrow_y: float) -> dict:
        """Write the texts under their test windows; returns how they change on a narrow page."""
        moved = {}
        for x, wide, narrow in zip(self.middles_ms, self.wide, self.narrow, strict=True):
            path = f"annotations[{len(figure.layout.annotations)}]"
            figure.add_annotation(
                text=wide, textangle=self.wide_angle, x=x, y=wide_y, yref="paper", yanchor="top", font={"color": INK}
            )
            moved |= {f"{path}.text": narrow, f"{path}.textangle": self.narrow_angle, f"{path}.y": narrow_y}
        return moved


def _set(folds: pl.DataFrame, room_px: float) -> tuple[list[str], int, float]:
    """Texts, their angle and the height they need, for ``room_px`` of width per fold."""
    params = [text.split(", ") for text in folds["params"].fill_null(formats.UNKNOWN)]
    before = [params[0], *params[:-1]]
    fresh = [
        [changed and part not in old for part in parts]
        for parts, old, changed in zip(params, before, folds["changed"].fill_null(False), strict=True)
    ]
    if max(len(part) for parts in params for part in parts) * _CHARACTER_PX <= room_px - 6:
        texts = ["<br>".join(map(_weighted, parts, bold)) for parts, bold in zip(params, fresh, strict=True)]
        return texts, 0, _LINE_PX * max(map(len, params)) + 16
    if room_px < _LINE_PX:
        return [""] * len(params), 0, 0.0
    # Upright: a line per parameter where they fit side by side, else all on one line.
    if max(map(len, params)) * _LINE_PX <= room_px:
        separator, rows = "<br>", [max(map(len, parts)) for parts in params]
    else:
        separator, rows = ", ", [len(", ".join(parts)) for parts in params]
    texts = [
        separator.join(map(_weighted, parts, bold))
        if length <= _MAX_ROTATED_CHARACTERS
        else _weighted(separator.join(parts)[: _MAX_ROTATED_CHARACTERS - 1] + "…", any(bold))
        for parts, bold, length in zip(params, fresh, rows, strict=True)
    ]
    return texts, -90, _CHARACTER_PX * min(max(rows), _MAX_ROTATED_CHARACTERS) + 18


def _weighted(text: str, heavy: bool) -> str:
    return f"<b>{escaped(text)}</b>" if heavy else escaped(text)


def _add_windows(figure: go.Figure, folds: pl.DataFrame) -> None:
    hover = _hover(folds)
    for part, colour, name in (("train", INS, "train (in sample)"), ("test", OOS, "test (out of sample)")):
        start, end = epoch_ms(folds[f"{part}_start"]), epoch_ms(folds[f"{part}_end"])
        figure.add_bar(
            orientation="h",
            base=start,
            x=end - start,
            y=folds["fold"].to_numpy(),
            width=0.72,
            marker={"color": colour, "line": {"width": 0}},
            hovertext=hover,
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
        )


def _add_sharpes(figure: go.Figure, folds: pl.DataFrame) -> None:
    start, end = epoch_ms(folds["test_start"]), epoch_ms(folds["test_end"])
    hover = _hover(folds)
    column = {name: folds[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in _FIGURES}
    outside = column["oos_sharpe"]
    for values, at, marker, name, error in (
        (
            column["in_sample_sharpe"],
            0.35,
            {"symbol": "circle-open", "color": INS, "line": {"width": 1.8}},
            "in-sample Sharpe",
            None,
        ),
        (
            outside,
            0.65,
            {"symbol": "circle", "color": OOS},
            "out-of-sample Sharpe, 90 % interval",
            {
                "array": column["oos_high"] - outside,
                "arrayminus": outside - column["oos_low"],
                "symmetric": False,
                "type": "data",
                "color": OOS,
                "thickness": 1.4,
                "width": 3,
            },
        ),
    ):
        figure.add_scatter(
            x=start + at * (end - start),
            y=values,
            mode="markers",
            marker={**marker, "size": 9},
            error_y=error,
            yaxis="y2",
            hovertext=hover,
            hovertemplate="%{hovertext}<extra></extra>",
            name=name,
        )


def _hover(folds: pl.DataFrame) -> list[str]:
    return [
        f"<b>fold {row['fold']}: {formats.ratio(row['oos_sharpe'])}</b> out of sample "
        f"[{formats.ratio(row['oos_low'])}, {formats.ratio(row['oos_high'])}], "
        f"{formats.ratio(row['in_sample_sharpe'])} in sample<br>"
        f"{escaped(row['params'] or formats.UNKNOWN)}; {formats.count(row['trades'])} trades, "
        f"{formats.bps(row['net_bps'])} bps net<br>"
        f"train {row['train_start']:%d %b} to {row['train_end']:%d %b}, "
        f"test {row['test_start']:%d %b} to {row['test_end']:%d %b %Y} UTC"
        for row in folds.iter_rows(named=True)
    ]


def _caption(folds: pl.DataFrame, drawn: int) -> str:
    sharpe = folds["oos_sharpe"].cast(pl.Float64)
    positive = int((sharpe.fill_nan(None) > 0.0).sum())
    changes = int(folds["changed"].fill_null(False).sum())
    unpicked, idle = sharpe.null_count(), int(sharpe.is_nan().sum())
    out = f" {unpicked} without a pick stayed out of the market." if unpicked else ""
    out += f" {idle} did not trade." if idle else ""
    cut = "" if drawn == len(folds) else f" The latest {drawn} of {len(folds)} folds are drawn."
    return (
        f"{positive} of {len(folds)} folds are positive out of sample; the pick, made on the grey window alone, "
        f"{_CHANGED.get(changes, f'changed {changes} times (bold)')}.{out}{cut}"
    )
