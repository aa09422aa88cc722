"""Child process of a warm start: reads bars from the lake and prints them as the exchange's REST would write them.

Or the minutes that a liquidation map is made of, with the open interest that no REST knows afterwards. The runner
itself never opens the lake, so DuckDB and its memory live as long as the reading does.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import polars as pl

from data.lake import Lake
from data.schema import interval_ms
from live.command_errors import errors_told
from live.map_feed import no_bars, told_history
from research.clusters.inputs import Unavailable, source_bars

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = ("open", "high", "low", "close", "volume")
MAP_REACH = timedelta(days=14)  # older positions are few, and clusters are compared with seven days
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


def map_minutes(lake: Lake, symbol: str, end_ms: int) -> dict[str, list]:
    """The minutes of ``MAP_REACH`` before the one that holds ``end_ms``; none where no open interest was recorded."""
    end = _EPOCH + timedelta(milliseconds=end_ms // interval_ms("1m") * interval_ms("1m"))
    bars = source_bars(lake, symbol, "aster", end - MAP_REACH, end)
    return told_history(no_bars(symbol) if isinstance(bars, Unavailable) else bars)


def _text(number: float | None) -> str:
    return "" if number is None else repr(number)


def _count(number: int | None) -> int:
    return -1 if number is None else number


@click.command()
@click.option("--lake", "root", type=click.Path(path_type=Path), required=True)
@click.option("--symbol", required=True)
@click.option("--interval", help="Of the bars; without it the minutes of a liquidation map are read.")
@click.option("--start-ms", type=int, help="Of the bars.")
@click.option("--end-ms", type=int, required=True)
def main(root: Path, symbol: str, interval: str | None, start_ms: int | None, end_ms: int) -> None:
    """Print what the lake holds as one JSON value."""
    with errors_told():
        lake = Lake(root)
        found = rest_klines(lake, symbol, interval, start_ms, end_ms) if interval else map_minutes(lake, symbol, end_ms)
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
