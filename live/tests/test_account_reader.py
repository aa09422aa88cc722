"""What an account was asked, read: nothing that cannot be read becomes empty, flat or zero."""

import asyncio
import json
from unittest.mock import Mock

import pytest

from data.clock import FollowedClock
from data.venues.aster import Answer
from data.venues.aster_signed import ClockReading, NoAnswer, weight_of
from live.brokers.account_reader import AccountReader
from live.brokers.clock_keeper import ClockKeeper
from live.brokers.requests import Requests, Withheld
from live.budget import Limits, RequestBudget, Urgency
from live.order_evidence import Unread


class Line:
    """In place of signed requests: gives the same answer to all, and counts them."""

    def __init__(self, answer: Answer | NoAnswer):
        self.answer, self.sent = answer, []

    async def send(self, method, name, parameters=()):
        self.sent.append((method, name, parameters))
        return self.answer

    async def ask_openly(self, name):
        return await self.send("GET", name)

    async def measure_clock(self):
        await self.ask_openly("time")
        return ClockReading(1.0, 2.0)


def requests_of(answer: Answer | NoAnswer, **limits) -> tuple[Line, Requests, list[str]]:
    line, alarms = Line(answer), []
    budget = RequestBudget(Limits(**limits))
    return line, Requests(line, FollowedClock(60_000_000_000), budget, lambda what, detail: alarms.append(what)), alarms


def told(body: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    "answer",
    [
        NoAnswer("no answer within 2 s"),
        told({"code": -1001, "msg": "Internal error"}),
        told({"code": -1001, "msg": "Internal error"}, 503),
        Answer(200, {}, b"<html>maintenance</html>"),
        Answer(200, {}, b'[{"symbol":"BTCUSDT"'),
        told([{"symbol": "BTCUSDT"}]),
        told([{"symbol": "BTCUSDT", "positionAmt": "0.0.1"}]),
        told([]),
    ],
)
def test_positions_that_cannot_be_read_are_not_flat(answer):
    _, requests, _ = requests_of(answer)
    reader = AccountReader(requests, FollowedClock(), ["BTCUSDT"])
    assert isinstance(asyncio.run(reader.positions(Urgency.AUDIT)), Unread)


def test_one_part_that_cannot_be_read_is_named_in_the_view():
    _, requests, _ = requests_of(NoAnswer("cut"))
    reader = AccountReader(requests, FollowedClock(), ["BTCUSDT"])
    view = asyncio.run(reader.view(Urgency.AUDIT, 0, has_all_orders=True))
    assert [part.split(":")[0] for part in view.unread] == [
        "positions", "orders", "fills", "is_hedge", "is_multi_assets"
    ]  # fmt: skip


def test_an_entry_without_room_in_the_budget_is_withheld_and_an_exit_goes_out():
    line, requests, _ = requests_of(told({}), orders_per_minute=10, buffer=0.0, reserve=0.3)

    async def orders() -> list[bool]:
        entries = [await requests.send(Urgency.ENTRY, "POST", "order") for _ in range(9)]
        await requests.send(Urgency.EXIT, "POST", "order")
        return [isinstance(answer, Withheld) for answer in entries]

    assert asyncio.run(orders()) == [False] * 7 + [True] * 2  # 3 of 10 are for ways out
    assert len(line.sent) == 8


@pytest.mark.parametrize(("status", "alarm"), [(418, ["banned"]), (403, ["firewall"]), (429, []), (503, [])])
def test_what_an_answer_says_about_all_that_follow(status, alarm):
    _, requests, alarms = requests_of(told({"code": -1003, "msg": "no"}, status))

    async def twice() -> object:
        await requests.send(Urgency.AUDIT, "GET", "openOrders")
        return await requests.send(Urgency.AUDIT, "GET", "openOrders")

    assert isinstance(asyncio.run(twice()), Withheld) is (status != 503)
    assert alarms == alarm


def test_an_answer_about_the_market_says_the_same_about_all_that_follow():
    line, requests, alarms = requests_of(told({"code": -1003, "msg": "no"}, 418))

    async def both() -> object:
        await requests.ask_openly(Urgency.CERTAINTY, "exchangeInfo")
        return await requests.send(Urgency.CERTAINTY, "GET", "openOrders")

    assert isinstance(asyncio.run(both()), Withheld) and alarms == ["banned"] and len(line.sent) == 1


def test_while_banned_not_even_the_time_is_asked():
    line, requests, _ = requests_of(told({"code": -1003, "msg": "no"}, 418))
    keeper = ClockKeeper(requests, Mock(), FollowedClock(60_000_000_000))

    async def measured() -> None:
        await requests.send(Urgency.AUDIT, "GET", "openOrders")
        await keeper.measure()

    asyncio.run(measured())
    assert [name for _, name, _ in line.sent] == ["openOrders"] and keeper.reading is None


def test_the_weights_are_those_of_the_documents():
    assert weight_of("GET", "openOrders") == 40 and weight_of("GET", "openOrders", (("symbol", "BTCUSDT"),)) == 1
    assert (weight_of("GET", "income"), weight_of("GET", "positionRisk"), weight_of("POST", "order")) == (30, 5, 1)


class TwoSymbols(Line):
    """Answers userTrades of either symbol with a fill of the same number: trade ids count per symbol."""

    async def send(self, method, name, parameters=()):
        asked = dict(parameters)
        if name != "userTrades":
            empty = {
                "positionSide/dual": {"dualSidePosition": False},
                "multiAssetsMargin": {"multiAssetsMargin": False},
            }
            return told(empty.get(name, POSITIONS if name == "positionRisk" else []))
        return told([FILL | {"symbol": asked["symbol"]}])


FILL = {
    "id": 7, "orderId": 3, "side": "BUY", "positionSide": "BOTH", "price": "100", "qty": "1", "commission": "0.04",
    "commissionAsset": "USDT", "realizedPnl": "0", "maker": False, "time": 1_000,
}  # fmt: skip
POSITIONS = [
    {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "0", "entryPrice": "0", "updateTime": 0,
     "leverage": "1", "marginType": "isolated"}
]  # fmt: skip


def test_fills_of_two_symbols_with_the_same_number_are_two_fills():
    _, requests, _ = requests_of(told([]))
    requests.rest = TwoSymbols(told([]))
    reader = AccountReader(requests, FollowedClock(), ["BTCUSDT", "ETHUSDT"])
    view = asyncio.run(reader.view(Urgency.AUDIT, 0, has_all_orders=True))
    assert [fill.symbol for fill in view.fills] == ["BTCUSDT", "ETHUSDT"]
