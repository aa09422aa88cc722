"""Folders of OKX history."""

from pathlib import Path

import polars as pl
import pytest

from data.convert import import_path
from data.lake import Lake

NOON = 1_780_315_200_000  # 2026-06-01 12:00 UTC
MINUTE = 60_000


def local(ms: list[int]) -> list[str]:
    zoned = pl.Series(ms).cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone("Asia/Shanghai")
    return zoned.dt.strftime("%Y-%m-%d %H:%M:%S%:z").to_list()


def write(folder: Path, name: str, **columns: list) -> None:
    pl.DataFrame({**columns, "dt": local(columns["ts"])}).write_parquet(folder / f"{name}.parquet")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two bars up to noon, at 80 and 82 USDT, and one value of everything else at noon."""
    path = tmp_path / "okx-SOLUSDT"
    path.mkdir()
    bars = {name: [80.0, 82.0] for name in ("open", "high", "low", "close")}
    write(path, "ohlcv_1m", ts=[NOON - 2 * MINUTE, NOON - MINUTE], **bars, volume=[10.0, 5.0])
    write(path, "open_interest", ts=[NOON], oi=[820.0], oi_value=[820.0])
    write(path, "long_short_ratio", ts=[NOON], ratio=[3.5])
    write(path, "taker_volume", ts=[NOON], sellVol=[200.0], buyVol=[150.0])
    write(path, "funding_rate", ts=[NOON], fundingRate=[-1.2e-05])
    return path


def test_open_interest_in_usd_becomes_base_units_at_the_price_of_its_stamp(lake, folder):
    import_path(lake, folder, format="okx")
    row = lake.scan("open_interest", venue="okx").row(0, named=True)
    assert (row["symbol"], row["open_interest"], row["open_interest_usdt"]) == ("SOLUSDT", 10.0, 820.0)


def test_every_file_fills_its_table(lake, folder):
    report = import_path(lake, folder, format="okx")
    assert {count.table: count.landed for count in report.counts} == {
        "klines": 2, "open_interest": 1, "ratios": 2, "funding": 1,
    }  # fmt: skip
    assert lake.scan("klines", venue="okx").select("interval", "close", "volume").rows()[1] == ("1m", 82.0, 5.0)
    ratios = lake.scan("ratios", venue="okx").select("kind", "value").rows()
    assert ratios == [("long_short_accounts", 3.5), ("taker_buy_sell", 0.75)]
    assert lake.scan("funding", venue="okx").select("funding_rate", "interval_hours").row(0) == (-1.2e-05, 8.0)


def test_importing_twice_changes_nothing(lake, folder):
    import_path(lake, folder, format="okx")
    before = lake.files()
    report = import_path(lake, folder, format="okx")
    assert (report.total("landed"), report.total("already_present")) == (0, 6)
    assert lake.files() == before


def test_open_interest_without_a_recent_price_is_quarantined(lake, folder):
    late = NOON + 6 * MINUTE
    write(folder, "open_interest", ts=[NOON, late], oi=[820.0, 900.0], oi_value=[820.0, 900.0])
    report = import_path(lake, folder, format="okx")
    assert (report.total("landed"), report.total("quarantined")) == (6, 1)
    bad = lake.scan("quarantine").row(0, named=True)
    assert (bad["file"], bad["line"], bad["table"]) == ("okx-SOLUSDT/open_interest.parquet", 3, "open_interest")
    assert bad["reason"].startswith("expected a bar that closed in the five minutes before")
    assert bad["raw"] == f"{late},900.0,900.0,{local([late])[0]}"


def test_another_value_at_a_known_time_is_a_conflict(lake, folder):
    import_path(lake, folder, format="okx")
    write(folder, "long_short_ratio", ts=[NOON], ratio=[3.6])
    assert import_path(lake, folder, format="okx").total("conflicts") == 1
    assert lake.scan("ratios", venue="okx").height == 2


def test_open_interest_alone_is_refused_because_it_cannot_be_priced(lake, folder):
    (folder / "ohlcv_1m.parquet").unlink()
    with pytest.raises(ValueError, match=r"put ohlcv_1m\.parquet beside it"):
        import_path(lake, folder, format="okx")
    assert lake.files() == []


def test_a_folder_of_another_name_needs_the_symbol(lake, folder):
    elsewhere = folder.rename(folder.parent / "history")
    with pytest.raises(LookupError, match="no okx files at"):
        import_path(lake, elsewhere, format="okx")
    import_path(lake, elsewhere, format="okx", symbol="SOLUSDT")
    assert lake.symbols("klines") == ["SOLUSDT"]


def test_a_file_with_other_columns_is_refused_before_anything_lands(lake, folder):
    pl.DataFrame({"ts": [NOON], "value": [1.0]}).write_parquet(folder / "taker_volume.parquet")
    with pytest.raises(ValueError, match="expected the columns ts,sellVol,buyVol,dt, got ts,value"):
        import_path(lake, folder, format="okx")
    assert lake.files() == []


def test_the_real_history_lands_whole_and_once(lake, real_data):
    source = real_data / "okx-SOLUSDT"
    report = import_path(lake, source, format="okx")
    assert {count.table: count.landed for count in report.counts} == {
        "klines": 37_487, "open_interest": 625, "ratios": 1_250, "funding": 78,
    }  # fmt: skip
    assert all(file.derived_differs == 0 for file in report.files)  # local times agree; oi equals oi_value
    stored = lake.scan("open_interest", venue="okx").select("event_time", "open_interest").row(0)
    assert stored[1] == pytest.approx(257_774_484.3 / 81.91, rel=1e-3)
