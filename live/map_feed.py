"""One symbol's liquidation map from the messages of a runner that listens. Pure: it is told the time too.

It is made in the runner itself, not in a process beside it: a step takes one or two milliseconds, once in five seconds
and when the mark enters or leaves a cluster, so a decision waits for it less than for the line, and looking at it takes
microseconds. And as it follows from the input log alone, a replay makes the same map again, and a runner that was
killed goes on with it.

Aster's own open interest is all it is made of, with marks and traded volume. Where that is missing there is no map.
"""

import json
import math
from datetime import timedelta

import numpy as np

from data.messages import AggTrade, MarkPrice
from data.messages_rest import Answer
from live.readings import Mark, Recent, Trade, known_ms, mark_of, open_interest_of, trade_of
from research.clusters.live_map import LiveMap
from research.clusters.profiles import SourceBars

MAP_EVERY_MS = 5_000  # prior-art 002: clusters every five seconds
OPEN_INTEREST_EVERY_MS = 30_000  # and open interest every thirty
OLDEST_MS = 900_000  # an open interest that was older when it came is none
ASSUMPTION = (
    "the liquidation map is predicted from aster's open interest alone, every 5 s, without other venues, forced orders "
    "and confidence; a backtest on another map trades otherwise"
)
MAP_HISTORY = "source_bars"  # last part of the path of the answer that ``history_of`` reads
_EVERY = timedelta(milliseconds=MAP_EVERY_MS)
_COLUMNS = ("time_ms", "avail_ms", "mark_high", "mark_low", "mark_close", "volume_usdt", "open_interest", "is_new")
_DTYPES = dict.fromkeys(_COLUMNS, np.float64) | {"time_ms": np.int64, "avail_ms": np.int64, "is_new": np.bool_}


def told_history(bars: SourceBars) -> dict[str, list]:
    """The minutes as JSON values, for the input log; ``history_of`` reads them back."""
    numbers = {name: getattr(bars, name).tolist() for name in _COLUMNS}
    return {name: [None if value != value else value for value in values] for name, values in numbers.items()}


def history_of(answer: Answer) -> SourceBars:
    """The minutes that a warm start read from the lake."""
    told = json.loads(bytes(answer.body))
    columns = {name: np.array(told[name], _DTYPES[name]) for name in _COLUMNS}
    return SourceBars(symbol=answer.params["symbol"], source="aster", **columns)


def no_bars(symbol: str) -> SourceBars:
    """What is known where nothing was recorded."""
    return SourceBars(symbol=symbol, source="aster", **{name: np.empty(0, _DTYPES[name]) for name in _COLUMNS})


class MapFeed:
    """The map of one symbol.

    Parameters
    ----------
    history : minutes from before we listened; without any, compiled code is at least there when it is needed.

    Attributes
    ----------
    due_ms : when the next step is due; None while no mark comes.
    """

    def __init__(self, history: SourceBars) -> None:
        self._map = LiveMap(history.symbol, "aster")
        self._map.learn(history)
        self.due_ms: int | None = None
        self._open_interest = float(history.open_interest[-1]) if len(history) else math.nan
        self._open_interest_ms = 0
        self._mark, self._is_heard = math.nan, False
        self._marks_seen, self._trades_seen = Recent(), Recent()
        self._begin_bar()

    @property
    def reason(self) -> str | None:
        """Why there is no map to look at; None where there is one."""
        return self._map.reason

    def columns(self, at_ms: int, interval_ms: int) -> dict[str, float]:
        """``CLUSTER_COLUMNS`` as of now."""
        return self._map.columns(at_ms, interval_ms)

    def hear(self, recv_ns: int, message: object) -> None:
        """Take in a message of the symbol; a mark that enters or leaves a cluster is acted on at once."""
        match message:
            case AggTrade():
                self._on_trade(trade_of(recv_ns, message), message)
            case MarkPrice():
                self._on_mark(mark_of(recv_ns, message))

    def answered(self, recv_ns: int, answer: Answer) -> None:
        """Take in the answer to a question for the symbol's open interest."""
        for told in open_interest_of(answer):
            is_old = known_ms(recv_ns) - told.event_ms > OLDEST_MS
            if told.event_ms > self._open_interest_ms and not is_old:
                self._open_interest, self._open_interest_ms = told.quantity, told.event_ms
                self._is_new = True

    def due(self, now_ms: int) -> None:
        """Do what is due; without a mark since the last time that is to say so, once."""
        is_heard, self._is_heard = self._is_heard, False
        self.due_ms = now_ms + MAP_EVERY_MS if is_heard else None
        if not is_heard or not math.isnan(self._close):  # else every mark was acted on already
            self._step(now_ms)

    def _on_trade(self, trade: Trade | None, message: AggTrade) -> None:
        if trade is not None and not self._trades_seen.holds(trade.trade_id):
            self._volume_usdt += trade.price * float(message.quantity)

    def _on_mark(self, mark: Mark | None) -> None:
        if mark is None or self._marks_seen.holds(mark.event_ms):
            return
        before, self._mark = self._mark, mark.price
        self._high, self._low = max(self._high, mark.price), min(self._low, mark.price)
        self._close, self._is_heard = mark.price, True
        now_ms = known_ms(mark.recv_ns)
        if self.due_ms is None:
            self.due_ms = (now_ms // MAP_EVERY_MS + 1) * MAP_EVERY_MS
        was, is_now = np.searchsorted(self._map.edges, (before, mark.price), side="right")
        if was != is_now:
            self._step(now_ms)

    def _step(self, now_ms: int) -> None:
        if now_ms <= self._map.time_ms:  # there was one in this very millisecond
            return
        is_seen = not math.isnan(self._close)
        bar = SourceBars(
            symbol=self._map.symbol,
            source="aster",
            time_ms=np.array([now_ms]),
            avail_ms=np.array([now_ms]),
            mark_high=np.array([self._high if is_seen else math.nan]),
            mark_low=np.array([self._low if is_seen else math.nan]),
            mark_close=np.array([self._close]),
            volume_usdt=np.array([self._volume_usdt]),
            open_interest=np.array([self._open_interest]),
            is_new=np.array([self._is_new]),
        )
        self._begin_bar()
        self._map.step(bar, length=_EVERY)

    def _begin_bar(self) -> None:
        self._high, self._low, self._close = -math.inf, math.inf, math.nan
        self._volume_usdt, self._is_new = 0.0, False
