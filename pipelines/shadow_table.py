"""Champion and challengers, day by day: what each earned on the same feed."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl

from live.journal import read_journal
from live.journal_trades import trades_of
from live.shadows import shadows_folder

_DAY = pl.from_epoch("ts_ms", time_unit="ms").dt.date()


def daily_table(journal: Path) -> pl.DataFrame:
    """Every config of a run and of its shadows by UTC day of entry, the best of a day first.

    Returns
    -------
    day, role (champion, shadow), config_hash, symbol, strategy, trades, won, fees_usdt, funding_usdt, net_pnl_usdt,
    and ahead_usdt: how much more than the champion of the symbol that earned most that day, null for champions. A day
    without an entry has a row with zero trades, so that staying out is seen. An open trade counts with its last value.

    Raises
    ------
    LookupError
        When there is no such journal.
    """
    told = {journal: "champion"} | dict.fromkeys(sorted(shadows_folder(journal).glob("*.sqlite")), "shadow")
    events = {path: read_journal(path) for path in told}
    last = max(each.select(_DAY.max()).item() for each in events.values())
    table = pl.concat([account for path, role in told.items() for account in _accounts(events[path], role, last)])
    best = table.filter(role="champion").group_by("day", "symbol").agg(champion_usdt=pl.col("net_pnl_usdt").max())
    ahead = pl.when(pl.col("role") == "shadow").then(pl.col("net_pnl_usdt") - pl.col("champion_usdt"))
    return (
        table.join(best, on=["day", "symbol"], how="left")
        .with_columns(ahead_usdt=ahead)
        .drop("champion_usdt")
        .sort("day", "net_pnl_usdt", "config_hash", descending=[False, True, False])
    )


def _accounts(events: pl.DataFrame, role: str, last: date) -> Iterator[pl.DataFrame]:
    """Per config of a journal its account of every day from its first to ``last``."""
    of_configs = events.filter(pl.col("config_hash") != "")  # else they are of the run as a whole
    for (config_hash, symbol), own in of_configs.group_by("config_hash", "symbol", maintain_order=True):
        start = json.loads(own.filter(kind="start")["body"][0])
        ran = own.select(day=pl.date_range(_DAY.min(), last))
        net = pl.col("net_pnl_usdt")
        sums = pl.col("fees_usdt", "funding_usdt", "net_pnl_usdt").sum()
        by_day = trades_of(own).group_by(day=pl.col("entry_time").dt.date())
        account = by_day.agg(pl.len().alias("trades"), (net > 0.0).sum().alias("won"), sums)
        yield ran.join(account, on="day", how="left").select(
            "day",
            role=pl.lit(role),
            config_hash=pl.lit(config_hash),
            symbol=pl.lit(symbol),
            strategy=pl.lit(start["config"]["strategy"]),
            trades=pl.col("trades").fill_null(0).cast(pl.Int64),
            won=pl.col("won").fill_null(0).cast(pl.Int64),
            fees_usdt=pl.col("fees_usdt").fill_null(0.0),
            funding_usdt=pl.col("funding_usdt").fill_null(0.0),
            net_pnl_usdt=net.fill_null(0.0),
        )
