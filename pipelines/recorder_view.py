"""How the recorders of a lake look in a terminal: once, or as a picture that goes on."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from data.recorder_status import ALIVE, SocketStatus, Status, read_statuses
from data.stream_names import table_of

_NUMBER_WORDS = ("reconnects", "rotations", "conflicts", "quarantined", "unknown", "dropped")
_REFRESH_S = 1.0


def watch(root: Path) -> list[Status]:
    """Show the recorders of a lake until Ctrl-C; returns what they said last."""
    statuses, seen = read_statuses(root), None
    with Live(recorders(statuses), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_REFRESH_S)
                now = read_statuses(root)
                if now != statuses:
                    statuses, seen = now, statuses
                live.update(recorders(statuses, seen), refresh=True)
        except KeyboardInterrupt:
            return statuses


def show(statuses: Sequence[Status], console: Console) -> None:
    """Print the recorders once."""
    console.print(recorders(statuses))


def recorders(statuses: Sequence[Status], before: Sequence[Status] | None = None) -> RenderableType:
    """Every recorder of a lake, one below the other.

    Parameters
    ----------
    before : what they said the time before; then the streams have rates.
    """
    earlier = {status.number: status for status in before or ()}
    return Group(*(_recorder(status, earlier.get(status.number)) for status in statuses))


def _recorder(status: Status, before: Status | None) -> RenderableType:
    parts: list[RenderableType] = [_headline(status), _streams(status, before)]
    if status.sockets:
        parts += [Text("connections", style="italic"), _sockets(status.sockets)]
    parts.append(_care(status))
    parts += [Text(f"! {sentence}", style="bold red") for sentence in status.trouble]
    parts += [Text(f"  {sentence}", style="dim") for sentence in status.notices]
    return Group(*parts, Text())


def _headline(status: Status) -> Text:
    """State, time, how long."""
    colour = "green" if status.state == "recording" and not status.trouble else "yellow"
    if status.state not in ALIVE:
        colour = "default" if status.state == "stopped" else "red"
    told = Text.assemble((f"● {status.state}", f"bold {colour}"), f"  {status.venue}  recorder {status.number}")
    told.append(f", pid {status.pid}  {status.now[:19].replace('T', ' ')} UTC  ")
    return told.append(f"{timedelta(seconds=round(status.seconds))}  {status.lake}")


def _streams(status: Status, before: Status | None) -> Table:
    """What came on each stream, and the rows of every table."""
    table = _table("stream", "messages", "/s", "table", "rows landed")
    left = dict(status.landed)
    for kind, count in status.messages.items():
        name = table_of(kind)
        rows = left.pop(name, None)
        rate = _rate(count, before.messages.get(kind, 0), status, before) if before else "–"
        table.add_row(kind, f"{count:,}", rate, name, "–" if rows is None else f"{rows:,}")
    rate = f"{status.messages_per_second:,.0f}"
    if before:
        rate = _rate(status.total_messages, before.total_messages, status, before)
    for name, rows in left.items():
        table.add_row("", "", "", name, f"{rows:,}")
    table.add_section()
    table.add_row("all", f"{status.total_messages:,}", rate, "", f"{status.total_landed:,}", style="bold")
    return table


def _rate(count: int, earlier: int, status: Status, before: Status) -> str:
    """Messages a second of the recorder's clock since the time before."""
    passed_s = status.seconds - before.seconds
    return f"{(count - earlier) / passed_s:,.1f}" if passed_s > 0 else "–"


def _sockets(sockets: Sequence[SocketStatus]) -> Table:
    table = _table("venue", "shard", "socket", "age", "messages", "first", "only here", "lag", "lag p99")
    for socket in sockets:
        age = "closed" if socket.age_s is None else str(timedelta(seconds=round(socket.age_s)))
        table.add_row(
            socket.venue, str(socket.shard), str(socket.socket), age, f"{socket.messages:,}", f"{socket.first:,}",
            f"{socket.only:,}", _ms(socket.lag_ms), _ms(socket.lag_p99_ms),
        )  # fmt: skip
    return table


def _care(status: Status) -> Text:
    """What is missing, what waits, and how long the disk lasts."""
    parts = [f"{status.gaps_open} gaps to repair", f"{status.unsealed_bytes / 1e6:,.1f} MB to seal"]
    if status.seal_lag_s >= 1:
        parts.append(f"sealing {status.seal_lag_s:,.0f} s behind")
    parts += [f"{count:,} {word}" for word in _NUMBER_WORDS if (count := getattr(status, word))]
    parts.append(f"{status.free_bytes / 1e9:,.1f} GB free")
    if status.disk_full_in_s is not None:
        parts.append(f"disk full in {_long(status.disk_full_in_s)}")
    return Text(" · ".join(parts))


def _long(seconds: float) -> str:
    """A length of time as one speaks of it."""
    days = seconds / 86_400
    return f"{days:,.0f} days" if days >= 2 else f"{seconds / 3_600:,.1f} h"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms"


def _table(*names: str) -> Table:
    """Words to the left, numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in ("stream", "table", "venue") else "right", no_wrap=True)
    return table
