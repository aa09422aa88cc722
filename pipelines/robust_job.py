"""``aster robust``: a finished sweep's record on worse terms, drawn anew, and without its best parts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from data.lake import Lake
from data.schema import interval_ms
from pipelines.gate_job import ROBUST
from pipelines.runs import RunFolder
from pipelines.search_job import find_configs, with_is_found
from pipelines.sweep_job import bars_for
from research import formats
from research.bars import Bars
from research.evidence import Period, period_of, record_pnl
from research.gate import Finding
from research.portfolio_record import limits_in_words
from research.robustness import (
    BreakEven,
    DrawdownBand,
    break_even,
    drawdown_band,
    fewest_to_lose,
    left_out,
    robustness_finding,
)
from research.stage import Picks
from research.surface import STRAINS, Strains, folds_from, picks_anew, starts_of, surface_at, train_rows
from research.sweep import Evaluator, Fold, SweepConfig, folds_of
from research.walk_forward import Record

BLOCK_HOURS = (6, 24)  # what the bootstrap of drawdowns keeps together
SHOWN_PARTS = 10

_HOUR_MS = 3_600_000
_CENT = 0.005

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Robustness:
    """One symbol's record under strain.

    Attributes
    ----------
    surface : frame of ``research.surface.SURFACE``.
    bands : a band per length of ``BLOCK_HOURS`` of which the record has two; their periods are ``period_hours`` long.
    days, trades : frames of ``research.robustness.LEFT_OUT``.
    is_repeated : the record traded again on its own terms earned the same, to the cent.
    """

    symbol: str
    net_pnl_usdt: float
    surface: pl.DataFrame
    cost: BreakEven
    bands: tuple[DrawdownBand, ...]
    period_hours: float
    days: pl.DataFrame
    trades: pl.DataFrame
    is_repeated: bool
    finding: Finding


def run_robust(run: RunFolder, lake: Lake, progress: Progress, strains: Strains = STRAINS) -> list[Robustness]:
    """Strain the record of every symbol of a finished run and write ``robust.json``; what was there is replaced.

    The lake is read once per latency. ``progress`` is told (what, done, total).

    Raises
    ------
    LookupError
        When the run is not finished.
    ValueError
        When its symbols shared limits.
    """
    if run.config.portfolio is not None:
        raise ValueError(
            f"{run.path.name} traded within [portfolio] ({limits_in_words(run.config.portfolio)}), and every symbol is "
            "strained alone: sweep its config without [portfolio], and run `aster robust` on that"
        )
    found = [_examined(run, lake, symbol, strains, progress) for symbol in run.config.symbols]
    content = {
        "strains": asdict(strains),
        "symbols": {each.symbol: _as_json(each) for each in found},
        "without_symbol": symbols_left_out(found).to_dicts(),
    }
    run.write_json(ROBUST, content)
    return found


def symbols_left_out(found: list[Robustness]) -> pl.DataFrame:
    """The record of all symbols together without each of them; frame of ``research.robustness.LEFT_OUT``."""
    return left_out([each.symbol for each in found], [each.net_pnl_usdt for each in found])


def _examined(run: RunFolder, lake: Lake, symbol: str, strains: Strains, progress: Progress) -> Robustness:
    config = run.config
    record = Record(
        symbol, *(run.frame(f"walk_forward_{name}").filter(symbol=symbol) for name in ("folds", "trades", "equity"))
    )
    period = period_of(config.interval, record.equity.height)
    surface = _surface(run, lake, record, strains, period, progress)
    net = float(record.folds["net_pnl_usdt"].sum() or 0.0)
    again = surface.filter("is_own")["net_pnl_usdt"][0]
    cost = break_even(record.trades)
    days = _days(record.equity)
    period_ms = max(_HOUR_MS, interval_ms(config.interval))
    hours = Period(name="hour", bars=period_ms // interval_ms(config.interval), per_year=365 * 86_400_000 / period_ms)
    pnl = record_pnl(record.equity, hours)
    bands = (drawdown_band(pnl, block=max(1, length * _HOUR_MS // period_ms)) for length in BLOCK_HOURS)
    return Robustness(
        symbol=symbol,
        net_pnl_usdt=net,
        surface=surface,
        cost=cost,
        bands=tuple(band for band in bands if band is not None),
        period_hours=period_ms / _HOUR_MS,
        days=days,
        trades=left_out([_name(row) for row in record.trades.to_dicts()], record.trades["net_pnl_usdt"].to_list()),
        is_repeated=abs(again - net) < _CENT,
        finding=robustness_finding(surface, cost, days),
    )


def _surface(
    run: RunFolder, lake: Lake, record: Record, strains: Strains, period: Period, progress: Progress
) -> pl.DataFrame:
    """The record under every combination of the strains."""
    config = run.config
    own_bars = bars_for(config, lake, record.symbol)
    picks_by_start = _picks_by_start(run, own_bars, record, strains, progress)
    parts = []
    for place, added_ms in enumerate(strains.added_latency_ms):
        costs = replace(config.costs, latency_ms=config.costs.latency_ms + added_ms)
        bars = bars_for(replace(config, costs=costs), lake, record.symbol) if added_ms else own_bars
        tell = _piece(progress, f"surface {record.symbol}", place, len(strains.added_latency_ms))
        parts.append(
            surface_at(config, bars, picks_by_start, strains, latency_ms=costs.latency_ms, period=period, progress=tell)
        )
    return pl.concat(parts)


def _picks_by_start(
    run: RunFolder, bars: Bars, record: Record, strains: Strains, progress: Progress
) -> Mapping[int, Picks]:
    """The run's own picks, and those of the procedure on folds that begin later."""
    config, n_rows = run.config, bars.frame.height
    later = starts_of(config, n_rows, strains.starts)[1:]
    evaluator = Evaluator(config, bars) if later else None
    found = {0: _own_picks(run, record, folds_of(config, n_rows))}
    for place, start in enumerate(later):
        tell = _piece(progress, f"picks {record.symbol}", place, len(later))
        found[start] = _picks_anew(config, evaluator, record.symbol, folds_from(config, n_rows, start), tell)
    return found


