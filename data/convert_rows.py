"""Rows of a foreign CSV: text to typed columns and back, with every unreadable line kept aside.

Knows nothing of tables or symbols; ``convert_collector`` and ``convert_midfreq`` say what the columns mean. Nothing is
dropped: a line of the file is either a typed row or a bad line with its number and the reason.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

NEWLINE = "\r\n"  # what Python's csv module writes, so what both prior collectors wrote
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
EARLIEST_MS = 1_262_304_000_000  # 2010-01-01: seconds taken for milliseconds land in 1970
LATEST_MS = 4_102_444_800_000  # 2100-01-01


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a cell must hold: how to read it, when it is right, and how to say so."""

    read: Callable[[pl.Expr], pl.Expr]
    holds: Callable[[pl.Expr], pl.Expr]
    expected: str
    may_be_blank: bool = False


def _number(cell: pl.Expr) -> pl.Expr:
    return cell.cast(pl.Float64, strict=False)


def _whole(cell: pl.Expr) -> pl.Expr:
    return cell.cast(pl.Int64, strict=False)


def _seconds_to_ns(cell: pl.Expr) -> pl.Expr:
    """Decimal text to nanoseconds without passing through a float, which would lose the last digits."""
    whole = cell.str.extract(r"^(\d{1,10})(?:\.\d+)?$", 1).cast(pl.Int64, strict=False)
    fraction = cell.str.extract(r"^\d{1,10}\.(\d{1,9})\d*$", 1).fill_null("").str.pad_end(9, "0")
    return whole * NS_PER_S + fraction.cast(pl.Int64, strict=False)


def _is_between_ms(low: int, high: int) -> Callable[[pl.Expr], pl.Expr]:
    return lambda value: value.is_between(low, high)


def _finite(value: pl.Expr) -> pl.Expr:
    return value.is_finite()


ID = Kind(read=_whole, holds=lambda value: value >= 0, expected="a whole number, 0 or above")
COUNT = Kind(  # REST klines pass through a float column on their way to Parquet
    read=lambda cell: pl.when(_number(cell).is_finite() & (_number(cell) % 1 == 0)).then(_number(cell)).cast(pl.Int64),
    holds=lambda value: value >= 0,
    expected="a whole number, 0 or above",
)
PRICE = Kind(read=_number, holds=lambda value: _finite(value) & (value > 0), expected="a number above 0")
AMOUNT = Kind(read=_number, holds=lambda value: _finite(value) & (value >= 0), expected="a number, 0 or above")
NUMBER = Kind(read=_number, holds=_finite, expected="a number")
OPTIONAL_PRICE = Kind(read=_number, holds=PRICE.holds, expected="a number above 0, or nothing", may_be_blank=True)
OPTIONAL_AMOUNT = Kind(read=_number, holds=AMOUNT.holds, expected="a number, 0 or above, or nothing", may_be_blank=True)
OPTIONAL_NUMBER = Kind(read=_number, holds=_finite, expected="a number, or nothing", may_be_blank=True)
TIME_MS = Kind(
    read=_whole,
    holds=_is_between_ms(EARLIEST_MS, LATEST_MS),
    expected="milliseconds since 1970, of a year from 2010 to 2099",
)
MINUTE_MS = Kind(
    read=_whole,
    holds=lambda value: TIME_MS.holds(value) & (value % 60_000 == 0),
    expected="milliseconds since 1970 at a full minute, of a year from 2010 to 2099",
)
TIME_S = Kind(
    read=_seconds_to_ns,
    holds=_is_between_ms(EARLIEST_MS * NS_PER_MS, LATEST_MS * NS_PER_MS),
    expected="seconds since 1970, of a year from 2010 to 2099",
)
SIDE = Kind(read=lambda cell: cell, holds=lambda value: value.is_in(["buy", "sell"]), expected="buy or sell")
FLAG = Kind(
    read=lambda cell: cell.replace_strict({"True": True, "False": False}, default=None, return_dtype=pl.Boolean),
    holds=lambda value: value.is_not_null(),
    expected="True or False",
)
TEXT = Kind(read=lambda cell: cell, holds=lambda value: value.str.len_chars() > 0, expected="text")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One kind of file: its columns in order, and which of them the writer computed from the others.

    ``derived`` maps such a column to its formula over the typed columns; it is recomputed on export and checked here.
    """

    name: str
    columns: Mapping[str, Kind]
    derived: Mapping[str, pl.Expr] = field(default_factory=dict)

    @property
    def header(self) -> str:
        return ",".join(self.columns)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A file, read.

    Parameters
    ----------
    layout : the layout whose header the file has; None for an empty file.
    good : ``line`` (1 is the header) and the layout's columns, typed.
    bad : ``line``, ``reason``, ``raw`` and, where the layout has one, ``symbol`` as far as it could be read.
    derived_differs : rows whose derived columns say something else than their formula.
    """

    layout: Layout | None
    good: pl.DataFrame
    bad: pl.DataFrame
    derived_differs: int


