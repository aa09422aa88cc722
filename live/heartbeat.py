"""The runner's sign of life: a small file beside the journal, written anew every second, and a word to systemd.

It comes out of the event loop that also trades: where that is stuck there is no sign of life.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

EVERY_S = 1.0  # of the machine's time


@dataclass(frozen=True, kw_only=True)
class AccountTold:
    """What a real run knows of its account; None of what the exchange has not told yet.

    Attributes
    ----------
    equity_usdt : wallet and unrealised. available_usdt : of it, free for new positions.
    weight_used : of requests in the last minute. weight_limit : the exchange's.
    clock_offset_ms : how far our clock is from the exchange's.
    day_peak_usdt : the highest equity since 00:00 UTC. daily_loss_limit_usdt : how far below it everything is closed.
    """

    equity_usdt: float | None
    available_usdt: float | None
    weight_used: int
    weight_limit: int
    clock_offset_ms: float | None
    day_peak_usdt: float | None
    daily_loss_limit_usdt: float | None


@dataclass(frozen=True, kw_only=True)
class Beat:
    """One sign of life.

    Attributes
    ----------
    told_ms : of the machine's clock. market_ms : of the run's.
    mode : paper or real.
    level : of ``live.risk``.
    connection : to the market's streams: starting, connected, reconnecting.
    instance : of the run's order ids.
    symbols : that it trades.
    has_ended : it was stopped in good order.
    account : of a real run.
    """

    pid: int
    told_ms: int
    market_ms: int
    mode: str
    level: str
    connection: str
    instance: str
    symbols: tuple[str, ...]
    has_ended: bool = False
    account: AccountTold | None = None


def beat_path(journal: Path) -> Path:
    """The sign of life of the run that writes a journal."""
    return journal.with_name(f"{journal.name}.alive")


def write_beat(journal: Path, beat: Beat) -> None:
    """Put it in place, whole."""
    path = beat_path(journal)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(json.dumps(asdict(beat)), encoding="utf-8")
    unfinished.replace(path)


def read_beat(journal: Path) -> Beat | None:
    """The last one; None where there never was any."""
    path = beat_path(journal)
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    account = AccountTold(**told["account"]) if told.get("account") else None
    return Beat(**{**told, "symbols": tuple(told["symbols"]), "account": account})


def tell_systemd(words: str) -> None:
    """Say READY=1, WATCHDOG=1 or STOPPING=1 to the service manager, where there is one.

    Source: sd_notify(3).
    """
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        address = f"\0{place[1:]}" if place.startswith("@") else place
        try:
            manager.sendto(words.encode(), address)
        except (BlockingIOError, ConnectionRefusedError, FileNotFoundError):
            return  # the next one is a second away
