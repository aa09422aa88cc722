"""``aster coverage``, ``verify``, ``compact``, ``push``, ``sizes`` and ``tail``: what a lake holds, and its upkeep."""

import sys
import time

import click

from pipelines.options import (
    Seconds,
    end_option,
    json_option,
    lake_folder,
    lake_option,
    open_lake,
    refuse_empty,
    start_option,
    symbol_list,
    symbols_option,
    table_list,
    tables_option,
)
from pipelines.terminal import ERRORS, print_json, print_rows, progress_bars

_SHOWN_DAYS = 40


@click.command()
@symbols_option
@tables_option
@start_option
@end_option
@click.option("--days", "by_day", is_flag=True, help="A line per day instead of one per stream.")
@lake_option
@json_option
def coverage(symbols, tables, start, end, by_day, lake_path, as_json) -> None:
    """What is recorded and what is missing, per table, symbol and UTC day.

    Bars and mark prices are counted against the range, trades by their ids. `aster repair` fills what is open; what is
    beyond repair the exchange does not have. With --json a list of all days.
    """
    from data.coverage import LEDGERS
    from data.coverage import coverage as coverage_frame
    from data.schema import TABLES
    from pipelines.lake_tables import FIGURES, day_rows, stream_rows

    refuse_empty(start, end)
    lake, wanted = open_lake(lake_path), symbol_list(symbols)
    frame = coverage_frame(lake, tables=table_list(tables), symbols=wanted, start=start, end=end)
    held = {symbol for table in TABLES if table not in LEDGERS for symbol in lake.symbols(table)} if wanted else set()
    if unknown := [symbol for symbol in wanted or () if symbol not in held]:
        ERRORS.print(
            f"the lake has no row of {', '.join(unknown)}: look at the spelling, or record it",
            markup=False,
            soft_wrap=True,
        )
    if as_json:
        print_json(frame.to_dicts())
        return
    if by_day:
        print_rows(day_rows(frame), "coverage by day", right=FIGURES)
        return
    print_rows(stream_rows(frame), "coverage", right=FIGURES)
    damaged = frame.filter(frame["state"].is_in(["open", "missing"])).sort("date", descending=True)
    if damaged.height:
        print()
        print_rows(day_rows(damaged.head(_SHOWN_DAYS)), "days that lack rows, latest first", right=FIGURES)
        if damaged.height > _SHOWN_DAYS:
            print(f"... and {damaged.height - _SHOWN_DAYS} more; see them with --days or --json")
        print(
            "fill holes between rows with `aster repair`, missing days and "
            "what lies before the first or after the last with `aster backfill`"
        )


@click.command()
@click.option(
    "--set-aside",
    is_flag=True,
    help="Move damaged files to LAKE/set_aside and make their rows again from the raw log; the rest becomes a gap.",
)
@lake_option
@json_option
def verify(set_aside, lake_path, as_json) -> None:
    """Prove every file of the lake against its manifest; exit status 1 when one fails."""
    from data.rebuild import rebuild
    from data.verify import verify as verify_files

    lake = open_lake(lake_path)
    with progress_bars() as tell:
        problems = verify_files(lake, lambda done, total: tell("files", done, total))
        told = [vars(problem).copy() for problem in problems]
        damaged = [row for row in told if row["table"] is not None]
        if set_aside:
            for done, row in enumerate(damaged, 1):
                rebuilt = rebuild(lake, row["path"])
                row["message"] += f"; moved to {rebuilt.aside}, {rebuilt.recovered} of {rebuilt.lost} rows made again"
                row |= {"aside": rebuilt.aside, "recovered": rebuilt.recovered, "gaps": rebuilt.gaps}
                tell("damaged files", done, len(damaged))
    files = len(lake.files())
    if as_json:
        print_json({"files": files, "problems": told})
    elif not told:
        print(f"{files} files verified, no problem")
    else:
        print_rows([{name: row[name] for name in ("path", "message")} for row in told], f"{len(told)} problems")
        if damaged and not set_aside:
            print("run `aster verify --set-aside` to make their rows again; nothing is deleted")
        elif any(row.get("gaps") for row in told):
            print("what the raw log no longer holds is in the gap ledger: `aster repair` asks the exchange for it")
    if told:
        sys.exit(1)


