"""Signed requests to the loopback exchange: who comes in, what is asked, what is answered."""

import json

import pytest

from data.loopback.account_doors import Nonces
from data.loopback.faults import ContractChange, Faults
from data.loopback.meter import OrderMeter
from data.loopback.query import Refused
from data.tests.account_client import BTC, KEY_HEADER, Trader, trading
from data.tests.test_loopback_rest import assert_like
from data.venues.signing import AgentKey, signature_v1, signed_v3

ORDER = {
    "orderId": 1, "clientOrderId": "wb-0001", "symbol": "B", "status": "NEW", "price": "1", "avgPrice": "0.00000",
    "origQty": "1", "executedQty": "0", "cumQuote": "0", "timeInForce": "GTC", "type": "LIMIT", "origType": "LIMIT",
    "side": "BUY", "positionSide": "BOTH", "stopPrice": "0", "workingType": "CONTRACT_PRICE", "priceProtect": False,
    "reduceOnly": False, "closePosition": False, "updateTime": 1,
}  # fmt: skip


def code(answer: object) -> int:
    assert isinstance(answer, dict), answer
    return answer["code"]


def test_a_v3_request_is_taken_from_its_agent_and_from_nobody_else():
    async def knock(trader: Trader) -> None:
        path, now_us = "/fapi/v3/balance", trader.exchange.now_ns // 1_000
        sent = trader.signed(now_us)
        assert (await trader.send("GET", path, sent.replace(b"nonce=1", b"nonce=2")))["msg"] == "Signature check failed"
        assert (await trader.send("GET", path, sent.replace(b"signer=", b"signer=%30")))["code"] == -1000
        assert (await trader.send("GET", path, sent, body=b"x=1"))["code"] == -1000
        assert (await trader.send("GET", path, sent))[0]["balance"] == "10000"
        stranger = signed_v3([], nonce_us=now_us, key=AgentKey("22" * 32))
        assert (await trader.send("GET", path, stranger))["msg"] == "No aster user found"
        elsewhere = signed_v3([], nonce_us=now_us + 1, key=trader.agent, chain_id=714)
        assert code(await trader.send("GET", path, elsewhere)) == -1000
        assert code(await trader.send("GET", path, b"nonce=1")) == -1102
        assert trader.status == 400

    trading(knock)


def test_a_nonce_is_good_once_and_for_ten_seconds():
    async def knock(trader: Trader) -> None:
        now_us = trader.exchange.now_ns // 1_000
        answers = [
            await trader.send("POST", "/fapi/v3/noop", trader.signed(now_us + by_us))
            for by_us in (0, 0, 5, 3, 10_000_000, 10_000_001, -10_000_000, -10_000_001)
        ]
        assert [code(each) for each in answers] == [200, -4225, 200, 200, 200, -4225, 200, -4225]

    trading(knock)


