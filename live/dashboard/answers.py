"""What the dashboard answers, as it stands in its OpenAPI: money in USDT, times in ISO 8601 UTC, unknown is null."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Usdt = Annotated[float | None, Field(description="USDT; null where unknown")]
Moment = Annotated[datetime | None, Field(description="UTC; null where unknown")]
SideWord = Literal["long", "short"]


class Answer(BaseModel):
    """Base of all answers: nothing that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Position(Answer):
    """An open position and what protects it."""

    symbol: Annotated[str, Field(examples=["BTCUSDT"])]
    side: SideWord
    quantity: Annotated[float, Field(description="base", examples=[0.041])]
    notional_usdt: Usdt
    entry_price: Annotated[float | None, Field(description="null while no fill is known", examples=[77_665.9])]
    mark_price: Annotated[float | None, Field(description="last one heard", examples=[77_962.2])]
    stop_price: float | None
    stop_state: Annotated[Literal["held", "missing"], Field(description="held: the stop order lies at the broker")]
    stop_distance_bps: Annotated[float | None, Field(description="of the mark, never negative")]
    target_price: float | None
    target_distance_bps: float | None
    trailing_from_price: float | None
    naked_s: Annotated[float, Field(description="from the fill to its stop order")]
    unrealised_usdt: Usdt
    fees_usdt: Usdt
    funding_usdt: Annotated[float, Field(description="paid when positive")]
    margin_usdt: Usdt
    entry_time: Annotated[datetime, Field(description="of one that was taken over: when")]
    open_s: float
    is_adopted: Annotated[bool, Field(description="taken over: what entered it is not known to the run")]
    trade_id: str
    config_hash: str
    tick_size: float
    step_size: float


class Account(Answer):
    """Money and exposure. A paper run has no wallet: its balance is null. Equity counts from zero."""

    mode: str | None
    balance_usdt: Annotated[float | None, Field(description="wallet and unrealised, as the exchange told a real run")]
    available_usdt: Annotated[float | None, Field(description="of the balance, free for new positions")]
    equity_usdt: Annotated[float | None, Field(description="realised and unrealised since the journal began")]
    realised_usdt: Annotated[float, Field(description="net of fees and funding, of closed trades")]
    unrealised_usdt: Usdt
    margin_usdt: Usdt
    exposure_usdt: Usdt
    exposure_limit_usdt: Usdt
    volume_24h_usdt: Annotated[float, Field(description="of our own fills")]
    drawdown_today_usdt: Annotated[
        float, Field(description="since 00:00 UTC below its highest: a real account's equity, else what exits netted")
    ]
    daily_loss_limit_usdt: Usdt


class Trade(Answer):
    """A closed trade."""

    number: Annotated[int, Field(description="from 1, as they were booked", examples=[412])]
    trade_id: str
    config_hash: str
    symbol: str
    side: SideWord
    quantity: float
    entry_time: Moment
    exit_time: Moment
    entry_price: float
    exit_price: float
    reason: Annotated[str, Field(examples=["stop"])]
    gross_usdt: Usdt
    fees_usdt: Usdt
    funding_usdt: Usdt
    net_usdt: Usdt


class Trades(Answer):
    """Closed trades after a number, and how many there are."""

    total: int
    trades: list[Trade]


class Order(Answer):
    """One of our orders."""

    client_order_id: Annotated[str, Field(examples=["wbppr-c4kdvuyxqa-S0"])]
    trade_id: str
    symbol: str
    leg: Annotated[str, Field(examples=["stop"])]
    type: Annotated[str, Field(examples=["STOP_MARKET"])]
    side: Literal["BUY", "SELL"]
    quantity: Annotated[float | None, Field(description="base; null of an order that closes all there is")]
    price: float | None
    state: Annotated[str, Field(description="sent, unknown, open; or how it ended", examples=["open"])]
    time: Moment


class Event(Answer):
    """An event of the journal, in words for people."""

    seq: int
    time: Moment
    kind: Annotated[str, Field(examples=["fill"])]
    symbol: str
    trade_id: str | None
    text: Annotated[str, Field(examples=["bought 0.041 at 77 665.9"])]
    is_shown: Annotated[bool, Field(description="false for what only machines want to know")]
    command_id: Annotated[str | None, Field(description="of a command, and of the runner's answer to it")]


class Liquidation(Answer):
    """A forced order of somebody."""

    symbol: str
    time: Moment
    closed: Annotated[SideWord, Field(description="the position that was closed: a forced SELL closed a long")]
    price: float | None
    quantity: float | None
    usdt: Usdt


class Money(Answer):
    """A sum and its parts; funding is paid when positive."""

    trades: int
    wins: int
    gross_usdt: float
    fees_usdt: float
    funding_usdt: float
    net_usdt: float


