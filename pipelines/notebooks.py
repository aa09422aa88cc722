"""Notebooks as jobs: papermill with the checks it lacks, and an offline HTML of the result.

Papermill only logs a misspelt parameter and runs with the default; here it is an error. A notebook's first code cell,
tagged ``parameters``, is its signature: plain literals, typed, with a comment that carries the unit.
"""

import ast
import difflib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from pipelines.identity import CHECKOUT
from research.plots import figure_html, plotly_script

NOTEBOOKS = CHECKOUT / "notebooks"
PLOTLY_MIME = "application/vnd.plotly.v1+json"
_TYPES = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "tuple": (list, tuple),
    "dict": dict,
}


def signature(notebook: str) -> dict[str, tuple[str, Any, str]]:
    """Parameters of a notebook: type name, default and help text (the comment, with its unit) per name."""
    cells = [cell for cell in _read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"notebook {notebook}: expected one cell tagged 'parameters', found {len(cells)}")
    comments = dict(re.findall(r"^(\w+)[^#\n]*#\s*(.+)$", cells[0].source, flags=re.MULTILINE))
    found = {}
    for node in ast.parse(cells[0].source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ValueError(f"notebook {notebook}: the parameters cell holds only `name: type = literal` lines")
        name = node.target.id
        found[name] = (ast.unparse(node.annotation), ast.literal_eval(node.value), comments.get(name, ""))
    return found


def execute(notebook: str, output: Path, parameters: dict[str, Any]) -> Path:
    """Run a notebook with parameters, save it executed beside an offline HTML.

    Parameters
    ----------
    notebook : name of a file in ``notebooks`` without its ending.
    output : where the executed ``.ipynb`` goes; the HTML lands beside it.

    Returns
    -------
    Path of the HTML.

    Raises
    ------
    ValueError
        On a parameter the notebook does not declare, or one of another type.
    RuntimeError
        When a cell fails, with the cell's own error.
    """
    declared = signature(notebook)
    for name, value in parameters.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(declared)}"
            raise ValueError(f"notebook {notebook} has no parameter {name!r}; {hint}")
        kind = declared[name][0]
        if kind in _TYPES and not isinstance(value, _TYPES[kind]):
            raise ValueError(f"notebook {notebook}: parameter {name} is {kind}, got {type(value).__name__} {value!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part.ipynb")
    try:
        with warnings.catch_warnings():
            # The kernel client's own event-loop notices; nothing of ours.
            warnings.simplefilter("ignore", DeprecationWarning)
            papermill.execute_notebook(
                str(NOTEBOOKS / f"{notebook}.ipynb"),
                str(part),
                parameters=parameters,
                progress_bar=False,
                kernel_name="python3",
                cwd=str(CHECKOUT),
            )
    except PapermillExecutionError as error:
        raise RuntimeError(
            f"notebook {notebook}, cell {error.exec_count}: {error.ename}: {error.evalue} (see {part})"
        ) from error
    part.replace(output)
    page = output.with_suffix(".html")
    page.write_text(to_html(nbformat.read(output, as_version=4), notebook))
    return page


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as one offline page: figures drawn from their JSON by one inlined library."""
    for cell in notebook.cells:
        for result in cell.get("outputs", []):
            figure = result.get("data", {}).pop(PLOTLY_MIME, None)
            if figure is not None:
                result["data"] = {"text/html": figure_html(json.dumps(figure))}
    exporter = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    body = re.sub(r"<script[^>]*\bsrc=[^>]*></script>", "", body)  # MathJax and friends come from a CDN
    body = re.sub(r"<link[^>]*\bhref=\"https?:[^>]*>", "", body)
    return body.replace("</head>", f"{plotly_script()}</head>", 1)


def _read(notebook: str) -> nbformat.NotebookNode:
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
        raise LookupError(f"no notebook {notebook!r}; there are {there}")
    return nbformat.read(path, as_version=4)
