"""What REST is asked about the time before a stream's first row. Light enough for the process that receives."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from data.repair_questions import HOUR_MS, PREFIX
from data.table import interval_ms
from data.venues.questions import Question

Ask = Callable[[Question], Awaitable[bytes]]
_MARK_BARS = "1m"  # all that REST has of mark prices


class Beginning(NamedTuple):
    """The first stored row of a stream, of which it is not known what came before it since listening began.

    ``first`` is its position, see ``gaps.Run``, and ``first_ms`` its time; ``since_ms`` is when listening began.
    """

    venue: str
    stream: str
    table: str
    symbol: str
    interval: str | None
    since_ms: int
    first: int
    first_ms: int


async def first_position(beginning: Beginning, ask: Ask) -> int | None:
    """The position of the first row that the exchange has since listening began; None where the stored one is that.

    Where nothing is missing this is one question. A mark price is the bar of its minute at REST; of a minute that began
    before listening did, what is missing begins with listening.

    Parameters
    ----------
    ask : asks a question and returns the body of its answer.

    Raises
    ------
    ValueError
        When an answer is not what its path promises; and whatever ``ask`` raises.
    """
    if beginning.table == "trades":
        return await _first_trade(beginning, ask)
    interval = beginning.interval or _MARK_BARS
    step = interval_ms(interval)
    span = {"startTime": beginning.since_ms // step * step, "endTime": beginning.first_ms}
    if beginning.table == "mark_price":
        bar = await _first_row(beginning, ask, "markPriceKlines", [0], interval=interval, **span)
        position = None if bar is None else max(bar[0], beginning.since_ms)
    else:
        bar = await _first_row(beginning, ask, "klines", [0], interval=interval, **span)
        position = None if bar is None else bar[0] // step
    return position if position is not None and position < beginning.first else None


async def _first_trade(beginning: Beginning, ask: Ask) -> int | None:
    """Ids leave no number out: where the trade before the stored one is older than listening, nothing is missing.

    Only where it is younger the time since then is searched, hour by hour: a quiet symbol may be listened to for days.
    """
    before = beginning.first - 1
    if before < 0:
        return None
    trade = await _first_row(beginning, ask, "aggTrades", ["a", "T"], fromId=before)
    if trade is None or trade[0] != before or trade[1] < beginning.since_ms:
        return None
    for begin_ms in range(beginning.since_ms, trade[1], HOUR_MS):
        span = {"startTime": begin_ms, "endTime": begin_ms + HOUR_MS - 1}
        found = await _first_row(beginning, ask, "aggTrades", ["a"], **span)
        if found is not None:
            return min(found[0], before)
    return before


async def _first_row(
    beginning: Beginning, ask: Ask, name: str, fields: Sequence[str | int], **asked: Any
) -> list[int] | None:
    """These fields of the first row of an answer; None where it has no row."""
    params = {"symbol": beginning.symbol, **asked, "limit": 1}
    question = Question(path=f"{PREFIX[beginning.venue]}/{name}", params=params, venue=beginning.venue)
    body = await ask(question)
    try:
        rows = json.loads(body)
        return [int(rows[0][field]) for field in fields] if rows else None
    except (LookupError, TypeError) as error:
        raise ValueError(f"{question.path}: expected rows with {fields}, got {body[:80]!r}") from error
