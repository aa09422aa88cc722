"""What a REST answer says: its question as the raw log keeps it, and its rows. No I/O, no tables.

As in messages.py, prices and quantities stay text and times are milliseconds since 1970 by the exchange's clock.

Source: Aster futures API, "Market Data Endpoints"; Binance futures and Hyperliquid for what only they publish.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from data.messages import UNREADABLE, Id, Notice, Symbol, Time, Unknown


class Answer(Struct, frozen=True, gc=False):
    """A REST answer of the raw log with its question, see ``data.wal.answer``."""

    path: str
    params: dict[str, Any]
    since_ms: int
    body: msgspec.Raw  # bytes(body) is what the exchange sent
    effective_ms: Time | None = None
    gap_id: str | None = None  # the gap of the ledger that it shall fill

    @property
    def name(self) -> str:
        """What was asked for: klines; for Hyperliquid, where all questions go to one path, their type."""
        last = self.path.rsplit("/", 1)[-1]
        return str(self.params.get("type")) if last == "info" else last


class RestKline(Struct, frozen=True, gc=False, array_like=True):
    """A row of REST klines. ``close_time`` is the last ms of the bar."""

    open_time: Time
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_time: Time
    quote_volume: str
    trade_count: Id
    taker_buy_volume: str
    taker_buy_quote_volume: str


class RestReferenceKline(Struct, frozen=True, gc=False, array_like=True):
    """A row of REST markPriceKlines or indexPriceKlines."""

    open_time: Time
    open: str
    high: str
    low: str
    close: str
    ignored: Any
    close_time: Time


class RestAggTrade(Struct, frozen=True, gc=False):
    """A row of REST aggTrades."""

    agg_trade_id: Id = field(name="a")
    price: str = field(name="p")
    quantity: str = field(name="q")
    is_buyer_maker: bool = field(name="m")
    event_time: Time = field(name="T")
    first_trade_id: Id | None = field(name="f", default=None)
    last_trade_id: Id | None = field(name="l", default=None)


class RestFundingRate(Struct, frozen=True, gc=False):
    """A settled funding event."""

    symbol: Symbol
    event_time: Time = field(name="fundingTime")
    funding_rate: str = field(name="fundingRate")


class RestFundingInfo(Struct, frozen=True, gc=False):
    """How often a contract's funding settles."""

    symbol: Symbol
    interval_hours: Annotated[float, Meta(gt=0)] = field(name="fundingIntervalHours")


class RestOpenInterest(Struct, frozen=True, gc=False):
    """Open interest at a moment, base quantity."""

    symbol: Symbol
    open_interest: str = field(name="openInterest")
    event_time: Time = field(name="time")


class RestOpenInterestPeriod(Struct, frozen=True, gc=False):
    """A row of Binance's openInterestHist: base quantity and USDT."""

    symbol: Symbol
    open_interest: str = field(name="sumOpenInterest")
    open_interest_usdt: str = field(name="sumOpenInterestValue")
    event_time: Time = field(name="timestamp")


class RestLongShort(Struct, frozen=True, gc=False):
    """A row of Binance's long/short ratios, of accounts or of positions."""

    value: str = field(name="longShortRatio")
    event_time: Time = field(name="timestamp")


class RestTakerRatio(Struct, frozen=True, gc=False):
    """A row of Binance's takerlongshortRatio: taker buys over taker sells of the period."""

    value: str = field(name="buySellRatio")
    event_time: Time = field(name="timestamp")


class RestReference(Struct, frozen=True, gc=False):
    """One market of an index. ``weight`` is a fraction."""

    exchange: str
    reference_symbol: str = field(name="symbol")
    weight: str


class RestIndexReferences(Struct, frozen=True, gc=False):
    """The markets that an index price is made of."""

    symbol: Symbol
    event_time: Time = field(name="time")
    references: list[RestReference]


class RestNoticeText(Struct, frozen=True, gc=False):
    """An announcement in one language."""

    language: str
    title: str


