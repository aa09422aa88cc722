"""How many positions a cluster may hold, from what was seen before it."""

from datetime import UTC, datetime, timedelta

import polars as pl

from data.table import TIME_MS
from research.clusters.prints import with_liquidation_count

NOW = datetime(2026, 3, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def orders(*usdt, ago=timedelta(hours=1), late=SECOND):
    """Forced orders of these sizes, all at once and told ``late``."""
    rows = [{"average_price": 10.0, "filled_quantity": size / 10.0} for size in usdt]
    return pl.DataFrame(rows).with_columns(
        event_time=pl.lit(NOW - ago).cast(TIME_MS), avail_time=pl.lit(NOW - ago + late).cast(TIME_MS)
    )


def clusters(*open_interest):
    """A snapshot of now, known two seconds later."""
    return pl.DataFrame({"open_interest": open_interest}, schema={"open_interest": pl.Float64}).with_columns(
        ts=pl.lit(NOW).cast(TIME_MS), avail_time=pl.lit(NOW + 2 * SECOND).cast(TIME_MS)
    )


def counted(rows, force_orders):
    return with_liquidation_count(rows, force_orders)["liquidation_count"].to_list()


def test_what_is_at_risk_is_counted_in_median_prints():
    seen = orders(*[100.0] * 15, *[300.0] * 15, *[500.0] * 5)
    assert counted(clusters(3_000.0, 150.0, None), seen) == [10.0, 0.5, None]


def test_fewer_than_thirty_prints_or_no_feed_count_nothing():
    assert counted(clusters(3_000.0), orders(*[300.0] * 29)) == [None]
    assert counted(clusters(3_000.0), None) == [None]


def test_only_prints_of_the_past_week_that_were_known_count():
    small = orders(*[100.0] * 40)
    for others in (
        orders(*[900.0] * 60, ago=timedelta(days=7) + SECOND),
        orders(*[900.0] * 60, ago=-SECOND),
        orders(*[900.0] * 60, late=timedelta(hours=2)),
    ):
        assert counted(clusters(3_000.0), pl.concat([small, others])) == [30.0]
    assert counted(clusters(3_600.0), pl.concat([small, orders(*[900.0] * 60)])) == [4.0]
