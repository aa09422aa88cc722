"""What a signed request to Aster is: the very bytes that go out, for V3 (EIP-712) and V1 (HMAC-SHA256).

Nothing is sent from here and no clock is read. The signature covers the text as it is sent, so the text is made once
and handed on as bytes: as the query of a GET, as the body of everything else, never built again by an HTTP library.

Source: Aster futures API, "Authentication".
"""

import hashlib
import hmac
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlencode

from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data
from eth_hash.auto import keccak
from eth_keys import KeyAPI
from eth_keys.backends import CoinCurveECCBackend
from eth_keys.exceptions import BadSignature, ValidationError

# A library behind eth-account raises it to 100,000 calls: brackets without end in a message would end the process then.
sys.setrecursionlimit(1_000)

PRODUCTION_CHAIN_ID, TESTNET_CHAIN_ID = 1666, 714
Parameters = Sequence[tuple[str, str]]
_PRIVATE_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")
_FIRST_V = 27  # Ethereum counts the two curve points from here
_MESSAGE_TYPE = keccak(b"Message(string msg)")
_TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ],
    "Message": [{"name": "msg", "type": "string"}],
}


class _Redacted:
    """Says whose secret it is and never what; it is neither copied into another form nor pickled."""

    name: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, redacted)"

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} stays in the process that read it; give the other process its own secret")


class AgentKey(_Redacted):
    """The private key of an agent (V3), which may trade and never withdraw.

    Attributes
    ----------
    address : the agent's, 0x and 40 hex digits in mixed case: the ``signer`` of its requests.

    Raises
    ------
    ValueError
        When the text is no private key; it is not repeated.
    """

    def __init__(self, private_key: str):
        if not _PRIVATE_KEY.fullmatch(private_key):
            raise ValueError(f"private key of an agent: expected 64 hex digits, got {len(private_key)} characters")
        number = int(private_key, 16)
        if not 0 < number < 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141:
            raise ValueError("private key of an agent: expected a number below the order of secp256k1, and not zero")
        self._key = KeyAPI().PrivateKey(number.to_bytes(32, "big"))
        self.address = self.name = self._key.public_key.to_checksum_address()


class OperatorKey(AgentKey):
    """The private key that the operator approves configs with. It is never one that trades."""


class ApiKey(_Redacted):
    """An API key (V1): ``key`` goes into the header ``X-MBX-APIKEY``, the secret nowhere.

    Raises
    ------
    ValueError
        When either is empty.
    """

    def __init__(self, key: str, secret: str):
        if not key or not secret:
            raise ValueError("API key: expected a key and its secret, got an empty one")
        self.key, self._secret, self.name = key, secret.encode(), f"{key[:4]}…"


class Nonces:
    """The one source of an agent's nonces: microseconds since 1970 that only grow.

    One process signs with one agent, and hands out nonces from one thread. After a restart the clock may have stepped
    back: ``floor_us`` is the last nonce that the process before wrote down.
    """

    def __init__(self, floor_us: int = 0):
        self._last_us = floor_us

    @property
    def last_us(self) -> int:
        """The last one handed out; the floor before the first."""
        return self._last_us

    def next(self, exchange_now_us: int) -> int:
        """A nonce that was never used; ``exchange_now_us`` is our clock corrected by its distance to the exchange's."""
        self._last_us = max(self._last_us + 1, exchange_now_us)
        return self._last_us


def require_native_signing() -> None:
    """Make sure that signatures are made by native code: pure Python takes ten times as long.

    Raises
    ------
    RuntimeError
        When eth-account would sign in Python.
    """
    backend = KeyAPI().backend
    if not isinstance(backend, CoinCurveECCBackend):
        raise RuntimeError(
            f"signing: expected the native backend coincurve, got {type(backend).__name__}; "
            "install coincurve and unset ECC_BACKEND_CLASS"
        )


