"""Money that its owner puts into the account or takes out of it: neither gain nor loss.

The account's stream tells of it. While nobody listened only the account's history does; it is asked then, before what
the account is worth is weighed against what it was.
"""

from data.clock import Clock
from live.brokers.account_reader import AccountReader
from live.brokers.risk_keeper import RiskKeeper
from live.budget import Urgency
from live.order_evidence import Unread
from live.risk import Transferred

_UNNOTICED_MS = 60_000  # so long may a stream have been dead before that is known
_SETTLED_MS = 60_000  # so long after it is heard again the history may still get a row of before
_SAME_MS = 5_000  # stream and history may date one transfer so differently

Moved = tuple[int, float]  # when, and USDT, negative for what was taken out


class Transfers:
    """Tells the risk of each of them once.

    Parameters
    ----------
    since_ms : what was told of before this run ends then.
    """

    def __init__(self, reader: AccountReader, risk: RiskKeeper, clock: Clock, *, since_ms: int):
        self._reader, self._risk, self._clock = reader, risk, clock
        self._since_ms: int | None = since_ms  # from then on one may have been missed; None: none
        self._listening_ms: int | None = None
        self._known: set[str] = set()
        self._heard: list[Moved] = []
        self._read: list[Moved] = []

    def listens(self) -> None:
        """The account's stream is open."""
        self._listening_ms = self._clock.now_ms()

    def is_deaf(self) -> None:
        """It has ended."""
        self._listening_ms = None
        if self._since_ms is None:
            self._since_ms = self._clock.now_ms() - _UNNOTICED_MS

    def heard(self, time_ms: int, amount_usdt: float) -> None:
        """The stream told of one."""
        told = time_ms, amount_usdt
        same = next((each for each in self._read if _is_same(each, told)), None)
        if same is not None:
            self._read.remove(same)
            return
        self._heard.append(told)
        self._react(amount_usdt)

    async def catch_up(self, urgency: Urgency, until_ms: int) -> bool:
        """Ask for what may have been missed up to a time; whether it is known now."""
        if self._since_ms is None:
            return True
        asked_ms = self._clock.now_ms()
        rows = await self._reader.transfers(urgency, self._since_ms)
        if isinstance(rows, Unread):
            return False
        for row in rows:
            read = row.time_ms, row.amount_usdt
            if row.transaction_id in self._known or not self._since_ms <= row.time_ms <= until_ms:
                continue
            self._known.add(row.transaction_id)
            if not any(_is_same(each, read) for each in self._heard):
                self._read.append(read)
                self._react(row.amount_usdt)
        if self._listening_ms is not None and asked_ms - self._listening_ms > _SETTLED_MS:
            self._since_ms = None
        return True

    def _react(self, amount_usdt: float) -> None:
        self._risk.react(Transferred(time_ms=self._clock.now_ms(), amount_usdt=amount_usdt))


def _is_same(one: Moved, other: Moved) -> bool:
    return abs(one[0] - other[0]) <= _SAME_MS and one[1] == other[1]
