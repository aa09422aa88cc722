import asyncio
from types import SimpleNamespace

from data.clock import FollowedClock
from live.brokers.cases import Case, Cases
from live.brokers.executor import Executor
from live.brokers.overseer import Overseer
from live.order_evidence import Unread
from live.order_questions import TRADES
from live.order_state import Sent, all_heard
from live.orders import Leg
from live.reconcile import ExchangeView
from live.tests.exchange_words import BTC, CONTRACT, D, fill, held, order, position, seen
from live.tests.real_run import RULES

DAY_MS = 86_400_000
NOW_MS = 9 * DAY_MS  # the position was entered in the first second
QUIET = SimpleNamespace(
    write_news=list, alert=lambda _: None, wake=asyncio.Event(), config_hashes={}, event=lambda *_, **__: None,
    forced=lambda *_: None, react=lambda _: None, alarm=lambda *_: None, ask=lambda case, name: name,
    spawn=lambda name: asked_for.append(name),
)  # fmt: skip
asked_for: list[str] = []  # orders


class Asked:
    """In place of the account's reader: holds so much, tells these fills, and remembers since when it was asked."""

    def __init__(self, amount: str = "1"):
        self.since_ms: list[int] = []
        self.amount, self.told, self.orders = amount, (), ()

    async def view(self, urgency, since_ms, *, has_all_orders):
        self.since_ms.append(since_ms)
        held = (position(self.amount),)
        return ExchangeView(positions=held, orders=self.orders, fills=self.told, is_hedge=False, is_multi_assets=False)

    async def fills(self, urgency, symbol, since_ms):
        self.since_ms.append(since_ms)
        return ()

    async def figures(self, urgency):
        return Unread(reason="not asked")


def caught_up_with(asked: Asked, case: Case) -> None:
    """The account is read twice; the second time it tells of no fill."""
    cases, clock = Cases(), FollowedClock(NOW_MS * 1_000_000)
    cases.add(case)
    seat = SimpleNamespace(config=SimpleNamespace(orders=SimpleNamespace(leverage=10)))
    overseer = Overseer(RULES, {BTC: seat}, asked, cases, QUIET, QUIET, QUIET, QUIET, clock, lambda: None)
    overseer.begin(1_000, {})

    async def twice() -> None:
        await overseer.catch_up()
        asked.told = ()
        await overseer.catch_up()

    asyncio.run(twice())


def test_of_a_position_that_is_older_than_a_week_the_last_days_are_asked_for():
    """The exchange tells seven days from the time on that it is asked for: nothing of today, from the entry on."""
    asked = Asked()
    caught_up_with(asked, Case(trade=held(order(Leg.STOP, seen(Leg.STOP))), contract=CONTRACT, is_entry_told=True))
    assert len(asked.since_ms) == 2 and min(asked.since_ms) >= NOW_MS - 7 * DAY_MS


def test_fills_of_a_stop_that_stood_for_more_than_a_week_are_asked_for_from_when_it_was_at_work():
    asked, clock = Asked(), FollowedClock(NOW_MS * 1_000_000)
    at_work = seen(Leg.STOP, "FILLED", filled="1", told_ms=NOW_MS - 2_000)
    stop = all_heard(order(Leg.STOP), [Sent(time_ms=1_000), at_work])
    case = Case(trade=held(stop), contract=CONTRACT, is_entry_told=True)

    async def ask() -> None:
        executor = Executor(None, asked, Cases(), QUIET, clock)
        await executor.ask(case, stop.client_order_id, TRADES)

    asyncio.run(ask())
    assert NOW_MS - 7 * DAY_MS <= asked.since_ms[0] < NOW_MS - 2_000


def test_what_was_closed_by_hand_is_still_known_when_the_account_does_not_list_it_any_more():
    asked, case = Asked("0.6"), Case(trade=held(), contract=CONTRACT, is_entry_told=True)
    by_hand = fill(seen(Leg.CLOSE, "FILLED", client_order_id="web_1", order_id=9), 7, "0.4", time_ms=2_000)
    asked.told = (by_hand,)
    caught_up_with(asked, case)
    assert (case.trade.adjustment, case.foreign) == (D("-0.4"), (by_hand,))


def test_a_stop_that_the_account_does_not_list_is_asked_for():
    """It was placed before the time that orders are asked from: only that it is not open any more shows."""
    asked_for.clear()
    stop, listed = order(Leg.STOP, seen(Leg.STOP)), seen(Leg.TARGET)
    asked, case = Asked(), Case(trade=held(stop, order(Leg.TARGET, listed)), contract=CONTRACT, is_entry_told=True)
    asked.orders = (listed,)
    caught_up_with(asked, case)
    assert asked_for == [stop.client_order_id] * 2
