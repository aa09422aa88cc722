"""Settings of the prior systems as our own files: 001's ``settings.json``, 003's two configs.

Each symbol becomes a sweep's TOML of its own, to be swept, judged and promoted like any other; nothing is imported past
the gate. What such a file does not say (days, folds, costs) comes from a sweep that is given beside it: money has no
defaults. Unknown keys are refused by name, and what could not be carried over is told with its reason.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path
from typing import Any

import tomli_w

from data.config import load
from data.table import interval_ms
from pipelines.runs import write_whole
from research.engine import MIN_EXCHANGE_CALLBACK_BPS
from research.strategies import liquidation_fade
from research.strategies.registry import strategy
from research.sweep_config import SweepConfig

RISK = "risk.toml"
_RISK_HEAD = """\
# The limits of 001's settings. It had none on losses: write paper_equity_usdt, [account] and max_entries_per_hour by
# hand (live/docs/runbook.md); until then `aster promote --risk` refuses this file and names what it lacks.
"""

# 003's parameters and ours.
_MOMENTUM = {
    "k": "momentum_multiple",
    "T": "volatility_window_bars",
    "n": "volume_multiple",
    "V": "volume_window_bars",
    "tp_bps": "target_bps",
    "sl_bps": "stop_bps",
    "activation_bps": "activation_bps",
    "activation_buffer_bps": "activation_buffer_bps",
    "callback_bps": "callback_bps",
    "min_tp_gap_bps": "target_gap_bps",
    "spread_max": "max_spread_ticks",
    "funding_max": "max_funding_bps",
}
_SPREAD_TICKS = 2.0  # what 003's runner asks of a spread where it knows the tick size
_Config = make_dataclass("_Config", [(name, float) for name in _MOMENTUM], frozen=True, kw_only=True)
_Lists = make_dataclass("_Lists", [(name, tuple[float, ...]) for name in _MOMENTUM], frozen=True, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class _Swept:
    params: _Lists


@dataclass(frozen=True, kw_only=True)
class _GridFile:
    symbols: dict[str, _Swept]
    fee_bps: float | None = None
    slippage_bps: float | None = None
    inputs_csv: str | None = None
    output_dir: str | None = None


_OTHER_RULE = "a sweep of liquidation_fade asks for it: give one as --like"
_BOTH_SIDES = "liquidation_fade asks the same of both sides, in USDT"
_ACCOUNT = "one-way mode and isolated margin are what the runner expects of the account"
_RESTING = (
    "[orders.resting] of a sweep lets entries rest, with offset_bps and lifetime_ms of its own: a life must hold whole "
    "bars, so choose the interval with it"
)
# 001's keys that stay behind, by the reason.
_GLOBALS_LEFT = {
    _BOTH_SIDES: ("use_usdt_volume",),
    "paper is what happens without --mode real, and no file turns it on": ("simulate_only",),
    _ACCOUNT: (
        "multi_assets_mode",
        "hedge_mode",
        "set_leverage",
        "set_margin_type",
    ),
    _RESTING: ("order_ttl_seconds", "stale_limit_order_minutes"),
    "entries end at once or rest post-only; exits stand on the exchange from the fill on, one of each kind, each sent "
    "by itself": (
        "time_in_force",
        "order_cleanup_interval_seconds",
        "max_stop_orders_per_symbol",
        "enable_order_consolidation",
        "batch_orders",
        "use_position_monitor",
    ),
    "a config holds one position per symbol": ("tranche_pnl_increment_pct", "max_tranches_per_symbol_side"),
    "the runner keeps a reserve of request weight for exits by itself": ("rate_limit_buffer_pct",),
    "a run's journal is the file of --journal": ("db_path",),
}
_SYMBOL_LEFT = {
    _BOTH_SIDES: (
        "volume_threshold_long",
        "volume_threshold_short",
        "trade_side",
    ),
    _RESTING: ("price_offset_pct",),
    _ACCOUNT: ("margin_type", "position_side"),
    "size is a notional": ("trade_qty",),
    "stops are triggered by the mark, targets by the last price": ("working_type", "price_protect"),
}
_EXITS = {"take_profit": "target_bps", "stop_loss": "stop_bps"}


def _known(name: str, carried: Mapping[str, type], left: Mapping[str, Sequence[str]]) -> type:
    """A dataclass of all keys that there are; each may be missing."""
    fields = [(key, kind | None, None) for key, kind in carried.items()]
    fields += [(key, Any, None) for keys in left.values() for key in keys]
    return make_dataclass(name, fields, frozen=True, kw_only=True)


_Globals = _known(
    "_Globals",
    {"max_total_exposure_usdt": float, "max_open_orders_per_symbol": int, "volume_window_sec": float},
    _GLOBALS_LEFT,
)
_Symbol = _known(
    "_Symbol",
    {"leverage": float, "trade_value_usdt": float, "max_position_usdt": float, "volume_threshold": float}
    | {f"{way}_pct": float for way in _EXITS}
    | {f"{way}_enabled": bool for way in _EXITS},
    _SYMBOL_LEFT,
)


@dataclass(frozen=True, kw_only=True)
class _SettingsFile:
    globals: _Globals
    symbols: dict[str, _Symbol]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What became of a file of settings.

    Parameters
    ----------
    files : what was written: a sweep per symbol, and limits where there are some.
    notes : what was changed or stays behind, and why.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def import_settings(path: Path, *, format: str, like: Path, out: Path) -> Carried:
    """Write a prior system's settings as sweeps, each with one symbol.

    Parameters
    ----------
    format : settings (001's ``settings.json``), config or grid (003's ``config_current.json``, ``config_grid.json``).
    like : a sweep over a grid; what the settings do not say is taken from it.
    out : folder, created if missing.

    Raises
    ------
    ValueError
        On a key that is not known, by its name; on a value that a sweep refuses.
    FileExistsError
        When a file to be written is there already; nothing is written then.
    """
    load(SweepConfig, like, str(like))
    base = tomllib.loads(like.read_text(encoding="utf-8"))
    if "search" in base:
        raise ValueError(f"{like}: expected a sweep over a [grid] alone, got one with [search]; give another --like")
    documents, notes = _READERS[format](_json(path), path.name, base)
    if not documents.keys() - {RISK}:
        raise ValueError(f"{path.name}: expected at least one symbol, got none")
    if base.pop("portfolio", None) is not None:
        notes.append(f"[portfolio] of {like.name}: left out, each file sweeps one symbol")
    risk = documents.pop(RISK, None)
    files = {}
    for symbol, changes in documents.items():
        document = _merged(base, changes | {"name": f"{path.stem}-{symbol.lower()}", "symbols": [symbol]})
        load(SweepConfig, document, f"{path.name} [{symbol}] with {like.name}")
        files[out / f"{symbol.lower()}.toml"] = tomli_w.dumps(document)
    if risk is not None:
        files[out / RISK] = _RISK_HEAD + tomli_w.dumps(risk)
    if there := [str(file) for file in files if file.exists()]:
        raise FileExistsError(f"{', '.join(there)} would be replaced: move it away, or give another --out")
    out.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        write_whole(file, text.encode())
    return Carried(files=tuple(files), notes=tuple(dict.fromkeys(notes)))


def _json(path: Path) -> dict[str, Any]:
    """The file's object; ``//`` comments, which prior art's own examples have, are left out."""
    try:
        told = json.loads(re.sub(r'//[^"\n]*$', "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    return _table(told, path.name)


def _table(told: Any, where: str) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise ValueError(f"{where}: expected a table of keys, got {told!r}")
    return told


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep with some keys changed; tables key by key, but a whole grid."""
    merged = dict(base)
    for name, value in changes.items():
        is_table = isinstance(value, Mapping) and name != "grid"
        merged[name] = {**base.get(name, {}), **value} if is_table else value
    return merged


