"""An account of the loopback exchange: takes orders, meets the market, keeps the ledger. Pure: time is passed in.

It meets the tape alone: no other account sees its orders, and the tape does not react to them. What happened since the
last question is in ``news()``, in order. All prices, quantities and money are decimals.

How orders are filled. An order that takes gets the book's levels, best first, within its limit; a market order within
the contract's bound around the mark price. An order that rests is filled at its price by trades of the tape beyond it,
by trades at it once those ahead of it are served, and by a book that comes to stand across it.

Source: Aster futures API, "Order model", "Signed endpoints", "Loopback simulator: required behaviour".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from data.loopback import account_checks, account_liquidation, account_triggers
from data.loopback.account_book import Book, Level, is_beyond, other
from data.loopback.account_events import Event, OrderUpdate
from data.loopback.account_ledger import Ledger
from data.loopback.account_orders import (
    BUY,
    CANCELED,
    EXPIRED,
    FILLED,
    LAST_PRICE,
    LIMIT,
    MARK_PRICE,
    MARKET,
    PARTIALLY_FILLED,
    SELL,
    TRAILING,
    ZERO,
    NewOrder,
    Order,
    taken,
)
from data.loopback.account_rules import Rules, check_filters
from data.loopback.account_settings import AccountSettings
from data.loopback.query import Refused


class Account:
    """One account.

    Attributes
    ----------
    rules : of the contracts it knows.
    ledger : its money and positions.
    books : what it meets of each contract's market.
    open, finished : orders by id.
    stp_mode : what happens when its own orders meet.
    warned : margins of which the margin call was sent.
    """

    def __init__(self, rules: Mapping[str, Rules], settings: AccountSettings):
        self.settings = settings
        self.rules: dict[str, Rules] = {}
        self.books: dict[str, Book] = {}
        self.ledger = Ledger(self.rules, self.books, settings)
        self.open: dict[int, Order] = {}
        self.finished: dict[int, Order] = {}
        self.stp_mode = "EXPIRE_TAKER"
        self.warned: set[str] = set()
        self._next_order_id = settings.first_order_id
        self._countdown_ms: dict[str, int] = {}
        self._news: list[Event] = []
        for each in rules.values():
            self.know(each)

    def know(self, rules: Rules) -> None:
        """A contract begins, or its rules change; open orders stay as they are."""
        symbol = rules.symbol
        self.rules[symbol] = rules
        self.books.setdefault(symbol, Book(tick_size=rules.tick_size, shows_all=self.settings.shows_all))
        self.ledger.leverages.setdefault(symbol, min(self.settings.leverage, rules.max_leverage))

    def news(self) -> list[Event]:
        """What happened since the last call."""
        told, self._news = self._news, []
        return told

    def tell(self, event: Event) -> None:
        """Something more happened."""
        self._news.append(event)

    def place(self, asked: NewOrder, now_ms: int) -> Order:
        """Take an order; the order as it is when the exchange answers.

        Raises
        ------
        Refused
            For the first rule that it breaks, in the documented order; nothing has happened then.
        """
        asked = account_checks.checked(self, asked)
        order_id = self.next_order_id()
        order = taken(asked, order_id, asked.client_id or f"web_{order_id}", now_ms)
        if order.type == TRAILING:
            order = account_triggers.watched(order, self.books[order.symbol].price_of(order.working_type))
        order = self._keep(order, "NEW", now_ms)
        return order if order.is_conditional else self._work(order, now_ms)

    def modify(self, order: Order, price: Decimal, quantity: Decimal, now_ms: int) -> Order:
        """Another price and quantity for a limit order, at the end of the queue. Refused, it stays as it was."""
        if order.type != LIMIT:
            raise Refused(-1020, "Only limit orders can be modified.")
        if quantity <= order.filled:
            raise Refused(-2010, "The new quantity is already filled.")
        changed = replace(order, price=price, quantity=quantity)
        check_filters(changed, self.rules[order.symbol], self.ledger.mark(order.symbol))
        account_checks.check_margin(self, changed, without=order)
        return self._work(self._keep(changed, "AMENDMENT", now_ms), now_ms)

    def cancel(self, order: Order, now_ms: int) -> Order:
        """Take an open order back."""
        return self._keep(replace(order, status=CANCELED), "CANCELED", now_ms)

    def cancel_all(self, symbol: str, now_ms: int, *, spare_conditional: bool = False) -> None:
        """Take back every open order of a contract."""
        for order in self.orders(symbol):
            if not (spare_conditional and order.is_conditional):
                self.cancel(order, now_ms)

    def count_down(self, symbol: str, wait_ms: int, now_ms: int) -> None:
        """Cancel a contract's orders when so much time has passed without another call; 0 disarms."""
        self._countdown_ms.pop(symbol, None)
        if wait_ms:
            self._countdown_ms[symbol] = now_ms + wait_ms

    def orders(self, symbol: str | None = None) -> list[Order]:
        """Open orders, oldest first."""
        return [order for order in self.open.values() if symbol in (None, order.symbol)]

    def order(self, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """An order by its id, or the latest of that client id; None where there is none."""
        if order_id is not None:
            found = self.open.get(order_id) or self.finished.get(order_id)
            return found if found is not None and found.symbol == symbol else None
        for orders in (self.open, self.finished):
            same = [each for each in orders.values() if (each.symbol, each.client_id) == (symbol, client_id)]
            if same:
                return max(same, key=lambda each: each.order_id)
        return None

    def on_trade(self, symbol: str, price: Decimal, quantity: Decimal, is_buyer_maker: bool, now_ms: int) -> None:
        """Others traded: fills what rests in its way, then fires what watches the last price."""
        book = self.books[symbol]
        book.last_price = price
        for order in self._resting(symbol, BUY if is_buyer_maker else SELL):
            filled, ahead = book.passed(order, price, quantity)
            quantity -= self._make(order.order_id, filled, now_ms)
            self._queue_up(order.order_id, ahead)
        self._watch(symbol, LAST_PRICE, now_ms)

    def on_book(self, symbol: str, bids: Sequence[Level], asks: Sequence[Level], now_ms: int) -> None:
        """A new book: fills what it stands across; nobody is ahead that it does not show."""
        book = self.books[symbol]
        book.show(bids, asks)
        for order in (*self._resting(symbol, BUY), *self._resting(symbol, SELL)):
            across = [level for level in (asks if order.side == BUY else bids)
                      if not is_beyond(order.side, level[0], order.price)]  # fmt: skip
            for price, offered in across:
                book.take(price, self._make(order.order_id, offered, now_ms))
            queue = book.queue(order.side, order.price)
            if queue is not None and queue < order.ahead:
                self._queue_up(order.order_id, queue)

    def on_mark(self, symbol: str, mark_price: Decimal, now_ms: int) -> None:
        """A new mark price: fires what watches it, then liquidates whose margin it uses up."""
        self.books[symbol].mark_price = mark_price
        self._watch(symbol, MARK_PRICE, now_ms)
        account_liquidation.look_after(self, symbol, now_ms)

    def on_funding(self, symbol: str, rate: Decimal, now_ms: int) -> None:
        """Funding is due."""
        before = self.ledger.wallet_usdt
        paid = self.ledger.fund(symbol, rate, now_ms)
        if paid:
            told = paid if symbol in self.ledger.isolated else ()
            self.tell(self.ledger.update("FUNDING_FEE", now_ms, told, self.ledger.wallet_usdt - before))
            account_liquidation.look_after(self, symbol, now_ms)

    @property
    def due_ms(self) -> int | None:
        """When the next countdown ends; None without any."""
        return min(self._countdown_ms.values(), default=None)

    def on_time(self, now_ms: int) -> None:
        """Time has passed: countdowns end."""
        for symbol, due_ms in tuple(self._countdown_ms.items()):
            if due_ms <= now_ms:
                del self._countdown_ms[symbol]
                self.cancel_all(symbol, now_ms, spare_conditional=self.settings.countdown_spares_conditional)

    def force(self, order: Order, price: Decimal, now_ms: int) -> None:
        """The exchange closes a position with an order of its own, whatever the book says."""
        self._fill(self._keep(order, "NEW", now_ms), price, order.left, now_ms, is_maker=False, execution="CALCULATED")

    def next_order_id(self) -> int:
        """An id for an order of the exchange."""
        self._next_order_id += 1
        return self._next_order_id - 1

    def _work(self, order: Order, now_ms: int) -> Order:
        """Let an order take what it may; what is left rests or expires."""
        book = self.books[order.symbol]
        offers = book.fillable(order.side, order.left, account_checks.worst_price(self, order))
        is_short = sum((quantity for _, quantity in offers), ZERO) < order.left
        if (order.time_in_force == "GTX" and offers) or (order.time_in_force == "FOK" and is_short):
            return self._keep(replace(order, status=EXPIRED), "EXPIRED", now_ms)
        for price, quantity in offers:
            if not self._meets_own(order, price, now_ms):
                return self._keep(replace(order, status=EXPIRED), "EXPIRED", now_ms)
            book.take(price, quantity)
            order = self._fill(order, price, quantity, now_ms, is_maker=False)
        if not order.left:
            return order
        if order.type == MARKET or order.time_in_force in ("IOC", "FOK"):
            return self._keep(replace(order, status=EXPIRED), "EXPIRED", now_ms)
        queue = book.queue(order.side, order.price)
        last = (book.bids if order.side == BUY else book.asks)[-1:]
        return self._replace(replace(order, ahead=last[0][1] if queue is None else queue))

    def _meets_own(self, order: Order, price: Decimal, now_ms: int) -> bool:
        """Whether an order may go on to a price of the book; own orders before it expire, or it does."""
        mode = order.stp_mode or self.stp_mode
        for own in self._resting(order.symbol, other(order.side)):
            if is_beyond(order.side, price, own.price):
                if mode != "EXPIRE_TAKER":
                    self._keep(replace(own, status=EXPIRED), "EXPIRED", now_ms)
                if mode != "EXPIRE_MAKER":
                    return False
        return True

    def _make(self, order_id: int, offered: Decimal, now_ms: int) -> Decimal:
        """Fill an order that rests, at its price, as far as it can be; what was filled."""
        order = self.open.get(order_id)
        if order is None:  # ended by what others filled meanwhile
            return ZERO
        quantity = min(offered, order.left)
        if order.is_closing:
            quantity = min(quantity, self.ledger.position(order.symbol, order.position_side).closable(order.sign))
        if quantity > 0:
            self._fill(order, order.price, quantity, now_ms, is_maker=True)
        return quantity

    def _queue_up(self, order_id: int, ahead: Decimal) -> None:
        """So much is ahead of an order from now on."""
        if order_id in self.open:
            self.open[order_id] = replace(self.open[order_id], ahead=ahead)

    def _fill(
        self,
        order: Order,
        price: Decimal,
        quantity: Decimal,
        now_ms: int,
        *,
        is_maker: bool,
        execution: str = "TRADE",
    ) -> Order:
        fill = self.ledger.fill(order, price, quantity, now_ms, is_maker=is_maker)
        filled = order.filled + quantity
        order = replace(
            order,
            filled=filled,
            filled_notional=order.filled_notional + fill.notional,
            status=FILLED if filled == order.quantity else PARTIALLY_FILLED,
            updated_ms=now_ms,
        )
        self._replace(order)
        self.tell(OrderUpdate(time_ms=now_ms, order=order, execution=execution, fill=fill))
        position = self.ledger.position(order.symbol, order.position_side)
        self.tell(self.ledger.update("ORDER", now_ms, (position,)))
        for each in self.orders(order.symbol):
            if each.position_side == position.side and not position.closable(each.sign) and self._ends_when_flat(each):
                self._keep(replace(each, status=EXPIRED), "EXPIRED", now_ms)
        return order

    def _ends_when_flat(self, order: Order) -> bool:
        """Conditional orders wait for the next position; only resting ones have nothing left to do."""
        if order.close_position:
            return self.settings.close_all_ends_when_flat
        return order.is_closing and order.is_resting

    def _watch(self, symbol: str, working_type: str, now_ms: int) -> None:
        """Show a price to the conditional orders that watch it."""
        book, rules = self.books[symbol], self.rules[symbol]
        for order in self.orders(symbol):
            if not order.is_conditional or order.order_id not in self.open or book.price_of(order.working_type) is None:
                continue
            if order.type == TRAILING and order.working_type == working_type:
                order = self._replace(account_triggers.watched(order, book.price_of(working_type)))
            # the other price counts too: a protected order waits for both
            if (order.working_type == working_type or order.price_protect) and account_triggers.fires(
                order, book, rules
            ):
                self._trigger(order, now_ms)

    def _trigger(self, order: Order, now_ms: int) -> None:
        """A conditional order is worked from now on; what can do nothing expires."""
        kind = LIMIT if order.has_limit else MARKET
        order = replace(order, type=kind)
        try:
            if order.is_closing:
                order = account_checks.cut_down(self, order)
            account_checks.check_margin(self, order, without=order)
        except Refused:
            self._keep(replace(order, status=EXPIRED), "EXPIRED", now_ms)
            return
        self._work(self._keep(order, "NEW", now_ms), now_ms)

    def _keep(self, order: Order, execution: str, now_ms: int) -> Order:
        """An order as it is from now on, and told."""
        order = self._replace(replace(order, updated_ms=now_ms))
        self.tell(OrderUpdate(time_ms=now_ms, order=order, execution=execution))
        return order

    def _replace(self, order: Order) -> Order:
        if order.is_open:
            self.open[order.order_id] = order
        else:
            self.open.pop(order.order_id, None)
            self.finished[order.order_id] = order
        return order

    def _resting(self, symbol: str, side: str) -> list[Order]:
        """Orders in the book, best price first, then oldest."""
        resting = [order for order in self.orders(symbol) if order.is_resting and order.side == side]
        return sorted(resting, key=lambda order: (-order.sign * order.price, order.order_id))
