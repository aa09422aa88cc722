"""Questions to an account, and what the answers say in our words. What could not be read is ``Unread``, never empty."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from data.clock import Clock
from live.brokers.requests import Requests
from live.budget import Urgency
from live.order_evidence import (
    OrderSeen,
    PositionSeen,
    TradeSeen,
    Unread,
    order_of_rest,
    position_of_rest,
    trade_of_rest,
)
from live.reconcile import ExchangeView

BRACKET = ("maintenance_margin_rate", "maintenance_amount_usdt")
_PAGE = 1_000
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Money of the account, USDT, as last told.

    Attributes
    ----------
    maintained_usdt : maintenance margin of single positions, by symbol and position side.
    """

    margin_balance_usdt: float
    maintenance_usdt: float
    available_usdt: float
    maintained_usdt: Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class Income:
    """A row of the account's history: what was paid or taken out is negative."""

    symbol: str
    amount_usdt: float
    time_ms: int
    transaction_id: str
    asset: str = "USDT"


class AccountReader:
    """Reads one account."""

    def __init__(self, requests: Requests, clock: Clock, symbols: Iterable[str]):
        self._requests, self._clock, self._symbols = requests, clock, tuple(symbols)
        self._modes: tuple[bool, bool] | None = None

    def forget_modes(self) -> None:
        """They may have changed."""
        self._modes = None

    async def view(self, urgency: Urgency, since_ms: int, *, has_all_orders: bool) -> ExchangeView:
        """Positions, orders and fills.

        Parameters
        ----------
        since_ms : of orders and fills of our symbols, the exchange's clock; at most seven days ago.
        has_all_orders : also what stands of other symbols.
        """
        is_hedge, is_multi_assets = await self._told_modes(urgency)
        orders = [await self._orders(urgency, "allOrders", symbol, since_ms) for symbol in self._symbols]
        # What was placed before and stands is in no list of new orders.
        standing = (None,) if has_all_orders else self._symbols
        orders += [await self._orders(urgency, "openOrders", symbol) for symbol in standing]
        # Positions before fills: a fill in between is then known, and the position asked for again.
        positions = await self.positions(urgency)
        fills = [await self.fills(urgency, symbol, since_ms) for symbol in self._symbols]
        return ExchangeView(
            positions=positions,
            orders=_joined(orders, lambda order: (order.symbol, order.order_id)),
            fills=_joined(fills, lambda fill: (fill.symbol, fill.trade_id)),
            is_hedge=is_hedge,
            is_multi_assets=is_multi_assets,
        )

    async def standing(self, urgency: Urgency) -> tuple[tuple[PositionSeen, ...], tuple[OrderSeen, ...]] | Unread:
        """Every position, and every order that is open."""
        orders = await self._orders(urgency, "openOrders", None)
        positions = await self.positions(urgency)
        missing = next((each for each in (orders, positions) if isinstance(each, Unread)), None)
        return missing or (positions, orders)

    async def positions(self, urgency: Urgency, symbol: str | None = None) -> tuple[PositionSeen, ...] | Unread:
        """Every position, flat ones too; of one symbol where it is named."""
        asked_ms = self._clock.now_ms()
        asked = () if symbol is None else (("symbol", symbol),)
        rows = await self._requests.read(urgency, "positionRisk", *asked)
        told = _each(rows, lambda row: position_of_rest(row, asked_ms))
        if not isinstance(told, Unread) and not told:
            return Unread(reason="positionRisk: an empty list, where flat positions are told too")
        return told

    async def fills(self, urgency: Urgency, symbol: str, since_ms: int) -> tuple[TradeSeen, ...] | Unread:
        """Fills of a symbol since a time, oldest first, page by page."""
        asked = (("symbol", symbol), ("startTime", str(since_ms)), ("limit", str(_PAGE)))
        found: list[TradeSeen] = []
        while True:
            page = _each(await self._requests.read(urgency, "userTrades", *asked), trade_of_rest)
            if isinstance(page, Unread):
                return page
            found += page
            if len(page) < _PAGE:
                return tuple(found)
            asked = (("symbol", symbol), ("fromId", str(page[-1].trade_id + 1)), ("limit", str(_PAGE)))

    async def figures(self, urgency: Urgency) -> Figures | Unread:
        """Equity and margin."""
        told = await self._requests.read(urgency, "account", kind=dict)
        if isinstance(told, Unread):
            return told
        try:
            return Figures(
                margin_balance_usdt=float(told["totalMarginBalance"]),
                maintenance_usdt=float(told["totalMaintMargin"]),
                available_usdt=float(told["availableBalance"]),
                maintained_usdt={
                    (each["symbol"], each["positionSide"]): float(each["maintMargin"])
                    for each in told.get("positions", ())
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            return Unread(reason=f"account: {type(error).__name__} {error}")

    async def funding(self, urgency: Urgency, since_ms: int) -> tuple[Income, ...] | Unread:
        """Funding since a time."""
        return await self._income(urgency, "FUNDING_FEE", since_ms)

    async def transfers(self, urgency: Urgency, since_ms: int) -> tuple[Income, ...] | Unread:
        """What was put in or taken out since a time, of USDT."""
        rows = await self._income(urgency, "TRANSFER", since_ms)
        return rows if isinstance(rows, Unread) else tuple(row for row in rows if row.asset == "USDT")

    async def fees_bps(self, urgency: Urgency, symbol: str) -> tuple[float, float] | Unread:
        """Of who takes and of who rests, by the account's rates."""
        told = await self._requests.read(urgency, "commissionRate", ("symbol", symbol), kind=dict)
        if isinstance(told, Unread):
            return told
        try:
            return float(told["takerCommissionRate"]) * 1e4, float(told["makerCommissionRate"]) * 1e4
        except (KeyError, TypeError, ValueError) as error:
            return Unread(reason=f"commissionRate: {type(error).__name__} {error}")

    async def brackets(self, urgency: Urgency, symbol: str) -> list[dict[str, float]] | Unread:
        """Maintenance margin by notional, as ``instruments`` has it."""
        told = await self._requests.read(urgency, "leverageBracket", ("symbol", symbol), kind=dict)
        if isinstance(told, Unread):
            return told
        try:
            return [
                dict(zip(BRACKET, (float(step["maintMarginRatio"]), float(step["cum"])), strict=True))
                for step in told["brackets"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            return Unread(reason=f"leverageBracket: {type(error).__name__} {error}")

    async def _income(self, urgency: Urgency, kind: str, since_ms: int) -> tuple[Income, ...] | Unread:
        asked = (("incomeType", kind), ("startTime", str(since_ms)), ("limit", str(_PAGE)))
        return _each(await self._requests.read(urgency, "income", *asked), _income)

    async def _told_modes(self, urgency: Urgency) -> tuple[bool | Unread, bool | Unread]:
        """Hedge and multi-assets mode; asked once, they weigh as much as all the rest."""
        if self._modes is not None:
            return self._modes
        told = []
        for name, field in (("positionSide/dual", "dualSidePosition"), ("multiAssetsMargin", "multiAssetsMargin")):
            answer = await self._requests.read(urgency, name, kind=dict)
            is_told = not isinstance(answer, Unread) and isinstance(answer.get(field), bool)
            told.append(answer[field] if is_told else answer)
        told = [each if isinstance(each, bool | Unread) else Unread(reason=f"a mode, got {each}") for each in told]
        if not any(isinstance(each, Unread) for each in told):
            self._modes = told[0], told[1]
        return told[0], told[1]

    async def _orders(
        self, urgency: Urgency, name: str, symbol: str | None, since_ms: int | None = None
    ) -> tuple[OrderSeen, ...] | Unread:
        asked_ms = self._clock.now_ms()
        asked = [] if symbol is None else [("symbol", symbol)]
        if since_ms is not None:
            asked += [("startTime", str(since_ms)), ("limit", str(_PAGE))]
        return _each(await self._requests.read(urgency, name, *asked), lambda row: order_of_rest(row, asked_ms))


def _each(rows: list[Any] | Unread, read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...] | Unread:
    """Every row; one that cannot be read makes the whole list so."""
    if isinstance(rows, Unread):
        return rows
    try:
        return tuple(read(row) for row in rows)
    except (ValueError, AttributeError) as error:
        return Unread(reason=str(error))


def _joined(lists: list[tuple[T, ...] | Unread], key: Callable[[T], object]) -> tuple[T, ...] | Unread:
    """All rows of several lists, those of later ones in the place of the same of earlier ones."""
    missing = next((each for each in lists if isinstance(each, Unread)), None)
    return missing or tuple({key(row): row for rows in lists for row in rows}.values())


def _income(row: Mapping[str, Any]) -> Income:
    try:
        return Income(
            symbol=row["symbol"], amount_usdt=float(row["income"]), time_ms=int(row["time"]),
            transaction_id=str(row["tranId"]), asset=row.get("asset", "USDT"),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"income: {type(error).__name__} {error} in {str(row)[:200]}") from None
