"""Every table of the lake: column, dtype, unit, where the value comes from. This file answers every unit question; the
tables about the recording itself are in schema_ledgers.py, those of liquidation maps in schema_clusters.py.

Times are UTC. Three clocks, never mixed:

- ``event_time``: when it happened, exchange clock (wire field ``T`` where there is one, else ``E``). Where an old file
  kept no exchange clock, ``clock`` is "receive" and ``event_time`` repeats our own receipt time.
- ``sent_time``: when the exchange sent the message (wire field ``E``); null where the source kept none.
- ``recv_time``: when the bytes reached us; null for rows fetched later by REST.

Prices are quote currency (USDT) per base unit, quantities are base units, rates are fractions (0.0001 is 1 bp).
``source`` says how a row came here: ws, rest, import, synthetic.
"""

import polars as pl

from data.schema_clusters import CLUSTER_TABLES
from data.schema_ledgers import CLOCK_OFFSETS, CONFLICTS, GAPS, HOLDOUTS, QUARANTINE, RAW, TRIALS
from data.table import TIME_MS, TIME_NS, Table
from data.table import conform as conform  # the schema's door: importers need one module only
from data.table import interval_ms as interval_ms

SCHEMA_VERSION = 2
MAX_DEPTH_LEVELS = 20

SIDE = pl.Enum(["BUY", "SELL"])
SOURCE = pl.Enum(["ws", "rest", "import", "synthetic"])
CLOCK = pl.Enum(["exchange", "receive"])

_CONTRACT = {"venue": pl.String, "symbol": pl.String}
_OHLC = {"open": pl.Float64, "high": pl.Float64, "low": pl.Float64, "close": pl.Float64}
_ARRIVAL = {
    "sent_time": TIME_MS,  # E
    "recv_time": TIME_NS,
    "source": SOURCE,
}
_PAIR = {
    "recv2_time": TIME_NS,  # when the other socket of the pair brought it; null where it did not, or there was one
    "socket": pl.Int64,  # which socket of the pair was first: 0 or 1
}


def _reference_kline(name: str) -> Table:
    """Klines of a reference price: no volume, the count is of data points."""
    return Table(
        name=name,
        time="open_time",
        key=("venue", "symbol", "interval", "open_time"),
        columns=pl.Schema(
            {
                **_CONTRACT,
                "interval": pl.String,  # 1m, 1h, ...
                "open_time": TIME_MS,  # identity of the bar
                **_OHLC,
                "recv_time": TIME_NS,
                "source": SOURCE,
            }
        ),
    )


_KLINE_COLUMNS = {
    **_CONTRACT,
    "interval": pl.String,  # 1m, 1h, ... (k.i)
    "open_time": TIME_MS,  # k.t, identity of the bar
    **_OHLC,  # k.o k.h k.l k.c
    "volume": pl.Float64,  # base quantity, k.v
    "quote_volume": pl.Float64,  # USDT, k.q
    "trade_count": pl.Int64,  # k.n
    "taker_buy_volume": pl.Float64,  # base quantity, k.V; null where the source kept none
    "taker_buy_quote_volume": pl.Float64,  # USDT, k.Q; null where the source kept none
    "first_trade_id": pl.Int64,  # k.f, raw trade id
    "last_trade_id": pl.Int64,  # k.L, raw trade id
    **_ARRIVAL,
}

_DEPTH_LEVELS = {
    f"{side}_{what}_{level}": pl.Float64
    for side in ("bid", "ask")
    for level in range(MAX_DEPTH_LEVELS)
    for what in ("price", "quantity")
}

KLINES = Table(
    name="klines",  # closed bars only
    time="open_time",
    key=("venue", "symbol", "interval", "open_time"),
    columns=pl.Schema(_KLINE_COLUMNS),
)
KLINE_UPDATES = Table(
    name="kline_updates",  # every state of the running bar that was seen
    time="open_time",
    key=("venue", "symbol", "interval", "open_time", "sent_time"),
    fallback_key=("venue", "symbol", "interval", "open_time", "recv_time"),
    columns=pl.Schema(
        {
            **_KLINE_COLUMNS,
            "is_final": pl.Boolean,  # k.x
            **_PAIR,
        }
    ),
)
MARK_KLINES = _reference_kline("mark_klines")
INDEX_KLINES = _reference_kline("index_klines")

