"""How compiled code calls a strategy that it knows only by the type of its ``Params``."""

import numpy as np

from research.jit import overload
from research.strategies.registry import STRATEGIES

# One compiled loop serves every strategy: these three stand-ins are resolved by the type of ``params``.
_MODULE_OF = {module.Params: module for module in STRATEGIES.values()}


def decide(row, position, params):
    return _MODULE_OF[type(params)].decide(row, position, params)


def row_at(params, features, columns, i):
    return _MODULE_OF[type(params)].Row(*features[columns, i])


def params_at(template, table, config):
    return type(template)(*table[config])


@overload(decide)
def _decide_compiled(row, position, params):
    decide = _MODULE_OF[params.instance_class].decide

    def call(row, position, params):
        return decide(row, position, params)

    return call


def _read_fields(cls: type, source: str, arguments: str):
    """A function that fills ``cls`` field by field; Numba cannot build a named tuple from a loop."""
    fields = ", ".join(source.format(k=k) for k in range(len(cls._fields)))
    namespace = {"cls": cls, "np": np}
    exec(f"def read({arguments}):\n    return cls({fields})", namespace)
    return namespace["read"]


@overload(row_at)
def _row_at_compiled(params, features, columns, i):
    row = _MODULE_OF[params.instance_class].Row
    return _read_fields(row, "features[columns[{k}], np.uint64(i)]", "params, features, columns, i")


@overload(params_at)
def _params_at_compiled(template, table, config):
    return _read_fields(template.instance_class, "table[config, {k}]", "template, table, config")
