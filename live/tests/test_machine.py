"""The runner on the loopback exchange under random sequences of events, faults and restarts: no invariant breaks.

``ASTER_MACHINE_RUNS=2000`` runs so many sequences, ``ASTER_MACHINE_SEED=7`` others than those of seed 0; without them
a few, always the same.
"""

import json
import os
import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from data.loopback.account_orders import NewOrder
from data.loopback.faults import Faults, RequestFault, StreamFault
from live.commands import WITH_SYMBOL
from live.journal import read_journal
from live.tests.conftest import a_config
from live.tests.invariants import check_always, check_at_rest
from live.tests.real_run import BTC, often
from live.tests.stepped_run import GRACE_MS, Stepped
from research.resting import RestingEntry

RUNS = int(os.environ.get("ASTER_MACHINE_RUNS", "4"))
SEED = int(os.environ.get("ASTER_MACHINE_SEED", "0"))
STEPS = 16
USER = "user*"  # names of accounts' streams
REST_S = 150.0  # until everything is heard: a ban, two audits and a lost order
AUDITS_S = 75.0  # two, until a fill is found of which a dead stream said nothing
NAKED_MS = 1_000
EAGER = {"momentum_multiple": 0.05, "volume_multiple": 0.1}  # enters at almost every bar
REFUSALS = (-2021, -4045, -1111, -4061, -2019, -2022)
D = Decimal

SECONDS = st.integers(1, 45)
WITHOUT_ANSWER = st.sampled_from(
    ["status", "status_after", "status_later", "html", "error_object", "cut_before", "cut_after"]
)
ASKED = st.sampled_from([
    ("POST", "order"), ("POST", "order"), ("DELETE", "order"), ("GET", "order"), ("GET", "positionRisk"),
    ("GET", "openOrders"), ("GET", "allOrders"), ("GET", "userTrades"), ("GET", "account"),
    ("POST", "listenKey"), ("*", "*"),
])  # fmt: skip
POINTS = st.tuples(
    st.sampled_from(["before", "under way", "after"]),
    st.sampled_from([
        ("POST", "E"), ("POST", "S"), ("POST", "T"), ("POST", "R"), ("POST", "X"), ("DELETE", "T"), ("DELETE", "S"),
        ("DELETE", "R"), ("GET", "positionRisk"), ("GET", "openOrders"),
    ]),
)  # fmt: skip
RESTING = st.one_of(
    st.none(),
    st.builds(
        RestingEntry, offset_bps=st.sampled_from([-1.0, 0.0, 3.0]), lifetime_ms=st.sampled_from([2_000, 20_000, 90_000])
    ),
)
COMMANDS = st.sampled_from(["resume", "resume", "pause", "reduce", "flatten", "close", "ack"])


