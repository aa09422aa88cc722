"""History that a lake lacks, stream by stream, told from the lake alone.

What the gap ledger calls unrepairable is not lacking: the exchange was asked and does not have it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl

from data.gaps import gap_rows
from data.lake import Lake
from data.ledger import newest, outside
from data.schema import FUNDING, GAPS, TRADES, interval_ms
from data.stored_days import holes, stored_days

HOUR_MS = 3_600_000
_REACH_MS = 24 * HOUR_MS  # no funding interval is longer
_USUAL_MS = 8 * HOUR_MS
_JITTER_MS = 60_000  # of the moment that a funding is settled
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Rows of one stream that the lake lacks.

    Parameters
    ----------
    interval : klines only.
    start_ms, end_ms : their times, [start, end).
    first_id, last_id : of trades, the ids next to stored ones; None at an end where no trade is stored.
    is_leading : nothing before it is stored, so the history of the exchange may begin inside.
    rows, requests, weight : an estimate, exact for klines and holes between trades.
    """

    table: str
    symbol: str
    interval: str | None = None
    start_ms: int
    end_ms: int
    first_id: int | None = None
    last_id: int | None = None
    is_leading: bool = False
    rows: int = 0
    requests: int = 0
    weight: int = 0


def lacking_bars(lake: Lake, table: str, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[Stretch]:
    """Stretches of klines that open in [start_ms, end_ms) and are lacking."""
    step_ms = interval_ms(interval)
    start_ms, end_ms = (-(-edge_ms // step_ms) * step_ms for edge_ms in (start_ms, end_ms))
    if start_ms >= end_ms:
        return []
    given_up = _given_up(lake, table, symbol, interval)
    lost = [(from_ms + step_ms, until_ms) for from_ms, until_ms in given_up.select("from_ms", "to_ms").iter_rows()]
    stream = Stretch(table=table, symbol=symbol, interval=interval, start_ms=start_ms, end_ms=end_ms)
    return [
        replace(stretch, start_ms=begin_ms, end_ms=until_ms)
        for stretch in _unstored(lake, stream, step_ms)
        for begin_ms, until_ms in _without(lost, stretch.start_ms, stretch.end_ms)
    ]


def lacking_fundings(lake: Lake, symbol: str, start_ms: int, end_ms: int) -> list[Stretch]:
    """The range from the first to the last funding that is lacking, which may hold stored ones too.

    One is lacking where two follow each other later than the interval of this symbol.
    """
    around = {"start": moment(start_ms - _REACH_MS), "end": moment(end_ms + _REACH_MS)}
    rows = lake.scan(FUNDING.name, symbols=[symbol], **around)
    times = rows["event_time"].dt.epoch("ms").to_list()
    hours = rows["interval_hours"].max()
    if hours is None:
        step_ms = min((after - before for before, after in pairwise(times)), default=_USUAL_MS)
    else:
        step_ms = round(hours * HOUR_MS)
    late = [(before + 1, after) for before, after in pairwise(times) if 2 * (after - before) > 3 * step_ms]
    if not times or times[0] - start_ms > step_ms - _JITTER_MS:
        late.insert(0, (start_ms, times[0] if times else end_ms))
    if times and end_ms - times[-1] > step_ms + _JITTER_MS:
        late.append((times[-1] + 1, end_ms))
    lost = list(_given_up(lake, FUNDING.name, symbol, None).select("from_ms", "to_ms").iter_rows())
    late = [
        (begin_ms, until_ms)
        for begin_ms, until_ms in late
        if begin_ms < end_ms and until_ms > start_ms
        if not any(from_ms <= begin_ms and until_ms <= to_ms for from_ms, to_ms in lost)
    ]
    if not late:
        return []
    first_ms, last_ms = max(late[0][0], start_ms), min(late[-1][1], end_ms)
    rows = (last_ms - first_ms) // step_ms + 1
    return [Stretch(table=FUNDING.name, symbol=symbol, start_ms=first_ms, end_ms=last_ms, rows=rows)]


def lacking_trades(lake: Lake, symbol: str, start_ms: int, end_ms: int) -> list[Stretch]:
    """Stretches of trades that are not stored and that the ledger has not given up, without their cost."""
    start, end = moment(start_ms), moment(end_ms)
    before, inside, after = (
        stored_days(lake, {TRADES.name: [symbol]}, *side, "aster").filter(pl.col("counted") > 0)
        for side in ((None, start), (start, end), (end, None))
    )
    stream = Stretch(table=TRADES.name, symbol=symbol, start_ms=start_ms, end_ms=end_ms)
    given_up = _given_up(lake, TRADES.name, symbol, None)
    at_start = given_up.filter(pl.col("from_id").is_null(), pl.col("from_ms") <= start_ms)
    if inside.is_empty():
        if not before.is_empty() and before["last_id"].max() + 1 == after["first_id"].min():
            return []  # nothing was traded
        return [] if at_start.filter(pl.col("to_ms") >= end_ms).height else [replace(stream, is_leading=True)]
    stretches = []
    first_id, first_ms = inside["first_id"].min(), to_ms(inside["first_time"].min())
    last_id, last_ms = inside["last_id"].max(), to_ms(inside["last_time"].max())
    before_id = before["last_id"].max()
    if first_id > 0 and before_id != first_id - 1 and at_start.filter(pl.col("to_ms") >= first_ms).is_empty():
        stretches.append(replace(stream, end_ms=first_ms, last_id=first_id - 1, is_leading=True))
    for hole in holes(lake, TRADES.name, symbol, start, end).iter_rows(named=True):
        first, last = hole["from_id"], hole["to_id"]
        if given_up.filter(pl.col("from_id") <= first, pl.col("to_id") >= last).is_empty():
            span = {"start_ms": to_ms(hole["from_time"]), "end_ms": to_ms(hole["to_time"])}
            stretches.append(replace(stream, **span, first_id=first, last_id=last))
    if after["first_id"].min() != last_id + 1:
        stretches.append(replace(stream, start_ms=last_ms, first_id=last_id + 1))
    return stretches


def unlisted(
    lake: Lake,
    *,
    tables: Sequence[str],
    symbols: Sequence[str] | None,
    start: datetime | None,
    end: datetime | None,
    now: datetime,
) -> pl.DataFrame:
    """Rows of ``gaps`` for holes between stored rows of [start, end) that the ledger does not know, as in an import.

    Parameters
    ----------
    tables : of those whose holes can be known.
    symbols : None for every symbol with rows.
    now : when they are found.
    """
    known = newest(lake)
    found = [GAPS.empty()]
    for table in tables:
        for symbol in lake.symbols(table) if symbols is None else symbols:
            new = outside(holes(lake, table, symbol, start, end), known)
            found.append(gap_rows(new, cause="sequence", detected_time=now))
    return pl.concat(found)


def _unstored(lake: Lake, stream: Stretch, step_ms: int) -> Iterator[Stretch]:
    """The parts of a stretch of klines that are not stored."""
    start, end = moment(stream.start_ms), moment(stream.end_ms)
    days = stored_days(lake, {stream.table: [stream.symbol]}, start, end, "aster")
    days = days.filter(pl.col("interval") == stream.interval)
    if days.is_empty():
        yield replace(stream, is_leading=True)
        return
    first_ms, last_ms = to_ms(days["first_time"].min()), to_ms(days["last_time"].max())
    if first_ms > stream.start_ms:
        yield replace(stream, end_ms=first_ms, is_leading=True)
    for hole in holes(lake, stream.table, stream.symbol, start, end, interval=stream.interval).iter_rows(named=True):
        yield replace(stream, start_ms=to_ms(hole["from_time"]) + step_ms, end_ms=to_ms(hole["to_time"]))
    if last_ms + step_ms < stream.end_ms:
        yield replace(stream, start_ms=last_ms + step_ms)


def _given_up(lake: Lake, table: str, symbol: str, interval: str | None) -> pl.DataFrame:
    """Gaps of a stream that the ledger says the exchange cannot fill: from_id, to_id, from_ms, to_ms."""
    told = lake.scan(GAPS.name, symbols=[symbol]).sort("detected_time").unique("gap_id", keep="last")
    own = told.filter(
        pl.col("table") == table,
        pl.col("interval").eq_missing(pl.lit(interval, pl.String)),
        pl.col("state") == "unrepairable",
    )
    return own.select(
        "from_id", "to_id", from_ms=pl.col("from_time").dt.epoch("ms"), to_ms=pl.col("to_time").dt.epoch("ms")
    )


def _without(lost: Sequence[tuple[int, int]], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """What of [start, end) is in none of the lost stretches, [start, end) each."""
    kept = []
    for from_ms, to_ms in sorted(lost):
        if from_ms > start_ms:
            kept.append((start_ms, min(from_ms, end_ms)))
        start_ms = max(start_ms, to_ms)
        if start_ms >= end_ms:
            break
    kept.append((start_ms, end_ms))
    return [(begin_ms, until_ms) for begin_ms, until_ms in kept if begin_ms < until_ms]


def moment(ms: int) -> datetime:
    """The UTC time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970; the first one not before a time between two."""
    return -((_EPOCH - time) // timedelta(milliseconds=1))
