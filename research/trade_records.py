"""A trade as the kernel writes it down."""

import numpy as np

from research.jit import njit, record

TRADE = record(
    [
        ("entry_row", np.int64),  # that decided
        ("fill_row", np.int64),  # in whose execution bar the entry was filled: a later one if it rested
        ("exit_row", np.int64),
        ("side", np.int64),
        ("quantity", np.float64),
        ("entry_price", np.float64),
        ("exit_price", np.float64),
        ("reason", np.int64),
        ("fees_usdt", np.float64),
        ("funding_usdt", np.float64),
        ("stop", np.float64),
        ("target", np.float64),
        ("activation", np.float64),
        ("callback_bps", np.float64),
        ("is_ambiguous", np.bool_),
        ("at_open", np.bool_),
    ]
)


@njit
def write_trade(
    slot, entry_row, fill_row, exit_row, side, quantity, entry, exit_, reason, fees, funding, levels, ambiguous, at_open
):
    """Fill one record of ``TRADE``."""
    slot.entry_row = entry_row
    slot.fill_row = fill_row
    slot.exit_row = exit_row
    slot.side = side
    slot.quantity = quantity
    slot.entry_price = entry
    slot.exit_price = exit_
    slot.reason = reason
    slot.fees_usdt = fees
    slot.funding_usdt = funding
    slot.stop = levels.stop
    slot.target = levels.target
    slot.activation = levels.activation
    slot.callback_bps = levels.callback_bps
    slot.is_ambiguous = ambiguous
    slot.at_open = at_open
