"""Notebooks as jobs: papermill with the checks it lacks, and an offline page of the result.

Papermill only logs a misspelt parameter and runs with the default; here it is an error. A notebook's cell tagged
``parameters`` is its signature: typed plain literals, each with a comment that carries the unit.
"""

import ast
import difflib
import re
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from pipelines.identity import CHECKOUT
from pipelines.page import MAX_BYTES, Figures, page_html
from research.plots.style import Figure

NOTEBOOKS = CHECKOUT / "notebooks"
PLOTLY_MIME = "application/vnd.plotly.v1+json"

_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool}
# A kernel talks over TCP of this machine, where others could listen.
_KERNEL = Config({"KernelManager": {"transport_encryption": "auto"}})
_STYLE = """
main { max-width: 1280px; }
.cell { margin-top: 14px; }
.cell pre { margin: 0; font: 12px/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; }
.input { color: var(--muted); border-left: 3px solid var(--rule); padding-left: 10px; margin-bottom: 8px; }
.output_area { margin-top: 8px; overflow-x: auto; }
.output_stderr, .output_error { color: var(--short); }
.rendered_html > * + * { margin-top: 8px; }
.rendered_html ul { margin: 0; padding-left: 20px; }
.rendered_html p, .rendered_html li { max-width: 100ch; }
.output_markdown { font-size: 15px; }
.anchor-link { display: none; }
.few { max-width: 960px; }
.few td:first-child { white-space: nowrap; }
"""


class Parameter(NamedTuple):
    """One line of a notebook's parameters cell; ``about`` is its comment, with the unit."""

    type: str
    default: Any
    about: str


def signature(notebook: str) -> dict[str, Parameter]:
    """Parameters of a notebook by name.

    Raises
    ------
    LookupError
        When there is no such notebook, naming those there are.
    ValueError
        When it has not exactly one parameters cell of ``name: type = literal  # unit`` lines.
    """
    cells = [cell for cell in _read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"notebook {notebook}: expected one cell tagged 'parameters', found {len(cells)}")
    comments = dict(re.findall(r"^(\w+):.*?#\s*(.+)$", cells[0].source, flags=re.MULTILINE))
    found = {}
    for node in ast.parse(cells[0].source).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ValueError(
                f"notebook {notebook}: the parameters cell holds only `name: type = literal` lines, got "
                f"`{ast.unparse(node)}`"
            )
        name, kind = node.target.id, ast.unparse(node.annotation)
        if kind not in _TYPES:
            raise ValueError(f"notebook {notebook}: parameter {name} is {kind}; use one of {', '.join(_TYPES)}")
        found[name] = Parameter(kind, ast.literal_eval(node.value), comments.get(name, ""))
    return found


def execute(notebook: str, output: Path, parameters: dict[str, Any]) -> Path:
    """Run a notebook with parameters; save it executed, and beside it as an offline page.

    Parameters
    ----------
    notebook : name of a file in ``notebooks`` without its ending.
    output : where the executed ``.ipynb`` goes; the page lands beside it.
    parameters : value per name; those left out keep their default.

    Returns
    -------
    Path of the page.

    Raises
    ------
    ValueError
        On a parameter that the notebook does not declare, or of another type; nothing has run then.
    RuntimeError
        When a cell fails, with the cell's own error; the notebook up to there lies beside ``output``.
    """
    _check(notebook, parameters)
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part.ipynb")
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{notebook}.ipynb",
            unfinished,
            parameters=parameters,
            progress_bar=False,
            kernel_name="python3",
            language="python",
            config=_KERNEL,
        )
    except PapermillExecutionError as error:
        raise RuntimeError(
            f"notebook {notebook}, cell {error.exec_count}: {error.ename}: {error.evalue} (as far as it came: "
            f"{unfinished})"
        ) from error
    unfinished.replace(output)
    page = output.with_suffix(".html")
    unfinished_page = output.with_suffix(".part.html")
    unfinished_page.write_text(to_html(nbformat.read(output, as_version=4), notebook))
    return unfinished_page.replace(page)


def to_html(notebook: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as one page that loads nothing: figures are drawn from their data by one inlined library.

    Raises
    ------
    ValueError
        When the page would exceed 8 MB, or shows a figure that is not of ``research.plots``.
    """
    figures = Figures()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if PLOTLY_MIME in output.get("data", {}):
                output["data"] = {"text/html": figures.card(_figure(output["data"][PLOTLY_MIME]))}
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(notebook)
    page = page_html(title, body, figures, _STYLE)
    size = len(page.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"notebook {title}: its page would be {size / 1e6:.1f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB; draw a "
            "shorter range"
        )
    return page


def _check(notebook: str, parameters: dict[str, Any]) -> None:
    """Refuse parameters that are not in the notebook's signature."""
    declared = signature(notebook)
    for name, value in parameters.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(declared)}"
            raise ValueError(f"notebook {notebook} has no parameter {name!r}; {hint}")
        kind = declared[name].type
        # True is an int to Python, and hardly ever one that was meant.
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
            raise ValueError(f"notebook {notebook}: parameter {name} is {kind}, got {type(value).__name__} {value!r}")


def _read(notebook: str) -> nbformat.NotebookNode:
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
        raise LookupError(f"no notebook {notebook!r}; there are {there}")
    return nbformat.read(path, as_version=4)


def _figure(stored: dict[str, Any]) -> Figure:
    """A figure as it was before a cell showed it."""
    if "frame" not in stored["layout"].get("meta", {}):
        raise ValueError("a cell shows a figure that is not of research.plots: a page cannot draw it; add a plot there")
    return Figure(data=stored["data"], layout=stored["layout"])
