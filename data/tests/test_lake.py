"""The lake keeps what it was given: once, whole and in order, and gives it back as polars and SQL."""

import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.lake import CorruptFile, Lake, Landed, default_lake
from data.schema import DEPTH, SCHEMA_VERSION, TABLES

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
BEFORE = MIDNIGHT - timedelta(seconds=2)


def trades(ids: list[int], *, symbol: str = "BTCUSDT", price: float = 100.0, start: datetime = BEFORE) -> pl.DataFrame:
    """One trade a second from ``start`` for id 1: ids 1 and 2 fall on the day before ``MIDNIGHT``."""
    return pl.DataFrame(
        {
            "venue": "aster",
            "symbol": symbol,
            "agg_trade_id": ids,
            "event_time": [start + timedelta(seconds=number - 1) for number in ids],
            "price": price,
            "quantity": 2.0,
            "is_buyer_maker": False,
            "is_ambiguous": False,
            "recv_time": [start + timedelta(seconds=number - 1, microseconds=1) for number in ids],
            "source": "ws",
        },
        schema_overrides={
            "agg_trade_id": pl.Int64,
            "event_time": pl.Datetime("us", "UTC"),
            "recv_time": pl.Datetime("us", "UTC"),
        },
    )


def landed(new: int, known: int = 0, conflicts: int = 0) -> Landed:
    return Landed(landed=new, already_present=known, conflicts=conflicts)


def ids(lake: Lake) -> list[int]:
    return lake.scan("trades")["agg_trade_id"].to_list()


def parquet_files(lake: Lake) -> list[Path]:
    return sorted(path for path in lake.root.rglob("*") if ".parquet" in path.name)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


# --- landing ---------------------------------------------------------------------------------------------------------


def test_rows_land_in_one_file_per_utc_date_and_read_back_in_order(lake):
    assert lake.append("trades", trades([3, 1, 2]), origin="ws") == landed(3)
    assert [(entry.dt.isoformat(), entry.rows) for entry in lake.files("trades")] == [
        ("2026-01-01", 2),
        ("2026-01-02", 1),
    ]
    assert [Path(entry.path).parts[:2] for entry in lake.files()] == [
        ("trades", "dt=2026-01-01"),
        ("trades", "dt=2026-01-02"),
    ]
    assert ids(lake) == [1, 2, 3]


def test_a_file_entry_tells_what_is_in_the_file(lake):
    lake.append("trades", trades([1, 2]), origin="trades_BTCUSDT.csv")
    (entry,) = lake.files("trades")
    assert (entry.min_time, entry.max_time) == (BEFORE, BEFORE + timedelta(seconds=1))
    assert (entry.origin, entry.schema_version, entry.table) == ("trades_BTCUSDT.csv", SCHEMA_VERSION, "trades")
    assert entry.bytes == (lake.root / entry.path).stat().st_size


