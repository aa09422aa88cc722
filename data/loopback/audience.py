"""Who is connected to the loopback exchange: which of them follow the time, whom the market waits for, who is cut off.

A client may hold several connections, such as the two sockets of a pair; a connection says in its handshake whose it
is. The market waits for clients, not for connections: while one of a client's connections follows, time passes.
"""

import asyncio
from collections.abc import Callable

from picows import WSCloseCode, WSUpgradeRequest, WSUpgradeResponseWithListener

from data.loopback.connection import Connection, Exchange, Handshake, understood
from data.loopback.truth import Truth

_BACK_WITHIN_S = 5.0  # of the machine's time: how long clients that were cut off are waited for


class Audience:
    """Every connection. Times are the market's, nanoseconds since 1970."""

    def __init__(self, exchange: Exchange, truth: Truth, life_ns: int):
        self._exchange, self._truth, self._life_ns = exchange, truth, life_ns
        self._connections: list[Connection] = []
        self._count = 0
        self._changed = asyncio.Event()
        self._back_soon = 0  # clients that were cut off and are waited for

    def accept(self, request: WSUpgradeRequest) -> Connection | WSUpgradeResponseWithListener:
        """Answer an opening handshake."""
        handshake = understood(request)
        if not isinstance(handshake, Handshake):
            return handshake
        socket = self._free_socket(handshake) if handshake.socket is None else handshake.socket
        refusal = self._exchange.refusal(handshake, socket)
        if refusal is not None:
            return refusal
        connection = Connection(self._exchange, handshake, self._count, socket)
        self._count += 1
        self._connections.append(connection)
        return connection

    def changed(self) -> None:
        """A connection came, left, answered, or listens to something else."""
        self._changed.set()

    def open(self) -> list[Connection]:
        """All of them."""
        self._connections = [connection for connection in self._connections if not connection.is_gone]
        return [connection for connection in self._connections if connection.is_open]

    def listening(self) -> list[Connection]:
        """Those that are sent messages."""
        return [each for each in self.open() if each.is_listening and not each.is_half_open]

    def followers(self) -> list[Connection]:
        """Those that are told the time: of the half-open ones only where a client has no better connection.

        Whose connections without a name are, nobody knows: a half-open one may belong to any client.
        """
        following = [each for each in self.open() if each.is_follower]
        well = {each.client for each in following if not each.is_half_open}
        is_alone = [each.client not in well and (each.has_named_client or not well) for each in following]
        return [each for each, alone in zip(following, is_alone, strict=True) if alone or not each.is_half_open]

    def is_heard(self, is_paced: bool) -> bool:
        """Whether time may pass: somebody listens, and whoever was cut off is back."""
        clients = self._listening_clients()
        if clients < self._back_soon:
            return False
        self._back_soon = 0
        return clients > 0 or (is_paced and any(each.is_listening for each in self.open()))

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Return once that is so; it is looked at whenever something changed."""
        while not is_enough():
            self._changed.clear()
            await self._changed.wait()

    async def quiet(self, now_ns: int) -> None:
        """Return once every follower has dealt with what it was sent."""
        followers = self.followers()
        for connection in followers:
            connection.ask(now_ns)
        await self.until(lambda: not any(connection.is_awaited for connection in followers))

    def tend(self, now_ns: int) -> None:
        """What the exchange does to connections as time passes."""
        old = [each for each in self.open() if now_ns - each.opened_ns >= self._life_ns and not each.is_half_open]
        if old:
            self._end(old, lambda connection: connection.leave(WSCloseCode.GOING_AWAY), "life")
        for connection in self.open():
            connection.keep_alive(now_ns)

    def cut(self, connections: list[Connection]) -> None:
        """End connections as a broken line does."""
        self._end(connections, Connection.cut, "cut")

    def tell_all(self, text: bytes) -> None:
        """Send a message to everybody who listens."""
        for connection in self.listening():
            connection.say(text)

    def leave(self) -> None:
        """End all in good order."""
        for connection in self.open():
            connection.leave(WSCloseCode.GOING_AWAY)

    def halve(self, connection: Connection) -> None:
        """From now on nothing comes through this connection, though it stays open."""
        connection.is_half_open = True
        self._note("half_open", connection)

    def _end(self, connections: list[Connection], end: Callable[[Connection], None], why: str) -> None:
        """Time stands still until as many clients follow again, or for a while.

        Several clients come back one after the other; the first must not run away with the market.
        """
        before = self._listening_clients()
        for connection in connections:
            self._note(why, connection)
            end(connection)
        if self._listening_clients() < before:
            self._back_soon = max(self._back_soon, before)
            asyncio.get_running_loop().call_later(_BACK_WITHIN_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._back_soon = 0
        self.changed()

    def _listening_clients(self) -> int:
        return len({each.client for each in self.followers() if each.is_listening})

    def _free_socket(self, handshake: Handshake) -> int:
        """The lowest number that no open connection of the same client with the same streams has."""
        taken = {
            each.socket
            for each in self._connections
            if not each.is_gone and each.opening_names == handshake.names and handshake.is_of(each.client)
        }
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _note(self, what: str, connection: Connection) -> None:
        number, socket = connection.number, connection.socket
        self._truth.note(self._exchange.now_ns, what, connection=number, socket=socket)
