"""Do a config's neighbours agree? Neighbourhoods of every sweep, and the plateau of a two-parameter grid."""

from collections import deque
from dataclasses import dataclass

import numpy as np


def neighbour_scores(scores: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Lower quartile of each config's score among itself and its grid neighbours (one step in one parameter).

    A config whose neighbours fail is luck. NaN scores (too few trades) count as worst; neighbours beyond the edge of
    the grid do not exist and do not count.

    Parameters
    ----------
    scores : float64, shape (n_configs,), the last parameter of the grid fastest.
    shape : values per parameter.
    """
    grid = np.where(np.isnan(scores), -np.inf, scores).reshape(shape)
    layers = [grid]
    for axis, length in enumerate(shape):
        if length == 1:
            continue
        edge = np.full_like(np.take(grid, [0], axis=axis), np.nan)
        body = [slice(None)] * len(shape)
        body[axis] = slice(1, None)
        layers.append(np.concatenate([grid[tuple(body)], edge], axis=axis))
        body[axis] = slice(None, -1)
        layers.append(np.concatenate([edge, grid[tuple(body)]], axis=axis))
    stacked = np.sort(np.stack(layers).reshape(len(layers), -1), axis=0)  # NaN sorts last
    present = np.sum(~np.isnan(stacked), axis=0)
    return stacked[(present - 1) // 4, np.arange(stacked.shape[1])]


def nearest_scores(scores: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Lower quartile of each config's score among itself and those nearest to it; as ``neighbour_scores`` off a grid.

    Parameters
    ----------
    scores : float64, shape (n_configs,). NaN counts as worst.
    nearest : numbers of each config and its nearest, shape (n_configs, n_near); see ``search.nearest``.
    """
    ordered = np.sort(np.where(np.isnan(scores), -np.inf, scores)[nearest], axis=1)
    return ordered[:, (nearest.shape[1] - 1) // 4]


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Where a grid of scores is high and stays high next door.

    Attributes
    ----------
    lower_quartile : float64, shape (n_rows, n_columns). Lower quartile of the score over a cell and its neighbours;
        NaN where the cell itself has no score.
    members : bool, same shape. Cells of the plateau; all False when the best lower quartile is not above zero.
    chosen : (row, column) of the best lower quartile, a tie goes to the higher score; None without any score.
    lone_best : (row, column) of the best single score when it lies off the plateau, else None; where no score is above
        zero there is no winner that could stand alone.
    """

    lower_quartile: np.ndarray
    members: np.ndarray
    chosen: tuple[int, int] | None
    lone_best: tuple[int, int] | None


def plateau(grid: np.ndarray) -> Plateau:
    """Cells whose neighbourhood scores at least half the best neighbourhood, connected to that best one.

    A neighbourhood is the 3×3 block around a cell. Neighbours beyond the edge or without a score count as the worst
    score of the grid: what was not tried is not evidence. An axis of length 1 is no parameter and adds no neighbours.

    Parameters
    ----------
    grid : float64, shape (n_rows, n_columns). Scores of which more is better; NaN where there are too few trades.

    Raises
    ------
    ValueError
        If the grid does not have two axes.
    """
    if grid.ndim != 2:
        raise ValueError(f"a plateau needs a grid of two parameters, got {grid.ndim} axes; fix the others first")
    scored = ~np.isnan(grid)
    if not scored.any():
        nothing = np.zeros(grid.shape, dtype=bool)
        return Plateau(lower_quartile=np.full(grid.shape, np.nan), members=nothing, chosen=None, lone_best=None)
    worst = float(grid[scored].min())
    reach = [1 if length > 1 else 0 for length in grid.shape]
    padded = np.pad(np.where(scored, grid, worst), [(n, n) for n in reach], constant_values=worst)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, [2 * n + 1 for n in reach])
    lower_quartile = np.where(scored, np.quantile(blocks, 0.25, axis=(2, 3)), np.nan)

    ranked = np.lexsort((np.where(scored, grid, -np.inf).ravel(), np.where(scored, lower_quartile, -np.inf).ravel()))
    chosen = _cell(int(ranked[-1]), grid.shape)
    members = np.zeros(grid.shape, dtype=bool)
    if lower_quartile[chosen] > 0.0:
        members = _connected(scored & (np.nan_to_num(lower_quartile) >= lower_quartile[chosen] / 2.0), chosen)
    best = _cell(int(np.nanargmax(grid)), grid.shape)
    is_alone = not members[best] and grid[best] > 0.0
    return Plateau(lower_quartile=lower_quartile, members=members, chosen=chosen, lone_best=best if is_alone else None)


def outline(members: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """Closed lines around the True cells of a grid, cell centres at whole numbers; None parts the lines.

    Returns
    -------
    (x, y), ready for one line trace.
    """
    # Each side between inside and outside, walked with the inside on the left.
    onwards: dict[tuple[float, float], list[tuple[float, float]]] = {}
    for row, column in np.argwhere(members).tolist():
        left, right, low, high = column - 0.5, column + 0.5, row - 0.5, row + 0.5
        for start, end, beside in (
            ((left, low), (right, low), (row - 1, column)),
            ((right, low), (right, high), (row, column + 1)),
            ((right, high), (left, high), (row + 1, column)),
            ((left, high), (left, low), (row, column - 1)),
        ):
            inside = 0 <= beside[0] < members.shape[0] and 0 <= beside[1] < members.shape[1]
            if not (inside and members[beside]):
                onwards.setdefault(start, []).append(end)
    xs: list[float | None] = []
    ys: list[float | None] = []
    while onwards:
        point = first = next(iter(onwards))
        while True:
            xs.append(point[0])
            ys.append(point[1])
            following = onwards[point].pop()
            if not onwards[point]:
                del onwards[point]
            point = following
            if point == first:
                break
        xs += [first[0], None]
        ys += [first[1], None]
    return xs[:-1], ys[:-1]


def _cell(flat: int, shape: tuple[int, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(flat, shape)
    return int(row), int(column)


def _connected(allowed: np.ndarray, start: tuple[int, int]) -> np.ndarray:
    """Allowed cells that can be reached from ``start`` over shared sides."""
    reached = np.zeros(allowed.shape, dtype=bool)
    reached[start] = True
    waiting = deque([start])
    while waiting:
        row, column = waiting.popleft()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < allowed.shape[0] and 0 <= cell[1] < allowed.shape[1]
            if inside and allowed[cell] and not reached[cell]:
                reached[cell] = True
                waiting.append(cell)
    return reached
