"""What the operator allows a real run to do with an account: the one file beside the promoted config."""

from dataclasses import dataclass, field
from pathlib import Path

from data.config import load
from data.venues.signing import PRODUCTION_CHAIN_ID
from live.budget import Limits
from live.gates import EntryLimits
from live.risk import RiskLimits


@dataclass(frozen=True, kw_only=True)
class AccountRules:
    """Limits of one account. Money has no defaults.

    Attributes
    ----------
    instance : three characters in every order id; no two runners of an account share them.
    emergency_stop_bps : of the entry price, for a position whose plan is lost.
    is_hedge, is_isolated : modes that the account has to be in.
    adopting : symbols of which a position that is not ours may be taken over.
    chain_id : what an agent signs for.
    """

    instance: str
    emergency_stop_bps: float
    risk: RiskLimits
    entries: EntryLimits
    is_hedge: bool = False
    is_isolated: bool = True
    adopting: tuple[str, ...] = ()
    budget: Limits = field(default_factory=Limits)
    chain_id: int = PRODUCTION_CHAIN_ID


def load_account_rules(path: Path) -> AccountRules:
    """Read them.

    Raises
    ------
    LookupError
        When there is no such file.
    ValueError
        On an unknown or missing key, or a limit that is none.
    """
    if not path.is_file():
        raise LookupError(f"no account file at {path}; it names the limits of a real run")
    return load(AccountRules, path, str(path))
