"""What must hold after every run whatever went wrong: I1 to I8 of the fault matrix, in one function."""

import json
from collections import defaultdict
from decimal import Decimal

from data.venues.aster_signed import weight_of
from live.journal import read_journal
from live.orders import order_name
from live.tests.real_run import Run

_MINUTE_MS = 60_000


def check(run: Run, *, naked_ms: int = 1_000, limit: int = 2_400, refused_by_limits: bool = False) -> None:
    """Fails with the invariant's name.

    Parameters
    ----------
    naked_ms : how long a position may have been without a stop; ten seconds after a crash.
    limit : of weight per minute.
    refused_by_limits : the row itself is about 429 and 418.
    """
    check_always(run, limit=limit, refused_by_limits=refused_by_limits)
    naked = [body["naked_ms"] for body in told_of(run, "guarded")]
    assert max(naked, default=0) <= naked_ms, "I2: naked time as we know it"
    for order in run.orders("E"):
        exits = [each for leg in "SXF" for each in run.orders(leg) if each.created_ms >= order.created_ms]
        if order.filled:
            assert exits, "I2: a stop or a close for every entry"
            first_ms = min(each.created_ms for each in exits)
            assert first_ms - order.updated_ms <= naked_ms, "I2: naked time as the exchange has it"
    check_at_rest(run)


def check_always(run: Run, *, limit: int = 2_400, refused_by_limits: bool = False) -> None:
    """I1, I3, I5, I6 and I8, which hold at every moment; of I4 that nothing is in the journal that did not happen."""
    events, orders = _events(run), run.orders()

    names = [order.client_id for order in orders]
    assert len(names) == len(set(names)), "I1: one exchange order per client id"
    wanted, filled = {}, defaultdict(Decimal)
    for kind, trade_id, _, body in events:
        if kind == "intent" and body["leg"] == "E":
            wanted[trade_id] = Decimal(str(body["quantity"]))
    for order in run.orders("E"):
        filled[order_name(order.client_id).trade_id] += order.filled
    assert all(filled[trade] <= wanted[trade] for trade in filled), "I1: no decision is filled twice"

    level, statuses = "ACTIVE", {}
    for kind, _, name, body in events:
        level = body["level"] if kind == "risk" else level
        if kind != "order":
            continue
        if body["status"] == "SENT" and order_name(name).leg == "E":
            assert level == "ACTIVE", "I3: no entry leaves while only exits may"
            assert "UNKNOWN" not in statuses.values(), "I3: no entry leaves while an order's fate is unknown"
        statuses[name] = body["status"]

    happened = {fill.trade_id: fill for fill in run.account.ledger.fills}
    for told in _of(events, "execution"):
        fill = happened[told["execution_id"]]
        known = [Decimal(told[name]) for name in ("price", "quantity", "realised_usdt", "commission")]
        assert known == [fill.price, fill.quantity, fill.realised_usdt, fill.commission_usdt], "I4: fills as they were"

    intended: set[str] = set()
    for kind, _, name, body in events:
        if kind == "intent":
            intended |= {name, *body.get("exits", ())}  # an entry's intent announces the exits of whatever fills
        elif kind == "order" and body["status"] != "INTENT":
            assert name in intended or order_name(name) is None, "I5: an intent before every order"
    assert set(names) <= intended, "I5: the exchange has no order that the journal does not know"

    cancelled = [asked.told.get("origClientOrderId", "") for asked in run.asked if asked.method == "DELETE"]
    assert all(order_name(name) is not None for name in cancelled), "I6: only our own orders are cancelled"

    weights: dict[int, int] = defaultdict(int)
    for asked in run.asked:
        weights[asked.ms // _MINUTE_MS] += weight_of(asked.method, asked.name, tuple(asked.told.items()))
    assert max(weights.values(), default=0) <= 0.9 * limit, "I8: under the limits"
    if not refused_by_limits:
        assert not run.exchange.meter._refusals, "I8: nothing was refused for its number"


def check_at_rest(run: Run) -> None:
    """I4 and I7, which hold once everything was heard."""
    events, ledger = _events(run), run.account.ledger
    held = sum((Decimal(each["quantity"]) * each["side"] for each in _of(events, "execution")), Decimal(0))
    by_hand = sum((Decimal(each["by"]) * _side(events, trade) for kind, trade, _, each in events if kind == "adjusted"),
                  Decimal(0))  # fmt: skip
    assert held + by_hand == run.amount, "I4: our fills are the exchange's position"
    ours = [fill for fill in ledger.fills if fill.order_id in {order.order_id for order in run.orders()}]
    told = {each["execution_id"]: each for each in _of(events, "execution")}
    assert {fill.trade_id for fill in ours} <= told.keys(), "I4: every fill is in the journal"
    booked = sum((Decimal(each["realised_usdt"]) - Decimal(each["commission"]) for each in told.values()), Decimal(0))
    booked += sum((Decimal(repr(each["amount_usdt"])) for each in _of(events, "income")), Decimal(0))
    moved = [row for row in ledger.incomes if row.trade_id in told or row.kind == "FUNDING_FEE"]
    assert booked == sum((row.amount_usdt for row in moved), Decimal(0)), "I4: the ledger, to the last digit"
    if run.amount:
        stops = [order for order in run.orders("S") if order.is_open]
        assert stops, "I7: what is held has its stop, and nobody took it for flat"


def alerts(run: Run) -> set[str]:
    """What a human was told of."""
    return {each["what"] for each in told_of(run, "alert")}


def told_of(run: Run, kind: str) -> list[dict]:
    """Bodies of the journal's events of a kind."""
    rows = read_journal(run.path).select("kind", "body").iter_rows()
    return [json.loads(body) for each, body in rows if each == kind]


def legs(run: Run) -> list[str]:
    """What was filled, as the desks were told."""
    return [body["leg"] for body in told_of(run, "fill")]


def level(run: Run) -> str:
    """The risk level at the end."""
    return str(run.broker.risk.state.level)


def held_and_guarded(run: Run) -> bool:
    """A position, and one stop for it that stands."""
    return bool(run.amount) and sum(order.is_open for order in run.orders("S")) == 1


def _events(run: Run) -> list[tuple[str, str, str, dict]]:
    """Kind, trade id, client order id and body of the journal's events."""
    rows = read_journal(run.path).select("kind", "trade_id", "client_order_id", "body").iter_rows()
    return [(kind, trade_id, name, json.loads(body)) for kind, trade_id, name, body in rows]


def _of(events, kind: str) -> list[dict]:
    return [body for each, _, _, body in events if each == kind]


def _side(events, trade_id: str) -> int:
    return next(body["side"] for kind, trade, _, body in events if (kind, trade) == ("intent", trade_id))
