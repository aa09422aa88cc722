"""Clusters as a trade one could place: prior art's signal, with the prices of the venue that is traded.

The rule is prior art's liquidation hunt: go for the best cluster in reach, long for shorts above, short for longs
below. It adds what prior art leaves out: both sides are looked at before one is taken, the stop lies beyond a cluster
and never at one, reward over risk is that of the three prices told, and costs count. It claims no edge: ``confidence``
is NaN until it was calibrated, ``null_pvalue`` until the rule was tested against placebo maps.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from data.config import config_hash
from data.schema_clusters import SIGNALS
from data.table import conform
from research.clusters import bands
from research.clusters.levels import BPS, Level, breakeven_winrate, nearest_tick, on_grid, risk_reward, stop_beyond
from research.clusters.tables import NO_CLUSTERS

LONG, SHORT, NEUTRAL = "LONG", "SHORT", "NEUTRAL"
INTACT = ("CANDIDATE", "ACTIVE", "TOUCHED")  # prior art's "active": neither broken nor gone nor unseen


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which clusters count and where the orders go.

    Parameters
    ----------
    cost_bps : of a whole round trip, of notional. No default: no signal is free by accident. None where nobody knows
        it: no break-even rate is told then.
    min_strength, max_distance_bps : of the cluster that is hunted; prior art's 0.6 and 2 %.
    level_strength : from which on a cluster is a support or a resistance, and protects a stop; prior art's 0.5.
    min_target_bps, min_risk_reward : of a trade; less is not taken. Prior art's 0.25 % and 0.55.
    min_stop_bps, max_stop_bps : how far the stop lies from the entry.
    stop_margin_bps : between the far edge of a cluster and the stop beyond it.
    max_age_s : of clusters; older ones make no signal.
    valid_for_s : how long a signal holds.
    needs_trend : take only trades along the trend.
    trend_fast_bars, trend_slow_bars, trend_band_bps : of the trend, see ``levels.trend``; prior art's 9, 21 and 0.05 %.
    crowd_band : the crowd leans from this fraction on, by which longs over shorts differ from 1.
    """

    cost_bps: float | None
    strategy: str = "liquidation_hunt"
    min_strength: float = 0.6
    max_distance_bps: float = 200.0
    level_strength: float = 0.5
    min_target_bps: float = 25.0
    min_risk_reward: float = 0.55
    min_stop_bps: float = 30.0
    max_stop_bps: float = 300.0
    stop_margin_bps: float = 10.0
    max_age_s: float = 900.0
    valid_for_s: float = 300.0
    needs_trend: bool = False
    trend_fast_bars: int = 9
    trend_slow_bars: int = 21
    trend_band_bps: float = 5.0
    crowd_band: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.trend_fast_bars < self.trend_slow_bars:
            raise ValueError(
                f"trend: expected a fast mean of fewer bars than the slow one, got {self.trend_fast_bars} and "
                f"{self.trend_slow_bars}"
            )

    @property
    def rules_id(self) -> str:
        """12 hex digits: a hash of all of this."""
        return config_hash(self)[:12]


