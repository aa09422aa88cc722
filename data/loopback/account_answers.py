"""What the signed endpoints answer, in the exchange's words.

Source: Aster futures API, "Order object", "Response shapes".
"""

from decimal import Decimal
from typing import Any

from data.loopback.account import Account
from data.loopback.account_events import ASSET, plain
from data.loopback.account_ledger import Income
from data.loopback.account_orders import BUY, TRAILING, ZERO, Fill, Order
from data.loopback.account_positions import Position, money
from data.loopback.account_rules import Rules

SUCCESS = {"code": 200, "msg": "success"}
_ALIAS = "loopback"


def order(order: Order, *, is_query: bool = False, is_acknowledged: bool = False) -> dict[str, Any]:
    """An order.

    Parameters
    ----------
    is_query : answers to a question name the time of its creation and no ``cumQty``.
    is_acknowledged : it was only taken: what was filled at once is not told yet.
    """
    filled = ZERO if is_acknowledged else order.filled
    average = ZERO if is_acknowledged else order.average_price
    said = {
        "orderId": order.order_id,
        "clientOrderId": order.client_id,
        "symbol": order.symbol,
        "status": "NEW" if is_acknowledged else order.status,
        "price": plain(order.price),
        "avgPrice": plain(money(average)) if average else "0.00000",
        "origQty": plain(order.quantity),
        "executedQty": plain(filled),
        "cumQuote": plain(ZERO if is_acknowledged else order.filled_notional),
        "timeInForce": order.time_in_force,
        "type": order.type,
        "origType": order.original_type,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": plain(order.stop_price),
        "workingType": order.working_type,
        "priceProtect": order.price_protect,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "updateTime": order.updated_ms,
    }
    if order.original_type == TRAILING:
        said |= {"activatePrice": plain(order.activation_price), "priceRate": plain(order.callback_rate)}
    return said | ({"time": order.created_ms} if is_query else {"cumQty": plain(filled)})


def trade(fill: Fill) -> dict[str, Any]:
    return {
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "positionSide": fill.position_side,
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "quoteQty": plain(fill.notional),
        "commission": plain(fill.commission_usdt),
        "commissionAsset": ASSET,
        "marginAsset": ASSET,
        "realizedPnl": plain(fill.realised_usdt),
        "buyer": fill.side == BUY,
        "maker": fill.is_maker,
        "time": fill.time_ms,
    }


def income(row: Income) -> dict[str, Any]:
    return {
        "symbol": row.symbol,
        "incomeType": row.kind,
        "income": plain(row.amount_usdt),
        "asset": ASSET,
        "info": "",
        "time": row.time_ms,
        "tranId": row.transaction_id,
        "tradeId": "" if row.trade_id is None else str(row.trade_id),
    }


def balance(account: Account, now_ms: int) -> list[dict[str, Any]]:
    ledger = account.ledger
    available = plain(money(ledger.available_usdt(account.orders())))
    return [
        {
            "accountAlias": _ALIAS,
            "asset": ASSET,
            "balance": plain(ledger.wallet_usdt),
            "crossWalletBalance": plain(ledger.cross_wallet_usdt),
            "crossUnPnl": plain(ledger.cross_unrealised_usdt),
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "marginAvailable": True,
            "updateTime": now_ms,
        }
    ]


