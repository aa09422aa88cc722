"""The account side of the loopback exchange: its accounts, who may act for them, what they are told.

It sleeps until the first signed request and costs nothing before. From then on accounts meet the tape up to the
market's time, and the market stops at every moment of which a listening client has to be told.
"""

import asyncio
import hashlib
import heapq
import itertools
import json
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import numpy as np

from data.loopback import account_feed, account_liquidation, contracts
from data.loopback.account import Account
from data.loopback.account_doors import Doors
from data.loopback.account_events import OrderUpdate, force_order, listen_key_expired, told
from data.loopback.account_keys import AccountKeys, keys_of
from data.loopback.account_modes import deposit, has_deposited
from data.loopback.account_rules import rules_of
from data.loopback.account_settings import AccountSettings
from data.loopback.connection import Connection
from data.loopback.delivery import Queue, stamps, text_frame
from data.loopback.market import Market
from data.loopback.meter import OrderMeter
from data.loopback.query import Query, Refused
from data.loopback.tape import MINUTE_MS, NS_PER_MS
from data.loopback.trouble import Trouble

_BLOCK_MS = 5 * MINUTE_MS  # of the tape, read at a time
_PRIMING_LEVELS = 20
_NEVER_MS = 1 << 53


class Exchange(Protocol):
    """What the office needs of the exchange."""

    market: Market

    @property
    def now_ns(self) -> int:
        """The market's time."""

    @property
    def clock_ms(self) -> int:
        """The exchange's own clock, which may be wrong."""

    def listening(self) -> list[Connection]:
        """Connections that are sent messages."""

    async def reading(self, work: Callable[[], object]) -> object:
        """The result of work on the tape."""


