"""Records of the raw log as rows of the lake. Nothing is dropped: what is no row is counted or quarantined.

The same records give the same rows, whenever they are turned. What both sockets of a pair brought is one row with both
arrivals: the first counts, a copy costs no decoding.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from data.landing_answers import ANSWERS_WITHOUT_TABLE, EXPLAINING, NS_PER_MS, Brackets, turn_answer
from data.landing_columns import Oddity, Turned
from data.landing_notes import turn_note
from data.landing_rows import MESSAGES_WITH_TABLE, turn_messages
from data.messages import Depth, Drift, Other, Unknown, decode_quickly
from data.messages_rest import Answer, decode_answer
from data.schema import QUARANTINE, conform
from data.wal import VENUES, Kind, Record

WHOLE_BOOK = "depthUpdate of a whole book"  # changes from one book to the next: the lake's table is of books
TEST_CONTRACT = "test contract"
REMEMBERED = 32_768  # frames, at least: the other socket's copy of one comes within seconds

_FRAME = Kind.FRAME  # looked at once per frame


@dataclass(frozen=True, kw_only=True)
class Landing:
    """What records hold.

    Parameters
    ----------
    tables : rows per table of the lake, in the order they arrived; only tables with rows.
    quarantine : rows of ``quarantine``, one per record at most: what could not be read, and the first message with
        each field that nobody knows or that is missing, or with a number that a float does not hold (its row is in its
        table all the same).
    skipped : how many messages and answers of a kind were understood and have no table.
    answers : those that were asked for a gap's sake, with their receipt.
    lossy : rows per table with a number that is not what its text says; the text is in the raw log.
    copies : frames and rows that the other socket, or the same one, had brought before.
    heard : the last receipt of a frame so far in the segment, ns, by connection.
    notes : all of them, as they were logged.
    """

    tables: dict[str, pl.DataFrame]
    quarantine: pl.DataFrame
    skipped: dict[str, int]
    answers: list[tuple[int, Answer]] = field(default_factory=list)
    lossy: dict[str, int] = field(default_factory=dict)
    copies: int = 0
    heard: dict[int, int] = field(default_factory=dict)
    notes: list[Record] = field(default_factory=list)


def tables_of(
    records: Iterable[Record], *, venue: str | None = None, segment: str = "", levels: int | None = None
) -> Landing:
    """The rows of a segment's records, from its first one on. Settings as ``Lander``, which takes them in slices."""
    lander = Lander(venue=venue, segment=segment, levels=levels)
    lander.add(records)
    return lander.take()


class _Arrived:
    """Messages of one type, and the numbers of the frames that brought them."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.found: list[Any] = []


class _Rules:
    """What a venue's answers say that the rows of its other answers carry."""

    def __init__(self) -> None:
        self.funding_hours: dict[str, float] = {}
        self.brackets: dict[str, Brackets] = {}


