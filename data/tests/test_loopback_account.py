"""Orders and positions of an account of the loopback exchange, in a market told by hand."""

from types import SimpleNamespace

import pytest

from data.loopback import account_trading
from data.loopback.account_asked import Asked
from data.loopback.query import Query
from data.tests.account_market import BTC, D, Desk, refused


def test_a_market_order_takes_the_book_from_its_best_level_on():
    desk = Desk()
    order = desk.place("BUY", "15")
    assert (order.status, order.filled, order.average_price) == ("FILLED", D(15), D("1510") / 15)
    assert [(fill.price, fill.quantity) for fill in desk.ledger.fills] == [(D("100.5"), D(10)), (D(101), D(5))]
    assert desk.told() == [
        "MARKET NEW NEW", "MARKET TRADE PARTIALLY_FILLED", "account ORDER", "MARKET TRADE FILLED", "account ORDER",
    ]  # fmt: skip


def test_what_was_taken_is_gone_until_the_next_book():
    desk = Desk()
    desk.place("BUY", "10")
    assert desk.place("BUY", "1").average_price == D(101)
    desk.book()
    assert desk.place("BUY", "1").average_price == D("100.5")


def test_a_market_order_ends_at_the_bound_around_the_mark_price():
    desk = Desk(shows_all=True)
    desk.book(asks="100.5*1 106*10")
    order = desk.place("BUY", "3")
    assert (order.status, order.filled) == ("EXPIRED", D(1))
    desk.book(asks="106*10")
    with refused(-4131):
        desk.place("BUY", "1")


def test_behind_the_levels_shown_the_book_goes_on_as_it_ends():
    desk = Desk("100000")
    order = desk.place("BUY", "35")
    assert [fill.price for fill in desk.ledger.fills] == [D("100.5"), D(101), D("101.5"), D(102)]
    assert order.status == "FILLED"


def test_a_limit_order_rests_and_is_filled_by_a_trade_beyond_it():
    desk = Desk()
    order = desk.limit("BUY", "98")
    desk.trade("97.5", "0.4")
    assert (desk.now(order).status, desk.now(order).filled) == ("PARTIALLY_FILLED", D("0.4"))
    desk.trade("97.5", "5")
    assert (desk.now(order).status, desk.now(order).average_price) == ("FILLED", D(98))
    assert desk.ledger.fills[0].is_maker


def test_at_its_price_an_order_waits_for_those_ahead_of_it():
    desk = Desk()
    order = desk.limit("BUY", "99.5")
    desk.trade("99.5", "9")
    assert desk.now(order).filled == 0
    desk.trade("99.5", "1.5")
    assert desk.now(order).filled == D("0.5")


def test_nobody_is_ahead_that_the_book_no_longer_shows():
    desk = Desk()
    order = desk.limit("BUY", "99.5")
    desk.book(bids="99.5*2 99*10")
    desk.trade("99.5", "2.5")
    assert desk.now(order).filled == D("0.5")


def test_a_book_that_comes_to_stand_across_an_order_fills_it_at_its_price():
    desk = Desk()
    order = desk.limit("BUY", "99")
    desk.book(bids="98*1", asks="98.5*0.3 99*0.3 99.5*9")
    assert (desk.now(order).filled, desk.now(order).average_price) == (D("0.6"), D(99))


def test_what_is_left_of_an_immediate_order_expires_and_all_or_nothing_takes_nothing():
    desk = Desk()
    partly = desk.limit("BUY", "100.5", "12", time_in_force="IOC")
    assert (partly.status, partly.filled) == ("EXPIRED", D(10))
    desk.book()
    assert desk.limit("BUY", "100.5", "12", time_in_force="FOK").filled == 0
    assert desk.limit("BUY", "101", "12", time_in_force="FOK").status == "FILLED"


@pytest.mark.parametrize("treatment", ["expire", "refuse"])
def test_a_post_only_order_never_takes(treatment):
    desk = Desk(gtx_crossing=treatment)
    if treatment == "refuse":
        with refused(-5022):
            desk.limit("BUY", "100.5", time_in_force="GTX")
    else:
        assert desk.limit("BUY", "100.5", time_in_force="GTX").status == "EXPIRED"
    assert desk.limit("BUY", "100", time_in_force="GTX").status == "NEW"
    assert desk.ledger.fills == []


