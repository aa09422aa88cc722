"""``aster bench sweep``: the three paths of the sweep beside VectorBT's, same bars, same machine, one run.

Each side runs in a process of its own, one after the other, so that its peak memory is its own. Compiling is not timed;
the cold start, with caches on disk, is a figure of its own.

``python -m research.benchmarks.bench_sweep SIDE FOLDER`` is such a process: it measures one side on the arrays in
FOLDER and prints what it measured as JSON. The shortest of repeated sweeps counts, on all sides: other work on the
machine only ever adds time.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numba import prange

from data import schema
from data.benchmarks.figures import figure, peak_mib
from research import factorised, kernel, listed
from research import features as feature_kernels
from research.bars import Bars, signal_bars
from research.benchmarks import limits
from research.execution_bars import execution_bars
from research.fills import Market, Terms
from research.jit import njit
from research.recorded import Recorded, Substitutions
from research.strategies import momentum

TARGET_PRODUCT_RATIO = 2_000.0  # of the factorised path to from_signals
TARGET_RATIO = 300.0  # of an arbitrary list to from_signals
TARGET_CALLBACK_RATIO = 150.0  # of an arbitrary list to VectorBT's callback path
TARGET_MILLION_SECONDS = 15.0
TARGET_LISTED_MILLION_SECONDS = 180.0
TARGET_SECONDS_SECONDS = 10.0
TARGET_MIB = 2_048.0
TARGET_COLD_START_SECONDS = 5.0

KLINES_FILE = "klines/aster_BNBUSDT_1m.parquet"
BASELINE_CHUNK = 250  # prior-art 003's chunk: what fits into memory at a time
BASELINE_CONFIGS = 4 * BASELINE_CHUNK
_REPEATS = {
    "from_signals": 4, "callback": 4, "callback_orders": 4, "kernel": 10, "listed": 20, "factorised": 40, "limit": 10,
    "bytes": 1,
    "million": 2, "listed_million": 1, "seconds": 2,
}  # fmt: skip
_SYNTHETIC_MINUTES = 28 * 1_440
_SYNTHETIC_SECONDS = 28 * 86_400
MILLION = 1_000_000
SECONDS_CONFIGS = 1_000
_TICK_SIZE = 0.01

TERMS = Terms(
    taker_fee_bps=4.0,
    slippage_bps=0.5,
    notional_usdt=20.0,
    max_notional_usdt=40.0,
    min_notional_usdt=5.0,
    tick_size=_TICK_SIZE,
    step_size=0.01,
    min_quantity=0.01,
    max_quantity=2_000.0,
    entry_limit_ticks=1.0,
    cooldown_bars=1,
)


@dataclass(frozen=True, kw_only=True)
class Minutes:
    """What both sides sweep over.

    Parameters
    ----------
    what : where the bars come from, in words.
    features : every feature momentum's grid reads.
    """

    what: str
    market: Market
    features: dict[str, np.ndarray]


def momentum_grid() -> list[momentum.Params]:
    """All configurations of momentum's grid."""
    return [momentum.Params(*map(float, values)) for values in product(*momentum.GRID.values())]


# A million configs as one would ask for them: nine hundred entry settings times 1,120 exit settings.
MILLION_GRID = momentum.GRID | {
    "momentum_multiple": tuple(np.linspace(1.0, 2.8, 10)),
    "volume_multiple": tuple(np.linspace(1.0, 2.8, 10)),
    "target_bps": (100, 125, 150, 175, 200, 225, 250, 300),
    "stop_bps": (20, 30, 40, 50, 60, 75, 90),
    "activation_bps": (40, 50, 60, 80, 100),
    "callback_bps": (10, 15, 20, 30),
}

# Where the configs of an arbitrary list lie: no two of them share an exit plan, only windows come from a list.
RANGES = {
    "momentum_multiple": (1.0, 2.8),
    "volume_multiple": (1.0, 2.8),
    "target_bps": (100.0, 300.0),
    "stop_bps": (20.0, 90.0),
    "activation_bps": (40.0, 100.0),
    "callback_bps": (10.0, 30.0),
}


