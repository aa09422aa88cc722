"""What a WebSocket message says: raw bytes to typed messages. No I/O, no tables.

Field names are the schema's; prices and quantities stay the text they are on the wire, so nothing is rounded before it
must be. Times are milliseconds since 1970 by the exchange's clock. Where the exchange may leave a field out, or sends
null, it is None here.

Source: Aster futures API, "Market WebSocket"; Binance futures sends the same family. REST answers are in
messages_rest.py.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, field
from msgspec.structs import astuple

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: brackets without end
_EARLIEST_MS = 1_262_304_000_000  # 2010-01-01
_LATEST_MS = 4_102_444_800_000  # 2100-01-01
_LARGEST = 2**63 - 1

Symbol = Annotated[str, Meta(min_length=1)]
Time = Annotated[int, Meta(ge=_EARLIEST_MS, le=_LATEST_MS)]  # ms since 1970
Id = Annotated[int, Meta(ge=-1, le=_LARGEST)]  # -1 is sent for "none" in bars without trades


class _Message(Struct, frozen=True, gc=False, tag_field="e", forbid_unknown_fields=True, kw_only=True):
    """A message; a field it does not know is told of as ``Drift``, see ``decode``."""

    pair: Any = field(name="ps", default=UNSET)  # Binance only, as is the next; both undocumented
    symbol_type: Any = field(name="st", default=UNSET)


class AggTrade(_Message, tag="aggTrade"):
    """Fills of one taker order at one price."""

    symbol: Symbol = field(name="s")
    agg_trade_id: Id = field(name="a")
    price: str = field(name="p")
    quantity: str = field(name="q")
    is_buyer_maker: bool = field(name="m")
    event_time: Time | None = field(name="T", default=None)
    sent_time: Time | None = field(name="E", default=None)
    first_trade_id: Id | None = field(name="f", default=None)
    last_trade_id: Id | None = field(name="l", default=None)
    public_quantity: Any = field(name="nq", default=UNSET)  # Binance only: without what retail orders alone could take


class Trade(_Message, tag="trade"):
    """One fill. ``market_type``: MARKET, INSURANCE_FUND, ADL or NA."""

    symbol: Symbol = field(name="s")
    trade_id: Id = field(name="t")
    price: str = field(name="p")
    quantity: str = field(name="q")
    is_buyer_maker: bool = field(name="m")
    event_time: Time | None = field(name="T", default=None)
    sent_time: Time | None = field(name="E", default=None)
    market_type: str | None = field(name="X", default=None)


class BookTicker(_Message, tag="bookTicker"):
    """Best bid and ask."""

    symbol: Symbol = field(name="s")
    bid_price: str = field(name="b")
    ask_price: str = field(name="a")
    bid_quantity: str | None = field(name="B", default=None)
    ask_quantity: str | None = field(name="A", default=None)
    update_id: Id | None = field(name="u", default=None)
    event_time: Time | None = field(name="T", default=None)
    sent_time: Time | None = field(name="E", default=None)


class MarkPrice(_Message, tag="markPriceUpdate"):
    """Mark and index price, and the funding rate as it stands."""

    symbol: Symbol = field(name="s")
    event_time: Time = field(name="E")
    mark_price: str = field(name="p")
    index_price: str | None = field(name="i", default=None)
    estimated_settle_price: str | None = field(name="P", default=None)
    funding_rate: str | None = field(name="r", default=None)
    next_funding_time: Annotated[int, Meta(ge=0, le=_LATEST_MS)] | None = field(name="T", default=None)


class Bar(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The bar of a ``Kline``."""

    open_time: Time = field(name="t")
    interval: Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}[smhdwM]$")] = field(name="i")  # its length is counted with
    open: str = field(name="o")
    high: str = field(name="h")
    low: str = field(name="l")
    close: str = field(name="c")
    volume: str = field(name="v")
    is_final: bool = field(name="x")
    close_time: Time | None = field(name="T", default=None)  # last ms of the bar
    symbol: str | None = field(name="s", default=None)
    quote_volume: str | None = field(name="q", default=None)
    trade_count: Id | None = field(name="n", default=None)
    taker_buy_volume: str | None = field(name="V", default=None)
    taker_buy_quote_volume: str | None = field(name="Q", default=None)
    first_trade_id: Id | None = field(name="f", default=None)
    last_trade_id: Id | None = field(name="L", default=None)
    ignored: Any = field(name="B", default=None)


class Kline(_Message, tag="kline"):
    """A state of a bar; ``bar.is_final`` once, when it has closed."""

    symbol: Symbol = field(name="s")
    bar: Bar = field(name="k")
    sent_time: Time | None = field(name="E", default=None)


