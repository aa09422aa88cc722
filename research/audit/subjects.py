"""What a file offers to an audit: its strategy, its registered features, its functions of bars, or its cells.

A subject is anything that can be asked again with other bars. Compiled functions of the file run as plain Python, so
that their lines can be followed.
"""

import ast
import importlib.util
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import polars as pl
from numba.extending import is_jitted

from research.bars import BARS, Bars
from research.clusters.columns import CLUSTER_COLUMNS
from research.features import FEATURES, Feature, arrays_of, feature_of, lookback_bars
from research.fills import Decision

ARGUMENT = "bars"  # the name under which a function or a notebook takes the bars
NOTEBOOK = ".ipynb"
FUTURE = "future_"  # what looks ahead on purpose is called so: labels
LOOKBACK = "LOOKBACK_BARS"
INJECTED = "__audited_bars__"
TAKER_FEE_BPS = 4.0
FEATURE_WINDOW_BARS = 20  # of a registered feature that wants one

WHAT_IS_AUDITED = f"""\
A .py file offers, in this order:
  - a strategy: NAME, Params, Row, GRID, columns and decide, as in research/strategies;
  - registered features: FEATURES, a mapping of names to research.features.Feature;
  - functions of bars: every public function whose arguments without a default are `{ARGUMENT}` (the polars frame of
    research.bars; a research.bars.Bars where the code asks for `{ARGUMENT}.frame` and the like) or named like its columns
    (`close`, `volume`: numpy arrays). It returns a column or a frame with a row per bar, or, as a backtest, a frame of
    trades: side, entry_time, entry_price and, where they are known, entry_row_time, exit_time, exit_price.
A notebook offers every column with a row per bar that its cells leave behind, made from the variable `{ARGUMENT}`, which
the audit sets where the notebook first assigns it.
Functions and columns called {FUTURE}... look ahead on purpose and are left alone. {LOOKBACK} (a number, or one per
function) says how many rows of history are enough; live keeps no more, so with it the short buffer is tried too."""