class RestNotice(Struct, frozen=True, gc=False):
    """A row of announcement/direct."""

    announcement_id: int | str = field(name="id")
    contents: Annotated[list[RestNoticeText], Meta(min_length=1)]
    event_time: Time = field(name="publishTime")
    category: str | None = None
    link: str | None = field(name="jumpLink", default=None)

    @property
    def title(self) -> str:
        """In English where there is English."""
        return next((text for text in self.contents if text.language == "en"), self.contents[0]).title


class RestBracket(Struct, frozen=True, gc=False):
    """A step of the maintenance margin: notional × ``maintenance_margin_rate`` − ``maintenance_amount_usdt``."""

    notional_floor_usdt: float = field(name="notionalFloor")
    notional_cap_usdt: float = field(name="notionalCap")
    max_leverage: float = field(name="initialLeverage")
    maintenance_margin_rate: float = field(name="maintMarginRatio")
    maintenance_amount_usdt: float = field(name="cum")


class RestBrackets(Struct, frozen=True, gc=False):
    """The leverage brackets of a contract."""

    symbol: Symbol
    brackets: Annotated[list[RestBracket], Meta(min_length=1)]


class HyperliquidCoin(Struct, frozen=True, gc=False):
    """A perpetual of Hyperliquid."""

    name: Symbol
    is_delisted: bool = field(name="isDelisted", default=False)


class HyperliquidMarket(Struct, frozen=True, gc=False):
    """How a perpetual of Hyperliquid stands; open interest in units of the coin."""

    open_interest: str = field(name="openInterest")
    mark_price: str = field(name="markPx")


class HyperliquidUniverse(Struct, frozen=True, gc=False):
    """The perpetuals, in the order of their markets."""

    universe: list[HyperliquidCoin]


Row = TypeVar("Row", bound=Struct)

_answer = msgspec.json.Decoder(Answer)


def decode_answer(payload: bytes) -> Answer | Unknown:
    """An ANSWER of the raw log."""
    try:
        return _answer.decode(payload)
    except UNREADABLE as error:
        return Unknown(f"no answer with its question: {error}")


def rest_rows(body: bytes, what: type[Row]) -> tuple[list[Row], list[tuple[str, Unknown]]]:
    """(the rows of a REST answer, the text of each that could not be read and why).

    Whole numbers may come as text: the exchanges do not agree with themselves about that.
    """
    try:
        return msgspec.json.decode(body, type=list[what], strict=False), []
    except UNREADABLE as error:
        try:
            parts = msgspec.json.decode(body, type=list[msgspec.Raw])
        except UNREADABLE:
            return [], [(bytes(body).decode("utf-8", "backslashreplace"), Unknown(str(error)))]
    rows, refused = [], []
    for part in parts:
        try:
            rows.append(msgspec.json.decode(part, type=what, strict=False))
        except UNREADABLE as error:
            refused.append((bytes(part).decode("utf-8", "backslashreplace"), Unknown(str(error))))
    return rows, refused


def hyperliquid_markets(body: bytes) -> list[tuple[HyperliquidCoin, HyperliquidMarket]]:
    """The perpetuals of a metaAndAssetCtxs answer that are not delisted.

    Raises
    ------
    ValueError
        When the answer is none, or does not tell of as many markets as coins.
    """
    told, markets = msgspec.json.decode(body, type=tuple[HyperliquidUniverse, list[HyperliquidMarket]])
    return [pair for pair in zip(told.universe, markets, strict=True) if not pair[0].is_delisted]


def notices(body: bytes) -> tuple[list[Notice], list[tuple[str, Unknown]]]:
    """(the announcements of a page, or the one that was asked for; what could not be read and why)."""
    told = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    rows, refused = rest_rows(as_rows(bytes(told["rows"]) if "rows" in told else body), RestNotice)
    same = ("announcement_id", "title", "event_time", "category", "link")
    return [Notice(**{name: getattr(row, name) for name in same}) for row in rows], refused


def plain(row: Struct) -> dict[str, Any]:
    """A row by the names of its attributes."""
    return asdict(row)


def as_rows(body: bytes) -> bytes:
    """An answer as the list that ``rest_rows`` reads: a lone object is the only row."""
    return b"[" + body + b"]" if body.lstrip()[:1] == b"{" else body
