"""A client of the loopback exchange's account side: signs as the runner does, hears its user stream."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Self

import aiohttp
from yarl import URL

from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.tests.loopback_client import START, Client, connect, run
from data.venues.signing import AgentKey, ApiKey, Nonces, signed_v1, signed_v3

BTC = "BTCUSDT"
KEY_HEADER = "X-MBX-APIKEY"
_OF_ACCOUNTS = ("ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ACCOUNT_CONFIG_UPDATE", "MARGIN_CALL", "listenKeyExpired")


class Trader:
    """Signed requests for one account of the exchange; an async context manager.

    Attributes
    ----------
    status, headers : of the last answer.
    """

    def __init__(self, exchange: Loopback, number: int = 0):
        keys = exchange.office.keys[number]
        self.exchange, self.agent = exchange, AgentKey(keys.private_key)
        self.api = ApiKey(keys.api_key, keys.api_secret)
        self.nonces = Nonces()
        self.status, self.headers = 0, {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def v3(self, method: str, name: str, **told: object) -> Any:
        """The answer to a V3 request, error objects too."""
        return await self.send(method, f"/fapi/v3/{name}", self.signed(**told))

    def signed(self, nonce_us: int | None = None, **told: object) -> bytes:
        """A V3 request as bytes."""
        nonce_us = self.nonces.next(self.exchange.now_ns // 1_000) if nonce_us is None else nonce_us
        return signed_v3([(key, str(value)) for key, value in told.items()], nonce_us=nonce_us, key=self.agent)

    async def v1(self, method: str, path: str, late_ms: int = 0, **told: object) -> Any:
        """The answer to a V1 request that is so old on arrival."""
        parameters = [(key, str(value)) for key, value in told.items()]
        sent = signed_v1(parameters, timestamp_ms=self.exchange.now_ms - late_ms, key=self.api)
        return await self.send(method, path, sent, {KEY_HEADER: self.api.key})

    async def send(
        self, method: str, path: str, sent: bytes, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Any:
        """The answer to a request of which the bytes are ready: in the query of a GET, else in the body.

        With a body of its own ``sent`` is the query whatever the method.
        """
        url = f"{self.exchange.rest_url}{path}"
        if method == "GET" or body is not None:
            url += f"?{sent.decode()}"
        else:
            body = sent
        content = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        async with self._session.request(method, URL(url, encoded=True), data=body, headers=content) as response:
            self.status, self.headers = response.status, response.headers
            return json.loads(await response.read())

    async def listen(self, *streams: str, answers: bool = True) -> Client:
        """A client of the account's user stream, and of other streams; time passes from then on if it answers."""
        key = (await self.v3("POST", "listenKey"))["listenKey"]
        return await connect(self.exchange, "/ws/" + "/".join([key, *streams]), answers=answers)

    async def market(self, side: str, quantity: str = "0.1", **told: object) -> Any:
        """The final answer to a market order."""
        asked = {"symbol": BTC, "side": side, "type": "MARKET", "quantity": quantity, "newOrderRespType": "RESULT"}
        return await self.v3("POST", "order", **asked, **told)

    async def limit(self, side: str, price: object, quantity: str = "0.1", **told: object) -> Any:
        """The answer to a limit order."""
        asked = {"symbol": BTC, "side": side, "type": "LIMIT", "quantity": quantity, "price": price}
        return await self.v3("POST", "order", **asked, **{"timeInForce": "GTC", **told})

    async def stop(self, side: str, stop_price: object, **told: object) -> Any:
        """The answer to a stop that closes everything."""
        asked = {"symbol": BTC, "side": side, "type": "STOP_MARKET", "stopPrice": stop_price, "closePosition": "true"}
        return await self.v3("POST", "order", **asked, **told)

    async def touch(self) -> tuple[float, float]:
        """Best bid and ask."""
        url = f"{self.exchange.rest_url}/fapi/v3/ticker/bookTicker?symbol={BTC}"
        async with self._session.get(url) as response:
            told = await response.json()
        return float(told["bidPrice"]), float(told["askPrice"])

    async def amount(self) -> float:
        """What is held, as the exchange answers."""
        return sum(float(each["positionAmt"]) for each in await self.v3("GET", "positionRisk", symbol=BTC))


def trading(test: Callable[[Trader], Awaitable[object]], **settings: Any) -> object:
    """The test's result with an exchange two minutes into its market that stands still until somebody listens."""

    async def with_trader(exchange: Loopback) -> object:
        async with Trader(exchange) as trader:
            return await test(trader)

    accounts = AccountSettings(**settings.pop("accounts", {}))
    return run(with_trader, **{"start": START + timedelta(minutes=2), "accounts": accounts, **settings})


def of_account(client: Client) -> list[dict]:
    """What a client heard of its account."""
    return [message for _, message in client.heard if message.get("e") in _OF_ACCOUNTS]


async def turns(client: Client, count: int) -> AsyncIterator[None]:
    """The first moments at which the market waits for a client that does not answer; then it answers."""
    for seen in range(count):
        await client.until(lambda client, seen=seen: len(client.asked_ns) > seen)
        yield
        client.transport.send_pong(client.asked_ns[-1].to_bytes(8, "big") + b"?")
    client.answers = True


async def heard(client: Client, is_enough: Callable[[list[dict]], bool]) -> list[dict]:
    """What a client heard of its account, once that is enough."""
    await client.until(lambda client: is_enough(of_account(client)))
    return of_account(client)
