"""``aster-watchdog``: a process of its own that takes over when the runner gives no sign of life for a minute.

It reads the runner's sign of life and its journal, and never writes to either. It signs with a key of its own, for an
exchange remembers the nonces of each key apart. Without ``--send-orders`` it only says what it would do.
"""

import asyncio
import signal
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from data.clock import Clock, RealClock
from data.exchange_info import instruments
from data.venues.aster import AsterRest, Unavailable, Venue, venue_of
from data.venues.aster_signed import NoAnswer, SignedRest
from live.account_rules import AccountRules, load_account_rules
from live.alerts import Alerts, destinations
from live.brokers.account_reader import AccountReader
from live.brokers.requests import Requests
from live.budget import RequestBudget, Urgency
from live.command_errors import errors_told
from live.exchange_orders import Contract, Place, contract_of
from live.heartbeat import Beat, read_beat, tell_systemd
from live.journal import read_journal
from live.order_evidence import Unread
from live.protection import Cancel, Trade
from live.rescue import Plan, Rescue, Step
from live.restore import events_of, open_trades
from live.secrets import signing_key

SILENCE_S = 60.0
_LOOK_S = 5.0  # of the machine's time, between two looks
_ENDED_LOOKS = 12  # a run that was ended in good order is looked after every so many looks


