"""What the recorder asks again and again, because no stream tells it."""

import asyncio
from collections.abc import Callable, Sequence

from data.clock import Clock
from data.recorder_asking import Asking, Entry, ask_forever
from data.recorder_config import RecorderConfig
from data.recorder_rest import (
    CONTRACTS,
    HOUR_S,
    POLL_DELAY_S,
    SETTLING_MS,
    bars,
    check_symbols,
    fundings,
    settled_ms,
    snapshot,
    statuses,
)
from data.table import interval_ms
from data.venues import aster, binance, hyperliquid
from data.venues.questions import Question

_LOOK_S = 60  # how often it is looked whether a connection had to be made again
_RATIOS_S, _RATIOS_DELAY_S = 300, 20  # one every five minutes, told soon after
_TRIES = 5


class MarketPolls:
    """Everything that is asked of the exchange itself, apart from repairs.

    Parameters
    ----------
    note : logs what happened: a word for it, and figures.
    reconnects : how many connections had to be made again so far.

    Attributes
    ----------
    is_checked : set when the exchange knows the symbols, or could not be asked.
    notices : a sentence for each symbol that does not trade now.
    """

    def __init__(
        self, config: RecorderConfig, clock: Clock, note: Callable[..., None], reconnects: Callable[[], int]
    ) -> None:
        self.is_checked = asyncio.Event()
        self.notices: list[str] = []
        self._config = config
        self._clock = clock
        self._note = note
        self._reconnects = reconnects
        self._reconnected = 0
        self._statuses: dict[str, str] = {}
        self._bars_from_ms = 0
        self._bars = Entry(self._settled_bars, every_s=HOUR_S, delay_s=POLL_DELAY_S + SETTLING_MS / 1_000, at_once=True)

    async def run(self, asking: Asking, is_listening: asyncio.Event, began: Callable[[], None]) -> None:
        """Ask for the rules first, for the history once listening began, then for what no stream tells.

        Parameters
        ----------
        asking : checks every answer with ``check``.
        began : called when listening began.

        Raises
        ------
        ValueError
            When the exchange does not have one of the symbols.
        """
        asking.add([CONTRACTS])
        await asking.round()
        if CONTRACTS.path in asking.refused:
            raise ValueError(asking.refused[CONTRACTS.path])
        self.is_checked.set()
        await is_listening.wait()
        began()
        symbols, interval = self._config.symbols, self._config.kline_interval
        since_ms = self._clock.now_ms()
        asking.since_ms = since_ms
        asking.add(snapshot(symbols, interval, since_ms))
        self._bars_from_ms = settled_ms(interval, since_ms) + 1
        self._bars.due_ns = (since_ms + SETTLING_MS) * 10**6
        entries = [
            Entry(lambda now_ms: [CONTRACTS], every_s=HOUR_S, delay_s=POLL_DELAY_S),
            Entry(lambda now_ms: fundings(symbols), every_s=HOUR_S, delay_s=POLL_DELAY_S),
            Entry(
                lambda now_ms: aster.index_reference_questions(symbols),
                every_s=HOUR_S,
                delay_s=POLL_DELAY_S,
                tries=_TRIES,
                at_once=True,
            ),
            Entry(self._after_a_reconnect, every_s=_LOOK_S),
            self._bars,
        ]
        if self._config.open_interest_s is not None:
            entries.append(_open_interest(lambda: aster.open_interest_questions(symbols), self._config))
        await ask_forever(asking, entries, self._clock)

    def check(self, question: Question, body: bytes) -> None:
        """Look at an answer before it is logged: do our symbols trade?

        Raises
        ------
        ValueError
            When the exchange does not have one of the symbols, unless it had them before.
        """
        if question != CONTRACTS:
            return
        known: dict[str, str] = {}
        try:
            known = statuses(body)
            self.notices = check_symbols(self._config.symbols, known)
        except ValueError as error:
            if not self.is_checked.is_set():
                raise
            self.notices = [str(error)]
        for symbol in self._config.symbols if known else ():
            status = known.get(symbol, "gone")
            if status != self._statuses.get(symbol, "TRADING"):
                self._note("symbol_status", symbol=symbol, status=status)
            self._statuses[symbol] = status

    def _settled_bars(self, now_ms: int) -> list[Question]:
        """The bars that settled since they were asked for last."""
        start_ms, end_ms = self._bars_from_ms, settled_ms(self._config.kline_interval, now_ms)
        questions = bars(self._config.symbols, self._config.kline_interval, start_ms, end_ms)
        if questions:
            self._bars_from_ms = end_ms + 1
        return questions

    def _after_a_reconnect(self, now_ms: int) -> list[Question]:
        """The last word of a bar may have come while nobody listened: ask for it as soon as it has settled."""
        if self._reconnects() > self._reconnected:
            self._reconnected = self._reconnects()
            settle_ms = SETTLING_MS + interval_ms(self._config.kline_interval)
            self._bars.hasten((now_ms + settle_ms) * 10**6)
        return []


def entries_of_other_venues(config: RecorderConfig) -> dict[str, list[Entry]]:
    """What is asked of Binance and Hyperliquid, by the name under which their rows are stored."""
    if not config.other_venues:
        return {}
    symbols = config.symbols
    ratios = Entry(
        lambda now_ms: binance.ratio_questions(symbols),
        every_s=_RATIOS_S, delay_s=_RATIOS_DELAY_S, tries=_TRIES, at_once=True,
    )  # fmt: skip
    entries = {"binance": [ratios], "hyperliquid": []}
    if config.open_interest_s is not None:
        entries["binance"].append(_open_interest(lambda: binance.open_interest_questions(symbols), config))
        entries["hyperliquid"].append(_open_interest(hyperliquid.open_interest_questions, config))
    return {venue: asked for venue, asked in entries.items() if asked}


def _open_interest(questions: Callable[[], Sequence[Question]], config: RecorderConfig) -> Entry:
    """Not asked again for a moment that has passed: the next answer is as good."""
    return Entry(lambda now_ms: questions(), every_s=config.open_interest_s, tries=1, at_once=True)