def random_configs(n_configs: int) -> np.ndarray:
    """Momentum configs drawn at random, seeded: float64 of shape (n_configs, n_params)."""
    random = np.random.default_rng(1)
    drawn = {
        name: random.uniform(*RANGES[name], n_configs) if name in RANGES else random.choice(values, n_configs)
        for name, values in momentum.GRID.items()
    }
    return np.column_stack(list(drawn.values())).astype(np.float64)


def bench_minutes(real_data: Path | None = None) -> Minutes:
    """BNBUSDT minutes of the real recordings where they are, else a seeded random walk of 28 days."""
    if real_data is not None and (real_data / KLINES_FILE).is_file():
        klines = pl.read_parquet(real_data / KLINES_FILE)
        return _minutes(f"{len(klines):,} recorded BNBUSDT minutes", klines)
    return _synthetic("1m", _SYNTHETIC_MINUTES)


def bench_seconds(n_rows: int = _SYNTHETIC_SECONDS) -> Minutes:
    """The same random walk on seconds."""
    return _synthetic("1s", n_rows)


def _synthetic(interval: str, n_rows: int) -> Minutes:
    random, step_ms = np.random.default_rng(0), schema.interval_ms(interval)
    moves = random.normal(0.0, 25.0 * math.sqrt(step_ms / 60_000), (n_rows, 4))
    prices = (90_000 + np.cumsum(np.rint(moves).ravel()).reshape(-1, 4)) * _TICK_SIZE
    klines = pl.DataFrame(
        {
            "open_time": step_ms * np.arange(n_rows),
            "open": prices[:, 0],
            "high": prices.max(axis=1),
            "low": prices.min(axis=1),
            "close": prices[:, 3],
            "volume": random.lognormal(3.0, 1.0, n_rows),
        }
    )
    return _minutes(f"{len(klines):,} synthetic {'minutes' if interval == '1m' else 'seconds'}", klines, interval)


def _minutes(what: str, klines: pl.DataFrame, interval: str = "1m") -> Minutes:
    """Bars and features from klines alone: a spread of one tick, the last price for the mark, no funding."""
    open_ms = klines["open_time"].to_numpy()
    rows = klines.select("open", "high", "low", "close", "volume", open_time=pl.col("open_time").cast(schema.TIME_MS))
    recorded = Recorded(
        klines=pl.concat([schema.KLINES.empty(), rows.with_columns(source=pl.lit("rest"))], how="diagonal_relaxed")
    )
    assumed = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=0.0, funding_interval_hours=8.0)
    signal = signal_bars(recorded, open_ms, interval=interval, tick_size=_TICK_SIZE, substitutions=assumed)
    execution = execution_bars(signal, recorded, latency_ms=0, substitutions=assumed)
    frame = signal.hstack(execution)
    bars = Bars(symbol="BNBUSDT", interval=interval, frame=frame, instrument={"tick_size": _TICK_SIZE})
    names = kernel.feature_names(momentum, momentum_grid())
    constants = {"tick_size": _TICK_SIZE, "taker_fee_bps": TERMS.taker_fee_bps}
    arrays = feature_kernels.compute(feature_kernels.arrays_of(bars), names, constants=constants)
    market = bars.market()._replace(can_enter=~np.isnan(bars.market().close))
    return Minutes(what=what, market=market, features=arrays)


