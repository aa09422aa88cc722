"""``aster backfill`` and ``aster repair``: history and holes, asked of the exchange by REST."""

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pipelines.options import (
    Utc,
    end_option,
    json_option,
    lake_folder,
    lake_option,
    refuse_empty,
    start_option,
    symbol_list,
    symbols_option,
    table_list,
    tables_option,
)
from pipelines.terminal import ERRORS, print_json, print_rows, progress_bars
from research import formats

if TYPE_CHECKING:
    from data.backfill import Report
    from data.backfill_plan import Plan
    from data.lake import Lake

venue_option = click.option(
    "--venue", default="aster", show_default=True, help="aster, loopback, or URL of a loopback exchange."
)
weight_option = click.option(
    "--weight", type=click.IntRange(1, 2_400), default=1_200, show_default=True,
    help="Request weight per minute; the exchange grants 2400 to all programs of an address together.",
)  # fmt: skip


@click.command()
@click.option("--symbols", required=True, help="Comma-separated, such as BTCUSDT,ETHUSDT.")
@click.option("--start", type=Utc(), required=True, help="UTC, inclusive.")
@click.option("--end", type=Utc(), default=None, help="UTC, exclusive [now].")
@click.option("--tables", default=None, help="Of klines,mark_klines,index_klines,funding,trades [all].")
@click.option("--interval", default="1m", show_default=True, help="Of the klines.")
@venue_option
@weight_option
@click.option("--estimate", is_flag=True, help="Only say what it would take.")
@click.option("--yes", is_flag=True, help="Do not ask before it begins.")
@lake_option
@json_option
def backfill(symbols, start, end, tables, interval, venue, weight, estimate, yes, lake_path, as_json) -> None:
    """Fetch history: klines, mark and index klines, funding and aggregate trades.

    Asks only for what the lake lacks, newest first, and says before how long it takes. It may be interrupted at any
    moment: the same command goes on where it was. What the exchange does not have goes into the gap ledger.
    """
    from data.lake import Lake

    lake = Lake(lake_folder(lake_path), create=True)
    asked = {"symbols": symbol_list(symbols), "start": start, "end": end, "interval": interval}
    if tables:
        asked["tables"] = table_list(tables)
    plan, report = asyncio.run(_backfill(lake, venue, weight, asked, _Ask(estimate=estimate, yes=yes, as_json=as_json)))
    if report is None:
        if as_json:
            print_json(_estimate(plan))
        elif not plan.stretches:
            print("nothing is lacking that the exchange has")
        return
    lost = report.lost.select("table", "symbol", "interval", "from_time", "to_time", "missing")
    if as_json:
        print_json({**_estimate(plan), "landed": report.landed, "asked": report.asked,
                    "not_at_the_exchange": lost.to_dicts()})  # fmt: skip
        return
    print_rows([{"table": table, "rows landed": rows} for table, rows in sorted(report.landed.items())], "fetched")
    if lost.height:
        print_rows(lost.to_dicts(), "the exchange does not have (noted in the gap ledger)")
    print(f"{report.asked:,} answers, request weight {report.weight:,}; see `aster coverage`")


@click.command()
@symbols_option
@tables_option
@start_option
@end_option
@venue_option
@weight_option
@lake_option
@json_option
def repair(symbols, tables, start, end, venue, weight, lake_path, as_json) -> None:
    """Fill the open gaps of the ledger by REST, smallest first; may be interrupted and run again.

    Where a recorder has stopped, what is missing up to --end, or to the end of that UTC day, is a gap once it is over.
    Trades and klines come back exactly. Silences of mark prices become one-minute mark and index klines, which is
    less. Quotes, books and liquidations cannot be fetched. Exit status 1 when the exchange refused or did not answer.
    """
    from data.lake import Lake
    from pipelines.upkeep import fill_gaps

    refuse_empty(start, end)
    report = fill_gaps(
        Lake(lake_folder(lake_path)), venue, weight, _say,
        tables=table_list(tables), symbols=symbol_list(symbols), start=start, end=end,
    )  # fmt: skip
    if report is None:
        print_json({"gaps": 0, "trouble": []}) if as_json else print("no gap is open that could be repaired")
        return
    if as_json:
        print_json(vars(report))
    else:
        print_rows(
            [{"state": state, "gaps": count} for state, count in report.states.items()],
            f"gaps looked at: {report.gaps}",
        )
        print_rows([{"table": table, "rows landed": rows} for table, rows in report.rows.items()], "fetched")
        print(f"{report.asked:,} answers, request weight {report.weight:,}")
        for sentence in report.trouble:
            print(sentence)
        if report.states.get("open") and not report.trouble:
            print(
                "what is open still is too young: bars are asked for five minutes after they closed; repair again then"
            )
    if report.trouble:
        sys.exit(1)


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """Whether to begin, and how to say what it takes."""

    estimate: bool
    yes: bool
    as_json: bool

    def begins(self, plan: "Plan") -> bool:
        """Show the plan; true when it is to be carried out."""
        if not plan.stretches and not plan.absent:
            return False
        if not self.as_json:
            print_rows(plan.table(), "what the lake lacks")
            print(_cost(plan))
        if self.estimate or self.yes:
            return not self.estimate
        if not sys.stdin.isatty():
            raise click.ClickException("nobody is there to say whether to begin; add --yes")
        return click.confirm("begin?", default=True, abort=True, err=True)


async def _backfill(lake: "Lake", venue: str, weight: int, asked: dict, ask: _Ask) -> tuple["Plan", "Report | None"]:
    from data.backfill import backfill as fetch
    from data.backfill_plan import plan_backfill
    from data.venues.weights import Budget
    from pipelines.upkeep import exchange

    async with exchange(venue) as (rest, clock):
        budget = Budget(clock, weight)
        plan = await plan_backfill(lake, rest, budget, **asked)
        if not ask.begins(plan):
            return plan, None
        with progress_bars() as tell:
            return plan, await fetch(lake, rest, budget, clock, plan, tell=tell, say=_say)


def _say(sentence: str) -> None:
    ERRORS.print(sentence, markup=False)


def _cost(plan: "Plan") -> str:
    length = "less than a minute" if plan.minutes < 1 else f"about {formats.age(plan.minutes * 60)}"
    return (
        f"about {plan.rows:,} rows in {plan.requests:,} requests of weight {plan.weight:,}: {length} "
        f"at {plan.per_minute:,} a minute"
    )


def _estimate(plan: "Plan") -> dict:
    return {
        "stretches": plan.table(),
        "rows": plan.rows,
        "requests": plan.requests,
        "weight": plan.weight,
        "minutes": plan.minutes,
    }
