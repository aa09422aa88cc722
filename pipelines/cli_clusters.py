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
    symbols, source, at, cost_bps, min_strength, max_distance_bps, needs_trend, trend_bars, config, lake_path, as_json
) -> None:
    """Print a signal per symbol, of all that are trading or of --symbols, at aster's prices.

    Maps are built up to that moment first. Symbols without real data are left out, with their reason. No edge is
    claimed: confidence is empty until it was calibrated.
    """
    from pipelines.cluster_report import signal_rows
    from pipelines.signals_job import make_signals
    from research.clusters.signals import Rules, batch

    rules = Rules(
        cost_bps=cost_bps,
        min_strength=min_strength,
        max_distance_bps=max_distance_bps,
        needs_trend=needs_trend,
        trend_fast_bars=trend_bars[0],
        trend_slow_bars=trend_bars[1],
    )
    with progress_bars() as tell:
        made = make_signals(
            open_lake(lake_path),
            symbol_list(symbols),
            at,
            rules,
            source=source,
            settings=_settings(config, None),
            progress=tell,
        )
    told = batch(made)
    if as_json:
        print_json(told)
        return
    print_rows(signal_rows(made), "signals", right=("entry", "stop", "target", "reward/risk", "confidence"))
    for symbol, reason in told["omitted"].items():
        print(f"{symbol}: {reason}")


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
