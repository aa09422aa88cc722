"""Every backtest here fills where no order could have been filled, in the line that says so."""

import polars as pl

from research.bars import Bars


def same_bar_close(bars: pl.DataFrame) -> pl.DataFrame:
    trades = []
    for i in _entries(bars):
        trades.append(
            {
                "side": 1,
                "entry_row_time": bars["open_time"][i],
                "entry_time": bars["exec_time"][i],
                "entry_price": bars["close"][i],  # cheat
            }
        )
    return pl.DataFrame(trades)


def same_bar_low(bars: pl.DataFrame) -> pl.DataFrame:
    rows = bars[_entries(bars)]
    return rows.select(
        side=1,
        entry_row_time="open_time",
        entry_time="exec_time",
        entry_price="low",  # cheat
    )


def before_the_order_arrives(bars: pl.DataFrame) -> pl.DataFrame:
    rows = bars[_entries(bars)]
    return rows.select(
        side=1,
        entry_row_time="open_time",
        entry_time="close_time",  # cheat
        entry_price="exec_open",
    )


def over_gaps(bars: pl.DataFrame) -> pl.DataFrame:
    known = bars.with_columns(exec_open=pl.col("exec_open").fill_nan(None).forward_fill())
    held = [i for i in range(0, bars.height - 10, 3) if bars["exec_open"][i] > 0.0]
    entries, exits = bars[held], known[[i + 5 for i in held]]
    return entries.select(side=1, entry_time="exec_time", entry_price="exec_open").with_columns(
        exit_time=exits["exec_time"],
        exit_price=exits["exec_open"],  # cheat
    )


def best_of_the_window(bars: Bars) -> pl.DataFrame:
    frame = bars.frame
    rows = frame[_entries(frame)]
    return rows.select(
        side=1,
        entry_row_time="open_time",
        entry_time="exec_time",
        entry_price="exec_open",
        exit_time="exec_time",
        exit_price="exec_high",  # cheat
    )


def entries_chosen_by_hindsight(bars: pl.DataFrame) -> pl.DataFrame:
    rows = bars.filter(pl.col("exec_close") > pl.col("exec_open") * 1.0005)  # cheat
    return rows.select(
        side=1,
        entry_row_time="open_time",
        entry_time="exec_time",
        entry_price="exec_open",
    )


def _entries(bars: pl.DataFrame) -> list[int]:
    move = (bars["close"] / bars["open"] - 1.0).fill_nan(0.0)
    return [i for i in range(bars.height - 1) if move[i] > 2e-3 and bars["exec_open"][i] > 0.0]
