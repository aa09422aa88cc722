"""Aster's public REST interface, or that of whoever speaks it: where it is, what is retried, what an error means.

Answers are handed on as the bytes that came; the caller decodes them. Signed calls are no part of this.
"""

import contextlib
import email.utils
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from random import Random
from typing import Any, NamedTuple, Self

import aiohttp

from data.clock import Clock, FollowedClock, RealClock
from data.venues.questions import Question, Venue

LOOPBACK_URL = "http://127.0.0.1:8730"
_TIMEOUT_S = 10.0
_TRIES = 3
_BACK_OFF_S = 1.0  # upper end of the first wait; doubles with every try
_FIREWALL_S = 300.0  # a 403 is the web application firewall: asking again soon makes it worse
_BAN_S = 120.0  # the shortest ban that answers 418
_SHUT_DOWN_S = 60.0
_MINUTE_MS = 60_000


ASTER = Venue(name="aster", rest_url="https://fapi.asterdex.com", stream_url="wss://fstream.asterdex.com")
# The documents name fstream5 for its market streams too; which of them works only the testnet can say.
TESTNET = Venue(
    name="testnet",
    rest_url="https://fapi.asterdex-testnet.com",
    stream_url="wss://fstream.asterdex-testnet.com",
)


async def venue_of(place: str) -> Venue:
    """The venue that a user named: ``aster``, ``testnet``, ``loopback`` (at ``LOOPBACK_URL``) or a loopback's URL.

    Raises
    ------
    ValueError
        When the name is unknown, or no loopback exchange answers at the URL.
    Unavailable
        When nobody answers at the URL.
    """
    if place in (ASTER.name, TESTNET.name):
        return ASTER if place == ASTER.name else TESTNET
    url = LOOPBACK_URL if place == "loopback" else place.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"venue: expected aster, testnet, loopback or a URL such as {LOOPBACK_URL}, got {place!r}")
    loopback = Venue(name="loopback", rest_url=url, stream_url="", is_loopback=True)
    async with AsterRest(loopback, RealClock()) as rest:
        try:
            told = await rest.get_json("/loopback")
        except Unavailable as error:
            raise Unavailable(
                f"{error.reason}: `aster loopback` starts an exchange there and says when it listens",
                error.retry_after_s,
            ) from error
    if not isinstance(told, Mapping) or not isinstance(told.get("stream_url"), str):
        raise ValueError(f"{url}/loopback: expected the stream_url of a loopback exchange, got {str(told)[:80]}")
    return Venue(name="loopback", rest_url=url, stream_url=told["stream_url"].rstrip("/"), is_loopback=True)


async def market_is_over(loopback: Venue) -> bool:
    """Whether a loopback exchange says that it has played all of its market; False where it does not answer."""
    async with AsterRest(loopback, RealClock()) as rest:
        try:
            return (await rest.get_json("/loopback"))["is_finished"]
        except Unavailable:
            return False


class Unavailable(Exception):
    """The exchange could not answer now; the request itself may be right.

    ``reason`` in words; ``retry_after_s``: seconds of the clock to wait before asking anything again.
    """

    def __init__(self, reason: str, retry_after_s: float):
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


def told_wait_s(status: int, retry_after: str | None, now_ms: int, text: str = "") -> float | None:
    """Seconds that an HTTP status asks to wait before trying again; None when trying again would not help.

    Parameters
    ----------
    retry_after : the header ``Retry-After``, seconds or an HTTP date; what is neither counts as absent.
    text : of the body, which may tell when a ban ends; where the header tells too, the longer wait counts.

    Source
    ------
    Aster's futures documentation, "Limits" and "HTTP Return Codes": 429 until the minute is over, 418 a ban of at least
    two minutes, 403 the firewall; 5xx is the exchange's own trouble and asks for no wait.
    """
    if status not in (403, 408, 418, 425, 429) and status < 500:
        return None
    told = [wait_s for wait_s in (_until_told_s(text, now_ms), _header_s(retry_after, now_ms)) if wait_s is not None]
    own = {403: _FIREWALL_S, 418: _BAN_S, 429: _until_next_minute_s(now_ms)}
    return max(told) if told else own.get(status, 0.0)


