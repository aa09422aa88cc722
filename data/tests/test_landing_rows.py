"""Rows against a plain conversion of the same frames, written independently here."""

import gzip
import json
from collections import Counter

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from data.landing import tables_of
from data.schema import TABLES
from data.wal import Kind, Record

RECV_NS = 1_780_000_100_000_000_123
START_MS = 1_780_000_000_000  # 2026-05-28 20:26:40


def frame(said: object, recv_ns: int) -> Record:
    return Record(recv_ns, Kind.FRAME, 0, json.dumps(said).encode())


RENAMED = {
    "aggTrade": ("trades", "agg_trade_id=a price=p quantity=q first_trade_id=f last_trade_id=l is_buyer_maker=m"),
    "trade": ("raw_trades", "trade_id=t price=p quantity=q market_type=X is_buyer_maker=m"),
    "bookTicker": ("book_ticker", "update_id=u bid_price=b bid_quantity=B ask_price=a ask_quantity=A"),
    "markPriceUpdate": ("mark_price", "mark_price=p index_price=i estimated_settle_price=P funding_rate=r"),
    "forceOrder": (
        "force_orders",
        "side=S quantity=q price=p average_price=ap last_filled_quantity=l filled_quantity=z status=X",
    ),
    "kline": (
        "kline_updates",
        "interval=i open_time=t open=o high=h low=l close=c volume=v quote_volume=q trade_count=n taker_buy_volume=V "
        "taker_buy_quote_volume=Q first_trade_id=f last_trade_id=L is_final=x",
    ),
}
WORDS = {"interval", "side", "status", "market_type"}


def slow_rows(records: list[Record]) -> dict[str, list[dict]]:
    """Message by message with the standard library; times stay numbers."""
    found = {}
    for record in records:
        said = json.loads(record.payload)
        stream = said.get("stream", "")
        said = said.get("data", said)
        kind = said["e"]
        if kind == "depthUpdate":
            levels = next((n for n in (20, 10, 5) if f"@depth{n}" in stream), None)
            if levels is None:
                continue
            row = {"levels": levels, "first_update_id": said["U"], "update_id": said["u"]}
            row["previous_update_id"] = said["pu"]
            for side, orders in (("bid", said["b"]), ("ask", said["a"])):
                for level, (price, quantity) in enumerate(orders):
                    row |= {f"{side}_price_{level}": float(price), f"{side}_quantity_{level}": float(quantity)}
            table = "depth"
        else:
            table, renamed = RENAMED[kind]
            inside = said.get("k") or said.get("o") or said
            row = {}
            for pair in renamed.split():
                column, key = pair.split("=")
                value = inside.get(key)
                row[column] = float(value) if isinstance(value, str) and column not in WORDS else value
        inside = said.get("o") or said
        row |= {"venue": "aster", "symbol": inside["s"], "recv_time": record.recv_ns, "source": "ws"}
        if kind == "markPriceUpdate":
            row |= {"event_time": said["E"], "next_funding_time": said["T"]}
        elif kind == "kline":
            row["sent_time"] = said["E"]
        else:
            row |= {"event_time": inside["T"], "sent_time": said["E"]}
        if table in ("book_ticker", "depth", "mark_price"):
            row["clock"] = "exchange"
        if table in ("trades", "raw_trades"):
            row["is_ambiguous"] = False
        found.setdefault(table, []).append(row)
        row["socket"] = 0
        if row.get("is_final"):
            found.setdefault("klines", []).append({key: row[key] for key in row if key not in ("is_final", "socket")})
    return found


def assert_same(records: list[Record]) -> Counter:
    """The judge and the converter agree on every cell; returns how many rows each table has."""
    found = tables_of(records, venue="aster")
    expected = slow_rows(records)
    assert set(found.tables) == set(expected)
    for table, rows in expected.items():
        columns = TABLES[table].columns
        told = found.tables[table]
        assert told.schema == columns
        plain = told.select(pl.all().exclude(pl.Enum).to_physical(), pl.col(pl.Enum).cast(pl.String))
        assert plain.select(columns.names()).to_dicts() == [{name: row.get(name) for name in columns} for row in rows]
    return Counter({table: len(rows) for table, rows in expected.items()})


