"""Child process of a warm start: reads bars from the lake and prints them as the exchange's REST would write them.

The runner itself never opens the lake, so DuckDB and its memory live as long as the reading does.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import polars as pl

from data.lake import Lake
from data.schema import interval_ms

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = ("open", "high", "low", "close", "volume")
_SUMS = ("quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume")


def rest_klines(lake: Lake, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[list]:
    """Rows of /fapi/v3/klines for the bars that open in [start_ms, end_ms) and that the lake holds."""
    start, end = (_EPOCH + timedelta(milliseconds=moment) for moment in (start_ms, end_ms))
    rows = lake.scan("klines", symbols=[symbol], start=start, end=end).filter(pl.col("interval") == interval)
    open_ms = rows["open_time"].dt.epoch("ms").to_list()
    columns = rows.select(*_NUMBERS, *_SUMS).iter_rows()
    return [
        [opened, *map(_text, row[:5]), opened + interval_ms(interval) - 1, _text(row[5]), _count(row[6]),
         _text(row[7]), _text(row[8]), "0"]
        for opened, row in zip(open_ms, columns, strict=True)
    ]  # fmt: skip


def _text(number: float | None) -> str:
    return "" if number is None else repr(number)


def _count(number: int | None) -> int:
    return -1 if number is None else number


@click.command()
@click.option("--lake", "root", type=click.Path(path_type=Path), required=True)
@click.option("--symbol", required=True)
@click.option("--interval", required=True)
@click.option("--start-ms", type=int, required=True)
@click.option("--end-ms", type=int, required=True)
def main(root: Path, symbol: str, interval: str, start_ms: int, end_ms: int) -> None:
    """Print the bars that the lake holds as one JSON array."""
    try:
        json.dump(rest_klines(Lake(root), symbol, interval, start_ms, end_ms), sys.stdout)
    except (KeyError, IndexError):
        raise  # our own bugs keep their traceback
    except (ValueError, LookupError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
