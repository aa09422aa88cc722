"""Who may come in: signatures, nonces and times of signed requests.

Source: Aster futures API, "Authentication", "Loopback simulator: required behaviour".
"""

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence

from data.loopback import signatures
from data.loopback.account_keys import AccountKeys
from data.loopback.account_settings import AccountSettings
from data.loopback.query import Query, Refused

_ADDRESS_LENGTH = 42
_EARLY_MS = 1_000  # so far ahead a V1 timestamp may be
_WINDOW_MS, _LONGEST_WINDOW_MS = 5_000, 60_000
_US_PER_S = 1_000_000


class Nonces:
    """The nonces of one agent: the largest ones are remembered."""

    def __init__(self, kept: int):
        self._kept = kept
        self._seen: list[int] = []

    def take(self, nonce: int) -> bool:
        """Whether a nonce is new; it is not again."""
        place = bisect.bisect_left(self._seen, nonce)
        is_seen = place < len(self._seen) and self._seen[place] == nonce
        is_full = len(self._seen) >= self._kept
        if is_seen or (is_full and place == 0):
            return False
        self._seen.insert(place, nonce)
        if is_full:
            del self._seen[0]
        return True


class Doors:
    """Finds the account of a request, or refuses it. Accounts are numbered from 0."""

    def __init__(self, settings: AccountSettings, keys: Sequence[AccountKeys]):
        self._settings = settings
        self._agents = {each.agent: number for number, each in enumerate(keys)}
        if settings.agent is not None:
            self._agents[settings.agent.lower()] = 0
        self._secrets = {each.api_key: (number, each.api_secret) for number, each in enumerate(keys)}
        self._nonces: dict[str, Nonces] = defaultdict(lambda: Nonces(settings.nonces_kept))

    def v3(self, sent: bytes, query: Query, now_us: int) -> int:
        """The account that a V3 request is for.

        Parameters
        ----------
        sent : query or body as it came.
        query : the same, decoded.
        now_us : the exchange's own clock.
        """
        nonce, agent = query.whole("nonce"), query.text("signer")
        query.text("user"), query.text("signature")
        if nonce is None or agent is None:
            missing = "nonce" if nonce is None else "signer"
            raise Refused(-1102, f"Mandatory parameter '{missing}' was not sent, was empty/null, or malformed.")
        parts = signatures.cut(sent)
        if parts is None or signatures.signer(*parts, self._settings.chain_id) != agent.lower():
            raise Refused(-1000, "Signature check failed")
        if len(agent) != _ADDRESS_LENGTH or agent.lower() not in self._agents:
            raise Refused(-1000, "No aster user found")
        if abs(now_us - nonce) > self._settings.nonce_window_s * _US_PER_S:
            raise Refused(-4225, "Nonce Expired")
        if not self._nonces[agent.lower()].take(nonce):
            raise Refused(self._settings.duplicate_nonce_code, "Nonce Expired")
        return self._agents[agent.lower()]

    def v1(self, key: str | None, sent: bytes, query: Query, now_ms: int) -> int:
        """The account that a V1 request is for; ``sent`` is the query with the body behind it."""
        account, secret = self._holder(key)
        timestamp_ms, window_ms = query.whole("timestamp"), query.whole("recvWindow")
        query.text("signature")
        if timestamp_ms is None:
            raise Refused(-1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
        window_ms = _WINDOW_MS if window_ms is None else window_ms
        if window_ms > _LONGEST_WINDOW_MS:
            raise Refused(-1130, "Data sent for parameter 'recvWindow' is not valid.")
        if timestamp_ms >= now_ms + _EARLY_MS or now_ms - timestamp_ms > window_ms:
            raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")
        parts = signatures.cut(sent)
        if parts is None or not signatures.is_by_secret(*parts, secret):
            raise Refused(-1022, "Signature for this request is not valid.")
        return account

    def key_alone(self, key: str | None) -> int:
        """The account of a V1 request that needs no signature."""
        return self._holder(key)[0]

    def _holder(self, key: str | None) -> tuple[int, str]:
        if not key:
            raise Refused(-2014, "API-key format invalid.", 401)
        if key not in self._secrets:
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return self._secrets[key]


def only_once(pairs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """The parameters of a request; one that comes twice is one too many."""
    sent = dict(pairs)
    if len(sent) != len(pairs):
        raise Refused(-1101, "Too many parameters; expected each one once.")
    return sent