def read_rows(path: Path, layouts: Sequence[Layout]) -> Rows:
    """Every line of a CSV as a typed row or a bad line; the whole file at once. See ``read_pieces``."""
    whole = list(read_pieces(path, layouts, piece_bytes=-1))
    return whole[0] if whole else Rows(layout=None, good=pl.DataFrame(), bad=pl.DataFrame(), derived_differs=0)


def read_pieces(path: Path, layouts: Sequence[Layout], *, piece_bytes: int) -> Iterator[Rows]:
    """Every line of a CSV as a typed row or a bad line, a piece of whole lines after the other.

    Where the pieces end changes no row and no reason. A last line without a newline is taken unless it shows that it
    was cut: too few fields, a derived column that disagrees, or fewer decimals in its last field than every other row
    of the file has. Blank lines are no rows.

    Parameters
    ----------
    piece_bytes : a piece has this many bytes and the rest of its last line; -1 for the whole file in one. To read and
        check a piece takes about twenty times as much memory.

    Returns
    -------
    One or more pieces; none for an empty file.

    Raises
    ------
    ValueError
        If the header is none of the layouts', naming the one expected and the one that arrived.
    """
    layout = header_layout(path, layouts)
    if layout is None:
        return
    line_count = 0
    decimals: set[int] = set()
    with path.open("rb") as file:
        while piece := file.read(piece_bytes) + file.readline():
            text = piece.decode("utf-8" if line_count else "utf-8-sig", errors="backslashreplace")
            lines = pl.DataFrame({"raw": text.split("\n")}).select(
                line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64) + line_count,
                raw=pl.col("raw").str.strip_chars_end("\r"),
            )
            is_row = (pl.col("line") > 1) & (pl.col("raw").str.strip_chars() != "")
            cells = lines.filter(is_row).with_columns(cell=pl.col("raw").str.split(","))
            is_whole = lines["raw"][-1].strip() == ""  # nothing behind the last newline
            yield _checked(cells, layout, is_last_complete=is_whole, decimals=decimals)
            if not piece.endswith(b"\n"):
                return  # the rest of this line may be on its way; the next import takes it
            line_count += piece.count(b"\n")


def read_frame_rows(frame: pl.DataFrame, layout: Layout, source: Path) -> Rows:
    """The same checks for a frame that already has columns (a Parquet file); its first row counts as line 2."""
    check_columns(source, frame.columns, layout)
    texts = frame.select(pl.all().cast(pl.String).fill_null(""))
    cells = texts.select(
        line=pl.int_range(2, pl.len() + 2, dtype=pl.Int64),
        raw=pl.concat_str(pl.all(), separator=","),
        cell=pl.concat_list(pl.all()),
    )
    return _checked(cells, layout, is_last_complete=True, decimals=set())


def check_columns(path: Path, columns: Sequence[str], layout: Layout) -> None:
    """Raise ValueError unless these are the layout's columns, naming the ones expected and the ones that arrived."""
    if list(columns) != list(layout.columns):
        raise ValueError(f"{path}: expected the columns {layout.header}, got {','.join(columns)}")


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns; raises ValueError when it is none."""
    with _parquet_errors(path):
        return list(pl.read_parquet_schema(path))


def read_parquet(path: Path) -> pl.DataFrame:
    """A Parquet file as it is; raises ValueError when it is none, or damaged."""
    with _parquet_errors(path):
        return pl.read_parquet(path)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: expected a Parquet file, got something else or a part of one: {error}") from error


def header_layout(path: Path, layouts: Sequence[Layout]) -> Layout | None:
    """The layout a file's first line names; None for an empty file. Raises as ``read_rows`` does."""
    with path.open("rb") as lines:
        first = lines.readline().decode("utf-8-sig", errors="backslashreplace").rstrip("\r\n")
    if not first.strip() and not path.read_bytes().strip():
        return None
    return _layout_of(path, first, layouts)


def _layout_of(path: Path, header: str, layouts: Sequence[Layout]) -> Layout:
    for layout in layouts:
        if header == layout.header:
            return layout
    expected = " or ".join(f"'{layout.header}'" for layout in layouts)
    raise ValueError(f"{path}: expected the header {expected}, got '{header}'; is this a file of another format?")