def bench_sweep(minutes: Minutes, *, baseline_configs: int = BASELINE_CONFIGS) -> list[dict]:
    """Figures of all sides: what, value, unit, baseline, baseline_value, ratio, target, holds.

    Parameters
    ----------
    baseline_configs : how many of the grid's configurations VectorBT sweeps, in chunks of ``BASELINE_CHUNK``.
    """
    n_grid = len(momentum_grid())
    with TemporaryDirectory() as folder:
        _store(minutes, folder)
        baseline = _measure("from_signals", folder, baseline_configs)
        callback = _measure("callback", folder, baseline_configs)
        orders_alone = _measure("callback_orders", folder, BASELINE_CHUNK)
        for side in ("kernel", "listed", "factorised"):
            _measure(side, folder, 2)  # fills the caches on disk, so that the cold start below is one with caches
        fused = _measure("kernel", folder, n_grid)
        listed_ = _measure("listed", folder, n_grid)
        product_grid = _measure("factorised", folder, n_grid)
        limit = _measure("limit", folder, n_grid)
        read = _measure("bytes", folder, 0)
        _store(bench_minutes(), folder)
        million = _measure("million", folder, _size(MILLION_GRID))
        listed_million = _measure("listed_million", folder, MILLION)
        _store(bench_seconds(), folder)
        seconds = _measure("seconds", folder, SECONDS_CONFIGS)
    name = f"VectorBT from_signals, {BASELINE_CHUNK} configs at a time"
    same_metrics = "VectorBT, signals and stops in its callbacks, same metrics"
    orders_only = "VectorBT, signals and stops in its callbacks, orders alone"
    one_addition = "one addition per config and bar, nothing else"

    def speed(what: str, ours: dict, beside: str, other: dict, least: float | None = None) -> dict:
        return figure(
            f"{what}, {ours['configs']:,} configs over {minutes.what}",
            ours["config_bars"] / ours["seconds"],
            "config-bars/s",
            baseline=beside,
            baseline_value=other["config_bars"] / other["seconds"],
            ratio_at_least=least,
        )

    def duration(what: str, ours: dict, most: float | None = None) -> dict:
        return figure(what, ours["seconds"], "s", at_most=most)

    def memory(what: str, ours: dict) -> dict:
        return figure(
            f"peak memory of the {what}",
            ours["peak_mib"],
            "MiB",
            baseline=name,
            baseline_value=baseline["peak_mib"],
            at_most=TARGET_MIB,
        )

    return [
        speed("factorised sweep of a product", product_grid, name, baseline, TARGET_PRODUCT_RATIO),
        speed("sweep of an arbitrary list", listed_, name, baseline, TARGET_RATIO),
        speed("sweep of an arbitrary list", listed_, same_metrics, callback, TARGET_CALLBACK_RATIO),
        speed("sweep of an arbitrary list", listed_, orders_only, orders_alone),
        speed("fused kernel, config by config", fused, name, baseline),
        speed("factorised sweep of a product", product_grid, one_addition, limit),
        speed("sweep of an arbitrary list", listed_, one_addition, limit),
        speed("fused kernel, config by config", fused, one_addition, limit),
        *limits.limit_figures(
            [
                limits.fused(fused),
                limits.listed(listed_, listed.CONFIGS_PER_BLOCK),
                limits.factorised(product_grid, _entry_settings(momentum.GRID)),
            ],
            read["bytes_per_second"],
        ),
        duration(
            f"factorised sweep of {million['configs']:,} configs over 28 synthetic days",
            million,
            TARGET_MILLION_SECONDS,
        ),
        duration(
            f"sweep of a list of {listed_million['configs']:,} random configs over 28 synthetic days",
            listed_million,
            TARGET_LISTED_MILLION_SECONDS,
        ),
        duration(
            f"sweep of {seconds['configs']:,} configs over {_SYNTHETIC_SECONDS:,} synthetic seconds",
            seconds,
            TARGET_SECONDS_SECONDS,
        ),
        memory("factorised sweep", product_grid),
        memory("sweep of an arbitrary list", listed_),
        memory("fused kernel", fused),
        memory("million configs of a product", million),
        memory("million random configs", listed_million),
        memory("sweep over seconds", seconds),
        figure(
            "cold start to the first result, caches on disk, slowest path",
            max(side["cold_start_seconds"] for side in (fused, listed_, product_grid)),
            "s",
            baseline=name,
            baseline_value=baseline["cold_start_seconds"],
            at_most=TARGET_COLD_START_SECONDS,
        ),
    ]


def _store(minutes: Minutes, folder: str) -> None:
    np.savez(
        Path(folder) / "minutes.npz",
        **{f"market.{name}": column for name, column in minutes.market._asdict().items()},
        **{f"features.{name}": column for name, column in minutes.features.items()},
    )


