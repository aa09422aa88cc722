from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from data.gaps import gap_rows, trade_gaps
from data.lake import Lake
from data.synthetic import Hole, fill_lake
from pipelines.market_report import covered_days, gaps_section, liquidations_section, market_section
from research.bars import Substitutions, build_bars

SYMBOLS = ("BTCUSDT",)


@pytest.fixture(scope="module")
def bars(synthetic_lake, synthetic_spec):
    return build_bars(
        synthetic_lake, "BTCUSDT", synthetic_spec.start, synthetic_spec.end, interval="1m", latency_ms=0,
        substitutions=Substitutions(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def torn(synthetic_spec, tmp_path_factory):
    """A lake of six hours of which ten minutes of trades are missing, and its market."""
    start = synthetic_spec.start
    hole = Hole(table="trades", symbol="BTCUSDT", start=start + timedelta(hours=2), end=start + timedelta(minutes=130))
    spec = replace(synthetic_spec, days=0.25, holes=(hole,))
    lake = Lake(tmp_path_factory.mktemp("torn") / "lake", create=True)
    fill_lake(lake, spec)
    return lake, spec


def test_what_bars_do_not_read_is_not_missed(synthetic_lake, synthetic_spec):
    covered = covered_days(synthetic_lake, SYMBOLS, synthetic_spec.start, synthetic_spec.end)
    tables = set(covered["table"])
    assert {"trades", "klines", "mark_price", "book_ticker", "funding"} <= tables
    assert not {"mark_klines", "index_klines", "raw_trades"} & tables  # marks stream; raw trades were never recorded


def test_the_market_is_drawn_and_its_rows_are_counted(bars, synthetic_lake, synthetic_spec):
    covered = covered_days(synthetic_lake, SYMBOLS, synthetic_spec.start, synthetic_spec.end)
    section = market_section(bars, covered)
    assert dict(section.tables[0].rows)["klines"] == "4\u202f320"  # three days of minutes
    assert section.figures[0].layout.meta["title"] == "BTCUSDT: candles of 15 min"


def test_nothing_missing_is_said_in_words(synthetic_lake, synthetic_spec):
    span = (synthetic_spec.start, synthetic_spec.end)
    section = gaps_section(synthetic_lake, covered_days(synthetic_lake, SYMBOLS, *span), SYMBOLS, *span)
    assert section.intro == "None: no row that can be counted is missing, and the ledger of gaps is empty."
    assert len(section.tables) == 1
    assert ("klines BTCUSDT", "0", "100.00\u202f%", "none") in section.tables[0].rows


def test_a_hole_is_counted_and_its_line_in_the_ledger_is_shown(torn):
    lake, spec = torn
    holes = trade_gaps(lake.scan("trades"))
    lake.append("gaps", gap_rows(holes, cause="reconnect", detected_time=datetime(2026, 2, 1, tzinfo=UTC)), origin="t")
    section = gaps_section(lake, covered_days(lake, SYMBOLS, spec.start, spec.end), SYMBOLS, spec.start, spec.end)
    missing = f"{holes['missing'].sum():,}".replace(",", "\u202f")
    assert section.intro == f"{missing} rows that can be counted are missing; the ledger has 1 open."
    (row,) = section.tables[1].rows
    assert row[:2] == ("trades", "BTCUSDT")
    assert row[4:] == (missing, "reconnect", "open")


def test_liquidations_are_summed_by_side_as_lower_bounds(bars):
    moment = bars.frame["open_time"][100]
    forced = pl.DataFrame(
        {
            "symbol": ["BTCUSDT"] * 3,
            "event_time": [moment, moment + timedelta(seconds=5), moment + timedelta(hours=2)],
            "side": ["SELL", "SELL", "BUY"],
            "average_price": [100.0, 100.0, 50.0],
            "filled_quantity": [1.0, 2.0, 3.0],
        }
    )
    section = liquidations_section(bars, forced)
    assert section.intro.endswith("every count and sum here is a lower bound.")
    assert section.tables[0].rows == (
        ("BTCUSDT", "▼ longs closed (forced sell)", "2", "300.00", "200.00", "300.00 on 05 Jan 01:00"),
        ("BTCUSDT", "△ shorts closed (forced buy)", "1", "150.00", "150.00", "150.00 on 05 Jan 03:00"),
    )


def test_a_market_without_liquidations_says_so(bars, synthetic_lake):
    section = liquidations_section(bars, synthetic_lake.scan("force_orders").clear())
    assert section.intro == "None was recorded."  # nothing here is a lower bound of anything
    assert section.figures == ()
