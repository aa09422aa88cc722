"""The reference's momentum and what it shares: entry rule, gates and floors once more, in plain Python."""

import math

from research.fills import Decision
from research.strategies import momentum

NO_TRADE = Decision(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)


def momentum_decision(row: dict, params: momentum.Params) -> Decision:
    """Momentum's entry rule, gates and floors; ``row`` holds the fields of ``momentum.Row``. NaN keeps out."""
    heavy = row["volume"] > params.volume_multiple * row["mean_volume"]
    threshold_bps = params.momentum_multiple * row["volatility_bps"]
    if heavy and row["return_bps"] > threshold_bps:
        side, opening_loss_bps = 1, row["opening_loss_long_bps"]
    elif heavy and row["return_bps"] < -threshold_bps:
        side, opening_loss_bps = -1, row["opening_loss_short_bps"]
    else:
        return NO_TRADE
    if is_barred(row, params, opening_loss_bps):
        return NO_TRADE

    activation_bps = max(params.activation_bps, breakeven_bps(row, opening_loss_bps) + params.activation_buffer_bps)
    target_bps = max(params.target_bps, activation_bps + params.target_gap_bps)
    return Decision(
        side=side,
        stop_bps=params.stop_bps,
        target_bps=target_bps,
        activation_bps=activation_bps,
        callback_bps=params.callback_bps,
        stop_price=math.nan,
        target_price=math.nan,
    )


def is_barred(row: dict, params: tuple, opening_loss_bps: float) -> bool:
    """True when a gate is closed, or something that it goes by is not known."""
    needed = ("spread_ticks", "spread_bps", "funding_bps", "funding_interval_hours", "quote_age_ms", "mark_age_ms")
    if any(math.isnan(value) for value in (opening_loss_bps, row["taker_fee_bps"], *(row[name] for name in needed))):
        return True
    loss_limit_bps = min(10.0, max(5.0, 2.0 * row["spread_bps"]))
    return any(
        (
            row["spread_ticks"] > params.max_spread_ticks,
            abs(row["funding_bps"]) > params.max_funding_bps,
            opening_loss_bps > loss_limit_bps,
            row["quote_age_ms"] > 2_000,
            row["mark_age_ms"] > 3_000,
        )
    )


def breakeven_bps(row: dict, opening_loss_bps: float) -> float:
    """What a move must pay for before a profit is protected: two fees, the loss at opening, an hour of funding."""
    hourly_funding_bps = abs(row["funding_bps"]) / row["funding_interval_hours"]
    return 2.0 * row["taker_fee_bps"] + max(0.0, opening_loss_bps) + hourly_funding_bps
