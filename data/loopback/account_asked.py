"""A signed request as its handler sees it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from data.loopback.account import Account
from data.loopback.query import Call, Query


class Office(Protocol):
    """What handlers need beside the account."""

    accounts: list[Account]
    symbols: tuple[str, ...]

    def count_orders(self, number: int, orders: int, now_ms: int) -> None:
        """Count orders of an account; refuse them over the limit."""

    def order_count(self, number: int) -> int:
        """Orders of an account in this minute."""

    def listen_key(self, number: int, now_ms: int) -> str:
        """The account's listen key, made or kept alive."""

    def has_listen_key(self, number: int) -> bool:
        """Whether it has one that lives."""

    def drop_listen_key(self, number: int) -> None:
        """End it."""


@dataclass
class Asked:
    """One request of an account, which is known by now.

    Parameters
    ----------
    number : of the account.
    now_ms : the market's time.
    has_start : whether it names a start; ``account_trading.week`` finds out.
    """

    office: Office
    number: int
    query: Query
    now_ms: int
    has_start: bool = False

    @property
    def account(self) -> Account:
        return self.office.accounts[self.number]

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.office.symbols

    def ordering(self, weight: int, orders: int, do: Callable[[], object]) -> Call:
        """A call that counts as so many orders."""

        def counted() -> str:
            self.office.count_orders(self.number, orders, self.now_ms)
            return text(do())

        return Call(weight, counted, self._order_count)

    def _order_count(self) -> Mapping[str, str]:
        return {"X-MBX-ORDER-COUNT-1M": str(self.office.order_count(self.number))}


def answered(weight: int, do: Callable[[], object]) -> Call:
    """A call that answers what a function returns, as JSON."""
    return Call(weight, lambda: text(do()))


def text(answer: Any) -> str:
    """JSON without spaces."""
    return json.dumps(answer, separators=(",", ":"))
