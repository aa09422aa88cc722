from decimal import Decimal

from data.loopback.account_ledger import Income
from pipelines.live_soak import differences, in_doubt

D = Decimal
INCOMES = [
    Income(kind="TRANSFER", amount_usdt=D(10_000), time_ms=1, transaction_id=1),
    Income(kind="REALIZED_PNL", amount_usdt=D("1.25"), time_ms=2, transaction_id=2),
    Income(kind="COMMISSION", amount_usdt=D("-0.2"), time_ms=2, transaction_id=3),
    Income(kind="FUNDING_FEE", amount_usdt=D("-0.05"), time_ms=3, transaction_id=4),
]
EVENTS = [
    ("execution", "a", {"realised_usdt": "1.25", "commission": "0.2"}),
    ("income", None, {"amount_usdt": -0.05}),
    ("order", "a", {"status": "UNKNOWN"}),
    ("order", "b", {"status": "SENT"}),
    ("order", "a", {"status": "FILLED"}),
]


def test_the_journal_s_money_is_set_beside_the_exchange_s_kind_by_kind():
    figures = differences(EVENTS, INCOMES)
    assert [each["value"] for each in figures] == [1.25, 0.0, -0.2, 0.0, -0.05, 0.0]
    assert all(each["holds"] for each in figures)


def test_a_millionth_of_a_dollar_is_a_difference():
    one = ("execution", "c", {"realised_usdt": "0.000001", "commission": "0"})
    figures = differences([*EVENTS, one], INCOMES)
    assert [each["holds"] for each in figures] == [True, False, True, True, True, True]


def test_an_order_that_was_never_answered_is_in_doubt():
    assert in_doubt(EVENTS) == ["b"]