class Office:
    """Every account. Times are the market's.

    Attributes
    ----------
    keys : of the accounts, by number from 0.
    accounts : empty while the office sleeps.
    """

    def __init__(self, exchange: Exchange, trouble: Trouble, settings: AccountSettings):
        self.settings = settings
        self.keys: tuple[AccountKeys, ...] = tuple(keys_of(settings.seed, each) for each in range(settings.accounts))
        self.accounts: list[Account] = []
        self._exchange, self._trouble = exchange, trouble
        self._doors = Doors(settings, self.keys)
        self._orders = OrderMeter(contracts.ORDERS_PER_MINUTE)
        self._reading = asyncio.Lock()
        self._rows: deque[account_feed.Row] = deque()
        self._read_ms = 0  # the tape is read up to here
        self._met_ms = 0  # and accounts have met it up to here
        self._meeting: account_feed.Meeting
        self._listen_keys: dict[int, tuple[str, int]] = {}  # by account: key, and when it expires
        self._made_keys = itertools.count()
        self._later: list[tuple[int, int, Callable[[], object]]] = []  # heap of (due ms, order, what)
        self._made_later = itertools.count()
        self._last_ns = 0  # no two messages are told at one moment, though time may stand still
        self._messages: list[tuple[str, bytes]] = []  # stream or listen key, text: not sent yet

    @property
    def symbols(self) -> tuple[str, ...]:
        """Contracts that exist."""
        return self._exchange.market.symbols(self.now_ms)

    @property
    def now_ms(self) -> int:
        """The time that accounts live in: the market's, or while it is being advanced a little later."""
        return max(self._met_ms, self._exchange.now_ns // NS_PER_MS)

    async def ready(self, until_ns: int) -> None:
        """Have the tape read up to a time; nothing while the office sleeps."""
        async with self._reading:
            while self.accounts and self._read_ms <= until_ns // NS_PER_MS:
                self._rows += await self._exchange.reading(self._read_on)
                self._read_ms += _BLOCK_MS

    def _read_on(self) -> list[account_feed.Row]:
        return account_feed.rows(self._exchange.market.source, self._read_ms, self._read_ms + _BLOCK_MS)

    def advance(self, to_ns: int, *, stops_for_news: bool = True) -> int:
        """Let accounts meet the market up to a time, or to the first moment with news for a listener: that moment."""
        to_ms = to_ns // NS_PER_MS
        while self.accounts and (next_ms := min(self._due_ms(), self._row_ms())) <= to_ms:
            while self._row_ms() == next_ms:
                self._meeting.happens(self._rows.popleft())
            self._met_ms = max(self._met_ms, next_ms)
            self._keep_time(self._met_ms)
            self.collect()
            if stops_for_news and any(self._listeners(name) for name, _ in self._messages):
                return max(next_ms * NS_PER_MS, self._exchange.now_ns)
        return to_ns

    async def catch_up(self) -> None:
        """Wake the office; let accounts meet what happened up to now."""
        await self._wake()
        await self.follow()

    async def follow(self) -> None:
        """Let accounts meet what happened up to now, such as time that passed unheard."""
        await self.ready(self._exchange.now_ns)
        self.advance(self._exchange.now_ns, stops_for_news=False)
        self.tell()

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        """Have something done so many market seconds from now."""
        self._at(self.now_ms + round(seconds * 1_000), what)

    def _at(self, due_ms: int, what: Callable[[], object]) -> None:
        heapq.heappush(self._later, (due_ms, next(self._made_later), what))

    async def _wake(self) -> None:
        """Open the accounts in the market as it is now."""
        async with self._reading:
            if self.accounts:
                return
            market, now_ms = self._exchange.market, self._exchange.now_ns // NS_PER_MS
            primed = await self._exchange.reading(lambda: _primed(market, now_ms))
            rules = {row["symbol"]: rules_of(row) for row in contracts.in_force(market.instruments, now_ms)}
            accounts = [Account(dict(rules), self.settings) for _ in self.keys]
            self._meeting = account_feed.Meeting(accounts)
            for row in primed:
                self._meeting.happens(row)
            for account in accounts:
                if self.settings.deposit_usdt:
                    deposit(account, Decimal(repr(self.settings.deposit_usdt)), now_ms)
                account.news()
            changes = market.instruments["event_time"].to_physical().to_list()
            for change_ms in sorted({change_ms for change_ms in changes if change_ms > now_ms}):
                self._at(change_ms, lambda at_ms=change_ms: self._change_rules(at_ms))
            self.accounts, self._read_ms = accounts, now_ms + 1

    def _change_rules(self, now_ms: int) -> None:
        for row in contracts.in_force(self._exchange.market.instruments, now_ms):
            for account in self.accounts:
                account.know(rules_of(row))

    def _row_ms(self) -> int:
        return self._rows[0].time_ms if self._rows else _NEVER_MS

    def _due_ms(self) -> int:
        """When something is due that the tape does not tell."""
        countdowns = [account.due_ms for account in self.accounts if account.due_ms is not None]
        keys = [expires_ms for _, expires_ms in self._listen_keys.values()]
        later = [self._later[0][0]] if self._later else []
        return min([*countdowns, *keys, *later], default=_NEVER_MS)

    def _keep_time(self, now_ms: int) -> None:
        for account in self.accounts:
            account.on_time(now_ms)
        while self._later and self._later[0][0] <= now_ms:
            heapq.heappop(self._later)[2]()
        for number, (_, expires_ms) in tuple(self._listen_keys.items()):
            if expires_ms <= now_ms:
                self.expire_listen_key(number, now_ms)

    def enter_v3(self, sent: bytes, query: Query) -> int:
        """The account of a V3 request."""
        number = self._doors.v3(sent, query, self._exchange.clock_ms * 1_000)
        if not has_deposited(self.accounts[number]):
            raise Refused(-5050, "Deposit required: the master wallet has never deposited.")
        return number

    def enter_v1(self, key: str | None, sent: bytes, query: Query, *, needs_signature: bool) -> int:
        """The account of a V1 request."""
        if not needs_signature:
            return self._doors.key_alone(key)
        return self._doors.v1(key, sent, query, self._exchange.clock_ms)

    def count_orders(self, number: int, orders: int, now_ms: int) -> None:
        """Count orders of an account; refuse them over the limit."""
        self._orders.count(number, orders, now_ms)

    def order_count(self, number: int) -> int:
        """Orders of an account in this minute."""
        return self._orders.used(number)

    def deposit(self, number: int, amount_usdt: Decimal) -> None:
        """Money comes to an account, or leaves it when negative; ValueError when there is no such account."""
        deposit(self._account(number), amount_usdt, self.now_ms)
        self.collect()
        self.tell()

    def deleverage(self, number: int, symbol: str, side: str) -> None:
        """Close a position of an account by auto-deleveraging; ValueError when there is none."""
        account = self._account(number)
        held = account.ledger.position(symbol, side)
        if not held.amount:
            raise ValueError(f"deleverage: expected an open position, got {symbol!r}, {side!r} of account {number}")
        account_liquidation.deleverage(account, held, self.now_ms)
        self.collect()
        self.tell()

    def _account(self, number: int) -> Account:
        if number >= len(self.accounts):
            raise ValueError(f"account: expected 0 to {len(self.accounts) - 1}, got {number}")
        return self.accounts[number]

    def listen_key(self, number: int, now_ms: int) -> str:
        """The account's listen key, made or kept alive."""
        if number in self._listen_keys:
            key = self._listen_keys[number][0]
        else:
            made = f"listen key {self.settings.seed}/{number}/{next(self._made_keys)}"
            key = "user" + hashlib.sha256(made.encode()).hexdigest()[:60]
        self._listen_keys[number] = key, now_ms + round(self.settings.listen_key_s * 1_000)
        return key

    def has_listen_key(self, number: int) -> bool:
        """Whether it has one that lives."""
        return number in self._listen_keys

    def drop_listen_key(self, number: int) -> None:
        """End it; its streams fall silent."""
        self._listen_keys.pop(number, None)

    def expire_listen_key(self, number: int, now_ms: int) -> None:
        """It has run out, and its streams are told so at last."""
        if number in self._listen_keys:
            key = self._listen_keys.pop(number)[0]
            self._messages.append((key, _text(listen_key_expired(now_ms))))

    def collect(self) -> None:
        """Put what accounts have to tell into words."""
        for number, account in enumerate(self.accounts):
            news = account.news()
            if number in self._listen_keys:
                key = self._listen_keys[number][0]
                self._messages += [(key, _text(told(event))) for event in news]
            for event in news:
                if isinstance(event, OrderUpdate) and event.is_liquidation:
                    names = (f"{event.order.symbol.lower()}@forceOrder", "!forceOrder@arr")
                    self._messages += [(name, _text(force_order(event))) for name in names]

    def tell(self) -> None:
        """Send it; whoever does not listen now will never hear of it."""
        messages, self._messages = self._messages, []
        for name in dict.fromkeys(name for name, _ in messages):
            texts = [text for of, text in messages if of == name]
            for connection in self._listeners(name):
                self._send(connection, name, texts)

    def _listeners(self, name: str) -> list[Connection]:
        return [each for each in self._exchange.listening() if name in each.subscriptions.names]

    def _send(self, connection: Connection, name: str, texts: Sequence[bytes]) -> None:
        """One connection's copy, and what faults make of it."""
        first_ns = max(self._exchange.now_ns, self._last_ns + 1)
        times_ns = np.arange(first_ns, first_ns + len(texts))
        self._last_ns = first_ns + len(texts) - 1
        if connection.subscriptions.is_combined:
            texts = [b'{"stream":"%s","data":%s}' % (name.encode(), text) for text in texts]
        wire = [text_frame(text) for text in texts]
        if connection.is_follower:
            wire = [stamp + frame for stamp, frame in zip(stamps(times_ns), wire, strict=True)]
        queue = Queue(times_ns=times_ns, wire=wire, streams=np.zeros(len(texts), int), names=(name,))
        if self._trouble.concerns(connection, first_ns - 1, self._last_ns):
            wire, _ = self._trouble.sent(connection, queue, 0, len(texts), first_ns - 1, self._last_ns)
        connection.send(b"".join(wire))


def _primed(market: Market, now_ms: int) -> list[account_feed.Row]:
    """The market as it stands: last price, mark price and book of every contract, as if it had just been told."""
    found = []
    for symbol in market.symbols(now_ms):
        told_now = (
            market.price_ticker(now_ms, symbol),
            market.premium_index(now_ms, symbol),
            market.depth(now_ms, symbol, _PRIMING_LEVELS),
        )
        last, mark, book = (None if text is None else json.loads(text) for text in told_now)
        if mark is not None:
            found.append(account_feed.Row(now_ms, "mark_price", symbol, (float(mark["markPrice"]),)))
        if last is not None:
            found.append(account_feed.Row(now_ms, "trades", symbol, (float(last["price"]), 0.0, True)))
        if book is not None:
            sides = tuple([tuple(map(Decimal, level)) for level in book[side]] for side in ("bids", "asks"))
            found.append(account_feed.Row(now_ms, "depth", symbol, sides))
    return found


def _text(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
