"""The tables of liquidation maps: derived rows, made again at any time from market data.

Every row says what it describes (``ts``), from when on a decision may use it (``avail_time``), whose data it is made of
(``source``) and by which settings (``map_id``, a hash of them). Building the same map again adds nothing; another one
stands beside it. ``venue`` is where the prices hold: aster, unless the map was left on its source's own prices.

Long are positions that a falling price liquidates (forced SELL orders, below the mark), short the others. Money is
USDT, one-sided: every contract has one long and one short.
"""

import polars as pl

from data.table import TIME_MS, Table

_MAP = {
    "venue": pl.String,
    "symbol": pl.String,
    "source": pl.String,  # aster, binance, hyperliquid, okx: predicted from their open interest; force_orders; hybrid
    "map_id": pl.String,  # hash of the settings
    "ts": TIME_MS,  # what the row describes: the end of its bar
    "avail_time": TIME_MS,  # the earliest moment a decision may use it
}
_OF_MAP = ("venue", "symbol", "source", "map_id", "ts")

CLUSTERS = Table(
    name="clusters",  # every living cluster of every snapshot; one row with available false where there is no real data
    time="ts",
    key=(*_OF_MAP, "cluster_id"),
    fallback_key=(*_OF_MAP, "reason"),  # of rows that say that there is nothing
    arrival=(),
    columns=pl.Schema(
        {
            **_MAP,
            "cluster_id": pl.Int64,  # rising per symbol, source and map, never used twice
            "side": pl.String,  # long, short
            "state": pl.String,  # CANDIDATE, ACTIVE, TOUCHED, BROKEN, FADED, MERGED, SPLIT, STALE
            "active": pl.Boolean,  # ACTIVE or TOUCHED
            "price_level": pl.Float64,  # centre of the peak's bucket
            "price_lo": pl.Float64,
            "price_hi": pl.Float64,
            "distance_from_price": pl.Float64,  # per cent of the mark, never negative: the unit that prior art shows
            "dist_bps": pl.Float64,  # signed, positive above the mark
            "dist_sigma": pl.Float64,  # near edge's distance in standard deviations of the price over the horizon
            "open_interest": pl.Float64,  # USDT at risk in [price_lo, price_hi]; null where aster's is not recorded
            "mass_src_usd": pl.Float64,  # the same on the source venue; times aster's share of it is open_interest
            "leverage_tier": pl.Float64,  # mean leverage by mass; NaN where unknown
            "liquidation_count": pl.Float64,  # open_interest over the week's median forced order; null below 30 of them
            "strength": pl.Float64,  # 0-1: rank of the mass among the symbol's past 7 days, side and distance band
            "zscore": pl.Float64,
            "strength_seed": pl.Float64,  # 0-1: the formula of prior art, for comparison only
            "confidence": pl.Float64,  # p_touch x p_liq_touch; NaN until calibrated
            "p_touch": pl.Float64,  # of being reached within the horizon
            "p_liq_touch": pl.Float64,  # of liquidations there when reached
            "horizon_s": pl.Int64,
            "calibrated": pl.Boolean,
            "calib_id": pl.String,
            "oi_age_s": pl.Float64,  # of the open interest, at ts; null in maps that are not of one source's
            "basis_bps": pl.Float64,  # aster's mark over the source's
            "basis_deviation_bps": pl.Float64,  # how far the level may be off on aster
            "reactive_usdt": pl.Float64,  # faded notional of the forced orders inside it; hybrid maps
            "layers": pl.String,  # the maps of a hybrid one that were fresh, joined by "+"
            "coverage": pl.Float64,  # share of the open interest that the map places inside its window
            "firstSeen": TIME_MS,
            "lastSeen": TIME_MS,
            "last_updated": TIME_MS,
            "available": pl.Boolean,
            "reason": pl.String,  # why not; null where available
        }
    ),
)
CLUSTER_EVENTS = Table(
    name="cluster_events",  # what became of the clusters, in order
    time="ts",
    key=(*_OF_MAP, "event_id"),
    arrival=(),
    columns=pl.Schema(
        {
            **_MAP,
            "event_id": pl.Int64,  # rising per symbol, source and map
            "cluster_id": pl.Int64,
            "side": pl.String,
            "event": pl.String,  # the state entered
            "price_lo": pl.Float64,
            "price_peak": pl.Float64,
            "price_hi": pl.Float64,
            "mass_usd": pl.Float64,
            "swept_usd": pl.Float64,
            "consumed_frac": pl.Float64,  # fraction of its mass that the price swept
            "realised_usd": pl.Float64,  # forced orders seen inside it
            "n_prints": pl.Int64,
            "mark": pl.Float64,
            "dist_bps": pl.Float64,
            "age_s": pl.Float64,
            "conf": pl.Float64,
            "parent_id": pl.Int64,  # merged into, split from
        }
    ),
)
OI_STATE = Table(
    name="oi_state",
    time="ts",
    key=_OF_MAP,
    arrival=(),
    columns=pl.Schema(
        {
            **_MAP,
            "total_oi_usd": pl.Float64,  # one-sided, at the source's mark
            "long_oi_usd": pl.Float64,  # the total: every contract has one long
            "short_oi_usd": pl.Float64,  # the total: and one short
            "long_short_ratio": pl.Float64,  # of accounts or top traders' positions, never of the book; NaN if unknown
            "ratio_source": pl.String,  # the kind of ``ratios`` and its venue
            "oi_base": pl.Float64,
            "oi_delta": pl.Float64,  # base, since the snapshot before
            "funding": pl.Float64,  # fraction per funding interval
            "taker_buy_share": pl.Float64,  # fraction of the volume since the snapshot before
            "swept_long_usd": pl.Float64,  # since the snapshot before
            "swept_short_usd": pl.Float64,
            "placed_share": pl.Float64,  # fraction of the open interest inside the map's window
            "mark_price": pl.Float64,  # that the window is centred on
            "basis_bps": pl.Float64,  # aster's mark over the source's; null on the source's own prices
            "basis_deviation_bps": pl.Float64,  # how uncertain that is
            "is_stale": pl.Boolean,  # an input was missing or too old
            "age_s": pl.Float64,  # of the open interest
        }
    ),
)
HEATMAP = Table(
    name="heatmap",  # the map itself, a row per snapshot and side; research.clusters.tables decodes it
    time="ts",
    key=(*_OF_MAP, "side"),
    arrival=(),
    columns=pl.Schema(
        {
            **_MAP,
            "side": pl.String,
            "first_bucket": pl.Int64,  # of log price, absolute: the first bin starts at exp(first_bucket / 1000)
            "mark_price": pl.Float64,
            "peak_usdt": pl.Float64,  # the largest bin, exact
            "total_usdt": pl.Float64,  # all bins, exact
            "bins": pl.Binary,  # a byte per bucket: the logarithm of its mass below the peak; 0 is nothing
            "leverage_bins": pl.Binary,  # a byte per bucket: the logarithm of its mean leverage; null where unknown
        }
    ),
)
SIGNALS = Table(
    name="signals",  # one per symbol and moment; available false where there is no real data
    time="ts",
    key=("venue", "symbol", "strategy", "rules_id", "source", "map_id", "ts", "available"),
    arrival=(),
    columns=pl.Schema(
        {
            **_MAP,
            "strategy": pl.String,
            "rules_id": pl.String,  # hash of its parameters
            "available": pl.Boolean,
            "signal": pl.String,  # LONG, SHORT, NEUTRAL
            "entry_price": pl.Float64,  # aster's
            "stop_loss": pl.Float64,
            "take_profit": pl.Float64,
            "confidence": pl.Float64,  # NaN until calibrated
            "risk_reward": pl.Float64,  # reward over risk of the three prices above
            "reason": pl.String,
            "trend_aligned": pl.Boolean,
            "cluster_id": pl.Int64,
            "cluster_side": pl.String,
            "price_level": pl.Float64,
            "price_lo": pl.Float64,
            "price_hi": pl.Float64,
            "strength": pl.Float64,
            "open_interest": pl.Float64,
            "distance_from_price": pl.Float64,  # as in clusters
            "support_levels": pl.List(pl.Float64),  # long clusters, nearest first
            "resistance_levels": pl.List(pl.Float64),  # short clusters, nearest first
            "sentiment": pl.String,  # BULLISH_BIAS, BEARISH_BIAS, NEUTRAL, UNKNOWN
            "long_short_ratio": pl.Float64,
            "ratio_source": pl.String,
            "valid_until": TIME_MS,
            "cost_bps": pl.Float64,  # of a round trip
            "breakeven_winrate": pl.Float64,  # fraction, after costs
            "null_pvalue": pl.Float64,  # of the strategy against placebo maps; NaN where not tested
        }
    ),
)
CLUSTER_TABLES = (CLUSTERS, CLUSTER_EVENTS, OI_STATE, HEATMAP, SIGNALS)
DERIVED = tuple(table.name for table in CLUSTER_TABLES)  # nothing of these is recorded: no completeness, no gaps
