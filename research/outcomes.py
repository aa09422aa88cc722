"""What becomes of one entry: the record that both fast paths of the sweep write per trade, and then only add up."""

import math

import numpy as np

from research.fills import (
    OPEN,
    fee_usdt,
    gross_pnl_usdt,
    next_entry_row,
)
from research.jit import njit_uncounted
from research.kernel import mark_equity
from research.liquidation import exit_price
from research.resting_bars import funding_in_held_bar_usdt

MISSED = -1  # stands beside fills.REASONS: wanted, but not filled

# What a walk adds per trade. Path figures are relative to the equity before the entry; net PnL is gross - fees -
# funding, for an open trade marked to the last price.
OUTCOME = np.dtype(
    [
        ("gross_pnl_usdt", np.float64),
        ("fees_usdt", np.float64),
        ("funding_usdt", np.float64),
        ("bar_pnl_squared", np.float64),
        ("highest_usdt", np.float64),  # of the equity at the end of a row
        ("lowest_usdt", np.float64),
        ("drawdown_usdt", np.float64),  # deepest fall inside the trade, <= 0
        ("next_row", np.int32),  # first row that may enter again
        ("held_bars", np.int32),
        ("ambiguous_bars", np.int32),
        ("reason", np.int32),
    ],
    align=True,
)

# A bar in which some order triggers first, and the path before it, per unit of quantity.
MOMENT = np.dtype(
    [
        ("row", np.int64),
        ("extreme", np.float64),
        ("pnl", np.float64),
        ("bar_pnl_squared", np.float64),
        ("highest", np.float64),
        ("lowest", np.float64),
        ("drawdown", np.float64),
        ("funding", np.float64),
    ]
)


@njit_uncounted
def miss(outcome, row):
    """The outcome of an entry that is not filled: nothing, and the next row may enter."""
    outcome.gross_pnl_usdt = outcome.fees_usdt = outcome.funding_usdt = outcome.bar_pnl_squared = 0.0
    outcome.highest_usdt, outcome.lowest_usdt, outcome.drawdown_usdt = -math.inf, math.inf, 0.0
    outcome.held_bars = outcome.ambiguous_bars = 0
    outcome.reason = MISSED
    outcome.next_row = row + 1


@njit_uncounted
def write_outcome(
    outcome, side, entry, quantity, row, last, result, moment, doubtful_bars, market, terms, has_rested=False
):  # fmt: skip
    """The outcome of an entry filled in ``row`` that ends at ``moment`` with this result, or is open at ``last``."""
    i = moment.row
    is_fill_bar = has_rested and i == row
    fees = fee_usdt(entry, quantity, terms.maker_fee_bps if has_rested else terms.taker_fee_bps)
    funding = quantity * moment.funding
    highest, lowest = quantity * moment.highest, quantity * moment.lowest
    drawdown, squares = quantity * moment.drawdown, quantity * quantity * moment.bar_pnl_squared
    if i == last:
        gross = quantity * moment.pnl + fees + funding
        reason, held_bars, next_row = OPEN, last - row, last
    else:
        reason, held_bars, next_row = result.reason, i - row + 1, next_entry_row(i, terms)
        doubtful_bars += int(result.is_ambiguous)
        if not result.at_open:
            funding += funding_in_held_bar_usdt(side, quantity, market.funding_per_unit[i], is_fill_bar)
        exit_ = exit_price(side, result, market.half_spread_bps[i], terms.slippage_bps)
        fees += fee_usdt(exit_, quantity, terms.taker_fee_bps)
        gross = gross_pnl_usdt(side, quantity, entry, exit_)
        net = gross - fees - funding
        change, net, highest, drawdown = mark_equity(net, quantity * moment.pnl, highest, drawdown)
        lowest = min(lowest, net)
        squares += change * change
    outcome.gross_pnl_usdt, outcome.fees_usdt, outcome.funding_usdt = gross, fees, funding
    outcome.highest_usdt, outcome.lowest_usdt, outcome.drawdown_usdt = highest, lowest, drawdown
    outcome.bar_pnl_squared = squares
    outcome.reason, outcome.held_bars, outcome.next_row = reason, held_bars, next_row
    outcome.ambiguous_bars = doubtful_bars
