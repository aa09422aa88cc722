"""A random stream as the raw log of a paper run, full of what real ones do rarely."""

import json
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from data import wal
from data.wal import Kind, Record

MINUTE_MS, NS_PER_MS = 60_000, 1_000_000
SYMBOL = "BNBUSDT"
TICK = 0.01
FUNDING_EVERY_MS = 420_000


def klines_row(open_ms: int, random: np.random.Generator, price: float) -> list:
    """A row of REST klines around a price."""
    open_, close = (round(price * (1.0 + random.normal(0, 1e-3)), 2) for _ in range(2))
    high, low = max(open_, close) + 0.03, min(open_, close) - 0.02
    volume = 0.0 if random.random() < 0.1 else round(float(random.lognormal(2, 1)), 3)
    return [open_ms, *(f"{value:.2f}" for value in (open_, high, low, close)), f"{volume:.3f}",
            open_ms + MINUTE_MS - 1, f"{volume * price:.4f}", int(volume * 3), f"{volume / 3:.5f}", "1.5", "0",
            ]  # fmt: skip


def kline_frame(row: list, sent_ms: int, is_final: bool = True) -> dict:
    """The kline message that says the same as a row of REST klines."""
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
    bar = dict(zip(names, row, strict=True)) | {"s": SYMBOL, "i": "1m", "f": 1, "L": 2, "x": is_final}
    return {"e": "kline", "E": sent_ms, "s": SYMBOL, "k": bar}


def exchange_info() -> bytes:
    """One contract."""
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": str(TICK)},
        {"filterType": "LOT_SIZE", "stepSize": "0.01", "minQty": "0.01", "maxQty": "1000"},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]
    symbols = [{"symbol": SYMBOL, "status": "TRADING", "filters": filters}]
    return json.dumps({"serverTime": 1, "symbols": symbols}).encode()


@dataclass
class _Market:
    """What is drawn, frame by frame."""

    random: np.random.Generator
    now_ns: int
    price: float = 600.0
    trade_id: int = 1
    trade_ms: int = 0
    update_id: int = 1
    funding_ms: int = 0
    frames: list[tuple[int, Kind, bytes]] = field(default_factory=list)

    def say(self, message: dict, ns: int | None = None) -> None:
        self.frames.append((self.now_ns if ns is None else ns, Kind.FRAME, json.dumps(message).encode()))

    def trade(self) -> None:
        now_ms = self.now_ns // NS_PER_MS
        self.trade_ms = max(self.trade_ms, now_ms - int(self.random.integers(0, 300)))
        price = "-1" if self.random.random() < 0.01 else f"{self.price:.2f}"  # refused
        told = {"e": "aggTrade", "E": now_ms, "s": SYMBOL, "a": self.trade_id, "p": price, "q": "0.50", "f": 1, "l": 1}
        self.say(told | {"T": self.trade_ms, "m": bool(self.random.random() < 0.5)})
        if self.random.random() < 0.02:
            self.frames.append((self.now_ns + 1_000, *self.frames[-1][1:]))  # twice
        self.trade_id += 1

    def quote(self) -> None:
        now_ms = self.now_ns // NS_PER_MS
        half = 0.005 * int(self.random.integers(-1 if self.random.random() < 0.03 else 1, 4))
        told = {"e": "bookTicker", "u": self.update_id, "s": SYMBOL, "b": f"{self.price - half:.2f}", "B": "3.1",
                "a": f"{self.price + half:.2f}", "A": "2.2", "T": now_ms, "E": now_ms}  # fmt: skip
        if self.random.random() < 0.05:
            del told["T"], told["B"]
        self.say(told)
        self.update_id += self.random.random() > 0.02

    def mark(self) -> None:
        now_ms = self.now_ns // NS_PER_MS
        if now_ms > self.funding_ms + int(self.random.integers(0, 2_000)):
            self.funding_ms = now_ms - now_ms % FUNDING_EVERY_MS + FUNDING_EVERY_MS
        told = {"e": "markPriceUpdate", "E": now_ms, "s": SYMBOL, "p": f"{self.price + 0.1:.4f}", "i": "600.1",
                "P": "600.2", "r": f"{self.random.normal(0, 1e-4):.8f}", "T": self.funding_ms}  # fmt: skip
        if self.random.random() < 0.05:
            told["T"] = 0
        if self.random.random() < 0.05:
            told["r"] = ""
        self.say(told)


