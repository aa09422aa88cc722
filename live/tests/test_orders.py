import pytest

from live.orders import Leg, client_order_id
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
    with pytest.raises(ValueError, match="longer than the exchange's 36"):
        client_order_id("rpl", "a" * 28, Leg.ENTRY)


def test_attempts_count_from_zero():
    with pytest.raises(ValueError, match="attempts count from 0"):
        client_order_id("rpl", "abcdefghij", Leg.ENTRY, -1)
