"""What a run did, from the journal: the object that ``--json`` prints, and the same for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from live.desk import Desk
from live.dispatch import Dispatcher
from live.journal_trades import trades as journal_trades
from live.shadows import Shadows


def summary(mode: str, desks: Sequence[Desk], path: Path, head: str) -> dict[str, Any]:
    """The run's totals and those of every config."""
    listed = [journal_trades(path, *desk.key) for desk in desks]
    configs = [
        {
            "config_hash": desk.key[0],
            "symbol": desk.key[1],
            "strategy": desk.rules.config.strategy,
            "rows": desk.header.rows,
            **_totals(trades),
            "assumptions": list(desk.header.assumptions),
        }
        for desk, trades in zip(desks, listed, strict=True)
    ]
    return {
        "mode": mode,
        **_totals(pl.concat(listed)),
        "journal": str(path),
        "chain_head": head,
        "configs": configs,
    }


def feed_summary(mode: str, dispatcher: Dispatcher, folder: Path, path: Path, head: str) -> dict[str, Any]:
    """The same for a run on an input log, with what its feed told.

    A backtest of the rows that open in [rows_start_ms, rows_end_ms) of the sealed log gives the journal's trades. At
    tick resolution it ends at ``ended_ms``, null where the log goes on; at bar resolution it leaves out the last row,
    whose window was not over.
    """
    seats = dispatcher.seats
    result = summary(mode, [seat.desk for seat in seats], path, head)
    feeds = [
        {
            "rows": seat.feed.bars + seat.feed.gaps,
            "bars": seat.feed.bars,
            "gaps": seat.feed.gaps,
            "past_gaps": seat.feed.past_gaps,
            "rows_start_ms": seat.feed.first_ms,
            "rows_end_ms": seat.feed.told_until_ms,
            "ended_ms": seat.feed.ended_ms,
        }
        for seat in seats
    ]
    return result | {
        "resolution": dispatcher.resolution,
        "feed": str(folder),
        "bars": sum(feed["bars"] for feed in feeds),
        "gaps": sum(feed["gaps"] for feed in feeds),
        "past_gaps": sum(feed["past_gaps"] for feed in feeds),
        "reconnects": dispatcher.reconnects,
        "configs": [config | feed for config, feed in zip(result["configs"], feeds, strict=True)],
    }


def shadows_summary(shadows: Shadows) -> dict[str, Any]:
    """The totals of every shadow, in their order."""
    told = [
        {
            "config_hash": shadow.config.config_hash,
            "symbol": shadow.config.symbol,
            "strategy": shadow.config.strategy,
            **_totals(journal_trades(shadow.journal.path, shadow.config.config_hash, shadow.config.symbol)),
            "journal": str(shadow.journal.path),
            "chain_head": shadow.journal.head,
        }
        for shadow in shadows.listed
    ]
    return {"shadows": told, "shadows_gave_up": shadows.gave_up}


def for_people(result: dict[str, Any]) -> list[str]:
    """The lines to print."""
    lines = []
    for config in result["configs"]:
        lines.append(
            f"{config['symbol']} {config['strategy']} {config['config_hash'][:10]}: {config['rows']} rows, "
            f"{config['trades']} trades, {config['open_trades']} open, net {config['net_pnl_usdt']:.4f} USDT "
            f"(fees {config['fees_usdt']:.4f}, funding {config['funding_usdt']:.4f})"
        )
        lines += [f"  {sentence}" for sentence in config["assumptions"]]
    if "feed" in result:
        before = f" ({result['past_gaps']} of them from before it listened)" if result["past_gaps"] else ""
        lines.append(
            f"{result['bars']} bars told, {result['gaps']} gaps{before}, {result['reconnects']} reconnects; input log "
            f"{result['feed']}"
        )
    for shadow in result.get("shadows", ()):
        lines.append(
            f"shadow {shadow['symbol']} {shadow['strategy']} {shadow['config_hash'][:10]}: {shadow['trades']} trades, "
            f"net {shadow['net_pnl_usdt']:.4f} USDT; journal {shadow['journal']}"
        )
    if result.get("shadows_gave_up"):
        lines.append("the shadows fell behind and gave up: replay the input log with --shadow to have them whole")
    return [*lines, f"journal {result['journal']}", f"chain head {result['chain_head']}"]


def _totals(trades: pl.DataFrame) -> dict[str, Any]:
    """Counts and sums of a trade list; an open position counts with its value at the end."""
    closed = trades.filter(pl.col("reason") != "open").height
    money = ("gross_pnl_usdt", "fees_usdt", "funding_usdt", "net_pnl_usdt")
    return {"trades": closed, "open_trades": trades.height - closed, **{name: trades[name].sum() for name in money}}