_IMPORTS = itertools.count()  # a file may be open twice
_DECISION = dict.fromkeys(Decision._fields, pl.Float64)
_STRATEGY = ("NAME", "Params", "Row", "GRID", "columns", "decide")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One thing that is asked again and again with other bars.

    Attributes
    ----------
    run : bars in; what it made of them by name out.
    again : the same in another way, for what knows no order of rows: it is not asked without the future then.
    lookback_bars : rows of history, the newest included, that it says are enough; None when it does not say.
    file, line : where it begins, ``file`` being a key of ``Source.texts``.
    """

    name: str
    run: Callable[[Bars], Mapping[str, Any]]
    lookback_bars: int | None
    file: str
    line: int
    again: Callable[[Bars], Mapping[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file and what it offers.

    Attributes
    ----------
    texts : source by the name its code objects carry: the whole path, or path and cell of a notebook.
    """

    path: Path
    subjects: tuple[Subject, ...]
    texts: dict[str, str]

    @property
    def is_notebook(self) -> bool:
        """Whether its outputs are variables and not what functions return."""
        return self.path.suffix == NOTEBOOK


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The subjects of a file; its module stays imported as long as this is open. Runs the file's code.

    Raises
    ------
    ValueError
        When the file offers nothing that can be audited.
    """
    if path.suffix == NOTEBOOK:
        yield _of_notebook(path)
        return
    if path.suffix != ".py":
        raise ValueError(f"{path}: expected a .py file or a notebook, got {path.suffix or 'no ending'}")
    whole_path = path.resolve()
    with _imported(whole_path) as module:
        subjects = tuple(_of_module(module, whole_path))
        if not subjects:
            raise ValueError(f"{path}: nothing to audit. {WHAT_IS_AUDITED}")
        yield Source(path=path, subjects=subjects, texts={str(whole_path): path.read_text()})


@contextmanager
def _imported(path: Path) -> Iterator[ModuleType]:
    """A fresh import of a file, its own compiled functions made Python again, its neighbours importable."""
    name = f"audited_{path.stem}_{next(_IMPORTS)}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
        for each, function in vars(module).items():
            if is_jitted(function) and function.py_func.__module__ == name:
                setattr(module, each, function.py_func)
        yield module
    finally:
        sys.path.remove(str(path.parent))
        del sys.modules[name]


def _of_module(module: ModuleType, path: Path) -> Iterator[Subject]:
    used = set()
    if all(hasattr(module, name) for name in _STRATEGY):
        yield from _strategy(module, path)
        used = {name for params in _configs(module).values() for name in module.columns(params)}
    if isinstance(declared := getattr(module, "FEATURES", None), Mapping):
        yield from (_feature(name, feature, path) for name, feature in declared.items())
    for name, function in _functions(module).items():
        if name in used:
            continue
        yield Subject(
            name=name,
            run=lambda bars, name=name, ask=asking(function): {name: ask(bars)},
            lookback_bars=_declared(getattr(module, LOOKBACK, None), name),
            file=str(path),
            line=function.__code__.co_firstlineno,
        )


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """Functions of the file that bars alone can answer."""
    columns = {ARGUMENT, *BARS, *CLUSTER_COLUMNS}
    found = {}
    for name, function in vars(module).items():
        is_own = inspect.isfunction(function) and function.__module__ == module.__name__
        if is_own and not name.startswith(("_", FUTURE)):
            needed = _needed(function)
            if needed and columns.issuperset(needed):
                found[name] = function
    return found


def _needed(function: FunctionType) -> list[str]:
    """Arguments that have no default."""
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [each.name for each in parameters if each.kind in named and each.default is inspect.Parameter.empty]


def asking(function: FunctionType) -> Callable[[Bars], Any]:
    """The function as one of bars alone, each argument given as it asks for it."""
    needed = _needed(function)
    is_whole = wants_bars(ast.parse(textwrap.dedent(inspect.getsource(function))))

    def ask(bars: Bars) -> Any:
        arrays = {name: bars.frame[name].to_numpy(writable=True) for name in needed if name != ARGUMENT}
        return function(**{name: arrays.get(name, bars if is_whole else bars.frame) for name in needed})

    return ask


def wants_bars(*trees: ast.AST) -> bool:
    """Whether code takes `bars` for a ``Bars`` and not for its frame."""
    own = {"market", *Bars.__dataclass_fields__}
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == ARGUMENT and node.attr in own
        for tree in trees
        for node in ast.walk(tree)
    ) or any(isinstance(node, ast.arg) and node.arg == ARGUMENT and node.annotation is not None
             and ast.unparse(node.annotation).endswith("Bars") for tree in trees for node in ast.walk(tree))  # fmt: skip


def _declared(lookback: int | Mapping[str, int] | None, name: str) -> int | None:
    return lookback.get(name) if isinstance(lookback, Mapping) else lookback


def _feature(name: str, feature: Feature, path: Path) -> Subject:
    window = FEATURE_WINDOW_BARS if feature.window else None
    return Subject(
        name=name,
        run=lambda bars: {name: _computed(feature, window, bars)},
        lookback_bars=feature.rows_before + feature.reach * (window or 1),
        file=str(path),
        line=_line_of(path, name),
    )


def _computed(feature: Feature, window: int | None, bars: Bars) -> np.ndarray:
    """A registered feature over all rows."""
    arrays = arrays_of(bars)
    constants = {"tick_size": float(bars.instrument["tick_size"]), "taker_fee_bps": TAKER_FEE_BPS}
    inputs = [arrays[column] for column in feature.inputs] + [constants[key] for key in feature.constants]
    return feature.kernel(*inputs, *(() if window is None else (window,)))


def _strategy(module: ModuleType, path: Path) -> Iterator[Subject]:
    """The rows a strategy looks at, with the first and with the last values of its grid; and what it decides on them.

    A decision knows its row and nothing else: where the rows are clean, it is enough that their order changes nothing.
    """
    decide = plain(module.decide)
    functions = {name: asking(function) for name, function in _functions(module).items()}
    features = dict(FEATURES) | dict(getattr(module, "FEATURES", {}))
    configs = _configs(module)
    registered, lookback = [], 1
    for params in configs.values():
        registered += [name for name in module.columns(params) if name not in functions]
        own = [_declared(getattr(module, LOOKBACK, None), name) for name in module.columns(params) if name in functions]
        lookback = None if lookback is None or None in own else max(lookback, *own, 1)
    if lookback is not None:
        lookback = max(lookback, lookback_bars(registered))

    def values_of(name: str, bars: Bars) -> np.ndarray:
        if name in functions:
            return np.asarray(functions[name](bars), float)
        _, window = feature_of(name)
        return _computed(features[re.sub(r"_\d+$", "", name) if window and name not in features else name], window, bars)

    def rows(bars: Bars) -> dict[str, pl.DataFrame]:
        return {
            which: pl.DataFrame({field: values_of(name, bars) for field, name in module.columns(params)._asdict().items()})
            for which, params in configs.items()
        }

    def decisions(bars: Bars, order: int = 1) -> dict[str, pl.DataFrame]:
        decided = {}
        for which, columns in rows(bars).items():
            asked = zip(*(values.to_numpy() for values in columns[::order]), strict=True)
            answers = [decide(module.Row(*row), 0, configs[which]) for row in asked]
            decided[which] = pl.DataFrame(answers[::order], schema=_DECISION, orient="row")
        return decided

    file, line = str(path), module.decide.__code__.co_firstlineno
    yield Subject(name=module.NAME, run=rows, lookback_bars=lookback, file=file, line=line)
    yield Subject(
        name=f"{module.NAME}.decide",
        run=decisions,
        again=lambda bars: decisions(bars, order=-1),
        lookback_bars=1,
        file=file,
        line=line,
    )


def _configs(module: ModuleType) -> dict[str, tuple]:
    """Two corners of its grid."""
    return {
        f"{which} of the grid": module.Params(*(np.float64(module.GRID[name][end]) for name in module.Params._fields))
        for which, end in (("first", 0), ("last", -1))
    }


def plain(function: Callable, known: dict[int, FunctionType] | None = None) -> FunctionType:
    """A function that calls nothing compiled: every compiled function it reaches is its Python again."""
    known = {} if known is None else known
    function = function.py_func if is_jitted(function) else function
    if id(function) not in known:
        copy = FunctionType(
            function.__code__, dict(function.__globals__), function.__name__, function.__defaults__, function.__closure__
        )
        known[id(function)] = copy
        for name in _names_in(function.__code__):
            if is_jitted(found := function.__globals__.get(name)):
                copy.__globals__[name] = plain(found, known)
    return known[id(function)]


def _names_in(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names_in(each) for each in code.co_consts if isinstance(each, CodeType)))


def _line_of(path: Path, name: str) -> int:
    """Line of the first mention of a name in quotes, where a mapping declares it; else the first line."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if f'"{name}"' in line or f"'{name}'" in line:
            return number
    return 1


