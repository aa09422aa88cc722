"""Positions: what is held, what it cost, what closing a part of it made. Exact: money is in hundred-millionths of USDT.

A position keeps its cost and not its entry price. Closing a part takes its share of the cost, rounded once, so that
what was realised and what is left always add up to what was paid, whatever the order of fills.
"""

from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal

from data.loopback.account_orders import BOTH, LONG, ZERO

_UNIT = Decimal("0.00000001")


def money(value: Decimal) -> Decimal:
    """USDT as the exchange keeps it."""
    return value.quantize(_UNIT, ROUND_HALF_EVEN)


@dataclass(frozen=True, kw_only=True)
class Position:
    """One of an account's positions; in hedge mode a contract has two.

    Parameters
    ----------
    amount : base units, negative when short.
    cost_usdt : what it was opened for, same sign as the amount.
    isolated_usdt : margin of its own; 0 when crossed.
    realised_usdt : of all closed parts so far, before commission.
    """

    symbol: str
    side: str = BOTH
    amount: Decimal = ZERO
    cost_usdt: Decimal = ZERO
    isolated_usdt: Decimal = ZERO
    realised_usdt: Decimal = ZERO
    updated_ms: int = 0

    @property
    def entry_price(self) -> Decimal:
        """Average; 0 when flat."""
        return self.cost_usdt / self.amount if self.amount else ZERO

    @property
    def sign(self) -> int:
        return (self.amount > 0) - (self.amount < 0)

    def unrealised(self, mark_price: Decimal) -> Decimal:
        """What closing it at the mark price would make, USDT."""
        return money(self.amount * mark_price - self.cost_usdt)

    def closable(self, sign: int) -> Decimal:
        """How much an order of that direction (1 to buy) can close."""
        return abs(self.amount) if self.sign == -sign else ZERO

    def filled(self, change: Decimal, price: Decimal, leverage: int, is_isolated: bool, now_ms: int) -> "Position":
        """The position after a fill; what its closed part made is in ``realised_usdt``.

        A fill larger than the position turns it over: all of it is closed, the rest opens the other way.

        Parameters
        ----------
        change : base units, negative when sold.
        """
        closed = min(abs(change), self.closable(1 if change > 0 else -1))
        opened = abs(change) - closed
        after = self._closed(closed, price) if closed else self
        if opened:
            signed = opened if change > 0 else -opened
            notional = money(opened * price)
            margin = money(notional / leverage) if is_isolated else ZERO
            after = replace(
                after,
                amount=after.amount + signed,
                cost_usdt=after.cost_usdt + (notional if change > 0 else -notional),
                isolated_usdt=after.isolated_usdt + margin,
            )
        return replace(after, updated_ms=now_ms)

    def _closed(self, quantity: Decimal, price: Decimal) -> "Position":
        left = self.amount - self.sign * quantity
        share = quantity / abs(self.amount)
        cost = money(self.cost_usdt * share) if left else self.cost_usdt
        margin = money(self.isolated_usdt * share) if left else self.isolated_usdt
        made = money(self.sign * quantity * price) - cost
        return replace(
            self,
            amount=left,
            cost_usdt=self.cost_usdt - cost,
            isolated_usdt=self.isolated_usdt - margin,
            realised_usdt=self.realised_usdt + made,
        )


def sides(is_hedge: bool) -> tuple[str, ...]:
    """The positions that a contract has."""
    return (LONG, "SHORT") if is_hedge else (BOTH,)
