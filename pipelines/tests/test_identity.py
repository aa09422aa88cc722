"""What a sweep's data is known by."""

from datetime import UTC, datetime, timedelta

import polars as pl

from data.lake import Lake
from data.schema_clusters import OI_STATE
from data.table import conform
from pipelines.identity import data_identity

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)


def add_snapshot(lake: Lake, ts: datetime) -> None:
    row = {"venue": "aster", "symbol": "SOLUSDT", "source": "aster", "map_id": "0" * 12, "ts": ts, "avail_time": ts}
    lake.append("oi_state", conform(pl.DataFrame([row]), OI_STATE), origin="test")


def test_bars_with_a_map_are_other_bars_once_the_map_grew(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    span = (NOON, NOON + timedelta(hours=1))
    add_snapshot(lake, NOON)
    with_map, without = (data_identity(lake, *span, with_map=asked) for asked in (True, False))
    add_snapshot(lake, NOON + timedelta(minutes=5))
    assert without == data_identity(lake, *span, with_map=False) == {}
    assert with_map != data_identity(lake, *span, with_map=True)


def test_a_map_is_read_from_a_little_before_the_bars(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    add_snapshot(lake, MIDNIGHT - timedelta(minutes=5))
    add_snapshot(lake, MIDNIGHT - timedelta(hours=25))
    found = data_identity(lake, MIDNIGHT, MIDNIGHT + timedelta(hours=1), with_map=True)
    assert [path.split("/")[1] for path in found] == ["dt=2026-01-01"]
