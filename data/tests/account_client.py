"""A client of the loopback exchange's account side: signs as the runner does, hears its user stream."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
from yarl import URL

from data.loopback.account_settings import AccountSettings
from data.loopback.server import Loopback
from data.tests.loopback_client import START, Client, connect, run
from data.venues.signing import AgentKey, ApiKey, Nonces, signed_v1, signed_v3

BTC = "BTCUSDT"
KEY_HEADER = "X-MBX-APIKEY"


class Trader:
    """Signed requests for the exchange's first account; an async context manager."""

    def __init__(self, exchange: Loopback, number: int = 0):
        keys = exchange.office.keys[number]
        self.exchange, self.agent = exchange, AgentKey(keys.private_key)
        self.api = ApiKey(keys.api_key, keys.api_secret)
        self.nonces = Nonces()
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def v3(self, method: str, name: str, **told: object) -> Any:
        """The answer to a V3 request, error objects too."""
        parameters = [(key, str(value)) for key, value in told.items()]
        sent = signed_v3(parameters, nonce_us=self.nonces.next(self.exchange.now_ns // 1_000), key=self.agent)
        return await self.send(method, f"/fapi/v3/{name}", sent)

    async def v1(self, method: str, path: str, **told: object) -> Any:
        """The answer to a V1 request."""
        parameters = [(key, str(value)) for key, value in told.items()]
        sent = signed_v1(parameters, timestamp_ms=self.exchange.now_ms, key=self.api)
        return await self.send(method, path, sent, {KEY_HEADER: self.api.key})

    async def send(self, method: str, path: str, sent: bytes, headers: dict[str, str] | None = None) -> Any:
        """The answer to a request of which the bytes are ready."""
        url, body = f"{self.exchange.rest_url}{path}", None
        if method == "GET":
            url += f"?{sent.decode()}"
        else:
            body = sent
        content = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        async with self._session.request(method, URL(url, encoded=True), data=body, headers=content) as response:
            self.headers, self.status = dict(response.headers), response.status
            return json.loads(await response.read())

    async def listen(self, *streams: str) -> Client:
        """A follower of the account's user stream, and of other streams."""
        key = (await self.v3("POST", "listenKey"))["listenKey"]
        return await connect(self.exchange, "/ws/" + "/".join([key, *streams]))

    async def market(self, side: str, quantity: str = "0.1", **told: object) -> Any:
        """The final answer to a market order."""
        asked = {"symbol": BTC, "side": side, "type": "MARKET", "quantity": quantity, "newOrderRespType": "RESULT"}
        return await self.v3("POST", "order", **asked, **told)

    async def limit(self, side: str, price: object, quantity: str = "0.1", **told: object) -> Any:
        asked = {"symbol": BTC, "side": side, "type": "LIMIT", "quantity": quantity, "price": price}
        return await self.v3("POST", "order", **asked, **{"timeInForce": "GTC", **told})


def trading(test: Callable[[Loopback, Trader], Awaitable[object]], **settings: object) -> object:
    """The test's result with an exchange two minutes into its market, and a trader."""

    async def with_trader(exchange: Loopback) -> object:
        async with Trader(exchange) as trader:
            return await test(exchange, trader)

    from datetime import timedelta

    accounts = settings.pop("accounts", AccountSettings())
    return run(with_trader, start=START + timedelta(minutes=2), accounts=accounts, **settings)


async def heard(client: Client, is_enough: Callable[[list[dict]], bool]) -> list[dict]:
    """What a client heard of its account, once that is enough."""

    def told(client: Client) -> list[dict]:
        return [message for _, message in client.heard if message.get("e", "")[:5] in ("ORDER", "ACCOU", "liste", "MARGI")]

    async with asyncio.timeout(20):
        await client.until(lambda client: is_enough(told(client)))
    return told(client)
