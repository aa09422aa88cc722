"""Who signed a request, found out from its raw bytes: shares no code with the side that signs.

Source: EIP-712; Aster futures API, "V3: EIP-712" and "V1: HMAC-SHA256".
"""

import hashlib
import hmac

from coincurve import PublicKey
from Crypto.Hash import keccak

_MARK = b"&signature="
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_MESSAGE_TYPE = b"Message(string msg)"
_NAME, _VERSION, _NO_CONTRACT = b"AsterSignTransaction", b"1", bytes(32)
_SIGNATURE_BYTES = 65
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # s above it: a second spelling


def keccak_256(data: bytes) -> bytes:
    """The hash of Ethereum, which is not SHA-3."""
    return keccak.new(digest_bits=256, data=data).digest()


def cut(sent: bytes) -> tuple[bytes, str] | None:
    """What was signed and the signature behind it; None where the text does not end with a signature.

    The text is taken as it came: parameters are neither sorted nor decoded.
    """
    message, mark, signature = sent.rpartition(_MARK)
    if not mark and sent.startswith(_MARK[1:]):
        message, mark, signature = b"", _MARK, sent.removeprefix(_MARK[1:])
    return (message, signature.decode("ascii", "replace")) if mark else None


def digest(message: bytes, chain_id: int) -> bytes:
    """The 32 bytes that an agent signs."""
    domain = keccak_256(
        keccak_256(_DOMAIN_TYPE)
        + keccak_256(_NAME)
        + keccak_256(_VERSION)
        + chain_id.to_bytes(32, "big")
        + _NO_CONTRACT
    )
    content = keccak_256(keccak_256(_MESSAGE_TYPE) + keccak_256(message))
    return keccak_256(b"\x19\x01" + domain + content)


def signer(message: bytes, signature: str, chain_id: int) -> str | None:
    """The address, in lower case, whose key made the signature; None where nobody's did.

    Any well-formed signature is somebody's: a changed message gives another address.
    """
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        return None
    if len(raw) != _SIGNATURE_BYTES or raw[64] not in (27, 28) or int.from_bytes(raw[32:64], "big") > _HALF_ORDER:
        return None
    try:
        key = PublicKey.from_signature_and_message(raw[:64] + bytes([raw[64] - 27]), digest(message, chain_id), None)
    except ValueError:  # r is no point of the curve
        return None
    return address(key)


def address(key: PublicKey) -> str:
    """The address of a public key, in lower case."""
    return "0x" + keccak_256(key.format(compressed=False)[1:])[12:].hex()


def is_by_secret(message: bytes, signature: str, secret: str) -> bool:
    """Whether the holder of a V1 secret signed a text; letter case of the signature does not matter."""
    expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.lower().encode())
