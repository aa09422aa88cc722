import json

import pytest

from live.order_answers import NotFound, Refused, Unanswered, asked_about, placed
from live.order_evidence import OrderSeen

# Aster futures API, "Order object"
ORDER = (
    b'{"orderId":22542179,"clientOrderId":"wb-0001","symbol":"BTCUSDT","status":"NEW","price":"61000.0",'
    b'"avgPrice":"0.00000","origQty":"0.010","executedQty":"0","cumQty":"0","cumQuote":"0","timeInForce":"GTC",'
    b'"type":"LIMIT","origType":"LIMIT","side":"BUY","positionSide":"BOTH","stopPrice":"0",'
    b'"workingType":"CONTRACT_PRICE","priceProtect":false,"reduceOnly":false,"closePosition":false,'
    b'"time":1780000000000,"updateTime":1780000000000}'
)
ASKED = {"asked_ms": 1_000, "told_ms": 1_200}


def error(code: int, message: str = "no") -> bytes:
    return json.dumps({"code": code, "msg": message}).encode()


def test_an_order_in_the_answer_was_taken():
    answer = placed(200, ORDER, **ASKED)
    assert isinstance(answer, OrderSeen)
    assert (answer.order_id, answer.side, str(answer.quantity), answer.asked_ms) == (22542179, 1, "0.010", 1_000)


@pytest.mark.parametrize(
    ("status", "code"), [(400, -2021), (400, -4164), (400, -2019), (401, -2015), (403, -2015), (200, -1111)]
)
def test_a_code_of_the_exchange_refuses(status, code):
    assert placed(status, error(code), **ASKED) == Refused(code=code, message="no", told_ms=1_200)


@pytest.mark.parametrize(("status", "body"), [(429, error(-1003)), (418, error(-1003)), (429, b"<html>"), (418, b"")])
def test_what_a_limiter_stops_was_not_taken(status, body):
    assert isinstance(placed(status, body, **ASKED), Refused)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, error(-1000)),
        (503, b""),
        (500, b"<html>bad gateway</html>"),
        (400, error(-1000, "An unknown error occurred")),
        (400, error(-1001)),
        (400, error(-1006)),
        (200, error(-1007)),
        (400, error(-4083)),
        (400, error(-4116)),
        (403, b"<html>firewall</html>"),
        (200, ORDER[:100]),
        (200, b"[]"),
        (200, b"{}"),
        (504, error(-2010)),
    ],
)
def test_everything_else_is_unknown_and_never_failed(status, body):
    assert isinstance(placed(status, body, **ASKED), Unanswered)


def test_a_signature_that_was_refused_was_never_taken_whatever_its_code():
    answer = placed(400, error(-1000, "Signature check failed"), **ASKED)
    assert isinstance(answer, Refused)
    assert answer.is_fatal
    assert not Refused(code=-2021, message="Order would immediately trigger.", told_ms=1).is_fatal


def test_a_question_finds_the_order_or_not_or_learns_nothing():
    assert isinstance(asked_about(200, ORDER, **ASKED), OrderSeen)
    assert asked_about(400, error(-2013), **ASKED) == NotFound(asked_ms=1_000)
    assert asked_about(400, error(-2011), **ASKED) == NotFound(asked_ms=1_000)
    for status, body in ((503, b""), (400, error(-1021)), (429, error(-1003)), (503, error(-2013)), (200, b"[]")):
        assert isinstance(asked_about(status, body, **ASKED), Unanswered)
