"""Random bars, full of what real ones do rarely, and configs that trade on them."""

from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomli_w

from live.journal import Journal
from live.recordings import replayed as on_recording
from live.recordings import run
from live.replay import write_recording
from live.replay_rows import Recording, open_recording
from research.bars import BARS, Bars
from research.engine import TradingConfig
from research.order_settings import Costs, Orders
from research.tests.random_clusters import random_columns
from research.worlds import momentum_world

FIRST_MS = 1_764_200_000_000 // 60_000 * 60_000
MINUTE_MS = 60_000
SYMBOL = "BNBUSDT"

Case = tuple[TradingConfig, Bars]


def a_config(**changes) -> TradingConfig:
    """Momentum that trades often; keywords replace params, costs or orders by name."""
    params = {
        "momentum_multiple": 0.2,
        "volatility_window_bars": 5,
        "volume_multiple": 0.5,
        "volume_window_bars": 10,
        "target_bps": 60,
        "stop_bps": 30,
        "activation_bps": 20,
        "activation_buffer_bps": 0.5,
        "callback_bps": 10,
        "target_gap_bps": 4,
        "max_spread_ticks": 5,
        "max_funding_bps": 1.5,
    }
    costs = {"taker_fee_bps": 4.0, "maker_fee_bps": 0.5, "slippage_bps": 0.5, "latency_ms": 150}
    orders = {"notional_usdt": 50.0, "max_notional_usdt": 200.0, "entry_limit_ticks": 2, "cooldown_bars": 1}
    parts = {"params": params, "costs": costs, "orders": {**orders, "entry_hours": tuple(range(24)), "resting": None}}
    rest = {}
    for name, value in changes.items():
        part = next((part for part in parts.values() if name in part), rest)
        part[name] = value
    parts["params"] = {name: float(value) for name, value in params.items()}
    return TradingConfig(
        strategy="momentum",
        symbol=rest.pop("symbol", SYMBOL),
        params=parts["params"],
        costs=Costs(**parts["costs"]),
        orders=Orders(**parts["orders"]),
        **rest,
    )


def random_case(seed: int) -> Case:
    """Bars whose prices, quotes, marks, clusters, funding and holes follow from the seed, and a config that trades."""
    random = np.random.default_rng([seed, 7])
    world = momentum_world(seed)
    market, terms, n_rows = world.market, world.terms, world.market.close.size
    is_gap = np.isnan(market.close)
    volume = np.where(random.random(n_rows) < 0.1, 0.0, random.lognormal(3.0, 1.0, n_rows))
    reach = random.exponential(5e-4, (2, n_rows))
    open_ = np.concatenate([market.close[:1], market.close[:-1]])
    late_ms = np.where(random.random(n_rows) < 0.03, 130_000, random.integers(200, 3_000, n_rows))
    open_ms = FIRST_MS + MINUTE_MS * np.arange(n_rows)
    avail_ms = np.maximum.accumulate(open_ms + MINUTE_MS + late_ms)
    config = a_config(
        momentum_multiple=float(random.choice([0.1, 0.5])),
        stop_bps=float(random.uniform(5, 60)),
        target_bps=float(random.uniform(20, 120)),
        activation_bps=float(random.uniform(5, 40)),
        callback_bps=float(random.uniform(10, 25)),
        max_spread_ticks=5.0,
        latency_ms=int(random.choice([0, 150, 2_000])),
        taker_fee_bps=terms.taker_fee_bps,
        slippage_bps=terms.slippage_bps,
        notional_usdt=terms.notional_usdt,
        max_notional_usdt=max(terms.max_notional_usdt, terms.notional_usdt, 5.0),
        entry_limit_ticks=int(terms.entry_limit_ticks),
        cooldown_bars=terms.cooldown_bars,
        entry_hours=tuple(range(24)) if random.random() < 0.7 else (23, 0, 2),
    )

    def seen(values: np.ndarray) -> np.ndarray:
        return np.where(is_gap, np.nan, values)

    forced_usdt = np.random.default_rng([seed, 9]).choice([0.0, 900.0, 7_000.0, 90_000.0], (2, n_rows))
    columns = {
        "open_time": open_ms,
        "close_time": open_ms + MINUTE_MS,
        "avail_time": avail_ms,
        "is_gap": is_gap,
        "open": seen(open_),
        "high": np.fmax(open_, market.close) * (1.0 + reach[0]),
        "low": np.fmin(open_, market.close) * (1.0 - reach[1]),
        "close": market.close,
        "volume": seen(volume),
        "quote_volume": seen(volume * market.close),
        "trade_count": seen(volume),
        "taker_buy_volume": seen(volume * random.random(n_rows)),
        "bid_price": market.bid,
        "bid_quantity": np.ones(n_rows),
        "ask_price": market.ask,
        "ask_quantity": np.ones(n_rows),
        "quote_age_ms": random.choice([0.0, 1_500.0, 2_500.0], n_rows, p=[0.6, 0.35, 0.05]),
        "mark_price": market.close / market.last_mark_ratio,
        "index_price": market.close,
        "mark_age_ms": random.choice([0.0, 2_900.0, 3_100.0], n_rows, p=[0.6, 0.35, 0.05]),
        "funding_rate": random.choice([1e-4, -5e-5, 2e-4], n_rows, p=[0.6, 0.35, 0.05]),
        "funding_interval_hours": np.full(n_rows, 8.0),
        "half_spread_bps": market.half_spread_bps,
        "last_mark_ratio": market.last_mark_ratio,
        "forced_sell_usdt": forced_usdt[0],
        "forced_buy_usdt": forced_usdt[1],
        "can_enter": market.can_enter,
        "exec_time": avail_ms + config.costs.latency_ms,
        **{name: column for name, column in market._asdict().items() if name.startswith("exec_")},
        **{f"exec_{name}": column for name, column in market._asdict().items() if name.startswith("mark_")},
        "exec_mark_close": market.mark_open,
        "funding_per_unit": market.funding_per_unit,
    }
    frame = pl.DataFrame(columns).select(list(BARS)).cast(BARS)
    frame = frame.hstack(random_columns(np.random.default_rng([seed, 8]), columns["mark_price"]))
    instrument = {
        "status": "TRADING",
        "tick_size": terms.tick_size,
        "step_size": terms.step_size,
        "min_quantity": terms.min_quantity,
        "max_quantity": terms.max_quantity,
        "market_max_quantity": None,
        "min_notional_usdt": terms.min_notional_usdt,
    }
    return config, Bars(symbol=SYMBOL, interval="1m", frame=frame, instrument=instrument)


