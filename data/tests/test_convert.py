"""Import and export of whole folders, small ones by hand and the real ones."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from data.convert import export_path, import_path
from data.lake import Lake

TRADES = "id,unix_timestamp_ms,side,price,quantity"
T = 1_758_699_465_000

BAR_AMOUNTS = ("volume", "quote_volume", "trades", "taker_buy_base", "taker_buy_quote")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "recorded"
    path.mkdir()
    return path


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def counts(report) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(landed, already present, conflicts, quarantined) per table and symbol."""
    return {
        (count.table, count.symbol): (count.landed, count.already_present, count.conflicts, count.quarantined)
        for count in report.counts
    }


def lines(path: Path) -> list[str]:
    return path.read_bytes().decode().split("\r\n")


def test_every_row_is_landed_known_in_conflict_or_in_quarantine(lake, folder):
    write(
        folder / "trades_BTCUSDT.csv",
        TRADES,
        f"7,{T},buy,100.5,1.0",
        f"8,{T + 5},sell,100.4,2.0",
        f"8,{T + 5},sell,100.4,2.0",
        f"8,{T + 5},sell,100.4,3.0",
        f"9,{T + 9},sell,-100.4,2.0",
    )
    report = import_path(lake, folder, format="collector")
    assert counts(report) == {("trades", "BTCUSDT"): (2, 1, 1, 1)}
    assert lake.scan("trades")["quantity"].to_list() == [1.0, 2.0]
    kept = lake.scan("quarantine").row(0, named=True)
    assert (kept["file"], kept["line"]) == ("recorded/trades_BTCUSDT.csv", 6)
    assert kept["reason"] == "price: expected a number above 0, got '-100.4'"
    assert lake.scan("conflicts").height == 1


def test_importing_twice_changes_nothing(lake, folder):
    write(folder / "trades_BTCUSDT.csv", TRADES, f"7,{T},buy,100.5,1.0", "rubbish")
    import_path(lake, folder, format="collector")
    before = lake.files()
    report = import_path(lake, folder, format="collector")
    assert counts(report) == {("trades", "BTCUSDT"): (0, 1, 0, 1)}
    assert lake.files() == before


def test_an_import_that_was_killed_is_finished_by_running_it_again(lake, folder):
    for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT"):
        write(folder / f"trades_{symbol}.csv", TRADES, f"7,{T},buy,100.5,1.0", f"8,{T},buy,100.5,1.0")

    def kill(_: str, done: int, total: int) -> None:
        assert total == 3
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_path(lake, folder, format="collector", progress=kill)
    report = import_path(lake, folder, format="collector")
    assert [report.total(what) for what in ("landed", "already_present", "conflicts")] == [2, 4, 0]
    assert lake.scan("trades").height == 6


def test_a_wrong_header_stops_the_import_before_anything_lands(lake, folder):
    write(folder / "trades_AAAUSDT.csv", TRADES, f"7,{T},buy,100.5,1.0")
    write(folder / "trades_BBBUSDT.csv", "id,time,side,price,quantity", f"7,{T},buy,100.5,1.0")
    with pytest.raises(ValueError, match=r"trades_BBBUSDT\.csv: expected the header 'id,unix_timestamp_ms"):
        import_path(lake, folder, format="collector")
    assert lake.files() == []


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("klines", "aster_BBBUSDT_1m"),
        ("okx", "long_short_ratio"),
        ("okx", "ohlcv_1m"),
        ("force-orders", "force_orders"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"id,price", b"PAR1"])
