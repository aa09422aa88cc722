"""What is done about an account whose runner is silent: entries are taken back, no position stays without a stop. Pure.

Nothing is remembered between two looks: what the account shows is what is acted on, so that a step that got lost is
taken again, and one that worked is not.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from live import exchange_orders
from live.exchange_orders import Contract, Place
from live.order_evidence import OrderSeen, PositionSeen
from live.orders import Leg, client_order_id, next_attempt, order_name
from live.protection import Cancel, Finding
from live.reconcile import digest

_OPEN = ("NEW", "PARTIALLY_FILLED")
_STOPS = ("STOP_MARKET", "STOP")

Step = Cancel | Place | Finding


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the journal knows of a position: its trade, and where its stop was to be; NaN where that is not known."""

    trade_id: str
    stop_price: float


@dataclass(frozen=True, kw_only=True)
class Rescue:
    """Whose account is looked after.

    Attributes
    ----------
    instance : of the runner's order ids: the only entries that are taken back.
    symbols : that it trades; positions of others are left alone.
    emergency_stop_bps : of the entry price, where no plan is known.
    most_stops : attempt after which a position is closed instead; the runner's own is the first.
    """

    instance: str
    symbols: tuple[str, ...]
    emergency_stop_bps: float
    most_stops: int = 2

    def steps(
        self,
        positions: Iterable[PositionSeen],
        orders: Iterable[OrderSeen],
        plans: Mapping[str, Plan],
        contracts: Mapping[str, Contract],
        marks: Mapping[str, float],
        tried: Iterable[str],
    ) -> list[Step]:
        """Everything to do now, entries first.

        Parameters
        ----------
        orders : that are open.
        plans, contracts, marks : by symbol; where the exchange does not tell of one it is left out.
        tried : client order ids that were used up, by the journal or by us.
        """
        orders = [seen for seen in orders if seen.status in _OPEN]
        steps: list[Step] = []
        for seen in orders:
            name = order_name(seen.client_order_id)
            if name is not None and (name.instance, name.leg) == (self.instance, Leg.ENTRY):
                steps.append(Cancel(client_order_id=seen.client_order_id, symbol=seen.symbol))
        used = [*tried, *(seen.client_order_id for seen in orders)]
        for position in positions:
            if position.symbol in self.symbols and position.amount and not _has_stop(position, orders):
                contract, plan = contracts.get(position.symbol), plans.get(position.symbol)
                if contract is None:
                    detail = f"{position.amount} has no stop, and the exchange tells no rules of its contract"
                    steps.append(Finding(kind="naked", symbol=position.symbol, detail=detail, is_urgent=True))
                    continue
                steps += self._protected(position, contract, plan, marks.get(position.symbol, math.nan), used)
        return steps

    def _protected(
        self, position: PositionSeen, contract: Contract, plan: Plan | None, mark: float, used: list[str]
    ) -> list[Step]:
        """A stop for what is held, or the way out where none can stand."""
        side = 1 if position.amount > 0 else -1
        trade_id = plan.trade_id if plan else digest(position.symbol, position.amount, position.told_ms)
        price = math.nan if plan is None else plan.stop_price
        if math.isnan(price):
            price = float(position.entry_price) * (1.0 - side * self.emergency_stop_bps / 1e4)
        tried = next_attempt(used, trade_id, Leg.STOP)
        if side * (mark - price) <= 0.0 or tried > self.most_stops:
            name = client_order_id(self.instance, trade_id, Leg.FLATTEN, next_attempt(used, trade_id, Leg.FLATTEN))
            order = exchange_orders.close(contract, name, Leg.FLATTEN, side, abs(position.amount))
            detail = (
                f"{position.amount} had no stop, and none can stand at {price:g} with the mark at {mark:g}: closing"
            )
        else:
            name = client_order_id(self.instance, trade_id, Leg.STOP, tried)
            order = exchange_orders.stop(contract, name, side, price)
            detail = f"{position.amount} had no stop: one goes to {price:g}"
        return [order, Finding(kind="rescued", symbol=position.symbol, detail=detail, is_urgent=True)]


def _has_stop(position: PositionSeen, orders: Iterable[OrderSeen]) -> bool:
    """An order stands that closes all of it, whoever placed it."""
    side = -1 if position.amount > 0 else 1
    return any(
        seen.symbol == position.symbol
        and seen.side == side
        and seen.position_side == position.position_side
        and seen.type in _STOPS
        and (seen.close_position or seen.quantity - seen.filled >= abs(position.amount))
        for seen in orders
    )
