"""Whatever is asked of an account and whatever the market does, its ledger adds up and its orders keep their word."""

import os
from collections import defaultdict
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from data.loopback import account_modes
from data.loopback.account_events import AccountUpdate, OrderUpdate
from data.loopback.account_orders import CONDITIONAL, LIMIT, MARKET, TRAILING
from data.loopback.query import Refused
from data.tests.account_market import BTC, D, Desk

RUNS = int(os.environ.get("ASTER_ACCOUNT_RUNS", "60"))
PRICES = st.integers(180, 220).map(lambda halves: str(D(halves) / 2))
QUANTITIES = st.integers(1, 12_000).map(lambda steps: str(D(steps) / 1_000))
SIDES = st.sampled_from(["BUY", "SELL"])
BOOKS = st.tuples(st.integers(185, 214), st.integers(1, 4), QUANTITIES, QUANTITIES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), PRICES, QUANTITIES, st.booleans()),
        st.tuples(st.just("mark"), PRICES),
        st.tuples(st.just("book"), BOOKS),
        st.tuples(st.just("fund"), st.integers(-30, 30)),
        st.tuples(st.just("wait"), st.integers(1, 3_000)),
        st.tuples(st.just("countdown"), st.integers(0, 2_000)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("modify"), st.integers(0, 9), PRICES, QUANTITIES),
        st.tuples(st.just("margin"), st.integers(-50, 50), st.booleans()),
        st.tuples(st.just("leverage"), st.integers(1, 100)),
        *[st.tuples(
            st.just("place"), SIDES, st.sampled_from([LIMIT, MARKET, *CONDITIONAL]), PRICES, PRICES, QUANTITIES,
            st.sampled_from(["GTC", "IOC", "FOK", "GTX"]), st.sampled_from(["open", "reduce", "close all"]),
            st.booleans(),
        )] * 8,
    ),
    min_size=10, max_size=60,
)  # fmt: skip


class Witness:
    """Knows the account from its user stream alone, as a client does."""

    def __init__(self, wallet_usdt: Decimal):
        self.wallet_usdt, self.cash_usdt = wallet_usdt, wallet_usdt
        self.amounts = defaultdict(Decimal)
        self.filled = defaultdict(Decimal)
        self.told_ms = 0

    def hear(self, event) -> None:
        assert event.time_ms >= self.told_ms
        self.told_ms = event.time_ms
        if isinstance(event, AccountUpdate):
            if event.reason != "ORDER":
                self.cash_usdt += event.change_usdt
                self.wallet_usdt += event.change_usdt
            assert event.wallet_usdt == self.wallet_usdt
            for holding in event.holdings:
                assert holding.position.amount == self.amounts[holding.position.side]
        elif isinstance(event, OrderUpdate) and event.fill is not None:
            self._filled(event)

    def _filled(self, event: OrderUpdate) -> None:
        order, fill = event.order, event.fill
        side, before = fill.position_side, self.amounts[fill.position_side]
        after = before + (fill.quantity if fill.side == "BUY" else -fill.quantity)
        if order.is_closing:
            assert abs(after) < abs(before)
            assert after * before >= 0
        if order.price is not None and order.type != "LIQUIDATION":
            assert (order.price - fill.price) * order.sign >= 0, "filled beyond its limit"
        self.filled[order.order_id] += fill.quantity
        assert self.filled[order.order_id] == order.filled <= order.quantity
        assert side != "LONG" or after >= 0
        assert side != "SHORT" or after <= 0
        self.amounts[side] = after
        self.wallet_usdt += fill.realised_usdt - fill.commission_usdt
        self.cash_usdt -= (after - before) * fill.price + fill.commission_usdt


