"""Does it survive each fold? The walk-forward strip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import polars as pl

from research import formats
from research.plots.style import INK, INS, MUTED, OOS, dress, escaped, number_axis, time_axis
from research.thin import epoch_ms

MAX_FOLDS = 60
_ALL_NUMBERED = 8  # folds; beyond, their bars are thinner than a number

_CHANGED = {0: "never changed", 1: "changed once (bold)"}
_FIGURES = ("in_sample_sharpe", "oos_sharpe", "oos_low", "oos_high")

_WIDE_PX, _NARROW_PX = 900, 290  # drawing widths, in a notebook and on a page of 375, that the parameter texts must fit
_CHARACTER_PX, _LINE_PX = 5.2, 14
_MAX_ROTATED_CHARACTERS = 32
_DOTS_PX, _BETWEEN_PX = 120, 14
_MARGIN_PX = 45  # left of the axis, where beside the texts nothing else stands


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
    wide, narrow = (_rows(bars_px, laid.px) for laid in (texts.wide, texts.narrow))
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
class _Laid:
    """The chosen parameters as text for one width: in columns, on lines, turned upright, or left to the hover."""

    texts: list[str]  # per fold
    angle: int
    px: float  # height they need
    names: str = ""  # of the parameters, left of the first column; in columns alone


@dataclass(frozen=True)
class _Texts:
    """The chosen parameters under their test windows, on a wide page and on a narrow one.

    The last test may be shorter than the others; its text has as much room as theirs.
    """

    middles_ms: np.ndarray
    range_ms: list[float]
    begins_ms: float  # the first test
    wide: _Laid
    narrow: _Laid

    @classmethod
    def of(cls, folds: pl.DataFrame) -> "_Texts":
        starts = epoch_ms(folds["test_start"])
        first, last = epoch_ms(folds["train_start"])[0], epoch_ms(folds["test_end"])[-1]
        step = np.min(np.diff(starts)) if len(folds) > 1 else last - starts[0]
        last = max(last, starts[-1] + step)
        share = float(step / (last - first)) if len(folds) > 1 else 0.3
        left = float((starts[0] - first) / (last - first))
        wide, narrow = (_laid(folds, share * px, left * px) for px in (_WIDE_PX, _NARROW_PX))
        return cls(starts + step / 2, [first, last], starts[0], wide, narrow)

    def add(self, figure: go.Figure, folds: pl.DataFrame, wide_y: float, narrow_y: float) -> dict:
        """Write the texts under their test windows; returns how they change on a narrow page."""
        moved = {}

        def write(wide: str, narrow: str, **place: object) -> None:
            path = f"annotations[{len(figure.layout.annotations)}]"
            figure.add_annotation(text=wide, y=wide_y, yref="paper", yanchor="top", **place)
            moved.update({f"{path}.text": narrow, f"{path}.y": narrow_y})
            if "textangle" in place:
                moved[f"{path}.textangle"] = self.narrow.angle

        for x, wide, narrow in zip(self.middles_ms, self.wide.texts, self.narrow.texts, strict=True):
            write(wide, narrow, x=x, textangle=self.wide.angle, font={"color": INK})
        if self.wide.names or self.narrow.names:
            left = {"x": self.begins_ms, "xanchor": "right", "align": "right", "font": {"color": MUTED}}
            write(self.wide.names, self.narrow.names, **left)
        return moved


def _laid(folds: pl.DataFrame, room_px: float, left_px: float) -> _Laid:
    """Texts for ``room_px`` of width per fold, with ``left_px`` before the first."""
    params = [text.split(", ") for text in folds["params"].fill_null(formats.UNKNOWN)]
    is_picked = folds["oos_sharpe"].is_not_null().to_list()
    return (
        _in_columns(params, is_picked, room_px, left_px)
        or _on_lines(params, is_picked, room_px)
        or _upright(params, is_picked, room_px)
    )


def _fresh(params: list[list[str]], is_picked: list[bool]) -> list[list[bool]]:
    """Of each parameter, whether the last fold that had a pick had another; of the first nobody knows."""
    fresh, before = [], None
    for parts, picked in zip(params, is_picked, strict=True):
        fresh.append([picked and before is not None and part not in before for part in parts])
        before = parts if picked else before
    return fresh


def _in_columns(params: list[list[str]], is_picked: list[bool], room_px: float, left_px: float) -> _Laid | None:
    """A column of values per fold, the names once; None where folds name others, or there is no room."""
    picks = [parts for parts, picked in zip(params, is_picked, strict=True) if picked]
    names = {tuple(part.rpartition(" ")[0] for part in parts) for parts in picks}
    if len(names) != 1:
        return None
    (named,) = names
    values = [
        [part.rpartition(" ")[2] for part in parts] if picked else parts
        for parts, picked in zip(params, is_picked, strict=True)
    ]
    if not _fits(named, left_px + _MARGIN_PX) or not all(_fits(each, room_px) for each in values):
        return None
    texts = ["<br>".join(map(_weighted, *each)) for each in zip(values, _fresh(params, is_picked), strict=True)]
    return _Laid(texts, 0, _LINE_PX * max(map(len, values)) + 16, "<br>".join(map(escaped, named)))


def _on_lines(params: list[list[str]], is_picked: list[bool], room_px: float) -> _Laid | None:
    if not all(_fits(parts, room_px) for parts in params):
        return None
    texts = ["<br>".join(map(_weighted, *each)) for each in zip(params, _fresh(params, is_picked), strict=True)]
    return _Laid(texts, 0, _LINE_PX * max(map(len, params)) + 16)


def _upright(params: list[list[str]], is_picked: list[bool], room_px: float) -> _Laid:
    """A line per parameter where they fit side by side, else all on one line; nothing where that has no room."""
    if room_px < _LINE_PX:
        return _Laid([""] * len(params), 0, 0.0)
    if max(map(len, params)) * _LINE_PX <= room_px:
        separator, rows = "<br>", [max(map(len, parts)) for parts in params]
    else:
        separator, rows = ", ", [len(", ".join(parts)) for parts in params]
    texts = [
        separator.join(map(_weighted, parts, bold))
        if length <= _MAX_ROTATED_CHARACTERS
        else _weighted(separator.join(parts)[: _MAX_ROTATED_CHARACTERS - 1] + "…", any(bold))
        for parts, bold, length in zip(params, _fresh(params, is_picked), rows, strict=True)
    ]
    return _Laid(texts, -90, _CHARACTER_PX * min(max(rows), _MAX_ROTATED_CHARACTERS) + 18)


def _fits(lines: Sequence[str], room_px: float) -> bool:
    """Beside its neighbour."""
    return max(map(len, lines)) * _CHARACTER_PX <= room_px - 6


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