@dataclass(frozen=True, kw_only=True)
class Market:
    """What is known of a symbol on the venue that is traded.

    Parameters
    ----------
    price : the venue's own mark price, USDT.
    at : aware, when the decision is made; nothing later is looked at.
    trend : 1 up, -1 down, 0 neither; None where nobody asked.
    long_short_ratio, ratio_source : the crowd, and whose number it is; NaN and None where unknown.
    """

    symbol: str
    price: float
    at: datetime
    tick_size: float
    long_short_ratio: float = math.nan
    ratio_source: str | None = None
    trend: int | None = None


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One symbol's signal at one moment: the columns of ``SIGNALS``, NaN and None where there is nothing to tell."""

    symbol: str
    source: str
    map_id: str
    ts: datetime
    avail_time: datetime
    strategy: str
    rules_id: str
    available: bool
    reason: str
    venue: str = "aster"
    signal: str | None = None
    entry_price: float = math.nan
    stop_loss: float = math.nan
    take_profit: float = math.nan
    confidence: float = math.nan
    risk_reward: float = math.nan
    trend_aligned: bool | None = None
    cluster_id: int | None = None
    cluster_side: str | None = None
    price_level: float = math.nan
    price_lo: float = math.nan
    price_hi: float = math.nan
    strength: float = math.nan
    open_interest: float = math.nan
    distance_from_price: float = math.nan
    support_levels: tuple[float, ...] = ()
    resistance_levels: tuple[float, ...] = ()
    sentiment: str | None = None
    long_short_ratio: float = math.nan
    ratio_source: str | None = None
    valid_until: datetime | None = None
    cost_bps: float = math.nan
    breakeven_winrate: float = math.nan
    null_pvalue: float = math.nan

    def __post_init__(self) -> None:
        if self.signal in (LONG, SHORT):
            sign = 1 if self.signal == LONG else -1
            assert self.risk_reward == risk_reward(self.entry_price, self.stop_loss, self.take_profit), self
            assert sign * self.stop_loss < sign * self.entry_price < sign * self.take_profit, self

    def compact(self) -> dict[str, Any] | None:
        """dir, entry, sl, tp, conf, rr, trend_aligned: the short form of prior art; None without a trade."""
        if self.signal not in (LONG, SHORT):
            return None
        short = {
            "dir": self.signal,
            "entry": self.entry_price,
            "sl": self.stop_loss,
            "tp": self.take_profit,
            "conf": self.confidence,
            "rr": self.risk_reward,
            "trend_aligned": self.trend_aligned,
        }
        return {name: _plain(value) for name, value in short.items()}

    def as_json(self) -> dict[str, Any]:
        """Prior art's object and what this one adds to it; None for NaN, times as ISO 8601 UTC."""
        told = {name: _plain(value) for name, value in asdict(self).items()}
        cluster = {name: told.pop(name) for name in _CLUSTER}
        crowd = {name: told.pop(name) for name in ("sentiment", "long_short_ratio", "ratio_source")}
        del told["trend_aligned"]
        return {
            **told,
            "cluster_data": {"side": cluster.pop("cluster_side"), **cluster} if self.cluster_side else None,
            "market_sentiment": crowd,
            "compact": self.compact(),
        }


_CLUSTER = (
    "cluster_id", "cluster_side", "price_level", "price_lo", "price_hi", "strength", "open_interest",
    "distance_from_price",
)  # fmt: skip


def signal(clusters: pl.DataFrame, market: Market, rules: Rules, *, source: str, map_id: str) -> Signal:
    """What the newest clusters that are known at ``market.at`` say: LONG, SHORT or NEUTRAL, and why.

    Parameters
    ----------
    clusters : rows of ``CLUSTERS`` of one symbol and map, any number of snapshots; later ones are not looked at.
    source, map_id : which map; told too where it has no rows.

    Returns
    -------
    A signal that is not available, with its reason, where no real data stands behind it.
    """
    told = {
        "symbol": market.symbol,
        "source": source,
        "map_id": map_id,
        "ts": market.at,
        "avail_time": market.at,
        "strategy": rules.strategy,
        "rules_id": rules.rules_id,
    }
    known = clusters.filter(pl.col("avail_time") <= market.at)
    newest = known.filter(pl.col("ts") == pl.col("ts").max())
    missing = _missing(newest, market, rules, source)
    if missing:
        return Signal(**told, available=False, reason=missing)
    live = newest.filter("available", pl.col("state").is_in(INTACT))
    levels = [Level.of(row, market.price) for row in live.iter_rows(named=True)]
    ahead = [level for level in levels if level.is_ahead_of(market.price)]
    told |= {
        "available": True,
        "entry_price": nearest_tick(market.price, market.tick_size),
        "support_levels": _prices(ahead, "long", market, rules),
        "resistance_levels": _prices(ahead, "short", market, rules),
        "sentiment": _sentiment(market.long_short_ratio, rules.crowd_band),
        "long_short_ratio": market.long_short_ratio,
        "ratio_source": market.ratio_source,
        "valid_until": market.at + timedelta(seconds=rules.valid_for_s),
        "cost_bps": _cost_bps(rules),
    }
    outcomes = [_traded(level, levels, market, rules) for level in _hunted(ahead, rules)]
    trades = [outcome for outcome in outcomes if isinstance(outcome, _Trade)]
    if not trades:
        return Signal(**told, signal=NEUTRAL, reason=outcomes[0] if outcomes else _nothing_hunted(ahead, rules))
    return _told(max(trades, key=_Trade.rank), told, market, rules)


