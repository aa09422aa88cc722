"""Options that several commands share, so that they read and mean the same everywhere."""

import re
from datetime import datetime
from pathlib import Path

import click

from data.config import parse_utc

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


lake_option = click.option(
    "--lake", "lake_path", type=click.Path(path_type=Path), default=None, help="Lake folder [ASTER_LAKE or data/lake]."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
start_option = click.option("--start", type=Utc(), default=None, help="UTC, inclusive.")
end_option = click.option("--end", type=Utc(), default=None, help="UTC, exclusive.")
symbols_option = click.option("--symbols", default=None, help="Comma-separated, such as BTCUSDT,ETHUSDT.")


def symbol_list(symbols: str | None) -> list[str] | None:
    """The symbols of ``--symbols``; None when it was not given."""
    return [symbol.strip().upper() for symbol in symbols.split(",") if symbol.strip()] if symbols else None
