"""What a real broker remembers: notes of the input log, which become events of the journal and reports to the desks."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from data.clock import Clock
from live import reports
from live.exchange_orders import Place, text
from live.journal import Record
from live.order_state import Order
from live.orders import Report

DeskKey = tuple[str, str]  # config hash and symbol


class Diary:
    """Writes at once: when a call returns, the journal has it, an intent on the disk.

    Parameters
    ----------
    write : puts a note into the input log and has it acted on.

    Attributes
    ----------
    intended : names of orders whose intent the journal has.
    executed : ids of the fills that it has, with their symbols.
    """

    def __init__(self, clock: Clock, write: Callable[..., None]):
        self.intended: set[str] = set()
        self.executed: set[tuple[str, int]] = set()
        self._clock, self._write = clock, write

    def event(
        self, kind: str, symbol: str, trade_id: str | None = None, name: str | None = None, config_hash: str = "",
        **body: Any,
    ) -> None:  # fmt: skip
        """One event of the journal."""
        record = Record(
            ts_ms=self._clock.now_ms(), kind=kind, config_hash=config_hash, symbol=symbol, trade_id=trade_id,
            client_order_id=name, body=body,
        )  # fmt: skip
        self._write("event", event=asdict(record))

    def intent(self, place: Place, trade_id: str, config_hash: str) -> None:
        """An order is about to leave; written once."""
        if place.client_order_id in self.intended:
            return
        self.event("intent", place.symbol, trade_id, place.client_order_id, config_hash, **place.intent)
        self.intended.add(place.client_order_id)

    def changed(self, before: Order, after: Order, trade_id: str, config_hash: str) -> None:
        """What an order has become, and its new fills."""
        for fill in after.trades:
            if (after.symbol, fill.trade_id) not in self.executed:
                self.executed.add((after.symbol, fill.trade_id))
                told = {
                    "execution_id": fill.trade_id, "side": fill.side, "price": text(fill.price),
                    "quantity": text(fill.quantity), "realised_usdt": text(fill.realised_usdt),
                    "commission": None if fill.commission is None else text(fill.commission),
                    "commission_asset": fill.commission_asset, "is_maker": fill.is_maker, "filled_ms": fill.time_ms,
                }  # fmt: skip
                self.event("execution", after.symbol, trade_id, after.client_order_id, config_hash, **told)
        if after.status is not before.status:
            told = {"status": after.status, "filled": text(after.filled)}
            if after.refusal is not None:
                told |= {"code": after.refusal.code, "message": after.refusal.message}
            self.event("order", after.symbol, trade_id, after.client_order_id, config_hash, **told)

    def report(self, desk: DeskKey, report: Report) -> None:
        """Something that a trader has to hear."""
        self._write("report", desk=list(desk), told=reports.told(report))