TRADES = Table(
    name="trades",  # aggregate trades: fills of one taker order at one price
    time="event_time",
    key=("venue", "symbol", "agg_trade_id"),
    fallback_key=("venue", "symbol", "agg_trade_id", "event_time", "price", "quantity", "is_buyer_maker"),
    ids="agg_trade_id",
    columns=pl.Schema(
        {
            **_CONTRACT,
            "agg_trade_id": pl.Int64,  # a, consecutive per symbol
            "event_time": TIME_MS,  # T
            "price": pl.Float64,  # p; prints may lie off the tick grid
            "quantity": pl.Float64,  # q, base
            "is_buyer_maker": pl.Boolean,  # m: true means an aggressive sell
            "first_trade_id": pl.Int64,  # f
            "last_trade_id": pl.Int64,  # l; f and l are not dense, never use them for gaps
            "is_ambiguous": pl.Boolean,  # the id may belong to raw trades; left out of gap detection
            **_ARRIVAL,
            **_PAIR,
        }
    ),
)
RAW_TRADES = Table(
    name="raw_trades",  # single fills, REST /trades and the undocumented @trade stream; never summed with trades
    time="event_time",
    key=("venue", "symbol", "trade_id"),
    fallback_key=("venue", "symbol", "trade_id", "event_time", "price", "quantity", "is_buyer_maker"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "trade_id": pl.Int64,  # t or REST id: another id space than agg_trade_id
            "event_time": TIME_MS,
            "price": pl.Float64,  # 0, as is the quantity, where market_type is NA: no trade at all
            "quantity": pl.Float64,
            "is_buyer_maker": pl.Boolean,
            "market_type": pl.String,  # X: MARKET, INSURANCE_FUND, ADL, NA; null from REST
            "repeats_agg_trade_id": pl.Int64,  # the recorded aggregate this fill belongs to; null when none is recorded
            "is_ambiguous": pl.Boolean,
            **_ARRIVAL,
            **_PAIR,
        }
    ),
)
TRADE_SAMPLES = Table(
    name="trade_samples",  # prior-art 003's one-second trade sums: they miss 9-29 % of trades, never used for volume
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # time of the poll
            "trade_count": pl.Int64,
            "quantity": pl.Float64,
            "vwap": pl.Float64,  # null without trades
            "buy_quantity": pl.Float64,
            "sell_quantity": pl.Float64,
            "buy_notional_usdt": pl.Float64,
            "sell_notional_usdt": pl.Float64,
            "clock": CLOCK,
            "recv_time": TIME_NS,
            "source": SOURCE,
        }
    ),
)
BOOK_TICKER = Table(
    name="book_ticker",
    time="event_time",
    key=("venue", "symbol", "update_id"),
    fallback_key=("venue", "symbol", "recv_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "update_id": pl.Int64,  # u
            "event_time": TIME_MS,  # T
            "bid_price": pl.Float64,  # b
            "bid_quantity": pl.Float64,  # B; null where the source kept none
            "ask_price": pl.Float64,  # a
            "ask_quantity": pl.Float64,  # A
            "clock": CLOCK,
            **_ARRIVAL,
            **_PAIR,
        }
    ),
)
DEPTH = Table(
    name="depth",  # partial books of 5, 10 or 20 levels, best first; a view depth5 shows the first five
    time="event_time",
    key=("venue", "symbol", "update_id"),
    fallback_key=("venue", "symbol", "recv_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "levels": pl.Int64,  # levels subscribed: 5, 10 or 20
            "first_update_id": pl.Int64,  # U
            "update_id": pl.Int64,  # u
            "previous_update_id": pl.Int64,  # pu
            "event_time": TIME_MS,  # T
            **_DEPTH_LEVELS,  # best first; null beyond what the book held
            "clock": CLOCK,
            **_ARRIVAL,
            **_PAIR,
        }
    ),
)
MARK_PRICE = Table(
    name="mark_price",
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # E
            "mark_price": pl.Float64,  # p
            "index_price": pl.Float64,  # i
            "estimated_settle_price": pl.Float64,  # P, meaningful in the hour before settlement
            "funding_rate": pl.Float64,  # r, fraction per funding interval
            "next_funding_time": TIME_MS,  # T
            "clock": CLOCK,
            "recv_time": TIME_NS,
            "source": SOURCE,
            **_PAIR,
        }
    ),
)
FUNDING = Table(
    name="funding",  # settled funding events
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # fundingTime
            "funding_rate": pl.Float64,  # fraction of notional; longs pay when positive
            "interval_hours": pl.Float64,  # differs by symbol and may change
            "source": SOURCE,
        }
    ),
)
FORCE_ORDERS = Table(
    name="force_orders",  # liquidations, at most one per symbol and second on the wire: sums are lower bounds
    time="event_time",
    key=("venue", "symbol", "event_time", "side", "price", "quantity", "filled_quantity"),
    fallback_key=("venue", "symbol", "event_time", "side", "average_price", "quantity", "filled_quantity"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # o.T
            "side": SIDE,  # o.S, side of the order: SELL closes a long
            "quantity": pl.Float64,  # o.q, ordered
            "price": pl.Float64,  # o.p, the order's limit, not the fill
            "average_price": pl.Float64,  # o.ap; notional is average_price x filled_quantity
            "last_filled_quantity": pl.Float64,  # o.l
            "filled_quantity": pl.Float64,  # o.z
            "status": pl.String,  # o.X
            **_ARRIVAL,
            **_PAIR,
        }
    ),
)
OPEN_INTEREST = Table(
    name="open_interest",
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,  # venue: aster (undocumented), binance, hyperliquid (its kPEPE is 1000PEPEUSDT here)
            "event_time": TIME_MS,  # of hyperliquid, which names none: when it was received
            "open_interest": pl.Float64,  # base quantity
            "open_interest_usdt": pl.Float64,  # notional, hyperliquid's in USDC; null where the venue gives none
            "recv_time": TIME_NS,
            "source": SOURCE,
            "is_documented": pl.Boolean,  # false: the venue does not promise this endpoint
        }
    ),
)
RATIOS = Table(
    name="ratios",
    time="event_time",
    key=("venue", "symbol", "event_time", "kind"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # of the period the value covers, as told: decide by recv_time, never by this
            "kind": pl.String,  # long_short_accounts, long_short_positions, taker_buy_sell
            "value": pl.Float64,  # long / short, buy / sell; positions are those of the top traders
            "recv_time": TIME_NS,
            "source": SOURCE,
        }
    ),
)
INSTRUMENTS = Table(
    name="instruments",  # dated rows: the row in force at t is the last with event_time <= t
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # in force from
            "status": pl.String,  # TRADING, SETTLING, PENDING_TRADING, PRE_SETTLE, CLOSE; ABSENT: no longer listed
            "underlying_type": pl.String,
            "onboard_time": TIME_MS,
            "tick_size": pl.Float64,  # PRICE_FILTER.tickSize
            "step_size": pl.Float64,  # LOT_SIZE.stepSize
            "min_quantity": pl.Float64,
            "max_quantity": pl.Float64,  # LOT_SIZE.maxQty
            "market_max_quantity": pl.Float64,  # MARKET_LOT_SIZE.maxQty
            "min_notional_usdt": pl.Float64,  # MIN_NOTIONAL.notional
            "price_multiplier_up": pl.Float64,  # PERCENT_PRICE
            "price_multiplier_down": pl.Float64,
            "max_orders": pl.Int64,
            "max_conditional_orders": pl.Int64,
            "liquidation_fee": pl.Float64,  # fraction
            "trigger_protect": pl.Float64,  # fraction
            "market_take_bound": pl.Float64,  # fraction
            "funding_interval_hours": pl.Float64,
            "brackets": pl.List(
                pl.Struct(
                    {
                        "notional_floor_usdt": pl.Float64,
                        "notional_cap_usdt": pl.Float64,
                        "max_leverage": pl.Float64,
                        "maintenance_margin_rate": pl.Float64,  # fraction
                        "maintenance_amount_usdt": pl.Float64,
                    }
                )
            ),  # null without account keys
            "source": SOURCE,
        }
    ),
)
INDEX_REFERENCES = Table(
    name="index_references",  # which markets an index price is made of; dated rows like instruments
    time="event_time",
    key=("venue", "symbol", "event_time", "exchange", "reference_symbol"),
    columns=pl.Schema(
        {
            **_CONTRACT,
            "event_time": TIME_MS,  # in force from, as the answer says: when it was asked
            "exchange": pl.String,
            "reference_symbol": pl.String,  # the exchange's name of the market
            "weight": pl.Float64,  # fraction
            "recv_time": TIME_NS,
            "source": SOURCE,
        }
    ),
)
ANNOUNCEMENTS = Table(
    name="announcements",
    time="event_time",
    key=("venue", "announcement_id"),
    columns=pl.Schema(
        {
            "venue": pl.String,
            "announcement_id": pl.String,
            "event_time": TIME_MS,  # when it was published
            "category": pl.String,
            "title": pl.String,
            "link": pl.String,
            "recv_time": TIME_NS,
            "source": SOURCE,
        }
    ),
)
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        KLINES, KLINE_UPDATES, MARK_KLINES, INDEX_KLINES, TRADES, RAW_TRADES, TRADE_SAMPLES, BOOK_TICKER, DEPTH,
        MARK_PRICE, FUNDING, FORCE_ORDERS, OPEN_INTEREST, RATIOS, INSTRUMENTS, INDEX_REFERENCES, ANNOUNCEMENTS, GAPS,
        QUARANTINE, CONFLICTS, RAW, CLOCK_OFFSETS, TRIALS, HOLDOUTS, *CLUSTER_TABLES,
    )
}  # fmt: skip


def is_test_symbol(symbol: str) -> bool:
    """True for the exchange's ``TEST*`` contracts, which are refused unless asked for."""
    return symbol.upper().startswith("TEST")