def _stored(folder: str) -> Minutes:
    """What ``_store`` left there; the features as ``features.compute`` gives them."""
    stored = np.load(Path(folder) / "minutes.npz")
    market = Market(**{name: stored[f"market.{name}"] for name in Market._fields})
    names = [name for name in stored if name.startswith("features.")]
    features = {}
    for name, row in zip(names, np.empty((len(names), market.close.size)), strict=True):
        row[:] = stored[name]
        features[name.removeprefix("features.")] = row
    return Minutes(what="", market=market, features=features)


def _size(grid: dict[str, tuple[float, ...]]) -> int:
    return math.prod(len(values) for values in grid.values())


def _entry_settings(grid: dict[str, tuple[float, ...]]) -> int:
    return _size({name: values for name, values in grid.items() if name not in momentum.EXIT_PARAMS})


def _measure(side: str, folder: str, n_configs: int) -> dict:
    """Run one side in a fresh process."""
    started = time.time()
    command = [sys.executable, "-m", "research.benchmarks.bench_sweep", side, folder, str(n_configs), str(started)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _side(name: str) -> Callable[[Minutes, int], object]:
    """A sweep of so many of the grid's configs over some minutes."""
    if name in ("factorised", "million"):
        grid = MILLION_GRID if name == "million" else momentum.GRID
        return lambda minutes, n_configs: factorised.sweep(
            momentum, minutes.market, minutes.features, grid, TERMS, last_config=n_configs
        )
    if name in ("kernel", "seconds", "listed", "listed_million"):
        path = listed if name.startswith("listed") else kernel
        return lambda minutes, n_configs: path.sweep(
            momentum, minutes.market, minutes.features, random_configs(n_configs), TERMS
        )
    if name == "bytes":
        return lambda minutes, _: {"bytes_per_second": limits.bytes_per_second(minutes.market.close.size)}
    if name == "limit":
        return lambda minutes, n_configs: _add_only(minutes.market.exec_close, n_configs)
    from research.benchmarks.from_signals import callback_sweep, callback_trades, from_signals_sweep

    if name == "callback_orders":
        return lambda minutes, n_configs: callback_trades(minutes.market, minutes.features, _spread(n_configs), TERMS)
    if name == "callback":
        return lambda minutes, n_configs: callback_sweep(
            minutes.market, minutes.features, _spread(n_configs), TERMS, chunk_configs=BASELINE_CHUNK
        )
    return lambda minutes, n_configs: from_signals_sweep(
        minutes.market, minutes.features, _spread(n_configs), TERMS, chunk_configs=BASELINE_CHUNK
    )


@njit(parallel=True)
def _add_only(close, n_configs):
    """What passing every bar for every config costs at least: its equity is a sum that grows from bar to bar."""
    totals = np.empty(n_configs)
    for config in prange(n_configs):
        total = float(config)
        for i in range(close.size):
            total += close[i]
        totals[config] = total
    return totals


def _spread(n_configs: int) -> list[momentum.Params]:
    """So many configs spread over the grid, not its first corner."""
    grid = momentum_grid()
    return grid[:: len(grid) // n_configs][:n_configs]


def _main(side: str, folder: str, n_configs: str, started: str) -> None:
    minutes = _stored(folder)
    sweep = _side(side)
    sweep(minutes, 2)
    cold_start_seconds = time.time() - float(started)
    seconds = []
    for _ in range(_REPEATS[side]):
        start = time.perf_counter()
        found = sweep(minutes, int(n_configs))
        seconds.append(time.perf_counter() - start)
    told = found if isinstance(found, dict) else {}
    n_rows = minutes.market.close.size
    measured = {
        "configs": int(n_configs),
        "config_bars": int(n_configs) * n_rows,
        "seconds": min(seconds),
        "peak_mib": peak_mib(),
        "cold_start_seconds": cold_start_seconds,
    }
    if "exposure_bars" in told:
        measured["exposure"] = float(told["exposure_bars"].mean()) / n_rows
        measured["trades"] = float(told["trades"].sum())
    measured |= {name: value for name, value in told.items() if name == "bytes_per_second"}
    print(json.dumps(measured))


if __name__ == "__main__":
    _main(*sys.argv[1:])
