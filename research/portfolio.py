"""Several symbols on one account: a walk over all of them at once, for limits that couple them.

Row by row. First the entries of all symbols are decided, in the order in which their rows became known, each against
what is held and what was ordered before it in the same row, filled or not. Then every position lives through its
execution bar: what a bar ends is free for the next row. All else is as in ``research.kernel``, symbol by symbol.

The symbols' rows lie behind each other in one array, so that whatever their number one compiled walk serves them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np

from research.daily_loss import NOTHING_BOOKED, booked, is_spent
from research.exposure import NOTHING_HELD, SharedTerms, is_within, with_one_more
from research.fills import (
    OPEN,
    Levels,
    Market,
    Terms,
    Trailing,
    decision_price,
    entry_price,
    entry_quantity,
    exit_in_bar,
    exit_levels,
    fee_usdt,
    funding_paid_usdt,
    gross_pnl_usdt,
    next_entry_row,
    size_multiple,
)
from research.jit import njit
from research.kernel import sweep_inputs
from research.liquidation import exit_price, with_liquidation
from research.resting_bars import refuse_together
from research.strategies.compiled import decide, params_at, row_at
from research.trade_records import TRADE, write_trade


@dataclass(frozen=True, kw_only=True, eq=False)
class Book:
    """One symbol of the account: market, features, params and terms as for ``kernel.simulate``.

    Parameters
    ----------
    multiples : ``sizing.size_multiples``.
    avail_ms : int64, shape (n_rows,), when each row became known.
    """

    market: Market
    features: Mapping[str, np.ndarray]
    params: tuple
    terms: Terms
    multiples: np.ndarray
    avail_ms: np.ndarray


@dataclass(frozen=True, eq=False)
class JointRun:
    """What the symbols did together.

    Attributes
    ----------
    trades : per book a structured array of ``TRADE``; the last may be open (reason OPEN).
    bar_pnl : float64, shape (n_books, n_rows), change of equity per row, USDT, after fees and funding.
    refused : int64, shape (n_books,), entries that the shared limits kept out.
    """

    trades: list[np.ndarray]
    bar_pnl: np.ndarray
    refused: np.ndarray


class _Position(NamedTuple):
    side: int
    quantity: float
    entry_price: float
    entry_row: int
    ordered_usdt: float
    fees_usdt: float
    funding_usdt: float
    unrealised_usdt: float
    is_ambiguous: bool
    levels: Levels
    trailing: Trailing


_FLAT = _Position(
    0, 0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, False, Levels(*[math.nan] * len(Levels._fields)), Trailing(math.nan, False)
)


def simulate(module: ModuleType, books: Sequence[Book], days: np.ndarray, limits: SharedTerms) -> JointRun:
    """Run all books over all of their rows, flat at the start.

    Parameters
    ----------
    module : the strategy of them all.
    books : of the same slots, row by row.
    days : ``daily_loss.days_of`` any of them.

    Raises
    ------
    ValueError
        When the books have different numbers of rows, or entries rest.
    """
    n_rows, n_books = days.size, len(books)
    for book in books:
        refuse_together(book.terms)
    if any(book.market.close.size != n_rows for book in books):
        raise ValueError(f"books of {sorted({book.market.close.size for book in books})} rows: expected {n_rows} each")
    tables, matrices, columns = zip(
        *(sweep_inputs(module, book.features, [book.params]) for book in books), strict=True
    )
    table = np.concatenate(tables)
    matrix = np.concatenate([each[place[0]] for each, place in zip(matrices, columns, strict=True)], axis=1)
    market = Market(*(np.concatenate(column) for column in zip(*(book.market for book in books), strict=True)))
    multiples = np.concatenate([book.multiples for book in books], axis=1)
    order = np.argsort(np.stack([book.avail_ms for book in books], axis=1), axis=1, kind="stable")
    # An exit and the next entry lie at least two rows apart.
    trades = np.zeros((n_books, n_rows // 2 + 2), TRADE)
    bar_pnl, refused = np.zeros((n_books, n_rows)), np.zeros(n_books, np.int64)
    written = _walk(
        module.Params(*table[0].tolist()), table, matrix, np.arange(matrix.shape[0], dtype=np.uint64), market,
        multiples, days, order, _stacked([book.terms for book in books]), limits, trades, bar_pnl, refused,
    )  # fmt: skip
    return JointRun(trades=[own[:n] for own, n in zip(trades, written, strict=True)], bar_pnl=bar_pnl, refused=refused)


def _stacked(terms: Sequence[Terms]) -> Terms:
    """Terms whose every field has a row per book; brackets that a book has fewer of are NaN, which none reaches."""
    brackets = np.full((len(terms), max(len(each.brackets) for each in terms), 2), math.nan)
    for place, each in enumerate(terms):
        brackets[place, : len(each.brackets)] = each.brackets
    fields = (np.array([getattr(each, name) for each in terms]) for name in Terms._fields if name != "brackets")
    return Terms(*fields, brackets=brackets)


@njit
def _terms_at(terms: Terms, book: int) -> Terms:
    return Terms(
        terms.taker_fee_bps[book],
        terms.slippage_bps[book],
        terms.notional_usdt[book],
        terms.max_notional_usdt[book],
        terms.min_notional_usdt[book],
        terms.tick_size[book],
        terms.step_size[book],
        terms.min_quantity[book],
        terms.max_quantity[book],
        terms.entry_limit_ticks[book],
        terms.cooldown_bars[book],
        terms.risk_usdt[book],
        terms.max_daily_loss_usdt[book],
        terms.leverage[book],
        terms.maker_fee_bps[book],
        terms.rest_offset_bps[book],
        terms.rest_ms[book],
        terms.brackets[book],
    )


@njit
def _walk(
    template, table, matrix, columns, market, multiples, days, order, all_terms, limits, trades, bar_pnl, refused
):
    """Fill ``trades``, ``bar_pnl`` and ``refused``; returns how many trades each book has."""
    n_books, n_rows = bar_pnl.shape
    n_trades, next_allowed = np.zeros(n_books, np.int64), np.zeros(n_books, np.int64)
    realised, equity = np.zeros(n_books), np.zeros(n_books)
    positions = [_FLAT for _ in range(n_books)]
    own_days = [NOTHING_BOOKED for _ in range(n_books)]
    shared_day = NOTHING_BOOKED
    for row in range(n_rows):
        day = days[row]
        held = NOTHING_HELD
        for book in range(n_books):
            if positions[book].side != 0:
                held = with_one_more(held, positions[book].ordered_usdt)
        for book in order[row]:
            i = book * n_rows + row
            if positions[book].side != 0 or row < next_allowed[book] or not market.can_enter[i]:
                continue
            params, terms = params_at(template, table, book), _terms_at(all_terms, book)
            decision = decide(row_at(params, matrix, columns, i), 0, params)
            side = decision.side
            if side == 0 or (own_days[book].day == day and is_spent(own_days[book], terms)):
                continue
            price = decision_price(side, i, market)
            quantity = entry_quantity(price, decision, size_multiple(side, i, multiples), terms)
            if quantity <= 0.0:
                continue
            asked = with_one_more(held, price * quantity)
            if not is_within(asked, limits) or (shared_day.day == day and is_spent(shared_day, limits)):
                refused[book] += 1
                continue
            held = asked
            entry = entry_price(side, i, market, terms)
            if math.isnan(entry):
                continue
            levels = exit_levels(side, entry, decision, terms.tick_size)
            levels = with_liquidation(levels, side, entry, quantity, terms)
            fee = fee_usdt(entry, quantity, terms.taker_fee_bps)
            trailing = Trailing(market.exec_open[i], False)
            positions[book] = _Position(
                side, quantity, entry, row, price * quantity, fee, 0.0, 0.0, False, levels, trailing
            )
            realised[book] -= fee
            own_days[book] = booked(own_days[book], day, -fee)
            shared_day = booked(shared_day, day, -fee)

        for book in range(n_books):
            position = positions[book]
            if position.side != 0:
                terms, i = _terms_at(all_terms, book), book * n_rows + row
                after, moved, reason, exit_, at_open = _lived_through(position, i, market, terms)
                if reason != OPEN:
                    write_trade(
                        trades[book, n_trades[book]], position.entry_row, position.entry_row, row, position.side,
                        position.quantity, position.entry_price, exit_, reason, after.fees_usdt, after.funding_usdt,
                        position.levels, after.is_ambiguous, at_open,
                    )  # fmt: skip
                    n_trades[book] += 1
                    next_allowed[book] = next_entry_row(row, terms)
                for amount in moved:
                    realised[book] += amount
                    own_days[book] = booked(own_days[book], day, amount)
                    shared_day = booked(shared_day, day, amount)
                positions[book] = after if reason == OPEN else _FLAT
            value = realised[book] + positions[book].unrealised_usdt
            bar_pnl[book, row] = value - equity[book]
            equity[book] = value

    for book in range(n_books):
        position = positions[book]
        if position.side != 0:
            i = book * n_rows + n_rows - 1
            while math.isnan(market.exec_close[i]):  # the entry's own bar was seen
                i -= 1
            write_trade(
                trades[book, n_trades[book]], position.entry_row, position.entry_row, n_rows - 1, position.side,
                position.quantity, position.entry_price, market.exec_close[i], OPEN, position.fees_usdt,
                position.funding_usdt, position.levels, position.is_ambiguous, False,
            )  # fmt: skip
            n_trades[book] += 1
    return n_trades


@njit
def _lived_through(position, i, market, terms):
    """A position after execution bar ``i``, the money that moved (funding, then what its end brought), and its end:
    reason, price and whether at the open."""
    side, quantity, entry = position.side, position.quantity, position.entry_price
    unrealised, fees, funding = position.unrealised_usdt, position.fees_usdt, position.funding_usdt
    reason, exit_, at_open, is_ambiguous = OPEN, math.nan, False, position.is_ambiguous
    trailing, ended_with, paid = position.trailing, 0.0, 0.0
    if not math.isnan(market.exec_open[i]):
        result = exit_in_bar(side, position.levels, trailing, i, market)
        reason, at_open, trailing = result.reason, result.at_open, result.trailing
        is_ambiguous = is_ambiguous or result.is_ambiguous
        unrealised = gross_pnl_usdt(side, quantity, entry, market.exec_close[i])
        if reason != OPEN:
            exit_ = exit_price(side, result, market.half_spread_bps[i], terms.slippage_bps)
    if market.funding_per_unit[i] != 0.0 and not at_open:
        paid = funding_paid_usdt(side, quantity, market.funding_per_unit[i])
        funding += paid
    if reason != OPEN:
        exit_fee = fee_usdt(exit_, quantity, terms.taker_fee_bps)
        fees += exit_fee
        ended_with = gross_pnl_usdt(side, quantity, entry, exit_) - exit_fee
    after = _Position(
        side, quantity, entry, position.entry_row, position.ordered_usdt, fees, funding, unrealised, is_ambiguous,
        position.levels, trailing,
    )  # fmt: skip
    return after, (-paid, ended_with), reason, exit_, at_open