def random_log(seed: int, config, *, slots: int, start_ms: int, first_ms: int, resolution: str) -> list[Record]:
    """Records of a run that began at ``start_ms``, history from ``first_ms`` on, for so many minutes.

    Streams fall silent for moments or minutes, trades are lost then; bars are late, come twice, by REST or not at all.
    """
    random = np.random.default_rng([seed, 3])
    market = _Market(random=random, now_ns=start_ms * NS_PER_MS)
    since_ms, end_ns = start_ms - 10_000, (start_ms + slots * MINUTE_MS) * NS_PER_MS
    while market.now_ns < end_ns:
        market.price = max(1.0, market.price * (1.0 + random.normal(0, 3e-4)))
        random.choice([market.trade, market.quote, market.mark], p=[0.45, 0.35, 0.2])()
        pause_ms = random.exponential(700.0) if random.random() > 0.1 else 0.0002
        if random.random() < 0.004:
            pause_ms = random.choice([3_000, 15_000, 100_000])
            market.trade_id += int(random.integers(0, 3))
        market.now_ns += int(pause_ms * NS_PER_MS) + 1
    _bars(market, since_ms, end_ns)
    _liquidations(market, np.random.default_rng([seed, 4]), start_ms, end_ns)
    history = [klines_row(open_ms, random, 600.0) for open_ms in range(first_ms, since_ms - MINUTE_MS, MINUTE_MS)]
    lost = [row for row in history if random.random() > 0.1]
    asked = {"symbol": SYMBOL, "interval": "1m"}
    told = {"configs": [config.config_hash], "resolution": resolution, "since_ms": since_ms}
    begin = [
        (Kind.NOTE, wal.note("started", **told)),
        (Kind.ANSWER, wal.answer("/fapi/v3/fundingInfo", {}, since_ms, b"[]")),
        (Kind.ANSWER, wal.answer("/fapi/v3/exchangeInfo", {}, since_ms, exchange_info(), effective_ms=first_ms)),
        (Kind.ANSWER, wal.answer("/fapi/v3/klines", asked, since_ms, json.dumps(lost).encode())),
        (Kind.NOTE, wal.note("ready")),
    ]
    arrived = [(start_ms * NS_PER_MS, *each) for each in begin] + sorted(market.frames, key=lambda frame: frame[0])
    arrived.append((end_ns, Kind.NOTE, wal.note("stopped")))
    return _strictly_later(arrived)


def _bars(market: _Market, since_ms: int, end_ns: int) -> None:
    random = market.random
    asked = {"symbol": SYMBOL, "interval": "1m"}
    first_ms = -(-(since_ms - MINUTE_MS) // MINUTE_MS) * MINUTE_MS
    for open_ms in range(first_ms, end_ns // NS_PER_MS, MINUTE_MS):
        row, close_ms = klines_row(open_ms, random, 600.0), open_ms + MINUTE_MS
        at_ns = int((close_ms + random.uniform(-50, 3_000)) * NS_PER_MS)
        fate = random.choice(["ws", "rest", "both", "late", "lost", "lost and late", "together"],
                             p=[0.7, 0.08, 0.06, 0.06, 0.04, 0.03, 0.03])  # fmt: skip
        if fate in ("ws", "late"):
            late_ns = int(random.uniform(3_000, 130_000) * NS_PER_MS) if fate == "late" else 0
            market.say(kline_frame(row, close_ms, is_final=False), at_ns - 5_000_000)
            market.say(kline_frame(row, close_ms), at_ns + late_ns)
        if fate in ("rest", "both", "together"):
            behind_ms = 150_000 if fate == "together" else random.uniform(5_000, 40_000)
            body = json.dumps([row, klines_row(open_ms + 10 * MINUTE_MS, random, 600.0)]).encode()  # one not closed
            asked_ns = close_ms * NS_PER_MS + int(behind_ms * NS_PER_MS)
            market.frames.append((asked_ns, Kind.ANSWER, wal.answer("/fapi/v3/klines", asked, since_ms, body)))
            if fate == "both":
                market.say(kline_frame(row, close_ms), asked_ns + 1_500_000_000)
        if fate.startswith("lost"):
            lost_ns = (close_ms + 60_000) * NS_PER_MS
            market.frames.append((lost_ns, Kind.NOTE, wal.note("gave_up", open_ms=open_ms, **asked)))
            if fate == "lost and late":
                market.say(kline_frame(row, close_ms), lost_ns + 5_000_000_000)
    market.frames[:] = [frame for frame in market.frames if frame[0] < end_ns]


def _liquidations(market: _Market, random: np.random.Generator, start_ms: int, end_ns: int) -> None:
    """Forced orders of this symbol and of another: late, before they happened, twice, unfilled, impossible."""
    now_ns = start_ms * NS_PER_MS
    while (now_ns := now_ns + int(random.exponential(7e9))) < end_ns:
        event_ms = now_ns // NS_PER_MS - int(random.choice([-40, 0, 300, 70_000], p=[0.1, 0.2, 0.6, 0.1]))
        filled = random.choice(["0.30", "12.5", "0", "-1"], p=[0.5, 0.4, 0.05, 0.05])
        average = random.choice(["601.23", "599.9", "", "0"], p=[0.5, 0.4, 0.05, 0.05])
        order = {"s": str(random.choice([SYMBOL, "ETHUSDT"], p=[0.8, 0.2])), "S": str(random.choice(["SELL", "BUY"])),
                 "o": "LIMIT", "f": "IOC", "q": "12.5", "p": f"{random.uniform(590, 610):.2f}", "ap": str(average),
                 "X": "FILLED", "l": "0.1", "z": str(filled), "T": event_ms}  # fmt: skip
        for copy in range(1 + (random.random() < 0.1)):
            market.say({"e": "forceOrder", "E": event_ms + 1, "o": order}, now_ns + copy * 900_000_000)


def _strictly_later(arrived: list[tuple[int, Kind, bytes]]) -> list[Record]:
    records = [Record(arrived[0][0], arrived[0][1], 0, arrived[0][2])]
    for ns, kind, payload in arrived[1:]:
        records.append(Record(max(ns, records[-1].recv_ns + 1), kind, 0, payload))
    assert all(before.recv_ns < after.recv_ns for before, after in pairwise(records))
    return records