def test_a_noop_with_an_orders_nonce_keeps_the_order_out():
    async def fence(trader: Trader) -> None:
        nonce_us = trader.nonces.next(trader.exchange.now_ns // 1_000)
        order = trader.signed(nonce_us, symbol=BTC, side="BUY", type="MARKET", quantity="0.1")
        assert code(await trader.send("POST", "/fapi/v3/noop", trader.signed(nonce_us))) == 200
        assert code(await trader.send("POST", "/fapi/v3/order", order)) == -4225
        assert await trader.amount() == 0

    trading(fence)


def test_of_a_hundred_nonces_the_oldest_makes_room():
    nonces = Nonces(3)
    assert [nonces.take(each) for each in (10, 30, 20, 20, 5, 15, 10, 40, 15, 16)] == [
        True, True, True, False, False, True, False, True, False, False,
    ]  # fmt: skip


def test_a_v1_request_is_signed_over_query_and_body_without_a_seam():
    async def knock(trader: Trader) -> None:
        path, headers = "/fapi/v1/order/test", {KEY_HEADER: trader.api.key}
        query, body = "symbol=BTCUSDT&side=BUY&type=MARKET", f"quantity=0.1&timestamp={trader.exchange.now_ms}"
        signed = f"{body}&signature={signature_v1(query + body, trader.api)}"
        assert await trader.send("POST", path, query.encode(), headers, signed.encode()) == {}
        changed = signed.replace("quantity=0.1", "quantity=0.2")
        assert code(await trader.send("POST", path, query.encode(), headers, changed.encode())) == -1022

    trading(knock)


def test_a_v1_request_comes_in_time_and_with_a_known_key():
    async def knock(trader: Trader) -> None:
        path = "/fapi/v2/balance"
        codes = [await trader.v1("GET", path, late_ms) for late_ms in (5_000, 5_001, -999, -1_000)]
        assert [isinstance(each, list) or code(each) for each in codes] == [True, -1021, True, -1021]
        for key, expected in ((None, -2014), ("unknown", -2015)):
            headers = {} if key is None else {KEY_HEADER: key}
            assert code(await trader.send("GET", path, b"timestamp=1&signature=2", headers)) == expected
            assert trader.status == 401
        assert "listenKey" in await trader.send("POST", "/fapi/v1/listenKey", b"", {KEY_HEADER: trader.api.key})

    trading(knock)


def test_who_never_deposited_is_told_so():
    async def knock(trader: Trader) -> None:
        assert code(await trader.v3("GET", "balance")) == -5050

    trading(knock, accounts={"deposit_usdt": 0.0})


def test_accounts_know_nothing_of_each_other():
    async def trade(trader: Trader) -> None:
        async with Trader(trader.exchange, 1) as other:
            await trader.market("BUY")
            assert (await trader.amount(), await other.amount()) == (0.1, 0)
            assert (await other.v3("GET", "balance"))[0]["balance"] == "10000"
            assert await other.v3("GET", "allOrders", symbol=BTC) == []

    trading(trade, accounts={"accounts": 2})


def test_rules_of_a_contract_change_for_accounts_too():
    async def trade(trader: Trader) -> None:
        bid, _ = await trader.touch()
        price = f"{bid - 1000:.0f}.5"
        assert (await trader.limit("BUY", price))["status"] == "NEW"
        await trader.exchange.skip(20)
        assert code(await trader.limit("BUY", price)) == -1111
        await trader.exchange.skip(20)
        assert code(await trader.limit("BUY", f"{bid - 1000:.0f}")) == -4141

    coarser = ContractChange(symbol=BTC, from_s=10.0, tick_size=1.0)
    closed = ContractChange(symbol=BTC, from_s=30.0, status="SETTLING")
    trading(trade, faults=Faults(contracts=(coarser, closed)))


def test_an_order_is_placed_found_changed_and_cancelled():
    async def trade(trader: Trader) -> None:
        bid, _ = await trader.touch()
        placed = await trader.limit("BUY", f"{bid - 50:.1f}", newClientOrderId="wb-0001")
        assert_like(placed, {**ORDER, "cumQty": "0"})
        found = await trader.v3("GET", "order", symbol=BTC, origClientOrderId="wb-0001")
        assert_like(found, {**ORDER, "time": 1})
        assert await trader.v3("GET", "openOrder", symbol=BTC, orderId=placed["orderId"]) == found
        assert await trader.v3("GET", "openOrders") == [found]
        assert trader.headers["X-MBX-USED-WEIGHT-1M"] == "44"
        changed = await trader.v3(
            "PUT", "order", symbol=BTC, orderId=placed["orderId"], price=f"{bid - 60:.1f}", quantity="0.2"
        )
        assert (changed["origQty"], float(changed["price"])) == ("0.2", pytest.approx(bid - 60))
        cancelled = await trader.v3("DELETE", "order", symbol=BTC, origClientOrderId="wb-0001")
        assert cancelled["status"] == "CANCELED"
        assert code(await trader.v3("DELETE", "order", symbol=BTC, origClientOrderId="wb-0001")) == -2011
        assert code(await trader.v3("GET", "openOrder", symbol=BTC, orderId=placed["orderId"])) == -2013
        assert code(await trader.v3("GET", "order", symbol=BTC, orderId=1)) == -2013
        assert [each["status"] for each in await trader.v3("GET", "allOrders", symbol=BTC)] == ["CANCELED"]
        assert placed["orderId"] == cancelled["orderId"]

    trading(trade)


def test_an_acknowledgement_does_not_tell_what_a_result_tells():
    async def trade(trader: Trader) -> None:
        taken = {"symbol": BTC, "side": "BUY", "type": "MARKET", "quantity": "0.1"}
        acknowledged = await trader.v3("POST", "order", **taken)
        assert (acknowledged["status"], acknowledged["executedQty"], acknowledged["avgPrice"]) == (
            "NEW",
            "0",
            "0.00000",
        )
        assert trader.headers["X-MBX-ORDER-COUNT-1M"] == "1"
        result = await trader.market("SELL")
        assert (result["status"], result["executedQty"]) == ("FILLED", "0.1")
        assert await trader.amount() == 0

    trading(trade)


def test_each_order_of_a_batch_is_taken_or_refused_for_itself():
    async def trade(trader: Trader) -> None:
        order = {"symbol": BTC, "side": "BUY", "type": "MARKET", "quantity": "0.1"}
        orders = [order, {**order, "side": "UP"}, {**order, "quantity": "0"}, {**order, "quantity": "0.2"}]
        answers = await trader.v3("POST", "batchOrders", batchOrders=json.dumps(orders))
        assert [each.get("code", each.get("status")) for each in answers] == ["NEW", -1117, -4003, "NEW"]
        assert trader.headers["X-MBX-ORDER-COUNT-1M"] == "4"
        assert await trader.amount() == 0.3
        assert code(await trader.v3("POST", "batchOrders", batchOrders=json.dumps(orders * 2))) == -4082
        bid, _ = await trader.touch()
        resting = await trader.limit("BUY", f"{bid - 50:.1f}")
        ids = f"[{resting['orderId']},1]"
        cancelled = await trader.v3("DELETE", "batchOrders", symbol=BTC, orderIdList=ids)
        assert [each.get("code", each.get("status")) for each in cancelled] == ["CANCELED", -2011]

    trading(trade)


def test_cancelling_everything_answers_its_code_as_text():
    async def trade(trader: Trader) -> None:
        bid, _ = await trader.touch()
        for _ in range(2):
            await trader.limit("BUY", f"{bid - 50:.1f}")
        assert code(await trader.v3("DELETE", "allOpenOrders", symbol=BTC)) == "200"
        assert await trader.v3("GET", "openOrders", symbol=BTC) == []
        armed = await trader.v3("POST", "countdownCancelAll", symbol=BTC, countdownTime=120_000)
        assert armed == {"symbol": BTC, "countdownTime": "120000"}

    trading(trade)


def test_parameters_are_refused_for_what_is_missing_or_means_nothing():
    async def place(trader: Trader) -> None:
        for expected, told in (
            (-1102, {"side": None}),
            (-1121, {"symbol": "NOSUCH"}),
            (-1117, {"side": "UP"}),
            (-1116, {"type": "OCO"}),
            (-1102, {"quantity": None}),
            (-1100, {"quantity": "1e3"}),
            (-1100, {"quantity": "-1"}),
            (-1102, {"type": "LIMIT", "price": "1"}),
            (-1115, {"type": "LIMIT", "price": "1", "timeInForce": "GTD"}),
            (-1102, {"type": "STOP_MARKET"}),
            (-2007, {"type": "TRAILING_STOP_MARKET", "callbackRate": "0.05"}),
            (-4060, {"positionSide": "UP"}),
            (-4031, {"workingType": "INDEX"}),
            (-4015, {"newClientOrderId": "autoclose-1"}),
            (-4137, {"type": "STOP_MARKET", "stopPrice": "1", "closePosition": "true"}),
            (-1106, {"closePosition": "true"}),
            (-1106, {"timeInForce": "GTC"}),
            (-1104, {"priority": "high"}),
            (-1105, {"newClientOrderId": ""}),
        ):
            asked = {"symbol": BTC, "side": "BUY", "type": "MARKET", "quantity": "0.1", **told}
            asked = {key: value for key, value in asked.items() if value is not None}
            assert code(await trader.v3("POST", "order", **asked)) == expected, told

    trading(place)


def test_modes_are_changed_once_and_only_without_positions():
    async def change(trader: Trader) -> None:
        assert code(await trader.v3("POST", "positionSide/dual", dualSidePosition="false")) == -4059
        assert code(await trader.v3("POST", "positionSide/dual", dualSidePosition="true")) == 200
        assert await trader.v3("GET", "positionSide/dual") == {"dualSidePosition": True}
        assert code(await trader.v3("POST", "marginType", symbol=BTC, marginType="CROSSED")) == -4046
        assert code(await trader.v3("POST", "marginType", symbol=BTC, marginType="ISOLATED")) == 200
        assert code(await trader.v3("POST", "multiAssetsMargin", multiAssetsMargin="true")) == -4168
        leverage = await trader.v3("POST", "leverage", symbol=BTC, leverage=25)
        assert leverage == {"leverage": 25, "maxNotionalValue": "1000000", "symbol": BTC}
        assert code(await trader.v3("POST", "leverage", symbol=BTC, leverage=126)) == -4028
        assert code(await trader.market("BUY")) == -4061
        await trader.market("BUY", positionSide="LONG")
        assert code(await trader.v3("POST", "positionSide/dual", dualSidePosition="false")) == -4068
        assert code(await trader.v3("POST", "marginType", symbol=BTC, marginType="CROSSED")) == -4048
        assert code(await trader.v3("POST", "leverage", symbol=BTC, leverage=5)) == -4161
        added = {"symbol": BTC, "positionSide": "LONG", "amount": "100", "type": 1}
        assert code(await trader.v3("POST", "positionMargin", **added)) == 200
        long, short = await trader.v3("GET", "positionRisk", symbol=BTC)
        assert (long["positionSide"], short["positionSide"], long["marginType"]) == ("LONG", "SHORT", "isolated")
        assert float(long["isolatedWallet"]) == pytest.approx(float(long["entryPrice"]) * 0.1 / 25 + 100)
        assert code(await trader.v3("POST", "stpMode", stpMode="EXPIRE_BOTH")) == 200
        assert await trader.v3("GET", "stpMode") == {"stpMode": "EXPIRE_BOTH"}

    trading(change)


def test_trades_income_and_balance_tell_the_same_money():
    async def trade(trader: Trader) -> None:
        await trader.market("BUY", "0.3")
        await trader.market("SELL", "0.2")
        trades = await trader.v3("GET", "userTrades", symbol=BTC)
        rows = await trader.v3("GET", "income")
        (balance,) = await trader.v3("GET", "balance")
        of_trades = sum(float(each["realizedPnl"]) - float(each["commission"]) for each in trades)
        assert float(balance["balance"]) == pytest.approx(10_000 + of_trades, abs=1e-9)
        assert sum(float(each["income"]) for each in rows) == pytest.approx(float(balance["balance"]), abs=1e-9)
        assert {each["incomeType"] for each in rows} == {"TRANSFER", "REALIZED_PNL", "COMMISSION"}
        assert await trader.v3("GET", "userTrades", symbol=BTC, fromId=trades[1]["id"]) == trades[1:]
        whole = await trader.v1("GET", "/fapi/v4/account")
        assert whole["totalWalletBalance"] == balance["balance"]
        rates = await trader.v3("GET", "commissionRate", symbol=BTC)
        assert rates == {"symbol": BTC, "makerCommissionRate": "0.0001", "takerCommissionRate": "0.00035"}
        (bracket, *_) = (await trader.v3("GET", "leverageBracket", symbol=BTC))["brackets"]
        assert bracket == {"bracket": 1, "initialLeverage": 125, "notionalCap": 50_000.0, "notionalFloor": 0.0,
                           "maintMarginRatio": 0.004, "cum": 0.0}  # fmt: skip

    trading(trade)


def test_orders_over_the_limit_of_a_minute_are_refused():
    meter = OrderMeter(3)
    meter.count(0, 3, 1_000)
    meter.count(1, 3, 2_000)
    with pytest.raises(Refused, check=lambda refusal: (refusal.code, refusal.status) == (-1015, 429)):
        meter.count(0, 1, 59_999)
    meter.count(0, 1, 60_000)
    assert meter.used(0) == 1
