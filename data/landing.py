"""Records of the raw log as rows of the lake. Nothing is dropped: what is no row is counted or quarantined.

The same records give the same rows, whenever they are turned.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from data.gaps import HOLES, gap_rows
from data.landing_rows import (
    ANSWERS_WITHOUT_TABLE,
    MESSAGES_WITH_TABLE,
    NS_PER_MS,
    Turned,
    turn_answer,
    turn_messages,
)
from data.messages import Answer, Depth, Drift, Other, Unknown, decode, decode_answer
from data.schema import GAPS, KLINES, QUARANTINE, conform, interval_ms
from data.wal import Kind, Record

WHOLE_BOOK = "depthUpdate of a whole book"  # changes from one book to the next: the lake's table is of books
TEST_CONTRACT = "test contract"

_FRAME = Kind.FRAME  # looked at once per frame


@dataclass(frozen=True, kw_only=True)
class Landing:
    """What records hold.

    Parameters
    ----------
    tables : rows per table of the lake, in the order they arrived; only tables with rows.
    quarantine : rows of ``quarantine``, one per record at most: what could not be read, and the first message with
        each field that nobody knows (its row is in its table all the same).
    skipped : how many messages and answers of a kind were understood and have no table.
    """

    tables: dict[str, pl.DataFrame]
    quarantine: pl.DataFrame
    skipped: dict[str, int]


def tables_of(records: Iterable[Record], *, venue: str, segment: str = "", levels: int | None = None) -> Landing:
    """The rows of a segment's records, from its first one on. Settings as ``Lander``, which takes them in slices."""
    lander = Lander(venue=venue, segment=segment, levels=levels)
    lander.add(records)
    return lander.take()


