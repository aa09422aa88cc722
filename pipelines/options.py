"""Options that several commands share, so that they read and mean the same everywhere."""

import os
import re
from datetime import datetime
from pathlib import Path

import click

from data.config import parse_utc
from data.lake import Lake, default_lake
from data.lake_reader import table_named

_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Utc(click.ParamType):
    """A UTC date or time such as 2026-01-31 or 2026-01-31T12:00."""

    name = "utc"

    def convert(self, value, param, ctx):
        if isinstance(value, datetime):
            return value
        try:
            return parse_utc(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Seconds(click.ParamType):
    """A length of time: seconds, or a number with its unit such as 90s, 15m, 8h or 2d."""

    name = "time"

    def convert(self, value, param, ctx):
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.strip())
        if not found or not float(found[1]):
            self.fail(f"expected seconds, or a number and one of s m h d such as 15m, got {value!r}", param, ctx)
        return float(found[1]) * _UNIT_S[found[2]]


class LakePlace(click.ParamType):
    """A lake's folder, or the URL of one in object storage."""

    name = "place"

    def convert(self, value, param, ctx):
        return value if isinstance(value, Path) or "://" in value else Path(value)


lake_option = click.option(
    "--lake", "lake_path", type=LakePlace(), default=None,
    help="Lake folder, or URL such as s3://bucket/lake to read from [ASTER_LAKE or data/lake].",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
start_option = click.option("--start", type=Utc(), default=None, help="UTC, inclusive.")
end_option = click.option("--end", type=Utc(), default=None, help="UTC, exclusive.")
symbols_option = click.option("--symbols", default=None, help="Comma-separated, such as BTCUSDT,ETHUSDT.")

tables_option = click.option("--tables", default=None, help="Comma-separated table names, such as trades,klines [all].")


def symbol_list(symbols: str | None) -> list[str] | None:
    """The symbols of ``--symbols``; None when it was not given.

    Raises
    ------
    ValueError
        When it was given and names none: a script's empty variable would ask for all.
    """
    return None if symbols is None else [symbol.upper() for symbol in names_in(symbols, "symbols", "BTCUSDT")]


def table_list(tables: str | None) -> list[str] | None:
    """The tables of ``--tables``; None when it was not given.

    Raises
    ------
    ValueError
        On a name that no table has, naming the one that was meant; when it was given and names none.
    """
    return None if tables is None else [table_named(name).name for name in names_in(tables, "tables", "trades")]


def names_in(text: str, what: str, example: str) -> list[str]:
    """The names of a comma-separated option.

    Raises
    ------
    ValueError
        When there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"{what}: expected at least one, such as {example}, got {text!r}")
    return names


def refuse_empty(start: datetime | None, end: datetime | None) -> None:
    """Refuse a range that holds no moment: "no rows" would be taken for an answer.

    Raises
    ------
    ValueError
        When ``--start`` is not before ``--end``.
    """
    if start is not None and end is not None and start >= end:
        raise ValueError(f"--start {start:%Y-%m-%d %H:%M} is not before --end {end:%Y-%m-%d %H:%M} (UTC)")


def open_lake(place: Path | str | None, *, create: bool = False) -> Lake:
    """The lake of ``--lake``, ``ASTER_LAKE`` or the checkout; one in object storage is only read."""
    place = place or os.environ.get("ASTER_LAKE") or default_lake()
    if "://" not in str(place):
        return Lake(Path(place), create=create)
    if create:
        raise ValueError(
            f"--lake {place}: a lake in object storage is only read; write to a folder and `aster push` it"
        )
    from data.object_store import RemoteLake

    return RemoteLake(str(place))


def lake_folder(place: Path | str | None) -> Path:
    """The folder of ``--lake``, ``ASTER_LAKE`` or the checkout, for commands that write where no lake may be yet."""
    place = place or os.environ.get("ASTER_LAKE") or default_lake()
    if "://" in str(place):
        raise ValueError(f"--lake {place}: expected a folder; write to one and `aster push` it there")
    return Path(place)
