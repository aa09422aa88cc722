"""The book behind a predictive map, and what one bar does to it.

One step of the book is one bar of the source; live calls the step that the batch loops over, so both give the same
bits. Masses are base units. They are lazy: what a column holds is its number times the tier's scale, so that closing
half of a tier is one multiplication.
"""

import math

import numpy as np

from research.clusters.grid import BUCKETS, DELTA, HALF_WINDOW, LONG, ON_THE_EDGE, SHORT
from research.clusters.predictive_book import COLUMNS, REMEMBERED_BARS
from research.clusters.tiers import ROOM
from research.jit import njit

RECENTRE_BEYOND = 256  # buckets that the mark may be off the middle of the grid
TOGETHER = ROOM + 1  # buckets of one bar that are deposited in one pass
SMALLEST_SCALE = 1e-100  # then the columns are multiplied out, long before numbers run out


@njit
def _bucket(price: float) -> int:
    return math.floor(math.log(price) / DELTA + ON_THE_EDGE)


@njit
def _clip(value: int, highest: int) -> int:
    return min(max(value, 0), highest)


@njit(forceinline=False)
def _sum(values, begin, end):
    total = 0.0
    for k in range(begin, end):
        total += values[k]
    return total


@njit(forceinline=False)
def _fill(values, begin, end, value):
    for k in range(begin, end):
        values[k] = value


@njit(forceinline=False)
def _centre_on(book, bucket):
    """Move the grid so that ``bucket`` is in its middle; what no longer fits lies beyond it from now on."""
    now = book.now[0]
    first = bucket - COLUMNS // 2
    shift = first - now.first_bucket if now.has_grid else 0
    moved = np.zeros(COLUMNS)
    for side in range(2):
        for tier in range(book.tiers.shape[1]):
            row = book.columns[side, tier]
            _fill(moved, 0, COLUMNS, 0.0)
            for column in range(COLUMNS):
                if 0 <= column - shift < COLUMNS:
                    moved[column - shift] = row[column]
                else:
                    book.tiers[side, tier].beyond += row[column]
            for column in range(COLUMNS):
                row[column] = moved[column]
    book.sides[LONG].nearest = min(COLUMNS - 1, max(-1, book.sides[LONG].nearest - shift))
    book.sides[SHORT].nearest = _clip(book.sides[SHORT].nearest - shift, COLUMNS)
    for column in range(COLUMNS):
        book.prices[column] = math.exp((first + column + 0.5) * DELTA)
    now.first_bucket = first
    now.has_grid = True


@njit(forceinline=False)
def _sweep(book, side, first, last):
    """Liquidate columns [first, last) of one side."""
    for tier in range(book.tiers.shape[1]):
        held = book.tiers[side, tier]
        row = book.columns[side, tier]
        swept = 0.0
        swept_usdt = 0.0
        for column in range(first, last):
            swept += row[column]
            swept_usdt += row[column] * book.prices[column]
            row[column] = 0.0
        held.total = max(0.0, held.total - swept * held.scale)
        book.sides[side].missing += swept * held.scale
        book.sides[side].swept_usdt += swept_usdt * held.scale


@njit(forceinline=False)
def _reconcile(book, tables, version, opened):
    """Bring both sides to the open interest; ``opened[side, tier]`` is what opens then, base units.

    Open interest is not split: every contract has one long and one short. Closing and opening again at today's prices
    is what turnover and time do to positions; a side that holds too much has closed the rest, the same part of all.
    """
    now = book.now[0]
    elapsed_ms = now.time_ms - now.reconciled_ms
    turnovers = now.turnover / now.open_interest if now.open_interest > 0.0 else 0.0
    n_tiers = book.tiers.shape[1]
    stays = np.empty(n_tiers)
    for tier in range(n_tiers):
        rate = tables.tiers[tier]
        stays[tier] = math.exp(-rate.closing_per_ms * elapsed_ms - rate.closing_per_turnover * turnovers)
    for side in range(2):
        total = 0.0
        for tier in range(n_tiers):
            total += book.tiers[side, tier].total
        too_much = now.open_interest / total if total > now.open_interest else 1.0
        total = 0.0
        for tier in range(n_tiers):
            held, left = book.tiers[side, tier], too_much * stays[tier]
            held.total *= left
            held.scale *= left
            total += held.total
            if held.scale < SMALLEST_SCALE:
                row = book.columns[side, tier]
                for column in range(COLUMNS):
                    row[column] *= held.scale
                held.beyond *= held.scale
                held.scale = 1.0
        for tier in range(n_tiers):
            opened[side, tier] = max(0.0, now.open_interest - total) * tables.kernels[version, side, tier].share
            book.tiers[side, tier].total += opened[side, tier]
        book.sides[side].missing = 0.0


