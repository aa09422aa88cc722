import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from live.orders import Leg, OrderName, client_order_id, next_attempt, order_name
from research.trades import trade_id


def test_a_client_order_id_names_runner_trade_leg_and_attempt():
    assert client_order_id("rpl", "abcdefghij", Leg.ENTRY) == "wbrpl-abcdefghij-E0"
    assert client_order_id("rpl", "abcdefghij", Leg.STOP, 35) == "wbrpl-abcdefghij-Sz"
    assert client_order_id("rpl", "abcdefghij", Leg.FLATTEN, 36) == "wbrpl-abcdefghij-F10"


def test_the_same_decision_gets_the_same_id_after_a_crash():
    names = {client_order_id("rpl", trade_id("hash", "BNBUSDT", 1_764_200_040_000, 1), Leg.ENTRY) for _ in range(2)}
    assert len(names) == 1


def test_every_leg_has_its_own_id():
    assert len({client_order_id("rpl", "abcdefghij", leg) for leg in Leg}) == len(Leg)


@pytest.mark.parametrize("instance", ["", "ab", "abcd", "a-b", "äbc"])
def test_an_instance_is_three_letters_or_digits(instance):
    with pytest.raises(ValueError, match="three ASCII letters or digits"):
        client_order_id(instance, "abcdefghij", Leg.ENTRY)


def test_an_id_the_exchange_would_refuse_is_never_made():
    with pytest.raises(ValueError, match="longer than 28"):
        client_order_id("rpl", "a" * 28, Leg.ENTRY)
    with pytest.raises(ValueError, match="cannot be read back"):
        client_order_id("rpl", "b tc", Leg.ENTRY)


def test_a_tranche_after_the_first_stands_before_the_leg():
    assert client_order_id("rpl", "abcdefghij", Leg.STOP, 2, tranche=10) == "wbrpl-abcdefghij-aS2"
    assert order_name("wbrpl-abcdefghij-aS2") == OrderName("rpl", "abcdefghij", Leg.STOP, 2, 10)


@given(
    instance=st.text("abcXYZ019", min_size=3, max_size=3),
    trade=st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=10, max_size=10),
    leg=st.sampled_from(Leg),
    attempt=st.integers(0, 36**3),
    tranche=st.integers(0, 36**2),
)
def test_a_name_is_read_back_as_it_was_written(instance, trade, leg, attempt, tranche):
    name = client_order_id(instance, trade, leg, attempt, tranche)
    assert re.fullmatch(r"[.A-Z:/a-z0-9_-]{1,28}", name)
    assert order_name(name) == (instance, trade, leg, attempt, tranche)


@pytest.mark.parametrize(
    "foreign",
    ["autoclose-1234567890", "adl_autoclose", "web_22542179", "wbrpl-abcdefghij-E00", "wbrpl-abcdefghij-Q0", ""],
)
def test_an_order_of_somebody_else_has_no_name(foreign):
    assert order_name(foreign) is None


def test_an_id_that_was_used_up_is_never_used_again():
    known = ["wbrpl-abcdefghij-S0", "wbrpl-abcdefghij-S4", "wbppr-abcdefghij-S7", "wbrpl-abcdefghij-T9", "web_1"]
    assert next_attempt(known, "abcdefghij", Leg.STOP) == 8  # of whichever runner
    assert next_attempt(known, "abcdefghij", Leg.CLOSE) == 0
    assert next_attempt(known, "abcdefghij", Leg.STOP, tranche=1) == 0


def test_attempts_count_from_zero():
    with pytest.raises(ValueError, match="attempts count from 0"):
        client_order_id("rpl", "abcdefghij", Leg.ENTRY, -1)
