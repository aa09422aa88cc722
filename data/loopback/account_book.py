"""What an account meets in the market: the last price, the mark price, and a book it takes from and rests in.

An account meets the tape alone: what it takes is gone until the next book arrives, and nobody else sees its orders.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from data.loopback.account_orders import BUY, LAST_PRICE, SELL, ZERO, Order

Level = tuple[Decimal, Decimal]  # price, quantity


@dataclass
class Book:
    """A contract as an account meets it. Prices are None before the market told any.

    Parameters
    ----------
    tick_size : USDT.
    shows_all : nothing stands behind the levels shown; otherwise the book goes on as it ends.
    """

    tick_size: Decimal
    shows_all: bool = False
    last_price: Decimal | None = None
    mark_price: Decimal | None = None
    bids: list[Level] = field(default_factory=list)
    asks: list[Level] = field(default_factory=list)
    _taken: dict[Decimal, Decimal] = field(default_factory=dict)  # by price, since the last book

    def show(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """A new book, best levels first; what was taken from the one before stands there again."""
        self.bids, self.asks = list(bids), list(asks)
        self._taken.clear()

    def best(self, side: str) -> Decimal | None:
        """The best price that an order of that side can take; None in an empty book."""
        return next((price for price, _ in self.offers(side)), None)

    def offers(self, side: str) -> Iterator[Level]:
        """What an order of that side can take, best first; endless behind the levels shown, unless that is all.

        Behind the last level the book goes on in steps as wide as the last one and with its quantity.
        """
        shown = self.asks if side == BUY else self.bids
        for price, quantity in shown:
            if left := quantity - self._taken.get(price, ZERO):
                yield price, left
        if self.shows_all or not shown:
            return
        price, quantity = shown[-1]
        step = price - shown[-2][0] if len(shown) > 1 else self.tick_size * (1 if side == BUY else -1)
        while (price := price + step) > 0:
            if left := quantity - self._taken.get(price, ZERO):
                yield price, left

    def fillable(self, side: str, quantity: Decimal, limit: Decimal | None) -> list[Level]:
        """What an order of that side and quantity would get now, up to its limit; nothing is taken."""
        found = []
        for price, offered in self.offers(side):
            if quantity <= 0 or (limit is not None and is_beyond(side, price, limit)):
                break
            found.append((price, min(offered, quantity)))
            quantity -= offered
        return found

    def take(self, price: Decimal, quantity: Decimal) -> None:
        """That much at a price is gone."""
        self._taken[price] = self._taken.get(price, ZERO) + quantity

    def price_of(self, working_type: str) -> Decimal | None:
        """The price that a conditional order watches."""
        return self.last_price if working_type == LAST_PRICE else self.mark_price

    def queue(self, side: str, price: Decimal) -> Decimal | None:
        """What rests at a price on that side; None behind the levels shown, where nobody knows."""
        shown = self.bids if side == BUY else self.asks
        if not shown or is_beyond(side, price, shown[0][0]):
            return ZERO
        if is_beyond(side, shown[-1][0], price):
            return None
        return next((quantity for level_price, quantity in shown if level_price == price), ZERO)

    def passed(self, order: Order, price: Decimal, quantity: Decimal) -> tuple[Decimal, Decimal]:
        """What a trade of others at a price leaves for an order that rests: (its fill, who is still ahead of it).

        A trade beyond its price would have met it first. At its price those ahead of it are served before.
        """
        if price == order.price:
            left = quantity - order.ahead
            return max(ZERO, min(left, order.left)), max(ZERO, -left)
        is_through = price < order.price if order.side == BUY else price > order.price
        return (min(quantity, order.left), ZERO) if is_through else (ZERO, order.ahead)


def is_beyond(side: str, price: Decimal, limit: Decimal) -> bool:
    """Whether a price is worse than the limit of an order of that side."""
    return price > limit if side == BUY else price < limit


def other(side: str) -> str:
    return SELL if side == BUY else BUY
