"""``aster clusters`` and ``aster signals``: liquidation maps and what they would have one do."""

import sys
from pathlib import Path

import click

from pipelines.options import (
    Seconds,
    Utc,
    end_option,
    json_option,
    lake_option,
    open_lake,
    refuse_empty,
    start_option,
    symbol_list,
)
from pipelines.terminal import print_json, print_rows, progress_bars

_SHOWN_MOMENTS = 200  # rows of a symbol's signals that anybody reads
SOURCES = ("aster", "binance", "hyperliquid", "okx", "force_orders", "hybrid")

source_option = click.option(
    "--source", type=click.Choice(SOURCES), default=None,
    help="Whose open interest the map is made of, or forced orders, or all of it [the first of these with data].",
)  # fmt: skip
settings_option = click.option(
    "--config", "config", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
    help="TOML: every_minutes, top, half_life_s, and in [map] what is assumed about positions. Each its own map.",
)  # fmt: skip


@click.command()
@click.option("--symbol", "symbols", required=True, help="One or more, comma-separated, such as BTCUSDT,ETHUSDT.")
@source_option
@start_option
@end_option
@click.option("--every", type=Seconds(), default=None, help="From one snapshot to the next, whole minutes [5m].")
@click.option(
    "--again",
    is_flag=True,
    help="Build from the beginning: with rows that came late another map beside the first; nothing is added twice.",
)
@settings_option
@lake_option
@json_option
def clusters(symbols, source, start, end, every, again, config, lake_path, as_json) -> None:
    """Build what is missing of liquidation maps and print the clusters alive at the end.

    Rows go into the lake's tables clusters, cluster_events, oi_state and heatmap: see them with `aster sql`. A symbol
    without real data has no clusters but a reason, and where no symbol has any the exit status is 1.
    """
    from pipelines.cluster_report import cluster_rows, map_json, map_title, risk_sentences
    from pipelines.clusters_job import build_map, read_map
    from research.clusters.inputs import Unavailable

    refuse_empty(start, end)
    lake, chosen = open_lake(lake_path), symbol_list(symbols)
    settings = _settings(config, every)
    told = []
    with progress_bars() as tell:
        for symbol in chosen:
            if again:
                build_map(lake, symbol, source, end, settings=settings, again=True, progress=tell)
            found = read_map(lake, symbol, source, start, end, settings=settings, tell_late=True, progress=tell)
            told.append((symbol, found))
    if as_json:
        print_json([map_json(symbol, found) for symbol, found in told])
    else:
        for symbol, found in told:
            if isinstance(found, Unavailable):
                print(f"{symbol}: no map: {found.reason}")
                continue
            print_rows(cluster_rows(found), map_title(found), right=("price",))
            for sentence in (
                *risk_sentences(found),
                *(f"{symbol}: {said}" for said in (*found.substituted, *found.late)),
            ):
                print(sentence)
    if all(isinstance(found, Unavailable) for _, found in told):
        sys.exit(1)


@click.command()
@click.option("--symbols", "--symbol", "symbols", default=None, help="Comma-separated, such as BTCUSDT,ETHUSDT.")
@source_option
@click.option("--at", type=Utc(), default=None, help="UTC, when the decision is made [now].")
@start_option
@end_option
@click.option("--cost-bps", type=float, default=None, help="Of a round trip; without it no break-even rate is told.")
@click.option("--min-strength", type=float, default=0.6, show_default=True, help="Of the cluster that is hunted.")
@click.option("--max-distance-bps", type=float, default=200.0, show_default=True, help="To that cluster.")
@click.option("--trend", "needs_trend", is_flag=True, help="Only along the trend (two means of 5-minute closes).")
@click.option(
    "--trend-bars", type=(int, int), default=(9, 21), show_default=True, help="Of the fast and the slow mean."
)
@settings_option
@lake_option
@json_option
def signals(
    symbols, source, at, start, end, cost_bps, min_strength, max_distance_bps, needs_trend, trend_bars, config,
    lake_path, as_json,
) -> None:  # fmt: skip
    """Print a signal per symbol, of all that are trading or of --symbols, at aster's prices.

    Maps are built up to that moment first. Symbols without real data are left out, with their reason. No edge is
    claimed: confidence is empty until it was calibrated.

    With --start, --end or both it is one per snapshot of the map of each of --symbols, at the moment from which the
    snapshot may be used: what --at tells of that moment. With --json it is a list. Where none of them is available
    the exit status is 1.
    """
    from pipelines.cluster_report import signal_rows
    from pipelines.signals_job import make_past_signals, make_signals
    from research.clusters.signals import Rules, batch

    is_range = start is not None or end is not None
    if is_range and at is not None:
        raise click.UsageError("--at is one moment, --start and --end are a range: give one or the other")
    if is_range and symbols is None:
        raise click.UsageError("a range is of --symbols: name them, such as --symbols BTCUSDT,ETHUSDT")
    refuse_empty(start, end)
    rules = Rules(
        cost_bps=cost_bps,
        min_strength=min_strength,
        max_distance_bps=max_distance_bps,
        needs_trend=needs_trend,
        trend_fast_bars=trend_bars[0],
        trend_slow_bars=trend_bars[1],
    )
    lake, chosen, settings = open_lake(lake_path), symbol_list(symbols), _settings(config, None)
    with progress_bars() as tell:
        manner = {"source": source, "settings": settings, "progress": tell}
        if is_range:
            made = make_past_signals(lake, chosen, start, end, rules, **manner)
        else:
            made = make_signals(lake, chosen, at, rules, **manner)
    if is_range:
        _tell_range(made, as_json)
        return
    told = batch(made)
    if as_json:
        print_json(told)
        return
    print_rows(signal_rows(made), "signals", right=("entry", "stop", "target", "reward/risk", "confidence"))
    for symbol, reason in told["omitted"].items():
        print(f"{symbol}: {reason}")


def _tell_range(made, as_json) -> None:
    """The signals of a range, symbol by symbol: of each as many rows as one reads, or for scripts a list of all."""
    from pipelines.cluster_report import past_sentences, past_signal_rows, past_title

    if as_json:
        print_json([each.as_json() for past in made.values() for each in past])
    for symbol, past in made.items():
        if not past:
            print(f"{symbol}: no snapshot of its map in this range", file=sys.stderr if as_json else sys.stdout)
        elif not as_json:
            rows = past_signal_rows(past)
            if rows:
                print_rows(rows[:_SHOWN_MOMENTS], past_title(past), right=("entry", "stop", "target", "reward/risk"))
            if len(rows) > _SHOWN_MOMENTS:
                print(f"... {len(rows) - _SHOWN_MOMENTS:,} more rows; narrow the range or use --json")
            for sentence in past_sentences(past):
                print(sentence)
    if not any(each.available for past in made.values() for each in past):
        sys.exit(1)


def _settings(config, every):
    """The settings of ``--config`` and ``--every``."""
    from dataclasses import replace

    from data.config import load
    from research.clusters.maps import MapSettings

    settings = MapSettings() if config is None else load(MapSettings, config)
    if every is None:
        return settings
    if every % 60:
        raise click.BadParameter(f"expected whole minutes, got {every:g} s", param_hint="--every")
    return replace(settings, every_minutes=int(every // 60))