def summary(account: Account, now_ms: int) -> dict[str, Any]:
    """The whole account: totals, assets, positions of every contract."""
    ledger, orders = account.ledger, account.orders()
    positions = ledger.positions()
    held = sum((ledger.position_margin(each) for each in positions), ZERO)
    maintained = sum((ledger.maintenance(each) for each in positions), ZERO)
    ordered = sum((ledger.order_margin(symbol, account.orders(symbol)) for symbol in account.rules), ZERO)
    wallet, unrealised = ledger.wallet_usdt, ledger.unrealised_usdt
    available = plain(money(ledger.available_usdt(orders)))
    crossed = {
        "crossWalletBalance": plain(ledger.cross_wallet_usdt),
        "crossUnPnl": plain(ledger.cross_unrealised_usdt),
    }
    totals = {
        "InitialMargin": held + ordered,
        "MaintMargin": maintained,
        "WalletBalance": wallet,
        "UnrealizedProfit": unrealised,
        "MarginBalance": wallet + unrealised,
        "PositionInitialMargin": held,
        "OpenOrderInitialMargin": ordered,
    }
    told = {name: plain(money(value)) for name, value in totals.items()}
    free = {"availableBalance": available, "maxWithdrawAmount": available}
    asset = {name[0].lower() + name[1:]: value for name, value in told.items()}
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": False,
        "updateTime": now_ms,
        **{f"total{name}": value for name, value in told.items()},
        **{f"total{name[0].upper()}{name[1:]}": value for name, value in crossed.items()},
        **free,
        "assets": [{"asset": ASSET, **asset, **crossed, **free, "marginAvailable": True, "updateTime": now_ms}],
        "positions": [_in_summary(account, each) for each in positions],
    }


def position(account: Account, position: Position) -> dict[str, Any]:
    """A position, as positionRisk tells it."""
    ledger, symbol = account.ledger, position.symbol
    leverage, mark_price = ledger.leverages[symbol], ledger.mark(symbol)
    is_isolated = symbol in ledger.isolated
    return {
        "symbol": symbol,
        "positionAmt": plain(position.amount),
        "entryPrice": plain(money(position.entry_price)),
        "markPrice": plain(mark_price),
        "unRealizedProfit": plain(position.unrealised(mark_price)),
        "liquidationPrice": plain(money(ledger.liquidation_price(position))),
        "leverage": str(leverage),
        "maxNotionalValue": plain(account.rules[symbol].max_notional_usdt(leverage)),
        "marginType": "isolated" if is_isolated else "cross",
        "isolatedMargin": plain(_isolated_margin(position, mark_price) if is_isolated else ZERO),
        "isAutoAddMargin": "false",
        "positionSide": position.side,
        "notional": plain(money(position.amount * mark_price)),
        "isolatedWallet": plain(position.isolated_usdt),
        "updateTime": position.updated_ms,
    }


def brackets(rules: Rules) -> dict[str, Any]:
    return {
        "symbol": rules.symbol,
        "brackets": [
            {
                "bracket": number,
                "initialLeverage": each.max_leverage,
                "notionalCap": float(each.cap_usdt),
                "notionalFloor": float(each.floor_usdt),
                "maintMarginRatio": float(each.maintenance_rate),
                "cum": float(each.maintenance_amount_usdt),
            }
            for number, each in enumerate(rules.brackets, 1)
        ],
    }


def adl_quantile(account: Account, symbol: str) -> dict[str, Any]:
    """How near to deleveraging positions are: never near here."""
    names = ("LONG", "SHORT", "HEDGE") if account.ledger.is_hedge else ("LONG", "SHORT", "BOTH")
    return {"symbol": symbol, "adlQuantile": dict.fromkeys(names, 0)}


def _in_summary(account: Account, position: Position) -> dict[str, Any]:
    ledger, symbol = account.ledger, position.symbol
    leverage = ledger.leverages[symbol]
    ordered = [each for each in account.orders(symbol) if each.position_side == position.side]
    held, waiting = ledger.position_margin(position), ledger.order_margin(symbol, ordered)
    return {
        "symbol": symbol,
        "initialMargin": plain(money(held + waiting)),
        "maintMargin": plain(ledger.maintenance(position)),
        "unrealizedProfit": plain(position.unrealised(ledger.mark(symbol))),
        "positionInitialMargin": plain(money(held)),
        "openOrderInitialMargin": plain(money(waiting)),
        "leverage": str(leverage),
        "isolated": symbol in ledger.isolated,
        "entryPrice": plain(money(position.entry_price)),
        "maxNotional": plain(account.rules[symbol].max_notional_usdt(leverage)),
        "positionSide": position.side,
        "positionAmt": plain(position.amount),
        "updateTime": position.updated_ms,
    }


def _isolated_margin(position: Position, mark_price: Decimal) -> Decimal:
    return position.isolated_usdt + position.unrealised(mark_price)
