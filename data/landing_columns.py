"""Messages and REST rows of one shape become a frame, column by column: text to numbers once, proven on the way.

A row whose numbers are not what they must be is refused with the reason. A number that a float does not hold to its
last digit is told of, and its row stays: the text is in the raw log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple

import polars as pl

from data.convert_rows import Kind
from data.messages import columns_of, event_of, wire_name
from data.schema import conform, is_test_symbol
from data.table import Table

_MISSING = "missing:"  # before the name of a column
SURE_DIGITS = 15  # decimals of so many digits come back from a float64 as they went in


class Refused(NamedTuple):
    """A message that is no row. ``row`` is its place among those that were given, ``raw`` its text where known."""

    row: int
    symbol: str | None
    table: str
    reason: str
    raw: str | None = None


class Oddity(NamedTuple):
    """Something to be told once about rows that were stored all the same: which column, and the first such row.

    ``raw`` as for ``Refused``.
    """

    row: int
    table: str
    column: str
    what: str
    raw: str | None = None


@dataclass(frozen=True, kw_only=True)
class Turned:
    """What became of messages.

    Parameters
    ----------
    tables : rows that conform.
    refused : messages that are no rows.
    of_test_contracts : how many were of the exchange's test contracts.
    oddities : missing fields, and numbers that are not their text.
    lossy : rows with a number that is not its text, per table.
    copies : rows that the other socket of the pair had brought before.
    """

    tables: tuple[tuple[Table, pl.DataFrame], ...] = ()
    refused: tuple[Refused, ...] = ()
    of_test_contracts: int = 0
    oddities: tuple[Oddity, ...] = ()
    lossy: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0

    def with_tables(self, *tables: tuple[Table, pl.DataFrame]) -> "Turned":
        """The same with rows; empty tables are left out."""
        conforming = ((table, _conformed(rows, table)) for table, rows in tables if rows.height)
        return replace(self, tables=tuple(conforming))


def _conformed(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    return rows if rows.schema == table.columns else conform(rows, table)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How structs of one type become rows.

    Parameters
    ----------
    table : where they go.
    numbers : columns that are text in the struct, and what they must hold.
    own : attributes of the struct that are columns of the same name.
    what : the struct's type.
    part : the attribute with the rest of the columns, ``of_part`` of type ``part_what``.
    """

    table: Table
    numbers: Mapping[str, Kind]
    own: tuple[str, ...]
    what: type
    part: str | None = None
    of_part: tuple[str, ...] = ()
    part_what: type | None = None

    def dtype(self, name: str) -> pl.DataType:
        """Of a column before its text becomes a number, and its milliseconds a time."""
        if name in self.numbers:
            return pl.String()
        dtype = self.table.columns.get(name, pl.Int64())  # close_time is in no table
        return pl.Int64() if dtype.is_temporal() else dtype


def shape_of(
    table: Table,
    numbers: Mapping[str, Kind],
    what: type,
    own: str,
    *,
    part: str | None = None,
    of_part: str = "",
    part_what: type | None = None,
) -> Shape:
    """A ``Shape``, its names with spaces between them."""
    return Shape(
        table=table,
        numbers=numbers,
        what=what,
        own=tuple(own.split()),
        part=part,
        of_part=tuple(of_part.split()),
        part_what=part_what,
    )


def columns(shape: Shape, found: Sequence[Any]) -> pl.DataFrame:
    """``row``, the place in ``found``, and a column per attribute; numbers still text, times still milliseconds."""
    series = _series(shape, shape.what, shape.own, found)
    if shape.part is not None:
        series += _series(shape, shape.part_what, shape.of_part, list(map(attrgetter(shape.part), found)))
    return pl.DataFrame(series).with_row_index("row")


def _series(shape: Shape, what: type, names: Iterable[str], found: Sequence[Any]) -> list[pl.Series]:
    cells = columns_of(what, found)
    return [pl.Series(name, cells.get(name, ()), dtype=shape.dtype(name)) for name in names]


def marked(frame: pl.DataFrame, shape: Shape) -> pl.DataFrame:
    """With a column for each documented field that some message came without, true where it did."""
    wanting = [name for name in (*shape.own, *shape.of_part) if name != "levels" and frame[name].null_count()]
    return frame.with_columns(pl.col(name).is_null().alias(_MISSING + name) for name in wanting)


def _missing_fields(market: pl.DataFrame, shape: Shape) -> tuple[Oddity, ...]:
    """One per documented field that a message came without."""
    told = []
    for column in market.columns:
        if column.startswith(_MISSING) and market[column].any():
            name = column.removeprefix(_MISSING)
            what, prefix = (shape.what, "") if name in shape.own else (shape.part_what, f"{shape.part[0]}.")
            missing = f"{prefix}{wire_name(what, name)}"
            reason = f"{event_of(shape.what)}: missing field {missing}; the row was stored without it"
            told.append(Oddity(market["row"][market[column].arg_max()], shape.table.name, name, reason))
    return tuple(told)