def test_a_parquet_file_that_is_none_stops_the_import_before_anything_lands(lake, folder, format, name, content):
    folder = folder / "okx-BBBUSDT"
    folder.mkdir()
    (folder / f"{name}.parquet").write_bytes(content)
    pl.DataFrame({"ts": [T], "fundingRate": [0.1], "dt": ["x"]}).write_parquet(folder / "funding_rate.parquet")
    bar = dict.fromkeys(("open", "high", "low", "close"), 1.0) | dict.fromkeys(BAR_AMOUNTS, 1.0)
    pl.DataFrame({"open_time": T // 60_000 * 60_000, **bar}).write_parquet(folder / "aster_AAAUSDT_1m.parquet")
    with pytest.raises(ValueError, match=rf"{name}\.parquet: expected a Parquet file"):
        import_path(lake, folder, format=format)
    assert lake.files() == []


def test_a_parquet_file_of_other_columns_stops_the_import_before_anything_lands(lake, folder):
    bar = dict.fromkeys(("open", "high", "low", "close"), 1.0) | dict.fromkeys(BAR_AMOUNTS, 1.0)
    bars = pl.DataFrame({"open_time": T // 60_000 * 60_000, **bar})
    bars.write_parquet(folder / "aster_AAAUSDT_1m.parquet")
    bars.drop("volume").write_parquet(folder / "aster_BBBUSDT_1m.parquet")
    with pytest.raises(ValueError, match=r"aster_BBBUSDT_1m\.parquet: expected the columns open_time,"):
        import_path(lake, folder, format="klines")
    assert lake.files() == []


def test_files_of_no_known_name_and_empty_files_are_skipped_and_said_so(lake, folder):
    write(folder / "trades_AAAUSDT.csv", TRADES)
    (folder / "prices_AAAUSDT.csv").touch()
    write(folder / "golden_AAAUSDT.csv", "a,b")
    report = import_path(lake, folder, format="collector")
    assert [(skipped.file, skipped.reason.split(",")[0]) for skipped in report.skipped] == [
        ("golden_AAAUSDT.csv", "not one of trades_<SYMBOL>.csv"),
        ("prices_AAAUSDT.csv", "empty file"),
    ]
    assert report.counts == ()


def test_asking_for_one_symbol_leaves_the_others_alone(lake, folder):
    for symbol in ("AAAUSDT", "BBBUSDT"):
        write(folder / f"trades_{symbol}.csv", TRADES, f"7,{T},buy,100.5,1.0")
    import_path(lake, folder, format="collector", symbol="BBBUSDT")
    assert lake.symbols("trades") == ["BBBUSDT"]


def test_a_path_that_is_not_there_or_holds_nothing_of_the_format_is_refused(lake, folder):
    with pytest.raises(LookupError, match="no such file or folder"):
        import_path(lake, folder / "absent", format="collector")
    with pytest.raises(LookupError, match=r"no midfreq files at .*: expected kline.csv"):
        import_path(lake, folder, format="midfreq")
    with pytest.raises(ValueError, match="unknown format 'csv'; expected one of collector"):
        import_path(lake, folder, format="csv")


def test_an_export_of_nothing_is_refused_with_what_to_do(lake, folder):
    with pytest.raises(LookupError, match="nothing to export as collector"):
        export_path(lake, folder, format="collector")
    with pytest.raises(ValueError, match="cannot export format 'exchange-info'"):
        export_path(lake, folder, format="exchange-info")
    with pytest.raises(ValueError, match=r"levels: expected one of \(5, 10, 20\), got 7"):
        export_path(lake, folder, format="collector", levels=7)


def test_an_export_holds_only_the_range_that_was_asked_for(lake, folder):
    write(folder / "trades_BTCUSDT.csv", TRADES, f"7,{T},buy,100.5,1.0", f"8,{T + 60_000},buy,100.5,1.0")
    import_path(lake, folder, format="collector")
    end = datetime.fromtimestamp((T + 60_000) / 1000, UTC)
    report = export_path(lake, folder / "out", format="collector", end=end)
    assert report.as_json()["files"] == [{"file": "trades_BTCUSDT.csv", "rows": 1}]


def test_the_golden_replay_lands_gap_free_and_comes_back_text_for_text(lake, real_data, tmp_path):
    source = real_data / "collector-2025-09-24"
    report = import_path(lake, source, format="collector")
    for symbol, rows in (("ASTERUSDT", 68_750), ("ETHUSDT", 45_868)):
        assert counts(report)["trades", symbol] == (rows, 0, 0, 0)
        ids = lake.scan("trades", symbols=[symbol])["agg_trade_id"]
        assert ids[-1] - ids[0] + 1 == rows == ids.n_unique()
    assert counts(report)["trades", "USD1USDT"] == (5_430, 0, 0, 0)
    assert counts(report)["raw_trades", "USD1USDT"] == (2_027, 0, 0, 0)
    assert [(trades.symbol, trades.repeats) for trades in report.trades if trades.raw] == [("USD1USDT", 496)]

    out = tmp_path / "out"
    export_path(lake, out, format="collector")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in source.iterdir())
    for path in out.iterdir():
        assert sorted(lines(path)) == sorted(lines(source / path.name))
    for name in ("trades_ASTERUSDT", "trades_ETHUSDT", "orderbook_ASTERUSDT", "orderbook_ETHUSDT", "prices_USD1USDT"):
        assert (out / f"{name}.csv").read_bytes() == (source / f"{name}.csv").read_bytes()


def test_an_export_of_two_id_spaces_imports_as_the_original_did(lake, real_data, tmp_path):
    import_path(lake, real_data / "collector-dirty-2025-10-01", format="collector")
    export_path(lake, tmp_path / "out", format="collector")
    again = Lake(tmp_path / "again", create=True)
    report = import_path(again, tmp_path / "out", format="collector")
    assert [(trades.aggregates, trades.raw, trades.repeats) for trades in report.trades] == [(2_251, 1_886, 104)]
    for table in ("trades", "raw_trades", "book_ticker"):
        assert again.scan(table).equals(lake.scan(table))


def test_every_row_of_the_dirty_file_ends_in_one_place_and_104_repeat_aggregates(lake, real_data):
    report = import_path(lake, real_data / "collector-dirty-2025-10-01", format="collector")
    assert counts(report)["trades", "BNBUSDT"] == (2_251, 0, 0, 0)
    assert counts(report)["raw_trades", "BNBUSDT"] == (1_886, 0, 0, 0)
    assert report.notes()[0] == (
        "BNBUSDT trades: 2251 aggregate ids, 1886 raw trade ids (104 repeat a recorded aggregate), "
        "37 id-space switches, 0 ambiguous"
    )
    repeated = lake.scan("raw_trades").drop_nulls("repeats_agg_trade_id")
    assert repeated.height == repeated["repeats_agg_trade_id"].n_unique() == 104


def test_bars_built_from_overlapping_trade_files_equal_the_exchange_klines(lake, real_data):
    folder = real_data / "collector-2025-11-28"
    report = import_path(lake, folder, format="collector")
    assert counts(report)["trades", "BNBUSDT"] == (1_490, 887, 0, 0)
    assert counts(report)["raw_trades", "BNBUSDT"] == (400, 200, 0, 0)
    import_path(lake, real_data / "klines" / "aster_BNBUSDT_1m.parquet", format="klines")
    golden = pl.read_csv(folder / "golden_BNBUSDT_1m_trades_vs_klines.csv").filter("ohlc_eq", "vol_eq", "tb_eq")
    minutes = golden["open_time"].unique().sort()
    assert len(minutes) == 54

    bars = (
        lake.scan("trades")
        .group_by(open_time=pl.col("event_time").dt.truncate("1m"), maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.col("quantity").sum().round(6),
            taker_buy_volume=pl.col("quantity").filter(~pl.col("is_buyer_maker")).sum().round(6),
        )
    )
    exact = bars.join(lake.scan("klines"), on=bars.columns, how="semi")["open_time"].dt.epoch("ms")
    assert exact.sort().to_list() == minutes.to_list()


def test_the_bots_logs_land_and_come_back_text_for_text(lake, real_data, tmp_path):
    source = real_data / "midfreq-logs"
    report = import_path(lake, source, format="midfreq")
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"]
    for table in ("kline_updates", "book_ticker", "mark_price", "trade_samples", "depth"):
        assert [counts(report)[table, symbol] for symbol in symbols] == [(2_200, 0, 0, 0)] * 5
    marks = lake.scan("mark_price")
    assert (
        marks.select("mark_price", "index_price", "funding_rate", "next_funding_time").null_count().sum_horizontal()[0]
        == 0
    )
    assert lake.scan("funding").is_empty()
    assert lake.scan("klines").height == 132

    again = import_path(lake, source, format="midfreq")
    assert [again.total(what) for what in ("landed", "conflicts", "quarantined")] == [0, 0, 0]
    export_path(lake, tmp_path / "out", format="midfreq", symbols=symbols)
    for path in source.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
