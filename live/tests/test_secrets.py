"""Keys come from the environment or from a file that nobody else reads, and are seen nowhere."""

import os
import pickle
import traceback

import pytest

from data.venues.signing import AgentKey, ApiKey
from live.secrets import Secrets, signing_key

AGENT = "4fd0a42218f3eae43a6ce26d22544e986139a01e5b34a62db53757ffca81bae1"  # of Aster's own documents: never funded
ADDRESS = "0x21cF8Ae13Bb72632562c6Fff438652Ba1a151bb0"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """An environment without keys."""
    for name in Secrets.model_fields:
        monkeypatch.delenv(f"ASTER_{name}".upper(), raising=False)


@pytest.fixture
def key_file(tmp_path):
    """Writes a file of keys: ``key_file("ASTER_AGENT_KEY=…", mode=0o600)``."""

    def write(*lines: str, mode: int = 0o600):
        path = tmp_path / "keys"
        path.write_text("\n".join(lines))
        path.chmod(mode)
        return path

    return write


def test_an_agent_s_key_comes_from_a_file_or_from_the_environment(key_file, monkeypatch):
    assert signing_key(key_file(f"ASTER_AGENT_KEY={AGENT}")).address == ADDRESS
    monkeypatch.setenv("ASTER_AGENT_KEY", f"0x{AGENT}")
    assert signing_key(None).address == ADDRESS


def test_the_keys_of_v1_are_taken_where_there_is_no_agent(key_file):
    assert isinstance(signing_key(key_file("ASTER_API_KEY=mine", "ASTER_API_SECRET=hush")), ApiKey)
    both = key_file("ASTER_API_KEY=mine", "ASTER_API_SECRET=hush", f"ASTER_AGENT_KEY={AGENT}")
    assert isinstance(signing_key(both), AgentKey)


def test_the_file_that_is_named_goes_before_the_environment(key_file, monkeypatch):
    monkeypatch.setenv("ASTER_AGENT_KEY", "11" * 32)
    assert signing_key(key_file(f"ASTER_AGENT_KEY={AGENT}")).address == ADDRESS
    monkeypatch.setenv("ASTER_AGENT_KEY", "11" * 32)
    assert isinstance(signing_key(key_file("ASTER_API_KEY=mine", "ASTER_API_SECRET=hush")), ApiKey)
    assert "ASTER_AGENT_KEY" not in os.environ


def test_a_child_process_does_not_inherit_a_key(monkeypatch):
    monkeypatch.setenv("ASTER_AGENT_KEY", AGENT)
    signing_key(None)
    assert "ASTER_AGENT_KEY" not in os.environ


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(key_file, mode):
    with pytest.raises(ValueError, match="chmod 600"):
        signing_key(key_file(f"ASTER_AGENT_KEY={AGENT}", mode=mode))


def test_a_file_of_somebody_else_is_refused(key_file, monkeypatch):
    path = key_file(f"ASTER_AGENT_KEY={AGENT}")
    if os.geteuid() == 0:
        os.chown(path, 65_534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65_534)
    with pytest.raises(ValueError, match="expected a file of this user or of root"):
        signing_key(path)


def test_what_is_missing_is_said(key_file, tmp_path):
    with pytest.raises(LookupError, match="no file of keys"):
        signing_key(tmp_path / "nowhere")
    with pytest.raises(LookupError, match="no key in the environment"):
        signing_key(None)
    with pytest.raises(LookupError, match="expected ASTER_AGENT_KEY"):
        signing_key(key_file("ASTER_API_KEY=mine"))


def test_a_key_is_not_seen_in_a_representation_an_error_or_a_pickle(key_file, monkeypatch):
    monkeypatch.setenv("ASTER_AGENT_KEY", AGENT)
    secrets, key = Secrets(), signing_key(None)
    for seen in (repr(secrets), str(secrets), secrets.model_dump_json(), repr(key), str(vars(secrets))):
        assert AGENT not in seen
    with pytest.raises(TypeError, match="stays in the process"):
        pickle.dumps(key)
    with pytest.raises(ValueError) as told:
        signing_key(key_file(f"ASTER_AGENT_KEY={AGENT}zz"))
    assert AGENT not in "".join(traceback.format_exception(told.value))
