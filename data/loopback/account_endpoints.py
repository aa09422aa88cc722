"""The signed endpoints of the loopback exchange: what there is, under which version, and those about the account.

Source: Aster futures API, "Signed endpoints".
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from data.loopback import account_answers as answers
from data.loopback import account_modes, account_trading
from data.loopback.account_asked import Asked, answered
from data.loopback.account_events import plain
from data.loopback.account_orders import BOTH, POSITION_SIDES, STP_MODES
from data.loopback.account_request import flag, number, one_of
from data.loopback.query import Call, Refused

Handler = Callable[[Asked], Call]
V1, V3 = "/fapi/v1/", "/fapi/v3/"


class Endpoint(NamedTuple):
    """``needs_signature`` is false of what V1 answers to the key alone."""

    method: str
    path: str
    name: str  # as faults call it
    handler: Handler
    needs_signature: bool = True


def _leverage(asked: Asked) -> Call:
    symbol = asked.query.symbol()
    asked.query.required("leverage")
    leverage = asked.query.whole("leverage")

    def change() -> dict[str, Any]:
        account_modes.set_leverage(asked.account, symbol, leverage, asked.now_ms)
        most = asked.account.rules[symbol].max_notional_usdt(leverage)
        return {"leverage": leverage, "maxNotionalValue": plain(most), "symbol": symbol}

    return answered(1, change)


def _margin_type(asked: Asked) -> Call:
    symbol = asked.query.symbol()
    asked.query.required("marginType")
    kind = one_of(asked.query, "marginType", ("ISOLATED", "CROSSED"), -1130, None)

    def change() -> dict[str, Any]:
        account_modes.set_margin_type(asked.account, symbol, kind == "ISOLATED", asked.now_ms)
        return answers.SUCCESS

    return answered(1, change)


def _position_margin(asked: Asked) -> Call:
    symbol, amount = asked.query.symbol(), number(asked.query, "amount", True)
    side = one_of(asked.query, "positionSide", POSITION_SIDES, -4060, BOTH)
    asked.query.required("type")
    kind = asked.query.whole("type")
    if kind not in (1, 2):
        raise Refused(-1130, "Data sent for parameter 'type' is not valid.")
    if amount <= 0:
        raise Refused(-4055, "Amount must be positive.")

    def change() -> dict[str, Any]:
        change_usdt = amount if kind == 1 else -amount
        account_modes.change_isolated_margin(asked.account, symbol, side, change_usdt, asked.now_ms)
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    return answered(1, change)


def _set_mode(parameter: str, setting: Callable[..., None]) -> Handler:
    def handler(asked: Asked) -> Call:
        asked.query.required(parameter)
        wanted = flag(asked.query, parameter)

        def change() -> dict[str, Any]:
            setting(asked.account, wanted, asked.now_ms)
            return answers.SUCCESS

        return answered(1, change)

    return handler


def _mode(parameter: str, attribute: str) -> Handler:
    return lambda asked: answered(30, lambda: {parameter: getattr(asked.account.ledger, attribute)})


def _set_stp_mode(asked: Asked) -> Call:
    asked.query.required("stpMode")
    mode = one_of(asked.query, "stpMode", STP_MODES, -1130, None)

    def change() -> dict[str, Any]:
        asked.account.stp_mode = mode
        return answers.SUCCESS

    return answered(1, change)


def _stp_mode(asked: Asked) -> Call:
    return answered(30, lambda: {"stpMode": asked.account.stp_mode})


def _balance(asked: Asked) -> Call:
    return answered(5, lambda: answers.balance(asked.account, asked.now_ms))


def _summary(asked: Asked) -> Call:
    return answered(5, lambda: answers.summary(asked.account, asked.now_ms))


def _positions(asked: Asked) -> Call:
    symbol = asked.query.optional_symbol()
    account = asked.account
    return answered(5, lambda: [answers.position(account, each) for each in account.ledger.positions(symbol)])


def _income(asked: Asked) -> Call:
    symbol, kind = asked.query.optional_symbol(), asked.query.text("incomeType")
    start_ms, end_ms = account_trading.week(asked, None)
    limit = asked.query.limit(100, 1_000)

    def find() -> list[dict[str, Any]]:
        rows = [
            row
            for row in asked.account.ledger.incomes
            if symbol in (None, row.symbol) and kind in (None, row.kind) and start_ms <= row.time_ms <= end_ms
        ]
        return [answers.income(row) for row in (rows[:limit] if asked.has_start else rows[-limit:])]

    return answered(30, find)


def _brackets(asked: Asked) -> Call:
    symbol, rules = asked.query.optional_symbol(), asked.account.rules
    if symbol is not None:
        return answered(1, lambda: answers.brackets(rules[symbol]))
    return answered(1, lambda: [answers.brackets(each) for each in rules.values()])


def _adl_quantile(asked: Asked) -> Call:
    symbol, account = asked.query.optional_symbol(), asked.account
    symbols = account.rules if symbol is None else (symbol,)
    return answered(5, lambda: [answers.adl_quantile(account, each) for each in symbols])


def _commission_rate(asked: Asked) -> Call:
    symbol, settings = asked.query.symbol(), asked.account.settings
    rates = {
        "makerCommissionRate": plain(Decimal(repr(settings.maker_fee))),
        "takerCommissionRate": plain(Decimal(repr(settings.taker_fee))),
    }
    return answered(20, lambda: {"symbol": symbol, **rates})


def _new_listen_key(asked: Asked) -> Call:
    return answered(1, lambda: {"listenKey": asked.office.listen_key(asked.number, asked.now_ms)})


def _keep_listen_key(asked: Asked) -> Call:
    def keep() -> dict[str, Any]:
        if not asked.office.has_listen_key(asked.number):
            raise Refused(-1125, "This listenKey does not exist.")
        asked.office.listen_key(asked.number, asked.now_ms)
        return {}

    return answered(1, keep)


def _drop_listen_key(asked: Asked) -> Call:
    def drop() -> dict[str, Any]:
        asked.office.drop_listen_key(asked.number)
        return {}

    return answered(1, drop)


_BOTH_VERSIONS: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "order", account_trading.place),
    ("POST", "order/test", account_trading.test),
    ("GET", "order", account_trading.order),
    ("DELETE", "order", account_trading.cancel),
    ("POST", "batchOrders", account_trading.place_batch),
    ("DELETE", "batchOrders", account_trading.cancel_batch),
    ("DELETE", "allOpenOrders", account_trading.cancel_all),
    ("POST", "countdownCancelAll", account_trading.count_down),
    ("GET", "openOrder", account_trading.open_order),
    ("GET", "openOrders", account_trading.open_orders),
    ("GET", "allOrders", account_trading.all_orders),
    ("GET", "userTrades", account_trading.user_trades),
    ("GET", "forceOrders", account_trading.force_orders),
    ("POST", "leverage", _leverage),
    ("POST", "marginType", _margin_type),
    ("POST", "positionMargin", _position_margin),
    ("POST", "positionSide/dual", _set_mode("dualSidePosition", account_modes.set_hedge)),
    ("GET", "positionSide/dual", _mode("dualSidePosition", "is_hedge")),
    ("POST", "multiAssetsMargin", _set_mode("multiAssetsMargin", account_modes.set_multi_assets)),
    ("GET", "multiAssetsMargin", _mode("multiAssetsMargin", "is_multi_assets")),
    ("GET", "income", _income),
    ("GET", "leverageBracket", _brackets),
    ("GET", "adlQuantile", _adl_quantile),
    ("GET", "commissionRate", _commission_rate),
)
_V3_ONLY: tuple[tuple[str, str, Handler], ...] = (
    ("PUT", "order", account_trading.modify),
    ("POST", "noop", account_trading.noop),
    ("POST", "stpMode", _set_stp_mode),
    ("GET", "stpMode", _stp_mode),
)
_LISTEN_KEY = (("POST", _new_listen_key), ("PUT", _keep_listen_key), ("DELETE", _drop_listen_key))
_ELSEWHERE = (  # name, path in V1, paths in V3, handler
    ("balance", "/fapi/v2/balance", ("/fapi/v3/balance",), _balance),
    ("account", "/fapi/v4/account", ("/fapi/v3/accountWithJoinMargin", "/fapi/v3/account"), _summary),
    ("positionRisk", "/fapi/v2/positionRisk", ("/fapi/v3/positionRisk",), _positions),
)


def endpoints() -> Iterator[tuple[bool, Endpoint]]:
    """Every signed endpoint, and whether it is V3's."""
    for method, name, handler in _BOTH_VERSIONS:
        yield False, Endpoint(method, V1 + name, name, handler)
        yield True, Endpoint(method, V3 + name, name, handler)
    for method, name, handler in _V3_ONLY:
        yield True, Endpoint(method, V3 + name, name, handler)
    for name, old_path, paths, handler in _ELSEWHERE:
        yield False, Endpoint("GET", old_path, name, handler)
        for path in paths:
            yield True, Endpoint("GET", path, name, handler)
    for method, handler in _LISTEN_KEY:
        yield False, Endpoint(method, f"{V1}listenKey", "listenKey", handler, needs_signature=False)
        yield True, Endpoint(method, f"{V3}listenKey", "listenKey", handler)