def test_reduce_only_is_cut_down_to_the_position_and_refused_without_one():
    desk = Desk()
    with refused(-2022):
        desk.place("SELL", "1", reduce_only=True)
    desk.place("BUY", "2")
    with refused(-2022):
        desk.place("BUY", "1", reduce_only=True)
    order = desk.place("SELL", "5", reduce_only=True)
    assert (order.quantity, order.status, desk.amount()) == (D(2), "FILLED", D(0))


def test_a_resting_reduce_only_order_ends_with_its_position():
    desk = Desk()
    desk.place("BUY", "2")
    resting = desk.limit("SELL", "103", "2", reduce_only=True)
    desk.place("SELL", "2")
    assert desk.now(resting).status == "EXPIRED"


def test_a_resting_reduce_only_order_closes_no_more_than_there_still_is():
    desk = Desk()
    desk.place("BUY", "2")
    resting = desk.limit("SELL", "103", "2", reduce_only=True)
    desk.place("SELL", "1.5")
    desk.trade("103.5", "9", by_seller=False)
    assert (desk.now(resting).status, desk.now(resting).filled, desk.amount()) == ("EXPIRED", D("0.5"), D(0))


@pytest.mark.parametrize(
    ("side", "type", "stop_price", "waits_at", "fires_at"),
    [
        ("SELL", "STOP_MARKET", "99", "99.5", "99"),
        ("BUY", "STOP_MARKET", "101", "100.5", "101"),
        ("SELL", "TAKE_PROFIT_MARKET", "101", "100.5", "101"),
        ("BUY", "TAKE_PROFIT_MARKET", "99", "99.5", "99"),
    ],
)
@pytest.mark.parametrize("working_type", ["CONTRACT_PRICE", "MARK_PRICE"])
def test_a_conditional_order_fires_at_its_stop_price_of_the_price_it_watches(
    side, type, stop_price, waits_at, fires_at, working_type
):
    desk = Desk()
    moves, stays = (desk.mark, desk.trade) if working_type == "MARK_PRICE" else (desk.trade, desk.mark)
    order = desk.place(side, "1", type, stop_price=stop_price, working_type=working_type)
    moves(waits_at)
    stays(fires_at)
    assert (desk.now(order).status, desk.now(order).type) == ("NEW", type)
    moves(fires_at)
    assert (desk.now(order).status, desk.now(order).type, desk.now(order).original_type) == ("FILLED", "MARKET", type)


def test_a_stop_with_a_limit_rests_at_its_price_once_fired():
    desk = Desk()
    order = desk.place("BUY", "1", "STOP", stop_price="102", price="100")
    desk.trade("102")
    assert (desk.now(order).type, desk.now(order).status) == ("LIMIT", "NEW")


def test_a_conditional_order_that_would_fire_at_once_is_refused():
    desk = Desk()
    for side, type, stop_price in (("SELL", "STOP_MARKET", "100"), ("BUY", "TAKE_PROFIT_MARKET", "100.5")):
        with refused(-2021):
            desk.place(side, "1", type, stop_price=stop_price)
    with refused(-2021):
        desk.place("SELL", "1", "TRAILING_STOP_MARKET", callback_rate="1", activation_price="100")


def test_a_protected_order_waits_until_mark_and_last_price_agree():
    desk = Desk()
    order = desk.place("SELL", "1", "STOP_MARKET", stop_price="94", price_protect=True)
    desk.trade("93")
    assert desk.now(order).status == "NEW"
    desk.mark("94")
    assert desk.now(order).status == "FILLED"


def test_a_trailing_stop_follows_the_best_price_since_its_activation():
    desk = Desk()
    order = desk.place("SELL", "1", "TRAILING_STOP_MARKET", callback_rate="1", activation_price="101")
    for price in ("98", "100.5", "99"):
        desk.trade(price)
    assert (desk.now(order).status, desk.now(order).extreme) == ("NEW", None)
    for price in ("101", "104", "103"):
        desk.trade(price)
    assert (desk.now(order).status, desk.now(order).extreme) == ("NEW", D(104))
    desk.trade("102.5")
    assert desk.now(order).status == "FILLED"


def test_a_trailing_stop_without_activation_is_active_from_the_price_at_its_placing():
    desk = Desk()
    order = desk.place("BUY", "1", "TRAILING_STOP_MARKET", callback_rate="1")
    assert order.extreme == D(100)
    desk.trade("101")
    assert desk.now(order).status == "FILLED"


