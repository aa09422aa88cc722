"""Lines of a foreign CSV: typed rows, bad lines, and the way back to text."""

import polars as pl
import pytest

from data.convert_rows import (
    AMOUNT,
    ID,
    OPTIONAL_PRICE,
    PRICE,
    SIDE,
    TIME_MS,
    TIME_S,
    Layout,
    decimal_seconds,
    quarantine_rows,
    read_frame_rows,
    read_pieces,
    read_rows,
    shortest,
    six_decimals,
    write_rows,
)

QUOTES = Layout(
    name="quotes",
    columns={"ms": TIME_MS, "bid": PRICE, "ask": PRICE, "mid": PRICE},
    derived={"mid": (pl.col("bid") + pl.col("ask")) / 2},
)
FILLS = Layout(name="fills", columns={"id": ID, "side": SIDE, "price": PRICE, "quantity": AMOUNT})
T = 1_758_699_465_133


@pytest.fixture
def file(tmp_path):
    """Write a file's bytes and return its path."""

    def written(content: str | bytes):
        path = tmp_path / "quotes.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def reasons(rows) -> list[tuple[int, str]]:
    return list(rows.bad.select("line", "reason").iter_rows())


def test_a_malformed_line_is_kept_with_its_number_and_the_rest_lands(file):
    text = f"ms,bid,ask,mid\n{T},1.0,2.0,1.5\n{T},1.0,two,1.5\n{T},3.0,4.0,3.5\n"
    rows = read_rows(file(text), [QUOTES])
    assert rows.good["line"].to_list() == [2, 4]
    assert reasons(rows) == [(3, "ask: expected a number above 0, got 'two'")]
    assert rows.bad["raw"].to_list() == [f"{T},1.0,two,1.5"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7,buy,1.0", "expected 4 fields, got 3"),
        ("7,buy,1.0,2.0,3.0", "expected 4 fields, got 5"),
        ("7,buy,-1.0,2.0", "price: expected a number above 0, got '-1.0'"),
        ("7,buy,nan,2.0", "price: expected a number above 0, got 'nan'"),
        ("7,buy,1.0,-2", "quantity: expected a number, 0 or above, got '-2'"),
        ("7,buy,1.0,inf", "quantity: expected a number, 0 or above, got 'inf'"),
        ("7,buy,,2.0", "price: expected a number above 0, got ''"),
        ("7.5,buy,1.0,2.0", "id: expected a whole number, 0 or above, got '7.5'"),
        ("7,Buy,1.0,2.0", "side: expected buy or sell, got 'Buy'"),
    ],
)
def test_the_reason_says_what_was_expected_and_what_arrived(file, line, reason):
    rows = read_rows(file(f"id,side,price,quantity\n{line}\n8,sell,1.0,2.0\n"), [FILLS])
    assert reasons(rows) == [(2, reason)]
    assert rows.good["id"].to_list() == [8]


def test_seconds_in_a_column_of_milliseconds_are_refused(file):
    rows = read_rows(file(f"ms,bid,ask,mid\n{T // 1000},1.0,2.0,1.5\n"), [QUOTES])
    assert reasons(rows) == [
        (2, f"ms: expected milliseconds since 1970, of a year from 2010 to 2099, got '{T // 1000}'")
    ]


def test_another_header_is_refused_naming_the_expected_one_and_the_one_that_arrived(file):
    with pytest.raises(ValueError, match="expected the header 'ms,bid,ask,mid', got 'ms,bid,offer,mid'"):
        read_rows(file("ms,bid,offer,mid\n"), [QUOTES])


def test_an_empty_file_has_no_layout_and_a_header_alone_has_no_rows(file):
    assert read_rows(file(""), [QUOTES]).layout is None
    rows = read_rows(file("ms,bid,ask,mid\n"), [QUOTES])
    assert (rows.good.height, rows.bad.height) == (0, 0)


def test_line_ends_of_either_kind_a_byte_order_mark_and_blank_lines_do_not_matter(file):
    rows = read_rows(file(f"\ufeffms,bid,ask,mid\r\n{T},1.0,2.0,1.5\r\n\r\n{T},3.0,4.0,3.5\n"), [QUOTES])
    assert rows.good["line"].to_list() == [2, 4]


def test_bytes_that_are_no_text_are_one_bad_line(file):
    rows = read_rows(file(f"ms,bid,ask,mid\n{T},1.0,2.0,1.5\n".encode() + b"\xff\x00,1\n"), [QUOTES])
    assert rows.good.height == 1
    assert rows.bad["line"].to_list() == [3]
    assert rows.bad["raw"].to_list() == ["\\xff\x00,1"]


def test_a_whole_last_line_without_a_newline_lands(file):
    rows = read_rows(file("id,side,price,quantity\n1,buy,1.000000,2.000000\n2,buy,1.000000,3.000000"), [FILLS])
    assert rows.good["quantity"].to_list() == [2.0, 3.0]


def test_a_last_line_cut_in_its_last_number_does_not_land(file):
    rows = read_rows(file("id,side,price,quantity\n1,buy,1.000000,2.000000\n2,buy,1.000000,3.0000"), [FILLS])
    assert reasons(rows) == [(3, "the file ends in the middle of this line")]