def signal_rows(signals: Iterable[Signal]) -> pl.DataFrame:
    """The signals as rows of ``SIGNALS``."""
    rows = [asdict(each) | {name: list(getattr(each, name)) for name in ("support_levels", "resistance_levels")}
            for each in signals]  # fmt: skip
    return conform(pl.DataFrame(rows, schema=SIGNALS.columns), SIGNALS)


def batch(signals: Sequence[Signal]) -> dict[str, Any]:
    """All symbols at once, as prior art's Aster batch: those with real data by name, the others with their reason."""
    return {
        "venue": "aster",
        "signals": {each.symbol: each.as_json() for each in signals if each.available},
        "omitted": {each.symbol: each.reason for each in signals if not each.available},
    }


@dataclass(frozen=True, kw_only=True)
class _Trade:
    """A cluster that can be traded, and at which prices."""

    level: Level
    sign: int
    stop: float
    target: float
    risk_reward: float

    def rank(self) -> tuple[float, float, float]:
        """Calibrated confidence decides, then strength, then reward over risk."""
        confidence = -1.0 if math.isnan(self.level.confidence) else self.level.confidence
        return confidence, self.level.strength, self.risk_reward


def _missing(newest: pl.DataFrame, market: Market, rules: Rules, source: str) -> str | None:
    """Why there is no signal at all, or None: there are clusters, or a map that shows none."""
    if newest.is_empty():
        return f"no map of {market.symbol} from {source} is known; run `aster clusters --symbol {market.symbol}`"
    age_s = (market.at - newest["avail_time"].max()).total_seconds()
    if age_s > rules.max_age_s:
        return f"the newest map of {market.symbol} from {source} is {age_s:.0f} s old, more than {rules.max_age_s:.0f}"
    told = newest.filter(~pl.col("available"), pl.col("reason") != NO_CLUSTERS)
    if told.height == newest.height:
        return told["reason"][0]
    if not math.isfinite(market.price) or market.price <= 0.0:
        return f"no price of {market.symbol} on the venue that is traded, of the last minute"
    return None if market.tick_size > 0.0 else f"the tick size of {market.symbol} is not known"


def _hunted(ahead: Sequence[Level], rules: Rules) -> list[Level]:
    return sorted(
        (
            level
            for level in ahead
            if level.strength >= rules.min_strength and level.distance_bps < rules.max_distance_bps
        ),
        key=lambda level: -level.strength,
    )


