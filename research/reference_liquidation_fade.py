"""The reference's liquidation fade: its entry rule once more, in plain Python."""

import math

from research.fills import Decision
from research.reference_momentum import NO_TRADE, breakeven_bps, is_barred
from research.strategies import liquidation_fade


def liquidation_fade_decision(row: dict, params: liquidation_fade.Params) -> Decision:
    """Buy what the forced sold, sell what they bought; ``row`` holds the fields of ``liquidation_fade.Row``."""
    sold_usdt, bought_usdt = row["forced_sell_usdt"], row["forced_buy_usdt"]
    if math.isnan(sold_usdt) or math.isnan(bought_usdt) or sold_usdt == bought_usdt:
        return NO_TRADE
    if max(sold_usdt, bought_usdt) < params.min_usdt:
        return NO_TRADE
    if sold_usdt > bought_usdt:
        side, fallen_bps, opening_loss_bps = 1, -row["vwap_distance_bps"], row["opening_loss_long_bps"]
    else:
        side, fallen_bps, opening_loss_bps = -1, row["vwap_distance_bps"], row["opening_loss_short_bps"]
    is_asked = params.vwap_window_bars > 0
    if is_asked and (math.isnan(fallen_bps) or fallen_bps < params.min_vwap_distance_bps):
        return NO_TRADE
    if is_barred(row, params, opening_loss_bps):
        return NO_TRADE
    return Decision(
        side=side,
        stop_bps=params.stop_bps,
        target_bps=max(params.target_bps, breakeven_bps(row, opening_loss_bps)),
        activation_bps=math.nan,
        callback_bps=math.nan,
        stop_price=math.nan,
        target_price=math.nan,
    )
