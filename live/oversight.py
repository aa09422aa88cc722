"""What a run may do: the operator's commands and the limits on its losses, over all its desks.

It hears what the desks heard, keeps the state of ``live.risk``, and says at the gate whether an entry may leave. All of
it follows from the input log, so that a restart forgets nothing and a replay writes the same journal.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from data.config import load
from live import risk
from live.alerts import KINDS
from live.commands import ALARMS
from live.desk import Desk
from live.feed import BarClosed, Event, ExecutionBar, FeedEnded, Marked, Quoted, Traded
from live.gates import HOUR_MS, EntryLimits, Moment, refusals
from live.journal import Journal, Record
from live.orders import CloseAsked, Leg
from live.readings import known_ms
from live.risk import (
    Acknowledged,
    Alarmed,
    Commanded,
    EquitySeen,
    Flatten,
    Level,
    RiskEvent,
    RiskLimits,
    RiskState,
    TradeClosed,
)

_LEVELS = {"pause": Level.REDUCING, "reduce": Level.REDUCING, "resume": Level.ACTIVE, "flatten": Level.HALTED}


@dataclass(frozen=True, kw_only=True)
class RiskConfig:
    """``[risk]`` of a promoted config: what the whole run may lose and hold. It is part of what the operator signs.

    Attributes
    ----------
    paper_equity_usdt : what the account of a paper run begins with; a real one has its own.
    account : what may be lost. entries : up to where entries are made.
    """

    paper_equity_usdt: float
    account: RiskLimits
    entries: EntryLimits

    def __post_init__(self) -> None:
        if not self.paper_equity_usdt > 0.0:
            raise ValueError(f"paper_equity_usdt: expected more than 0, got {self.paper_equity_usdt:g}")


@dataclass(frozen=True, kw_only=True)
class News:
    """Something that a person should hear of: a kind of ``live.alerts`` and the sentence."""

    kind: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Adopting:
    """The operator has the account take over a position of a symbol that the journal does not know."""

    symbol: str


class Oversight:
    """The one that watches over the desks of a run.

    Attributes
    ----------
    limits : None: only people and alarms lower the level.
    state : of ``live.risk``.
    obeyed : keys of the commands that were answered.
    news : for people; whoever sends them on takes them out.
    ordered : what was said of the level, of adopting or of closing what no desk knows, for the account of a real run,
        which keeps its own state of ``live.risk``; whoever hands it on takes it out, once the record it came with has
        been acted on.
    adopting : symbols of which a position may be taken over, beside those of the account's file.
    """

    def __init__(self, journal: Journal) -> None:
        self.limits: RiskConfig | None = None
        self.state = RiskState()
        self.obeyed: set[str] = set()
        self.news: deque[News] = deque()
        self.ordered: deque[RiskEvent | Adopting | Flatten] = deque()
        self.adopting: tuple[str, ...] = ()
        self._is_paper = True
        self._of_account = RiskState()  # of a real run, as its account told it last
        self._journal = journal
        self._desks: Sequence[Desk] = ()
        self._adopted: dict[str, str] = {}  # by trade id, the symbols of positions that the account has taken over
        self._booked: dict[tuple[str, str], tuple[int, float]] = {}  # by desk: closed trades and their net, USDT
        self._entries_ms: dict[str, deque[int]] = {}  # by symbol: the entries of the last hour

    def watch(self, desks: Sequence[Desk], *, is_paper: bool) -> None:
        """From now on no entry of these leaves without being let through."""
        self._desks, self._is_paper = desks, is_paper
        for desk in desks:
            self._booked[desk.key] = (0, 0.0)
            desk.gate = partial(self.refusal, desk)

    def refusal(self, desk: Desk, time_ms: int, notional_usdt: float) -> str | None:
        """Why an entry must not leave; None lets it through, and counts it."""
        if self.limits is None:
            level = self.state.level
            reasons = [] if level is Level.ACTIVE else [f"{level}: {', '.join(self.state.lowered)}"]
        else:
            reasons = refusals(self.limits.entries, self.state, self._moment(desk, time_ms, notional_usdt))
        if not reasons:
            self._entries_ms.setdefault(desk.key[1], deque()).append(time_ms)
        return "; ".join(reasons) or None

    def heard(self, desk: Desk, event: Event) -> None:
        """A desk has handled an event."""
        if self.limits is None or isinstance(event, FeedEnded):
            return
        count, before_usdt = self._booked[desk.key]
        if desk.closed_trades != count:
            self._booked[desk.key] = (desk.closed_trades, desk.net_pnl_usdt)
            gained, next_ms = desk.net_pnl_usdt - before_usdt, desk.next_entry_ms
            closed = TradeClosed(time_ms=_time_ms(event), symbol=desk.key[1], net_usdt=gained, next_entry_ms=next_ms)
            self._react(closed)
        if isinstance(event, BarClosed | ExecutionBar) or (isinstance(event, Marked) and desk.side):
            self._react(EquitySeen(time_ms=_time_ms(event), equity_usdt=self.equity_usdt))

    def noticed(self, written: Record) -> None:
        """The account of a real run wrote an event: what people should hear of it."""
        kind, body = written.kind, written.body
        if kind == "adopted":
            self._adopted[written.trade_id] = written.symbol
        elif kind == "closed":
            self._adopted.pop(written.trade_id, None)
        elif kind == "alert":
            what = body["what"] if body["what"] in KINDS else "order"
            self.news.append(News(kind=what, detail=f"{body['what']}: {body['detail']}"))
        elif kind == "risk":
            told = {name: value for name, value in body["state"].items() if value is not None}
            self._of_account = load(RiskState, told, "journal")
        if kind == "risk" and body["level"] != Level.ACTIVE:
            self.news.append(News(kind="level", detail=f"{body['level']}: {', '.join(body['state']['lowered'])}"))

    @property
    def level(self) -> Level:
        """What may be done."""
        return self.state.level

    @property
    def _held(self) -> RiskState:
        """What holds for the whole run: of a real one its account's, which also falls by what is measured there."""
        return self.state if self._is_paper else self._of_account

    @property
    def equity_usdt(self) -> float:
        """Of the paper account: what it began with and every desk's result."""
        return self.limits.paper_equity_usdt + sum(desk.result_usdt for desk in self._desks)

    def obey(self, time_ms: int, told: Mapping[str, Any]) -> None:
        """Carry out a command of ``live.commands`` and answer it.

        Parameters
        ----------
        told : the command's fields, and ``is_late``.
        """
        self.obeyed.add(told["key"])
        asked = {name: told[name] for name in ("key", "command", "symbol", "by", "asked_ms")}
        asked |= {"why": told["why"]} if told.get("why") else {}
        self._write("command", time_ms, told["symbol"], asked)
        if told["is_late"]:
            is_done, answer = False, "came too late: whoever asked no longer waits"
        else:
            is_done, answer = self._done(time_ms, told["command"], told["symbol"], told.get("why", ""))
        body = {"key": told["key"], "command": told["command"], "is_done": is_done, "answer": answer}
        self._write("answer", time_ms, told["symbol"], body | {"level": self._held.level})
        if told["command"] in ALARMS:
            self.news.append(News(kind=told["command"], detail=told["why"]))
        else:
            said = f"{told['by']}: {told['command']} {told['symbol'] or ''}: {answer}"
            self.news.append(News(kind="command", detail=said))

    def _done(self, time_ms: int, command: str, symbol: str | None, why: str) -> tuple[bool, str]:
        """Whether it was carried out, and what follows, in words."""
        match command:
            case "adopt" if self._is_paper:
                return False, "there is nothing to adopt on paper: the journal knows every position"
            case "adopt" | "close":
                mine = [desk for desk in self._desks if desk.key[1] == symbol]
                if not mine:
                    traded = ", ".join(sorted({desk.key[1] for desk in self._desks}))
                    return False, f"{symbol} is not traded here, but {traded}"
                if command == "close":
                    return True, self._all_closed(mine, Leg.CLOSE, symbol, time_ms)
                self.adopting += (symbol,)
                self.ordered.append(Adopting(symbol=symbol))
                return True, f"a position of {symbol} is taken over, under an emergency stop; then only exits are left"
            case "parity":
                self._react(Alarmed(time_ms=time_ms, what=command, detail=why))
            case "ack":
                self._react(Acknowledged(time_ms=time_ms))
            case _:
                self._react(Commanded(time_ms=time_ms, level=_LEVELS[command]))
        if command == "flatten":
            return True, f"{self._held.level}; {self._all_closed(self._desks, Leg.FLATTEN, None, time_ms)}"
        held = ", ".join(f"{why} ({level})" for why, level in self._held.lowered.items())
        return True, f"{self._held.level}{': ' + held if held else ''}"

    def _all_closed(self, desks: Sequence[Desk], leg: Leg, symbol: str | None, time_ms: int) -> str:
        """Close what these hold or are about to, and what the account has taken over: no desk knows of that."""
        closing = self._close(desks, leg, risk.OPERATOR, time_ms)
        adopted = [each for each in self._adopted.values() if symbol in (None, each)]
        if adopted:
            self.ordered.append(Flatten(symbol=symbol, reason=risk.OPERATOR))
        closing = list(dict.fromkeys([*closing, *adopted]))
        return f"closing {', '.join(closing)}" if closing else "nothing is held"

    def _close(self, desks: Sequence[Desk], leg: Leg, reason: str, time_ms: int) -> list[str]:
        """Close what these hold or are about to; the symbols."""
        closing = [desk for desk in desks if desk.is_busy]
        for desk in closing:
            desk.close(CloseAsked(time_ms=time_ms, leg=leg, reason=reason), self._journal)
        return [desk.key[1] for desk in closing]

    def _react(self, event: RiskEvent) -> None:
        """The next state; a change that matters is written down, and what has to be closed is."""
        before, before_level = self.state, self._held.level
        if isinstance(event, Commanded | Acknowledged | Alarmed):
            self.ordered.append(event)
            self._of_account, _ = risk.react(None, self._of_account, event)
        self.state, wanted = risk.react(self.limits and self.limits.account, before, event)
        if (self.state.lowered, self.state.spent_day) != (before.lowered, before.spent_day):
            reasons = [each.reason for each in wanted]
            told = {"level": self.state.level, "cause": type(event).__name__, "because": reasons}
            if self._is_paper:
                self._write("risk", event.time_ms, None, told | {"state": asdict(self.state)})
            level = self._held.level
            if level is not before_level or self.state.spent_day != before.spent_day:
                why = "; ".join(reasons) or ", ".join(self._held.lowered)
                self.news.append(News(kind="level", detail=f"{before_level} → {level}: {why}"))
        is_spent = self.state.spent_day != before.spent_day
        is_lowered = self.state.level is not before.level and self.state.level is not Level.ACTIVE
        if self._is_paper and (is_spent or is_lowered):  # a real account does so itself, and keeps the part that filled
            resting = [desk for desk in self._desks if desk.is_resting]
            self._close(resting, Leg.CLOSE, "risk", event.time_ms)
        for each in wanted:
            self._flattened(each, event.time_ms)

    def _flattened(self, wanted: Flatten, time_ms: int) -> None:
        mine = [desk for desk in self._desks if wanted.symbol in (None, desk.key[1])]
        self._close(mine, Leg.FLATTEN, "risk", time_ms)

    def _moment(self, desk: Desk, time_ms: int, notional_usdt: float) -> Moment:
        """What paper knows: there is no account that could be late, thin or in doubt, and bars gate stale quotes."""
        symbol = desk.key[1]
        entered = self._entries_ms.setdefault(symbol, deque())
        while entered and entered[0] <= time_ms - HOUR_MS:
            entered.popleft()
        held = {other.key: other.notional_usdt for other in self._desks}
        of_symbol = [other for other in self._desks if other.key[1] == symbol]
        return Moment(
            time_ms=time_ms,
            symbol=symbol,
            notional_usdt=notional_usdt,
            margin_usdt=notional_usdt / _leverage(desk),
            available_usdt=self.equity_usdt - sum(held[other.key] / _leverage(other) for other in self._desks),
            symbol_notional_usdt=sum(held[other.key] for other in of_symbol),
            total_notional_usdt=sum(held.values()),
            open_entries=sum(other.is_busy and not other.side for other in of_symbol),
            entries_last_hour=len(entered),
            price_distance_bps=0.0,
            liquidation_distance=math.inf,
            quote_age_ms=0.0,
            mark_age_ms=0.0,
            clock_offset_ms=0.0,
            round_trip_ms=0.0,
            doubts=0,
            is_reconciled=True,
            is_listening=True,
            is_trading=True,
            has_gap=False,
        )

    def _write(self, kind: str, time_ms: int, symbol: str | None, body: dict[str, Any]) -> None:
        record = Record(
            ts_ms=time_ms,
            kind=kind,
            config_hash="",
            symbol=symbol or "",
            trade_id=None,
            client_order_id=None,
            body=body,
        )
        self._journal.append([record])


def _leverage(desk: Desk) -> float:
    return desk.rules.config.orders.leverage or 1.0


def _time_ms(event: Event) -> int:
    return known_ms(event.recv_ns) if isinstance(event, Traded | Quoted | Marked) else event.time_ms
