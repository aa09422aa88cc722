"""Finished segments of a log, and the frames to fill them with."""

import json
from pathlib import Path

from data.wal import Kind, Log, segments

START_MS = 1_780_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def quote(number: int, symbol: str = "BTCUSDT", bid: str = "1.5") -> bytes:
    said = {"e": "bookTicker", "u": number, "E": START_MS, "T": START_MS + number, "s": symbol, "b": bid, "a": "1.6"}
    return json.dumps(said | {"B": "3", "A": "4"}).encode()


def trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    said = {"e": "aggTrade", "a": number, "E": START_MS, "T": START_MS + number, "s": symbol, "p": "2", "q": "1"}
    return json.dumps(said | {"f": number, "l": number, "m": False}).encode()


def closed_bar(interval: str) -> bytes:
    bar = {"t": START_MS, "i": interval, "o": "1", "h": "1", "l": "1", "c": "1", "x": True, "n": 0, "f": -1, "L": -1}
    bar |= dict.fromkeys("vqVQ", "0")
    return json.dumps({"e": "kline", "E": START_MS, "s": "BTCUSDT", "k": bar}).encode()


def logged(folder: Path, *payloads: bytes) -> Path:
    """A finished segment with these frames, a microsecond apart."""
    with Log(folder) as log:
        for number, payload in enumerate(payloads):
            log.write(START_MS * 1_000_000 + number * 1_000, Kind.FRAME, 0, payload)
    return segments(folder)[-1]


def market(numbers: range) -> list[bytes]:
    """Quotes and trades of two symbols, and now and then a frame that cannot be read."""
    frames = []
    for number in numbers:
        for symbol in SYMBOLS:
            frames += [quote(number, symbol), trade(number, symbol)]
        if number % 50 == 0:
            frames.append(b'{"e":"news","n":%d}' % number)
    return frames
