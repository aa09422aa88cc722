"""A subject run again and again: on all bars, without the later ones, with others in their place, with few.

What comes out differently although it was known is a suspect. ``pointing`` says which line it comes from.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from research.audit import fills
from research.audit.market import cut, scrambled, short
from research.audit.subjects import Run, Subject
from research.audit.values import SAME_FROM_SHORT, first_difference, is_blank, own_columns, shown
from research.bars import Bars

SPREAD_CUTS, EVENT_CUTS = 10, 6  # anywhere; in gaps, or behind rows in which something happened
_RARE = 0.2  # a column that is mostly one value: its other rows are where something happened

# What code may raise on bars it does not expect; anything else is a bug of ours or a wish to stop.
FAILS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError)

Name = tuple[str, str]  # output of a subject, column of it ("" where it has no name of its own)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a subject made of some bars: columns with a row per bar, and lists of trades."""

    columns: dict[Name, pl.Series]
    trades: dict[str, pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A column that two runs tell differently.

    Attributes
    ----------
    row : the first one, of all bars.
    one, other : the bars of the two runs.
    n_known : rows of ``one`` that the other run should tell alike.
    is_short : ``other`` are the last of these rows, and only the newest should be alike.
    """

    name: Name
    row: int
    sentence: str
    one: Bars
    other: Bars
    n_known: int
    is_short: bool = False


@dataclass(frozen=True, kw_only=True)
class FillSuspect:
    """A fill that could not have been; ``other`` are the bars on which the trades became others, None without such."""

    name: Name
    offence: fills.Offence
    other: Bars | None
    n_known: int


class Trial:
    """One subject on its bars. ``n_runs`` counts how often it was asked."""

    def __init__(self, subject: Subject, bars: Bars) -> None:
        self.subject, self.bars, self.n_runs = subject, bars, 0
        self.whole = self._run(bars)

    def suspects(self) -> list[Suspect]:
        """Columns that are not as they were, each with the first row in which it shows."""
        n_rows = self.bars.frame.height
        found: dict[tuple[Name, bool], Suspect] = {}

        def note(suspects: Iterator[Suspect]) -> None:
            for suspect in suspects:
                before = found.get((suspect.name, suspect.is_short))
                if before is None or suspect.row < before.row:
                    found[suspect.name, suspect.is_short] = suspect

        note(self._changed(self.bars, n_rows, "is {} and, asked again on the same bars, {}", self.subject.again))
        if found or self.subject.again or not self.whole.columns:  # what changes by itself cannot be compared
            return list(found.values())
        for row in self._cut_rows():
            another = f"is {{}}, and {{}} when the market after row {row - 1} is another"
            note(self._changed(scrambled(self.bars, row), row, another))
            note(self._changed(cut(self.bars, row), row, f"is {{}}, and {{}} when the bars end with row {row - 1}"))
            note(self._forgotten(row))
        ahead = {name for name, is_short in found if not is_short}
        return [suspect for (name, is_short), suspect in found.items() if not (is_short and name in ahead)]

    def fill_suspects(self) -> list[FillSuspect]:
        """Fills that could not have been, the first per list of trades and column."""
        return [suspect for output in self.whole.trades for suspect in self._fills_of(output)]

    def notes(self) -> Iterator[str]:
        """What could not be tried."""
        name, columns = self.subject.name, self.whole.columns
        if not columns and not self.whole.trades:
            yield f"{name}: neither trades nor a column of its own with a row per bar came out: nothing was compared"
        if not self.subject.again and (blank := [label(each) for each, values in columns.items() if is_blank(values)]):
            yield f"{name}: empty in every row, so not compared: {', '.join(blank)}"
        if any(trades.is_empty() for trades in self.whole.trades.values()):
            yield f"{name}: no trade on these bars: its fills were not tried"
        sides = [values for (_, column), values in columns.items() if column == "side"]
        if self.subject.again and all((values == 0).all() for values in sides):
            yield f"{name}: never wanted a position on these bars"

    def _run(self, bars: Bars, run: Run | None = None) -> Made:
        self.n_runs += 1
        columns, trades = {}, {}
        for output, value in (run or self.subject.run)(bars).items():
            if fills.is_trades(value):
                trades[output] = value
            else:
                made = own_columns(value, bars.frame) or {}
                columns |= {(output, column): values for column, values in made.items()}
        return Made(columns=columns, trades=trades)

    def _changed(self, bars: Bars, n_known: int, sentence: str, run: Run | None = None) -> Iterator[Suspect]:
        """Columns that other bars, alike in ``n_known`` rows, changed there."""
        try:
            columns, failure = self._run(bars, run).columns, "no column"
        except FAILS as error:
            columns, failure = {}, f"{type(error).__name__}: {error}"
        for name, values in self.whole.columns.items():
            now = columns.get(name)
            row = n_known - 1 if now is None else first_difference(values, now, n_known)
            if row is not None:
                told = sentence.format(shown(values[row]), failure if now is None else shown(now[row]))
                yield Suspect(name=name, row=row, sentence=told, one=self.bars, other=bars, n_known=n_known)

    def _forgotten(self, row: int) -> Iterator[Suspect]:
        """Columns whose newest value needs more history than declared."""
        lookback = self.subject.lookback_bars
        if lookback is None or lookback > row:
            return
        bars = short(self.bars, row, lookback)
        try:
            columns, failure = self._run(bars).columns, "no column"
        except FAILS as error:
            columns, failure = {}, f"{type(error).__name__}: {error}"
        for name, values in self.whole.columns.items():
            newest, now = values[row - 1 : row], columns.get(name)
            if now is None or first_difference(newest, now[-1:], 1, SAME_FROM_SHORT) is not None:
                got = failure if now is None else shown(now[-1])
                yield Suspect(
                    name=name,
                    row=row - 1,
                    sentence=f"is {shown(newest[0])} with all history, and {got} from the {lookback} bars it declares",
                    one=cut(self.bars, row),
                    other=bars,
                    n_known=row,
                    is_short=True,
                )

    def _cut_rows(self) -> list[int]:
        """First rows of the future: spread over the bars, behind gaps, behind rows where something happened."""
        frame = self.bars.frame
        n_rows = frame.height
        random = np.random.default_rng(n_rows)
        rows = set(random.choice(np.arange(n_rows // 6, n_rows - 1), min(SPREAD_CUTS, n_rows // 2), replace=False))
        gap = frame["is_gap"].to_numpy()
        rows |= set(_some(np.flatnonzero(gap[:-1] & ~gap[1:]) + 1))
        happened = np.zeros(n_rows, bool)
        for values in self.whole.columns.values():
            usual = values.drop_nulls().mode()
            is_other = values.ne_missing(usual[0]).to_numpy() if len(usual) else happened
            if is_other.sum() < _RARE * n_rows:
                happened = happened | is_other
        rows |= set(_some(np.flatnonzero(happened) + 1))
        return sorted(int(row) for row in rows if 1 < row < n_rows)

    def _fills_of(self, output: str) -> Iterator[FillSuspect]:
        found: dict[str, FillSuspect] = {}

        def note(offences: Iterator[fills.Offence], other: Bars | None = None, n_known: int = 0) -> None:
            for offence in offences:
                suspect = FillSuspect(name=(output, offence.column), offence=offence, other=other, n_known=n_known)
                found.setdefault(offence.column, suspect)

        frame, trades = self.bars.frame, self.whole.trades[output]
        note(fills.offences(trades, frame))
        if "entry_time" in found:  # from before the order was there: nothing later can be asked
            return iter(found.values())
        for row in map(int, _some(np.unique(fills.entry_rows(trades, frame)) + 1)):
            if not 1 < row < frame.height:
                continue
            other = scrambled(self.bars, row)
            note(fills.offences(self._run(other).trades[output], other.frame))
            other = scrambled(self.bars, row, keeps_open=True)
            changed = fills.differing(trades, self._run(other).trades[output], row - 1, frame)
            note(changed, other, row)
        return iter(found.values())


def label(name: Name) -> str:
    """A column of an output as people read it."""
    return ".".join(part for part in name if part)


def _some(rows: np.ndarray) -> np.ndarray:
    """A few of many, evenly."""
    return rows[:: len(rows) // EVENT_CUTS + 1]