@dataclass(kw_only=True)
class Watchdog:
    """Watches one runner, and the account it trades.

    Attributes
    ----------
    account : None for a paper run, which has none: then it only alerts.
    silence_s : without a sign of life before it acts. look_s : between two looks. Of the machine's time.
    taken : every step so far, for people and tests.
    """

    journal: Path
    alerts: Alerts
    say: Callable[[str], None]
    account: "Account | None" = None
    silence_s: float = SILENCE_S
    look_s: float = _LOOK_S
    clock: Clock = field(default_factory=RealClock)
    taken: list[str] = field(default_factory=list)
    _began_ms: int = 0
    _is_alarmed: bool = False

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until told to stop."""
        self._began_ms = self.clock.now_ms()
        tell_systemd("READY=1")
        looks = 0
        while not stop.is_set():
            await self.look(is_turn=looks % _ENDED_LOOKS == 0)
            tell_systemd("WATCHDOG=1")
            looks += 1
            try:
                await asyncio.wait_for(stop.wait(), self.look_s)
            except TimeoutError:
                continue
        tell_systemd("STOPPING=1")

    async def look(self, *, is_turn: bool = True) -> None:
        """One look; ``is_turn``: also after a run that was ended in good order."""
        beat = read_beat(self.journal)
        silent_s = (self.clock.now_ms() - max(beat.told_ms if beat else 0, self._began_ms)) / 1_000
        if beat is not None and beat.has_ended:
            self._is_alarmed = False
            if is_turn:
                await self._rescue(beat)
            return
        if silent_s < self.silence_s:
            if self._is_alarmed:
                self.say("the runner is back")
            self._is_alarmed = False
            return
        if not self._is_alarmed:
            self._is_alarmed = True
            self.say(f"no sign of life for {silent_s:.0f} s beside {self.journal}")
            self.alerts.post("silent", f"no sign of life beside {self.journal}")
        if beat is not None:
            await self._rescue(beat)

    async def _rescue(self, beat: Beat) -> None:
        if self.account is None or beat.mode != "real":
            return
        done = await self.account.rescued(beat, plans_of(self.journal, self.clock.now_ms()))
        if isinstance(done, Unread):
            self.say(done.reason)
            self.alerts.post("unread", done.reason)
            return
        for sentence in done:
            self.taken.append(sentence)
            self.say(sentence)
            self.alerts.post("rescued", sentence)


class Account:
    """The account, as the watchdog sees it and acts on it.

    Parameters
    ----------
    symbols : that the operator typed; without them nothing is sent.
    """

    def __init__(
        self, rules: AccountRules, signed: SignedRest, public: AsterRest, clock: Clock, symbols: frozenset[str]
    ):
        self._rules, self._public, self._symbols = rules, public, symbols
        self._requests = Requests(signed, clock, RequestBudget(rules.budget), lambda what, detail: None)
        self._reader_of = lambda names: AccountReader(self._requests, clock, names)
        self._tried: set[str] = set()

    async def rescued(self, beat: Beat, plans: "Plans") -> list[str] | Unread:
        """What was done, or would be, in sentences; nothing is taken for flat that could not be read."""
        reading = await self._requests.measure_clock()
        if isinstance(reading, NoAnswer):
            return Unread(reason=f"time: {reading.reason}")
        view = await self._reader_of(beat.symbols).standing(Urgency.CERTAINTY)
        if isinstance(view, Unread):
            return view
        positions, orders = view
        market = await self._market(beat.symbols)
        if isinstance(market, Unread):
            return market
        contracts, marks = market
        rescue = Rescue(
            instance=beat.instance, symbols=beat.symbols, emergency_stop_bps=self._rules.emergency_stop_bps
        )  # fmt: skip
        steps = rescue.steps(positions, orders, plans.by_symbol, contracts, marks, [*plans.used, *self._tried])
        return [sentence for step in steps if (sentence := await self._take(step)) is not None]

    async def _market(self, symbols: tuple[str, ...]) -> tuple[dict[str, Contract], dict[str, float]] | Unread:
        try:
            rules = await self._public.get_json("/fapi/v3/exchangeInfo")
            there = [symbol for symbol in symbols if any(each["symbol"] == symbol for each in rules["symbols"])]
            marks = {
                symbol: float((await self._public.get_json("/fapi/v3/premiumIndex", symbol=symbol))["markPrice"])
                for symbol in there
            }
        except (Unavailable, ValueError, KeyError, TypeError) as error:
            return Unread(reason=f"market: {error}")
        frame, _ = instruments(rules, source="rest")
        rows = {row["symbol"]: row for row in frame.iter_rows(named=True)}
        hedge = self._rules.is_hedge
        return {symbol: contract_of(rows[symbol], is_hedge=hedge) for symbol in symbols if symbol in rows}, marks

    async def _take(self, step: Step) -> str | None:
        match step:
            case Cancel():
                asked = (("symbol", step.symbol), ("origClientOrderId", step.client_order_id))
                return await self._send(
                    "DELETE", step.symbol, asked, f"{step.symbol}: entry {step.client_order_id} back"
                )
            case Place():
                if step.symbol in self._symbols:
                    self._tried.add(step.client_order_id)
                said = f"{step.symbol}: {dict(step.parameters)['type']} {step.client_order_id}"
                return await self._send("POST", step.symbol, step.parameters, said)
        return f"{step.symbol}: {step.detail}"

    async def _send(self, method: str, symbol: str, asked: tuple[tuple[str, str], ...], said: str) -> str:
        if symbol not in self._symbols:
            return f"would send {said}; --send-orders does not name {symbol}"
        urgency = Urgency.EXIT if method == "POST" else Urgency.CERTAINTY
        answer = await self._requests.send(urgency, method, "order", asked)
        if isinstance(answer, NoAnswer):
            return f"sent {said}: {answer.reason}"
        return f"sent {said}: HTTP {answer.status}{'' if answer.status < 300 else ' ' + _words(answer.body)}"


@dataclass(frozen=True, kw_only=True)
class Plans:
    """What a journal knows of open trades: by symbol, and every order id that was used up."""

    by_symbol: Mapping[str, Plan]
    used: tuple[str, ...]


def plans_of(journal: Path, now_ms: int) -> Plans:
    """Read a journal without disturbing whoever writes it; one that cannot be read knows nothing."""
    try:
        events = events_of(read_journal(journal))
    except (ValueError, LookupError, OSError, sqlite3.Error):
        return Plans(by_symbol={}, used=())
    used = tuple(dict.fromkeys(each.client_order_id for each in events if each.client_order_id is not None))
    return Plans(by_symbol={trade.symbol: _plan(trade) for trade in open_trades(events, now_ms)}, used=used)


def _plan(trade: Trade) -> Plan:
    return Plan(trade_id=trade.trade_id, stop_price=float("nan") if trade.levels is None else trade.levels.stop)


def _words(body: bytes) -> str:
    return body[:120].decode(errors="replace")


@click.command()
@click.option("--journal", required=True, type=click.Path(path_type=Path), help="Of the runner that is watched.")
@click.option("--account", "rules_path", type=click.Path(path_type=Path), help="The account's file; none for paper.")
@click.option(
    "--keys", type=click.Path(path_type=Path), help="File of keys of its own, mode 0600; default environment."
)
@click.option("--venue", default="aster", show_default=True, help="aster, loopback, or a loopback's URL.")
@click.option("--send-orders", metavar="SYMBOLS", default="", help="Symbols, typed again, that it may act on.")
@click.option("--silence", "silence_s", type=float, default=SILENCE_S, show_default=True, help="Seconds until it acts.")
@click.option("--look", "look_s", type=float, default=_LOOK_S, show_default=True, help="Seconds between two looks.")
def main(
    journal: Path,
    rules_path: Path | None,
    keys: Path | None,
    venue: str,
    send_orders: str,
    silence_s: float,
    look_s: float,
) -> None:
    """Watch a runner; when it is silent, take entries back and see to it that every position has a stop."""
    symbols = frozenset(symbol.strip() for symbol in send_orders.split(",") if symbol.strip())
    if symbols and rules_path is None:
        raise click.UsageError("--send-orders needs --account: whose account is it?")
    with errors_told(Unavailable), Alerts(destinations(), "watchdog") as alerts:
        told: dict[str, Any] = {"journal": journal, "alerts": alerts, "say": click.echo}
        told |= {"silence_s": silence_s, "look_s": look_s}
        asyncio.run(_watch(told, rules_path, keys, venue, symbols))


async def _watch(
    told: dict[str, Any], rules_path: Path | None, keys: Path | None, place: str, symbols: frozenset[str]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if rules_path is None:
        await Watchdog(**told).run(stop)
        return
    rules, key = load_account_rules(rules_path), signing_key(keys)
    venue: Venue = await venue_of(place)
    clock = RealClock()
    async with (
        AsterRest(venue, clock) as public,
        SignedRest(venue, clock, key, symbols=symbols, chain_id=rules.chain_id) as signed,
    ):
        await Watchdog(**told, account=Account(rules, signed, public, clock, symbols)).run(stop)


if __name__ == "__main__":
    main()
