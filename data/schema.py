"""Every table of the lake: column, dtype, unit, where the value comes from. This file answers every unit question.

Times are UTC. Three clocks, never mixed:

- ``event_time``: when it happened, exchange clock (wire field ``T`` where there is one, else ``E``). Where an old file
  kept no exchange clock, ``clock`` is "receive" and ``event_time`` repeats our own receipt time.
- ``sent_time``: when the exchange sent the message (wire field ``E``); null where the source kept none.
- ``recv_time``: when the bytes reached us; null for rows fetched later by REST.

Prices are quote currency (USDT) per base unit, quantities are base units, rates are fractions (0.0001 is 1 bp).
``source`` says how a row came here: ws, rest, import, synthetic.
"""

import polars as pl

from data.table import TIME_MS, TIME_NS, Table
from data.table import conform as conform  # the schema's door: importers need one module only
from data.table import interval_ms as interval_ms

SCHEMA_VERSION = 1
MAX_DEPTH_LEVELS = 20

SIDE = pl.Enum(["BUY", "SELL"])
SOURCE = pl.Enum(["ws", "rest", "import", "synthetic"])
CLOCK = pl.Enum(["exchange", "receive"])

_CONTRACT = {"venue": pl.String, "symbol": pl.String}
_OHLC = {"open": pl.Float64, "high": pl.Float64, "low": pl.Float64, "close": pl.Float64}
_ARRIVAL = {"sent_time": TIME_MS, "recv_time": TIME_NS, "source": SOURCE}  # sent_time is wire field E


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
    columns=pl.Schema({**_KLINE_COLUMNS, "is_final": pl.Boolean}),  # k.x
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
            "price": pl.Float64,
            "quantity": pl.Float64,
            "is_buyer_maker": pl.Boolean,
            "market_type": pl.String,  # X: MARKET, INSURANCE_FUND, ADL, NA; null from REST
            "repeats_agg_trade_id": pl.Int64,  # the recorded aggregate this fill belongs to; null when none is recorded
            "is_ambiguous": pl.Boolean,
            **_ARRIVAL,
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
            **_DEPTH_LEVELS,  # bid_price_0 ... ask_quantity_19; null beyond what the book held
            "clock": CLOCK,
            **_ARRIVAL,
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
        }
    ),
)
OPEN_INTEREST = Table(
    name="open_interest",
    time="event_time",
    key=("venue", "symbol", "event_time"),
    columns=pl.Schema(
        {
            **_CONTRACT,  # venue: aster (undocumented endpoint), binance, hyperliquid
            "event_time": TIME_MS,
            "open_interest": pl.Float64,  # base quantity
            "open_interest_usdt": pl.Float64,  # notional; null where the venue gives none
            "recv_time": TIME_NS,
            "source": SOURCE,
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
            "event_time": TIME_MS,  # end of the period the value covers
            "kind": pl.String,  # long_short_accounts, long_short_positions, taker_buy_sell
            "value": pl.Float64,  # long / short, buy / sell
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
            "status": pl.String,  # TRADING, SETTLING, PENDING_TRADING, PRE_SETTLE, CLOSE
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
GAPS = Table(
    name="gaps",  # append-only ledger: the row with the newest detected_time speaks for its gap
    time="detected_time",
    key=("venue", "gap_id", "state", "cause", "rows_recovered"),  # finding a gap again in the same state adds no row
    fallback_key=("venue", "gap_id", "state"),
    arrival=("detected_time",),
    columns=pl.Schema(
        {
            "gap_id": pl.String,  # table|symbol|from|to, for klines table|symbol|interval|from|to
            **_CONTRACT,
            "table": pl.String,
            "interval": pl.String,  # klines only
            "from_id": pl.Int64,  # first missing id
            "to_id": pl.Int64,  # last missing id
            "from_time": TIME_MS,  # last good event before
            "to_time": TIME_MS,  # first good event after
            "missing": pl.Int64,
            "is_estimate": pl.Boolean,  # missing is exact for ids and klines, estimated elsewhere
            "cause": pl.String,  # reconnect, sequence, silence, crash, disk, exchange, corrupt, import
            "state": pl.String,  # open, repaired, partial, unrepairable
            "repair_source": pl.String,
            "rows_recovered": pl.Int64,
            "detected_time": TIME_MS,
        }
    ),
)
QUARANTINE = Table(
    name="quarantine",  # what could not be read, verbatim
    time="quarantined_time",
    key=("file", "line", "raw"),
    arrival=("quarantined_time",),
    columns=pl.Schema(
        {
            "file": pl.String,
            "line": pl.Int64,  # 1 is the header
            "symbol": pl.String,
            "table": pl.String,  # where it would have gone
            "reason": pl.String,
            "raw": pl.String,
            "quarantined_time": TIME_MS,
        }
    ),
)
CONFLICTS = Table(
    name="conflicts",  # same key, other content: the stored row stays, the newcomer is kept here
    time="conflict_time",
    key=("table", "key", "arrived"),
    arrival=("conflict_time", "source_file", "stored"),
    columns=pl.Schema(
        {
            "table": pl.String,
            "symbol": pl.String,
            "key": pl.String,  # JSON
            "stored": pl.String,  # JSON of the row that stays
            "arrived": pl.String,  # JSON of the newcomer
            "source_file": pl.String,
            "conflict_time": TIME_MS,
        }
    ),
)
CLOCK_OFFSETS = Table(
    name="clock",
    time="event_time",
    key=("venue", "event_time"),
    columns=pl.Schema(
        {
            "venue": pl.String,
            "event_time": TIME_MS,  # our clock at the midpoint of the request
            "offset_ms": pl.Float64,  # exchange minus ours
            "round_trip_ms": pl.Float64,
            "step_ms": pl.Float64,  # realtime minus monotonic since the last row; a step beyond 500 ms is an event
        }
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        KLINES, KLINE_UPDATES, MARK_KLINES, INDEX_KLINES, TRADES, RAW_TRADES, TRADE_SAMPLES, BOOK_TICKER, DEPTH,
        MARK_PRICE, FUNDING, FORCE_ORDERS, OPEN_INTEREST, RATIOS, INSTRUMENTS, GAPS, QUARANTINE, CONFLICTS,
        CLOCK_OFFSETS,
    )
}  # fmt: skip


def is_test_symbol(symbol: str) -> bool:
    """True for the exchange's ``TEST*`` contracts, which are refused unless asked for."""
    return symbol.upper().startswith("TEST")