class _Arrived:
    """Messages of one type, their records and lines; side by side, as a tuple for each costs as much as decoding it."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.records: list[Record] = []
        self.found: list[Any] = []


class Lander:
    """Gathers a segment's records, from its first one on, and turns them into rows.

    Parameters
    ----------
    venue : whose messages these are.
    segment : name of the segment, for the quarantine.
    levels : of partial books that came without the name of their stream.
    """

    def __init__(self, *, venue: str, segment: str, levels: int | None = None) -> None:
        self._venue = venue
        self._segment = segment
        self._levels = levels
        self._line = 0
        self._drifted: set[tuple[str, str]] = set()
        self._funding_hours: dict[str, float] = {}
        self._begin()

    def _begin(self) -> None:
        """Forget the rows, not what was learnt from them."""
        self._arrived = {kind: _Arrived() for kind in MESSAGES_WITH_TABLE}
        self._answers: list[tuple[int, Record, Answer]] = []
        self._gaps: list[pl.DataFrame] = []
        self._refused: list[dict[str, Any]] = []
        self._skipped: Counter[str] = Counter()

    def add(self, records: Iterable[Record]) -> int:
        """Take in the next records; returns how many there were."""
        before, line = self._line, self._line
        for record in records:
            line += 1
            if record.kind is not _FRAME:
                self._add_told(line, record)
                continue
            for message in decode(record.payload, self._levels):
                arrived = self._arrived.get(type(message))
                if arrived is None or (type(message) is Depth and message.levels is None):
                    self._add_stranger(line, record, message)
                else:
                    arrived.lines.append(line)
                    arrived.records.append(record)
                    arrived.found.append(message)
        self._line = line
        return line - before

    def add_cut(self, tail: Record, reason: str) -> None:
        """Put aside what lies behind the last record that could be read."""
        self._line += 1
        self._refuse(self._line, tail, reason)

    def take(self) -> Landing:
        """The rows of what was added since the last time."""
        parts: dict[str, list[_Part]] = {GAPS.name: [(0, rows) for rows in self._gaps]} if self._gaps else {}
        messages = ((None, turned) for turned in self._turned_messages())
        for logged_ns, turned in (*messages, *self._turned_answers()):
            for table, rows in turned.tables:
                parts.setdefault(table.name, []).append((logged_ns, rows))
        landing = Landing(
            tables={name: _as_logged(found) for name, found in parts.items()},
            quarantine=self._quarantine(),
            skipped=dict(self._skipped),
        )
        self._begin()
        return landing

    def _turned_messages(self) -> list[Turned]:
        done = []
        for kind, arrived in self._arrived.items():
            if arrived.found:
                recv_ns = [record.recv_ns for record in arrived.records]
                turned = turn_messages(kind, arrived.found, recv_ns, venue=self._venue)
                self._account(turned, arrived.lines, arrived.records)
                done.append(turned)
        return done

    def _turned_answers(self) -> list[tuple[int, Turned]]:
        done = []
        # funding intervals first: the rows of other answers carry them
        for line, record, answer in sorted(self._answers, key=lambda each: each[2].name != "fundingInfo"):
            hours = self._funding_hours
            try:
                turned = turn_answer(answer, record.recv_ns, venue=self._venue, funding_hours=hours)
            except (AttributeError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
                self._refuse(line, record, f"{answer.path}: {type(error).__name__}: {error}")
                continue
            self._account(turned, [line], [record])
            done.append((record.recv_ns, turned))
        return done

    def _account(self, turned: Turned, lines: list[int], records: list[Record]) -> None:
        """Keep what did not become a row."""
        for row, symbol, table, reason, raw in turned.refused:
            at = row if raw is None else 0
            self._refuse(lines[at], records[at], reason, symbol=symbol, table=table, raw=raw)
        if turned.of_test_contracts:
            self._skipped[TEST_CONTRACT] += turned.of_test_contracts

    def _add_stranger(self, line: int, record: Record, message: Depth | Other | Unknown | Drift) -> None:
        """Count or refuse a message that is no row; a new field is told of once."""
        if isinstance(message, Depth):
            self._skipped[WHOLE_BOOK] += 1
        elif isinstance(message, Other):
            self._skipped[message.kind] += 1
        elif isinstance(message, Unknown):
            self._refuse(line, record, message.reason)
        else:
            new = [name for name in message.fields if (message.kind, name) not in self._drifted]
            self._drifted.update((message.kind, name) for name in new)
            if new:
                reason = f"{message.kind}: unknown field {', '.join(new)}; the row was stored without it"
                self._refuse(line, record, reason)

    def _add_told(self, line: int, record: Record) -> None:
        """Take in an answer, or a note: a bar that was given up is a gap for good, other notes are no rows."""
        if record.kind is Kind.ANSWER:
            answer = decode_answer(record.payload)
            if isinstance(answer, Unknown):
                self._refuse(line, record, answer.reason)
            elif answer.name in ANSWERS_WITHOUT_TABLE:
                self._skipped[answer.name] += 1
            else:
                self._answers.append((line, record, answer))
            return
        try:
            told = json.loads(record.payload)
            if told["note"] == "gave_up":
                self._gaps.append(self._gap(record.recv_ns, told["symbol"], told["interval"], told["open_ms"]))
        except (LookupError, TypeError, ValueError) as error:
            self._refuse(line, record, f"note: {type(error).__name__}: {error}")

    def _gap(self, recv_ns: int, symbol: str, interval: str, open_ms: int) -> pl.DataFrame:
        """The ledger's row of one bar that never came."""
        step_ms = interval_ms(interval)
        hole = {
            "table": KLINES.name,
            "venue": self._venue,
            "symbol": symbol,
            "interval": interval,
            "from_time": _moment(open_ms - step_ms),
            "to_time": _moment(open_ms + step_ms),
            "missing": 1,
            "is_estimate": False,
        }
        detected = _moment(-(-recv_ns // NS_PER_MS))  # rounded up: it was not known before
        holes = pl.DataFrame([hole], schema=HOLES)
        return gap_rows(holes, cause="reconnect", detected_time=detected, state="unrepairable")

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


_Part = tuple[int | None, pl.DataFrame]  # when its rows were logged; None: each when it was received


def _as_logged(parts: list[_Part]) -> pl.DataFrame:
    """The rows in the order of the log: of those with one key the lake keeps the first."""
    if len(parts) == 1:
        return parts[0][1]
    received = pl.col("recv_time").dt.epoch("ns")
    whole = pl.concat(
        rows.with_columns(logged_ns=received if logged_ns is None else pl.lit(logged_ns, pl.Int64))
        for logged_ns, rows in parts
    )
    return whole.sort("logged_ns", maintain_order=True).drop("logged_ns")


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
