"""A real run in a process of its own, which kills itself at a point of the fault matrix's row F12."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from data.venues.aster_signed import SignedRest
from data.venues.signing import AgentKey
from data.wal import Log
from live import real
from live.account_rules import AccountRules
from live.backup import back_up
from live.brokers.aster import AsterAccount
from live.config import load_chosen
from live.journal import Journal, feed_folder
from live.orders import order_name
from live.tests.real_run import BTC, flatten


class Point(NamedTuple):
    """A request at which a run is killed: method, name, and leg of its order; empty: any."""

    method: str
    name: str
    leg: str = ""
    left: int = 0  # so many go through first
    is_before: bool = False  # nothing of it leaves
    is_after: bool = False  # it was answered, and nobody was told; else a moment after it began


POINTS = {
    "K0": Point("POST", "order", "E", is_before=True),  # intent committed
    "K1": Point("POST", "order", "E"),  # bytes sent
    "K2": Point("POST", "order", "E", is_after=True),  # acknowledged, not journaled
    "K3": Point("POST", "order", "S", is_before=True),  # filled, stop not sent
    "K4": Point("POST", "order", "S"),  # stop sent, not acknowledged
    "K5": Point("POST", "order", "T", is_before=True),  # stop stands, target does not
    "K6": Point("DELETE", "order", is_before=True),  # exit filled, siblings open
    "K7": Point("DELETE", "order", left=1),  # between two cancellations
    "K8": Point("POST", "order", "X"),  # in the middle of a flatten, which begins as the exits stand
    "K9": Point("POST", "order", "R", is_after=True),  # in the middle of a copy of the journal
    "KE": Point("POST", "order", "E", is_after=True),  # an entry rests
    "KR": Point("GET", "positionRisk"),  # in the middle of a reconciliation
}


class DyingRest(SignedRest):
    """Signed requests of a run that is about to be killed."""

    point: str
    after_s: float
    journal: Path
    account: AsterAccount
    left = 0

    async def send(self, method, name, parameters=(), within_s=2.0):
        point = POINTS[self.point]
        told = dict(parameters)
        named = order_name(told.get("newClientOrderId", told.get("origClientOrderId", "")))
        leg = "" if named is None else named.leg.value
        is_it = (method, name) == point[:2] and point.leg in ("", leg)
        if is_it and DyingRest.left:
            DyingRest.left, is_it = DyingRest.left - 1, False
        if is_it and point.is_before:
            _die()
        loop = asyncio.get_running_loop()
        if is_it and not point.is_after:
            loop.call_later(self.after_s, _die)
        answer = await super().send(method, name, parameters, within_s)
        if is_it and self.point == "K9":
            loop.run_in_executor(None, back_up, self.journal, datetime(2026, 1, 6, tzinfo=UTC))
            loop.call_later(self.after_s, _die)
        elif is_it and point.is_after:
            _die()
        if self.point == "K8" and (method, leg) == ("POST", "R"):
            flatten(self)
        return answer

    @property
    def broker(self) -> AsterAccount:
        """The account at work."""
        return self.account


def killed(url: str, key: str, chosen: Path, path: Path, rules: AccountRules, point: str, after_s: float) -> None:
    """Trade until the point is reached, and so much longer.

    Parameters
    ----------
    url : of the exchange. key : of the agent. chosen : the promoted config. path : of the journal.
    rules : of the account.
    """
    DyingRest.point, DyingRest.after_s, DyingRest.journal = point, after_s, path
    DyingRest.left = POINTS[point].left
    restore = AsterAccount.restore

    def restored(account, *asked):
        DyingRest.account = account
        restore(account, *asked)

    AsterAccount.restore = restored
    real.SignedRest = DyingRest
    config = load_chosen(chosen).config
    with Log(feed_folder(path)) as log, Journal(path, log.settle) as journal:
        asyncio.run(
            real.session([config], frozenset({BTC}), rules, AgentKey(key), url, log, journal, asyncio.Event(),
                    lambda told: None, lake=None, run_length_s=1200.0)
        )  # fmt: skip


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
