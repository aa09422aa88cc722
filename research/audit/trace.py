"""What a user's code held in its variables, line by line, while it made its columns of some bars."""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import polars as pl

MODULE = 0  # the one call that all cells of a notebook are
RETURN = "return"
MAX_EVENTS = 150_000  # loops over rows make many; what is asked about lies early

_SIMPLE = (bool, int, float, str, np.generic)
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Event:
    """A variable got a value.

    Attributes
    ----------
    call : number of the function call it happened in; ``MODULE`` for the cells of a notebook.
    line : of ``file``, the one that had just run.
    name : of the variable; ``RETURN`` for what a call returned.
    value : as it was then; of an array that changed in place only the watched row (``is_cell``).
    is_given : it came as an argument, or from the function around.
    """

    call: int
    file: str
    line: int
    name: str
    value: Any
    is_cell: bool = False
    is_given: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """Where a call came from: the call and line that made it (None: not the user's code), and how many events ago."""

    parent: int | None
    file: str
    line: int
    first_event: int


@dataclass
class Trace:
    """Everything that happened, in order."""

    events: list[Event] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)


def follow(run: Callable[[], Any], files: Collection[str], row: int) -> Trace:
    """Run a function and write down what the code of these files assigned.

    Parameters
    ----------
    row : watched: arrays and lists that are filled in place are looked at here alone.
    """
    recorder = _Recorder(files, row)
    before = sys.gettrace()
    sys.settrace(recorder.on_call)
    try:
        run()
    finally:
        sys.settrace(before)
    return recorder.trace


class _Recorder:
    """The functions that Python calls at every line."""

    def __init__(self, files: Collection[str], row: int) -> None:
        self.trace = Trace()
        self._files = files
        self._row = row
        self._active: list[tuple[int, FrameType]] = []
        self._held: dict[int, dict[str, tuple[Any, Any]]] = {}  # per call: object and mark by name
        self._line: dict[int, int] = {}

    def on_call(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        file = frame.f_code.co_filename
        if file not in self._files or len(self.trace.events) > MAX_EVENTS:
            return None
        number = MODULE if frame.f_code.co_name == "<module>" else len(self.trace.calls) + 1
        parent = self._active[-1] if self._active else None
        self.trace.calls[number] = Call(
            parent=parent[0] if parent else None,
            file=parent[1].f_code.co_filename if parent else file,
            line=parent[1].f_lineno if parent else frame.f_lineno,
            first_event=len(self.trace.events),
        )
        self._active.append((number, frame))
        self._held.setdefault(number, {})
        self._line[number] = frame.f_lineno
        self._look(number, frame, is_given=number != MODULE)

        def on_line(frame: FrameType, event: str, argument: Any) -> Callable | None:
            if event in ("line", "return"):
                self._look(number, frame)
                self._line[number] = frame.f_lineno
            if event == "return":
                self._active.pop()
                self._write(number, file, RETURN, argument)
            return on_line if len(self.trace.events) <= MAX_EVENTS else None

        return on_line

    def _look(self, number: int, frame: FrameType, *, is_given: bool = False) -> None:
        """Write down the variables that are not what they were a line ago."""
        held = self._held[number]
        for name, value in frame.f_locals.items():
            mark = self._mark(value)
            before = held.get(name)
            if before is not None and before[0] is value and before[1] == mark:
                continue
            held[name] = (value, mark)  # the object is kept: another one cannot take its identity
            if before is not None and before[0] is value and isinstance(value, np.ndarray | list):
                self._write(number, frame.f_code.co_filename, name, value[self._row], is_cell=True)
            else:
                self._write(number, frame.f_code.co_filename, name, value, is_given=is_given)

    def _write(self, number: int, file: str, name: str, value: Any, *, is_cell=False, is_given=False) -> None:
        if (kept := _as_it_is(value)) is not _NOTHING:
            self.trace.events.append(Event(number, file, self._line[number], name, kept, is_cell, is_given))

    def _mark(self, value: Any) -> Any:
        """Changes when an object that can change in place did, as far as the watched row shows it."""
        if isinstance(value, np.ndarray) and value.ndim and len(value) > self._row and value.dtype != object:
            return value[self._row].tobytes()
        if isinstance(value, list):
            return id(value[self._row]) if len(value) > self._row else None
        if isinstance(value, dict):
            return len(value)
        return None


def _as_it_is(value: Any) -> Any:
    """A copy of what can change; ``_NOTHING`` where the value is no data."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    is_data = isinstance(value, (*_SIMPLE, tuple, pl.Series, pl.DataFrame, pl.LazyFrame, pl.Expr))
    return value if is_data or (hasattr(value, "to_numpy") and not isinstance(value, type)) else _NOTHING
