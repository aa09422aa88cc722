"""Child process of a replay: opens the lake, builds the bars and streams them to the runner.

``python -m live.replay`` writes an Arrow IPC stream to its standard output and ends. The runner itself never opens the
lake, so DuckDB and its memory live as long as the reading does.
"""

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import click
import numpy as np
import pyarrow as pa

from data.config import parse_utc
from data.lake import Lake, default_lake
from live.command_errors import errors_told
from live.config import load_chosen
from live.feed import Header, plain
from live.replay_rows import INPUT, MARKET, TIMES
from live.trading_rules import input_names
from research import features
from research.bars import Bars, build_bars
from research.cluster_bars import with_clusters_asked_for
from research.engine import TradingConfig, assumptions, feature_names
from research.strategies.registry import strategy

BATCH_ROWS = 512


def bars_of(config: TradingConfig, lake: Lake, start: datetime | None, end: datetime | None) -> Bars:
    """Bars of [start, end); without a bound, from the first or to the last kline there is."""
    if start is None or end is None:
        span = lake.span("klines", config.symbol)
        if span is None:
            raise LookupError(f"no klines for {config.symbol} in {lake.root}; run `aster record` or `aster import`")
        start, end = start or span[0], end or span[1] + timedelta(milliseconds=1)
    bars = build_bars(
        lake,
        config.symbol,
        start,
        end,
        interval=config.interval,
        latency_ms=config.costs.latency_ms,
        substitutions=config.substitutions,
    )
    names = feature_names(strategy(config.strategy), [config.typed_params()], config.orders)
    return with_clusters_asked_for(bars, lake, names)


def write_recording(config: TradingConfig, bars: Bars, sink: BinaryIO) -> None:
    """Stream bars so that ``live.replay_rows.open_recording`` reads them back."""
    frame, inputs = bars.frame, feature_inputs(config, bars)
    header = Header(
        config_hash=config.config_hash,
        symbol=bars.symbol,
        interval=bars.interval,
        rows=frame.height,
        instrument=plain(bars.instrument),
        inputs=tuple(inputs),
        assumptions=assumptions(config, bars),
    )
    columns = {name: frame[name].dt.epoch("ms").to_numpy() for name in TIMES}
    columns["is_gap"] = frame["is_gap"].to_numpy()
    columns |= {MARKET + name: column for name, column in bars.market()._asdict().items()}
    columns |= {INPUT + name: column for name, column in inputs.items()}
    table = pa.table(columns).replace_schema_metadata(header.to_metadata())
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)


def feature_inputs(config: TradingConfig, bars: Bars) -> dict[str, np.ndarray]:
    """The columns that the config's features and sizes are computed from."""
    arrays = features.arrays_of(bars)
    return {name: arrays[name] for name in input_names(config)}


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), required=True)
@click.option("--lake", "root", type=click.Path(path_type=Path))
@click.option("--start", type=parse_utc)
@click.option("--end", type=parse_utc)
def main(path: Path, root: Path | None, start: datetime | None, end: datetime | None) -> None:
    """Stream the bars of one config's symbol to the runner."""
    with errors_told():
        try:
            config = load_chosen(path).config
            write_recording(config, bars_of(config, Lake(root or default_lake()), start, end), sys.stdout.buffer)
        except BrokenPipeError:
            # The runner is gone. What Python still wants to flush at exit goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
