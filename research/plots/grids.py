"""Scores of configs as grids over two parameters."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from research import formats
from research.plots.style import escaped


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A parameter of the grid.

    Parameters
    ----------
    column : its column in the frame; in sentences its name is the same in words.
    label : the axis title, unit included: "window (min)".
    unit : what follows a value in sentences; may be empty.
    """

    column: str
    label: str
    unit: str = ""

    def at(self, value: float) -> str:
        """The parameter with a value: window 45 min."""
        named = (self.column.replace("_", " "), formats.setting(value), self.unit)
        return " ".join(part for part in named if part)


@dataclass(frozen=True)
class Grids:
    """The frame as grids: rows are y values ascending, columns x values ascending."""

    x: list[float]
    y: list[float]
    out_of_sample: np.ndarray  # NaN below the minimum of trades
    in_sample: np.ndarray
    trades: np.ndarray

    @classmethod
    def of(cls, scores: pl.DataFrame, x: str, y: str, min_trades: int) -> "Grids":
        if scores.is_empty():
            raise ValueError("no configs to draw: the frame has no rows")
        if scores.select(x, y).is_duplicated().any():
            raise ValueError(f"several rows per ({x}, {y}): fix the other parameters first")
        xs, ys = scores[x].unique().sort().to_list(), scores[y].unique().sort().to_list()
        rows = scores[y].replace_strict(ys, range(len(ys)), return_dtype=pl.Int64).to_numpy()
        columns = scores[x].replace_strict(xs, range(len(xs)), return_dtype=pl.Int64).to_numpy()

        def grid(name: str) -> np.ndarray:
            filled = np.full((len(ys), len(xs)), np.nan)
            filled[rows, columns] = scores[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            return filled

        trades = grid("trades")
        enough = np.nan_to_num(trades) >= min_trades
        return cls(
            xs,
            ys,
            out_of_sample=np.where(enough, grid("oos_sharpe"), np.nan),
            in_sample=np.where(enough, grid("is_sharpe"), np.nan),
            trades=trades,
        )

    def row(self, value: float) -> int:
        return self._index(self.y, value)

    def column(self, value: float) -> int:
        return self._index(self.x, value)

    @staticmethod
    def _index(values: list[float], value: float) -> int:
        if value not in values:
            raise ValueError(f"the chosen value {value:g} is not on the axis {[f'{one:g}' for one in values]}")
        return values.index(value)

    def hover(self, x: Axis, y: Axis) -> list[list[str]]:
        """What each cell says when pointed at."""
        return [
            [
                f"<b>{formats.ratio(self.out_of_sample[row, column])}</b> out of sample, "
                f"{formats.ratio(self.in_sample[row, column])} in sample<br>"
                f"{escaped(x.at(x_value))}, {escaped(y.at(y_value))}<br>"
                f"{formats.count(self.trades[row, column])} trades"
                for column, x_value in enumerate(self.x)
            ]
            for row, y_value in enumerate(self.y)
        ]
