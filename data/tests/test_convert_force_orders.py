"""Files of liquidation orders."""

import polars as pl
import pytest

from data.convert import import_path
from data.lake import Lake

# the first is a row of a public recording of Binance, the second of Aster with a limit price put in
ORDERS = pl.DataFrame(
    {
        "venue": ["binance", "aster"],
        "file": ["a/binance.csv", "b/liquidations.db"],
        "line": [2044, 19],
        "symbol": ["PIEVERSE", "HYPEUSDT"],
        "side": ["SELL", "BUY"],
        "q": [31.0, 2.57],
        "p": [0.5018, 38.7],
        "ap": [0.5115, 38.56],
        "l": [9.0, None],
        "z": [31.0, 2.57],
        "T": [1766954622394, 1760614199301],
        "usd": [15.5558, 99.0992],
    }
)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def imported(lake, tmp_path):
    """Writes a frame as the file and imports it."""

    def write_and_import(frame: pl.DataFrame, **options):
        frame.write_parquet(tmp_path / "force_orders.parquet")
        return import_path(lake, tmp_path / "force_orders.parquet", format="force-orders", **options)

    return write_and_import


def test_orders_land_at_the_venue_they_name_with_the_side_of_the_order(lake, imported):
    imported(ORDERS)
    rows = lake.scan("force_orders", venue=None).select("venue", "symbol", "side", "average_price", "filled_quantity")
    assert rows.sort("venue").rows() == [
        ("aster", "HYPEUSDT", "BUY", 38.56, 2.57),
        ("binance", "PIEVERSEUSDT", "SELL", 0.5115, 31.0),
    ]


def test_a_contract_that_lost_its_quote_gets_it_back(lake, imported):
    names = ["BTC_250627", "SOLUSDC", "ARBUSDT", "1000PEPE"]
    one = ORDERS.head(1).with_columns(line=1)
    imported(pl.concat([one.with_columns(symbol=pl.lit(name)) for name in names]))
    assert lake.symbols("force_orders") == ["1000PEPEUSDT", "ARBUSDT", "BTCUSDT_250627", "SOLUSDC"]


def test_importing_twice_changes_nothing(lake, imported):
    imported(ORDERS)
    before = lake.files()
    report = imported(ORDERS)
    assert (report.total("landed"), report.total("already_present")) == (0, 2)
    assert lake.files() == before


def test_unreadable_rows_are_quarantined_word_for_word(lake, imported):
    report = imported(pl.concat([ORDERS, ORDERS.with_columns(side=pl.lit("LONG"), T=pl.col("T") + 1)]))
    assert (report.total("landed"), report.total("quarantined")) == (2, 2)
    bad = lake.scan("quarantine").sort("line").row(0, named=True)
    assert bad["reason"] == "side: expected BUY or SELL, the order's side, got 'LONG'"
    assert (bad["line"], bad["symbol"]) == (4, "PIEVERSEUSDT")
    assert bad["raw"] == "binance,a/binance.csv,2044,PIEVERSE,LONG,31.0,0.5018,0.5115,9.0,31.0,1766954622395,15.5558"


def test_a_row_that_nothing_tells_apart_is_quarantined(lake, imported):
    report = imported(ORDERS.with_columns(p=pl.lit(None, pl.Float64), ap=pl.lit(None, pl.Float64)))
    assert (report.total("landed"), report.total("quarantined")) == (0, 2)
    assert lake.scan("quarantine")["reason"].str.contains("tell").all()


def test_one_symbol_can_be_asked_for(lake, imported):
    imported(ORDERS, symbol="HYPEUSDT")
    assert lake.symbols("force_orders") == ["HYPEUSDT"]


def test_a_file_with_other_columns_is_refused(lake, imported):
    with pytest.raises(ValueError, match="expected the columns venue,file,line,symbol"):
        imported(ORDERS.drop("usd"))


def test_every_real_order_lands_at_its_venue(lake, real_data):
    report = import_path(lake, real_data / "liquidations", format="force-orders")
    assert (report.total("landed"), report.total("conflicts"), report.total("quarantined")) == (5_111, 0, 0)
    stored = lake.scan("force_orders", venue=None)
    assert stored.group_by("venue", "side").len().sort("venue", "side").rows() == [
        ("aster", "BUY", 1), ("aster", "SELL", 15), ("binance", "BUY", 2_832), ("binance", "SELL", 2_263),
    ]  # fmt: skip
    again = import_path(lake, real_data / "liquidations", format="force-orders")
    assert (again.total("landed"), again.total("already_present")) == (0, 5_111)
