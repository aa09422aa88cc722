"""The plotly.js that pages carry: the small cartesian build, kept in ``research/vendor`` with licence and checksum."""

import hashlib
import json
from pathlib import Path

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


def embedded(content: object) -> str:
    """JSON for inside a ``script`` element, where a "<" could end the element or open a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
