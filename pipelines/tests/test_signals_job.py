"""Signals through a range: each is what ``--at`` tells of its moment, and nothing of later is in it."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

from data.lake import Lake
from data.schema import RATIOS
from data.synthetic import BTC_LIKE, MarketSpec, generate
from pipelines import signals_job
from pipelines.cli_clusters import clusters, signals
from pipelines.clusters_job import read_map

START = datetime(2026, 1, 1, tzinfo=UTC)
EVENING = START + timedelta(hours=19)
RANGE = ("--start", "2026-01-01T19:20", "--end", "2026-01-01T20:40")
EAGER = ("--min-strength", "0.1", "--cost-bps", "7")  # so that most moments have a trade
RECORDED = ("klines", "mark_klines", "mark_price", "open_interest", "force_orders", "funding", "instruments")
SOURCES = ("aster", "binance", "force_orders", "hybrid")


@pytest.fixture(scope="module")
def market() -> dict[str, pl.DataFrame]:
    """A day of one symbol as it was recorded, with an evening on which much goes wrong.

    From 19:30 the mark is streamed late, from 19:45 not at all, from 20:00 its minutes are missing too, at 20:15 both
    are back; at 20:30 the tick size grows. Another venue holds three times as much, and its crowd turns all the time.
    """
    spec = MarketSpec(symbols=(BTC_LIKE,), start=START, days=1, seed=3, trades_per_second=0.05)
    day = generate(spec, "BTCUSDT", spec.dates[0])
    found = {name: day[name] for name in RECORDED}
    time, bar = pl.col("event_time"), pl.col("open_time")
    stream = found["mark_price"].filter(~time.is_between(evening(45), evening(75), closed="left"))
    is_late = time.is_between(evening(30), evening(45))
    late = pl.when(is_late).then(pl.col("recv_time").dt.offset_by("2s")).otherwise("recv_time")
    finer = found["instruments"]
    coarser = finer.with_columns(
        tick_size=pl.lit(25.0), event_time=pl.lit(evening(90)).cast(finer.schema["event_time"])
    )
    foreign = found["open_interest"].with_columns(pl.col("open_interest") * 3.0, venue=pl.lit("binance"))
    return found | {
        "mark_price": stream.with_columns(recv_time=late),
        "mark_klines": found["mark_klines"].filter(~bar.is_between(evening(60), evening(75), closed="left")),
        "instruments": pl.concat([finer, coarser]),
        "open_interest": pl.concat([found["open_interest"], foreign]),
        "ratios": crowd(),
    }


def evening(minutes: float) -> datetime:
    return EVENING + timedelta(minutes=minutes)


def crowd() -> pl.DataFrame:
    """Longs over shorts at binance every minute, from 0.5 to 1.7 and again, received two seconds later."""
    at = [evening(minute) for minute in range(180)]
    rows = pl.DataFrame({"event_time": at, "value": [0.5 + 0.2 * (minute % 7) for minute in range(180)]})
    told = rows.with_columns(
        venue=pl.lit("binance"),
        symbol=pl.lit("BTCUSDT"),
        kind=pl.lit("long_short_accounts"),
        recv_time=pl.col("event_time").dt.offset_by("2s"),
        source=pl.lit("synthetic"),
    )
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in RATIOS.columns.items() if name not in told.columns]
    return told.with_columns(missing).select(RATIOS.columns.names()).cast(dict(RATIOS.columns))


def filled(lake: Lake, market: dict[str, pl.DataFrame]) -> Lake:
    for name, rows in market.items():
        lake.append(name, rows, origin="test")
    return lake


@pytest.fixture(scope="module")
def recorded(market, tmp_path_factory) -> Lake:
    """A lake with all of the market."""
    return filled(Lake(tmp_path_factory.mktemp("lake"), create=True), market)


def run(lake: Lake, *arguments: str, status: int = 0) -> str:
    words = ["--symbols", "BTCUSDT"] if "--symbols" not in arguments else []
    result = CliRunner().invoke(signals, [*words, *arguments, "--lake", str(lake.root)], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout if status in (0, 1) else result.output


def rows_of(lake: Lake, *arguments: str, status: int = 0) -> list[dict]:
    return json.loads(run(lake, *arguments, "--json", status=status))


def at(lake: Lake, row: dict, *arguments: str) -> dict:
    """What ``--at`` tells of a row's moment: its signal, or only its reason."""
    told = json.loads(run(lake, "--at", row["ts"], *arguments, "--json"))
    symbol = row["symbol"]
    return told["signals"].get(symbol) or {"omitted": told["omitted"][symbol]}