def _grid_file(told: dict[str, Any], where: str, base: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    file, notes = load(_GridFile, told, where), []
    costs = {"taker_fee_bps": file.fee_bps, "slippage_bps": file.slippage_bps}
    costs = {name: value for name, value in costs.items() if value is not None}
    for name in ("inputs_csv", "output_dir"):
        if getattr(file, name) is not None:
            notes.append(f"{name}: not carried over; a sweep reads the lake and writes into pipelines/runs")
    symbols = {symbol: asdict(swept.params) for symbol, swept in file.symbols.items()}
    return {symbol: _momentum(symbol, lists, notes) | {"costs": costs} for symbol, lists in symbols.items()}, notes


def _config_file(told: dict[str, Any], where: str, base: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    places = {symbol: f"{where} [{symbol}]" for symbol in told}
    configs = {symbol: asdict(load(_Config, _table(told[symbol], at), at)) for symbol, at in places.items()}
    lists = {symbol: {name: (value,) for name, value in config.items()} for symbol, config in configs.items()}
    return {symbol: _momentum(symbol, each, notes) for symbol, each in lists.items()}, notes


def _momentum(symbol: str, lists: Mapping[str, Sequence[float]], notes: list[str]) -> dict[str, Any]:
    """003's lists as a grid of momentum; what the exchange or a sweep cannot take is changed, and said."""
    grid = {ours: list(lists[theirs]) for theirs, ours in _MOMENTUM.items()}
    callbacks = list(dict.fromkeys(max(value, MIN_EXCHANGE_CALLBACK_BPS) for value in grid["callback_bps"]))
    if callbacks != grid["callback_bps"]:
        notes.append(
            f"{symbol} callback_bps {grid['callback_bps']}: {callbacks}, for the exchange takes no trailing order "
            f"under {MIN_EXCHANGE_CALLBACK_BPS:g} bps"
        )
    notes.append(
        f"{symbol} spread_max {grid['max_spread_ticks']}: max_spread_ticks {_SPREAD_TICKS:g}, as 003's runner where it "
        "knows the tick size; a distance in price is another number of ticks on every symbol"
    )
    return {"strategy": "momentum", "grid": grid | {"callback_bps": callbacks, "max_spread_ticks": [_SPREAD_TICKS]}}


def _settings_file(told: dict[str, Any], where: str, base: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    file = load(_SettingsFile, told, where)
    notes = _left("globals", file.globals, _GLOBALS_LEFT)
    window_s = file.globals.volume_window_sec
    documents = {symbol: _hunted(symbol, settings, window_s, base, notes) for symbol, settings in file.symbols.items()}
    most = [settings.max_position_usdt for settings in file.symbols.values() if settings.max_position_usdt is not None]
    entries = {
        "max_symbol_notional_usdt": max(most, default=None),  # every sweep has its own, which is no greater
        "max_total_notional_usdt": file.globals.max_total_exposure_usdt,
        "max_open_orders_per_symbol": file.globals.max_open_orders_per_symbol,
    }
    entries = {name: value for name, value in entries.items() if value is not None}
    return documents | ({RISK: {"entries": entries}} if entries else {}), notes


def _hunted(
    symbol: str, settings: Any, window_s: float | None, base: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Size, exits and rule of one of 001's symbols, as far as the strategy of the base has them."""
    notes += _left(symbol, settings, _SYMBOL_LEFT)
    orders, grid = {"leverage": settings.leverage, "max_notional_usdt": settings.max_position_usdt}, {}
    rule = {"volume_threshold": settings.volume_threshold, "volume_window_sec": window_s}
    if base["strategy"] == liquidation_fade.NAME:
        bar_s = interval_ms(base.get("interval", "1m")) / 1_000
        if rule["volume_threshold"] is not None:
            grid["min_usdt"] = [rule["volume_threshold"]]
        if window_s is not None:
            bars = max(1, round(window_s / bar_s))
            grid["forced_window_bars"] = [bars]
            if bars * bar_s != window_s:
                notes.append(f"{symbol} volume_window_sec {window_s:g}: {bars * bar_s:g} s, for a window is whole bars")
    elif told := [key for key, value in rule.items() if value is not None]:
        notes.append(f"{symbol} {', '.join(told)}: not carried over; {_OTHER_RULE}")
    if settings.trade_value_usdt is not None and settings.leverage is not None:
        orders["notional_usdt"] = settings.trade_value_usdt * settings.leverage
    elif settings.trade_value_usdt is not None:
        notes.append(
            f"{symbol} trade_value_usdt: not carried over; size is its product with a leverage, which is missing"
        )
    for way, ours in _EXITS.items():
        per_cent, is_off = getattr(settings, f"{way}_pct"), getattr(settings, f"{way}_enabled") is False
        if is_off:
            notes.append(f"{symbol} {way}_enabled: not carried over; no position is without its exits: those of --like")
        if per_cent is None or is_off:
            continue
        if ours in strategy(base["strategy"]).Params._fields:
            grid[ours] = [per_cent * 100.0]
        else:
            notes.append(f"{symbol} {way}_pct {per_cent:g}: not carried over; {base['strategy']} places its own")
    orders = {name: value for name, value in orders.items() if value is not None}
    return {"orders": orders, "grid": {**base["grid"], **grid}}


def _left(whose: str, settings: Any, left: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence per reason, with the keys that the file has."""
    found = {reason: [key for key in keys if getattr(settings, key) is not None] for reason, keys in left.items()}
    return [f"{whose} {', '.join(keys)}: not carried over; {reason}" for reason, keys in found.items() if keys]


_READERS = {"settings": _settings_file, "config": _config_file, "grid": _grid_file}