def cell_name(path: Path, number: int) -> str:
    """The file name that code of a notebook's cell carries; cells count from 1, text cells included."""
    return f"{path}, cell {number}"


def _of_notebook(path: Path) -> Source:
    cells = {
        cell_name(path, number): re.sub(r"^(\s*)[%!?].*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)
        for number, cell in enumerate(json.loads(path.read_text())["cells"], 1)
        if cell["cell_type"] == "code"
    }
    trees = {file: ast.parse(text, file) for file, text in cells.items()}
    nodes = [node for tree in trees.values() for node in tree.body]
    taking = next((node for node in nodes if _assigns(node, ARGUMENT)), None)
    if taking is None:
        raise ValueError(f"{path}: nothing to audit: no cell assigns the variable `{ARGUMENT}`. {WHAT_IS_AUDITED}")
    is_whole = wants_bars(*trees.values())
    file = next(name for name, tree in trees.items() if taking in tree.body)
    taking.value = ast.copy_location(ast.Name(INJECTED, ast.Load()), taking.value)
    codes = [compile(ast.fix_missing_locations(tree), name, "exec") for name, tree in trees.items()]

    def run(bars: Bars) -> dict[str, Any]:
        namespace = {"__name__": "__main__", "display": lambda *shown: None, INJECTED: bars if is_whole else bars.frame}
        for code in codes:
            exec(code, namespace)
        return {name: value for name, value in namespace.items() if not name.startswith(("_", FUTURE, "display"))}

    lookback = next((node.value.value for node in nodes if _assigns(node, LOOKBACK)), None)
    subject = Subject(name=path.stem, run=run, lookback_bars=lookback, file=file, line=taking.lineno)
    return Source(path=path, subjects=(subject,), texts=cells)


def _assigns(node: ast.stmt, name: str) -> bool:
    """Whether a statement is ``name = ...``."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    is_assignment = isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
    return is_assignment and any(isinstance(target, ast.Name) and target.id == name for target in targets)
