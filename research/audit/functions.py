"""A user's functions of bars, asked with nothing but bars."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from research.audit.convention import ARGUMENT, FUTURE, LOOKBACK
from research.bars import BARS, Bars
from research.clusters.columns import CLUSTER_COLUMNS

_COLUMNS = {ARGUMENT, *BARS, *CLUSTER_COLUMNS}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def functions_of(module: ModuleType) -> dict[str, FunctionType]:
    """Public functions of the file that bars alone can answer; labels left out."""
    found = {}
    for name, function in vars(module).items():
        is_own = inspect.isfunction(function) and function.__module__ == module.__name__
        if is_own and not name.startswith(("_", FUTURE)):
            needed = _needed(function)
            if needed and _COLUMNS.issuperset(needed):
                found[name] = function
    return found


def asking(function: FunctionType) -> Callable[[Bars], Any]:
    """The function as one of bars alone, each argument given as it asks for it."""
    needed = _needed(function)
    is_whole = wants_bars(ast.parse(textwrap.dedent(inspect.getsource(function))))

    def ask(bars: Bars) -> Any:
        arrays = {name: bars.frame[name].to_numpy(writable=True) for name in needed if name != ARGUMENT}
        return function(**{name: arrays.get(name, bars if is_whole else bars.frame) for name in needed})

    return ask


def wants_bars(*trees: ast.AST) -> bool:
    """Whether code takes `bars` for a ``Bars`` and not for its frame: by annotation, or by what it asks of it."""
    return any(_is_of_bars(node) for tree in trees for node in ast.walk(tree))


def lookback_of(module: ModuleType, name: str) -> int | None:
    """Rows that the file declares to be enough for one of its functions."""
    declared = getattr(module, LOOKBACK, None)
    return declared.get(name) if isinstance(declared, Mapping) else declared


def _needed(function: FunctionType) -> list[str]:
    """Arguments that have no default."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in _NAMED and each.default is inspect.Parameter.empty]


def _is_of_bars(node: ast.AST) -> bool:
    if isinstance(node, ast.arg):
        return node.arg == ARGUMENT and node.annotation is not None and ast.unparse(node.annotation).endswith("Bars")
    is_asked = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == ARGUMENT
    return is_asked and node.attr in {Bars.market.__name__, *Bars.__dataclass_fields__}
