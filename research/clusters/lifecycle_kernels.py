"""The loop behind ``research.clusters.lifecycle``: bars and snapshots in order of time, clusters kept, rows written.

Everything it changes is in ``Book``. It stops where its output is full and goes on from there, so its
memory does not grow with the number of snapshots.
"""

import math

import numpy as np

from research.clusters.grid import DELTA, LONG, ON_THE_EDGE
from research.clusters.lifecycle_book import (
    ACTIVE,
    BROKEN,
    CANDIDATE,
    CAPACITY,
    CONSUMED,
    FADED,
    MERGED,
    NOBODY,
    RESUMED,
    SPLIT,
    STALE,
    TOUCHED,
)
from research.jit import njit


@njit
def _bucket_of(price):
    return math.floor(math.log(price) / DELTA + ON_THE_EDGE)


@njit(forceinline=False)
def _mass_between(book, side, lo, hi):
    """Mass of the last profile in buckets [lo, hi]."""
    first = book.first_bucket[0]
    total = 0.0
    for column in range(max(lo - first, 0), min(hi - first + 1, book.mass_usdt.shape[1])):
        total += book.mass_usdt[side, column]
    return total


@njit(forceinline=False)
def _log(book, out, event, side, cluster, time_ms, avail_ms, from_ms, mark, parent_id):
    """Append an event. It cannot be known before the map that it is about was."""
    clock = book.clock[0]
    row = out.events[out.n[1]]
    row.event_id = clock.next_event_id
    row.event = event
    row.time_ms = time_ms
    row.avail_ms = max(avail_ms, cluster.seen_avail_ms)
    row.from_ms = from_ms
    row.side = side
    row.left_usdt = _mass_between(book, side, cluster.left_lo, cluster.left_hi)
    row.mark = mark
    row.parent_id = parent_id
    out.event_clusters[out.n[1]] = cluster
    clock.next_event_id += 1
    out.n[1] += 1


@njit
def _is_over(cluster):
    return BROKEN <= cluster.state <= CONSUMED


@njit(forceinline=False)
def _make_stale(book, out, time_ms, avail_ms, mark):
    for side in range(2):
        for i in range(book.n_live[side]):
            cluster = book.live[side, i]
            if not cluster.is_stale and not _is_over(cluster):
                cluster.is_stale = True
                cluster.heavy_slots = 0
                _log(book, out, STALE, side, cluster, time_ms, avail_ms, time_ms, mark, NOBODY)


@njit(forceinline=False)
def _pass_price(book, out, rules, low, high, close, from_ms, time_ms, avail_ms):
    """What the mark did to the clusters in a bar (of length 0 at a snapshot)."""
    clock = book.clock[0]
    is_watched = from_ms - clock.price_ms <= rules.mark_gap_ms or clock.price_ms == NOBODY
    for side in range(2):
        extreme = _bucket_of(low) if side == LONG else _bucket_of(high)
        for i in range(book.n_live[side]):
            cluster = book.live[side, i]
            if _is_over(cluster):
                continue
            # A bar that began before the cluster was found says only by its close where the mark went afterwards.
            reached = extreme if from_ms >= cluster.seen_ms else _bucket_of(close)
            if (side == LONG and reached > cluster.hi) or (side != LONG and reached < cluster.lo):
                continue
            if side == LONG:
                taken_lo, taken_hi = max(reached, cluster.left_lo), cluster.left_hi
                cluster.left_hi = min(cluster.left_hi, reached - 1)
                is_beyond = reached < cluster.lo
            else:
                taken_lo, taken_hi = cluster.left_lo, min(reached, cluster.left_hi)
                cluster.left_lo = max(cluster.left_lo, reached + 1)
                is_beyond = reached > cluster.hi
            cluster.swept_usdt += _mass_between(book, side, taken_lo, taken_hi)
            was_active = (cluster.state == ACTIVE or cluster.state == TOUCHED) and not cluster.is_stale
            if is_beyond and not (was_active and is_watched):
                cluster.state = CONSUMED
                _log(book, out, CONSUMED, side, cluster, time_ms, avail_ms, from_ms, close, NOBODY)
                continue
            if was_active and cluster.state == ACTIVE:
                cluster.state = TOUCHED
                _log(book, out, TOUCHED, side, cluster, time_ms, avail_ms, from_ms, close, NOBODY)
            if is_beyond:
                cluster.state = BROKEN
                _log(book, out, BROKEN, side, cluster, time_ms, avail_ms, from_ms, close, NOBODY)
    clock.price_ms = time_ms


