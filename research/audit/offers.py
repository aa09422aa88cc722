"""What a file offers to an audit: its strategy, its registered features, its functions of bars, or its cells."""

import ast
import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from numba.extending import is_jitted

from research.audit.convention import ARGUMENT, FUTURE, LOOKBACK, STRATEGY
from research.audit.functions import asking, functions_of, lookback_of, wants_bars
from research.audit.strategies import feature_subjects, row_columns, strategy_subjects
from research.audit.subjects import NOTEBOOK, Run, Source, Subject
from research.bars import Bars

_INJECTED = "__audited_bars__"
_IMPORTS = itertools.count()  # a file may be open twice


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The subjects of a file; its module stays imported as long as this is open. Runs the file's code.

    Compiled functions of the file run as plain Python, so that their lines can be followed.

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
            raise ValueError(
                f"{path}: expected a strategy, FEATURES, or a public function of `{ARGUMENT}` or of columns such as "
                "`close`, found none; `aster audit --help` says what a file may offer"
            )
        yield Source(path=path, subjects=subjects, texts={str(whole_path): path.read_text()})


class _Uncached(SourceFileLoader):
    """Reads the file as it is now: Python's cache takes a change of the same length within a second for none."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


@contextmanager
def _imported(path: Path) -> Iterator[ModuleType]:
    """A fresh import of a file, its own compiled functions made Python again, its neighbours importable."""
    name = f"audited_{path.stem}_{next(_IMPORTS)}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
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
    is_strategy = all(hasattr(module, name) for name in STRATEGY)
    if is_strategy:
        yield from strategy_subjects(module, path)
    if isinstance(features := getattr(module, "FEATURES", None), Mapping):
        yield from feature_subjects(features, path)
    asked_already = row_columns(module) if is_strategy else ()
    for name, function in functions_of(module).items():
        if name not in asked_already:
            yield Subject(
                name=name,
                run=_under_its_name(name, asking(function)),
                lookback_bars=lookback_of(module, name),
                file=str(path),
                line=function.__code__.co_firstlineno,
            )


def _under_its_name(name: str, ask: Callable[[Bars], Any]) -> Run:
    return lambda bars: {name: ask(bars)}


def _of_notebook(path: Path) -> Source:
    """The cells as one program of the variable ``bars``; lines of magics and of the shell do nothing."""
    cells = {
        f"{path}, cell {number}": re.sub(r"^(\s*)[%!?].*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)
        for number, cell in enumerate(json.loads(path.read_text())["cells"], 1)
        if cell["cell_type"] == "code"
    }
    trees = {file: ast.parse(text, file) for file, text in cells.items()}
    taking = [(file, node) for file, tree in trees.items() for node in tree.body if _assigns(node, ARGUMENT)]
    if not taking:
        raise ValueError(
            f"{path}: expected a cell that assigns the variable `{ARGUMENT}`, found none; `aster audit --help` says "
            "what a notebook may offer"
        )
    file, first = taking[0]
    is_whole = wants_bars(*trees.values())
    lookbacks = [node.value for tree in trees.values() for node in tree.body if _assigns(node, LOOKBACK)]
    first.value = ast.copy_location(ast.Name(_INJECTED, ast.Load()), first.value)
    codes = [compile(ast.fix_missing_locations(tree), name, "exec") for name, tree in trees.items()]

    def run(bars: Bars) -> dict[str, Any]:
        shared = {"__name__": "__main__", "display": _show_nothing, _INJECTED: bars if is_whole else bars.frame}
        for code in codes:
            exec(code, shared)
        return {name: value for name, value in shared.items() if not name.startswith(("_", FUTURE))}

    subject = Subject(
        name=path.stem,
        run=run,
        lookback_bars=ast.literal_eval(lookbacks[0]) if lookbacks else None,
        file=file,
        line=first.lineno,
    )
    return Source(path=path, subjects=(subject,), texts=cells)


def _show_nothing(*shown: object) -> None:
    """Stands for the ``display`` of notebooks."""


def _assigns(node: ast.stmt, name: str) -> bool:
    """Whether a statement is ``name = ...``."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    is_assignment = isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
    return is_assignment and any(isinstance(target, ast.Name) and target.id == name for target in targets)