symbols = st.sampled_from(["BTCUSDT", "ETHUSDT", "ASTERUSDT"])
times = st.integers(START_MS, START_MS + 10**9)
ids = st.none() | st.integers(0, 2**62)
amounts = st.decimals(0, 10**6, places=8).map(str)
prices = st.decimals("0.00000001", 10**6, places=8).map(lambda price: format(price, "f"))
flags = st.booleans()


def message(kind: str, **fields) -> st.SearchStrategy:
    return st.fixed_dictionaries({"e": st.just(kind), "E": times, **fields})


bars = st.fixed_dictionaries(
    {"t": times, "T": times, "s": symbols, "i": st.sampled_from(["1m", "1h"]), "f": st.integers(-1, 9), "x": flags}
    | {"L": st.integers(-1, 9), "o": prices, "c": prices, "h": prices, "l": prices, "v": amounts}
    | {"n": st.integers(0, 10**6), "q": amounts, "V": amounts, "Q": amounts, "B": st.just("0")}
)
orders = st.fixed_dictionaries(
    {"s": symbols, "S": st.sampled_from(["BUY", "SELL"]), "o": st.just("LIMIT"), "f": st.just("IOC"), "q": amounts}
    | {"p": prices, "ap": amounts, "X": st.sampled_from(["FILLED", "NEW"]), "l": amounts, "z": amounts, "T": times}
)
bids = st.lists(st.tuples(prices, amounts), max_size=5, unique_by=lambda level: float(level[0]))
anything = st.one_of(
    message("aggTrade", s=symbols, a=st.integers(0, 2**62), p=prices, q=amounts, f=ids, l=ids, T=times, m=flags),
    message("trade", s=symbols, t=st.integers(0, 2**62), p=prices, q=amounts, T=times, m=flags, X=st.just("MARKET")),
    message("bookTicker", s=symbols, u=ids, b=prices, B=amounts, a=prices, A=amounts, T=times),
    message("markPriceUpdate", s=symbols, p=prices, i=prices, P=amounts, r=st.just("-0.00012"), T=times),
    message("kline", s=symbols, k=bars),
    message("forceOrder", o=orders),
)
books = st.tuples(
    st.sampled_from(["a@depth5@100ms", "a@depth10", "a@depth20@500ms", "a@depth@100ms"]),
    message(
        "depthUpdate",
        s=symbols,
        U=ids,
        u=ids,
        pu=ids,
        T=times,
        b=bids.map(lambda levels: sorted(levels, key=lambda level: -float(level[0]))),
        a=bids.map(lambda levels: sorted(levels, key=lambda level: float(level[0]))),
    ),
).map(lambda pair: {"stream": pair[0], "data": pair[1]})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(anything, books, anything.map(lambda said: {"stream": "x", "data": said})), max_size=12))
def test_rows_are_those_of_a_plain_conversion(said):
    records = [frame(each, RECV_NS + number) for number, each in enumerate(said)]
    assert_same(records)
    told = tables_of(records, venue="aster")
    assert told.quarantine.filter(~pl.col("reason").str.contains("missing field")).is_empty()
    assert told.lossy == {}


def test_every_frame_of_a_real_burst_lands_is_counted_or_is_quarantined(real_data):
    records = []
    with gzip.open(real_data / "frames" / "binance_ethusdt_20240808.gz") as lines:
        for line in lines:
            recv_ns, payload = line.rstrip(b"\n").split(b" ", 1)
            records.append(Record(int(recv_ns), Kind.FRAME, 0, payload))
    found = tables_of(records, venue="binance", segment="burst.wal")
    rows = {table: rows.height for table, rows in found.tables.items()}
    assert len(records) == 74_655
    assert rows == {"book_ticker": 53_992, "raw_trades": 14_076}
    assert found.skipped == {"depthUpdate of a whole book": 6_586}  # ethusdt@depth@0ms: changes, not books
    assert found.quarantine.select("file", "line", "reason").rows() == [
        ("burst.wal", 41, "no event: the field e is missing")  # a REST book that the recorder wrote among the frames
    ]
    assert found.quarantine["raw"][0].startswith('{"lastUpdateId":5123107856276,')
    readable = [record for record in records if not record.payload.startswith(b'{"lastUpdateId"')]
    assert assert_same(readable) == rows
