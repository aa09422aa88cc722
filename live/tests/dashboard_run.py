"""A stand-in for a runner, which writes journal and input log as one does, and the dashboard served on a port."""

import asyncio
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Self

from data import wal
from data.wal import Kind, Log
from live.dashboard.app import Place
from live.dashboard.serving import DashboardServer
from live.journal import Journal, Record, feed_folder, read_journal
from live.recordings import replayed, run
from live.replay import write_recording
from live.replay_rows import open_recording
from live.tests.conftest import random_case


class StandIn:
    """Writes a journal of its own, event by event, from those of a finished one; ``written`` counts them.

    Parameters
    ----------
    path : of its journal.
    events : what it may play, in order.
    """

    def __init__(self, path: Path, events: Iterable[Record] = ()) -> None:
        self.path = path
        self.left = list(events)
        self._log = Log(feed_folder(path))
        self._journal = Journal(path, self._log.sync)
        self._heard_ns = 0
        self.written = 0
        self.hear(0, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def play(self, count: int) -> list[Record]:
        """Write the next events; those it wrote."""
        played, self.left = self.left[:count], self.left[count:]
        self._journal.append(played)
        self.written += len(played)
        return played

    def write(self, record: Record) -> None:
        """Write one event."""
        self._journal.append([record])
        self.written += 1

    def hear(self, time_ms: int, marks: Mapping[str, float]) -> None:
        """Mark prices arrive at a time of the runner's clock."""
        for symbol, price in marks.items():
            told = {"e": "markPriceUpdate", "E": time_ms, "s": symbol, "p": f"{price:.8f}"}
            self._record(time_ms, Kind.FRAME, json.dumps(told).encode())
        if not marks:
            self._record(time_ms, Kind.NOTE, wal.note("ready"))
        self._log.flush()

    def _record(self, time_ms: int, kind: Kind, payload: bytes) -> None:
        self._heard_ns = max(self._heard_ns + 1, time_ms * 1_000_000)
        self._log.write(self._heard_ns, kind, 0, payload)

    def close(self) -> None:
        """End as a killed runner does: without a word."""
        self._journal.close()
        self._log.close()


@cache
def traded(seed: int) -> tuple[Record, ...]:
    """Events of a replay of random bars, up to its last entry and the exit orders after it."""
    config, bars = random_case(seed)
    stream = BytesIO()
    write_recording(config, bars, stream)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replay.sqlite"
        with Journal(path) as journal:
            run([replayed(config, open_recording(BytesIO(stream.getvalue())))], journal)
        events = events_of(path)
    entries = [at for at, event in enumerate(events) if event.kind == "fill" and event.body["leg"] == "E"]
    return tuple(events[: entries[-1] + 4])


def events_of(path: Path) -> list[Record]:
    """The events of a finished journal."""
    columns = ("ts_ms", "kind", "config_hash", "symbol", "trade_id", "client_order_id", "body")
    return [
        Record(**{**row, "body": json.loads(row["body"])})
        for row in read_journal(path).select(columns).iter_rows(named=True)
    ]


class Answer(NamedTuple):
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


class Served:
    """A dashboard on a port of this machine, in a thread, until it is closed."""

    def __init__(self, place: Place, port: int = 0) -> None:
        self._server = DashboardServer(place, "127.0.0.1", port)
        self.app, self.url, self.token = self._server.app, self._server.url, place.token
        self.port = int(self.url.rpartition(":")[2])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def _serve(self) -> None:
        with self._server.listening as listening:
            asyncio.run(self._server.serve(sockets=[listening]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; streams end."""
        self._server.should_exit = True
        self._thread.join(timeout=20)

    def caught_up(self, head: int) -> Self:
        """Wait until it has read the journal up to that event, and has looked at the log since."""
        watch = self.app.state.desk.watch
        while watch.book.head < head:
            time.sleep(0.01)
        looks = watch.pulse.looks
        while watch.pulse.looks == looks:
            time.sleep(0.01)
        return self

    def ask(self, path: str, body: object = None, *, method: str | None = None, **headers: str) -> Answer:
        """One request; with a body it is posted with the token, which a header of that name replaces."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"} | given
        content = None if body is None else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, content, given)
        answer = connection.getresponse()
        told = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        connection.close()
        return told


class Tab:
    """A page that listens to a dashboard's stream; one that is not read takes nothing out of its socket."""

    def __init__(self, served: Served, *, is_read: bool = True) -> None:
        self.served = served
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        self._connection.request("GET", "/api/stream")
        self._lines = self._connection.getresponse() if is_read else None
        self.first = self._number() + 1 if is_read else 0

    def until(self, head: int) -> list[int]:
        """Numbers of the journal's events, in the order in which they came, up to that one."""
        heard = []
        while not heard or heard[-1] < head:
            heard.append(self._number())
        return heard

    def close(self) -> None:
        """Go away."""
        self._connection.close()
        if self._lines is not None:
            self._lines.close()

    def _number(self) -> int:
        """Of the next event that has one."""
        while not (line := self._lines.readline()).startswith(b"id: "):
            if not line:
                raise EOFError("the stream has ended")
        return int(line[4:])