def _traded(level: Level, levels: Sequence[Level], market: Market, rules: Rules) -> "_Trade | str":
    """The trade on a cluster, or why it is none."""
    sign = 1 if level.side == "short" else -1
    name = f"the {level.side} cluster at {level.peak:g}"
    if rules.needs_trend and market.trend != sign:
        return f"{name} is not along the trend"
    entry = nearest_tick(market.price, market.tick_size)
    target = on_grid(level.peak, sign, market.tick_size)
    if sign * (target - entry) / entry * BPS < rules.min_target_bps:
        return f"{name} is nearer than {rules.min_target_bps:g} bps"
    stop = stop_beyond(
        entry,
        sign,
        levels,
        protecting=rules.level_strength,
        margin_bps=rules.stop_margin_bps,
        least_bps=rules.min_stop_bps,
        most_bps=rules.max_stop_bps,
        tick_size=market.tick_size,
    )
    if stop is None:
        return f"{name}: no stop within {rules.max_stop_bps:g} bps lies beyond the clusters"
    ratio = risk_reward(entry, stop, target)
    if ratio < rules.min_risk_reward:
        return f"{name} pays {ratio:.2f} of what its stop risks, less than {rules.min_risk_reward:g}"
    if breakeven_winrate(entry, stop, target, _cost_bps(rules)) >= 1.0:
        return f"{name} is nearer than a round trip costs"
    return _Trade(level=level, sign=sign, stop=stop, target=target, risk_reward=ratio)


def _told(trade: _Trade, told: dict[str, Any], market: Market, rules: Rules) -> Signal:
    level = trade.level
    at_risk = "unknown" if math.isnan(level.open_interest) else f"${_money(level.open_interest)}"
    word = bands.band(level.strength, bands.STRENGTH).capitalize()
    return Signal(
        **told,
        signal=LONG if trade.sign > 0 else SHORT,
        reason=f"{word} {level.side} liquidation cluster at ${level.peak:,.6g} (strength: {level.strength:.2f}, "
        f"OI: {at_risk} by {told['source']})",
        stop_loss=trade.stop,
        take_profit=trade.target,
        confidence=level.confidence,
        risk_reward=trade.risk_reward,
        breakeven_winrate=breakeven_winrate(told["entry_price"], trade.stop, trade.target, told["cost_bps"]),
        trend_aligned=None if market.trend is None else market.trend == trade.sign,
        cluster_id=level.cluster_id,
        cluster_side=level.side,
        price_level=level.peak,
        price_lo=level.lo,
        price_hi=level.hi,
        strength=level.strength,
        open_interest=level.open_interest,
        distance_from_price=level.distance_bps / 100.0,
    )


def _nothing_hunted(ahead: Sequence[Level], rules: Rules) -> str:
    wanted = f"no cluster of strength {rules.min_strength:g} within {rules.max_distance_bps:g} bps"
    if not ahead:
        return f"{wanted}: none is intact"
    # a strength that is not known is less than any: NaN would stay the best against all that follow it
    best = max(
        ahead,
        key=lambda level: (
            level.distance_bps < rules.max_distance_bps,
            -1.0 if math.isnan(level.strength) else level.strength,
        ),
    )
    if math.isnan(best.strength):
        return f"{wanted}: how strong the one at {best.distance_bps:.0f} bps is cannot be told yet"
    return f"{wanted}: the best has {best.strength:.2f} at {best.distance_bps:.0f} bps"


def _prices(ahead: Sequence[Level], side: str, market: Market, rules: Rules) -> tuple[float, ...]:
    """Strong enough levels of a side, nearest first."""
    strong = (level for level in ahead if level.side == side and level.strength >= rules.level_strength)
    near_first = sorted(strong, key=lambda level: level.distance_bps)
    return tuple(nearest_tick(level.peak, market.tick_size) for level in near_first)


def _sentiment(long_short_ratio: float, band: float) -> str:
    """How the crowd leans, in prior art's words."""
    if math.isnan(long_short_ratio):
        return "UNKNOWN"
    leaning = long_short_ratio - 1.0
    return "NEUTRAL" if abs(leaning) < band else "BULLISH_BIAS" if leaning > 0.0 else "BEARISH_BIAS"


def _cost_bps(rules: Rules) -> float:
    return math.nan if rules.cost_bps is None else rules.cost_bps


def _money(usdt: float) -> str:
    scale, letter = next(((scale, letter) for scale, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if usdt >= scale),
                         (1.0, ""))  # fmt: skip
    return f"{usdt / scale:.1f}{letter}"


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value
