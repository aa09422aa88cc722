"""Signing, and the loopback exchange's own way to tell who signed, against vectors of two other implementations."""

import json
import pickle
from pathlib import Path
from random import Random

import pytest

from data.loopback import signatures
from data.venues.signing import (
    AgentKey,
    ApiKey,
    Nonces,
    require_native_signing,
    signature_v1,
    signature_v3,
    signed_v1,
    signed_v3,
)

PRIVATE_KEY = "11" * 32
ORDER = [("symbol", "BTCUSDT"), ("side", "BUY"), ("quantity", "0.010")]


@pytest.fixture(scope="module")
def vectors(real_data) -> dict:
    """Digests and signatures made elsewhere, kept beside the recordings."""
    path: Path = real_data.parent / "aster" / "signing-vectors.json"
    if not path.is_file():
        pytest.skip(f"signing vectors not found at {path}; set ASTER_REAL_DATA to the folder real beside them")
    return json.loads(path.read_text())


def test_every_vector_is_signed_as_others_sign_it(vectors):
    key = AgentKey(vectors["private_key"])
    assert key.address == vectors["signer"]
    for each in vectors["eip712"]:
        assert signature_v3(each["msg"], key, each["chainId"]) == each["signature"], each["id"]
    secret = ApiKey("any", vectors["v1_hmac_secret"])
    for each in vectors["v1_hmac"]:
        assert signature_v1(each["totalParams"], secret) == each["signature"], each["id"]


def test_the_verifier_finds_the_signer_of_every_vector(vectors):
    for each in vectors["eip712"]:
        message, chain_id = each["msg"].encode(), each["chainId"]
        assert signatures.keccak_256(message).hex() == each["keccak_msg"], each["id"]
        assert signatures.digest(message, chain_id).hex() == each["digest"], each["id"]
        assert signatures.signer(message, each["signature"], chain_id) == vectors["signer"].lower(), each["id"]
    for each in vectors["v1_hmac"]:
        message, signature = each["totalParams"].encode(), each["signature"]
        assert signatures.is_by_secret(message, signature.upper(), vectors["v1_hmac_secret"])


def test_any_changed_byte_is_refused(vectors):
    random = Random(7)
    for each in vectors["eip712"]:
        message, signed = each["msg"].encode(), bytearray.fromhex(each["signature"][2:])
        for place in range(len(message)):
            changed = bytearray(message)
            changed[place] ^= 1 << random.randrange(8)
            assert signatures.signer(bytes(changed), each["signature"], each["chainId"]) != vectors["signer"].lower()
        for place in range(len(signed)):
            changed = bytearray(signed)
            changed[place] ^= 1 << random.randrange(8)
            assert signatures.signer(message, changed.hex(), each["chainId"]) != vectors["signer"].lower()
        assert signatures.signer(message, each["signature"], each["chainId"] + 1) != vectors["signer"].lower()
    for each in vectors["v1_hmac"]:
        message = each["totalParams"].encode()
        for place in range(len(message)):
            changed = bytearray(message)
            changed[place] ^= 1
            assert not signatures.is_by_secret(bytes(changed), each["signature"], vectors["v1_hmac_secret"])


def test_a_request_is_its_parameters_then_the_signer_then_the_signature():
    key = AgentKey(PRIVATE_KEY)
    sent = signed_v3(ORDER, nonce_us=1_780_000_000_000_001, key=key)
    text, signature = signatures.cut(sent)
    assert text == f"symbol=BTCUSDT&side=BUY&quantity=0.010&nonce=1780000000000001&signer={key.address}".encode()
    assert signatures.signer(text, signature, 1666) == key.address.lower()
    with_user = signed_v3([], nonce_us=1, key=key, user="0x" + "ab" * 20)
    assert with_user.startswith(b"nonce=1&user=0xab")


def test_a_v1_request_ends_with_its_time_and_signature():
    sent = signed_v1(ORDER, timestamp_ms=1_780_000_000_000, key=ApiKey("key", "secret"))
    text, signature = signatures.cut(sent)
    assert text == b"symbol=BTCUSDT&side=BUY&quantity=0.010&recvWindow=5000&timestamp=1780000000000"
    assert signatures.is_by_secret(text, signature, "secret")
    with pytest.raises(ValueError, match="1 to 60000"):
        signed_v1([], timestamp_ms=1, key=ApiKey("key", "secret"), recv_window_ms=60_001)


def test_json_in_a_parameter_is_signed_as_it_is_sent():
    orders = '[{"symbol":"BTCUSDT","quantity":"1"}]'
    sent = signed_v3([("batchOrders", orders)], nonce_us=1, key=AgentKey(PRIVATE_KEY))
    assert sent.startswith(b"batchOrders=%5B%7B%22symbol%22%3A%22BTCUSDT%22%2C%22quantity%22%3A%221%22%7D%5D&nonce=1&")


def test_text_without_a_signature_at_its_end_is_not_cut():
    assert signatures.cut(b"symbol=BTCUSDT") is None
    assert signatures.cut(b"signature=ab") == (b"", "ab")
    assert signatures.cut(b"a=1&signature=x&b=2&signature=y") == (b"a=1&signature=x&b=2", "y")


def test_what_is_no_signature_is_nobodys():
    for wrong in ("", "0x", "zz" * 65, "00" * 64, "00" * 65, "ff" * 64 + "1b"):
        assert signatures.signer(b"text", wrong, 1666) is None


def test_a_nonce_is_the_time_and_never_comes_twice():
    nonces = Nonces(floor_us=100)
    assert [nonces.next(now_us) for now_us in (50, 50, 200, 199, 300)] == [101, 102, 200, 201, 300]
    assert nonces.last_us == 300


def test_secrets_are_in_no_text_and_leave_the_process_by_no_pickle():
    agent, api = AgentKey(PRIVATE_KEY), ApiKey("abcdefgh", "very secret")
    for key, secret in ((agent, PRIVATE_KEY), (api, "very secret")):
        assert secret not in f"{key!r} {key} {key!s}"
        assert "redacted" in repr(key)
        with pytest.raises(TypeError, match="stays in the process"):
            pickle.dumps(key)
    with pytest.raises(ValueError, match="64 hex digits") as told:
        AgentKey("not a key but a secret")
    assert "but a secret" not in str(told.value)
    with pytest.raises(ValueError, match="order of secp256k1"):
        AgentKey("ff" * 32)


def test_signatures_are_made_by_native_code(monkeypatch):
    require_native_signing()
    monkeypatch.setenv("ECC_BACKEND_CLASS", "eth_keys.backends.NativeECCBackend")
    with pytest.raises(RuntimeError, match="coincurve"):
        require_native_signing()