def as_at(row: dict) -> dict:
    return row if row["available"] else {"omitted": row["reason"]}


def moments(told: list[dict]) -> list[str]:
    return [row["ts"] for row in told]


@pytest.mark.parametrize("source", SOURCES)
def test_each_signal_of_a_range_is_what_at_tells_of_its_moment(recorded, source):
    manner = ("--source", source, *EAGER)
    told = rows_of(recorded, *RANGE, *manner)
    assert len(told) > 11
    assert [as_at(row) for row in told] == [at(recorded, row, *manner) for row in told]
    assert {row["signal"] for row in told} & {"LONG", "SHORT"}
    assert {row["market_sentiment"]["sentiment"] for row in told if row["available"]} >= {
        "BEARISH_BIAS",
        "BULLISH_BIAS",
    }
    assert len({row["entry_price"] % 25.0 == 0.0 for row in told if row["available"]}) == 2  # both tick sizes


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("place", [4, 6])
def test_no_signal_of_a_range_knows_what_came_after_its_moment(market, recorded, tmp_path, source, place):
    manner = ("--source", source, *EAGER)
    told = rows_of(recorded, *RANGE, *manner)
    moment = datetime.fromisoformat(told[place]["ts"])
    other = filled(Lake(tmp_path, create=True), {name: changed_after(moment, rows) for name, rows in market.items()})
    then = rows_of(other, *RANGE, *manner)
    assert then[: place + 1] == told[: place + 1]
    assert then[place + 1 :] != told[place + 1 :]