def test_appending_the_same_rows_again_adds_nothing(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    files = parquet_files(lake)
    assert lake.append("trades", trades([1, 2, 3]), origin="ws") == landed(0, known=3)
    assert parquet_files(lake) == files


def test_only_the_new_rows_of_an_overlapping_append_land(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    assert lake.append("trades", trades([2, 3, 4]), origin="rest") == landed(1, known=2)
    assert ids(lake) == [1, 2, 3, 4]


def test_a_contradiction_keeps_the_stored_row_and_tells_of_the_newcomer(lake):
    lake.append("trades", trades([1, 2]), origin="ws")
    assert lake.append("trades", trades([2, 3], price=99.0), origin="rest") == landed(1, conflicts=1)
    assert lake.scan("trades")["price"].to_list() == [100.0, 100.0, 99.0]
    told = lake.scan("conflicts").row(0, named=True)
    assert (told["table"], told["symbol"], told["source_file"]) == ("trades", "BTCUSDT", "rest")
    assert '"price":99.0' in told["arrived"] and '"price":100.0' in told["stored"]


def test_the_same_contradiction_twice_is_told_once(lake):
    lake.append("trades", trades([1]), origin="ws")
    for _ in range(2):
        assert lake.append("trades", trades([1], price=99.0), origin="rest") == landed(0, conflicts=1)
    assert lake.scan("conflicts").height == 1


def test_an_id_that_comes_back_on_another_date_is_found_by_its_id(lake):
    lake.append("trades", trades([1]), origin="ws")
    later = trades([1], start=BEFORE + timedelta(days=40))
    assert lake.append("trades", later, origin="ws") == landed(0, conflicts=1)


def test_symbols_have_ids_of_their_own(lake):
    lake.append("trades", trades([1, 2]), origin="ws")
    assert lake.append("trades", trades([1, 2], symbol="ETHUSDT"), origin="ws") == landed(2)
    assert lake.symbols("trades") == ["BTCUSDT", "ETHUSDT"]


def test_an_empty_append_does_nothing(lake):
    assert lake.append("trades", pl.DataFrame(), origin="ws") == landed(0)
    assert lake.files() == []


def test_quarantined_lines_of_a_file_imported_again_are_known(lake):
    line = {"file": "a.csv", "line": 7, "table": "trades", "reason": "no price", "raw": "1,,"}
    for minute, expected in ((0, landed(1)), (1, landed(0, known=1))):
        rows = pl.DataFrame([line | {"quarantined_time": MIDNIGHT + timedelta(minutes=minute)}])
        assert lake.append("quarantine", rows, origin="a.csv") == expected


# --- refusals --------------------------------------------------------------------------------------------------------


def test_test_contracts_are_refused_unless_asked_for(lake):
    with pytest.raises(ValueError, match="TESTUSDT are the exchange's test contracts"):
        lake.append("trades", trades([1], symbol="TESTUSDT"), origin="ws")
    assert lake.files() == []
    assert Lake(lake.root, allow_test_symbols=True).append(
        "trades", trades([1], symbol="TESTUSDT"), origin="ws"
    ) == landed(1)


def test_a_row_without_time_or_id_is_refused_and_shown(lake):
    with pytest.raises(
        ValueError, match=r"needs event_time and .*1 of 2 rows have a null there, the first is .*'venue'"
    ):
        lake.append("trades", trades([1, 2]).with_columns(agg_trade_id=pl.Series([1, None])), origin="ws")


def test_unknown_names_are_refused_with_the_nearest(lake):
    with pytest.raises(ValueError, match="unknown table 'trade'; did you mean trades"):
        lake.scan("trade")
    with pytest.raises(ValueError, match="unknown column of trades 'prise'; did you mean price"):
        lake.scan("trades", columns=["prise"])
    with pytest.raises(ValueError, match="expected a list of symbols"):
        lake.scan("trades", symbols="BTCUSDT")
    with pytest.raises(ValueError, match="needs its zone"):
        lake.scan("trades", start=datetime(2026, 1, 1))


def test_a_missing_lake_is_refused_with_what_to_run(tmp_path):
    with pytest.raises(LookupError, match=r"no lake at .*aster import"):
        Lake(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_manifest_of_another_program_is_refused(lake):
    database = sqlite3.connect(lake.root / "manifest.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ValueError, match="format 99"):
        Lake(lake.root)


def test_a_damaged_manifest_is_named(lake):
    (lake.root / "manifest.sqlite").write_bytes(b"this is no database" * 500)
    with pytest.raises(CorruptFile, match=r"manifest\.sqlite: not a readable manifest"):
        Lake(lake.root)


def test_the_default_lake_is_in_the_checkout_or_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("ASTER_LAKE", raising=False)
    assert default_lake().parts[-2:] == ("data", "lake")
    monkeypatch.setenv("ASTER_LAKE", str(tmp_path))
    assert default_lake() == tmp_path


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_scan_takes_symbols_a_half_open_range_and_columns(lake):
    lake.append("trades", trades([1, 2, 3, 4]), origin="ws")
    lake.append("trades", trades([1, 2, 3, 4], symbol="ETHUSDT"), origin="ws")
    found = lake.scan(
        "trades",
        symbols=["ETHUSDT"],
        start=BEFORE + timedelta(seconds=1),
        end=BEFORE + timedelta(seconds=3),
        columns=["agg_trade_id", "symbol"],
    )
    assert found.rows() == [(2, "ETHUSDT"), (3, "ETHUSDT")]


def test_a_scan_of_nothing_has_the_table_s_columns(lake):
    lake.append("trades", trades([1]), origin="ws")
    assert lake.scan("trades", symbols=["NOPEUSDT"]).schema == TABLES["trades"].columns
    assert lake.scan("klines").schema == TABLES["klines"].columns


def test_venues_are_kept_apart(lake):
    rows = pl.DataFrame(
        {"venue": ["binance", "aster"], "symbol": "BTCUSDT", "event_time": BEFORE, "open_interest": [1.0, 2.0]}
    )
    lake.append("open_interest", rows, origin="rest")
    assert lake.scan("open_interest")["open_interest"].to_list() == [2.0]
    assert lake.scan("open_interest", venue="binance")["open_interest"].to_list() == [1.0]
    assert lake.span("open_interest", "BTCUSDT", venue="hyperliquid") is None


def test_tables_without_symbol_are_read_in_time_order(lake):
    rows = pl.DataFrame({"venue": "aster", "event_time": [MIDNIGHT, BEFORE], "offset_ms": [2.0, 1.0]})
    lake.append("clock", rows, origin="rest")
    assert lake.scan("clock")["offset_ms"].to_list() == [1.0, 2.0]
    assert lake.sql("SELECT count(*) AS n FROM clock", symbols=["BTCUSDT"])["n"].item() == 2
    with pytest.raises(ValueError, match="table clock has no symbols"):
        lake.scan("clock", symbols=["BTCUSDT"])


def test_the_span_is_first_and_last_time(lake):
    assert lake.span("trades", "BTCUSDT") is None
    lake.append("trades", trades([1, 4]), origin="ws")
    assert lake.span("trades", "BTCUSDT") == (BEFORE, BEFORE + timedelta(seconds=3))


def test_the_instrument_in_force_is_the_last_one_not_after(lake):
    rows = {"venue": "aster", "symbol": "BTCUSDT", "event_time": [BEFORE, MIDNIGHT], "tick_size": [0.1, 0.01]}
    lake.append("instruments", pl.DataFrame(rows), origin="exchangeInfo")
    assert lake.instrument("BTCUSDT", BEFORE)["tick_size"] == 0.1
    assert lake.instrument("BTCUSDT", MIDNIGHT + timedelta(days=9))["tick_size"] == 0.01
    with pytest.raises(LookupError, match="knows it from 2026-01-01 23:59:58 UTC on; run `aster import"):
        lake.instrument("BTCUSDT", BEFORE - timedelta(seconds=1))
    with pytest.raises(LookupError, match="no instruments row of ETHUSDT"):
        lake.instrument("ETHUSDT", MIDNIGHT)


arrivals = st.lists(
    st.lists(st.tuples(st.sampled_from(["BTCUSDT", "ETHUSDT"]), st.integers(1, 12)), min_size=1, max_size=15),
    max_size=5,
)


@settings(max_examples=12, deadline=None)
@given(arrivals)
def test_however_rows_arrive_each_is_kept_once_and_in_order(batches):
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder), create=True)
        for batch in batches:
            rows = pl.concat([trades([number], symbol=symbol) for symbol, number in batch])
            counted = lake.append("trades", rows, origin="test")
            assert counted.landed + counted.already_present == len(batch)
        found = lake.scan("trades", columns=["symbol", "agg_trade_id"]).rows()
        assert found == sorted({row for batch in batches for row in batch})
        assert lake.sql("SELECT count(*) AS n FROM trades")["n"].item() == len(found)


# --- SQL -------------------------------------------------------------------------------------------------------------


def test_every_view_is_there_once_whatever_has_rows(lake):
    assert sorted(lake.sql("SHOW TABLES")["name"]) == sorted([*TABLES, "depth5", "ledger"])
    lake.append("trades", trades([1]), origin="ws")
    assert sorted(lake.sql("SHOW TABLES")["name"]) == sorted([*TABLES, "depth5", "ledger"])


def test_an_empty_lake_has_every_view(lake):
    for name, table in TABLES.items():
        assert lake.sql(f"SELECT * FROM {name}").columns == table.columns.names()


def test_views_of_an_empty_and_a_full_table_have_the_same_types(lake):
    empty = {name: lake.sql(f"DESCRIBE {name}")["column_type"].to_list() for name in ("trades", "instruments", "clock")}
    lake.append("trades", trades([1]), origin="ws")
    instrument = {"venue": "aster", "symbol": "BTCUSDT", "event_time": BEFORE, "brackets": [{"max_leverage": 100.0}]}
    lake.append("instruments", pl.DataFrame([instrument]), origin="exchangeInfo")
    lake.append("clock", pl.DataFrame({"venue": "aster", "event_time": [BEFORE], "offset_ms": 1.0}), origin="rest")
    assert empty == {name: lake.sql(f"DESCRIBE {name}")["column_type"].to_list() for name in empty}


def test_sql_sees_times_in_utc_to_the_nanosecond(lake):
    rows = trades([1]).with_columns(recv_time=pl.Series([1_767_311_998_000_000_123]).cast(pl.Datetime("ns", "UTC")))
    lake.append("trades", rows, origin="ws")
    found = lake.sql("SELECT event_time, recv_time, strftime(event_time, '%H:%M:%S') AS clock FROM trades")
    assert found["event_time"].item() == BEFORE
    assert found["recv_time"].to_physical().item() == 1_767_311_998_000_000_123
    assert found["clock"].item() == "23:59:58"


def test_depth5_shows_the_first_five_levels(lake):
    levels = {f"bid_price_{level}": 100.0 - level for level in range(10)}
    row = {"venue": "aster", "symbol": "BTCUSDT", "levels": 10, "update_id": 1, "event_time": BEFORE}
    lake.append("depth", pl.DataFrame([row | levels]), origin="ws")
    found = lake.sql("SELECT * FROM depth5")
    assert found["bid_price_4"].item() == 96.0
    assert len(found.columns) == len(DEPTH.columns) - 60


def test_the_ledger_shows_the_newest_row_of_each_gap(lake):
    gap = {"venue": "aster", "symbol": "BTCUSDT", "gap_id": "trades|BTCUSDT|3|4", "cause": "sequence"}
    for minute, state in ((0, "open"), (5, "partial"), (5, "repaired")):
        row = gap | {"state": state, "rows_recovered": minute, "detected_time": MIDNIGHT + timedelta(minutes=minute)}
        lake.append("gaps", pl.DataFrame([row]), origin="test")
    assert lake.sql("SELECT gap_id, state FROM ledger").rows() == [("trades|BTCUSDT|3|4", "repaired")]
    with lake.connect() as database:
        assert database.sql("SELECT state FROM ledger").fetchall() == [("repaired",)]


def test_what_a_query_makes_is_gone_with_it(lake):
    for _ in range(2):
        assert lake.sql("CREATE TABLE mine AS SELECT 1 AS one").height <= 1
    with pytest.raises(ValueError, match="mine"):
        lake.sql("SELECT * FROM mine")


def test_queries_of_several_threads_do_not_meet(lake):
    lake.append("trades", trades([1, 2]), origin="ws")
    symbols = [["BTCUSDT"], ["ETHUSDT"]] * 8
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda names: lake.sql("SELECT count(*) AS n FROM trades", symbols=names)["n"].item(), symbols)
        assert list(found) == [2, 0] * 8


def test_an_open_connection_does_not_see_later_appends(lake):
    lake.append("trades", trades([1]), origin="ws")
    with lake.connect() as before:
        lake.append("trades", trades([2]), origin="ws")
        assert before.sql("SELECT count(*) FROM trades").fetchall() == [(1,)]
    assert lake.sql("SELECT count(*) AS n FROM trades")["n"].item() == 2


def test_a_connection_can_be_narrowed_to_symbols_and_a_range(lake):
    lake.append("trades", trades([1, 2, 3]), origin="ws")
    lake.append("trades", trades([1, 2, 3], symbol="O'USDT"), origin="ws")
    narrow = {"symbols": ["O'USDT"], "start": BEFORE + timedelta(seconds=1), "end": MIDNIGHT + timedelta(hours=1)}
    found = lake.sql("SELECT symbol, agg_trade_id FROM trades ORDER BY 2", **narrow)
    assert found.rows() == [("O'USDT", 2), ("O'USDT", 3)]


def test_a_query_that_duckdb_refuses_is_a_value_error_with_its_reason(lake):
    with pytest.raises(ValueError, match=r"the query failed: .*prise"):
        lake.sql("SELECT prise FROM trades")


def test_names_in_a_query_are_never_variables_of_the_program(lake):
    with pytest.raises(ValueError, match="query"):
        lake.sql("SELECT * FROM query")


def test_files_of_an_older_schema_read_with_nulls_in_the_new_columns(lake, monkeypatch):
    with monkeypatch.context() as past:
        past.setattr("data.manifest_entries.SCHEMA_VERSION", SCHEMA_VERSION - 1)
        lake.append("trades", trades([1]), origin="ws")
    (entry,) = lake.files()
    path = lake.root / entry.path
    content = pl.read_parquet(path).drop("is_ambiguous")
    content.write_parquet(path)
    monkeypatch.setattr(Lake, "_trust", lambda *_: None)
    assert lake.sql("SELECT agg_trade_id, is_ambiguous FROM trades").rows() == [(1, None)]
    assert lake.scan("trades", columns=["agg_trade_id", "is_ambiguous"]).rows() == [(1, None)]


# --- real recordings -------------------------------------------------------------------------------------------------


def test_real_trades_read_back_equal_at_few_bytes_a_row(lake, real_data):
    recorded = pl.read_csv(real_data / "collector-2025-09-24" / "trades_ASTERUSDT.csv")
    rows = recorded.select(
        venue=pl.lit("aster"),
        symbol=pl.lit("ASTERUSDT"),
        agg_trade_id="id",
        event_time="unix_timestamp_ms",
        price="price",
        quantity="quantity",
        is_buyer_maker=pl.col("side") == "sell",
        source=pl.lit("import"),
    )
    assert lake.append("trades", rows, origin="trades_ASTERUSDT.csv") == landed(68_750)
    found = lake.scan("trades", columns=["agg_trade_id", "price", "quantity"])
    assert found.equals(recorded.select("id", "price", "quantity").rename({"id": "agg_trade_id"}))
    assert sum(entry.bytes for entry in lake.files()) / 68_750 < 11
