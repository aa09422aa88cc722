"""Signed endpoints about orders: placing, changing, cancelling, asking.

Source: Aster futures API, "Trading".
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from data.loopback import account_answers as answers
from data.loopback import account_checks, account_request
from data.loopback.account_asked import Asked, answered
from data.loopback.account_orders import NewOrder, Order
from data.loopback.query import Call, Query, Refused
from data.loopback.tape import DAY_MS

_MOST_IN_BATCH, _MOST_CANCELS = 5, 10
_WEEK_MS = 7 * DAY_MS


def place(asked: Asked) -> Call:
    order = account_request.new_order(asked.query)
    wants_result = account_request.wants_result(asked.query)
    return asked.ordering(1, 1, lambda: _placed(asked, order, wants_result))


def test(asked: Asked) -> Call:
    """Everything is checked and nothing happens."""
    order = account_request.new_order(asked.query)
    account_request.wants_result(asked.query)

    def check() -> dict[str, Any]:
        account_checks.checked(asked.account, order)
        return {}

    return answered(1, check)


def place_batch(asked: Asked) -> Call:
    """Up to five orders, each taken or refused for itself."""
    texts = _list(asked.query, "batchOrders", _MOST_IN_BATCH, -4082)

    def place_one(text: object) -> dict[str, Any]:
        query = account_request.query_of(text, asked.symbols)
        order, wants_result = account_request.new_order(query), account_request.wants_result(query)
        query.check_all_read()
        return _placed(asked, order, wants_result)

    return asked.ordering(5, len(texts), lambda: _each(texts, place_one))


def modify(asked: Asked) -> Call:
    symbol, order_id, client_id = _named(asked.query)
    price, quantity = (account_request.number(asked.query, name, True) for name in ("price", "quantity"))

    def change() -> dict[str, Any]:
        order = _open(asked, symbol, order_id, client_id, -2013, "Order does not exist.")
        return answers.order(asked.account.modify(order, price, quantity, asked.now_ms))

    return asked.ordering(1, 1, change)


def cancel(asked: Asked) -> Call:
    symbol, order_id, client_id = _named(asked.query)
    return answered(1, lambda: _cancelled(asked, symbol, order_id, client_id))


def cancel_batch(asked: Asked) -> Call:
    symbol = asked.query.symbol()
    name = "orderIdList" if asked.query.text("orderIdList") is not None else "origClientOrderIdList"
    ids = _list(asked.query, name, _MOST_CANCELS, -1130)

    def cancel_one(one: object) -> dict[str, Any]:
        if name == "orderIdList" and isinstance(one, int):
            return _cancelled(asked, symbol, one, None)
        return _cancelled(asked, symbol, None, str(one))

    return answered(1, lambda: _each(ids, cancel_one))


def cancel_all(asked: Asked) -> Call:
    symbol = asked.query.symbol()

    def cancel_them() -> dict[str, Any]:
        asked.account.cancel_all(symbol, asked.now_ms)
        return {"code": "200", "msg": "The operation of cancel all open order is done."}

    return answered(1, cancel_them)


def count_down(asked: Asked) -> Call:
    symbol = asked.query.symbol()
    asked.query.required("countdownTime")
    wait_ms = asked.query.whole("countdownTime")

    def begin() -> dict[str, Any]:
        asked.account.count_down(symbol, wait_ms, asked.now_ms)
        return {"symbol": symbol, "countdownTime": str(wait_ms)}

    return answered(10, begin)


def noop(asked: Asked) -> Call:
    """Its nonce is used up: that is all it is for."""
    return answered(1, lambda: answers.SUCCESS)


def order(asked: Asked) -> Call:
    """Orders that ended a week ago without a fill are forgotten."""
    symbol, order_id, client_id = _named(asked.query)

    def find() -> dict[str, Any]:
        found = asked.account.order(symbol, order_id, client_id)
        if found is None or _is_forgotten(found, asked.now_ms):
            raise Refused(-2013, "Order does not exist.")
        return answers.order(found, is_query=True)

    return answered(1, find)


def open_order(asked: Asked) -> Call:
    symbol, order_id, client_id = _named(asked.query)

    def find() -> dict[str, Any]:
        found = _open(asked, symbol, order_id, client_id, -2013, "Order does not exist.")
        return answers.order(found, is_query=True)

    return answered(1, find)


def open_orders(asked: Asked) -> Call:
    symbol = asked.query.optional_symbol()
    weight = 40 if symbol is None else 1
    return answered(weight, lambda: [answers.order(each, is_query=True) for each in asked.account.orders(symbol)])


def all_orders(asked: Asked) -> Call:
    symbol, from_id, limit = asked.query.symbol(), asked.query.whole("orderId"), asked.query.limit(500, 1_000)
    start_ms, end_ms = week(asked, from_id)

    def find() -> list[dict[str, Any]]:
        account = asked.account
        every = sorted([*account.finished.values(), *account.open.values()], key=lambda each: each.order_id)
        same = [each for each in every if each.symbol == symbol and not _is_forgotten(each, asked.now_ms)]
        if from_id is not None:
            found = [each for each in same if each.order_id >= from_id][:limit]
        else:
            found = [each for each in same if start_ms <= each.created_ms <= end_ms][-limit:]
        return [answers.order(each, is_query=True) for each in found]

    return answered(5, find)


def user_trades(asked: Asked) -> Call:
    symbol, from_id, limit = asked.query.symbol(), asked.query.whole("fromId"), asked.query.limit(500, 1_000)
    start_ms, end_ms = week(asked, from_id)

    def find() -> list[dict[str, Any]]:
        same = [fill for fill in asked.account.ledger.fills if fill.symbol == symbol]
        if from_id is not None:
            found = [fill for fill in same if fill.trade_id >= from_id][:limit]
        else:
            within = [fill for fill in same if start_ms <= fill.time_ms <= end_ms]
            found = within[:limit] if asked.has_start else within[-limit:]
        return [answers.trade(fill) for fill in found]

    return answered(5, find)


def force_orders(asked: Asked) -> Call:
    """Orders with which the exchange closed positions."""
    symbol, limit = asked.query.optional_symbol(), asked.query.limit(50, 100)
    kinds = {None: ("autoclose-", "adl_autoclose"), "LIQUIDATION": ("autoclose-",), "ADL": ("adl_autoclose",)}
    begins = kinds[account_request.one_of(asked.query, "autoCloseType", ("LIQUIDATION", "ADL"), -1130, None)]
    start_ms, end_ms = week(asked, None)

    def find() -> list[dict[str, Any]]:
        found = [
            each
            for each in asked.account.finished.values()
            if each.client_id.startswith(begins)
            and symbol in (None, each.symbol)
            and start_ms <= each.created_ms <= end_ms
        ]
        return [answers.order(each, is_query=True) for each in found[-limit:]]

    return answered(50 if symbol is None else 20, find)


def week(asked: Asked, from_id: int | None) -> tuple[int, int]:
    """The span asked for, milliseconds; the last seven days without one."""
    start_ms, end_ms = asked.query.span()
    if from_id is not None and (start_ms is not None or end_ms is not None):
        raise Refused(-1128, "Combination of optional parameters invalid.")
    if start_ms is not None and end_ms is not None and end_ms - start_ms > _WEEK_MS:
        raise Refused(-1127, "More than 168 hours between startTime and endTime.")
    asked.has_start = start_ms is not None
    if end_ms is None:
        end_ms = asked.now_ms if start_ms is None else start_ms + _WEEK_MS
    return end_ms - _WEEK_MS if start_ms is None else start_ms, end_ms


def _placed(asked: Asked, order: NewOrder, wants_result: bool) -> dict[str, Any]:
    placed = asked.account.place(order, asked.now_ms)
    return answers.order(placed, is_acknowledged=not wants_result)


def _cancelled(asked: Asked, symbol: str, order_id: int | None, client_id: str | None) -> dict[str, Any]:
    order = _open(asked, symbol, order_id, client_id, -2011, "Unknown order sent.")
    return answers.order(asked.account.cancel(order, asked.now_ms))


def _named(query: Query) -> tuple[str, int | None, str | None]:
    """The order that a request is about: contract, id, client id."""
    symbol, order_id, client_id = query.symbol(), query.whole("orderId"), query.text("origClientOrderId")
    if order_id is None and client_id is None:
        raise Refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    return symbol, order_id, client_id


def _open(asked: Asked, symbol: str, order_id: int | None, client_id: str | None, code: int, why: str) -> Order:
    found = asked.account.order(symbol, order_id, client_id)
    if found is None or not found.is_open:
        raise Refused(code, why)
    return found


def _is_forgotten(order: Order, now_ms: int) -> bool:
    return not order.is_open and not order.filled and now_ms - order.updated_ms > _WEEK_MS


def _list(query: Query, name: str, most: int, code: int) -> list[object]:
    """A JSON list in a parameter."""
    try:
        found = json.loads(query.required(name))
    except ValueError as error:
        raise Refused(-1130, f"Data sent for parameter '{name}' is not valid.") from error
    if not isinstance(found, list) or not 1 <= len(found) <= most:
        raise Refused(code, f"Invalid number of entries in '{name}'; legal range is '1 to {most}'.")
    return found


def _each(asked_for: Iterable[object], do: Callable[[object], dict[str, Any]]) -> list[dict[str, Any]]:
    """What becomes of each; a refusal stands where the answer would."""
    found = []
    for one in asked_for:
        try:
            found.append(do(one))
        except Refused as refusal:
            found.append({"code": refusal.code, "msg": refusal.message})
    return found