def test_a_last_line_whose_derived_column_was_cut_does_not_land(file):
    rows = read_rows(file(f"ms,bid,ask,mid\n{T},10.0,12.0,11"), [QUOTES])
    assert rows.good.height == 1
    rows = read_rows(file(f"ms,bid,ask,mid\n{T},10.0,12.0,1"), [QUOTES])
    assert reasons(rows) == [(2, "the file ends in the middle of this line")]


def test_a_derived_column_that_disagrees_is_counted_and_lands(file):
    rows = read_rows(file(f"ms,bid,ask,mid\n{T},1.0,2.0,1.5\n{T},1.0,2.0,1.7\n"), [QUOTES])
    assert (rows.good.height, rows.derived_differs) == (2, 1)


@pytest.mark.parametrize("piece_bytes", [1, 3, 40, 10_000])
def test_where_pieces_end_changes_no_row_no_line_number_and_no_reason(file, piece_bytes):
    lines = [
        "id,side,price,quantity",
        "1,buy,1.0,2.00",
        "\xff,",
        "",
        "2,buy,1.0,2.0\ufeff",
        "3,sell,1.0,3.00",
        "4,buy,1.0,4.0",
    ]
    path = file("\ufeff" + "\r\n".join(lines))
    whole = read_rows(path, [FILLS])
    pieces = list(read_pieces(path, [FILLS], piece_bytes=piece_bytes))
    assert pl.concat(piece.good for piece in pieces).equals(whole.good)
    assert pl.concat(piece.bad for piece in pieces).equals(whole.bad)
    assert whole.good["line"].to_list() == [2, 6, 7]


@pytest.mark.parametrize("piece_bytes", [1, 10_000])
def test_a_last_line_is_compared_with_the_rows_of_all_pieces_before_it(file, piece_bytes):
    def last(*quantities: str) -> list[int]:
        rows = "\n".join(f"7,buy,1.0,{quantity}" for quantity in quantities)
        pieces = read_pieces(file(f"id,side,price,quantity\n{rows}"), [FILLS], piece_bytes=piece_bytes)
        return [line for piece in pieces for line in piece.bad["line"]]

    assert last("2.00", "3.00", "4.0") == [4]
    assert last("2.0", "3.00", "4.0") == []
    assert last("2.00", "3.00", "4.00") == []


def test_seconds_are_read_to_the_last_digit(file):
    layout = Layout(name="s", columns={"s": TIME_S})
    texts = ["1758699465.1337595", "1758699465.25", "1758699465.0", "1758699465"]
    rows = read_rows(file("s\n" + "\n".join(texts) + "\n1.7e9\n"), [layout])
    assert rows.good["s"].to_list() == [
        1_758_699_465_133_759_500,
        1_758_699_465_250_000_000,
        1_758_699_465_000_000_000,
        1_758_699_465_000_000_000,
    ]
    assert reasons(rows) == [(6, "s: expected seconds since 1970, of a year from 2010 to 2099, got '1.7e9'")]
    assert decimal_seconds(rows.good["s"]) == [*texts[:3], "1758699465.0"]


def test_an_optional_cell_may_be_blank_but_not_wrong(file):
    layout = Layout(name="book", columns={"bid": OPTIONAL_PRICE, "ask": OPTIONAL_PRICE})
    rows = read_rows(file("bid,ask\n,1.5\n-1,1.5\n"), [layout])
    assert rows.good["bid"].to_list() == [None]
    assert reasons(rows) == [(3, "bid: expected a number above 0, or nothing, got '-1'")]


def test_a_frame_is_checked_like_a_file_and_its_first_row_is_line_2(tmp_path):
    frame = pl.DataFrame({"id": [1, 2], "side": ["buy", "buy"], "price": [0.1, -1.0], "quantity": [1e-7, 1.0]})
    rows = read_frame_rows(frame, FILLS, tmp_path / "x.parquet")
    assert rows.good.row(0) == (2, 1, "buy", 0.1, 1e-7)
    assert reasons(rows) == [(3, "price: expected a number above 0, got '-1.0'")]
    with pytest.raises(ValueError, match="expected the columns id,side,price,quantity, got id"):
        read_frame_rows(frame.select("id"), FILLS, tmp_path / "x.parquet")


def test_bad_lines_name_their_file_with_its_folder(file):
    path = file("id,side,price,quantity\nrubbish\n")
    bad = quarantine_rows(path, read_rows(path, [FILLS]), symbol="BTCUSDT", table="trades")
    assert bad.rows() == [
        (f"{path.parent.name}/quotes.csv", 2, "BTCUSDT", "trades", "expected 4 fields, got 1", "rubbish")
    ]


def test_numbers_are_printed_as_the_collectors_did_and_never_lose_a_digit():
    assert six_decimals(pl.Series([2.2881, 15.0, 0.0000068, None])) == ["2.288100", "15.000000", "0.0000068", ""]
    assert shortest(pl.Series([8.8e-06, 0.1 + 0.2, None])) == ["8.8e-06", "0.30000000000000004", ""]


def test_a_written_file_reads_back(tmp_path):
    assert write_rows(tmp_path / "x.csv", {"a": ["1", "2"], "b": ["x", ""]}) == 2
    assert (tmp_path / "x.csv").read_bytes() == b"a,b\r\n1,x\r\n2,\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