def _header_s(retry_after: str | None, now_ms: int) -> float | None:
    """Seconds from now that the header asks for."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        until = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(until.timestamp() - now_ms / 1_000, 0.0)


def _until_told_s(text: str, now_ms: int) -> float | None:
    """Seconds from now to the end of a ban that a message tells: "IP banned until 1767225900000."."""
    found = re.search(r"until (\d{13})\b", text)
    return None if found is None else max((int(found[1]) - now_ms) / 1_000, 0.0)


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# ClientResponseError: what came was no HTTP
_CONNECTION_TROUBLE = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    TimeoutError,
)


def fate(path: str, outcome: Answer | Exception, now_ms: int) -> Exception | None:
    """What the outcome of a request means; the one place where it is decided what is retried and what is fatal.

    Returns
    -------
    None for an answer that is one. ``Unavailable`` without a wait for what is tried again at once (5xx, time-outs, lost
    or refused connections, HTML where JSON was due, codes −1000, −1001, −1006, −1007), with a wait for what must not
    be (429, 418, 403, −1003, −1015, −1016). ``ValueError`` for a request at fault: every other status or code. An error
    object counts as an error whatever the status.
    """
    if isinstance(outcome, aiohttp.ClientConnectorCertificateError):
        return ValueError(f"{path}: expected a certificate that this machine trusts: {outcome}")
    if isinstance(outcome, Exception):
        words = "no answer in time" if isinstance(outcome, TimeoutError) else str(outcome) or type(outcome).__name__
        return Unavailable(f"{path}: {words}", 0.0)
    status, headers, body = outcome
    code, text = _error_of(body)
    described = f"HTTP {status}, code {code}: {text}" if code is not None else f"HTTP {status}: {_begin_of(body)}"
    wait_s = told_wait_s(status, headers.get("Retry-After"), now_ms, text)
    if code in (-1003, -1015) and wait_s is None:  # whatever the status
        wait_s = told_wait_s(429, None, now_ms, text)
    elif code == -1016:
        wait_s = wait_s or _SHUT_DOWN_S
    elif code in (-1000, -1001, -1006, -1007) or (status == 200 and body.lstrip()[:1] == b"<"):
        wait_s = wait_s or 0.0
    if wait_s is not None:
        return Unavailable(f"{path}: {described}", wait_s)
    if code is not None or not 200 <= status < 300:
        return ValueError(f"{path}: the exchange refused the request: {described}")
    return None


def open_interest_questions(symbols: Sequence[str]) -> list[Question]:
    """Open interest now, base quantity. Undocumented: many use it, nobody promises it, and there is no history."""
    return [Question(path="/fapi/v1/openInterest", params={"symbol": symbol}) for symbol in symbols]


def index_reference_questions(symbols: Sequence[str]) -> list[Question]:
    """Which markets an index price is made of; weight 1 each."""
    return [Question(path="/fapi/v3/indexreferences", params={"symbol": symbol}) for symbol in symbols]


class AsterRest:
    """Public requests to one venue: bounded in time, retried where that helps, silent for as long as the venue asks.

    An async context manager. With a followed clock every request holds the time, so that its answer belongs to the
    moment in which it was asked, and a clock that was never told anything learns the time on entering.

    Parameters
    ----------
    seed : of the jitter between tries.

    Attributes
    ----------
    used_weight : request weight used in the current minute by this address, as the venue last said; None before.
    """

    def __init__(self, venue: Venue, clock: Clock, *, seed: int = 0):
        self.used_weight: int | None = None
        self._venue = venue
        self._clock = clock
        self._jitter = Random(seed)
        self._refusal: Unavailable | None = None
        self._refused_until_ns = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        if self._venue.is_loopback and isinstance(self._clock, FollowedClock) and not self._clock.is_attached:
            try:
                told = await self.get_json("/loopback")
            except BaseException:
                await self._session.close()
                raise
            self._clock.tell(told["now_ms"] * 1_000_000)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, **params: str | int | None) -> bytes:
        """The body of the answer to ``GET path``, as it came; JSON by all appearance, but not checked.

        Parameters
        ----------
        path : such as ``/fapi/v3/klines``.
        params : in the venue's own names; those that are None are left out.

        Raises
        ------
        Unavailable
            After the last try, or at once when the venue said how long to wait; until then nothing is asked again and
            every call raises this.
        ValueError
            When the request is at fault: path, code and message of the venue.
        """
        return await self.ask(Question(path=path, params=params))

    async def ask(self, question: Question) -> bytes:
        """The body of the answer to a question, as it came; raises like ``get``."""
        path = question.path
        for tried in range(1, _TRIES + 1):
            if self._clock.now_ns() < self._refused_until_ns:
                raise Unavailable(self._refusal.reason, (self._refused_until_ns - self._clock.now_ns()) / 1e9)
            outcome = await self._ask(question)
            error = fate(path, outcome, self._clock.now_ms())
            if error is None:
                return outcome.body
            cause = outcome if isinstance(outcome, Exception) else None
            if not isinstance(error, Unavailable):
                raise error from cause
            if error.retry_after_s > 0:
                self._refusal = error
                self._refused_until_ns = self._clock.now_ns() + round(error.retry_after_s * 1e9)
                raise error from cause
            longest_s = _BACK_OFF_S * 2 ** (tried - 1)
            if tried == _TRIES:
                raise Unavailable(f"{error.reason} ({_TRIES} tries)", longest_s) from cause
            await self._clock.sleep(self._jitter.uniform(0.0, longest_s))
        raise AssertionError("the last try returns or raises")

    async def get_json(self, path: str, **params: str | int | None) -> Any:
        """The answer to ``GET path``, decoded. Raises like ``get``, and ``ValueError`` when it is no JSON."""
        body = await self.get(path, **params)
        try:
            return json.loads(body)
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got {_begin_of(body)}") from error

    async def _ask(self, question: Question) -> Answer | Exception:
        given = {name: value for name, value in question.params.items() if value is not None}
        if question.is_post:
            method, sent = "POST", {"json": given}
        else:
            method, sent = "GET", {"params": {name: str(value) for name, value in given.items()}}
        held = self._clock.hold() if isinstance(self._clock, FollowedClock) else contextlib.nullcontext()
        with held:
            try:
                async with self._session.request(
                    method, self._venue.rest_url + question.path, allow_redirects=False, **sent
                ) as response:
                    answer = Answer(response.status, response.headers, await response.read())
            except _CONNECTION_TROUBLE as error:
                return error
        weight = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if weight.isdecimal():
            self.used_weight = int(weight)
        return answer


def _until_next_minute_s(now_ms: int) -> float:
    return (_MINUTE_MS - now_ms % _MINUTE_MS) / 1_000


def _error_of(body: bytes) -> tuple[int | None, str]:
    """Code and message of an error object; (None, "") when the body is none."""
    if len(body) > 4_096 or not body.lstrip().startswith(b"{") or b'"code"' not in body:
        return None, ""
    try:
        told = json.loads(body)
    except ValueError:
        return None, ""
    code = told.get("code")
    if not isinstance(code, int) or code >= 0:  # {"code":200,"msg":"success"} acknowledges
        return None, ""
    return code, str(told.get("msg", ""))


def _begin_of(body: bytes) -> str:
    text = " ".join(body[:400].decode("utf-8", "replace").split())
    return (text if len(text) <= 80 else text[:79] + "…") or "(empty)"