def _own_picks(run: RunFolder, record: Record, folds: list[Fold]) -> Picks:
    """What the run picked, by its ranked table: of what an optimiser came to, the config file tells nothing."""
    numbers = record.folds["config"].to_list()
    is_picked = pl.col("config").is_in([number for number in numbers if number is not None])
    own = run.scan("results").filter(is_picked, symbol=record.symbol).collect()
    params = {row["config"]: run.config.params_of(row) for row in own.iter_rows(named=True)}
    return [(fold, None if number is None else params[number]) for fold, number in zip(folds, numbers, strict=True)]


def _picks_anew(
    config: SweepConfig, evaluator: Evaluator, symbol: str, folds: list[Fold], tell: Callable[[int, int], None]
) -> Picks:
    """What the procedure picks on folds of its own; an optimiser searches on them anew."""
    if config.search.method != "optuna":
        return picks_anew(config, partial(train_rows, config, evaluator, symbol), folds, tell)
    alone = replace(config, symbols=(symbol,))
    found, came_to = find_configs(alone, {symbol: folds}, lambda blocks: [evaluator(one) for one in blocks], tell)
    return picks_anew(
        found, lambda fold: with_is_found(train_rows(found, evaluator, symbol, fold), came_to), folds, tell
    )


def _piece(progress: Progress, what: str, place: int, places: int) -> Callable[[int, int], None]:
    """Tells how far one of several equal pieces of work is, as part of them all."""
    return lambda done, total: progress(what, place * total + done, places * total)


def _days(equity: pl.DataFrame) -> pl.DataFrame:
    """The record without each of the UTC days on which anything was earned or lost."""
    own = pl.col("equity_usdt")
    days = (
        equity.select(day=pl.col("time").dt.strftime("%Y-%m-%d"), net=own.diff().fill_null(own))
        .group_by("day", maintain_order=True)
        .agg(pl.col("net").sum())
        .filter(pl.col("net") != 0.0)
    )
    return left_out(days["day"].to_list(), days["net"].to_list())


def _name(trade: Mapping[str, Any]) -> str:
    """A trade by its entry and side."""
    return f"{formats.moment(trade['entry_time'])} {'long' if trade['side'] > 0 else 'short'}"


def _as_json(found: Robustness) -> dict[str, Any]:
    return {
        "finding": asdict(found.finding),
        "is_repeated": found.is_repeated,
        "net_pnl_usdt": found.net_pnl_usdt,
        "break_even": {
            name: None if math.isnan(value) else value
            for name, value in {**asdict(found.cost), "round_trip_bps": found.cost.round_trip_bps}.items()
        },
        "drawdown": [
            {
                "block_hours": band.block * found.period_hours,
                "observed_usdt": float(band.observed[-1]),
                "low_usdt": float(band.low[-1]),
                "median_usdt": float(band.median[-1]),
                "high_usdt": float(band.high[-1]),
                "share_deeper": band.share_deeper,
            }
            for band in found.bands
        ],
        "without_day": _parts(found.days),
        "without_trade": _parts(found.trades),
        "surface": found.surface.fill_nan(None).to_dicts(),
    }


def _parts(parts: pl.DataFrame) -> dict[str, Any]:
    return {
        "parts": parts.height,
        "fewest_to_lose": fewest_to_lose(parts),
        "best": parts.head(SHOWN_PARTS).to_dicts(),
    }