@njit(forceinline=False)
def _deposit(columns, parts, amount, n_entries):
    """Add ``n_entries`` buckets' deposits, the lowest first; ``parts`` begins where the highest one's does.

    Four in one pass, as each pass reads and writes all columns; the sums are those of one pass per entry.
    """
    if n_entries == 1:
        for k in range(columns.size):
            columns[k] += amount * parts[k]
    elif n_entries == 2:
        for k in range(columns.size):
            columns[k] = columns[k] + amount * parts[k + 1] + amount * parts[k]
    elif n_entries == 3:
        for k in range(columns.size):
            columns[k] = columns[k] + amount * parts[k + 2] + amount * parts[k + 1] + amount * parts[k]
    else:
        for k in range(columns.size):
            two = columns[k] + amount * parts[k + 3] + amount * parts[k + 2]
            columns[k] = two + amount * parts[k + 1] + amount * parts[k]


@njit(forceinline=False)
def _left_out(side, kernel, parts, low, high, least, most):
    """Parts of the entries' levels that lie off columns [least, most): those in the swept range, those off the grid."""
    below = above = 0.0
    for entry in range(low, high + 1):
        first = entry + kernel.first_offset
        begin, end = _clip(least - first, kernel.n_offsets), _clip(most - first, kernel.n_offsets)
        if side == LONG:
            begin = min(begin, end)
        else:
            end = max(begin, end)
        below += _sum(parts, ROOM, ROOM + begin)
        above += _sum(parts, ROOM + end, ROOM + kernel.n_offsets)
    return (above, below) if side == LONG else (below, above)


@njit(forceinline=False)
def _open(book, tables, version, bar, swept_low, swept_high, opened, share):
    """Deposit a share of what opened at the prices of one bar, every bucket of its range the same.

    ``swept_low`` to ``swept_high`` is the range of the bar and all later ones: levels inside it are gone already.
    """
    now = book.now[0]
    low, high = book.ring[bar].low - now.first_bucket, book.ring[bar].high - now.first_bucket
    swept_low, swept_high = swept_low - now.first_bucket, swept_high - now.first_bucket
    for side in range(2):
        nearest = book.sides[side].nearest
        least, most = (0, swept_low) if side == LONG else (swept_high + 1, COLUMNS)
        for tier in range(book.tiers.shape[1]):
            held, kernel = book.tiers[side, tier], tables.kernels[version, side, tier]
            if kernel.n_offsets == 0:
                continue
            row, parts = book.columns[side, tier], tables.parts[version, side, tier]
            first, after = kernel.first_offset, kernel.first_offset + kernel.n_offsets
            amount = opened[side, tier] * share / (high - low + 1)
            lazy = amount / held.scale
            if low + first < least or high + after > most:
                gone, beyond = _left_out(side, kernel, parts, low, high, least, most)
                held.beyond += lazy * beyond
                held.total -= amount * gone
                book.sides[side].missing += amount * gone
            for entry in range(low, high + 1, TOGETHER):
                last = min(entry + TOGETHER - 1, high)
                begin, end = max(entry + first, least), min(last + after, most)
                if begin < end:
                    part = ROOM + begin - (last + first)
                    _deposit(row[begin:end], parts[part : part + end - begin + last - entry], lazy, last - entry + 1)
                    nearest = max(nearest, end - 1) if side == LONG else min(nearest, begin)
        book.sides[side].nearest = nearest


@njit(forceinline=False)
def _open_since(book, tables, version, opened):
    """Deposit what opened since the last value of open interest, over the bars since then.

    A bar's share is its volume's where all volumes are known, else every bar has the same.
    """
    now = book.now[0]
    oldest = max(0, now.remembered - REMEMBERED_BARS)
    traded = 0.0
    for k in range(oldest, now.remembered):
        traded += book.ring[k % REMEMBERED_BARS].traded  # NaN, and with it the sum, where one is unknown
    last = book.ring[(now.remembered - 1) % REMEMBERED_BARS]
    low, high = last.low, last.high
    for k in range(now.remembered - 1, oldest - 1, -1):
        bar = k % REMEMBERED_BARS
        low, high = min(low, book.ring[bar].low), max(high, book.ring[bar].high)
        share = book.ring[bar].traded / traded if traded > 0.0 else 1.0 / (now.remembered - oldest)
        if share > 0.0:
            _open(book, tables, version, bar, low, high, opened, share)


