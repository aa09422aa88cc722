"""What REST is asked to fill a gap. Pure, and light enough for the process that receives."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from data.table import interval_ms
from data.venues.questions import Question

TRADES_PER_PAGE = 1_000  # weight 20
BARS_PER_PAGE = 499  # the most bars per unit of request weight
FUNDING_PER_PAGE = 1_000
PAGES_AT_ONCE = 10_000  # hours of any budget; one trade with a wrong id may leave out more than memory holds
HOUR_MS = 3_600_000
_DAY_MS = 24 * HOUR_MS
SETTLING_MS = 300_000  # bars of the last minutes before a fetch were seen to change afterwards
_REPAIRABLE = ("trades", "klines", "mark_price")
_MARK_BARS = "1m"
PREFIX = {"aster": "/fapi/v3", "binance": "/fapi/v1"}


def is_repairable(table: str) -> bool:
    """Whether REST has what a table misses, if only approximately."""
    return table in _REPAIRABLE


def questions(gap: Mapping[str, Any], now_ms: int) -> list[Question]:
    """What to ask for one gap, in order; each may be asked alone and repeated. None now where it is too early.

    Of a gap that takes more than ``PAGES_AT_ONCE`` its beginning: what is left is asked for when that has come.

    Trades come by their ids, klines by their times. Mark prices exist at REST only as bars of a minute, so a hole in
    them is filled approximately: by bars of the index and the mark price and by the settled funding, mark price last.

    Parameters
    ----------
    gap : one of ``ledger.open_gaps``: a row of ``gaps`` with times in ms, and ``remaining``.
    now_ms : bars that closed less than five minutes before are not asked for yet, they may still change.
    """
    prefix = PREFIX.get(gap["venue"])
    if prefix is None or gap["state"] != "open" or not is_repairable(gap["table"]):
        return []
    if gap["table"] == "trades":
        asked = [("aggTrades", _trades(gap["symbol"], *piece)) for piece in gap["remaining"]]
    else:
        interval = _MARK_BARS if gap["table"] == "mark_price" else gap["interval"]
        last_open_ms = gap["remaining"][-1][1]
        if last_open_ms + _within_ms(interval) + interval_ms(interval) + SETTLING_MS > now_ms:
            return []
        asked = []
        if gap["table"] == "mark_price":
            asked += _funding(gap["symbol"], gap["from_time"], gap["to_time"])
            asked += [("indexPriceKlines", _bars("pair", gap["symbol"], interval, *each)) for each in gap["remaining"]]
        path = "markPriceKlines" if gap["table"] == "mark_price" else "klines"
        asked += [(path, _bars("symbol", gap["symbol"], interval, *each)) for each in gap["remaining"]]
    told = (
        Question(path=f"{prefix}/{name}", params=params, venue=gap["venue"], gap_id=gap["gap_id"])
        for name, pages in asked
        for params in pages
    )
    return list(islice(told, PAGES_AT_ONCE))


def _funding(symbol: str, from_ms: int, to_ms: int) -> list[tuple[str, list[dict[str, Any]]]]:
    """The intervals between fundings, then the fundings of a time that holds a full hour: they are settled on it."""
    if from_ms // HOUR_MS == to_ms // HOUR_MS:
        return []
    asked = {"symbol": symbol, "startTime": from_ms, "endTime": to_ms, "limit": FUNDING_PER_PAGE}
    return [("fundingInfo", [{}]), ("fundingRate", [asked])]


def _trades(symbol: str, first_id: int, last_id: int) -> Iterator[dict[str, Any]]:
    """Pages of trades by id."""
    for begin in range(first_id, last_id + 1, TRADES_PER_PAGE):
        yield {"symbol": symbol, "fromId": begin, "limit": min(TRADES_PER_PAGE, last_id - begin + 1)}


def _bars(named: str, symbol: str, interval: str, first_ms: int, last_ms: int) -> list[dict[str, Any]]:
    """Pages of bars by the time they open; ``named`` is what the endpoint calls a symbol."""
    step = interval_ms(interval)
    page = BARS_PER_PAGE * step
    return [
        {
            named: symbol,
            "interval": interval,
            "startTime": begin,
            "endTime": min(begin + page - step, last_ms) + _within_ms(interval),
            "limit": BARS_PER_PAGE,
        }
        for begin in range(first_ms, last_ms + 1, page)
    ]


def _within_ms(interval: str) -> int:
    """By how much later than its place a bar may open: weeks begin on Monday, and 1970 began on a Thursday."""
    step = interval_ms(interval)
    return step - 1 if step > _DAY_MS else 0