@click.command()
@tables_option
@click.option("--raw-days", type=click.IntRange(min=1), default=30, show_default=True, help="Days that raw rows stay.")
@lake_option
@json_option
def compact(tables, raw_days, lake_path, as_json) -> None:
    """Merge the lake's small files: hours that are over, then whole days. Running it again changes nothing.

    A recorder does this by itself. Closing a day also looks for rows that exist twice and for unknown gaps. Replaced
    files stay on the disk for a day, for those who still read them.
    """
    from data.lake import Lake
    from pipelines.upkeep import merge_files

    with progress_bars() as tell:
        found = merge_files(Lake(lake_folder(lake_path)), raw_days, tell, tables=table_list(tables))
    if as_json:
        print_json({"merged": [vars(each) for each in found.merged], "troubles": list(found.troubles),
                    "raw_files_retired": found.retired, "files_removed": found.removed})  # fmt: skip
    else:
        rows = [
            {
                "table": each.table,
                "date": each.day,
                "of": "hour" if each.level == 1 else "day",
                "files": f"{each.files_before} → {each.files_after}",
                "rows": f"{each.rows:,}",
                "MB": f"{each.bytes_before / 1e6:,.1f} → {each.bytes_after / 1e6:,.1f}",
                "twice": each.duplicates,
                "new gaps": each.gaps,
            }
            for each in found.merged
        ]
        print_rows(rows, "merged", right=("files", "rows", "MB")) if rows else print("nothing to merge")
        if found.retired or found.removed:
            print(f"{found.retired} raw files retired, {found.removed} replaced files removed from the disk")
        for trouble in found.troubles:
            print(trouble)
        if found.troubles:
            print("run `aster verify --set-aside`, then this again")
    if found.troubles:
        sys.exit(1)


@click.command()
@click.argument("url")
@lake_option
@json_option
def push(url, lake_path, as_json) -> None:
    """Copy to URL, such as s3://bucket/lake, what it lacks of the lake; interrupted, the next push goes on.

    Every file is proven before it leaves. There it is only read, with `--lake URL`. Keys come from the surroundings
    (AWS_ACCESS_KEY_ID, ~/.aws), never from the URL.
    """
    from data.lake import Lake
    from data.object_store import push as push_files

    lake = Lake(lake_folder(lake_path))
    with progress_bars() as tell:
        pushed = push_files(lake, url, tell)
    if as_json:
        print_json(vars(pushed).copy())
        return
    print(f"{pushed.url}: {pushed.copied:,} files copied, {pushed.copied_bytes / 1e6:,.1f} MB; "
          f"{pushed.present:,} were there, {pushed.removed:,} removed")  # fmt: skip


@click.command()
@tables_option
@click.option("--days", "by_day", is_flag=True, help="A line per table and day.")
@lake_option
@json_option
def sizes(tables, by_day, lake_path, as_json) -> None:
    """Rows, bytes and bytes per row of each table, or of each day of it."""
    from pipelines.lake_tables import FIGURES, left_over, shown_sizes, size_rows

    lake = open_lake(lake_path)
    chosen = table_list(tables)
    entries = [entry for entry in lake.files() if chosen is None or entry.table in chosen]
    rows, beside = size_rows(entries, by_day=by_day), left_over(lake)
    total = sum(row["bytes"] for row in rows)
    if as_json:
        print_json({"tables": rows, "bytes": total, **beside})
        return
    print_rows(shown_sizes(rows), str(lake.root), right=FIGURES)
    words = {"unsealed_log_bytes": "not sealed yet", "replaced_bytes": "replaced, removed a day later",
             "set_aside_bytes": "set aside"}  # fmt: skip
    parts = [f"{beside[name] / 1e6:,.1f} MB {what}" for name, what in words.items() if beside[name]]
    print(", ".join([f"{total / 1e6:,.1f} MB in {len(entries):,} files", *parts]))


@click.command()
@click.argument("table")
@symbols_option
@click.option("--columns", default=None, help="Comma-separated [the telling ones].")
@click.option("--last", "-n", type=click.IntRange(min=0), default=10, show_default=True, help="Rows to begin with.")
@click.option("--every", type=Seconds(), default="0.5s", show_default=True, help="How often to look.")
@click.option("--run-length", type=Seconds(), default=None, help="Stop by itself after this long [until Ctrl-C].")
@lake_option
@json_option
def tail(table, symbols, columns, last, every, run_length, lake_path, as_json) -> None:
    """Follow a table: its last rows, then each new one as it is recorded, sealed or not.

    With --json an object per line.
    """
    from data.lake_reader import table_named
    from pipelines.lake_tail import Lines, fresh_rows, shown_columns

    lake = open_lake(lake_path)
    chosen = shown_columns(table_named(table).name, columns.split(",") if columns else None)
    until = None if run_length is None else time.monotonic() + run_length
    lines = Lines()
    try:
        for rows in fresh_rows(
            lake,
            table,
            symbols=symbol_list(symbols),
            last=last,
            every_s=every,
            is_over=lambda: until is not None and time.monotonic() >= until,
        ):
            for row in rows.select(chosen).iter_rows(named=True):
                print_json(row) if as_json else print(lines.line(row))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return