def test_a_close_all_order_closes_what_there_is_when_it_fires():
    desk = Desk()
    stop = desk.place("SELL", None, "STOP_MARKET", stop_price="99", close_position=True)
    desk.place("BUY", "2")
    desk.place("BUY", "1")
    desk.trade("99")
    assert (desk.now(stop).status, desk.now(stop).quantity, desk.amount()) == ("FILLED", D(3), D(0))
    again = desk.place("SELL", None, "STOP_MARKET", stop_price="98", close_position=True)
    desk.trade("98")
    assert desk.now(again).status == "EXPIRED"


def test_what_is_not_known_of_close_all_orders_is_a_setting():
    with refused(-2022):
        Desk(close_all_needs_position=True).place("SELL", None, "STOP_MARKET", stop_price="99", close_position=True)
    desk = Desk(close_all_stands_alone=True, close_all_ends_when_flat=True)
    desk.place("BUY", "1")
    stop = desk.place("SELL", None, "STOP_MARKET", stop_price="99", close_position=True)
    with refused(-4130):
        desk.place("SELL", None, "STOP_MARKET", stop_price="98", close_position=True)
    desk.place("SELL", "1")
    assert desk.now(stop).status == "EXPIRED"


def test_hedge_mode_keeps_two_positions_and_closing_one_leaves_the_other():
    desk = Desk()
    desk.ledger.is_hedge = True
    with refused(-4061):
        desk.place("BUY", "1")
    desk.place("BUY", "2", position_side="LONG")
    desk.place("SELL", "1", position_side="SHORT")
    assert (desk.amount("LONG"), desk.amount("SHORT")) == (D(2), D(-1))
    with refused(-1106):
        desk.place("SELL", "1", position_side="LONG", reduce_only=True)
    desk.place("SELL", "9", position_side="LONG")
    assert (desk.amount("LONG"), desk.amount("SHORT")) == (D(0), D(-1))
    with refused(-2022):
        desk.place("SELL", "1", position_side="LONG")


def test_own_orders_do_not_meet():
    for mode, resting_ends, taker_ends in (
        ("EXPIRE_TAKER", False, True), ("EXPIRE_MAKER", True, False), ("EXPIRE_BOTH", True, True),
    ):  # fmt: skip
        desk = Desk()
        own = desk.limit("SELL", "100")
        taker = desk.place("BUY", "1", stp_mode=mode)
        assert (desk.now(own).status == "EXPIRED", taker.status == "EXPIRED") == (resting_ends, taker_ends), mode


def test_a_changed_order_keeps_its_id_and_a_refused_change_leaves_it():
    desk = Desk()
    order = desk.limit("BUY", "98")
    desk.account.modify(order, D(99), D(2), desk.later())
    assert (desk.now(order).price, desk.now(order).quantity, desk.now(order).status) == (D(99), D(2), "NEW")
    with refused(-4014):
        desk.account.modify(desk.now(order), D("99.2"), D(2), desk.later())
    assert desk.now(order).price == D(99)


def test_a_countdown_cancels_the_orders_of_its_contract_unless_it_is_renewed():
    desk = Desk()
    order = desk.limit("BUY", "98")
    stop = desk.place("SELL", "1", "STOP_MARKET", stop_price="97")
    desk.account.count_down(BTC, 1_000, desk.now_ms)
    desk.account.on_time(desk.later(999))
    desk.account.count_down(BTC, 1_000, desk.now_ms)
    desk.account.on_time(desk.later(999))
    assert desk.now(order).status == "NEW"
    desk.account.on_time(desk.later(1))
    assert (desk.now(order).status, desk.now(stop).status) == ("CANCELED", "CANCELED")


def test_a_client_id_is_free_again_once_its_order_is_over():
    desk = Desk()
    order = desk.limit("BUY", "98", client_id="wb-1")
    with refused(-4116):
        desk.limit("BUY", "97.5", client_id="wb-1")
    desk.account.cancel(order, desk.later())
    again = desk.limit("BUY", "97.5", client_id="wb-1")
    assert desk.account.order(BTC, None, "wb-1") == again != order


def test_an_order_that_ended_without_a_fill_is_forgotten_after_a_week():
    desk = Desk()
    order = desk.account.cancel(desk.limit("BUY", "98"), desk.later())
    office, week_ms = SimpleNamespace(accounts=[desk.account], symbols=(BTC,)), 7 * 86_400_000

    def asked(later_ms: int) -> str:
        query = Query({"symbol": BTC, "orderId": str(order.order_id)}, (BTC,))
        return account_trading.order(Asked(office, 0, query, order.updated_ms + later_ms)).answer()

    assert '"status":"CANCELED"' in asked(week_ms)
    with refused(-2013):
        asked(week_ms + 1)
