"""How the loopback exchange treats its accounts where the documents leave it open, and what an account begins with."""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AccountSettings:
    """Settings of the account side.

    Parameters
    ----------
    seed : makes the test accounts' keys.
    accounts : how many there are.
    deposit_usdt : what each begins with; 0 for an account that never deposited, which is refused with -5050.
    maker_fee, taker_fee : fractions of the notional; a negative one is paid out.
    leverage : of every contract at the start.
    agent : address of a further agent (V3) that may act for the first account; None for none.
    chain_id : what agents sign for.
    nonce_window_s : how far a nonce may be from the exchange's clock.
    nonces_kept : per agent; an older one than all of them is refused.
    duplicate_nonce_code : undocumented, as is that of a client id that is taken.
    gtx_crossing : a post-only order that would take is refused (-5022) or taken and expired at once.
    close_all_ends_when_flat : close-all orders expire as their position is closed by something else.
    close_all_needs_position : a close-all order without a position is refused (-2022).
    close_all_stands_alone : a second close-all order of one kind and direction is refused (-4130).
    countdown_spares_conditional : countdownCancelAll leaves conditional orders alone.
    shows_all : what the book shows is all there is: large orders are then filled in part.
    listen_key_s : how long a listen key lives without being kept alive.
    margin_call_at : share of the margin that maintenance takes up when the margin call is sent.
    first_order_id, first_trade_id : ids count from there.
    """

    seed: int = 0
    accounts: int = 1
    deposit_usdt: float = 10_000.0
    maker_fee: float = 0.0001
    taker_fee: float = 0.00035
    leverage: int = 20
    agent: str | None = None
    chain_id: int = 1666
    nonce_window_s: float = 10.0
    nonces_kept: int = 100
    duplicate_nonce_code: int = -4225
    duplicate_client_id_code: int = -4116
    gtx_crossing: Literal["refuse", "expire"] = "expire"
    close_all_ends_when_flat: bool = False
    close_all_needs_position: bool = False
    close_all_stands_alone: bool = False
    countdown_spares_conditional: bool = False
    shows_all: bool = False
    listen_key_s: float = 3_600.0
    margin_call_at: float = 0.8
    first_order_id: int = 22_542_179
    first_trade_id: int = 9_001

    def __post_init__(self) -> None:
        if self.agent is not None and not re.fullmatch("0x[0-9a-fA-F]{40}", self.agent):
            raise ValueError(f"agent: expected an address, 0x and 40 hex digits, got {self.agent!r}")
        if self.accounts < 1 or self.deposit_usdt < 0 or self.leverage < 1:
            raise ValueError(
                "accounts, deposit_usdt, leverage: expected at least 1, 0 and 1, "
                f"got {self.accounts}, {self.deposit_usdt} and {self.leverage}"
            )
        if not (self.nonce_window_s > 0 and self.nonces_kept > 0 and self.listen_key_s > 0):
            raise ValueError("nonce_window_s, nonces_kept, listen_key_s: expected positive numbers")