class RunnerOnLoopback(RuleBasedStateMachine):
    """Every step is something that happens to a runner which trades all the time.

    What is drawn depends on nothing that the runner did: where nothing is held, nothing is closed.
    """

    was_paid = False
    is_sound = False  # no step is half taken, and none has broken anything

    @initialize(
        is_hedge=st.booleans(), shows_all=st.booleans(), ends_when_flat=st.booleans(), needs_position=st.booleans(),
        stands_alone=st.booleans(), expires=st.sampled_from(["refuse", "expire"]), resting=RESTING,
    )  # fmt: skip
    def begin(self, is_hedge, shows_all, ends_when_flat, needs_position, stands_alone, expires, resting):
        self.folder = tempfile.TemporaryDirectory(prefix="aster-machine-")
        accounts = {
            "shows_all": shows_all, "close_all_ends_when_flat": ends_when_flat, "gtx_crossing": expires,
            "close_all_needs_position": needs_position, "close_all_stands_alone": stands_alone,
        }  # fmt: skip
        path = Path(self.folder.name) / "real.sqlite"
        self.at = Stepped(often(a_config, **EAGER, resting=resting), path, is_hedge, accounts)
        self.at.lets_pass(45)  # the first bar

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.at.lets_pass(seconds)

    @rule(bps=st.integers(-60, 60), mark_bps=st.one_of(st.none(), st.integers(-60, 60)))
    def the_price_jumps(self, bps, mark_bps):
        last = self.at.run.account.books[BTC].last_price
        price, mark = (
            None if by is None else (last * (10_000 + by) / 10_000).quantize(D("0.1")) for by in (bps, mark_bps)
        )
        self.at.happens(lambda: self.at.run.moves(price, mark=mark))
        self.at.lets_pass(2)

    @rule(quantity=st.sampled_from(["0.001", "0.004", "0.02"]))
    def the_book_is_thin(self, quantity):
        book = self.at.run.account.books[BTC]
        sides = [[(side[0][0], D(quantity))] for side in (book.bids, book.asks)]
        self.at.happens(lambda: self.at.run.account.on_book(BTC, *sides, self.at.now_ms))

    @rule(kind=WITHOUT_ANSWER, asked=ASKED, count=st.integers(1, 3), for_s=st.integers(1, 20))
    def requests_come_to_nothing(self, kind, asked, count, for_s):
        method, path = asked
        told = {"count": count, "for_s": float(for_s), "delay_s": 4.0}
        self._requests(RequestFault(kind=kind, method=method, path=path, **told))
        self.at.lets_pass(for_s)

    @rule(code=st.sampled_from(REFUSALS), count=st.integers(1, 3), for_s=st.integers(1, 60))
    def orders_are_refused(self, code, count, for_s):
        told = {"status": 400, "code": code, "count": count, "for_s": float(for_s)}
        self._requests(RequestFault(kind="status", method="POST", path="order", **told))
        self.at.lets_pass(5)

    @rule(status=st.sampled_from([429, 418, 403]), for_s=st.integers(5, 30))
    def the_exchange_wants_silence(self, status, for_s):
        self._requests(
            RequestFault(kind="status", status=status, count=1, for_s=float(for_s), retry_after_s=float(for_s))
        )
        self.at.excuse(60 + for_s)  # of a 429, until the minute is over
        self.at.lets_pass(for_s)

    @rule(
        kind=st.sampled_from(["drop", "duplicate", "late", "malformed", "unknown_event", "new_field"]),
        streams=st.sampled_from([USER, USER, "btcusdt@*"]), rate=st.sampled_from([0.3, 1.0]), for_s=st.integers(1, 60),
    )  # fmt: skip
    def messages_are_troubled(self, kind, streams, rate, for_s):
        told = {"rate": rate, "for_s": float(for_s), "by_s": 0.7}
        self._streams(StreamFault(kind=kind, streams=streams, **told), for_s if streams == USER else 0)

    @rule(kind=st.sampled_from(["silence", "half_open", "cut"]))
    def the_account_s_stream_dies(self, kind):
        self._streams(StreamFault(kind=kind, streams=USER), 40)

    @rule(outage_s=st.integers(0, 90))
    def connections_break(self, outage_s):
        began_ms = self.at.now_ms
        self.at.do(self.at.exchange.cut(float(outage_s)))
        self.at.excused.append((began_ms, self.at.now_ms + GRACE_MS))
        self.at.lets_pass(2)

    @rule()
    def the_listen_key_expires(self):
        self.at.do(self.at.exchange.expire_listen_key())
        self.at.excuse(3)  # what rests may fill before the new stream is open, and the market takes steps of a second
        self.at.lets_pass(2)

    @rule(offset_ms=st.sampled_from([-5_000, -1_000, 0, 0, 1_000, 5_000]))
    def the_exchange_s_clock_steps(self, offset_ms):
        self.at.exchange.set_clock(offset_ms)
        self.at.excuse(5)
        self.at.lets_pass(5)

    @rule(rate=st.sampled_from(["0.0001", "-0.0003"]))
    def funding_is_due(self, rate):
        self.was_paid = True
        self.at.happens(lambda: self.at.run.account.on_funding(BTC, D(rate), self.at.now_ms))

    @rule(amount=st.sampled_from([-500, 700]))
    def money_comes_or_goes(self, amount):
        self.at.do(self.at.exchange.deposit(0, amount))

    @rule(parts=st.sampled_from([1, 2, 3]))
    def the_operator_closes_by_hand(self, parts):
        def close():
            for held in self._held()[:1]:
                quantity = max(D("0.001"), (abs(held.amount) / parts).quantize(D("0.001")))
                side = "SELL" if held.amount > 0 else "BUY"
                asked = NewOrder(symbol=BTC, side=side, type="MARKET", quantity=quantity, position_side=held.side)
                self.at.run.account.place(asked, self.at.now_ms)

        self.at.happens(close)
        self.at.lets_pass(3)

    @rule()
    def the_exchange_deleverages(self):
        def deleverage():
            for held in self._held()[:1]:
                self.at.exchange.office.deleverage(0, BTC, held.side)

        self.at.happens(deleverage)

    @rule(command=COMMANDS)
    def the_operator_commands(self, command):
        self.at.command(command, BTC if command in WITH_SYMBOL else None)
        self.at.lets_pass(1)

    @rule(silent_s=st.sampled_from([0, 1, 8, 40]))
    def the_runner_is_killed(self, silent_s):
        self.at.kill(float(silent_s))
        self.at.lets_pass(1)

    @rule(point=POINTS)
    def the_runner_will_be_killed_at_a_request(self, point):
        when, (method, what) = point
        self.at.dies_at = when, method, what

    @rule(silent_s=st.sampled_from([0, 20]))
    def the_runner_is_stopped_and_started(self, silent_s):
        self.at.stop(float(silent_s))
        self.at.lets_pass(1)

    @invariant()
    def nothing_is_broken(self):
        if not hasattr(self, "at"):
            return
        self.is_sound = False
        check_always(self.at.run, refused_by_limits=True)
        assert self.at.naked_ms() <= NAKED_MS, "I2: naked without an excuse"
        self.is_sound = True

    def teardown(self):
        if not hasattr(self, "at"):
            return
        try:
            if self.is_sound:
                self._comes_to_rest()
        finally:
            self.at.close()
            self.folder.cleanup()

    def _comes_to_rest(self):
        self.at.dies_at = None
        self.at.exchange.set_clock(0)
        self.at.exchange._request_trouble._active.clear()
        self.at.command("pause")
        if self.was_paid:  # nothing but a new connection shows that a dead one has not told it
            self.at.do(self.at.exchange.cut())
        self.at.lets_pass(REST_S)
        self.at.writes()
        while self._last_fill_ms() > self.at.now_ms - AUDITS_S * 1_000:  # exits alone: it is paused
            self.at.lets_pass(AUDITS_S)
            self.at.writes()  # then the market stands still until the run has been looked at
        check_always(self.at.run, refused_by_limits=True)
        check_at_rest(self.at.run)
        statuses = {name: json.loads(body)["status"] for name, body in self._orders_told()}
        assert not {"SENT", "UNKNOWN"} & set(statuses.values()), "an order is left in doubt"
        if not self.at.run.amount:
            assert not [each for each in self.at.run.orders() if each.is_open], "an order of ours stands over nothing"

    def _orders_told(self):
        rows = read_journal(self.at.path).select("kind", "client_order_id", "body").iter_rows()
        return [(name, body) for kind, name, body in rows if kind == "order"]

    def _requests(self, fault):
        self.at.do(self.at.exchange.trouble(Faults(requests=(fault,))))
        self.at.excuse(fault.for_s + GRACE_MS / 1_000)

    def _streams(self, fault, excused_s):
        self.at.do(self.at.exchange.trouble(Faults(streams=(fault,))))
        self.at.excuse(excused_s)
        self.at.lets_pass(5)

    def _last_fill_ms(self):
        return max((fill.time_ms for fill in self.at.run.account.ledger.fills), default=0)

    def _held(self):
        return [each for each in self.at.run.account.ledger.positions(BTC) if each.amount]


def test_no_sequence_of_events_faults_and_restarts_breaks_an_invariant():
    run_state_machine_as_test(
        seed(SEED)(RunnerOnLoopback) if SEED else RunnerOnLoopback,
        settings=settings(
            max_examples=RUNS, stateful_step_count=STEPS, derandomize=not SEED, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), print_blob=False, phases=[Phase.generate],
        ),
    )  # fmt: skip
