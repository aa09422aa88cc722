"""Accounts of the loopback exchange in its market: what they are told, when, and what goes wrong when asked to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import aiohttp
import polars as pl
import pytest

from data.loopback.account_feed import rows
from data.loopback.faults import Faults, RequestFault, StreamFault
from data.loopback.tape import NS_PER_MS, RecordingSource, SyntheticSource, to_ms
from data.synthetic import BTC_LIKE, MarketSpec, generate
from data.tests.account_client import BTC, Trader, heard, of_account, trading, turns
from data.tests.loopback_client import MARKET, START

BEGIN_MS = to_ms(START) + 120_000
SHORT = replace(MARKET, days=3 / 1_440)


def kinds(messages: list[dict]) -> list[str]:
    """NEW, TRADE, … of orders, the reason of account updates."""
    return [each["o"]["x"] if "o" in each else each.get("a", {}).get("m", each["e"]) for each in messages]


def trades_after(ms: int) -> pl.DataFrame:
    found = generate(MARKET, BTC, START.date())["trades"].filter(pl.col("event_time").to_physical() > ms)
    return found.with_columns(ms=pl.col("event_time").to_physical())


def test_an_order_and_its_fill_are_told_before_the_answer_comes():
    async def trade(trader: Trader) -> None:
        client = await trader.listen()
        answer = await trader.market("BUY")
        told = await heard(client, lambda messages: len(messages) == 3)
        assert kinds(told) == ["NEW", "TRADE", "ORDER"]
        order = told[1]["o"]
        assert (order["i"], order["z"], order["ap"]) == (answer["orderId"], answer["executedQty"], answer["avgPrice"])
        assert told[2]["a"]["P"][0]["pa"] == "0.1"

    trading(trade)


def test_a_resting_order_is_filled_by_the_first_trade_beyond_it_at_that_very_moment():
    async def trade(trader: Trader) -> None:
        bid, _ = await trader.touch()
        price = round(bid - 20, 1)
        through = trades_after(BEGIN_MS).filter(pl.col("price") < price, pl.col("is_buyer_maker"))
        placed = await trader.limit("BUY", f"{price:.1f}", "0.001")
        client = await trader.listen()
        told = await heard(client, lambda messages: "TRADE" in kinds(messages))
        fill = next(each for each in told if kinds([each]) == ["TRADE"])["o"]
        first_ms = through["ms"][0]
        assert (fill["i"], fill["m"], float(fill["L"])) == (placed["orderId"], True, price)
        assert fill["T"] <= first_ms
        at_ns = next(at_ns for at_ns, message in client.heard if message.get("o", {}).get("x") == "TRADE")
        assert at_ns // NS_PER_MS == fill["T"]
        if fill["T"] < first_ms:  # then the book came across it
            crossing = [row for row in rows(SyntheticSource(MARKET), fill["T"], fill["T"] + 1) if row.symbol == BTC]
            assert {row.table for row in crossing} & {"book_ticker", "depth", "trades"}

    trading(trade)


def test_a_stop_fires_at_the_first_mark_price_that_reaches_it():
    async def trade(trader: Trader) -> None:
        await trader.market("BUY")
        marks = generate(MARKET, BTC, START.date())["mark_price"].filter(pl.col("event_time").to_physical() > BEGIN_MS)
        stop_price = round(marks["mark_price"][30:].min() + 5, 1)
        now_mark = float((await trader.v3("GET", "positionRisk", symbol=BTC))[0]["markPrice"])
        assert stop_price < now_mark
        await trader.stop("SELL", f"{stop_price:.1f}", workingType="MARK_PRICE", newClientOrderId="wb-stop")
        client = await trader.listen()
        told = await heard(client, lambda messages: "TRADE" in kinds(messages))
        first_ms = marks.filter(pl.col("mark_price") <= stop_price)["event_time"].to_physical()[0]
        assert [each["o"]["T"] for each in told if "o" in each] == [first_ms, first_ms]
        assert [(each["o"]["c"], each["o"]["o"], each["o"]["ot"]) for each in told if "o" in each] == [
            ("wb-stop", "MARKET", "STOP_MARKET"), ("wb-stop", "MARKET", "STOP_MARKET"),
        ]  # fmt: skip
        assert await trader.amount() == 0

    trading(trade)


def test_two_runs_tell_an_account_the_same():
    async def trade(trader: Trader) -> list[tuple[int, dict]]:
        await trader.market("BUY", "0.2")
        bid, ask = await trader.touch()
        await trader.limit("SELL", f"{ask + 5:.1f}", reduceOnly="true")
        await trader.limit("BUY", f"{bid - 5:.1f}")
        await trader.stop("SELL", f"{bid - 40:.1f}")
        client = await trader.listen("btcusdt@trade")
        await trader.exchange.finished()
        return client.heard

    once, again = (trading(trade, spec=SHORT) for _ in range(2))
    assert once == again
    assert any(message.get("o", {}).get("x") == "TRADE" for _, message in once)
    assert len(once) > 50


def test_funding_is_paid_on_the_position_at_the_mark_price():
    spec = MarketSpec(symbols=(BTC_LIKE,), start=datetime(2026, 1, 5, 7, 58, tzinfo=UTC), days=4 / 1_440, seed=3)

    async def hold(trader: Trader) -> None:
        await trader.market("BUY", "0.5")
        client = await trader.listen()
        await trader.exchange.finished()
        (paid,) = [each["a"] for each in of_account(client) if each.get("a", {}).get("m") == "FUNDING_FEE"]
        made = generate(spec, BTC, spec.start.date())
        due = made["funding"].row(0, named=True)
        mark = made["mark_price"].filter(pl.col("event_time") <= due["event_time"])["mark_price"][-1]
        expected = -0.5 * mark * due["funding_rate"]
        assert float(paid["B"][0]["bc"]) == pytest.approx(expected, abs=1e-8)
        assert paid["P"] == []
        (row,) = await trader.v3("GET", "income", incomeType="FUNDING_FEE")
        assert float(row["income"]) == pytest.approx(expected, abs=1e-8)

    trading(hold, spec=spec, start=spec.start + timedelta(minutes=1))


def test_a_listen_key_lives_an_hour_and_is_kept_alive_or_ended():
    async def keep(trader: Trader) -> None:
        client = await trader.listen(answers=False)
        async for _ in turns(client, 1):
            key = (await trader.v3("POST", "listenKey"))["listenKey"]
            assert await trader.v3("PUT", "listenKey") == {}
            assert (await trader.v3("POST", "listenKey"))["listenKey"] == key
        told = await heard(client, lambda messages: len(messages) == 1)
        assert (told[0]["e"], told[0]["E"]) == ("listenKeyExpired", BEGIN_MS + 50_000)
        assert (await trader.v3("PUT", "listenKey"))["code"] == -1125
        again = await trader.listen()
        assert await trader.v3("DELETE", "listenKey") == {}
        await trader.market("BUY")
        await trader.exchange.finished()
        assert len(of_account(client)) == 1
        assert of_account(again) == []

    trading(keep, spec=SHORT, accounts={"listen_key_s": 50.0})


def test_faults_befall_the_user_stream_as_any_other():
    async def trade(trader: Trader) -> list[dict]:
        client = await trader.listen(answers=False)
        async for _ in turns(client, 1):
            await trader.market("BUY")
            await trader.market("SELL")
        await trader.exchange.finished()
        return of_account(client)

    whole = trading(trade, spec=SHORT)
    assert kinds(whole) == ["NEW", "TRADE", "ORDER"] * 2

    def with_fault(**told: object) -> list[dict]:
        return trading(trade, spec=SHORT, faults=Faults(seed=5, streams=(StreamFault(streams="user*", **told),)))

    assert with_fault(kind="drop") == []
    assert with_fault(kind="duplicate") == [each for each in whole for _ in range(2)]
    late = with_fault(kind="late", rate=0.5, by_s=0.5)
    assert late != whole
    assert sorted(late, key=repr) == sorted(whole, key=repr)
    assert with_fault(kind="late", rate=0.5, by_s=0.5) == late


@pytest.mark.parametrize(
    ("kind", "is_done", "status"),
    [("status", False, 503), ("status_after", True, 503), ("error_object", False, 200), ("cut_before", False, None),
     ("cut_after", True, None), ("slow_after", True, 200)],
)  # fmt: skip
def test_an_answer_that_goes_wrong_may_or_may_not_mean_that_the_order_was_taken(kind, is_done, status):
    async def trade(trader: Trader) -> None:
        try:
            await trader.market("BUY", newClientOrderId="wb-1")
            answered = trader.status
        except aiohttp.ClientError:
            answered = None
        assert answered == status
        found = await trader.v3("GET", "order", symbol=BTC, origClientOrderId="wb-1")
        assert found.get("code", found.get("status")) == ("FILLED" if is_done else -2013)
        assert await trader.amount() == (0.1 if is_done else 0)

    fault = RequestFault(kind=kind, path="order", method="POST", delay_s=0.01)
    trading(trade, faults=Faults(requests=(fault,)))


def test_an_order_may_be_taken_long_after_it_was_answered_with_an_error():
    async def trade(trader: Trader) -> None:
        client = await trader.listen(answers=False)
        async for _ in turns(client, 1):
            await trader.market("BUY", newClientOrderId="wb-1")
            assert trader.status == 503
            assert (await trader.v3("GET", "order", symbol=BTC, origClientOrderId="wb-1"))["code"] == -2013
        told = await heard(client, lambda messages: len(messages) == 3)
        assert [each["E"] for each in told] == [BEGIN_MS + 4_000] * 3

    fault = RequestFault(kind="status_later", path="order", method="POST", delay_s=4.0)
    trading(trade, faults=Faults(requests=(fault,)))


def test_a_position_is_deleveraged_when_the_exchange_is_told_to():
    async def trade(trader: Trader) -> None:
        await trader.market("BUY")
        client = await trader.listen()
        await trader.exchange.deleverage(0, BTC)
        told = await heard(client, lambda messages: len(messages) == 3)
        assert [each["o"]["c"] for each in told if "o" in each] == ["adl_autoclose"] * 2
        (order,) = await trader.v3("GET", "forceOrders", autoCloseType="ADL")
        assert order["status"] == "FILLED"
        with pytest.raises(ValueError, match="open position"):
            await trader.exchange.deleverage(0, BTC)

    trading(trade)


def test_a_liquidation_is_told_to_its_account_and_to_everybody():
    async def trade(trader: Trader) -> None:
        await trader.v3("POST", "leverage", symbol=BTC, leverage=125)
        await trader.market("BUY", "0.8")
        client = await trader.listen("!forceOrder@arr")
        await trader.exchange.deposit(0, -9_850.0)
        await client.until(lambda client: any(message["e"] == "forceOrder" for _, message in client.heard))
        told = [each for each in of_account(client) if each["e"] != "MARGIN_CALL"]
        assert kinds(told) == ["WITHDRAW", "NEW", "CALCULATED", "ORDER", "INSURANCE_CLEAR"]
        assert told[2]["o"]["c"].startswith("autoclose-")
        forced = next(message["o"] for _, message in client.heard if message["e"] == "forceOrder")
        assert (forced["S"], forced["z"], forced["ap"]) == ("SELL", "0.8", told[2]["o"]["ap"])
        (order,) = await trader.v3("GET", "forceOrders", symbol=BTC)
        assert (order["clientOrderId"], order["status"]) == (told[2]["o"]["c"], "FILLED")
        (balance,) = await trader.v3("GET", "balance")
        assert balance["balance"] == "0"

    trading(trade)


def test_time_that_passes_unheard_passes_for_accounts_too():
    async def trade(trader: Trader) -> None:
        await trader.market("BUY")
        marks = generate(MARKET, BTC, START.date())["mark_price"]
        within = marks.filter(pl.col("event_time").to_physical().is_between(BEGIN_MS + 1, BEGIN_MS + 240_000))
        stop_price = round(within["mark_price"].min() + 1, 1)
        await trader.stop("SELL", f"{stop_price:.1f}", workingType="MARK_PRICE")
        await trader.exchange.cut(outage_s=240)
        assert await trader.amount() == 0
        closed = (await trader.v3("GET", "userTrades", symbol=BTC))[-1]
        first_ms = within.filter(pl.col("mark_price") <= stop_price)["event_time"].to_physical()[0]
        assert (closed["side"], closed["time"]) == ("SELL", first_ms)

    trading(trade)


def test_who_counts_each_trade_once_ends_where_the_exchange_is():
    async def trade(trader: Trader) -> None:
        random, client = Random(4), await trader.listen(answers=False)
        async for _ in turns(client, 50):
            side, (bid, ask) = random.choice(["BUY", "SELL"]), await trader.touch()
            price = (bid if side == "BUY" else ask) + random.randint(-20, 20) / 10
            if random.random() < 0.3:
                await trader.market(side, "0.05")
            else:
                await trader.limit(side, f"{price:.1f}", "0.1", timeInForce=random.choice(["GTC", "IOC", "GTX"]))
        await trader.exchange.finished()
        told = [each["o"] for each in of_account(client) if each.get("o", {}).get("x") == "TRADE"]
        once = {each["t"]: each for each in told}
        assert len(told) > len(once) > 10
        amount = sum(Decimal(each["l"]) * (1 if each["S"] == "BUY" else -1) for each in once.values())
        money = sum(Decimal(each["rp"]) - Decimal(each["n"]) for each in once.values())
        assert float(amount) == await trader.amount()
        (balance,) = await trader.v3("GET", "balance")
        assert Decimal(balance["balance"]) == 10_000 + money
        filled = {}
        for each in told:  # whatever comes in which order, the largest is the last word
            filled[each["i"]] = max(Decimal(each["z"]), filled.get(each["i"], Decimal(0)))
        orders = await trader.v3("GET", "allOrders", symbol=BTC)
        assert {
            each["orderId"]: Decimal(each["executedQty"]) for each in orders if each["executedQty"] != "0"
        } == filled

    twice = StreamFault(kind="duplicate", streams="user*", rate=0.4)
    late = StreamFault(kind="late", streams="user*", rate=0.4, by_s=0.3)
    trading(trade, spec=SHORT, quiet_every_s=0.5, faults=Faults(seed=1, streams=(twice, late)))


def test_accounts_meet_the_same_market_in_a_recording(synthetic_lake, synthetic_spec):
    begin_ms = to_ms(synthetic_spec.start) + 8 * 3_600_000 - 60_000  # funding falls into it
    played, recorded = SyntheticSource(synthetic_spec), RecordingSource(synthetic_lake)
    met = rows(recorded, begin_ms, begin_ms + 120_000)
    assert met == rows(played, begin_ms, begin_ms + 120_000)
    assert {row.table for row in met} == {"trades", "depth", "book_ticker", "mark_price", "funding"}
    assert [row.time_ms for row in met] == sorted(row.time_ms for row in met)
