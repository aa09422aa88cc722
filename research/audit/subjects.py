"""What an audit asks, again and again, with other bars."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.bars import Bars

NOTEBOOK = ".ipynb"

Run = Callable[[Bars], Mapping[str, Any]]  # bars in; what was made of them by name out


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A function, a registered feature, a strategy or a notebook.

    Attributes
    ----------
    again : the same in another way, for what knows no order of rows: it is not asked without the future then.
    lookback_bars : rows of history, the newest included, that it says are enough; None when it does not say.
    file, line : where it begins, ``file`` being a key of ``Source.texts``.
    """

    name: str
    run: Run
    again: Run | None = None
    lookback_bars: int | None
    file: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file and what it offers.

    Attributes
    ----------
    texts : source by the name its code objects carry: the whole path, or path and cell of a notebook.
    """

    path: Path
    subjects: tuple[Subject, ...]
    texts: dict[str, str]

    @property
    def is_notebook(self) -> bool:
        """Whether its outputs are variables and not what functions return."""
        return self.path.suffix == NOTEBOOK