class Lander:
    """Gathers a segment's records, from its first one on, and turns them into rows.

    Parameters
    ----------
    venue : whose messages these are; None where the records' connections tell it.
    segment : name of the segment, for the quarantine.
    levels : of partial books that came without the name of their stream.
    """

    def __init__(self, *, venue: str | None = None, segment: str, levels: int | None = None) -> None:
        self._venue = venue
        self._segment = segment
        self._levels = levels
        self._line = 0
        self._told: set[tuple[str, str]] = set()  # oddities: kind of message or table, and field or column
        self._rules: defaultdict[str, _Rules] = defaultdict(_Rules)
        self._recent: dict[bytes, tuple[int, ...]] = {}  # payload: frames without a copy yet, number << 16 | connection
        self._older: dict[bytes, tuple[int, ...]] = {}
        self._first = 0  # number of the first frame that was not taken yet
        self._heard: dict[int, int] = {}  # the last frame of each connection
        self._begin()

    def _begin(self) -> None:
        """Forget the rows, not what was learnt from them."""
        self._records: list[Record] = []  # frames, each payload once
        self._lines: list[int] = []
        self._second: dict[int, int] = {}  # place among the frames: when the other socket brought it
        self._arrived = [{kind: _Arrived() for kind in MESSAGES_WITH_TABLE} for _ in VENUES]
        self._answers: list[tuple[int, Record, Answer]] = []
        self._noted: dict[str, list[pl.DataFrame]] = {}  # rows of notes, per table
        self._refused: list[dict[str, Any]] = []
        self._skipped: Counter[str] = Counter()
        self._lossy: Counter[str] = Counter()
        self._copies = 0
        self._notes: list[Record] = []

    def add(self, records: Iterable[Record]) -> int:
        """Take in the next records; returns how many there were."""
        before = self._line
        with _no_garbage_collection():
            self._line = self._add(records)
        return self._line - before

    def _add(self, records: Iterable[Record]) -> int:
        line, first, levels, arrived = self._line, self._first, self._levels, self._arrived
        kept, lines, heard = self._records, self._lines, self._heard
        for record in records:
            line += 1
            recv_ns, kind, connection, payload = record
            if kind is not _FRAME:
                self._add_told(line, record)
                continue
            heard[connection] = recv_ns
            place = len(kept)
            if self._is_copy(payload, connection, recv_ns, first + place):
                continue
            kept.append(record)
            lines.append(line)
            found = decode_quickly(payload, levels)
            here = arrived[connection >> 12].get(type(found))
            if here is None or (type(found) is Depth and found.levels is None):
                self._add_several(place, found if type(found) is list else [found])
            else:
                here.frames.append(place)
                here.found.append(found)
        return line

    def _add_several(self, place: int, found: Iterable[Any]) -> None:
        """Take in the messages of a frame that is not just one with a table."""
        record = self._records[place]
        for message in found:
            here = self._arrived[record.connection >> 12].get(type(message))
            if here is None or (type(message) is Depth and message.levels is None):
                self._add_stranger(self._lines[place], record, message)
            else:
                here.frames.append(place)
                here.found.append(message)

    def _is_copy(self, payload: bytes, connection: int, recv_ns: int, number: int) -> bool:
        """Whether the other socket brought the same bytes before, and no copy of them yet; if so notes the arrival.

        What one socket brings twice is two messages: an exchange may well repeat itself. ``number`` is what the frame
        gets if it is no copy.
        """
        waiting = self._recent.pop(payload, None) or self._older.pop(payload, None)
        mine = number << 16 | connection
        if waiting is None:
            self._recent[payload] = (mine,)
            if len(self._recent) > REMEMBERED:
                self._recent, self._older = {payload: (mine,)}, self._recent
            return False
        first, *others = waiting
        if (first ^ connection) & 0xFFFF != 1:
            self._recent[payload] = (*waiting, mine)
            return False
        if others:
            self._recent[payload] = tuple(others)
        if (place := (first >> 16) - self._first) >= 0:
            self._second[place] = recv_ns
        self._copies += 1
        return True

    def pass_over(self, records: Iterable[Record]) -> int:
        """Take in records whose rows are stored already: they count, and explain later ones."""
        passed = self.add(records)
        self.take()
        return passed

    def add_cut(self, tail: Record, reason: str) -> None:
        """Put aside what lies behind the last record that could be read."""
        self._line += 1
        self._refuse(self._line, tail, reason)

    def take(self) -> Landing:
        """The rows of what was added since the last time."""
        with _no_garbage_collection():
            return self._take()

    def _take(self) -> Landing:
        parts: dict[str, list[_Part]] = {table: [(0, rows) for rows in found] for table, found in self._noted.items()}
        messages = ((None, turned) for turned in self._turned_messages())
        for logged_ns, turned in (*messages, *self._turned_answers()):
            for table, rows in turned.tables:
                parts.setdefault(table.name, []).append((logged_ns, rows))
        landing = Landing(
            tables={name: _as_logged(found) for name, found in parts.items()},
            quarantine=self._quarantine(),
            skipped=dict(self._skipped),
            answers=[(record.recv_ns, answer) for _, record, answer in self._answers if answer.gap_id is not None],
            lossy=dict(self._lossy),
            copies=self._copies,
            heard=dict(self._heard),
            notes=self._notes,
        )
        self._first += len(self._records)
        self._begin()
        return landing

    def _venue_of(self, connection: int) -> str:
        return self._venue or VENUES[connection >> 12]

    def _turned_messages(self) -> list[Turned]:
        count = len(self._records)
        recv_ns = np.fromiter((record.recv_ns for record in self._records), np.int64, count)
        socket = np.fromiter((record.connection & 1 for record in self._records), np.int64, count)
        recv2_ns = np.zeros(count, np.int64)
        recv2_ns[list(self._second)] = list(self._second.values())
        is_later = (recv2_ns > 0) & (recv2_ns < recv_ns)  # one socket may be read well after the other
        recv_ns, recv2_ns = np.where(is_later, recv2_ns, recv_ns), np.where(is_later, recv_ns, recv2_ns)
        socket = np.where(is_later, 1 - socket, socket)
        done = []
        for number, arrived_here in enumerate(self._arrived):
            venue = self._venue or VENUES[number]
            for kind, arrived in arrived_here.items():
                if not arrived.found:
                    continue
                at = np.array(arrived.frames)
                turned = turn_messages(
                    kind, arrived.found, recv_ns[at], venue=venue, socket=socket[at], recv2_ns=recv2_ns[at]
                )
                self._account(turned, arrived.frames)
                done.append(turned)
        return done

    def _turned_answers(self) -> list[tuple[int, Turned]]:
        done = []
        for line, record, answer in sorted(self._answers, key=lambda each: each[2].name not in EXPLAINING):
            venue = self._venue_of(record.connection)
            rules = self._rules[venue]
            try:
                turned = turn_answer(
                    answer, record.recv_ns, venue=venue, funding_hours=rules.funding_hours, brackets=rules.brackets
                )
            except (AttributeError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
                self._refuse(line, record, f"{answer.path}: {type(error).__name__}: {error}")
                continue
            self._account_to(turned, line, record)
            done.append((record.recv_ns, turned))
        return done

    def _account(self, turned: Turned, frames: list[int]) -> None:
        """Keep what did not become a row of messages, or not quite; ``frames`` brought them."""
        for row, symbol, table, reason, _ in turned.refused:
            place = frames[row]
            self._refuse(self._lines[place], self._records[place], reason, symbol=symbol, table=table)
        for odd in turned.oddities:
            place = frames[odd.row]
            self._tell_once(self._lines[place], self._records[place], odd)
        self._count(turned)

    def _account_to(self, turned: Turned, line: int, record: Record) -> None:
        """The same for an answer, where one record holds all rows."""
        for _, symbol, table, reason, raw in turned.refused:
            self._refuse(line, record, reason, symbol=symbol, table=table, raw=raw)
        for odd in turned.oddities:
            self._tell_once(line, record, odd)
        self._count(turned)

    def _count(self, turned: Turned) -> None:
        if turned.of_test_contracts:
            self._skipped[TEST_CONTRACT] += turned.of_test_contracts
        self._lossy.update(turned.lossy)
        self._copies += turned.copies

    def _tell_once(self, line: int, record: Record, odd: Oddity) -> None:
        if (odd.table, odd.column) not in self._told:
            self._told.add((odd.table, odd.column))
            self._refuse(line, record, odd.what, table=odd.table, raw=odd.raw)

    def _add_stranger(self, line: int, record: Record, message: Depth | Other | Unknown | Drift) -> None:
        """Count or refuse a message that is no row; a new field is told of once."""
        if isinstance(message, Depth):
            self._skipped[WHOLE_BOOK] += 1
        elif isinstance(message, Other):
            self._skipped[message.kind] += 1
        elif isinstance(message, Unknown):
            self._refuse(line, record, message.reason)
        else:
            new = [name for name in message.fields if (message.kind, name) not in self._told]
            self._told.update((message.kind, name) for name in new)
            if new:
                reason = f"{message.kind}: unknown field {', '.join(new)}; the row was stored without it"
                self._refuse(line, record, reason)

    def _add_told(self, line: int, record: Record) -> None:
        """Take in an answer, or a note: some notes are rows too."""
        if record.kind is Kind.ANSWER:
            answer = decode_answer(record.payload)
            if isinstance(answer, Unknown):
                self._refuse(line, record, answer.reason)
            elif answer.name in ANSWERS_WITHOUT_TABLE:
                self._skipped[answer.name] += 1
            else:
                self._answers.append((line, record, answer))
            return
        self._notes.append(record)
        try:
            turned = turn_note(record, self._venue_of(record.connection))
        except (LookupError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
            self._refuse(line, record, f"note: {type(error).__name__}: {error}")
            return
        if turned is not None:
            table, rows = turned
            self._noted.setdefault(table.name, []).append(rows)

    def _refuse(
        self,
        line: int,
        record: Record,
        reason: str,
        *,
        symbol: str | None = None,
        table: str | None = None,
        raw: str | None = None,
    ) -> None:
        self._refused.append(
            {
                "file": self._segment,
                "line": line,
                "symbol": symbol,
                "table": table,
                "reason": reason,
                "raw": record.payload.decode("utf-8", "backslashreplace") if raw is None else raw,
                "quarantined_time": record.recv_ns // NS_PER_MS,  # not the time of sealing: twice gives the same row
            }
        )

    def _quarantine(self) -> pl.DataFrame:
        """One row per refused text; a frame may hold several messages that are refused."""
        schema = {**QUARANTINE.columns, "quarantined_time": pl.Int64}
        refused = pl.DataFrame(self._refused, schema=schema)
        same = ["file", "line", "raw"]
        told = refused.group_by(same, maintain_order=True).agg(
            pl.exclude(*same, "reason").first(), pl.col("reason").unique(maintain_order=True).str.join("; ")
        )
        return conform(told, QUARANTINE).sort("line", maintain_order=True)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Messages hold no cycles, and looking for some among a hundred thousand costs as much as decoding them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_Part = tuple[int | None, pl.DataFrame]  # when its rows were logged; None: each when it was received


def _as_logged(parts: list[_Part]) -> pl.DataFrame:
    """The rows in the order of the log: of those with one key the lake keeps the first."""
    if len(parts) == 1:
        return parts[0][1]
    if "recv_time" not in parts[0][1].columns:  # told by notes alone, which come in order
        return pl.concat(rows for _, rows in parts)
    received = pl.col("recv_time").dt.epoch("ns")
    whole = pl.concat(
        rows.with_columns(logged_ns=received if logged_ns is None else pl.lit(logged_ns, pl.Int64))
        for logged_ns, rows in parts
    )
    return whole.sort("logged_ns", maintain_order=True).drop("logged_ns")