class Performance(Answer):
    """How trading went (prior-art 001)."""

    since_start: Money
    today: Money
    win_rate: Annotated[float | None, Field(description="fraction of closed trades with a net above zero")]
    profit_factor: Annotated[float | None, Field(description="net of winners over that of losers")]
    worst_drawdown_usdt: Annotated[float, Field(description="of the net of closed trades; 0 or less")]
    unrealised_usdt: Usdt


class OpenInterest(Answer):
    """Open interest of a symbol (prior-art 002), one-sided: every contract has one long and one short."""

    symbol: str
    source: Annotated[str, Field(description="whose number it is")]
    time: Moment
    total_oi_usd: Usdt
    long_oi_usd: Usdt
    short_oi_usd: Usdt
    long_short_ratio: Annotated[float | None, Field(description="of accounts; null where no venue tells")]
    ratio_source: str | None
    placed_share: Annotated[float | None, Field(description="fraction of it that the map places in its window")]


class Stats(Answer):
    """Performance of prior-art 001 and open interest of prior-art 002; the lake's part is empty without a lake."""

    performance: Performance
    open_interest: list[OpenInterest]
    total_oi_usd: Usdt


class Slippage(Answer):
    """What entries of one symbol cost beyond the touch that was decided on, bps, beside what the config assumes."""

    symbol: str
    entries: int
    model_bps: float | None
    low_bps: Annotated[float | None, Field(description="10th percentile")]
    median_bps: float | None
    high_bps: Annotated[float | None, Field(description="90th percentile")]


class Parity(Answer):
    """Whether the journal is what it was, and how live fills differ from the model."""

    events: int
    chain_head: Annotated[str | None, Field(description="hash of the last event")]
    is_chain_sound: bool
    reason: Annotated[str | None, Field(description="why the chain is not sound, or cannot be checked")]
    slippage: list[Slippage]


class Runner(Answer):
    """The runner at this moment."""

    mode: str | None
    state: Annotated[str, Field(examples=["running"])]
    level: Annotated[str, Field(description="what the runner may do: ACTIVE, REDUCING, HALTED", examples=["ACTIVE"])]
    reason: Annotated[str | None, Field(description="why not ACTIVE, or why the journal cannot be read")]
    level_since: Moment
    now: Moment
    heard_age_s: Annotated[float | None, Field(description="since it heard anything, by this machine's clock")]
    up_s: float | None
    head: Annotated[int, Field(description="number of the journal's last event")]
    epoch: Annotated[int, Field(description="another one where numbers of events may have begun again")]
    config_hashes: list[str]
    resolution: str | None
    maps: Annotated[dict[str, str | None], Field(description="why a symbol has no liquidation map; null where it has")]
    tick_sizes: Annotated[dict[str, float], Field(description="of the symbols that run")]
    takes_commands: bool
    clock_offset_ms: Annotated[float | None, Field(description="to the exchange's clock; null on paper")]
    weight_used: Annotated[int | None, Field(description="of requests, the last minute; null on paper")]
    weight_limit: int | None


class Recorder(Answer):
    """A recorder of the lake."""

    number: int
    state: str
    venue: str
    symbols: list[str]
    now: Moment
    connected: int
    connections: int
    messages_per_second: float
    lag_p99_ms: float | None
    gaps_open: int
    disk_full_in_s: float | None
    streams: list["Stream"]
    trouble: list[str]
    notices: list[str]


class Stream(Answer):
    """One kind of stream that a recorder hears."""

    name: str
    messages: int
    per_s: Annotated[float | None, Field(description="null until it was looked at twice")]
    per_minute: Annotated[list[int], Field(description="messages of each of the last minutes, at most 60")]
    silent_s: Annotated[float | None, Field(description="since its count last rose; null until it did")]
    gaps_open: int
    gaps_lost: int


class Health(Answer):
    """Whether everything that should live does."""

    is_well: bool
    runner: Runner
    recorders: list[Recorder]
    lake: Annotated[str | None, Field(description="its folder; null where there is none")]
    troubles: list[str]


class Overview(Answer):
    """All that the page's first screen shows, of one moment."""

    runner: Runner
    account: Account
    positions: list[Position]
    performance: Performance
    slippage: list[Slippage]
    last_trade: Trade | None
    next_decision: Moment
    unknown_orders: Annotated[int, Field(description="of which nobody has told what became of them")]
    naked_today_s: Annotated[float, Field(description="the longest that a position of today was without its stop")]


class Equity(Answer):
    """Net of closed trades after each exit; extremes survive the thinning."""

    points: Annotated[list[tuple[int, float]], Field(description="ms since 1970 and USDT", examples=[[[0, 1.5]]])]


class Config(Answer):
    """A config that runs, as its start told it."""

    config_hash: str
    symbol: str
    mode: str
    resolution: str | None
    started: Moment
    assumptions: list[str]
    config: dict[str, Any]
