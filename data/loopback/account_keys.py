"""Keys of the loopback exchange's test accounts, made from a seed: known to everybody, worth nothing anywhere."""

import hashlib
from dataclasses import dataclass

from coincurve import PrivateKey

from data.loopback.signatures import address


@dataclass(frozen=True, kw_only=True)
class AccountKeys:
    """What a client needs to act for a test account.

    Parameters
    ----------
    private_key, agent : of its agent (V3): 64 hex digits, and the address in lower case.
    api_key, api_secret : of V1.
    """

    private_key: str
    agent: str
    api_key: str
    api_secret: str


def keys_of(seed: int, number: int) -> AccountKeys:
    """The keys of a test account; the same seed and number give the same keys."""
    private_key = _made(seed, number, "agent")
    return AccountKeys(
        private_key=private_key,
        agent=address(PrivateKey(bytes.fromhex(private_key)).public_key),
        api_key=_made(seed, number, "key"),
        api_secret=_made(seed, number, "secret"),
    )


def _made(seed: int, number: int, what: str) -> str:
    return hashlib.sha256(f"loopback test account {seed}/{number}/{what}".encode()).hexdigest()
