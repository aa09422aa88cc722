"""The corners of one row; that rows are those of ``research.bars`` is shown in ``test_stream_feed``."""

import math

import pytest

from live.known_row import KnownRows
from live.readings import ClosedBar, Mark, Quote

AT_MS = 7_200_000
NO_FORCED = {"forced_sell_usdt": 0.0, "forced_buy_usdt": 0.0}
BAR = ClosedBar(AT_MS - 60_000, AT_MS, (1.0, 1.0, 1.0, 100.0, 1.0, 1.0, 1.0, 1.0))


def quote(age_ms: int) -> Quote:
    return Quote((AT_MS - age_ms) * 1_000_000, 1, 0, 99.0, 1.0, 101.0, 1.0)


def mark(age_ms: int) -> Mark:
    return Mark((AT_MS - age_ms) * 1_000_000, 0, 80.0, 81.0, 0.0001, None)


@pytest.fixture
def rows():
    return KnownRows({"status": "TRADING", "funding_interval_hours": None}, 4.0, 60_000)


def test_a_fresh_quote_and_mark_make_spread_and_ratio(rows):
    row = rows.row(BAR.open_ms, AT_MS, BAR, quote(2_000), mark(3_000), mark(3_000), NO_FORCED)
    assert (row["half_spread_bps"], row["last_mark_ratio"]) == (100.0, 1.25)
    assert (row["quote_age_ms"], row["mark_age_ms"], row["funding_rate"]) == (2_000.0, 3_000.0, 0.0001)
    assert (row["funding_interval_hours"], row["can_enter"]) == (4.0, True)


def test_old_ones_are_shown_and_the_last_spread_and_ratio_carried(rows):
    rows.row(BAR.open_ms, AT_MS, BAR, quote(0), mark(0), None, NO_FORCED)
    row = rows.row(
        BAR.open_ms, AT_MS, BAR, quote(2_001)._replace(bid=90.0), mark(3_001)._replace(price=50.0), None, NO_FORCED
    )
    assert (row["bid_price"], row["mark_price"]) == (90.0, 50.0)
    assert (row["half_spread_bps"], row["last_mark_ratio"]) == (100.0, 1.25)


def test_what_is_older_than_an_hour_is_not_shown(rows):
    row = rows.row(BAR.open_ms, AT_MS, BAR, quote(3_600_001), mark(3_600_001), mark(3_600_000), NO_FORCED)
    assert all(math.isnan(row[name]) for name in ("bid_price", "quote_age_ms", "mark_price", "mark_age_ms"))
    assert row["funding_rate"] == 0.0001 and math.isnan(row["half_spread_bps"]) and row["last_mark_ratio"] == 1.0


def test_a_gap_has_no_numbers_and_takes_no_entry(rows):
    row = rows.row(BAR.open_ms, AT_MS, None, quote(0), mark(0), None, NO_FORCED)
    assert row["is_gap"] and not row["can_enter"] and math.isnan(row["close"])
    assert (row["half_spread_bps"], row["last_mark_ratio"]) == (100.0, 1.0)


def test_a_contract_that_does_not_trade_takes_no_entry():
    rows = KnownRows({"status": "SETTLING", "funding_interval_hours": 8.0}, None, 60_000)
    assert not rows.row(BAR.open_ms, AT_MS, BAR, quote(0), mark(0), None, NO_FORCED)["can_enter"]
