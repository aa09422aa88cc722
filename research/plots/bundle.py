"""Figures on pages without a network: the small cartesian build of plotly.js, kept here with licence and checksum."""

import hashlib
import json
from html import escape
from pathlib import Path

from research.plots.style import CONFIG

VENDOR = Path(__file__).parent.parent / "vendor"


def plotly_javascript(folder: Path = VENDOR) -> str:
    """Source of plotly.js, byte for byte as its checksum says.

    Raises
    ------
    LookupError
        When the file is missing: a page never falls back to a copy from the network.
    ValueError
        When it is not the file that was vendored.
    """
    expected, name = (folder / "SHA256SUMS").read_text().split()
    bundle = folder / name
    if not bundle.is_file():
        raise LookupError(
            f"{bundle} is missing: restore it from version control; reports do not load it from a network"
        )
    content = bundle.read_bytes()
    arrived = hashlib.sha256(content).hexdigest()
    if arrived != expected:
        raise ValueError(f"{bundle} has SHA-256 {arrived}, expected {expected}: restore it from version control")
    return content.decode()


def plotly_script() -> str:
    """The library as one ``script`` element, for the head of a page."""
    return f"<script>{plotly_javascript()}</script>\n"


def figure_html(drawing: str) -> str:
    """A figure for a page that carries ``plotly_script``.

    Parameters
    ----------
    drawing : the figure as JSON, from ``to_json`` or a notebook's output.
    """
    figure = json.loads(drawing)
    meta = figure["layout"].get("meta", {})
    label = ". ".join(meta[name] for name in ("title", "caption") if name in meta)
    parts = ", ".join(embedded(part) for part in (figure["data"], figure["layout"], CONFIG))
    return (
        f'<div role="img" aria-label="{escape(label)}"></div>'
        f"<script>Plotly.newPlot(document.currentScript.previousElementSibling, {parts});</script>"
    )


def embedded(content: object) -> str:
    """JSON for inside a ``script`` element, where a "<" could end the element or open a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