@settings(max_examples=RUNS, deadline=None)
@given(steps=STEPS, is_hedge=st.booleans(), is_isolated=st.booleans(), shows_all=st.booleans())
def test_the_ledger_adds_up_whatever_happens(steps, is_hedge, is_isolated, shows_all):
    desk = Desk("400", maker_fee=0.0001, taker_fee=0.00035, shows_all=shows_all)
    account_modes.set_multi_assets(desk.account, True, desk.now_ms)
    account_modes.set_multi_assets(desk.account, False, desk.now_ms)
    if is_hedge:
        account_modes.set_hedge(desk.account, True, desk.now_ms)
    if is_isolated:
        account_modes.set_margin_type(desk.account, BTC, True, desk.now_ms)
    desk.account.news()
    witness = Witness(D(400))
    for step in steps:
        orders_before = dict(desk.account.open)
        try:
            do(desk, is_hedge, *step)
        except Refused as refusal:
            assert refusal.code < 0
            assert desk.account.news() == []
            assert desk.account.open == orders_before
        for event in desk.account.news():
            witness.hear(event)
        check(desk, witness)


def do(desk: Desk, is_hedge: bool, what: str, *told) -> None:
    account, now_ms = desk.account, desk.later()
    chosen = list(account.open.values())
    match what, told:
        case "trade", (price, quantity, by_seller):
            desk.trade(price, quantity, by_seller=by_seller)
        case "mark", (price,):
            desk.mark(price)
        case "book", ((halves, spread, bid, ask),):
            bids, asks = D(halves) / 2, D(halves + spread) / 2
            desk.book(f"{bids}*{bid} {bids - 1}*{ask}", f"{asks}*{ask} {asks + 1}*{bid}")
        case "fund", (rate_bps,):
            account.on_funding(BTC, D(rate_bps) / 10_000, now_ms)
        case "wait", (for_ms,):
            account.on_time(desk.later(for_ms))
        case "countdown", (for_ms,):
            account.count_down(BTC, for_ms, now_ms)
        case "cancel", (number,) if chosen:
            account.cancel(chosen[number % len(chosen)], now_ms)
        case "modify", (number, price, quantity) if chosen:
            account.modify(chosen[number % len(chosen)], D(price), D(quantity), now_ms)
        case "margin", (change, is_long):
            side = ("LONG" if is_long else "SHORT") if is_hedge else "BOTH"
            account_modes.change_isolated_margin(account, BTC, side, D(change), now_ms)
        case "leverage", (leverage,):
            account_modes.set_leverage(account, BTC, leverage, now_ms)
        case "place", asked:
            place(desk, is_hedge, *asked)


def place(desk, is_hedge, side, type, price, stop_price, quantity, time_in_force, purpose, is_long) -> None:
    told = {"time_in_force": time_in_force} if type == LIMIT else {}
    if type in (LIMIT, "STOP", "TAKE_PROFIT"):
        told["price"] = price
    if type == TRAILING:
        told["callback_rate"] = "1"
    elif type in CONDITIONAL:
        told["stop_price"] = stop_price
    if is_hedge:
        told["position_side"] = "LONG" if is_long else "SHORT"
    elif purpose == "reduce":
        told["reduce_only"] = True
    if purpose == "close all" and type in ("STOP_MARKET", "TAKE_PROFIT_MARKET"):
        told |= {"close_position": True, "reduce_only": False}
        quantity = None
    desk.place(side, quantity, type, **told)


def check(desk: Desk, witness: Witness) -> None:
    """The account against what its stream told, and against the arithmetic of money."""
    ledger, mark_price = desk.ledger, desk.ledger.mark(BTC)
    assert ledger.wallet_usdt == witness.wallet_usdt == sum(row.amount_usdt for row in ledger.incomes)
    held = {position.side: position for position in ledger.positions()}
    for side, amount in witness.amounts.items():
        assert held[side].amount == amount
        assert held[side].isolated_usdt == 0 or amount != 0
    # what came in and went out, and what is held at its worth, is the same as balance and unrealised profit
    worth = witness.cash_usdt + sum(witness.amounts.values()) * mark_price
    assert abs(ledger.wallet_usdt + ledger.unrealised_usdt - worth) <= D("1e-7")
    for order in desk.account.open.values():
        assert order.is_open
        assert order.left > 0 or order.close_position
    for order in desk.account.finished.values():
        assert not order.is_open
    ids = [order.client_id for order in desk.account.open.values()]
    assert len(ids) == len(set(ids))
