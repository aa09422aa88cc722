"""Files of 1m klines."""

import polars as pl
import pytest

from data.convert import export_path, import_path
from data.lake import Lake

BARS = pl.DataFrame(
    {
        "open_time": [1763427120000, 1763427180000],
        "open": [911.0, 910.65],
        "high": [911.7, 911.2],
        "low": [909.7, 909.4],
        "close": [910.65, 909.9],
        "volume": [225.0, 215.5],
        "quote_volume": [204980.40685, 195975.64852],
        "trades": [96.0, 81.0],
        "taker_buy_base": [98.9, 110.62],
        "taker_buy_quote": [90053.2955, 100709.73952],
    }
)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def test_bars_take_their_symbol_from_the_file_name(lake, tmp_path):
    BARS.write_parquet(tmp_path / "aster_BNBUSDT_1m.parquet")
    import_path(lake, tmp_path / "aster_BNBUSDT_1m.parquet", format="klines")
    row = lake.scan("klines").row(0, named=True)
    assert (row["symbol"], row["interval"], row["source"], row["recv_time"]) == ("BNBUSDT", "1m", "rest", None)
    assert (row["trade_count"], row["taker_buy_volume"], row["taker_buy_quote_volume"]) == (96, 98.9, 90053.2955)
    export_path(lake, tmp_path / "out", format="klines")
    assert pl.read_parquet(tmp_path / "out" / "aster_BNBUSDT_1m.parquet").equals(BARS)


def test_a_csv_of_another_name_needs_the_symbol(lake, tmp_path):
    BARS.write_csv(tmp_path / "bars.csv")
    with pytest.raises(LookupError, match="no klines files at"):
        import_path(lake, tmp_path / "bars.csv", format="klines")
    import_path(lake, tmp_path / "bars.csv", format="klines", symbol="BNBUSDT")
    assert lake.scan("klines")["open_time"].dt.epoch("ms").to_list() == BARS["open_time"].to_list()


def test_a_bar_off_the_minute_or_with_a_part_of_a_trade_is_quarantined(lake, tmp_path):
    bad = BARS.with_columns(open_time=pl.col("open_time") + pl.Series([1, 0]), trades=pl.Series([96.0, 81.5]))
    bad.write_parquet(tmp_path / "aster_BNBUSDT_1m.parquet")
    report = import_path(lake, tmp_path / "aster_BNBUSDT_1m.parquet", format="klines")
    assert report.total("quarantined") == 2
    off_the_minute, part_of_a_trade = lake.scan("quarantine").sort("line")["reason"]
    assert off_the_minute.startswith("open_time: expected milliseconds since 1970 at a full minute")
    assert part_of_a_trade == "trades: expected a whole number, 0 or above, got '81.5'"


def test_the_real_bars_land_and_come_back(lake, real_data, tmp_path):
    source = real_data / "klines" / "aster_BNBUSDT_1m.parquet"
    assert import_path(lake, source, format="klines").total("landed") == 16_450
    assert import_path(lake, source, format="klines").total("already_present") == 16_450
    export_path(lake, tmp_path / "out", format="klines")
    assert pl.read_parquet(tmp_path / "out" / source.name).equals(pl.read_parquet(source))
