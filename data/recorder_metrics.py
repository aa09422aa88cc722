"""A recorder's figures for Prometheus: its status as text, served on this machine only.

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

from data.recorder_status import Status

HOST = "127.0.0.1"
_TIMEOUT_S = 5.0
_LONGEST_HEAD = 8_192  # bytes of a request
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(status: Status) -> str:
    """Every figure of a status, in Prometheus' text format."""
    lines = []
    for name, kind, meaning, samples in _figures(status):
        told = [(labels, value) for labels, value in samples if value is not None]
        if told:
            lines += [f"# HELP aster_recorder_{name} {meaning}", f"# TYPE aster_recorder_{name} {kind}"]
            lines += [f"aster_recorder_{name}{_labelled(labels)} {value:.15g}" for labels, value in told]
    return "\n".join(lines) + "\n"


_Samples = list[tuple[Mapping[str, object], float | None]]


def _figures(status: Status) -> Iterator[tuple[str, str, str, _Samples]]:
    """Name, kind, meaning and samples of each."""

    def one(value: float | None) -> _Samples:
        return [({}, value)]

    def by(label: str, values: Mapping[str, float]) -> _Samples:
        return [({label: name}, value) for name, value in values.items()]

    sockets = [({"venue": each.venue, "shard": each.shard, "socket": each.socket}, each) for each in status.sockets]
    yield "up", "gauge", "1 while the recorder records.", one(status.state == "recording")
    yield "state", "gauge", "1 for the state it is in.", [({"state": status.state}, 1)]
    yield "trouble", "gauge", "Things that are wrong now.", one(len(status.trouble))
    yield "messages_total", "counter", "Frames received, per kind of stream.", by("kind", status.messages)
    yield "messages_per_second", "gauge", "Frames per second.", one(status.messages_per_second)
    yield "connections", "gauge", "Connections that are open.", one(status.connected)
    yield "connections_wanted", "gauge", "Connections that should be open.", one(status.connections)
    yield "reconnects_total", "counter", "Connections made again after a loss.", one(status.reconnects)
    yield "rotations_total", "counter", "Connections replaced as planned.", one(status.rotations)
    yield "connection_age_seconds", "gauge", "Age of each connection.", [(at, each.age_s) for at, each in sockets]
    yield "socket_messages_total", "counter", "Frames per connection.", [(at, each.messages) for at, each in sockets]
    yield (
        "socket_unique_total", "counter", "Frames that the other connection of the pair did not bring.",
        [(at, each.only) for at, each in sockets],
    )  # fmt: skip
    yield (
        "socket_first_total", "counter", "Frames that came here before the other connection of the pair.",
        [(at, each.first) for at, each in sockets],
    )  # fmt: skip
    lag = [({**at, "quantile": "0.5"}, _seconds(each.lag_ms)) for at, each in sockets]
    lag += [({**at, "quantile": "0.99"}, _seconds(each.lag_p99_ms)) for at, each in sockets]
    yield "lag_seconds", "gauge", "Receipt minus sending.", lag
    yield "unknown_total", "counter", "Messages that could not be read.", one(status.unknown)
    yield "drifted_total", "counter", "Fields nobody knows, in one message of 64.", one(status.drifted)
    yield "wal_unsynced_bytes", "gauge", "What a power cut would cost.", one(status.unsynced_bytes)
    yield "wal_unsealed_bytes", "gauge", "Raw log not yet in the lake.", one(status.unsealed_bytes)
    yield "seal_lag_seconds", "gauge", "How long the oldest closed segment waits.", one(status.seal_lag_s)
    yield "rows_landed_total", "counter", "Rows added to the lake, per table.", by("table", status.landed)
    yield "rows_known_total", "counter", "Rows that the lake had already.", one(status.already_present)
    yield "rows_conflicting_total", "counter", "Rows that contradict a stored one.", one(status.conflicts)
    yield "rows_quarantined_total", "counter", "Rows that could not be read.", one(status.quarantined)
    yield "dropped_total", "counter", "Frames thrown away while the disk was full.", one(status.dropped)
    yield "gaps_open", "gauge", "Holes that may still be repaired.", one(status.gaps_open)
    yield "repair_answers_total", "counter", "REST answers logged for repairs.", one(status.repair_answers)
    yield "rest_weight", "gauge", "Request weight taken in the last minute.", one(status.rest_weight)
    yield "disk_free_bytes", "gauge", "Free space of the lake's disk.", one(status.free_bytes)
    yield "disk_full_in_seconds", "gauge", "When the disk will be full, at this pace.", one(status.disk_full_in_s)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1_000


def _labelled(labels: Mapping[str, object]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}" if labels else ""


async def serve_metrics(port: int, text: Callable[[], str]) -> asyncio.Server:
    """Answer ``GET /metrics`` on this machine with what ``text`` returns then; runs until the server is closed.

    Parameters
    ----------
    port : 0 for a free one.

    Raises
    ------
    OSError
        When the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                writer.write(_response(await reader.readuntil(b"\r\n\r\n"), text))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked went away, or speaks no HTTP
        finally:
            writer.close()

    return await asyncio.start_server(answer, HOST, port, limit=_LONGEST_HEAD)


def _response(head: bytes, text: Callable[[], str]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, body = "200 OK", b""
    if path != b"/metrics":
        status, body = "404 Not Found", b"expected GET /metrics\n"
    elif method not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", b"expected GET /metrics\n"
    else:
        body = text().encode()
    told = f"HTTP/1.1 {status}\r\nContent-Type: {_CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return told.encode() + b"\r\n\r\n" + (b"" if method == b"HEAD" else body)