@njit(forceinline=False)
def step(book, tables, time_ms, avail_ms, mark_high, mark_low, mark_close, volume_usdt, open_interest, is_new):
    """One bar: sweep the old book, bring it to the open interest, deposit what opened. A NaN mark: nobody saw it."""
    now = book.now[0]
    now.bars += 1
    now.time_ms = time_ms
    now.avail_ms = avail_ms
    now.mark = math.nan
    if is_new and not math.isnan(open_interest):
        now.open_interest = open_interest
        now.open_interest_ms = time_ms
        now.is_unused = True
    if not (mark_high > 0.0 and mark_low > 0.0 and mark_close > 0.0):
        return
    now.mark = mark_close
    now.mark_bucket = _bucket(mark_close)
    low, high = _bucket(min(mark_low, mark_close)), _bucket(max(mark_high, mark_close))

    if now.has_grid:
        first, last = max(0, low - now.first_bucket), book.sides[LONG].nearest + 1
        if first < last:
            _sweep(book, LONG, first, last)
            book.sides[LONG].nearest = first - 1
        first, last = book.sides[SHORT].nearest, min(COLUMNS, high - now.first_bucket + 1)
        if first < last:
            _sweep(book, SHORT, first, last)
            book.sides[SHORT].nearest = last
    if not now.has_grid or abs(now.mark_bucket - now.first_bucket - COLUMNS // 2) > RECENTRE_BEYOND:
        _centre_on(book, now.mark_bucket)

    traded = volume_usdt / mark_close
    remembered = book.ring[now.remembered % REMEMBERED_BARS]
    remembered.low, remembered.high, remembered.traded = low, high, traded
    now.remembered += 1
    if not math.isnan(traded):
        now.turnover += traded
    if now.is_unused:
        version = 0
        while version + 1 < tables.valid_from_ms.size and tables.valid_from_ms[version + 1] <= time_ms:
            version += 1
        opened = np.empty(book.tiers.shape)
        _reconcile(book, tables, version, opened)
        _open_since(book, tables, version, opened)
        now.reconciled_ms = time_ms
        now.turnover = 0.0
        now.remembered = 0
        now.is_unused = False


@njit(forceinline=False)
def _show(book, tables, side, begin, end, mass_usdt, leverage):
    """Write window buckets [begin, end) of one side, nothing elsewhere; returns the base units in them."""
    now = book.now[0]
    first = now.mark_bucket - HALF_WINDOW - now.first_bucket + begin
    held = np.zeros(end - begin)
    levered = np.zeros(end - begin)
    for tier in range(tables.tiers.size):
        _add_tier(
            held, levered, book.columns[side, tier, first : first + held.size], book.tiers[side, tier].scale,
            tables.tiers[tier].leverage,
        )  # fmt: skip
    for outside_begin, outside_end in ((0, begin), (end, BUCKETS)):
        _fill(mass_usdt, outside_begin, outside_end, 0.0)
        _fill(leverage, outside_begin, outside_end, math.nan)
    return _write(held, levered, book.prices[first : first + held.size], mass_usdt[begin:end], leverage[begin:end])


@njit(forceinline=False)
def _add_tier(held, levered, row, scale, leverage):
    for k in range(row.size):
        base = row[k] * scale
        held[k] += base
        levered[k] += base * leverage


@njit(forceinline=False)
def _write(held, levered, prices, mass_usdt, leverage):
    for k in range(held.size):
        mass_usdt[k] = held[k] * prices[k]
        leverage[k] = levered[k] / held[k]  # NaN where nothing is
    return _sum(held, 0, held.size)


@njit(forceinline=False)
def snapshot(book, tables, stale_after_ms, out, row):
    """Write what the book shows now into one row of the snapshots, and begin to count swept notional anew."""
    now, shown = book.now[0], out.shown[row]
    has_mark = not math.isnan(now.mark)
    age_ms = now.time_ms - now.open_interest_ms
    shown.time_ms = now.time_ms
    shown.avail_ms = now.avail_ms
    shown.first_bucket = now.mark_bucket - HALF_WINDOW if now.has_grid else 0
    shown.mark = now.mark
    shown.open_interest_usdt = now.open_interest * now.mark
    shown.is_stale = not (has_mark and not math.isnan(now.open_interest) and age_ms <= stale_after_ms)
    placed = 0.0
    for side in range(2):
        begin, end = 0, 0
        if has_mark and side == LONG:
            # A mark that lies exactly on an edge leaves no room for the bucket below it.
            end = HALF_WINDOW if math.exp(now.mark_bucket * DELTA) < now.mark else HALF_WINDOW - 1
        elif has_mark:
            begin, end = HALF_WINDOW + 1, BUCKETS
        placed += _show(book, tables, side, begin, end, out.mass_usdt[row, side], out.leverage[row, side])
        shown.swept_usdt[side] = book.sides[side].swept_usdt
        book.sides[side].swept_usdt = 0.0
    shown.placed_share = placed / (2.0 * now.open_interest) if has_mark and now.open_interest > 0.0 else math.nan


@njit(forceinline=False, nogil=True)
def run(book, tables, bars, every_bars, stale_after_ms, out):
    """Step through all bars, and write a snapshot after each ``every_bars``-th since the book began."""
    row = 0
    for bar in range(bars.size):
        seen = bars[bar]
        step(
            book, tables, seen.time_ms, seen.avail_ms, seen.mark_high, seen.mark_low, seen.mark_close,
            seen.volume_usdt, seen.open_interest, seen.is_new,
        )  # fmt: skip
        if book.now[0].bars % every_bars == 0:
            snapshot(book, tables, stale_after_ms, out, row)
            row += 1