def changed_after(moment: datetime, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with every number of what became known later a tenth larger."""
    is_later = pl.col("recv_time" if "recv_time" in rows.columns else "event_time") > moment
    return rows.with_columns(pl.when(is_later).then(pl.col(pl.Float64) * 1.1).otherwise(pl.col(pl.Float64)))


def test_a_range_has_one_signal_per_snapshot_soon_after_it(recorded):
    told = [datetime.fromisoformat(at) for at in moments(rows_of(recorded, *RANGE))]
    assert len(told) == 16
    late = [at - evening(20 + 5 * place) for place, at in enumerate(told)]
    assert timedelta(0) < min(late) <= max(late) <= timedelta(seconds=3)


def test_a_snapshot_an_hour_makes_signals_too(recorded, tmp_path):
    (tmp_path / "hourly.toml").write_text("every_minutes = 60\n")
    told = rows_of(
        recorded, "--start", "2026-01-01T16:00", "--end", "2026-01-01T20:00", "--config", f"{tmp_path}/hourly.toml"
    )
    assert [(at[11:16], row["available"]) for at, row in zip(moments(told), told, strict=True)] == [
        ("16:00", True), ("17:00", True), ("18:00", True), ("19:00", True),
    ]  # fmt: skip


def test_a_range_takes_its_first_moment_and_not_its_end(recorded):
    whole = moments(rows_of(recorded, *RANGE))
    assert moments(rows_of(recorded, "--start", whole[2], "--end", whole[5])) == whole[2:5]


def test_a_range_without_a_start_begins_with_the_map(recorded):
    told = rows_of(recorded, "--end", "2026-01-01T02:00")
    assert (told[0]["ts"][:16], len(told)) == ("2026-01-01T00:05", 23)


def test_a_range_without_an_end_goes_on_until_the_map_ends(recorded):
    told = rows_of(recorded, "--start", "2026-01-01T23:30")
    assert [at[11:16] for at in moments(told)] == ["23:30", "23:35", "23:40", "23:45", "23:50", "23:55"]


def test_the_map_is_asked_for_once_per_symbol(recorded, monkeypatch):
    asked = []

    def counted(lake, symbol, *arguments, **manner):
        asked.append(symbol)
        return read_map(lake, symbol, *arguments, **manner)

    monkeypatch.setattr(signals_job, "read_map", counted)
    rows_of(recorded, *RANGE, "--symbols", "BTCUSDT,XAUUSDT")
    assert asked == ["BTCUSDT", "XAUUSDT"]


def test_the_signals_of_a_range_are_stored_once(recorded):
    told = rows_of(recorded, *RANGE, "--max-distance-bps", "150")
    for _ in range(2):
        stored = recorded.scan("signals", symbols=["BTCUSDT"]).filter(pl.col("rules_id") == told[0]["rules_id"])
        assert stored["ts"].to_list() == [datetime.fromisoformat(at) for at in moments(told)]
        rows_of(recorded, *RANGE, "--max-distance-bps", "150")
    assert recorded.scan("conflicts").is_empty()


def test_a_symbol_without_data_has_one_row_with_its_reason_as_at_has_it(recorded):
    *_, missing = rows_of(recorded, *RANGE, "--symbols", "BTCUSDT,XAUUSDT")
    assert (missing["symbol"], missing["ts"]) == ("XAUUSDT", "2026-01-01T20:40:00Z")
    assert as_at(missing) == at(recorded, missing, "--symbols", "XAUUSDT")


def test_where_no_signal_of_a_range_is_available_the_exit_status_tells(recorded):
    told = run(recorded, *RANGE, "--symbols", "XAUUSDT", status=1)
    assert told == "XAUUSDT: no open interest of XAUUSDT at aster in the lake\n"
    between = ("--start", "2026-01-01T12:01", "--end", "2026-01-01T12:04")
    assert run(recorded, *between, status=1) == "BTCUSDT: no snapshot of its map in this range\n"
    assert rows_of(recorded, *between, status=1) == []


def test_a_long_range_is_a_table_that_a_small_terminal_shows(recorded, monkeypatch):
    monkeypatch.setattr("pipelines.terminal.output", lambda: Console(highlight=False, width=80))
    told = run(recorded, "--end", "2026-01-02", *EAGER).splitlines()
    assert told[0].startswith("BTCUSDT by aster, 2026-01-01 00:05 to 2026-01-01 23:55 UTC, map ")
    assert told[1].split() == ["at,", "UTC", "signal", "entry", "stop", "target", "reward/risk"]
    assert max(map(len, told[1:202])) <= 80
    assert "more rows; narrow the range or use --json" in told[202]
    assert told[203].startswith("BTCUSDT: of 287 moments ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--start", "2026-01-06", "--end", "2026-01-06"), "--start 2026-01-06 00:00 is not before --end 2026-01-06"),
        (("--start", "2026-01-06", "--end", "2026-01-05"), "--start 2026-01-06 00:00 is not before --end 2026-01-05"),
    ],
)
def test_a_range_that_holds_no_moment_is_refused_as_clusters_refuse_it(recorded, words, said):
    for command in (clusters, signals):
        with pytest.raises(ValueError, match=said):
            CliRunner().invoke(
                command, ["--symbol", "BTCUSDT", *words, "--lake", str(recorded.root)], catch_exceptions=False
            )


def test_a_moment_and_a_range_are_not_both_taken(recorded):
    for words in (RANGE, RANGE[:2], RANGE[2:]):
        assert "--at is one moment, --start and --end are a range" in run(
            recorded, "--at", "2026-01-01T12:00", *words, status=2
        )


def test_a_range_asks_for_symbols(recorded):
    result = CliRunner().invoke(signals, [*RANGE, "--lake", str(recorded.root)])
    assert (result.exit_code, "a range is of --symbols" in result.output) == (2, True)
