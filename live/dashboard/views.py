"""The runner's book as answers: positions, account, trades, orders, performance, slippage. Pure."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from data.schema import interval_ms
from live.dashboard import answers
from live.dashboard.book import Adopted, Book, EntryCosts, Held, Sums, net_usdt
from live.dashboard.book import Order as OwnOrder
from live.dashboard.watch import State, Watch
from live.orders import Leg
from live.risk import Level
from research.daily_loss import DAY_MS
from research.fills import gross_pnl_usdt
from research.thin import thin_line

_HOURS_24_MS = 86_400_000
_EQUITY_POINTS = 1_000


def overview(watch: Watch, takes_commands: bool) -> answers.Overview:
    """All of the first screen, of one moment."""
    book, now_ms = watch.book, watch.now_ms
    held = positions(book, watch.pulse.marks, now_ms)
    return answers.Overview(
        runner=runner(watch, takes_commands),
        account=account(watch, held),
        positions=held,
        performance=performance(book, held, now_ms),
        slippage=slippage(book),
        last_trade=trade(book.closed[-1]) if book.closed else None,
        next_decision=next_decision(watch),
        unknown_orders=sum(order.state == "unknown" for order in book.orders.values()),
        naked_today_s=naked_today_s(book, now_ms),
    )


def runner(watch: Watch, takes_commands: bool) -> answers.Runner:
    """What the runner is and does."""
    book, pulse, told = watch.book, watch.pulse, watch.account
    resolutions = {run.resolution for run in book.runs.values()}
    return answers.Runner(
        mode=book.mode,
        state=watch.state,
        level=book.level,
        reason=watch.problem or "; ".join(_reasons(book, watch.now_ms)) or None,
        level_since=moment(book.level_ms),
        now=moment(watch.now_ms),
        heard_age_s=pulse.heard_age_s,
        up_s=watch.up_s,
        head=book.head,
        epoch=watch.began_ms + watch.epoch,
        config_hashes=list(dict.fromkeys(config_hash for config_hash, _ in book.runs)),
        resolution=next(iter(resolutions), None),
        maps=book.maps,
        tick_sizes={symbol: run.instrument["tick_size"] for (_, symbol), run in book.runs.items()},
        takes_commands=takes_commands,
        clock_offset_ms=None if told is None else told.clock_offset_ms,
        weight_used=None if told is None else told.weight_used,
        weight_limit=None if told is None else told.weight_limit,
    )


def _reasons(book: Book, now_ms: int) -> list[str]:
    """Why entries are off. What was said of another day holds no longer."""
    is_spent = book.spent_day == now_ms // DAY_MS
    if book.level is Level.ACTIVE and not is_spent:
        return []
    return [*book.because, *(["the day's loss limit is reached, no entry before 00:00 UTC"] if is_spent else [])]


def positions(book: Book, marks: Mapping[str, float], now_ms: int) -> list[answers.Position]:
    """The open ones, oldest first, valued at the last mark."""
    own = [_own(book, held, marks.get(held.symbol), now_ms) for held in book.positions]
    return own + [_adopted(book, each, marks.get(each.symbol), now_ms) for each in book.adopted.values()]


def _own(book: Book, held: Held, mark: float | None, now_ms: int) -> answers.Position:
    entry = held.body("fill", Leg.ENTRY)
    side, quantity, entry_price, filled_ms = (entry[name] for name in ("side", "quantity", "price", "filled_ms"))
    stop, target, trailing = (held.body("intent", leg) for leg in (Leg.STOP, Leg.TARGET, Leg.TRAILING))
    return _position(
        book, held, side, quantity, entry_price, mark, filled_ms, now_ms,
        stop_price=stop.get("stop_price"),
        target_price=target.get("stop_price"),
        trailing_from_price=trailing.get("activation_price"),
        fees_usdt=entry["fee_usdt"],
        funding_usdt=sum(body["paid_usdt"] or 0.0 for kind, body in held.told if kind == "funding"),
        is_adopted=False,
    )  # fmt: skip


def _adopted(book: Book, found: Adopted, mark: float | None, now_ms: int) -> answers.Position:
    """What it had paid before is not known, and counts as nothing."""
    stops = [order.price for order in book.orders.values() if (order.trade_id, order.leg) == (found.trade_id, "stop")]
    return _position(
        book, found, found.side, found.quantity, found.entry_price, mark, found.time_ms, now_ms,
        stop_price=known(stops[-1]) if stops else None,
        target_price=None,
        trailing_from_price=None,
        fees_usdt=0.0,
        funding_usdt=0.0,
        is_adopted=True,
    )  # fmt: skip


def _position(
    book: Book, one: Held | Adopted, side: int, quantity: float, entry_price: float, mark: float | None,
    since_ms: int, now_ms: int, *, stop_price: float | None, target_price: float | None, **rest: Any,
) -> answers.Position:  # fmt: skip
    run = book.runs[one.config_hash, one.symbol]
    has_stop = any(
        order.trade_id == one.trade_id and order.leg == "stop" and order.state == "open"
        for order in book.orders.values()
    )  # fmt: skip
    notional = quantity * (entry_price if mark is None else mark)
    is_valued = mark is not None and not math.isnan(entry_price)
    return answers.Position(
        symbol=one.symbol,
        side=side_word(side),
        quantity=quantity,
        notional_usdt=known(notional),
        entry_price=known(entry_price),
        mark_price=mark,
        stop_price=stop_price,
        stop_state="held" if has_stop else "missing",
        stop_distance_bps=_distance_bps(mark, stop_price),
        target_price=target_price,
        target_distance_bps=_distance_bps(mark, target_price),
        naked_s=0.0 if has_stop else (now_ms - since_ms) / 1e3,
        unrealised_usdt=gross_pnl_usdt.py_func(side, quantity, entry_price, mark) if is_valued else None,
        margin_usdt=known(notional / run.config["orders"]["leverage"]),
        entry_time=moment(since_ms),
        open_s=max(0.0, (now_ms - since_ms) / 1e3),
        trade_id=one.trade_id,
        config_hash=one.config_hash,
        tick_size=run.instrument["tick_size"],
        step_size=run.instrument["step_size"],
        **rest,
    )


def _distance_bps(mark: float | None, price: float | None) -> float | None:
    return None if mark is None or price is None else abs(price / mark - 1.0) * 1e4


def account(watch: Watch, held: Sequence[answers.Position]) -> answers.Account:
    """Money and exposure; limits are those of all configs together, unknown where one of them has none.

    A real run's day is measured by its account, as its own rule measures it: equity below the day's highest.
    """
    book, now_ms, told = watch.book, watch.now_ms, watch.account
    realised, today = book.sums.net_usdt, _today(book, now_ms)
    unrealised = _unrealised(held)
    orders = [run.config["orders"] for run in book.runs.values()]
    drawdown_usdt = today.net_usdt - today.peak_usdt
    limit_usdt = _sum([each.get("max_daily_loss_usdt") for each in orders])
    if told is not None and told.day_peak_usdt is not None:
        drawdown_usdt, limit_usdt = min(0.0, told.equity_usdt - told.day_peak_usdt), told.daily_loss_limit_usdt
    return answers.Account(
        mode=book.mode,
        balance_usdt=None if told is None else told.equity_usdt,
        available_usdt=None if told is None else told.available_usdt,
        equity_usdt=None if unrealised is None else realised + unrealised,
        realised_usdt=realised,
        unrealised_usdt=unrealised,
        margin_usdt=_sum([position.margin_usdt for position in held], 0.0),
        exposure_usdt=_sum([position.notional_usdt for position in held], 0.0),
        exposure_limit_usdt=_sum([each["max_notional_usdt"] for each in orders]),
        volume_24h_usdt=_volume(book, held, now_ms - _HOURS_24_MS),
        drawdown_today_usdt=drawdown_usdt,
        daily_loss_limit_usdt=limit_usdt,
    )


def _unrealised(held: Sequence[answers.Position]) -> float | None:
    """Of all positions, after the fees and funding paid so far; None while a mark is unknown."""
    if any(position.unrealised_usdt is None for position in held):
        return None
    return sum((each.unrealised_usdt - each.fees_usdt - each.funding_usdt for each in held), 0.0)


def _sum(values: Sequence[float | None], of_none: float | None = None) -> float | None:
    """None where one of them is not known; ``of_none`` where there are none."""
    if not values:
        return of_none
    return None if None in values else sum(values)


def _volume(book: Book, held: Sequence[answers.Position], since_ms: int) -> float:
    """Notional of our own fills since then."""
    recent = _since(book, since_ms)
    exits = sum(row["quantity"] * row["exit_price"] for row in recent)
    entries = sum(row["quantity"] * row["entry_price"] for row in recent if row["entry_time"] >= since_ms)
    return exits + entries + sum(each.quantity * each.entry_price for each in held if not each.is_adopted)


def _since(book: Book, since_ms: int) -> list[dict[str, Any]]:
    """Closed trades with an exit at or after that time."""
    first = bisect_left(book.exited_ms, since_ms)
    return [row for row in book.closed[first:] if row["exit_time"] >= since_ms]


def trade(row: Mapping[str, Any]) -> answers.Trade:
    """A closed trade of the book."""
    return answers.Trade(
        number=row["number"],
        trade_id=row["trade_id"],
        config_hash=row["config_hash"],
        symbol=row["symbol"],
        side=side_word(row["side"]),
        quantity=row["quantity"],
        entry_time=moment(row["entry_time"]),
        exit_time=moment(row["exit_time"]),
        entry_price=row["entry_price"],
        exit_price=row["exit_price"],
        reason=row["reason"],
        gross_usdt=row["gross_pnl_usdt"],
        fees_usdt=row["fees_usdt"],
        funding_usdt=known(row["funding_usdt"]),
        net_usdt=known(row["net_pnl_usdt"]),
    )


def order(own: OwnOrder) -> answers.Order:
    """One of our orders."""
    return answers.Order(
        client_order_id=own.client_order_id,
        trade_id=own.trade_id,
        symbol=own.symbol,
        leg=own.leg,
        type=own.type,
        side="BUY" if own.side > 0 else "SELL",
        quantity=known(own.quantity),
        price=known(own.price),
        state=own.state,
        time=moment(own.time_ms),
    )


def performance(book: Book, held: Sequence[answers.Position], now_ms: int) -> answers.Performance:
    """Sums since the journal began and since 00:00 UTC."""
    sums = book.sums
    return answers.Performance(
        since_start=_money(sums),
        today=_money(_today(book, now_ms)),
        win_rate=sums.wins / sums.trades if sums.trades else None,
        profit_factor=sums.won_usdt / sums.lost_usdt if sums.lost_usdt > 0.0 else None,
        worst_drawdown_usdt=sums.drawdown_usdt,
        unrealised_usdt=_unrealised(held),
    )


def _today(book: Book, now_ms: int) -> Sums:
    """Of the trades that ended since 00:00 UTC."""
    sums = Sums()
    for row in _since(book, now_ms // DAY_MS * DAY_MS):
        sums.add(row)
    return sums


def _money(sums: Sums) -> answers.Money:
    return answers.Money(**{name: getattr(sums, name) for name in answers.Money.model_fields})


def equity(book: Book) -> answers.Equity:
    """Net of closed trades after each exit, in order of time."""
    rows = sorted(book.closed, key=lambda row: row["exit_time"])
    times = np.array([row["exit_time"] for row in rows], dtype=np.float64)
    total = np.cumsum([net_usdt(row) for row in rows], dtype=np.float64)
    if len(times):
        times, total = thin_line(times, total, _EQUITY_POINTS)
    return answers.Equity(points=[(int(time_ms), round(net, 4)) for time_ms, net in zip(times, total, strict=True)])


def slippage(book: Book) -> list[answers.Slippage]:
    """Per symbol that runs, in the order of the configs."""
    symbols = dict.fromkeys(symbol for _, symbol in book.runs)
    return [_slippage(book, symbol, book.entry_costs.get(symbol, EntryCosts())) for symbol in symbols]


def _slippage(book: Book, symbol: str, costs: EntryCosts) -> answers.Slippage:
    model = [run.config["costs"]["slippage_bps"] for run in book.runs.values() if run.symbol == symbol]
    low, median, high = np.quantile(costs.last_bps, (0.1, 0.5, 0.9)) if costs.entries else [None] * 3
    return answers.Slippage(
        symbol=symbol, entries=costs.entries, model_bps=sum(model) / len(model),
        low_bps=low, median_bps=median, high_bps=high,
    )  # fmt: skip


def closing_cost(book: Book, position: answers.Position) -> float:
    """Taker fee and assumed slippage of closing a position at the market, USDT."""
    costs = book.runs[position.config_hash, position.symbol].config["costs"]
    return position.notional_usdt * (costs["taker_fee_bps"] + costs["slippage_bps"]) / 1e4


def next_decision(watch: Watch) -> datetime | None:
    """The next close of a bar that a config decides on; None while the runner does not live."""
    if watch.state in (State.NO_JOURNAL, State.STOPPED):
        return None
    lengths = [interval_ms(run.config["interval"]) for run in watch.book.runs.values()]
    return moment(min((-(-watch.now_ms // length) * length for length in lengths), default=None))


def naked_today_s(book: Book, now_ms: int) -> float:
    """The longest that a position of today has been without its stop; on paper that lies as soon as the entry fills."""
    told_ms = book.naked_ms if book.naked_day == now_ms // DAY_MS else 0
    return max([told_ms / 1e3, *(each.naked_s for each in positions(book, {}, now_ms))])


def side_word(side: int) -> str:
    """long or short."""
    return "long" if side > 0 else "short"


def moment(time_ms: float | None) -> datetime | None:
    """UTC time of milliseconds since 1970."""
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1e3, UTC)


def known(value: float | None) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if value is None or math.isnan(value) else value