@pytest.fixture
def config() -> Callable[..., TradingConfig]:
    """Builder of configs: ``config(stop_bps=20)``."""
    return a_config


@pytest.fixture
def case() -> Callable[[int], Case]:
    """Builder of a config with random bars to trade on: ``case(seed)``."""
    return random_case


@pytest.fixture
def recorded() -> Callable[..., Recording]:
    """A config and its bars as the recording that a child process would stream: ``recorded(config, bars)``."""

    def build(config: TradingConfig, bars: Bars) -> Recording:
        stream = BytesIO()
        write_recording(config, bars, stream)
        return open_recording(BytesIO(stream.getvalue()))

    return build


@pytest.fixture
def replayed(recorded, tmp_path) -> Callable[..., tuple[Path, str]]:
    """Replay cases into a journal: ``path, head = replayed(case(1), case(2))``."""

    def play(*cases: Case, path: Path | None = None) -> tuple[Path, str]:
        path = path or tmp_path / "replay.sqlite"
        seats = [on_recording(config, recorded(config, bars)) for config, bars in cases]
        with Journal(path) as journal:
            run(seats, journal)
            return path, journal.head

    return play


@pytest.fixture
def promoted(tmp_path) -> Callable[..., Path]:
    """A config as the file that promotion writes: ``promoted(config)``."""

    def write(config: TradingConfig, name: str = "chosen.toml", **changes) -> Path:
        document = {
            "config_hash": config.config_hash,
            "config": _without_none(asdict(config)),
            "provenance": {"run": "by hand"},
            **changes,
        }
        path = tmp_path / name
        path.write_text(tomli_w.dumps(document))
        return path

    return write


@pytest.fixture
def run_real(tmp_path, is_hedge):
    """Runs a row of the fault matrix and checks what must always hold: ``run_real(before=[...], minutes=4)``."""
    from live.tests.invariants import check
    from live.tests.real_run import often, real

    def play(name: str = "real", *, minutes: float = 3.5, changes=(), always=None, is_checked=True, **told):
        run = real(
            often(a_config, **dict(changes)), tmp_path / f"{name}.sqlite", minutes=minutes, is_hedge=is_hedge, **told
        )
        if is_checked:
            check(run, **(always or {}))
        return run

    return play


def _without_none(value):
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value
