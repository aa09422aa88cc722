"""What the operator allows a real run to do with an account: the one file beside the promoted config."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from data.config import load
from data.venues.signing import PRODUCTION_CHAIN_ID
from live.budget import Limits
from live.gates import EntryLimits
from live.risk import RiskLimits

WARNED_BEFORE = timedelta(days=14)


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
    operator : address of the key whose signature a promoted config needs; None lets nothing trade but on a loopback.
    agent_expires : when the agent's key ends, as the exchange's page said; nobody tells it later.
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
    operator: str | None = None
    agent_expires: datetime | None = None

    def expiry_warning(self, now: datetime) -> str | None:
        """What to say of the agent's end while it is near; None while it is far, or not known."""
        if self.agent_expires is None or self.agent_expires - now > WARNED_BEFORE:
            return None
        return f"the agent's key ends {self.agent_expires:%Y-%m-%d %H:%M} UTC"


def load_account_rules(path: Path) -> AccountRules:
    """Read them.

    Raises
    ------
    LookupError
        When there is no such file.
    ValueError
        On an unknown or missing key, a limit that is none, an instance that no order could carry, or an emergency stop
        beyond the price.
    """
    if not path.is_file():
        raise LookupError(f"no account file at {path}; it names the limits of a real run")
    rules = load(AccountRules, path, str(path))
    if len(rules.instance) != 3 or not (rules.instance.isascii() and rules.instance.isalnum()):
        raise ValueError(f"{path}: instance: expected three ASCII letters or digits, got {rules.instance!r}")
    if not 0.0 < rules.emergency_stop_bps < 10_000.0:
        told = f"emergency_stop_bps: expected more than 0 and less than 10000, got {rules.emergency_stop_bps:g}"
        raise ValueError(f"{path}: {told}")
    return rules
