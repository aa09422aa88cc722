"""The mid-frequency bot's logs, line by line. The rows are from real logs."""

import pytest

from data.convert import export_path, import_path
from data.lake import Lake

HEADERS = {
    "kline": "ts_unix_ms,ts_dt_utc,symbol,k1_start_ms,k1_close_ms,k1_open,k1_high,k1_low,k1_close,k1_base_vol,"
    "k1_quote_vol,k1_trades,k1_closed",
    "bookTicker": "ts_unix_ms,ts_dt_utc,symbol,bid_px,bid_qty,ask_px,ask_qty,spread,mid,imbalance,weighted_mid",
    "markPrice": "ts_unix_ms,ts_dt_utc,symbol,mark_px,index_px,funding_rate,next_funding_time_ms,mark_index_bps",
    "aggTrade_1s": "ts_unix_ms,ts_dt_utc,symbol,n_trades_1s,sum_qty_1s,vwap_1s,buy_qty_1s,sell_qty_1s,"
    "buy_notional_1s,sell_notional_1s",
}
AT = "1771365750355,2026-02-17 22:02:30.355000,BTCUSDT"


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


@pytest.fixture
def log(tmp_path):
    """Write one log and return its path."""

    def written(name: str, *rows: str):
        path = tmp_path / "logs" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(("\r\n".join([HEADERS[name], *rows]) + "\r\n").encode())
        return path

    return written


def test_a_final_bar_is_kept_once_as_of_the_poll_that_first_saw_it(lake, log):
    bar = "1771365720000,1771365779999,67605.2,67640.0,67600.1,67626.4,12.5,845123.25,321"
    path = log(
        "kline",
        f"1771365779590,2026-02-17 22:02:59.590000,BTCUSDT,{bar},False",
        f"1771365780597,2026-02-17 22:03:00.597000,BTCUSDT,{bar},True",
        f"1771365781605,2026-02-17 22:03:01.605000,BTCUSDT,{bar},True",
    )
    import_path(lake, path, format="midfreq")
    updates = lake.scan("kline_updates")
    assert updates.sort("recv_time")["is_final"].to_list() == [False, True, True]
    final = lake.scan("klines").row(0, named=True)
    assert lake.scan("klines").height == 1
    assert final["recv_time"].timestamp() == 1771365780.597
    assert final["open_time"].timestamp() == 1771365720
    assert (final["interval"], final["close"], final["trade_count"], final["taker_buy_volume"]) == (
        "1m",
        67626.4,
        321,
        None,
    )


def test_marks_carry_mark_index_and_funding_and_no_funding_event_is_made_up(lake, log):
    before = "1771372799500,2026-02-17 23:59:59.500000,BTCUSDT,67605.3,67636.55913043,2.726e-05,1771372800000"
    after = "1771372800500,2026-02-18 00:00:00.500000,BTCUSDT,67605.3,67636.55913043,2.8e-05,1771401600000"
    path = log("markPrice", f"{before},-4.621632269867781", f"{after},-4.621632269867781")
    import_path(lake, path, format="midfreq")
    row = lake.scan("mark_price").row(0, named=True)
    assert (row["mark_price"], row["index_price"], row["funding_rate"]) == (67605.3, 67636.55913043, 2.726e-05)
    assert row["next_funding_time"].timestamp() == 1771372800
    assert row["clock"] == "receive"
    assert lake.scan("funding").is_empty()


def test_one_second_trade_sums_never_become_trades(lake, log):
    path = log("aggTrade_1s", f"{AT},0,0.0,,0.0,0.0,0.0,0.0")
    import_path(lake, path, format="midfreq")
    assert lake.scan("trades").is_empty()
    row = lake.scan("trade_samples").row(0, named=True)
    assert (row["trade_count"], row["quantity"], row["vwap"]) == (0, 0.0, None)


def test_a_bad_line_is_kept_with_the_symbol_it_names(lake, log):
    path = log(
        "bookTicker",
        f"{AT},67605.2,2.782,67605.3,2.12,0.10000000000582077,67605.25,0.135046919624643,67605.25675234599",
        f"{AT},67605.2,oops,67605.3,2.12,0.1,67605.25,0.1,67605.2",
        "1771365750355,2026-02-17 22:02:30.355000,ETHUSDT,1997.2",
    )
    report = import_path(lake, path, format="midfreq")
    assert [(count.symbol, count.landed, count.quarantined) for count in report.counts] == [
        ("BTCUSDT", 1, 1), ("ETHUSDT", 0, 1),
    ]  # fmt: skip
    assert lake.scan("quarantine").sort("line").select("line", "symbol", "table").rows() == [
        (3, "BTCUSDT", "book_ticker"), (4, "ETHUSDT", "book_ticker"),
    ]  # fmt: skip


def test_only_the_symbol_that_was_asked_for_lands(lake, log):
    row = "67605.3,67636.55913043,2.726e-05,1771372800000,-4.621632269867781"
    path = log("markPrice", f"{AT},{row}", f"{AT.replace('BTC', 'ETH')},{row}")
    import_path(lake, path, format="midfreq", symbol="ETHUSDT")
    assert lake.symbols("mark_price") == ["ETHUSDT"]


def test_quotes_without_quantities_are_no_rows_of_the_bots_log(lake, tmp_path):
    prices = tmp_path / "prices_BTCUSDT.csv"
    prices.write_text("unix_timestamp_ms,bid,ask,mid\n1771365750355,1.0,2.0,1.500000\n", encoding="utf-8")
    import_path(lake, prices, format="collector")
    with pytest.raises(LookupError, match="nothing to export as midfreq"):
        export_path(lake, tmp_path / "out", format="midfreq")


def test_derived_columns_are_computed_again_and_an_empty_book_has_no_imbalance(lake, log, tmp_path):
    path = log(
        "bookTicker",
        f"{AT},67605.2,2.782,67605.3,2.12,0.10000000000582077,67605.25,0.135046919624643,67605.25675234599",
        f"{AT.replace('BTC', 'ETH')},10.0,0.0,10.5,0.0,0.5,10.25,,",
    )
    report = import_path(lake, path, format="midfreq")
    assert report.files[0].derived_differs == 0
    export_path(lake, tmp_path / "out", format="midfreq")
    assert (tmp_path / "out" / "bookTicker.csv").read_bytes() == path.read_bytes()
