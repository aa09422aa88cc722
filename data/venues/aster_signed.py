"""Signed requests to Aster: each leaves once. Nothing is tried again here, for who knows what became of the first.

Source: Aster futures API, "Authentication", "Signed endpoints".
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from data.clock import Clock, FollowedClock
from data.venues.aster import Answer
from data.venues.questions import Venue
from data.venues.signing import (
    PRODUCTION_CHAIN_ID,
    AgentKey,
    ApiKey,
    Nonces,
    Parameters,
    require_native_signing,
    signed_v1,
    signed_v3,
)

ONLY_LOOPBACK = "ASTER_ONLY_LOOPBACK"  # set in every test: no signed request leaves the machine
WITHIN_S = 2.0  # after that an order is in doubt
KEPT_S = 45.0  # how long a line is kept: a runner asks every 30 s, so its next order needs no handshake
_SAMPLES = 5  # of the distance between two clocks
_KEY_HEADER = "X-MBX-APIKEY"
_WEIGHTS: Mapping[tuple[str, str], int] = {
    ("POST", "batchOrders"): 5,
    ("POST", "countdownCancelAll"): 10,
    ("GET", "allOrders"): 5,
    ("GET", "userTrades"): 5,
    ("GET", "positionRisk"): 5,
    ("GET", "account"): 5,
    ("GET", "balance"): 5,
    ("GET", "income"): 30,
    ("GET", "commissionRate"): 20,
    ("GET", "positionSide/dual"): 30,
    ("GET", "multiAssetsMargin"): 30,
}
_ALL_OPEN_ORDERS_WEIGHT = 40
_V1_PATHS = {
    "positionRisk": "/fapi/v2/positionRisk",
    "balance": "/fapi/v2/balance",
    "account": "/fapi/v4/account",
}
_V3_PATHS = {"account": "/fapi/v3/accountWithJoinMargin"}
_OF_NO_SYMBOL = ("listenKey",)  # what a write may be about beside a symbol
_CONNECTION_TROUBLE = (aiohttp.ClientError, OSError, TimeoutError)


class NoAnswer(NamedTuple):
    """A request that was sent, perhaps, and got nothing back: of a write nobody knows what became."""

    reason: str


class ClockReading(NamedTuple):
    """How far the exchange's clock is ahead of ours, and how long it took to ask; ms."""

    offset_ms: float
    round_trip_ms: float


def weight_of(method: str, name: str, parameters: Parameters = ()) -> int:
    """Request weight of a signed endpoint."""
    if (method, name) == ("GET", "openOrders") and "symbol" not in dict(parameters):
        return _ALL_OPEN_ORDERS_WEIGHT
    return _WEIGHTS.get((method, name), 1)


class SignedRest:
    """One account's requests. An async context manager.

    Parameters
    ----------
    key : of an agent (V3) or of the API (V1).
    symbols : that the operator typed to let orders out. Whatever else would change something is refused here, before it
        is signed.
    floor_us : the last nonce that a process before may have used.

    Attributes
    ----------
    offset_ms : how far the exchange's clock is ahead of ours, as last measured.

    Raises
    ------
    RuntimeError
        When signatures would be made in slow Python.
    ValueError
        When the venue is a real one and the environment allows only loopback exchanges.
    """

    def __init__(
        self,
        venue: Venue,
        clock: Clock,
        key: AgentKey | ApiKey,
        *,
        symbols: frozenset[str],
        chain_id: int = PRODUCTION_CHAIN_ID,
        floor_us: int = 0,
    ):
        if os.environ.get(ONLY_LOOPBACK) and not venue.is_loopback:
            raise ValueError(f"{venue.name}: {ONLY_LOOPBACK} is set, so no signed request leaves this machine")
        require_native_signing()
        self.offset_ms = 0.0
        self._venue, self._clock, self._key = venue, clock, key
        self._symbols, self._chain_id = symbols, chain_id
        self._nonces = Nonces(floor_us)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=KEPT_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self, method: str, name: str, parameters: Parameters = (), within_s: float = WITHIN_S
    ) -> Answer | NoAnswer:
        """What came back for one signed request.

        Parameters
        ----------
        name : of the endpoint, such as order.
        parameters : names and values, all as text, in the order in which they are sent.

        Raises
        ------
        ValueError
            For a change to a symbol that the operator did not type.
        """
        symbol = dict(parameters).get("symbol")
        if method != "GET" and name not in _OF_NO_SYMBOL and symbol not in self._symbols:
            listed = ", ".join(sorted(self._symbols)) or "none"
            raise ValueError(f"{method} {name}: {symbol} may not be traded; the symbols typed are {listed}")
        path, headers, text = self._signed(name, parameters)
        url, body = f"{self._venue.rest_url}{path}", None
        if method == "GET":
            url += f"?{text.decode()}"
        else:
            body, headers["Content-Type"] = text, "application/x-www-form-urlencoded"
        return await self._ask(method, url, headers, body, within_s)

    async def ask_openly(self, name: str) -> Answer | NoAnswer:
        """What came back for one question about the market, unsigned."""
        return await self._ask("GET", f"{self._venue.rest_url}/fapi/v1/{name}", {}, None, WITHIN_S)

    async def measure_clock(self) -> ClockReading | NoAnswer:
        """Ask the exchange for its time, a few times, and go by the median from now on."""
        readings = []
        for _ in range(_SAMPLES):
            before_ns = self._clock.now_ns()
            answer = await self.ask_openly("time")
            after_ns = self._clock.now_ns()
            if isinstance(answer, NoAnswer):
                return answer
            try:
                told_ms = json.loads(answer.body)["serverTime"] + 0.5  # it is cut off to the millisecond
            except (ValueError, KeyError, TypeError):
                return NoAnswer(f"time: HTTP {answer.status}: {answer.body[:80].decode(errors='replace')}")
            trip_ms = (after_ns - before_ns) / 1e6
            readings.append(ClockReading(told_ms - before_ns / 1e6 - trip_ms / 2, trip_ms))
        found = ClockReading(*(median(each) for each in zip(*readings, strict=True)))
        self.offset_ms = found.offset_ms
        return found

    def _signed(self, name: str, parameters: Parameters) -> tuple[str, dict[str, str], bytes]:
        """Path, headers and the signed text."""
        now_us = self._clock.now_ns() // 1_000 + round(self.offset_ms * 1_000)
        if isinstance(self._key, AgentKey):
            path = _V3_PATHS.get(name, f"/fapi/v3/{name}")
            nonce_us = self._nonces.next(now_us)
            return path, {}, signed_v3(parameters, nonce_us=nonce_us, key=self._key, chain_id=self._chain_id)
        path, headers = _V1_PATHS.get(name, f"/fapi/v1/{name}"), {_KEY_HEADER: self._key.key}
        if name == "listenKey":  # V1 asks for the key alone
            return path, headers, b""
        return path, headers, signed_v1(parameters, timestamp_ms=now_us // 1_000, key=self._key)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, within_s: float
    ) -> Answer | NoAnswer:
        held = self._clock.hold() if isinstance(self._clock, FollowedClock) else contextlib.nullcontext()
        with held:
            try:
                async with (
                    asyncio.timeout(within_s),
                    self._session.request(
                        method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                    ) as response,
                ):
                    return Answer(response.status, response.headers, await response.read())
            except _CONNECTION_TROUBLE as error:
                if isinstance(error, TimeoutError):
                    return NoAnswer(f"no answer within {within_s:g} s")
                return NoAnswer(type(error).__name__)  # its text may hold the signed query
