"""Frames as a recorder gets them, made from real recordings of Aster: the mix, the lengths and the digits of the wire.

Trades and books are recorded ones; what the recordings leave out (E, f, l, U, pu, mark prices and bars) is made up to
the wire's shape. Every frame differs from every other.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

_FOLDER = "collector-2025-09-24"
_SYMBOLS = {"ETHUSDT": (2, 3), "ASTERUSDT": (4, 2)}  # decimals of price and quantity
_START_MS = 1_758_739_000_000
_MIX = {
    "aggTrade": 42,
    "bookTicker": 25,
    "depth5": 23,
    "markPrice": 6,
    "kline": 4,
}  # of a hundred: 233 bytes on average
_FALLBACK_PRICES = {"ETHUSDT": 4_179.42, "ASTERUSDT": 1.9876}


class Tape(NamedTuple):
    """What was recorded of one symbol."""

    symbol: str
    decimals: tuple[int, int]
    trades: list[tuple[float, float, bool]]  # price, quantity, whether the buyer was the maker
    books: list[list[tuple[float, float]]]  # price and quantity: five bids, five asks


def mixed_frames(count: int, real_data: Path | None = None) -> list[bytes]:
    """So many frames of combined streams in the mix of a recorder of liquid symbols, 233 bytes on average.

    Parameters
    ----------
    real_data : folder of the real recordings; without them the prices are a seeded random walk.
    """
    has_real = real_data is not None and (real_data / _FOLDER).is_dir()
    tapes = [_recorded(real_data / _FOLDER, symbol) if has_real else _made_up(symbol) for symbol in _SYMBOLS]
    kinds = [kind for kind, share in _MIX.items() for _ in range(share)]
    Random(0).shuffle(kinds)
    makers = {(tape.symbol, kind): _MAKERS[kind](tape) for tape in tapes for kind in _MIX}
    order = zip(
        itertools.cycle(_SYMBOLS), itertools.chain.from_iterable((kind, kind) for kind in itertools.cycle(kinds))
    )
    return [next(makers[each]) for each in itertools.islice(order, count)]


def _recorded(folder: Path, symbol: str) -> Tape:
    with (folder / f"trades_{symbol}.csv").open(newline="") as rows:
        trades = [(float(row["price"]), float(row["quantity"]), row["side"] == "sell") for row in csv.DictReader(rows)]
    with (folder / f"orderbook_{symbol}.csv").open(newline="") as rows:
        books = [
            [(float(row[f"{side}_price_{level}"]), float(row[f"{side}_qty_{level}"])) for side in ("bid", "ask")
             for level in range(5)]
            for row in csv.DictReader(rows) if row["ask_qty_4"] and row["bid_qty_4"]
        ]  # fmt: skip
    return Tape(symbol, _SYMBOLS[symbol], trades, books)


def _made_up(symbol: str) -> Tape:
    random = Random(symbol)
    tick = 10.0 ** -_SYMBOLS[symbol][0]
    price = _FALLBACK_PRICES[symbol]
    trades, books = [], []
    for _ in range(5_000):
        price += tick * random.randint(-5, 5)
        trades.append((price, random.expovariate(0.5), random.random() < 0.5))
        levels = [(price - tick * (level + 1), random.expovariate(0.05)) for level in range(5)]
        levels += [(price + tick * (level + 1), random.expovariate(0.05)) for level in range(5)]
        books.append(levels)
    return Tape(symbol, _SYMBOLS[symbol], trades, books)


def _agg_trades(tape: Tape) -> Iterator[bytes]:
    stream, (digits, quantity_digits) = f"{tape.symbol.lower()}@aggTrade", tape.decimals
    for number, (price, quantity, is_maker) in enumerate(itertools.cycle(tape.trades)):
        event_ms = _START_MS + 100 * number
        yield (
            f'{{"stream":"{stream}","data":{{"e":"aggTrade","E":{event_ms + 4},"s":"{tape.symbol}",'
            f'"a":{11_634_417 + number},"p":"{price:.{digits}f}","q":"{quantity:.{quantity_digits}f}",'
            f'"f":{29_634_417 + 2 * number},"l":{29_634_418 + 2 * number},"T":{event_ms},'
            f'"m":{"true" if is_maker else "false"}}}}}'
        ).encode()


def _book_tickers(tape: Tape) -> Iterator[bytes]:
    stream, (digits, quantity_digits) = f"{tape.symbol.lower()}@bookTicker", tape.decimals
    for number, levels in enumerate(itertools.cycle(tape.books)):
        (bid, bid_quantity), (ask, ask_quantity) = levels[0], levels[5]
        event_ms = _START_MS + 160 * number
        yield (
            f'{{"stream":"{stream}","data":{{"e":"bookTicker","u":{171_693_939_991 + 16_351 * number},'
            f'"E":{event_ms + 3},"T":{event_ms},"s":"{tape.symbol}","b":"{bid:.{digits}f}",'
            f'"B":"{bid_quantity:.{quantity_digits}f}","a":"{ask:.{digits}f}",'
            f'"A":"{ask_quantity:.{quantity_digits}f}"}}}}'
        ).encode()


def _depths(tape: Tape) -> Iterator[bytes]:
    stream, (digits, quantity_digits) = f"{tape.symbol.lower()}@depth5@100ms", tape.decimals
    for number, levels in enumerate(itertools.cycle(tape.books)):
        texts = [f'["{price:.{digits}f}","{quantity:.{quantity_digits}f}"]' for price, quantity in levels]
        event_ms, update = _START_MS + 170 * number, 171_693_939_991 + 16_351 * number
        yield (
            f'{{"stream":"{stream}","data":{{"e":"depthUpdate","E":{event_ms + 5},"T":{event_ms},"s":"{tape.symbol}",'
            f'"U":{update},"u":{update},"pu":{update - 16_351},"b":[{",".join(texts[:5])}],'
            f'"a":[{",".join(texts[5:])}]}}}}'
        ).encode()


def _mark_prices(tape: Tape) -> Iterator[bytes]:
    stream = f"{tape.symbol.lower()}@markPrice@1s"
    for number, (price, _, _) in enumerate(itertools.cycle(tape.trades)):
        event_ms = _START_MS + 700 * number
        yield (
            f'{{"stream":"{stream}","data":{{"e":"markPriceUpdate","E":{event_ms},"s":"{tape.symbol}",'
            f'"p":"{price + 0.00016279:.8f}","P":"{price:.8f}","i":"{price * 1.0005:.8f}","r":"0.00003328",'
            f'"T":1758758400000}}}}'
        ).encode()


def _klines(tape: Tape) -> Iterator[bytes]:
    stream, (digits, quantity_digits) = f"{tape.symbol.lower()}@kline_1m", tape.decimals
    for number, (price, quantity, _) in enumerate(itertools.cycle(tape.trades)):
        event_ms, text, volume = _START_MS + 1_050 * number, f"{price:.{digits}f}", quantity * 37
        open_ms, taker = event_ms - event_ms % 60_000, volume / 2
        yield (
            f'{{"stream":"{stream}","data":{{"e":"kline","E":{event_ms},"s":"{tape.symbol}","k":{{"t":{open_ms},'
            f'"T":{open_ms + 59_999},"s":"{tape.symbol}","i":"1m","f":{29_634_417 + number},"L":{29_634_917 + number},'
            f'"o":"{text}","c":"{text}","h":"{text}","l":"{text}","v":"{volume:.{quantity_digits}f}","n":501,"x":false,'
            f'"q":"{volume * price:.5f}","V":"{taker:.{quantity_digits}f}","Q":"{taker * price:.5f}","B":"0"}}}}}}'
        ).encode()


_MAKERS = {
    "aggTrade": _agg_trades, "bookTicker": _book_tickers, "depth5": _depths, "markPrice": _mark_prices,
    "kline": _klines,
}  # fmt: skip