class Depth(_Message, tag="depthUpdate"):
    """A partial book of ``levels`` 5, 10 or 20; or, where that is None, the changes of a whole book.

    Both sides as they came, a JSON array of [price, quantity]: most books are only ever read many at once.
    """

    symbol: Symbol = field(name="s")
    bids: msgspec.Raw = field(name="b")
    asks: msgspec.Raw = field(name="a")
    first_update_id: Id | None = field(name="U", default=None)
    update_id: Id | None = field(name="u", default=None)
    previous_update_id: Id | None = field(name="pu", default=None)
    event_time: Time | None = field(name="T", default=None)
    sent_time: Time | None = field(name="E", default=None)
    levels: int | None = field(name=":levels", default=None)  # never on the wire: the stream's name says it


class Liquidation(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The order of a ``ForceOrder``. ``side`` is the order's: SELL closes a long."""

    symbol: Symbol = field(name="s")
    side: Annotated[str, Meta(pattern="^(BUY|SELL)$")] = field(name="S")
    price: str = field(name="p")
    quantity: str = field(name="q")
    filled_quantity: str = field(name="z")
    average_price: str | None = field(name="ap", default=None)
    last_filled_quantity: str | None = field(name="l", default=None)
    status: str | None = field(name="X", default=None)
    event_time: Time | None = field(name="T", default=None)
    order_type: str | None = field(name="o", default=None)
    time_in_force: str | None = field(name="f", default=None)
    pair: Any = field(name="ps", default=UNSET)  # Binance only, as is the next
    symbol_type: Any = field(name="st", default=UNSET)


class ForceOrder(_Message, tag="forceOrder"):
    """A liquidation, at most the latest of its symbol and second."""

    order: Liquidation = field(name="o")
    sent_time: Time | None = field(name="E", default=None)

    @property
    def symbol(self) -> str:
        return self.order.symbol


class Notice(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An ``Announcement`` in one language."""

    announcement_id: int | str = field(name="i")
    title: str = field(name="t")
    event_time: Time = field(name="d")
    category: str | None = field(name="c", default=None)
    link: str | None = field(name="j", default=None)
    subtitle: Any = field(name="s", default=None)
    is_read: Any = field(name="S", default=None)
    html: Any = field(name="C", default=None)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "announcement_id", str(self.announcement_id))


class Announcement(_Message, tag="announcement"):
    """What the exchange tells everybody, put between the messages of a stream. English where there is English."""

    english: Notice | None = field(name="en", default=None)
    chinese: Notice | None = field(name="zh", default=None)

    def __post_init__(self) -> None:
        if self.english is None and self.chinese is None:
            raise ValueError("expected the announcement in en or zh")

    @property
    def notice(self) -> Notice:
        return self.english or self.chinese


class Other(Struct, frozen=True, gc=False):
    """A message of a kind that is known and that the lake has no table for."""

    kind: str


class Unknown(Struct, frozen=True, gc=False):
    """Something that could not be read, and why."""

    reason: str


class Drift(Struct, frozen=True, gc=False):
    """Fields that the documentation does not know, beside the message that carries them."""

    kind: str
    fields: tuple[str, ...]


Message = AggTrade | Trade | BookTicker | MarkPrice | Kline | Depth | ForceOrder | Announcement

KINDS = {
    "aggTrade": AggTrade,
    "trade": Trade,
    "bookTicker": BookTicker,
    "markPriceUpdate": MarkPrice,
    "kline": Kline,
    "depthUpdate": Depth,
    "forceOrder": ForceOrder,
    "announcement": Announcement,
}
_NESTED = {
    "kline": {"k": Bar},
    "forceOrder": {"o": Liquidation},
    "announcement": {"en": Notice, "zh": Notice},
}
_FIELDS = {
    what: {each.encode_name for each in msgspec.structs.fields(what)} | {"e"}
    for what in (*KINDS.values(), Bar, Liquidation, Notice)
}
_WITHOUT_TABLE = {"24hrTicker", "24hrMiniTicker", "tradepro"}
_PARTIAL_BOOKS = {"5": 5, "10": 10, "20": 20}


class _Combined(Struct, gc=False):
    stream: str
    data: Message | list[Message]


_bare = msgspec.json.Decoder(Message).decode
_combined = msgspec.json.Decoder(_Combined).decode
_anything = msgspec.json.Decoder().decode
_side = msgspec.json.Decoder(list[tuple[str, str]]).decode


def decode(payload: bytes, levels: int | None = None) -> list[Message | Other | Unknown | Drift]:
    """The messages of one frame, in order; none for the answer to a control message.

    A frame is a message, an array of them, or one of the two in the wrapper of a combined stream. A message with
    fields nobody knows is followed by a ``Drift`` that names them.

    Parameters
    ----------
    payload : the frame as received.
    levels : of the partial books on a raw connection, where no stream name tells them. The same event without
        levels is a change of a whole book.
    """
    found = decode_quickly(payload, levels)
    return found if type(found) is list else [found]


def decode_quickly(payload: bytes, levels: int | None = None) -> Message | list[Message | Other | Unknown | Drift]:
    """As ``decode``; a frame that is one plain message, as nearly all are, is that message and no list."""
    try:
        if payload.startswith(b'{"stream"'):
            wrapped = _combined(payload)
            found = wrapped.data
            if type(found) is Depth:
                return _partial(found, stream_levels(wrapped.stream))
            return found
        found = _bare(payload)
    except UNREADABLE:  # rare: worth a closer look
        return _decode_closely(payload, levels)
    return _partial(found, levels) if type(found) is Depth else found


def as_json(message: Struct) -> str:
    """A message or row as the exchange would write it."""
    return msgspec.json.encode(message).decode()


def columns_of(what: type[Struct], found: Sequence[Struct]) -> dict[str, tuple[Any, ...]]:
    """Per field the values of all messages or rows of one type, in order; of none, no fields."""
    return dict(zip(what.__struct_fields__, zip(*map(astuple, found), strict=True), strict=bool(found)))


def wire_name(what: type[Struct], field_name: str) -> str:
    """What the exchange calls a field."""
    return what.__struct_encode_fields__[what.__struct_fields__.index(field_name)]


def event_of(what: type[Struct]) -> str:
    """What the exchange calls a type of message."""
    return what.__struct_config__.tag


def pairs_of(side: msgspec.Raw) -> list[tuple[str, str]] | None:
    """Price and quantity of each level of one side of a ``Depth``; None when it is no such list."""
    try:
        return _side(side)
    except UNREADABLE:
        return None


@lru_cache(maxsize=4_096)  # a few names, asked for with every book
def stream_levels(stream: str) -> int | None:
    """Levels of the partial book that a stream carries: 5 for ``btcusdt@depth5@100ms``; None for any other stream."""
    kind = stream.split("@")[1:2]
    return _PARTIAL_BOOKS.get(kind[0].removeprefix("depth")) if kind and kind[0].startswith("depth") else None


def _partial(book: Depth, levels: int | None) -> Depth:
    """The book with its levels, set in place: nobody else has seen it yet."""
    if levels is not None:
        msgspec.structs.force_setattr(book, "levels", levels)
    return book


def _decode_closely(payload: bytes, levels: int | None) -> list[Message | Other | Unknown | Drift]:
    """As ``decode``, for what is no plain message: arrays, unknown fields, control replies, strangers, noise."""
    try:
        said = _anything(payload)
    except UNREADABLE as error:
        return [Unknown(f"not JSON: {error}")]
    if isinstance(said, dict) and isinstance(said.get("stream"), str) and "data" in said:
        levels = stream_levels(said["stream"])
        said = said["data"]
    if isinstance(said, list):
        return [found for each in said for found in _one(each, levels)]
    return _one(said, levels)


def _one(said: Any, levels: int | None) -> list[Message | Other | Unknown | Drift]:
    """One decoded object as a message."""
    if not isinstance(said, dict):
        return [Unknown(f"expected a message, got JSON of type {type(said).__name__}")]
    kind = said.get("e")
    if kind is None:
        return [] if _is_control_reply(said) else [Unknown("no event: the field e is missing")]
    if not isinstance(kind, str):
        return [Unknown(f"the field e: expected the name of an event, got {kind!r}")]
    if kind in _WITHOUT_TABLE:
        return [Other(kind)]
    if kind not in KINDS:
        return [Unknown(f"unknown event {kind!r}")]
    known, strange = _known_fields(said, KINDS[kind])
    for name, inside in _NESTED.get(kind, {}).items():
        if isinstance(known.get(name), dict):
            known[name], more = _known_fields(known[name], inside)
            strange += [f"{name}.{each}" for each in more]
    try:
        found = msgspec.json.decode(msgspec.json.encode(known), type=KINDS[kind])
    except msgspec.DecodeError as error:
        return [Unknown(f"{kind}: {error}")]
    found = _partial(found, levels) if type(found) is Depth else found
    return [found, Drift(kind, tuple(strange))] if strange else [found]


def _is_control_reply(said: Mapping[str, Any]) -> bool:
    """``{"result": null, "id": 1}``, or an error that answers a control message: ``{"code": 2, "msg": ...}``."""
    return "result" in said or {"code", "msg"} <= set(said) or "error" in said


def _known_fields(said: Mapping[str, Any], what: type[Struct]) -> tuple[dict[str, Any], list[str]]:
    """(the fields that a message of this type has, the names of the others)."""
    names = _FIELDS[what]
    known = {name: value for name, value in said.items() if name in names}
    return known, [name for name in said if name not in names]
