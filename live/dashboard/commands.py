"""What the operator wants done: asked for, shown what it would do, confirmed, and left for the runner to execute.

The dashboard acts on nothing itself. It hands a confirmed command to an inbox; the runner reads it there, does it, and
answers in its journal.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from live.dashboard.answers import Answer, Order, Position, Usdt

CONFIRM_WITHIN_S = 60.0
_MOST_PENDING = 100

Action = Literal["pause", "resume", "reduce", "flatten", "close"]
TYPED: dict[str, str | None] = {
    "pause": None,
    "resume": "RESUME",
    "reduce": None,
    "flatten": "FLATTEN",
    "close": "CLOSE",
}

Inbox = Callable[[str, str | None], str]
"""Leaves an action, and the symbol that close is about, for the runner; returns the command's name in the journal.

Raises ValueError when the runner takes no commands.
"""


class Wanted(BaseModel):
    """A command: first without ``confirm``, then again with the one that was answered."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"action": "flatten"}, {"action": "close", "symbol": "BTCUSDT"}]},
    )

    action: Action
    symbol: Annotated[str | None, Field(description="of close; none of the others has one", max_length=40)] = None
    confirm: Annotated[str | None, Field(description="as the first step answered it", max_length=64)] = None
    typed: Annotated[str | None, Field(description="the word that the first step asks for", max_length=20)] = None


class Plan(Answer):
    """First step: what the command would do, and what has to be sent to confirm it."""

    action: Action
    symbol: str | None
    confirm: Annotated[str, Field(description="send this back within the time")]
    typed: Annotated[str | None, Field(description="a word the operator has to type; null for none")]
    within_s: float
    closes: Annotated[list[Position], Field(description="positions that would be closed at market")]
    cancels: Annotated[list[Order], Field(description="open orders that would go with them")]
    expected_cost_usdt: Annotated[Usdt, Field(description="taker fees and assumed slippage of closing")]


class Taken(Answer):
    """Second step: the command waits for the runner, which answers in the journal under this name."""

    action: Action
    symbol: str | None
    command_id: str


@dataclass(frozen=True, kw_only=True)
class _Pending:
    action: str
    symbol: str | None
    until_s: float


class Commands:
    """Commands between their two steps.

    Parameters
    ----------
    inbox : where confirmed ones go; None where no runner takes any.
    """

    def __init__(self, inbox: Inbox | None, now_s: Callable[[], float] = time.monotonic) -> None:
        self._inbox, self._now_s = inbox, now_s
        self._pending: dict[str, _Pending] = {}

    @property
    def are_taken(self) -> bool:
        """Whether there is an inbox."""
        return self._inbox is not None

    def plan(
        self,
        wanted: Wanted,
        positions: Sequence[Position],
        orders: Sequence[Order],
        cost_usdt: Callable[[Position], float],
    ) -> Plan:
        """First step.

        Raises
        ------
        LookupError
            When there is no position to close.
        ValueError
            When a symbol is missing or has no place, or no runner takes commands.
        """
        if self._inbox is None:
            raise ValueError("this runner takes no commands from here; use `aster-live ctl` on its machine")
        if (wanted.action == "close") != (wanted.symbol is not None):
            raise ValueError("close takes a symbol, and no other command does")
        closes = [each for each in positions if wanted.action == "flatten" or each.symbol == wanted.symbol]
        if wanted.action == "close" and not closes:
            raise LookupError(f"no open position of {wanted.symbol}")
        now_s = self._now_s()
        alive = {key: each for key, each in self._pending.items() if each.until_s > now_s}
        confirm = secrets.token_urlsafe(12)
        alive[confirm] = _Pending(action=wanted.action, symbol=wanted.symbol, until_s=now_s + CONFIRM_WITHIN_S)
        self._pending = dict(list(alive.items())[-_MOST_PENDING:])
        trades = {each.trade_id for each in closes}
        return Plan(
            action=wanted.action,
            symbol=wanted.symbol,
            confirm=confirm,
            typed=TYPED.get(wanted.action),
            within_s=CONFIRM_WITHIN_S,
            closes=closes,
            cancels=[each for each in orders if each.trade_id in trades],
            expected_cost_usdt=sum(map(cost_usdt, closes)),
        )

    def take(self, wanted: Wanted) -> Taken:
        """Second step: hand it to the runner.

        Raises
        ------
        PermissionError
            When it was not asked for just so, too long ago, or the word was not typed.
        ValueError
            When no runner takes commands.
        """
        pending = self._pending.get(wanted.confirm)
        if pending is None or (pending.action, pending.symbol) != (wanted.action, wanted.symbol):
            raise PermissionError("nothing of that kind waits for this confirmation; ask again")
        if pending.until_s <= self._now_s():
            raise PermissionError(f"that was asked more than {CONFIRM_WITHIN_S:.0f} s ago; ask again")
        if TYPED.get(wanted.action, wanted.typed) != wanted.typed:
            raise PermissionError(f"type {TYPED[wanted.action]} to confirm")
        del self._pending[wanted.confirm]
        return Taken(action=wanted.action, symbol=wanted.symbol, command_id=self._inbox(wanted.action, wanted.symbol))
