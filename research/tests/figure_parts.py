"""What the tests of figures look for in them."""

from collections.abc import Iterator


def colours(part: object, key: str = "") -> Iterator[str]:
    """Every colour in a figure's JSON."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from colours(value, name)
    elif isinstance(part, list):
        for value in part:
            yield from colours(value, key)
    elif isinstance(part, str) and "color" in key:
        yield part