@njit(forceinline=False)
def _shift_of(cluster, basis_bps):
    """Whole buckets by which anchoring moved the map since the cluster was last found."""
    if math.isnan(basis_bps) or math.isnan(cluster.basis_bps):
        return 0
    return round((basis_bps - cluster.basis_bps) / (1e4 * DELTA))


@njit(forceinline=False)
def _is_match(cluster, shift, peak, lo, hi, rules):
    """Whether a found cluster is this one: what the mark left of it overlaps, and the peak is about where it was."""
    left_lo, left_hi = cluster.left_lo + shift, cluster.left_hi + shift
    shared = min(left_hi, hi) - max(left_lo, lo) + 1
    shorter = min(left_hi - left_lo, hi - lo) + 1
    expected = min(max(cluster.peak + shift, left_lo), left_hi)
    return shared > 0 and shared >= rules.overlap * shorter and abs(peak - expected) <= rules.peak_buckets


@njit(forceinline=False)
def _match(book, side, n_found, found, s, basis_bps, rules, found_of, live_of):
    """Pair living clusters with found ones: the heaviest living one chooses first and takes the heaviest that fits."""
    live, n_live = book.live[side], book.n_live[side]
    is_done = np.zeros(n_live, np.bool_)
    for i in range(n_live):
        found_of[i] = NOBODY
    for k in range(n_found):
        live_of[k] = NOBODY
    for _ in range(n_live):
        heaviest = NOBODY
        for i in range(n_live):
            if not is_done[i] and (heaviest == NOBODY or live[i].mass_usdt > live[heaviest].mass_usdt):
                heaviest = i
        is_done[heaviest] = True
        cluster = live[heaviest]
        if _is_over(cluster):
            continue
        shift = _shift_of(cluster, basis_bps)
        for k in range(n_found):
            peak, lo, hi = found.peak[s, side, k], found.lo[s, side, k], found.hi[s, side, k]
            if live_of[k] == NOBODY and _is_match(cluster, shift, peak, lo, hi, rules):
                found_of[heaviest], live_of[k] = k, heaviest
                break


@njit
def _is_inside(bucket, lo, hi):
    return lo <= bucket <= hi


@njit(forceinline=False)
def _end(book, out, side, i, found, s, found_of, basis_bps, time_ms, avail_ms, mark):
    """End a cluster that was out of sight or weak for too long, and say how."""
    live, n_live = book.live[side], book.n_live[side]
    cluster = live[i]
    parent_id = NOBODY
    if cluster.swept_usdt >= 0.5 * cluster.most_usdt:
        cluster.state = CONSUMED
    else:
        cluster.state = FADED
        if found_of[i] == NOBODY:
            where = cluster.peak + _shift_of(cluster, basis_bps)
            for j in range(n_live):
                k = found_of[j]
                if k != NOBODY and _is_inside(where, found.lo[s, side, k], found.hi[s, side, k]):
                    cluster.state = MERGED
                    parent_id = live[j].id
    _log(book, out, cluster.state, side, cluster, time_ms, avail_ms, time_ms, mark, parent_id)


