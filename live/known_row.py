"""One row of ``research.bars.SIGNAL`` as it becomes known: the same numbers, bit for bit, without tables.

Tables cost a replay more time than it has. That the two definitions agree is shown in ``test_stream_feed``.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from live.readings import KLINE_COLUMNS, ClosedBar, Mark, Quote, known_ms
from research.bars import half_spread_bps
from research.recorded import REACH
from research.strategies.gates import MAX_MARK_AGE_MS, MAX_QUOTE_AGE_MS

REACH_MS = REACH // timedelta(milliseconds=1)
_NO_BAR = (math.nan,) * len(KLINE_COLUMNS)


class KnownRows:
    """Makes the rows of one symbol, slot after slot; what is carried over gaps begins with the first.

    Parameters
    ----------
    instrument : the symbol's row of ``data.schema.INSTRUMENTS``.
    funding_interval_hours : where the instrument does not tell it; None for unknown.
    """

    def __init__(self, instrument: Mapping[str, Any], funding_interval_hours: float | None, length_ms: int) -> None:
        self._is_trading = instrument["status"] == "TRADING"
        hours = instrument["funding_interval_hours"] or funding_interval_hours
        self._hours = math.nan if hours is None else float(hours)
        self._length_ms = length_ms
        self._half_spread_bps = math.nan
        self._last_mark_ratio = 1.0

    def row(
        self,
        open_ms: int,
        avail_ms: int,
        bar: ClosedBar | None,
        quote: Quote | None,
        mark: Mark | None,
        rate: Mark | None,
        forced_usdt: Mapping[str, float],
    ) -> dict[str, Any]:
        """Values by name of ``SIGNAL``.

        Parameters
        ----------
        bar : None in a gap.
        quote, mark, rate : the last quote, mark, and mark with a funding rate known at ``avail_ms``, if any.
        forced_usdt : by the names of ``forced_orders.FORCED_SIDES``, what was liquidated in the slot.
        """
        quote, quote_age_ms = _fresh(quote, avail_ms)
        mark, mark_age_ms = _fresh(mark, avail_ms)
        rate, _ = _fresh(rate, avail_ms)
        if quote is not None and quote_age_ms <= MAX_QUOTE_AGE_MS and 0.0 < quote.bid <= quote.ask:
            self._half_spread_bps = half_spread_bps(quote.bid, quote.ask)
        bars = dict(zip(KLINE_COLUMNS, _NO_BAR if bar is None else bar.values, strict=True))
        if bar is not None and mark is not None and mark_age_ms <= MAX_MARK_AGE_MS:
            self._last_mark_ratio = bars["close"] / mark.price
        return {
            "open_time": open_ms,
            "close_time": open_ms + self._length_ms,
            "avail_time": avail_ms,
            "is_gap": bar is None,
            **bars,
            "bid_price": math.nan if quote is None else quote.bid,
            "bid_quantity": math.nan if quote is None else quote.bid_quantity,
            "ask_price": math.nan if quote is None else quote.ask,
            "ask_quantity": math.nan if quote is None else quote.ask_quantity,
            "quote_age_ms": quote_age_ms,
            "mark_price": math.nan if mark is None else mark.price,
            "index_price": math.nan if mark is None else mark.index,
            "mark_age_ms": mark_age_ms,
            "funding_rate": math.nan if rate is None else rate.funding_rate,
            "funding_interval_hours": self._hours,
            "half_spread_bps": self._half_spread_bps,
            "last_mark_ratio": self._last_mark_ratio,
            **forced_usdt,
            "can_enter": bar is not None and self._is_trading,
        }


def _fresh(last: Quote | Mark | None, at_ms: int) -> tuple[Quote | Mark | None, float]:
    """The reading and its age, ms; (None, NaN) when it is too old to be carried."""
    if last is None:
        return None, math.nan
    age_ms = at_ms - known_ms(last.recv_ns)
    return (last, float(age_ms)) if age_ms <= REACH_MS else (None, math.nan)
