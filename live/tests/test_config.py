from dataclasses import asdict

import pytest
import tomli_w

from live.account_rules import load_account_rules
from live.config import load_chosen
from live.tests.real_run import RULES


def test_a_promoted_config_is_read_back_with_its_hash(config, promoted):
    chosen = load_chosen(promoted(config()))
    assert chosen.config == config()
    assert chosen.config_hash == config().config_hash
    assert chosen.provenance == {"run": "by hand"}


def test_a_config_edited_after_promotion_is_refused(config, promoted):
    path = promoted(config(stop_bps=30.0))
    path.write_text(path.read_text().replace("stop_bps = 30.0", "stop_bps = 31.0"))
    with pytest.raises(ValueError, match="edited after promotion"):
        load_chosen(path)


def test_provenance_is_not_part_of_the_hash(config, promoted):
    path = promoted(config(), provenance={"run": "another", "rank": 3})
    assert load_chosen(path).config_hash == config().config_hash


@pytest.mark.parametrize("where", ["", "config.costs", "config.orders"])
def test_an_unknown_key_is_refused_by_name(config, promoted, where):
    path = promoted(config())
    head, section, rest = path.read_text().partition(f"[{where}]\n") if where else ("", "", path.read_text())
    path.write_text(f"{head}{section}surprise = 1\n{rest}")
    with pytest.raises(ValueError, match="unknown key 'surprise'"):
        load_chosen(path)


def test_an_unknown_strategy_parameter_is_refused_by_name(config, promoted):
    path = promoted(config())
    path.write_text(path.read_text().replace("[config.params]\n", "[config.params]\nsurprise = 1.0\n"))
    with pytest.raises(ValueError, match=r"unknown parameters \['surprise'\]"):
        load_chosen(path)


def test_a_missing_key_is_refused_by_name(config, promoted):
    path = promoted(config())
    path.write_text(path.read_text().replace("taker_fee_bps = 4.0\n", ""))
    with pytest.raises(ValueError, match="missing key 'taker_fee_bps'"):
        load_chosen(path)


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(LookupError, match="aster promote"):
        load_chosen(tmp_path / "chosen.toml")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"instance": "main"}, "instance: expected three ASCII letters or digits, got 'main'"),
        ({"instance": "a-b"}, "instance: expected three"),
        ({"emergency_stop_bps": 0.0}, "emergency_stop_bps: expected more than 0 and less than 10000, got 0"),
        ({"emergency_stop_bps": -100.0}, "emergency_stop_bps: expected more than 0"),
    ],
)
def test_an_account_file_that_would_end_the_run_at_its_first_order_is_refused_at_once(tmp_path, told, words):
    path = tmp_path / "account.toml"
    parts = {"instance": "one", "emergency_stop_bps": 100.0, "risk": asdict(RULES.risk)}
    path.write_text(tomli_w.dumps({**parts, "entries": asdict(RULES.entries), **told}))
    with pytest.raises(ValueError, match=words):
        load_account_rules(path)
