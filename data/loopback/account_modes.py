"""What an account can set: leverage, margin type, isolated margin, one-way or hedge mode, multi-assets mode.

Source: Aster futures API, "Account configuration".
"""

from dataclasses import replace
from decimal import Decimal

from data.loopback.account import Account
from data.loopback.account_events import LeverageUpdate, ModeUpdate
from data.loopback.account_orders import ZERO
from data.loopback.account_positions import money
from data.loopback.query import Refused


def deposit(account: Account, amount_usdt: Decimal, now_ms: int) -> None:
    """Money comes in from outside, or leaves when negative."""
    account.ledger.move("TRANSFER", amount_usdt, now_ms)
    reason = "DEPOSIT" if amount_usdt > 0 else "WITHDRAW"
    account.tell(account.ledger.update(reason, now_ms, change_usdt=amount_usdt))


def has_deposited(account: Account) -> bool:
    return any(row.kind == "TRANSFER" for row in account.ledger.incomes)


def set_leverage(account: Account, symbol: str, leverage: int, now_ms: int) -> None:
    """Another leverage for a contract; isolated positions keep the margin they have.

    Raises
    ------
    Refused
        When it is out of range, too high for the position held, or the free margin does not cover a lower one.
    """
    ledger, rules = account.ledger, account.rules[symbol]
    if not 1 <= leverage <= rules.max_leverage:
        raise Refused(-4028, f"Leverage {leverage} is not valid.")
    positions = [each for each in ledger.positions(symbol) if each.amount]
    notional = max((abs(each.amount) * ledger.mark(symbol) for each in positions), default=ZERO)
    if notional > rules.max_notional_usdt(leverage):
        raise Refused(-2027, "Exceeded the maximum allowable position at current leverage.")
    before = ledger.leverages[symbol]
    if leverage < before and positions and symbol in ledger.isolated:
        raise Refused(-4161, "Leverage reduction is not supported in Isolated Margin Mode with open positions.")
    free = ledger.available_usdt(account.orders())
    needed = sum((ledger.position_margin(each) for each in positions), ZERO)
    needed += ledger.order_margin(symbol, account.orders(symbol))
    if needed * before / leverage - needed > free:
        raise Refused(-2028, "Leverage is smaller than permitted: insufficient margin balance.")
    ledger.leverages[symbol] = leverage
    if leverage != before:
        account.tell(LeverageUpdate(time_ms=now_ms, symbol=symbol, leverage=leverage))


def set_margin_type(account: Account, symbol: str, is_isolated: bool, now_ms: int) -> None:
    """Isolated or crossed margin for a contract without orders and positions."""
    ledger = account.ledger
    if is_isolated == (symbol in ledger.isolated):
        raise Refused(-4046, "No need to change margin type.")
    if is_isolated and ledger.is_multi_assets:
        raise Refused(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
    if account.orders(symbol):
        raise Refused(-4047, "Margin type cannot be changed if there exists open orders.")
    if any(position.amount for position in ledger.positions(symbol)):
        raise Refused(-4048, "Margin type cannot be changed if there exists position.")
    (ledger.isolated.add if is_isolated else ledger.isolated.discard)(symbol)
    account.tell(ledger.update("MARGIN_TYPE_CHANGE", now_ms))


def change_isolated_margin(account: Account, symbol: str, side: str, change_usdt: Decimal, now_ms: int) -> None:
    """Put margin aside for an isolated position, or take some back when negative."""
    ledger = account.ledger
    position = ledger.position(symbol, side)
    if symbol not in ledger.isolated:
        raise Refused(-4049, "Add margin only support for isolated position.")
    if not position.amount:
        raise Refused(-4054, "Cannot add position margin: position is 0.")
    if change_usdt > ledger.available_usdt(account.orders()):
        raise Refused(-4050, "Cross balance insufficient.")
    after = replace(position, isolated_usdt=position.isolated_usdt + money(change_usdt), updated_ms=now_ms)
    least = ledger.position_margin(position)
    if change_usdt < 0 and after.isolated_usdt + min(position.unrealised(ledger.mark(symbol)), ZERO) < least:
        raise Refused(-4051, "Isolated balance insufficient.")
    account.tell(ledger.update("MARGIN_TRANSFER", now_ms, (ledger.keep(after),)))


def set_hedge(account: Account, is_hedge: bool, now_ms: int) -> None:
    """One position per contract, or one per side; only while there are neither orders nor positions."""
    ledger = account.ledger
    if is_hedge == ledger.is_hedge:
        raise Refused(-4059, "No need to change position side.")
    if account.open:
        raise Refused(-4067, "Position side cannot be changed if there exists open orders.")
    if any(position.amount for position in ledger.positions()):
        raise Refused(-4068, "Position side cannot be changed if there exists position.")
    ledger.is_hedge = is_hedge
    account.tell(ModeUpdate(time_ms=now_ms, is_multi_assets=ledger.is_multi_assets, is_hedge=is_hedge))


def set_multi_assets(account: Account, is_multi_assets: bool, now_ms: int) -> None:
    """Whether other assets count as margin; not beside isolated margin."""
    ledger = account.ledger
    if is_multi_assets and ledger.isolated:
        raise Refused(-4168, "Unable to switch to Multi-Assets mode while a contract's margin is isolated.")
    ledger.is_multi_assets = is_multi_assets
    account.tell(ModeUpdate(time_ms=now_ms, is_multi_assets=is_multi_assets, is_hedge=ledger.is_hedge))