@njit(forceinline=False)
def _make_room(book, out, side, time_ms, avail_ms, mark):
    """Drop the lightest cluster that the last snapshot did not show."""
    live, n_live = book.live[side], book.n_live[side]
    lightest = NOBODY
    for i in range(n_live):
        is_hidden = live[i].seen_ms != book.clock[0].snapshot_ms
        if is_hidden and (lightest == NOBODY or live[i].mass_usdt < live[lightest].mass_usdt):
            lightest = i
    if not _is_over(live[lightest]):
        live[lightest].state = FADED
        _log(book, out, FADED, side, live[lightest], time_ms, avail_ms, time_ms, mark, NOBODY)
    for i in range(lightest, n_live - 1):
        live[i] = live[i + 1]
    book.n_live[side] -= 1


@njit(forceinline=False)
def _see(cluster, found, standing, s, side, k, basis_bps):
    """Take over what was found."""
    cluster.peak, cluster.lo, cluster.hi = found.peak[s, side, k], found.lo[s, side, k], found.hi[s, side, k]
    cluster.left_lo, cluster.left_hi = cluster.lo, cluster.hi
    cluster.mass_usdt = found.mass_usdt[s, side, k]
    cluster.most_usdt = max(cluster.most_usdt, cluster.mass_usdt)
    cluster.leverage = found.leverage[s, side, k]
    cluster.strength, cluster.zscore = standing.strength[s, side, k], standing.zscore[s, side, k]
    cluster.basis_bps = basis_bps
    cluster.seen_ms, cluster.seen_avail_ms = found.time_ms[s], found.avail_ms[s]
    cluster.is_stale = False


@njit(forceinline=False)
def _snapshot(book, out, rules, profiles, found, standing, s):
    """One snapshot that is not stale: match, promote, end, give birth, write rows."""
    clock = book.clock[0]
    time_ms, avail_ms, mark, basis_bps = found.time_ms[s], found.avail_ms[s], profiles.mark[s], profiles.basis_bps[s]
    is_counted = standing.is_sampled[s]
    for side in range(2):
        for column in range(book.mass_usdt.shape[1]):
            book.mass_usdt[side, column] = profiles.mass_usdt[s, side, column]
    book.first_bucket[0] = profiles.first_bucket[s]
    found_of = np.empty(CAPACITY, np.int64)
    live_of = np.empty(found.peak.shape[2], np.int64)
    before = np.empty((CAPACITY, 2), np.int64)  # [lo, hi] of living clusters before this snapshot, as expected now
    for side in range(2):
        n_found, live = found.n[s, side], book.live[side]
        while book.n_live[side] + n_found > CAPACITY:
            _make_room(book, out, side, time_ms, avail_ms, mark)
        _match(book, side, n_found, found, s, basis_bps, rules, found_of, live_of)
        for i in range(book.n_live[side]):
            shift = _shift_of(live[i], basis_bps)
            before[i, 0], before[i, 1] = live[i].lo + shift, live[i].hi + shift
        for i in range(book.n_live[side]):
            cluster, k = live[i], found_of[i]
            if _is_over(cluster):
                continue
            is_weak = k == NOBODY
            if k != NOBODY:
                was_stale = cluster.is_stale
                _see(cluster, found, standing, s, side, k, basis_bps)
                if was_stale:
                    _log(book, out, RESUMED, side, cluster, time_ms, avail_ms, time_ms, mark, NOBODY)
                is_weak = cluster.state != CANDIDATE and standing.is_weak[s, side, k]
            if is_counted:
                cluster.weak_slots = cluster.weak_slots + 1 if is_weak else 0
                is_heavy = k != NOBODY and standing.is_heavy[s, side, k]
                cluster.heavy_slots = cluster.heavy_slots + 1 if is_heavy else 0
            if cluster.weak_slots >= rules.fade_slots:
                _end(book, out, side, i, found, s, found_of, basis_bps, time_ms, avail_ms, mark)
            elif cluster.state == CANDIDATE and cluster.heavy_slots >= rules.active_slots:
                cluster.state = ACTIVE
                _log(book, out, ACTIVE, side, cluster, time_ms, avail_ms, time_ms, mark, NOBODY)
        for k in range(n_found):
            if live_of[k] != NOBODY:
                continue
            parent = NOBODY
            for i in range(book.n_live[side]):
                is_parent = found_of[i] != NOBODY and _is_inside(found.peak[s, side, k], before[i, 0], before[i, 1])
                if is_parent and (parent == NOBODY or live[i].mass_usdt > live[parent].mass_usdt):
                    parent = i
            parent_id = NOBODY if parent == NOBODY else live[parent].id
            i = book.n_live[side]
            book.n_live[side] += 1
            cluster = live[i]
            cluster.id = clock.next_id
            clock.next_id += 1
            cluster.state = CANDIDATE
            cluster.most_usdt = cluster.swept_usdt = 0.0
            cluster.weak_slots = 0
            cluster.heavy_slots = 1 if is_counted and standing.is_heavy[s, side, k] else 0
            cluster.first_ms = time_ms
            _see(cluster, found, standing, s, side, k, basis_bps)
            found_of[i] = k
            before[i, 0], before[i, 1] = 1, 0
            birth = CANDIDATE if parent_id == NOBODY else SPLIT
            _log(book, out, birth, side, cluster, time_ms, avail_ms, time_ms, mark, parent_id)
        _write_rows(book, out, side, s, time_ms)
    clock.snapshot_ms = time_ms


