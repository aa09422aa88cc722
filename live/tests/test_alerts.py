"""Alerts reach a real HTTP endpoint; where they go is said nowhere."""

import os

import pytest

from live.alerts import KINDS, VARIABLE, Alerts, destinations
from live.tests.listener import listening


@pytest.fixture
def endpoint():
    """Address of an HTTP server of this machine, and what it was sent."""
    with listening() as (address, sent):
        yield address, sent


def test_an_alert_says_what_happened_and_what_to_do(endpoint):
    address, sent = endpoint
    with Alerts([address], "runner") as alerts:
        alerts.post("silent", "no sign of life for 61 s")
    (told,) = sent
    assert told["title"] == "aster runner: the runner gives no sign of life"
    assert told["message"].startswith("no sign of life for 61 s\nLook whether it runs")


def test_the_same_words_are_said_once_in_five_minutes(endpoint):
    address, sent = endpoint
    now = iter([0.0, 299.0, 300.0, 301.0])
    with Alerts([address], "runner", now_s=lambda: next(now)) as alerts:
        for detail in ("a", "a", "a", "b"):
            alerts.post("order", detail)
    assert [told["message"][0] for told in sent] == ["a", "a", "b"]


def test_an_endpoint_that_is_gone_holds_up_nobody_and_is_told_without_its_address(endpoint, capsys):
    address, _ = endpoint
    gone = address.replace("127.0.0.1:", "127.0.0.1:1").replace("/token", ":9/token")
    with Alerts([gone], "runner") as alerts:
        alerts.post("level", "ACTIVE → HALTED")
    told = capsys.readouterr().err
    assert "alert not delivered to all of 1 addresses: aster runner: the risk level changed" in told
    assert "token-0123" not in told and "token-0123" not in repr(alerts)


def test_addresses_come_from_a_private_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "json://127.0.0.1:1 json://127.0.0.1:2")
    assert destinations() == ("json://127.0.0.1:1", "json://127.0.0.1:2")
    path = tmp_path / "alerts"
    path.write_text("# mine\njson://127.0.0.1:3\n\n")
    path.chmod(0o640)
    with pytest.raises(ValueError, match="got mode 0640; chmod 600 it"):
        destinations(path)
    path.chmod(0o600)
    assert destinations(path) == ("json://127.0.0.1:3",)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert destinations() == ("json://127.0.0.1:3",)
    with pytest.raises(LookupError, match="no file of alert addresses"):
        destinations(tmp_path / "none")


def test_every_kind_says_what_to_do_in_a_sentence():
    assert all(kind.do.endswith(".") and kind.title == kind.title.strip() for kind in KINDS.values())
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)
    assert os.environ.get(VARIABLE) is None
