"""An account's money and positions: fills, fees, funding, margin. Every USDT that moves is a row of ``incomes``.

Source: Aster futures API, "Account data", "Response shapes".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from data.loopback import account_margin
from data.loopback.account_book import Book
from data.loopback.account_events import AccountUpdate, Holding
from data.loopback.account_orders import ZERO, Fill, NewOrder, Order
from data.loopback.account_positions import Position, money, sides
from data.loopback.account_rules import Rules
from data.loopback.account_settings import AccountSettings


@dataclass(frozen=True, kw_only=True)
class Income:
    """Money that came (negative: went). ``transaction_id`` is unique within a type."""

    kind: str  # TRANSFER, REALIZED_PNL, COMMISSION, FUNDING_FEE, INSURANCE_CLEAR
    amount_usdt: Decimal
    time_ms: int
    transaction_id: int
    symbol: str = ""
    trade_id: int | None = None


class Ledger:
    """Money and positions. Times in milliseconds.

    Attributes
    ----------
    wallet_usdt : the balance, without what positions would make; always the sum of ``incomes``.
    is_hedge : two positions per contract.
    leverages, isolated : by symbol; contracts whose positions have a margin of their own.
    """

    def __init__(self, rules: Mapping[str, Rules], books: Mapping[str, Book], settings: AccountSettings):
        self.rules, self.books = rules, books
        self.wallet_usdt = ZERO
        self.is_hedge = self.is_multi_assets = False
        self.leverages: dict[str, int] = {}
        self.isolated: set[str] = set()
        self.fills: list[Fill] = []
        self.incomes: list[Income] = []
        self._held: dict[tuple[str, str], Position] = {}
        self._fees = {True: _exact(settings.maker_fee), False: _exact(settings.taker_fee)}
        self._next_trade_id = settings.first_trade_id

    def position(self, symbol: str, side: str) -> Position:
        """What is held; a flat one where nothing ever was."""
        return self._held.get((symbol, side)) or Position(symbol=symbol, side=side)

    def positions(self, symbol: str | None = None) -> list[Position]:
        """Those of one contract or of all, flat ones too, as the mode has them."""
        symbols = self.rules if symbol is None else (symbol,)
        return [self.position(each, side) for each in symbols for side in sides(self.is_hedge)]

    def move(self, kind: str, amount_usdt: Decimal, now_ms: int, symbol: str = "", trade_id: int | None = None) -> None:
        """Money comes or goes."""
        self.wallet_usdt += amount_usdt
        row = Income(
            kind=kind, amount_usdt=amount_usdt, time_ms=now_ms, transaction_id=len(self.incomes) + 1,
            symbol=symbol, trade_id=trade_id,
        )  # fmt: skip
        self.incomes.append(row)

    def fill(self, order: Order, price: Decimal, quantity: Decimal, now_ms: int, *, is_maker: bool) -> Fill:
        """A part of an order is filled: position, realised profit and commission."""
        symbol, side = order.symbol, order.position_side
        before = self.position(symbol, side)
        after = before.filled(order.sign * quantity, price, self.leverages[symbol], symbol in self.isolated, now_ms)
        self._held[symbol, side] = after
        fill = Fill(
            trade_id=self._next_trade_id,
            order_id=order.order_id,
            symbol=symbol,
            side=order.side,
            position_side=side,
            price=price,
            quantity=quantity,
            commission_usdt=money(price * quantity * self._fees[is_maker]),
            realised_usdt=after.realised_usdt - before.realised_usdt,
            is_maker=is_maker,
            time_ms=now_ms,
        )
        self._next_trade_id += 1
        self.fills.append(fill)
        if fill.realised_usdt:
            self.move("REALIZED_PNL", fill.realised_usdt, now_ms, symbol, fill.trade_id)
        if fill.commission_usdt:
            self.move("COMMISSION", -fill.commission_usdt, now_ms, symbol, fill.trade_id)
        return fill

    def fund(self, symbol: str, rate: Decimal, now_ms: int) -> list[Position]:
        """Funding of a contract: longs pay a positive rate; the positions that paid or were paid."""
        paid = []
        for position in self.positions(symbol):
            if position.amount:
                amount = -money(position.amount * self.mark(symbol) * rate)
                self.move("FUNDING_FEE", amount, now_ms, symbol)
                if symbol in self.isolated:
                    position = self.keep(replace(position, isolated_usdt=position.isolated_usdt + amount))
                paid.append(position)
        return paid

    def keep(self, position: Position) -> Position:
        """A position as it is from now on."""
        self._held[position.symbol, position.side] = position
        return position

    def mark(self, symbol: str) -> Decimal:
        """The mark price; 0 before the first."""
        return self.books[symbol].mark_price or ZERO

    @property
    def cross_wallet_usdt(self) -> Decimal:
        """The balance without isolated margins."""
        return self.wallet_usdt - sum((each.isolated_usdt for each in self._held.values()), ZERO)

    def crossed(self) -> list[Position]:
        """Open positions that share the wallet as margin."""
        return [each for each in self._held.values() if each.amount and each.symbol not in self.isolated]

    @property
    def cross_unrealised_usdt(self) -> Decimal:
        return sum((each.unrealised(self.mark(each.symbol)) for each in self.crossed()), ZERO)

    @property
    def unrealised_usdt(self) -> Decimal:
        """What closing everything at the mark prices would make."""
        return sum((each.unrealised(self.mark(each.symbol)) for each in self._held.values()), ZERO)

    def position_margin(self, position: Position) -> Decimal:
        """Initial margin that a position takes."""
        symbol = position.symbol
        return account_margin.position_margin(position, self.mark(symbol), self.leverages[symbol])

    def order_margin(self, symbol: str, orders: Iterable[NewOrder]) -> Decimal:
        """Margin that orders of a contract may need."""
        positions, mark_price = self.positions(symbol), self.mark(symbol)
        return account_margin.order_margin(positions, orders, mark_price, self.leverages[symbol])

    def available_usdt(self, orders: Iterable[Order]) -> Decimal:
        """What new orders may use, with these open; never negative."""
        by_symbol: dict[str, list[Order]] = {}
        for order in orders:
            by_symbol.setdefault(order.symbol, []).append(order)
        used = sum((self.position_margin(each) for each in self.crossed()), ZERO)
        used += sum((self.order_margin(symbol, each) for symbol, each in by_symbol.items()), ZERO)
        return max(self.cross_wallet_usdt + self.cross_unrealised_usdt - used, ZERO)

    def maintenance(self, position: Position) -> Decimal:
        """Margin that a position must keep."""
        symbol = position.symbol
        return account_margin.maintenance(position, self.mark(symbol), self.rules[symbol])

    def liquidation_price(self, position: Position) -> Decimal:
        """The mark price at which a position is liquidated; 0 where no price does it, or nothing is held."""
        symbol = position.symbol
        if not position.amount:
            return ZERO
        if symbol in self.isolated:
            sharing, margin = [position], position.isolated_usdt
        else:
            sharing = [each for each in self.crossed() if each.symbol == symbol]
            others = [each for each in self.crossed() if each.symbol != symbol]
            margin = self.cross_wallet_usdt + sum(
                (each.unrealised(self.mark(each.symbol)) - self.maintenance(each) for each in others), ZERO
            )
        return account_margin.liquidation_price(sharing, margin, self.mark(symbol), self.rules[symbol])

    def holding(self, position: Position) -> Holding:
        """A position and its worth, for the user stream."""
        mark_price = self.mark(position.symbol)
        return Holding(
            position=position,
            unrealised_usdt=position.unrealised(mark_price),
            is_isolated=position.symbol in self.isolated,
            mark_price=mark_price,
            maintenance_usdt=self.maintenance(position),
        )

    def update(
        self, reason: str, now_ms: int, positions: Iterable[Position] = (), change_usdt: Decimal = ZERO
    ) -> AccountUpdate:
        """What the user stream is told of a change."""
        return AccountUpdate(
            time_ms=now_ms,
            reason=reason,
            wallet_usdt=self.wallet_usdt,
            cross_wallet_usdt=self.cross_wallet_usdt,
            change_usdt=change_usdt,
            holdings=tuple(self.holding(each) for each in positions),
        )


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))