def signed_v3(
    parameters: Parameters,
    *,
    nonce_us: int,
    key: AgentKey,
    chain_id: int = PRODUCTION_CHAIN_ID,
    user: str | None = None,
) -> bytes:
    """Query or body of a V3 request, signature last.

    Parameters
    ----------
    parameters : names and values in the order in which they are sent, all as text.
    nonce_us : of ``Nonces``.
    user : address of the master wallet; the exchange does without.

    Raises
    ------
    ValueError
        When ``user`` is no address.
    """
    if user is not None and not _ADDRESS.fullmatch(user):
        raise ValueError(f"user: expected an address, 0x and 40 hex digits, got {user!r}")
    identity = [("nonce", str(nonce_us)), *([("user", user)] if user else []), ("signer", key.address)]
    text = urlencode([*parameters, *identity])
    return f"{text}&signature={signature_v3(text, key, chain_id)}".encode()


def signature_v3(text: str, key: AgentKey, chain_id: int) -> str:
    """The EIP-712 signature of a text: 0x, then r, s and v in hex."""
    content = keccak(_MESSAGE_TYPE + keccak(text.encode()))
    # the same as eth-account's sign_message, which takes more than twice as long
    signature = key._key.sign_msg_hash(keccak(b"\x19\x01" + _domain_hash(chain_id) + content))
    return f"0x{signature.to_bytes()[:64].hex()}{signature.v + _FIRST_V:02x}"


@lru_cache(maxsize=8)
def _domain_hash(chain_id: int) -> bytes:
    """What all messages of a chain share."""
    domain = {"name": "AsterSignTransaction", "version": "1", "chainId": chain_id, "verifyingContract": "0x" + "0" * 40}
    message = {"types": _TYPES, "primaryType": "Message", "domain": domain, "message": {"msg": ""}}
    return encode_typed_data(full_message=message).header


def signed_v1(parameters: Parameters, *, timestamp_ms: int, key: ApiKey, recv_window_ms: int = 5_000) -> bytes:
    """Query or body of a V1 request, signature last; all of it in one of the two, and ``key.key`` in the header.

    Parameters
    ----------
    parameters : names and values in the order in which they are sent, all as text.
    timestamp_ms : the exchange's time as well as we know it.
    recv_window_ms : how old the request may be on arrival; at most 60,000, better no more than 5,000.

    Raises
    ------
    ValueError
        When the window is longer than the exchange takes.
    """
    if not 0 < recv_window_ms <= 60_000:
        raise ValueError(f"recv_window_ms: expected 1 to 60000, got {recv_window_ms}")
    text = urlencode([*parameters, ("recvWindow", str(recv_window_ms)), ("timestamp", str(timestamp_ms))])
    return f"{text}&signature={signature_v1(text, key)}".encode()


def signature_v1(text: str, key: ApiKey) -> str:
    """The HMAC-SHA256 of a text, in hex."""
    return hmac.new(key._secret, text.encode(), hashlib.sha256).hexdigest()


def signed_message(text: str, key: OperatorKey) -> str:
    """The operator's signature of a text, 0x and 130 hex digits, as wallets make it (EIP-191, personal_sign)."""
    signature = key._key.sign_msg_hash(_message_hash(encode_defunct(text=text)))
    return f"0x{signature.to_bytes()[:64].hex()}{signature.v + _FIRST_V:02x}"


def message_signer(text: str, signature: str) -> str:
    """Address of whoever signed a text; of anything else than what was signed it is somebody else's.

    Raises
    ------
    ValueError
        When it is no signature at all.
    """
    if not _SIGNATURE.fullmatch(signature):
        raise ValueError(f"signature: expected 0x and 130 hex digits, got {len(signature)} characters")
    parts = bytes.fromhex(signature[2:])
    try:
        found = KeyAPI().Signature(parts[:64] + bytes([parts[64] - _FIRST_V]))
        return found.recover_public_key_from_msg_hash(_message_hash(encode_defunct(text=text))).to_checksum_address()
    except (BadSignature, ValidationError, ValueError) as error:
        raise ValueError(f"signature: it is none of any key: {error}") from error


def _message_hash(message: SignableMessage) -> bytes:
    return keccak(b"\x19" + message.version + message.header + message.body)