def checked(frame: pl.DataFrame, shape: Shape, venue: str) -> tuple[Turned, pl.DataFrame]:
    """(what is not stored or odd, the rows with their numbers as numbers)."""
    constants = {"venue": pl.lit(venue)}
    if "clock" in shape.table.columns:
        constants["clock"] = pl.lit("exchange")
    if "is_ambiguous" in shape.table.columns:
        constants["is_ambiguous"] = pl.lit(False)
    market = _without_tests(frame.with_columns(**constants))
    of_test_contracts = frame.height - market.height

    numbers = market.select(kind.read(pl.col(name)) for name, kind in shape.numbers.items())
    refused: tuple[Refused, ...] = ()
    if not _is_right(market, numbers, shape):
        faults = _faults(shape, market.columns)
        is_wrong = market.select(pl.any_horizontal(faults.values())).to_series()
        refused = _refusals(market.filter(is_wrong), shape, faults)
        market, numbers = market.filter(~is_wrong), numbers.filter(~is_wrong) if shape.numbers else numbers
    oddities, lossy = _lossy_columns(market, numbers, shape)
    turned = Turned(
        refused=refused,
        of_test_contracts=of_test_contracts,
        oddities=_missing_fields(market, shape) + oddities,
        lossy=lossy,
    )
    beside = [name for name in market.columns if name in ("row", "problem") or name.startswith(_MISSING)]
    return turned, market.with_columns(numbers.get_columns()).drop(beside)


def _without_tests(frame: pl.DataFrame) -> pl.DataFrame:
    if "symbol" not in frame.columns:
        return frame
    tests = [symbol for symbol in frame["symbol"].unique() if is_test_symbol(symbol)]
    return frame.filter(~pl.col("symbol").is_in(tests)) if tests else frame


def _is_right(market: pl.DataFrame, numbers: pl.DataFrame, shape: Shape) -> bool:
    """Whether all rows are good, as they nearly always are: columns as a whole are quicker to judge than rows."""
    time = shape.table.time
    if time in market.columns and market[time].null_count():
        return False
    if "problem" in market.columns and market["problem"].null_count() < market.height:
        return False
    for name, kind in shape.numbers.items():
        blanks = numbers[name].null_count()
        if blanks and not (kind.may_be_blank and (market[name].fill_null("") == "").sum() == blanks):
            return False
    held = [kind.holds(pl.col(name)).all().alias(name) for name, kind in shape.numbers.items()]
    return all(numbers.select(held).row(0)) if held else True


def _faults(shape: Shape, present: Sequence[str]) -> dict[str, pl.Expr]:
    """Per column whether it is wrong."""
    faults = {name: _is_wrong(pl.col(name), kind) for name, kind in shape.numbers.items()}
    if shape.table.time in present:
        faults[shape.table.time] = pl.col(shape.table.time).is_null()
    if "problem" in present:
        faults["problem"] = pl.col("problem").is_not_null()
    return faults


def _is_wrong(text: pl.Expr, kind: Kind) -> pl.Expr:
    is_wrong = ~kind.holds(kind.read(text)).fill_null(False)
    return is_wrong & (text.fill_null("") != "") if kind.may_be_blank else is_wrong


def _refusals(wrong: pl.DataFrame, shape: Shape, faults: Mapping[str, pl.Expr]) -> tuple[Refused, ...]:
    """Every wrong row with the first of its faults."""
    reasons = []
    for name, is_wrong in faults.items():
        if name == "problem":
            reason = pl.col(name)
        elif name in shape.numbers:
            expected = pl.lit(shape.numbers[name].expected)
            reason = pl.format("{}: expected {}, got '{}'", pl.lit(name), expected, pl.col(name).fill_null(""))
        else:
            reason = pl.format("{}: the message names no time", pl.lit(name))
        reasons.append(pl.when(is_wrong).then(reason))
    symbol = pl.col("symbol") if "symbol" in wrong.columns else pl.lit(None, pl.String).alias("symbol")
    told = wrong.select("row", symbol, pl.lit(shape.table.name).alias("table"), reason=pl.coalesce(reasons))
    return tuple(Refused(*row) for row in told.iter_rows())


def _lossy_columns(
    market: pl.DataFrame, numbers: pl.DataFrame, shape: Shape
) -> tuple[tuple[Oddity, ...], dict[str, int]]:
    """(the first lossy number of each column, how many rows have one)."""
    told, rows = [], set()
    for name in shape.numbers:
        places = lossy_places(market[name], numbers[name])
        if places:
            rows.update(market["row"].gather(places))
            reason = lossy_reason(name, market[name][places[0]], numbers[name][places[0]])
            told.append(Oddity(market["row"][places[0]], shape.table.name, name, reason))
    return tuple(told), {shape.table.name: len(rows)} if rows else {}


def lossy_places(texts: pl.Series, numbers: pl.Series) -> list[int]:
    """Where a number, written with the decimals of its text, is not that text."""
    if not texts.len() or (texts.str.len_bytes().max() or 0) <= SURE_DIGITS:
        return []
    long = (texts.str.len_bytes() > SURE_DIGITS).fill_null(False).arg_true()
    known = zip(long.to_list(), texts.gather(long).to_list(), numbers.gather(long).to_list(), strict=True)
    return [place for place, text, number in known if not _is_same(text, number)]


def lossy_reason(column: str, text: str, number: float) -> str:
    """For the quarantine."""
    return f"{column}: {text} has more digits than a float64 holds, it was stored as {number!r}"


def _is_same(text: str, number: float | None) -> bool:
    if number is None:
        return True
    exact = Decimal(text)
    return Decimal(f"{number:.{max(0, -exact.as_tuple().exponent)}f}") == exact
