"""Where the future came in: from an output that differs back through what it was made of, to the first that does.

Two runs of the same code are compared, one that had a future and one that had another. At every step the variables of a
statement are asked what they held then; the walk goes on to the assignment of the first one that differs, and ends at
the statement all of whose variables were alike. A table of rows may differ where its rows are of the future; a number
may not differ at all.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from research.audit.trace import MODULE, RETURN, Event, Trace
from research.audit.values import first_difference, own_columns

LEAST_ROWS = 10  # fewer numbers than this are a statistic, not rows


class Line(NamedTuple):
    """A statement of the user's: file (or cell) and the line it begins in."""

    file: str
    line: int


class Both(NamedTuple):
    """The same moment in both runs: numbers of events."""

    one: int
    other: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The same code on two sets of bars.

    Attributes
    ----------
    one, other : what happened.
    frames : the bars of each.
    differs : whether two columns with a row per bar differ where they should not.
    n_future : rows of ``one`` that the other run knew otherwise or not at all.
    is_short : the other run had fewer rows: counts and row numbers differ anyway.
    """

    one: Trace
    other: Trace
    frames: tuple[pl.DataFrame, pl.DataFrame]
    differs: Callable[[pl.Series, pl.Series], bool]
    n_future: int
    is_short: bool = False

    def events(self, at: Both) -> tuple[Event, Event]:
        """What happened at that moment."""
        return self.one.events[at.one], self.other.events[at.other]

    def is_unlike(self, at: Both) -> bool:
        """Whether the two runs had different values that they should have had alike."""
        one, other = self.events(at)
        if one.is_cell and other.is_cell:
            return not same(one.value, other.value)
        columns = [own_columns(event.value, frame) for event, frame in zip((one, other), self.frames, strict=True)]
        if None in columns:
            return self._is_unlike_statistic(one.value, other.value)
        told, now = columns
        return any(name not in now or self.differs(column, now[name]) for name, column in told.items())

    def _is_unlike_statistic(self, one: Any, other: Any) -> bool:
        if isinstance(one, pl.DataFrame) and isinstance(other, pl.DataFrame):
            # Rows that carry their time are data of their time.
            return not any(dtype.is_temporal() for dtype in one.dtypes) and not one.equals(other)
        if isinstance(one, dict) and isinstance(other, dict):
            return any(self._is_unlike_statistic(value, other.get(key)) for key, value in one.items())
        if isinstance(one, tuple | list) and isinstance(other, tuple | list):
            return any(self._is_unlike_statistic(*both) for both in zip(one, other, strict=False))
        if isinstance(one, np.ndarray | pl.Series) and isinstance(other, np.ndarray | pl.Series):
            return self._is_unlike_array(np.asarray(one), np.asarray(other))
        if self.is_short and isinstance(one, int):
            return False
        return isinstance(one, bool | int | float | str | np.generic) and not same(one, other)

    def _is_unlike_array(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Arrays nearly as long as the bars end where the bars end: what lies in their future may differ."""
        if not one.ndim or 2 * len(one) < self.frames[0].height:
            return not same(one, other) and not (one.ndim == 1 and self._is_in_time(one, other))
        known = min(len(one) - self.n_future, len(other))
        return not same(one[:known], other[:known])

    def _is_in_time(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Whether a shorter array runs through time as the bars do: what differs lies behind what both know."""
        n_rows = self.frames[0].height
        known = len(one) * (n_rows - self.n_future) // n_rows
        return len(one) >= LEAST_ROWS and same(one[:known], other[:known])


def origin(pair: Pair, texts: dict[str, str], column: str, variable: str | None) -> list[Line]:
    """Statements from the one where the future came in to the one that shows it; empty when the traces do not tell.

    Parameters
    ----------
    texts : source by file.
    column : of the output that differs: among several in one statement its own line is named.
    variable : of a notebook, whose output is a variable; None for what a call returns.
    """
    search = _Search(pair, {file: _Code(text) for file, text in texts.items()}, column)
    start = search.start(variable)
    if start is None:
        return []
    path = search.back_from(start, frozenset())
    return path if len(path) > 1 or pair.is_unlike(start) else []


class _Code:
    """Statements of a file by line."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _statements(self) -> list[ast.stmt]:
        return [node for node in ast.walk(ast.parse(self._text)) if isinstance(node, ast.stmt)]

    def statement(self, line: int) -> ast.stmt | None:
        """The innermost statement over a line."""
        over = [node for node in self._statements if node.lineno <= line <= node.end_lineno]
        return max(over, key=lambda node: (node.lineno, -node.end_lineno), default=None)

    def branch(self, line: int, other: int) -> int | None:
        """Where it is decided whether one of these lines runs or the other."""
        deciding = (node for node in self._statements if isinstance(node, ast.If | ast.While))
        between = (
            node.lineno
            for node in deciding
            if (node.lineno < line <= node.end_lineno) != (node.lineno < other <= node.end_lineno)
        )
        return max(between, default=None)


class _Search:
    """Walks back from an output, in both runs at once."""

    def __init__(self, pair: Pair, codes: dict[str, _Code], column: str) -> None:
        self._pair, self._codes, self._column = pair, codes, column
        self._by_name = [_by_name(trace) for trace in (pair.one, pair.other)]

    def start(self, variable: str | None) -> Both | None:
        """The output: what a notebook's variable held last, or the first returned value that differs."""
        if variable is not None:
            return self._held(MODULE, variable, Both(len(self._pair.one.events), len(self._pair.other.events)))
        outer = [
            [index for index, event in enumerate(trace.events)
             if event.name == RETURN and trace.calls[event.call].parent is None]
            for trace in (self._pair.one, self._pair.other)
        ]  # fmt: skip
        returned = [Both(*both) for both in zip(*outer, strict=False)]
        return next((at for at in returned if self._pair.is_unlike(at)), returned[0] if returned else None)

    def back_from(self, at: Both, passed: frozenset[Line]) -> list[Line]:
        """The statements that led to an event; those already passed are not gone through again."""
        one, other = self._pair.events(at)
        if one.is_given and other.is_given:
            calls = self._pair.one.calls[one.call], self._pair.other.calls[other.call]
            if calls[0].parent is None:
                return [self._line(one.file, one.line)]
            call, file, line = calls[0].parent, calls[0].file, calls[0].line
            at = Both(calls[0].first_event, calls[1].first_event)
        else:
            call, file, line = one.call, one.file, one.line
            if line != other.line:  # of two ways the one that only the future opened, and what chose between them
                line = self._codes[file].branch(line, other.line) or max(line, other.line)
        here = self._line(file, line)
        if here in passed or one.file != other.file:
            return [here]
        cause = self._cause(call, file, line, at, passed | {here})
        if cause is None:
            return [here]
        path = self.back_from(cause, passed | {here})
        return path if path[-1] == here else [*path, here]

    def _cause(self, call: int, file: str, line: int, at: Both, passed: frozenset[Line]) -> Both | None:
        """What the statement used that already differed, the earliest; else what a call inside it returned."""
        unlike = []
        for name in self._names(file, line):
            held = self._held(call, name, at) or self._held(MODULE, name, at)
            if held is not None and self._pair.is_unlike(held):
                event = self._pair.one.events[held.one]
                if event.is_given or self._line(event.file, event.line) not in passed:
                    unlike.append(held)
        return min(unlike) if unlike else self._returned_inside(call, line, at)

    def _held(self, call: int, name: str, before: Both) -> Both | None:
        """What the variable held at a moment: its last event before, in each run."""
        found = []
        for by_name, index in zip(self._by_name, before, strict=True):
            found.append(next((each for each in reversed(by_name.get((call, name), ())) if each < index), None))
        return None if None in found else Both(*found)

    def _returned_inside(self, call: int, line: int, at: Both) -> Both | None:
        """What a call made by the statement returned, if it differs."""
        returned = []
        for trace, index in zip((self._pair.one, self._pair.other), at, strict=True):
            inside = []
            for each in reversed(range(index)):
                event = trace.events[each]
                if event.call == call and event.line != line:
                    break
                if event.name == RETURN and trace.calls[event.call].parent == call:
                    inside.append(each)
            returned.append(inside[::-1])
        both = (Both(*each) for each in zip(*returned, strict=False))
        return next((each for each in both if self._pair.is_unlike(each)), None)

    def _line(self, file: str, line: int) -> Line:
        statement = self._codes[file].statement(line)
        if statement is None:
            return Line(file, line)
        maker, _ = next(_makers(statement, self._column), (_head(statement), ()))
        return Line(file, maker.lineno)

    def _names(self, file: str, line: int) -> list[str]:
        """Variables of the statement, less those of the columns beside the one in question."""
        statement = self._codes[file].statement(line)
        if statement is None:
            return []
        head = _head(statement)
        _, beside = next(_makers(statement, self._column), (head, ()))
        others = {id(node) for each in beside for node in ast.walk(each)}
        found = (node for node in ast.walk(head) if isinstance(node, ast.Name) and id(node) not in others)
        return list(dict.fromkeys(node.id for node in found))


def same(one: Any, other: Any) -> bool:
    """Whether two numbers, texts or arrays are alike but for rounding."""
    if type(one) is not type(other):
        return False
    if not isinstance(one, np.ndarray):
        return bool(one == other or (one != one and other != other))
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = (np.ascontiguousarray(array).ravel() for array in (one, other))
    if np.iscomplexobj(one):
        one, other = one.view(float), other.view(float)
    return one.dtype == object or first_difference(pl.Series(one), pl.Series(other), len(one)) is None


def _by_name(trace: Trace) -> dict[tuple[int, str], list[int]]:
    """Numbers of a trace's events by call and name, ascending."""
    found: dict[tuple[int, str], list[int]] = {}
    for index, event in enumerate(trace.events):
        found.setdefault((event.call, event.name), []).append(index)
    return found


def _head(statement: ast.stmt) -> ast.AST:
    """What a statement evaluates itself: of a loop or branch its first line, not its body."""
    for part in ("test", "iter"):
        if hasattr(statement, part) and hasattr(statement, "body"):
            return getattr(statement, part)
    return statement


def _makers(statement: ast.stmt, column: str) -> Iterator[tuple[ast.AST, list[ast.AST]]]:
    """Parts of a statement that make a column of this name, each with the parts beside it.

    ``column=...``, ``{"column": ...}`` or ``....alias("column")``.
    """
    for node in ast.walk(_head(statement)):
        if isinstance(node, ast.Call):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            made = [each.value for each in node.keywords if each.arg == column]
            made += [each for each in node.args if _is_alias(each, column)]
        elif isinstance(node, ast.Dict):
            parts = node.values
            made = [value for key, value in zip(node.keys, node.values, strict=True) if _is_text(key, column)]
        elif isinstance(node, ast.List | ast.Tuple):
            parts, made = node.elts, [each for each in node.elts if _is_alias(each, column)]
        else:
            continue
        yield from ((maker, [part for part in parts if part is not maker]) for maker in made)


def _is_alias(node: ast.AST, column: str) -> bool:
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "alias"
    return is_call and any(_is_text(argument, column) for argument in node.args)


def _is_text(node: ast.AST | None, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text
