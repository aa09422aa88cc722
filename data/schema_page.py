"""``data/docs/lake.md``, made of the schema and its comments: ``python -m data.schema_page`` writes it again."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from data import schema, schema_clusters, schema_ledgers
from data.table import Table

PAGE = Path(__file__).parent / "docs" / "lake.md"
_MODULES = (schema, schema_ledgers, schema_clusters)
_LEVEL = re.compile(r"(bid|ask)_(price|quantity)_\d+")
_PLAIN = {
    pl.String: "text",
    pl.Float64: "number",
    pl.Int64: "whole number",
    pl.Int16: "whole number",
    pl.Float32: "number",
    pl.Boolean: "true or false",
    pl.Binary: "bytes",
    pl.Date: "date",
}


@dataclass
class _Comments:
    """What the source says of a table, and of its columns."""

    of_table: str = ""
    of_columns: dict[str, str] = field(default_factory=dict)


def page() -> str:
    """The whole page: what the schema's modules say first, then a section per table."""
    lines = [
        "# The lake's tables",
        "",
        "Made of `data/schema.py` and the modules beside it by `python -m data.schema_page`; edit those, not this.",
        "Every table is a view of `aster sql`.",
        "",
    ]
    for module in _MODULES:
        lines += [module.__doc__.strip(), ""]
    told = {name: comments for module in _MODULES for name, comments in _comments(Path(module.__file__)).items()}
    for table in schema.TABLES.values():
        lines += _section(table, told.get(table.name) or told[""])
    return "\n".join(lines)


def _section(table: Table, comments: _Comments) -> list[str]:
    lines = [f"## {table.name}", ""]
    if comments.of_table:
        lines += [comments.of_table[0].upper() + comments.of_table[1:] + ".", ""]
    lines += [f"Dated by `{table.time}`; a row is known by {_listed(table.key)}."]
    if table.fallback_key:
        lines += [f"Rows without such a key are known by {_listed(table.fallback_key)}."]
    lines += ["", "| column | type | meaning |", "|---|---|---|"]
    for name, dtype in table.columns.items():
        if name == "ask_quantity_19":
            meaning = comments.of_columns.get("bid_price_0", "")
            lines.append(f"| `bid_price_0` … `ask_quantity_19` | {_words(dtype)} | {meaning} |")
        elif not _LEVEL.fullmatch(name):
            lines.append(f"| `{name}` | {_words(dtype)} | {comments.of_columns.get(name, '')} |")
    return [*lines, ""]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _words(dtype: pl.DataType) -> str:
    """A dtype in words."""
    if isinstance(dtype, pl.Enum):
        return ", ".join(dtype.categories)
    if isinstance(dtype, pl.Datetime):
        return f"UTC time, {dtype.time_unit}"
    if isinstance(dtype, pl.List):
        return f"list: {_words(dtype.inner)}"
    if isinstance(dtype, pl.Struct):
        return ", ".join(f"`{part.name}`" for part in dtype.fields)
    return _PLAIN[type(dtype) if isinstance(dtype, pl.DataType) else dtype]


def _comments(path: Path) -> dict[str, _Comments]:
    """By table; under "" those of the tables that one function makes."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [(token.start[0], token.string.lstrip("# ")) for token in tokens if token.type == tokenize.COMMENT]
    by_line = {line: comment.replace("|", "\\|") for line, comment in comments}
    tree = ast.parse(text)
    parts = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Table":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = given["name"].value if isinstance(given["name"], ast.Constant) else ""
            columns = dict(_of_columns(given["columns"].args[0], parts, by_line))
            found[name] = _Comments(by_line.get(given["name"].lineno, ""), columns)
    return found


def _of_columns(node: ast.expr, parts: dict[str, ast.expr], by_line: dict[int, str]) -> Iterator[tuple[str, str]]:
    """(column, comment) of a dictionary; a comment that stands behind several columns is the first one's."""
    if isinstance(node, ast.Name):
        node = parts[node.id]
    if isinstance(node, ast.DictComp):  # the levels of the book
        return
    last_line = 0
    for key, value in zip(node.keys, node.values, strict=True):
        comment = by_line.get(value.end_lineno, "") if value.end_lineno != last_line else ""
        last_line = value.end_lineno
        if key is not None:
            yield key.value, comment
            continue
        spread = dict(_of_columns(value, parts, by_line)) or {"bid_price_0": ""}
        first = next(iter(spread))
        yield from (spread | {first: "; ".join(filter(None, (spread[first], comment)))}).items()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