def _checked(cells: pl.DataFrame, layout: Layout, *, is_last_complete: bool, decimals: set[int]) -> Rows:
    """Split ``line, raw, cell`` into typed rows and bad lines.

    ``decimals`` has how many decimals the last fields of the file had so far; those of these rows are added.
    """
    width = len(layout.columns)
    has_width = pl.col("cell").list.len() == width
    # nulls out of bounds, so that a short line still yields its symbol
    texts = cells.with_columns(
        *(pl.col("cell").list.get(i, null_on_oob=True).alias(f"text_{i}") for i in range(width)),
        fields=pl.col("cell").list.len(),
        has_width=has_width,
    ).drop("cell")
    reasons = [
        pl.when(~pl.col("has_width"))
        .then(pl.format("expected {} fields, got {}", pl.lit(width), "fields"))
        .otherwise(None)
    ]
    typed = []
    for i, (name, kind) in enumerate(layout.columns.items()):
        text = pl.col(f"text_{i}")
        value = kind.read(text)
        is_wrong = ~kind.holds(value).fill_null(False)
        if kind.may_be_blank:
            is_wrong = is_wrong & (text != "")
        typed.append(value.alias(name))
        message = pl.format("{}: expected {}, got '{}'", pl.lit(name), pl.lit(kind.expected), text)
        reasons.append(pl.when(is_wrong).then(message).otherwise(None))
    rows = texts.select("line", "raw", *typed, last_text=pl.col(f"text_{width - 1}"), reason=pl.coalesce(reasons))
    rows = rows.with_columns(derived_differs=_derived_differs(layout) if layout.derived else pl.lit(False))
    row_decimals = rows["last_text"].str.extract(r"\.(\d+)$", 1).str.len_chars().fill_null(0)
    decimals.update(row_decimals[:-1].unique())
    if not is_last_complete and rows.height and _looks_cut(rows, row_decimals[-1], decimals):
        cut = pl.when(pl.col("line") == rows["line"][-1]).then(pl.lit("the file ends in the middle of this line"))
        rows = rows.with_columns(reason=pl.coalesce("reason", cut))
    decimals.update(row_decimals[-1:])
    good = rows.filter(pl.col("reason").is_null())
    bad_columns = ["line", "reason", "raw", *(["symbol"] if "symbol" in layout.columns else [])]
    return Rows(
        layout=layout,
        good=good.select("line", *layout.columns),
        bad=rows.filter(pl.col("reason").is_not_null()).select(bad_columns),
        derived_differs=int(good["derived_differs"].sum()),
    )


def _derived_differs(layout: Layout) -> pl.Expr:
    """True where a derived column is further from its formula than rounding to six decimals explains."""
    differs = []
    for name, formula in layout.derived.items():
        kept = pl.col(name)
        if layout.columns[name].read is _number:
            same = (kept - formula).abs() <= 5.1e-7 + 1e-9 * formula.abs()
            same = same | (kept.is_null() & ~formula.is_finite().fill_null(False))
        else:
            same = kept == formula
        differs.append(~same.fill_null(False))
    return pl.any_horizontal(differs)


def _looks_cut(rows: pl.DataFrame, last_decimals: int, other_decimals: set[int]) -> bool:
    """Whether the unterminated last line lost its end."""
    last = rows.row(-1, named=True)
    if last["reason"] is not None:
        return False  # already a bad line, with a better reason
    if last["derived_differs"]:
        return True
    return len(other_decimals) == 1 and last_decimals < min(other_decimals)


def quarantine_rows(path: Path, rows: Rows, *, symbol: str | None, table: str) -> pl.DataFrame:
    """The bad lines as rows of ``quarantine``, without the time they were put there.

    The file is named with its folder, so that the same file is the same wherever it is imported from.
    """
    return rows.bad.select(
        pl.lit(f"{path.resolve().parent.name}/{path.name}").alias("file"),
        "line",
        (pl.col("symbol") if "symbol" in rows.bad.columns else pl.lit(symbol, pl.String)).alias("symbol"),
        pl.lit(table).alias("table"),
        "reason",
        "raw",
    )


def write_rows(path: Path, columns: Mapping[str, Sequence[str]]) -> int:
    """Write text columns as a CSV with the prior collectors' line ends; returns the number of rows.

    The file appears whole or not at all.
    """
    lines = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_text(NEWLINE.join(lines) + NEWLINE, encoding="utf-8", newline="")
    partial.replace(path)
    return len(lines) - 1


def six_decimals(values: pl.Series) -> list[str]:
    """``2.288100``: six decimals, more where the value needs them; blank for null."""
    texts = [None if value is None else f"{value:.6f}" for value in values.to_list()]
    return [
        "" if text is None else text if float(text) == value else np.format_float_positional(value)
        for text, value in zip(texts, values.to_list(), strict=True)
    ]


def shortest(values: pl.Series) -> list[str]:
    """Python's own text of a value (``8.8e-06``, ``True``, ``5``); blank for null."""
    return ["" if value is None else str(value) for value in values.to_list()]


def decimal_seconds(time_ns: pl.Series) -> list[str]:
    """Nanoseconds since 1970 as Python prints a float of seconds: ``1758699465.1337595``, ``1758699465.0``."""
    texts = []
    for value in time_ns.to_list():
        whole, fraction = divmod(value, NS_PER_S)
        texts.append(f"{whole}.{f'{fraction:09d}'.rstrip('0') or '0'}")
    return texts
