"""What to ask the exchange about an order whose fate is not known, when to ask it, and when to give it up. Pure.

An order is never sent again to find out. It is asked for by its name, and only when it could not be taken any more, and
neither fills nor position hint at it, or do so long after, is it lost. Even then it is listened for.
"""

from dataclasses import dataclass
from typing import NamedTuple

from live.order_evidence import Unread
from live.order_state import Order, Status

QUERY_AFTER_MS = (250, 500, 1_000, 2_000, 4_000, 8_000)  # after the doubt began; then every 8 s
ANSWER_WITHIN_MS = 5_000  # a request that takes longer is in doubt, whoever waits for it
NONCE_WINDOW_MS = 10_000  # so long after it was signed may the exchange still take an order
SETTLING_MS = 2_000  # on top: for what was taken at the last moment to show
UNEXPLAINED_MS = 10_000  # and more where fills or position hint at it: not found by then, they are somebody else's
WATCHED_MS = 600_000  # so long is a lost order listened for
BACK_MS = 6 * 86_400_000  # the exchange tells orders and fills of seven days, from the time on that it is asked for

ORDER, TRADES = "order", "trades"


class Question(NamedTuple):
    """``order``: GET order by its client id. ``trades``: userTrades of its symbol since it was sent."""

    what: str
    client_order_id: str
    due_ms: int


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an account looked like around an order that is not found.

    Attributes
    ----------
    asked_ms : our clock, when the earlier of the two questions left.
    has_unknown_trade : userTrades of the symbol, from a second before it was sent, show a fill of no known order.
    is_explained : positionRisk has what the known fills add up to.
    """

    asked_ms: int
    has_unknown_trade: bool
    is_explained: bool


def next_question(order: Order) -> Question | None:
    """What to ask about an order next; None when there is nothing to find out."""
    if order.status is Status.UNKNOWN:
        return Question(ORDER, order.client_order_id, _query_due_ms(order, order.doubted_ms))
    if order.status is Status.SENT:
        return Question(ORDER, order.client_order_id, _query_due_ms(order, order.sent_ms + ANSWER_WITHIN_MS))
    if order.is_standing and order.is_cancelling:
        asked_ms = order.cancel_refused_ms
        if asked_ms is None or asked_ms < order.cancel_sent_ms:
            asked_ms = order.cancel_sent_ms + ANSWER_WITHIN_MS
        return Question(ORDER, order.client_order_id, _query_due_ms(order, asked_ms))
    if order.owes_trades:
        return Question(TRADES, order.client_order_id, _query_due_ms(order, order.sent_ms or 0))
    if order.status is Status.PARTIALLY_FILLED and order.doubted_ms is not None:  # the rest may have expired unheard
        return Question(ORDER, order.client_order_id, _query_due_ms(order, order.doubted_ms))
    return None


def settled_ms(order: Order, clock_offset_ms: float) -> int:
    """From when on "not found" means that the order will not come: our clock.

    Parameters
    ----------
    clock_offset_ms : between our clock and the exchange's.
    """
    return order.sent_ms + NONCE_WINDOW_MS + round(abs(clock_offset_ms)) + SETTLING_MS


def is_lost(order: Order, around: Surroundings | Unread, clock_offset_ms: float) -> bool:
    """Nobody took the order and nobody will: not found when it could not come any more, and nothing hints at it.

    A hint counts for a while only. A position that somebody moved by hand would keep the order in doubt for ever, and
    the doubt would keep the position from being set right.
    """
    if order.status not in (Status.SENT, Status.UNKNOWN) or isinstance(around, Unread):
        return False
    is_hinted_at = around.has_unknown_trade or not around.is_explained
    late_ms = settled_ms(order, clock_offset_ms) + (UNEXPLAINED_MS if is_hinted_at else 0)
    was_denied = order.denied_ms is not None and order.denied_ms >= late_ms
    return was_denied and around.asked_ms >= late_ms


def is_watched(order: Order, now_ms: int) -> bool:
    """A lost order is still listened for."""
    return order.status is Status.LOST and now_ms < order.sent_ms + WATCHED_MS


def _query_due_ms(order: Order, since_ms: int) -> int:
    """The first moment of the schedule after the last question."""
    if order.asked_ms is None or order.asked_ms < since_ms:
        return since_ms + QUERY_AFTER_MS[0]
    for after_ms in QUERY_AFTER_MS:
        if since_ms + after_ms > order.asked_ms:
            return since_ms + after_ms
    return order.asked_ms + QUERY_AFTER_MS[-1]