@njit(forceinline=False)
def _write_rows(book, out, side, s, time_ms):
    """A row per cluster seen now and one for each that ended; then forget the ended."""
    live, kept = book.live[side], 0
    for i in range(book.n_live[side]):
        cluster = live[i]
        if _is_over(cluster) or cluster.seen_ms == time_ms:
            row = out.rows[out.n[0]]
            row.snapshot = s
            row.side = side
            out.row_clusters[out.n[0]] = cluster
            out.n[0] += 1
        if not _is_over(cluster):
            if kept != i:
                live[kept] = live[i]
            kept += 1
    book.n_live[side] = kept


@njit(forceinline=False)
def walk(book, out, rules, profiles, found, standing, bars, cursor):
    """Take bars and snapshots in order of time, a bar before a snapshot of the same moment.

    ``cursor`` holds the next bar and the next snapshot. Returns True when both are at their ends, False when ``out``
    must be emptied first.
    """
    clock = book.clock[0]
    n_bars, n_snapshots = len(bars.time_ms), len(found.time_ms)
    while cursor[0] < n_bars or cursor[1] < n_snapshots:
        if len(out.rows) - out.n[0] < 4 * CAPACITY or len(out.events) - out.n[1] < 12 * CAPACITY:
            return False
        b, s = cursor[0], cursor[1]
        is_bar = s == n_snapshots or (b < n_bars and bars.time_ms[b] <= found.time_ms[s])
        time_ms = bars.time_ms[b] if is_bar else found.time_ms[s]
        avail_ms = bars.avail_ms[b] if is_bar else found.avail_ms[s]
        mark = bars.close[b] if is_bar else profiles.mark[s]
        clock.now_ms = time_ms
        if clock.snapshot_ms != NOBODY and time_ms - clock.snapshot_ms > rules.stale_after_ms:
            _make_stale(book, out, time_ms, avail_ms, mark)
        if is_bar:
            cursor[0] += 1
            if mark > 0.0 and bars.low[b] > 0.0 and bars.high[b] > 0.0:
                from_ms = time_ms - rules.bar_ms
                _pass_price(book, out, rules, bars.low[b], bars.high[b], mark, from_ms, time_ms, avail_ms)
            continue
        cursor[1] += 1
        if mark > 0.0:
            _pass_price(book, out, rules, mark, mark, mark, time_ms, time_ms, avail_ms)
        if profiles.is_stale[s] or not mark > 0.0:
            _make_stale(book, out, time_ms, avail_ms, mark)
        else:
            _snapshot(book, out, rules, profiles, found, standing, s)
    return True
