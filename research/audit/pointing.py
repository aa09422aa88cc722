"""Which line it was: a suspect run twice more under watch, and what it held traced back to where the future came in."""

import traceback

import polars as pl

from research.audit.offers import open_source
from research.audit.origin import Line, Pair, origin
from research.audit.runs import FAILS, FillSuspect, Suspect
from research.audit.subjects import Source, Subject
from research.audit.trace import Trace, follow
from research.audit.values import SAME_FROM_SHORT, first_difference
from research.bars import Bars


class Pointer:
    """Lines of one subject. A path runs from the line where the future came in to the line that shows it."""

    def __init__(self, source: Source, subject: Subject) -> None:
        self._source, self._subject = source, subject
        self._traces: dict[tuple[int, int], Trace] = {}  # by bars and row: one run shows many columns

    def path_of(self, suspect: Suspect) -> list[Line]:
        """Where a column's difference comes from."""
        if suspect.one is suspect.other:  # it changes by itself: followed from the file's first state on
            with open_source(self._source.path) as fresh:
                subject = next(each for each in fresh.subjects if each.name == self._subject.name)
                traces = [follow(lambda: subject.run(suspect.one), fresh.texts, suspect.row) for _ in range(2)]
            return self._compared(traces, suspect)
        rows = (suspect.row, suspect.other.frame.height - 1 if suspect.is_short else suspect.row)
        try:
            traces = [self._trace(bars, row) for bars, row in zip((suspect.one, suspect.other), rows, strict=True)]
        except FAILS as error:
            return [self.line_of_failure(error)]
        return self._compared(traces, suspect)

    def path_of_fill(self, suspect: FillSuspect, bars: Bars) -> list[Line]:
        """Where a fill comes from: traced where another future changed it, else the line that names its column."""
        if suspect.other is not None:
            changed = Suspect(
                name=suspect.name,
                row=suspect.n_known - 1,
                sentence=suspect.offence.sentence,
                one=bars,
                other=suspect.other,
                n_known=suspect.n_known,
            )
            path = self.path_of(changed)
            if path != [self._beginning()]:
                return path
        return [self._naming(suspect.name[1])]

    def line_of_failure(self, error: BaseException) -> Line:
        """The user's line that raised."""
        raised = traceback.extract_tb(error.__traceback__)
        own = [Line(each.filename, each.lineno) for each in raised if each.filename in self._source.texts]
        return own[-1] if own else self._beginning()

    def text(self, line: Line) -> str:
        """What stands there."""
        return self._source.texts[line.file].splitlines()[line.line - 1].strip()

    def shown(self, line: Line) -> Line:
        """The line under the path that was given, not the one it was resolved to."""
        given = str(self._source.path)
        return line._replace(file=line.file.replace(str(self._source.path.resolve()), given))

    def _trace(self, bars: Bars, row: int) -> Trace:
        key = id(bars), row
        if key not in self._traces:
            self._traces[key] = follow(lambda: self._subject.run(bars), self._source.texts, row)
        return self._traces[key]

    def _compared(self, traces: list[Trace], suspect: Suspect) -> list[Line]:
        def differs(one: pl.Series, other: pl.Series) -> bool:
            if suspect.is_short:
                return first_difference(one[-1:], other[-1:], 1, SAME_FROM_SHORT) is not None
            return first_difference(one, other, suspect.n_known) is not None

        pair = Pair(
            one=traces[0],
            other=traces[1],
            frames=(suspect.one.frame, suspect.other.frame),
            differs=differs,
            n_future=suspect.one.frame.height - suspect.n_known,
            is_short=suspect.is_short,
        )
        output, column = suspect.name
        variable = output if self._source.is_notebook else None
        return origin(pair, self._source.texts, column or output, variable) or [self._beginning()]

    def _naming(self, column: str) -> Line:
        """The first line from the subject on that names a column of its trades."""
        for file, text in self._source.texts.items():
            for number, line in enumerate(text.splitlines(), 1):
                if column in line and (file != self._subject.file or number >= self._subject.line):
                    return Line(file, number)
        return self._beginning()

    def _beginning(self) -> Line:
        return Line(self._subject.file, self._subject.line)
