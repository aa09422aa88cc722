"""The watchdog on the loopback exchange: the runner is silent, a position is naked, an entry still stands (F38)."""

from dataclasses import replace

import pytest

from data.clock import RealClock
from data.tests.account_client import BTC, Trader, trading
from data.venues.aster import AsterRest, venue_of
from data.venues.aster_signed import SignedRest
from data.venues.signing import AgentKey
from live.alerts import Alerts
from live.heartbeat import Beat, write_beat
from live.tests.real_run import RULES
from live.watchdog import Account, Watchdog

TRADE = "abcdefghij"
BEAT = Beat(
    pid=1, told_ms=0, market_ms=0, mode="real", level="ACTIVE", connection="connected", instance="one", symbols=(BTC,)
)  # fmt: skip


class Heard(Alerts):
    """Alerts that a test looks at."""

    def __init__(self):
        super().__init__([], "watchdog")
        self.kinds = []

    def post(self, kind, detail):
        self.kinds.append(kind)


@pytest.fixture
def watched(tmp_path):
    """Plays ``before`` on an account, lets the watchdog look, and tells what stands then: ``watched(before, beat)``."""

    def play(before, beat=BEAT, *, symbols=(BTC,), looks=2, rules=RULES):
        path, alerts, said = tmp_path / "real.sqlite", Heard(), []

        async def test(trader: Trader):
            await before(trader)
            venue = await venue_of(trader.exchange.rest_url)
            clock, typed = RealClock(), frozenset(symbols)
            async with (
                AsterRest(venue, clock) as public,
                SignedRest(venue, clock, AgentKey(trader.exchange.office.keys[0].private_key), symbols=typed) as signed,
            ):
                account = Account(rules, signed, public, clock, typed)
                dog = Watchdog(journal=path, alerts=alerts, say=said.append, account=account, silence_s=0.0)
                if beat is not None:
                    write_beat(path, beat)
                for _ in range(looks):
                    await dog.look()
                orders = await trader.v3("GET", "openOrders", symbol=BTC)
                return orders, await trader.amount()

        return *trading(test), alerts.kinds, said

    return play


async def naked_with_an_entry(trader: Trader) -> None:
    """Long 0.1 without a stop; one entry of the runner stands, one order of the operator, and a target."""
    bid, _ = await trader.touch()
    await trader.market("BUY")
    await trader.limit("BUY", round(bid * 0.97, 1), newClientOrderId=f"wbone-{TRADE}-E0")
    await trader.limit("BUY", round(bid * 0.96, 1), newClientOrderId="by-hand")


def test_the_entry_is_taken_back_and_the_position_gets_its_stop_once(watched):
    orders, amount, kinds, said = watched(naked_with_an_entry)
    assert {each["clientOrderId"] for each in orders if each["type"] == "LIMIT"} == {"by-hand"}
    (stop,) = (each for each in orders if each["type"] == "STOP_MARKET")
    assert (stop["side"], stop["closePosition"], stop["workingType"]) == ("SELL", True, "MARK_PRICE")
    assert amount == 0.1
    assert kinds.count("silent") == 1 and kinds.count("rescued") == 3
    assert sum("sent" in sentence for sentence in said) == 2


def test_without_the_symbols_typed_again_it_only_says_what_it_would_do(watched):
    orders, amount, _, said = watched(naked_with_an_entry, symbols=(), looks=1)
    assert len(orders) == 2 and amount == 0.1
    assert sum(sentence.startswith("would send") for sentence in said) == 2


def test_a_runner_that_gives_signs_of_life_is_left_alone(watched):
    alive = replace(BEAT, told_ms=RealClock().now_ms() + 3_600_000)
    orders, _, kinds, said = watched(naked_with_an_entry, alive)
    assert (len(orders), kinds, said) == (2, [], [])


def test_a_run_that_was_ended_in_good_order_is_looked_after_without_an_alarm(watched):
    orders, _, kinds, _ = watched(naked_with_an_entry, replace(BEAT, has_ended=True))
    assert any(each["type"] == "STOP_MARKET" for each in orders) and "silent" not in kinds


def test_a_paper_run_has_no_account_to_look_after(watched):
    orders, _, kinds, _ = watched(naked_with_an_entry, replace(BEAT, mode="paper"))
    assert (len(orders), kinds) == (2, ["silent"])


def test_a_stop_that_cannot_stand_is_a_way_out(watched):
    above = replace(RULES, emergency_stop_bps=-100.0)  # as if the mark had fallen by now
    orders, amount, kinds, _ = watched(naked_with_an_entry, rules=above)
    assert amount == 0.0 and "rescued" in kinds
    assert [each["clientOrderId"] for each in orders] == ["by-hand"]


def test_what_was_not_sent_is_no_attempt(watched):
    _, _, _, said = watched(naked_with_an_entry, symbols=(), looks=4)
    would = {sentence for sentence in said if sentence.startswith("would send")}
    assert len(would) == 2 and not any("MARKET wbone" in sentence and "STOP" not in sentence for sentence in would)


def test_a_symbol_that_the_exchange_does_not_tell_of_keeps_nobody_else_s_entry_and_stop_waiting(watched):
    orders, *_, said = watched(naked_with_an_entry, replace(BEAT, symbols=("GONEUSDT", BTC)))
    assert any(each["type"] == "STOP_MARKET" for each in orders), said
