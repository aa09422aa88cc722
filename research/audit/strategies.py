"""A user's strategy and registered features: the rows it looks at, and what it decides on them."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np
import polars as pl
from numba.extending import is_jitted

from research.audit.functions import asking, functions_of, lookback_of
from research.audit.subjects import Subject
from research.bars import Bars
from research.features import FEATURES, Feature, feature_of
from research.fills import Decision

TAKER_FEE_BPS = 4.0
FEATURE_WINDOW_BARS = 20  # of a registered feature that wants one

_DECISION = dict.fromkeys(Decision._fields, pl.Float64)


def strategy_subjects(module: ModuleType, path: Path) -> Iterator[Subject]:
    """The rows a strategy looks at, with the first and with the last values of its grid; and what it decides on them.

    A decision knows its row and nothing else: where the rows are clean, it is enough that their order changes nothing.
    """
    decide, configs = plain(module.decide), _corners(module)
    own = {name: asking(function) for name, function in functions_of(module).items()}
    names = row_columns(module)
    registered = {name: _named(name, getattr(module, "FEATURES", {})) for name in names if name not in own}
    lookbacks = [lookback_of(module, name) for name in names if name in own]
    lookbacks += [_lookback(*feature) for feature in registered.values()]

    def values_of(name: str, bars: Bars) -> np.ndarray:
        return np.asarray(own[name](bars) if name in own else _computed(*registered[name], bars), float)

    def rows(bars: Bars) -> dict[str, pl.DataFrame]:
        values = {name: values_of(name, bars) for name in names}
        return {
            which: pl.DataFrame({field: values[name] for field, name in module.columns(params)._asdict().items()})
            for which, params in configs.items()
        }

    def decisions(bars: Bars, order: int = 1) -> dict[str, pl.DataFrame]:
        decided = {}
        for which, columns in rows(bars).items():
            asked = zip(*(values.to_numpy() for values in columns[::order]), strict=True)
            answers = [decide(module.Row(*row), 0, configs[which]) for row in asked]
            decided[which] = pl.DataFrame(answers[::order], schema=_DECISION, orient="row")
        return decided

    beginning = {"file": str(path), "line": module.decide.__code__.co_firstlineno}
    lookback = None if None in lookbacks else max(lookbacks, default=1)
    yield Subject(name=module.NAME, run=rows, lookback_bars=lookback, **beginning)
    yield Subject(
        name=f"{module.NAME}.decide",
        run=decisions,
        again=lambda bars: decisions(bars, order=-1),
        lookback_bars=1,
        **beginning,
    )


def feature_subjects(features: Mapping[str, Feature], path: Path) -> Iterator[Subject]:
    """Registered features, those with a window over ``FEATURE_WINDOW_BARS``."""
    lines = path.read_text().splitlines()
    for name, feature in features.items():
        window = FEATURE_WINDOW_BARS if feature.window else None
        mentions = (number for number, line in enumerate(lines, 1) if f'"{name}"' in line or f"'{name}'" in line)
        yield Subject(
            name=name,
            run=lambda bars, name=name, feature=feature, window=window: {name: _computed(feature, window, bars)},
            lookback_bars=_lookback(feature, window),
            file=str(path),
            line=next(mentions, 1),
        )


def row_columns(module: ModuleType) -> list[str]:
    """Names of the features that a strategy's rows hold, over the corners of its grid."""
    return list(dict.fromkeys(name for params in _corners(module).values() for name in module.columns(params)))


def plain(function: Callable, known: dict[int, FunctionType] | None = None) -> FunctionType:
    """A function that calls nothing compiled: every compiled function it reaches is its Python again."""
    known = {} if known is None else known
    function = function.py_func if is_jitted(function) else function
    if id(function) not in known:
        itself = function.__code__, dict(function.__globals__), function.__name__, function.__defaults__
        known[id(function)] = copy = FunctionType(*itself, function.__closure__)
        for name in _names_in(function.__code__):
            if is_jitted(found := function.__globals__.get(name)):
                copy.__globals__[name] = plain(found, known)
    return known[id(function)]


def _corners(module: ModuleType) -> dict[str, tuple]:
    """Two configs of its grid."""
    return {
        f"{which} of the grid": module.Params(*(np.float64(module.GRID[name][end]) for name in module.Params._fields))
        for which, end in (("first", 0), ("last", -1))
    }


def _named(name: str, declared: Mapping[str, Feature]) -> tuple[Feature, int | None]:
    """A feature of the file or of the project, with the window of its name."""
    stem, digits = re.fullmatch(r"(.+?)(?:_(\d+))?", name).groups()
    if stem in declared and stem not in FEATURES:
        return declared[stem], int(digits) if digits else 1 if declared[stem].window else None
    return feature_of(name)


def _lookback(feature: Feature, window: int | None) -> int:
    return feature.rows_before + feature.reach * (window or 1)


def _computed(feature: Feature, window: int | None, bars: Bars) -> np.ndarray:
    """A registered feature over all rows."""
    constants = {"tick_size": float(bars.instrument["tick_size"]), "taker_fee_bps": TAKER_FEE_BPS}
    inputs = [bars.frame[column].to_numpy(writable=True) for column in feature.inputs]
    inputs += [constants[key] for key in feature.constants]
    return feature.kernel(*inputs, *(() if window is None else (window,)))


def _names_in(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names_in(each) for each in code.co_consts if isinstance(each, CodeType)))
