"""What ``aster clusters`` and ``aster signals`` print."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from pipelines.clusters_job import StoredMap
from research import formats
from research.clusters import tables
from research.clusters.bands import banded
from research.clusters.inputs import Unavailable
from research.clusters.risk import LEVERAGE_RISK, MIN_DAYS, leverage_risk, volatility_after
from research.clusters.signals import LONG, NEUTRAL, SHORT, Signal

_ENDED = ("BROKEN", "FADED", "MERGED", "CONSUMED")


def living(found: StoredMap) -> pl.DataFrame:
    """The clusters of the last snapshot that have not ended, highest price first, with their bands as words."""
    alive = found.newest.filter("available", ~pl.col("state").is_in(_ENDED))
    return banded(alive).sort("price_level", descending=True)


def map_title(found: StoredMap) -> str:
    """Which map this is, and how old."""
    key = found.key
    prices = "" if key.venue == "aster" else f", prices of {key.venue}"
    at = found.newest["ts"].max()
    shown = "no snapshot in this range" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
    return f"{key.symbol} by {key.source}{prices}, {shown}, map {found.map_id}"


def cluster_rows(found: StoredMap) -> list[dict[str, Any]]:
    """The living clusters for a terminal."""
    return [
        {
            "id": row["cluster_id"],
            "side": row["side"],
            "state": row["state"].lower(),
            "price": f"{row['price_level']:.6g}",
            "distance": f"{formats.bps(row['dist_bps'])} bps, {row['distance_band']}",
            "at risk, USDT": f"{formats.usdt(_at_risk(row))}, {row['open_interest_band']}",
            "leverage": f"{formats.number(row['leverage_tier'], 0)}, {row['leverage_band']}",
            "strength": f"{formats.number(row['strength'], 2)}, {row['strength_band']}",
            "confidence": formats.number(row["confidence"], 2),
        }
        for row in living(found).iter_rows(named=True)
    ]


def map_json(symbol: str, found: StoredMap | Unavailable) -> dict[str, Any]:
    """One object per symbol for scripts: the living clusters with all their columns, or why there are none."""
    if isinstance(found, Unavailable):
        return {"symbol": symbol, "available": False, "reason": found.reason, "clusters": []}
    alive = living(found)
    return {
        "symbol": symbol,
        "available": True,
        "reason": None,
        "source": found.key.source,
        "venue": found.key.venue,
        "map_id": found.map_id,
        "ts": found.newest["ts"].max(),
        "built_until": found.until,
        "snapshots": found.oi_state.height,
        "substituted": list(found.substituted),
        "late": list(found.late),
        "clusters": alive.drop("venue", "symbol", "source", "map_id").to_dicts(),
        "leverage_risk": _leverage_risk(found).to_dicts(),
        "volatility": _volatility(found),
    }


def risk_sentences(found: StoredMap) -> list[str]:
    """What moves would liquidate, by the last snapshot; nothing where that is stale."""
    return [
        f"{found.key.symbol}: {formats.percent(row['move_bps'] / 1e4, decimals=0)} against {row['side']}s liquidates "
        f"{formats.usdt(row['at_risk_usdt'])} USDT, {formats.percent(row['share'])} of the open interest"
        for row in _leverage_risk(found).iter_rows(named=True)
    ]


def _leverage_risk(found: StoredMap) -> pl.DataFrame:
    last = found.heatmap.filter(pl.col("ts") == pl.lit(found.oi_state["ts"].max(), found.heatmap.schema["ts"]))
    return LEVERAGE_RISK.to_frame() if last.is_empty() else leverage_risk(tables.stored_profiles(last, found.oi_state))


def _volatility(found: StoredMap) -> list[dict[str, Any]]:
    """Whether volatility followed changes of open interest in the range read, and whether that is enough to say so."""
    rows = volatility_after(found.oi_state)
    return rows.with_columns(is_enough=pl.col("n_days") >= MIN_DAYS).to_dicts()


def signal_rows(made: Sequence[Signal]) -> list[dict[str, Any]]:
    """The signals for a terminal, trades first."""
    rows = sorted((each for each in made if each.available), key=lambda each: each.signal not in (LONG, SHORT))
    return [
        {
            "symbol": each.symbol,
            "signal": each.signal,
            "entry": f"{each.entry_price:.8g}",
            "stop": _price(each.stop_loss),
            "target": _price(each.take_profit),
            "reward/risk": formats.ratio(each.risk_reward),
            "confidence": formats.number(each.confidence, 2),
            "break-even": formats.percent(each.breakeven_winrate),
            "reason": each.reason,
        }
        for each in rows
    ]


def past_title(past: Sequence[Signal]) -> str:
    """Of which map one symbol's signals through a range are, and of when."""
    first, last = past[0], past[-1]
    return (
        f"{last.symbol} by {last.source}, {first.ts:%Y-%m-%d %H:%M} to {last.ts:%Y-%m-%d %H:%M} UTC, map {last.map_id}"
    )


def past_signal_rows(past: Sequence[Signal]) -> list[dict[str, Any]]:
    """One symbol's signals through a range for a terminal, narrow enough for a small one."""
    return [
        {
            "at, UTC": each.ts,
            "signal": each.signal,
            "entry": f"{each.entry_price:.8g}",
            "stop": _price(each.stop_loss),
            "target": _price(each.take_profit),
            "reward/risk": formats.ratio(each.risk_reward),
        }
        for each in past
        if each.available
    ]


def past_sentences(past: Sequence[Signal]) -> list[str]:
    """How many of one symbol's signals are trades, and why the last of the others is none."""
    symbol = past[0].symbol
    if len(past) == 1 and not past[0].available:
        return [f"{symbol}: {past[0].reason}"]
    kinds = {word: [each for each in past if each.signal == word] for word in (LONG, SHORT, NEUTRAL)}
    kinds["without a signal"] = [each for each in past if not each.available]
    counts = ", ".join(f"{len(those):,} {word}" for word, those in kinds.items() if those)
    return [f"{symbol}: of {len(past):,} moments {counts}"] + [
        f"{symbol}: the last {word}: {those[-1].reason}"
        for word, those in kinds.items()
        if those and word not in (LONG, SHORT)
    ]


def _at_risk(row: dict[str, Any]) -> float | None:
    """On aster where that is known, else on the source."""
    return row["mass_src_usd"] if row["open_interest"] is None else row["open_interest"]


def _price(value: float) -> str:
    return formats.UNKNOWN if value != value else f"{value:.8g}"
