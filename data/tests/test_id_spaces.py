"""Aggregate and raw trade ids in one column: hand-worked cases, a simulated collector, the real files."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from data.id_spaces import SEED_ROWS, id_space_switches, id_spaces, repeated_aggregates


def trades(*rows: tuple[int, float], file: str = "trades_X.csv") -> pl.DataFrame:
    """Rows of (id, seconds)."""
    return pl.DataFrame(
        {"id": [row[0] for row in rows], "event_ms": [int(row[1] * 1000) for row in rows], "file": file},
        schema={"id": pl.Int64, "event_ms": pl.Int64, "file": pl.String},
    )


def judged(*rows: tuple[int, float]) -> list[str]:
    """``aggregate`` or ``raw`` per row, with a question mark where ambiguous."""
    result = id_spaces(trades(*rows))
    return [space + "?" * doubt for space, doubt in zip(result["space"], result["is_ambiguous"], strict=True)]


def test_the_later_of_two_rows_has_the_lower_id_so_it_is_the_aggregate():
    assert judged((100_298, 0), (90_563, 5)) == ["raw", "aggregate"]


def test_a_small_step_back_proves_as_much_as_a_large_one():
    assert judged((7_001, 0), (7_000, 5)) == ["raw", "aggregate"]


def test_what_one_row_proves_holds_for_its_whole_run_of_consecutive_ids():
    assert judged((500, 0), (501, 1), (502, 9), (400, 8), (401, 20)) == ["raw", "raw", "raw", "aggregate", "aggregate"]


def test_rows_less_than_a_second_apart_prove_nothing():
    assert judged((501, 0), (500, 0.9)) == ["aggregate", "aggregate"]


def test_a_file_that_shows_one_space_holds_aggregates_even_with_a_hole():
    assert judged((1, 0), (2, 1), (5, 2)) == ["aggregate"] * 3


def test_a_file_that_is_exactly_one_seed_long_may_be_the_seed():
    seed = [(1_000 + i, i) for i in range(SEED_ROWS)]
    assert judged(*seed) == ["aggregate?"] * SEED_ROWS
    assert judged(*seed[1:]) == ["aggregate"] * (SEED_ROWS - 1)


def test_a_last_run_that_fits_both_spaces_is_raw_and_ambiguous_so_nothing_counts_it():
    assert judged((500, 0), (400, 5), (600, 10), (601, 11)) == ["raw", "aggregate", "raw?", "raw?"]


def test_a_last_run_longer_than_ten_seeds_is_the_stream():
    stream = [(600 + i, 10 + i) for i in range(1_000)]
    assert judged((500, 0), (400, 5), *stream) == ["raw", "aggregate", *["aggregate"] * 1_000]


def test_a_row_with_proof_of_both_kinds_is_ambiguous():
    assert judged((100, 0), (50, 10), (10, 20)) == ["raw", "raw?", "aggregate"]


def test_one_damaged_time_does_not_turn_the_rows_around_it_into_raw_trades():
    rows = [(i, float(i)) for i in range(50)]
    rows[20] = (20, 9_999_999.0)
    assert judged(*rows) == ["aggregate"] * 50


def test_a_run_ends_where_the_file_ends():
    first, second = trades((500, 0), (501, 1), file="a"), trades((502, 2), (400, 9), file="b")
    alone = id_spaces(pl.concat([first, second]))
    assert alone["space"].to_list() == ["raw", "raw", "raw", "aggregate"]
    assert id_space_switches(alone) == 1  # the change of file is none


def test_no_rows_are_no_rows():
    assert id_spaces(trades()).is_empty()


def fills(*rows: tuple[int, float, str]) -> pl.DataFrame:
    """Rows of (id, quantity, space), all sells at 10.0 in one millisecond."""
    return pl.DataFrame(
        {
            "id": [row[0] for row in rows],
            "event_ms": 1_000,
            "price": 10.0,
            "quantity": [row[1] for row in rows],
            "is_buyer_maker": True,
            "space": [row[2] for row in rows],
            "is_ambiguous": False,
        }
    )


def test_a_raw_trade_repeats_the_aggregate_it_is_the_whole_of():
    rows = fills((900, 0.3, "raw"), (5, 0.3, "aggregate"))
    assert repeated_aggregates(rows).to_list() == [5, None]


def test_a_fill_that_is_a_part_of_an_aggregate_repeats_none():
    rows = fills((900, 0.1, "raw"), (901, 0.2, "raw"), (5, 0.3, "aggregate"))
    assert repeated_aggregates(rows).to_list() == [None, None, None]


def test_equal_fills_and_equal_aggregates_pair_one_to_one_in_id_order():
    rows = fills((901, 0.3, "raw"), (900, 0.3, "raw"), (902, 0.3, "raw"), (5, 0.3, "aggregate"), (6, 0.3, "aggregate"))
    assert repeated_aggregates(rows).to_list() == [6, 5, None, None, None]


def recorded(seed: int) -> pl.DataFrame:
    """A file as the collector writes it, with the truth in ``is_raw``.

    Takers hit the book at random times, each with one to four fills. At every start the collector asks for the last 100
    raw trades, misses a few seconds, then streams aggregates; it never writes an id twice, whatever its space.
    """
    rng = np.random.default_rng(seed)
    takers = 600
    taker_ms = 1_700_000_000_000 + np.cumsum(rng.integers(0, 3_000, takers))
    fills_each = rng.integers(1, 5, takers)
    raw_ms = np.repeat(taker_ms, fills_each)
    first_raw = int(rng.integers(10_000, 20_000))
    first_aggregate = first_raw - int(rng.integers(150, 5_000))
    rows, seen = [], set()
    start = 150
    while start < takers - 50:
        stop = start + int(rng.integers(10, 150))
        asked = int(np.searchsorted(raw_ms, taker_ms[start], side="right"))
        seeded = [(first_raw + i, int(raw_ms[i]), True) for i in range(asked - SEED_ROWS, asked)]
        streaming = int(np.searchsorted(taker_ms, taker_ms[start] + 2_000, side="right"))
        streamed = [(first_aggregate + i, int(taker_ms[i]), False) for i in range(streaming, min(stop, takers))]
        for row in seeded + streamed:
            if row[0] not in seen:
                seen.add(row[0])
                rows.append(row)
        start = max(stop - int(rng.integers(0, 60)), start + 1)
    return pl.DataFrame(rows, schema=["id", "event_ms", "is_raw"], orient="row").with_columns(file=pl.lit("x"))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_no_row_of_a_simulated_collector_is_put_in_the_wrong_space_unmarked(seed):
    result = id_spaces(recorded(seed))
    assert result.filter(~pl.col("is_ambiguous") & ((pl.col("space") == "raw") != pl.col("is_raw"))).is_empty()
    doubts = result["is_ambiguous"]
    assert doubts.is_sorted()  # only what nothing follows, at the end of the file, may stay in doubt


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_every_row_comes_back_once_and_in_order_with_one_space(rows):
    written = trades(*rows)
    result = id_spaces(written)
    assert result.select(written.columns).equals(written)
    assert result["space"].null_count() == result["is_ambiguous"].null_count() == 0


def real(folder, *names: str) -> pl.DataFrame:
    return pl.concat(
        pl.read_csv(folder / name).select(
            "id",
            "price",
            "quantity",
            event_ms="unix_timestamp_ms",
            is_buyer_maker=pl.col("side") == "sell",
            file=pl.lit(name),
        )
        for name in names
    )


def test_the_dirty_file_has_37_switches_and_104_repeated_aggregates(real_data):
    result = id_spaces(real(real_data / "collector-dirty-2025-10-01", "trades_BNBUSDT.csv"))
    assert dict(result["space"].value_counts().iter_rows()) == {"aggregate": 2_251, "raw": 1_886}
    assert not result["is_ambiguous"].any()
    assert id_space_switches(result) == 37
    assert repeated_aggregates(result).count() == 104


def test_the_fills_of_an_aggregate_never_sum_to_more_than_it_holds(real_data):
    """Would the spaces be the wrong way round, several "fills" would outweigh one "aggregate"."""
    for folder, name, of_several in (
        ("collector-2025-09-24", "trades_USD1USDT.csv", 179),
        ("collector-dirty-2025-10-01", "trades_BNBUSDT.csv", 34),
    ):
        result = id_spaces(real(real_data / folder, name))
        taken = result.group_by("event_ms", "price", "is_buyer_maker").agg(
            raw=pl.col("quantity").filter(pl.col("space") == "raw").sum(),
            fills=(pl.col("space") == "raw").sum(),
            aggregate=pl.col("quantity").filter(pl.col("space") == "aggregate").sum(),
            aggregates=(pl.col("space") == "aggregate").sum(),
        )
        both = taken.filter((pl.col("fills") > 0) & (pl.col("aggregates") > 0))
        assert (both["raw"] <= both["aggregate"] + 1e-9).all()
        assert (both["fills"] >= both["aggregates"]).all()
        assert both.filter(pl.col("fills") > pl.col("aggregates")).height == of_several
