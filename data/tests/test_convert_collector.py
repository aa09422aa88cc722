"""The data collector's files, line by line."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import convert_collector
from data.convert import export_path, import_path
from data.convert_collector import batches, sources
from data.lake import Lake
from data.schema import TABLES

T = 1_758_699_465_000


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake", create=True)


def write(path, *lines: str):
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())
    return path


def test_a_buy_in_the_file_is_a_taker_who_bought(lake, tmp_path):
    rows = [f"7,{T},buy,100.5,1.0", f"8,{T},sell,100.5,1.0"]
    import_path(
        lake,
        write(tmp_path / "trades_BTCUSDT.csv", "id,unix_timestamp_ms,side,price,quantity", *rows),
        format="collector",
    )
    stored = lake.scan("trades")
    assert stored["is_buyer_maker"].to_list() == [False, True]
    assert stored["event_time"][0] == datetime.fromtimestamp(T / 1000, UTC)
    assert stored.select("sent_time", "recv_time").null_count().row(0) == (2, 2)
    assert stored["source"].unique().to_list() == ["import"]


def test_prices_are_stamped_by_our_own_clock_to_the_nanosecond(lake, tmp_path):
    path = write(
        tmp_path / "prices_ASTERUSDT.csv", "unix_timestamp,bid,ask,mid", "1758699465.1337595,2.2884,2.2891,2.288750"
    )
    import_path(lake, path, format="collector")
    row = lake.scan("book_ticker")
    assert row["recv_time"].dt.epoch("ns").to_list() == [1_758_699_465_133_759_500]
    assert row["event_time"].dt.epoch("ms").to_list() == [1_758_699_465_133]
    assert row.select("clock", "bid_price", "bid_quantity", "ask_price", "update_id").row(0) == (
        "receive", 2.2884, None, 2.2891, None,
    )  # fmt: skip
    export_path(lake, tmp_path / "out", format="collector")
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_prices_in_milliseconds_come_back_in_milliseconds(lake, tmp_path):
    path = write(
        tmp_path / "prices_BNBUSDT.csv", "unix_timestamp_ms,bid,ask,mid", "1764326047600,896.0,896.1,896.050000"
    )
    import_path(lake, path, format="collector")
    export_path(lake, tmp_path / "out", format="collector")
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("levels", [5, 10, 20])
def test_a_book_of_any_depth_lands_and_comes_back(lake, tmp_path, levels):
    sides = [
        f"{side}_{what}_{level}" for side in ("bid", "ask") for level in range(levels) for what in ("price", "qty")
    ]
    bids = [text for level in range(levels) for text in (f"{100 - level:.6f}", f"{level:.6f}")]
    asks = [text for level in range(levels) for text in (f"{101 + level:.6f}", "2.500000")]
    asks[-2:] = ["", ""]  # the book held one ask less
    path = write(
        tmp_path / "orderbook_BTCUSDT.csv",
        ",".join(["unix_timestamp", "lastUpdateId", *sides]),
        ",".join(["1758739035.564676", "171693925569", *bids, *asks]),
    )
    import_path(lake, path, format="collector")
    row = lake.scan("depth").row(0, named=True)
    assert (row["levels"], row["update_id"], row["bid_price_1"], row["ask_quantity_1"]) == (
        levels,
        171693925569,
        99,
        2.5,
    )
    assert row[f"ask_price_{levels - 1}"] is None
    export_path(lake, tmp_path / "out", format="collector", levels=levels)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_deeper_book_is_cut_and_a_shallower_one_left_out_on_export(lake, tmp_path):
    for symbol, levels in (("AAAUSDT", 5), ("BBBUSDT", 10)):
        sides = [f"{side}_{what}_{i}" for side in ("bid", "ask") for i in range(levels) for what in ("price", "qty")]
        write(
            tmp_path / f"orderbook_{symbol}.csv",
            ",".join(["unix_timestamp_ms", "lastUpdateId", *sides]),
            ",".join([str(T), "1", *["1.000000"] * len(sides)]),
        )
    import_path(lake, tmp_path, format="collector")
    assert export_path(lake, tmp_path / "ten", format="collector", levels=10).files == (("orderbook_BBBUSDT.csv", 1),)
    assert len(export_path(lake, tmp_path / "five", format="collector", levels=5).files) == 2


def test_the_seed_of_a_start_goes_to_raw_trades_and_is_not_counted_in_volume(lake, tmp_path):
    """The first rows of trades_USD1USDT.csv: one aggregate of 10.0, its two fills found by the next start."""
    path = write(
        tmp_path / "trades_USD1USDT.csv",
        "id,unix_timestamp_ms,side,price,quantity",
        "100397,1758633995154,buy,1.003600,19.000000",
        "90563,1758634319753,sell,1.003200,13.000000",
        "100398,1758634319753,sell,1.003200,13.000000",
        "90564,1758634838517,sell,1.003200,10.000000",
        "90565,1758634838518,sell,1.003200,5.000000",
        "100399,1758634838517,sell,1.003200,8.000000",
        "100400,1758634838517,sell,1.003200,2.000000",
        "90566,1758635000167,buy,1.003600,30.000000",
    )
    report = import_path(lake, path, format="collector")
    assert lake.scan("trades")["agg_trade_id"].to_list() == [90563, 90564, 90565, 90566]
    assert lake.scan("trades")["quantity"].sum() == 58.0
    assert lake.scan("raw_trades").select("trade_id", "repeats_agg_trade_id").rows() == [
        (100397, None), (100398, 90563), (100399, None), (100400, None),
    ]  # fmt: skip
    trades = report.trades[0]
    assert (trades.aggregates, trades.raw, trades.repeats, trades.ambiguous, trades.switches) == (4, 4, 1, 0, 5)


def test_a_last_seed_waits_as_ambiguous_until_the_file_has_grown(lake, tmp_path):
    header = "id,unix_timestamp_ms,side,price,quantity"
    rows = [f"500,{T},buy,1.0,1.0", f"400,{T + 5_000},buy,1.0,2.0", f"600,{T + 9_000},buy,1.0,3.0"]
    report = import_path(lake, write(tmp_path / "trades_BTCUSDT.csv", header, *rows), format="collector")
    assert report.trades[0].ambiguous == 1
    assert lake.scan("raw_trades").filter("is_ambiguous")["trade_id"].to_list() == [600]

    rows.append(f"405,{T + 20_000},buy,1.0,4.0")
    report = import_path(lake, write(tmp_path / "trades_BTCUSDT.csv", header, *rows), format="collector")
    assert (report.trades[0].ambiguous, report.total("landed"), report.total("conflicts")) == (0, 1, 0)
    assert lake.scan("trades")["agg_trade_id"].to_list() == [400, 405]


TRADE_LINES = st.builds(
    "{},{},{},{},{}".format,
    st.integers(0, 30),
    st.integers(T, T + 30_000) | st.just("later"),
    st.sampled_from(["buy", "sell", "hold"]),
    st.sampled_from(["1.5", "-1.5", "1.5,"]),
    st.sampled_from(["2", "3", ""]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(TRADE_LINES | st.text("0,.x", min_size=1), max_size=15), min_size=1, max_size=3))
def test_every_line_of_every_file_ends_in_exactly_one_place(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("lines")
    for part, lines in enumerate(files):
        write(folder / f"trades_BTCUSDT_{part}.csv", "id,unix_timestamp_ms,side,price,quantity", *lines)
    handed_over = list(batches(sources(list(folder.iterdir()), None)[0]))
    readable = sum(batch.frame.height + batch.duplicates for batch in handed_over)
    bad = pl.concat(batch.bad for batch in handed_over if batch.bad is not None)
    assert readable + bad.height == sum(map(len, files))
    assert bad.select("file", "line").is_unique().all()
    assert sum(file.rows for batch in handed_over for file in batch.files) == sum(map(len, files))


def test_part_files_of_one_symbol_are_judged_together(lake, tmp_path):
    header = "id,unix_timestamp_ms,side,price,quantity"
    write(tmp_path / "trades_BTCUSDT.csv", header, f"500,{T},buy,1.0,1.0")
    write(tmp_path / "trades_BTCUSDT_part2.csv", header, f"500,{T},buy,1.0,1.0", f"400,{T + 5_000},buy,1.0,2.0")
    report = import_path(lake, tmp_path, format="collector")
    assert [(file.file, file.rows, file.duplicates) for file in report.files] == [
        ("trades_BTCUSDT.csv", 1, 0), ("trades_BTCUSDT_part2.csv", 2, 1),
    ]  # fmt: skip
    assert lake.scan("raw_trades")["trade_id"].to_list() == [500]


def test_trades_too_fine_for_six_decimals_are_exported_in_full(lake, tmp_path):
    at = datetime.fromtimestamp(T / 1000, UTC)
    row = {"venue": "aster", "symbol": "PEPEUSDT", "agg_trade_id": 1, "event_time": at, "price": 6.8e-06}
    lake.append("trades", pl.DataFrame([{**row, "quantity": 1e6, "is_buyer_maker": True, "source": "ws"}]), origin="x")
    export_path(lake, tmp_path / "out", format="collector")
    assert (tmp_path / "out" / "trades_PEPEUSDT.csv").read_text().splitlines()[
        1
    ] == f"1,{T},sell,0.0000068,1000000.000000"


def damaged(source, folder):
    """A recording with bad lines, repeated lines, contradictions and a last line that was cut."""
    folder.mkdir(exist_ok=True)
    for path in source.glob("*_*USDT*.csv"):
        lines = path.read_text().split()
        changed = lines[:1]
        for number, line in enumerate(lines[1:]):
            changed += [line, line] if number % 50 == 3 else [line]
            if number % 89 == 5:
                changed.append(line[:-1] + "7")
            if number % 97 == 7:
                changed += [line[: len(line) // 2], ""]
        (folder / path.name).write_bytes("\r\n".join(changed).encode()[:-2])
    return folder


def held(lake) -> dict[str, list[dict]]:
    """Every row of the lake, apart from when the import ran."""
    ran = ("quarantined_time", "conflict_time")
    rows = {table: lake.scan(table, venue=None).drop(ran, strict=False) for table in TABLES}
    return {
        table: (each.sort(each.columns) if table in ("quarantine", "conflicts") else each).rows()
        for table, each in rows.items()
        if each.height
    }


@pytest.mark.parametrize(
    ("recording", "piece_bytes"),
    [("collector-dirty-2025-10-01", 50_000), ("collector-2025-11-28", 400_000)],  # about 1,000 lines
)
def test_where_the_pieces_of_a_file_end_changes_neither_rows_nor_report(
    real_data, tmp_path, monkeypatch, recording, piece_bytes
):
    folder = damaged(real_data / recording, tmp_path / "recorded")
    whole, pieces = (Lake(tmp_path / name, create=True) for name in ("whole", "pieces"))
    report = import_path(whole, folder, format="collector")
    assert all(report.total(what) > 20 for what in ("landed", "already_present", "conflicts", "quarantined"))

    monkeypatch.setattr(convert_collector, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(convert_collector, "PIECE_ROWS", 1_000)
    assert import_path(pieces, folder, format="collector") == report
    assert held(pieces) == held(whole)

    before = pieces.files()
    assert len(before) > len(whole.files())
    import_path(pieces, folder, format="collector")
    assert pieces.files() == before


def test_an_import_that_was_killed_between_two_pieces_is_finished_by_running_it_again(lake, tmp_path, monkeypatch):
    header = "unix_timestamp_ms,bid,ask,mid"
    folder = tmp_path / "recorded"
    folder.mkdir()
    write(folder / "prices_BTCUSDT.csv", header, *(f"{T + second},1.0,2.0,1.500000" for second in range(5)))
    monkeypatch.setattr(convert_collector, "PIECE_BYTES", 1)  # every line is a piece

    def kill(_: str, done: int, total: int) -> None:
        if lake.scan("book_ticker").height == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_path(lake, folder, format="collector", progress=kill)
    report = import_path(lake, folder, format="collector")
    assert [(count.landed, count.already_present) for count in report.counts] == [(3, 2)]
    assert report.files[0].rows == 5
