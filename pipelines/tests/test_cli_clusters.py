"""``aster clusters`` and ``aster signals``: maps built piece by piece from a synthetic market, read and told."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner

from data.lake import Lake
from data.schema_clusters import DERIVED
from data.synthetic import BTC_LIKE, MarketSpec, generate
from pipelines.cli_clusters import clusters, signals
from pipelines.clusters_job import build_map, read_map
from research.clusters.inputs import Unavailable
from research.clusters.maps import MapSettings, current_map_ids
from research.formats import NARROW_SPACE

START = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = MarketSpec(symbols=(BTC_LIKE,), start=START, days=2, seed=3, trades_per_second=0.05)
RECORDED = ("klines", "mark_klines", "open_interest", "force_orders", "funding", "instruments")
BUILT = ("clusters", "cluster_events", "oi_state", "heatmap")
SEVERAL = ("aster", "force_orders", "hybrid")


@pytest.fixture(scope="module")
def market() -> dict[str, pl.DataFrame]:
    """Two days of one symbol, and three times its open interest as that of another venue."""
    days = [generate(SPEC, "BTCUSDT", day) for day in SPEC.dates]
    found = {name: pl.concat([day[name] for day in days if name in day]) for name in RECORDED}
    foreign = found["open_interest"].with_columns(pl.col("open_interest") * 3.0, venue=pl.lit("binance"))
    return found | {"open_interest": pl.concat([found["open_interest"], foreign])}


def fill(lake: Lake, market: dict[str, pl.DataFrame], end: datetime | None = None) -> Lake:
    """Bring the market into a lake, as far as it was known before ``end``."""
    time = {name: "open_time" if "klines" in name else "event_time" for name in market}
    for name, rows in market.items():
        lake.append(name, rows if end is None else rows.filter(pl.col(time[name]) < end), origin="test")
    return lake


def rows(lake: Lake, table: str, source: str) -> pl.DataFrame:
    return lake.scan(table).filter(pl.col("source") == source)


@pytest.fixture(scope="module")
def built(market, tmp_path_factory) -> Lake:
    """A lake with maps of several sources, each built at once."""
    lake = fill(Lake(tmp_path_factory.mktemp("lake"), create=True), market)
    for source in (*SEVERAL, "binance"):
        build_map(lake, "BTCUSDT", source)
    return lake


def run(command, lake: Lake, *arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(command, [*arguments, "--lake", str(lake.root)], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


# --- Building --------------------------------------------------------------------------------------------------------


def test_a_map_that_grew_with_its_data_is_the_map_that_was_built_at_once(built, market, tmp_path):
    lake = Lake(tmp_path, create=True)
    for hours in (7.5, 26.05, 48):
        fill(lake, market, START + timedelta(hours=hours))
        for source in SEVERAL:
            build_map(lake, "BTCUSDT", source)
    for source in SEVERAL:
        for table in BUILT:
            assert rows(lake, table, source).equals(rows(built, table, source)), (source, table)
    assert lake.scan("conflicts").is_empty()


@pytest.mark.parametrize("told_ms", [500, 1_000])
def test_what_was_not_known_yet_changes_no_row_of_a_map_on_asters_prices(market, tmp_path, told_ms):
    moment = START + timedelta(hours=3)
    market = _slow_aster(market)
    known = {
        name: rows.filter(pl.col("recv_time") <= moment + timedelta(milliseconds=told_ms))
        if "recv_time" in rows.columns
        else rows
        for name, rows in market.items()
    }
    whole = fill(Lake(tmp_path / "whole", create=True), market, moment + timedelta(minutes=10))
    then = fill(Lake(tmp_path / "then", create=True), known, moment + timedelta(minutes=10))
    for lake in (whole, then):
        build_map(lake, "BTCUSDT", "binance")
    by_then = pl.col("avail_time") <= moment + timedelta(milliseconds=told_ms)
    for table in BUILT:
        assert rows(whole, table, "binance").filter(by_then).equals(rows(then, table, "binance").filter(by_then)), table


def _slow_aster(market: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Binance's minutes come after half a second, Aster's marks after 0.8, its open interest after 1.5, its klines
    after 2.9."""

    def after(rows: pl.DataFrame, ms: int, **columns: pl.Expr) -> pl.DataFrame:
        received = pl.col("open_time").dt.offset_by("1m").dt.offset_by(f"{ms}ms").cast(pl.Datetime("ns", "UTC"))
        return rows.with_columns(recv_time=received, **columns)

    interest = market["open_interest"]
    own = interest.filter(pl.col("venue") == "aster").with_columns(
        pl.col("event_time").dt.offset_by("1500ms"), pl.col("recv_time").dt.offset_by("1500ms")
    )
    foreign = interest.filter(pl.col("venue") == "binance")
    klines = [after(market["klines"], 2_900), after(market["klines"], 500, venue=pl.lit("binance"))]
    return market | {
        "klines": pl.concat(klines),
        "mark_klines": after(market["mark_klines"], 800),
        "open_interest": pl.concat([own, foreign]),
    }


def test_building_again_adds_nothing(built):
    before = {table: rows(built, table, "aster").height for table in BUILT}
    assert min(before.values()) > 0
    build_map(built, "BTCUSDT", "aster")
    build_map(built, "BTCUSDT", "aster", again=True)
    assert {table: rows(built, table, "aster").height for table in BUILT} == before
    assert built.scan("conflicts").is_empty()


def test_other_settings_are_another_map_beside_the_first(market, tmp_path):
    lake = fill(Lake(tmp_path, create=True), market, START + timedelta(hours=3, minutes=2))
    maps = [read_map(lake, "BTCUSDT", "aster", settings=MapSettings(every_minutes=every)) for every in (5, 15)]
    assert [found.oi_state.height for found in maps] == [36, 12]
    assert maps[0].map_id != maps[1].map_id
    assert current_map_ids(lake, "BTCUSDT")[0] == maps[0].map_id
    assert lake.sql("SELECT count(DISTINCT map_id) AS n FROM heatmap")["n"].item() == 2


def test_a_map_stays_what_it_told_when_history_comes_late_and_another_one_is_made_with_it(built, market, tmp_path):
    until = START + timedelta(hours=2, minutes=2)
    late = pl.col("event_time").is_between(START + timedelta(hours=1), START + timedelta(minutes=90))
    interest = market["open_interest"].filter(pl.col("venue") == "aster")
    known = market | {"open_interest": interest.filter(~late)}
    lake = fill(Lake(tmp_path / "grown", create=True), known, until)
    build_map(lake, "BTCUSDT", "hybrid")
    told = {table: rows(lake, table, "aster") for table in BUILT}
    fill(lake, {"open_interest": interest}, until)

    found = read_map(lake, "BTCUSDT", "aster", tell_late=True)
    (said,) = found.late
    assert said.startswith(f"{interest.filter(late).height} rows of open_interest from 2026-01-01 on came after map ")
    assert "`aster clusters --symbol BTCUSDT --source aster --again`" in said
    assert found.clusters.equals(told["clusters"])

    build_map(lake, "BTCUSDT", "hybrid", again=True)
    for table in BUILT:
        now, is_old = rows(lake, table, "aster"), pl.col("map_id") == found.map_id
        assert now.filter(is_old).equals(told[table]), table
        whole = rows(built, table, "aster").filter(pl.col("ts") <= found.until)
        assert now.filter(~is_old).drop("map_id").equals(whole.drop("map_id")), table
    maps = {source: rows(lake, "oi_state", source)["map_id"].unique(maintain_order=True) for source in SEVERAL}
    assert {source: len(ids) for source, ids in maps.items()} == {"aster": 2, "force_orders": 1, "hybrid": 2}
    current = current_map_ids(lake, "BTCUSDT")
    assert set(current) == {*maps["force_orders"], maps["aster"][1], maps["hybrid"][1]}
    assert found.map_id == maps["aster"][0]
    assert read_map(lake, "BTCUSDT", "hybrid", tell_late=True).late == ()
    assert lake.scan("conflicts").is_empty()


def test_a_snapshot_stands_on_the_clock_and_is_known_after_its_bar(built):
    for source in SEVERAL:
        found = rows(built, "oi_state", source)
        assert (found["ts"].dt.minute() % 5 == 0).all()
        assert (found["avail_time"] > found["ts"]).all()


def test_longs_lie_below_the_mark_and_shorts_above(built):
    for source in (*SEVERAL, "binance"):
        found = read_map(built, "BTCUSDT", source)
        shown = found.clusters.filter("active").join(found.oi_state.select("ts", "mark_price"), on="ts")
        assert shown.height > 0, source
        assert shown.filter(pl.col("side") == "long").select((pl.col("price_hi") <= pl.col("mark_price")).all()).item()
        assert shown.filter(pl.col("side") == "short").select((pl.col("price_lo") > pl.col("mark_price")).all()).item()


def test_what_another_venue_has_at_risk_is_told_as_a_share_of_aster_s(built):
    found = rows(built, "clusters", "binance").filter("available", pl.col("cluster_id").is_not_null())
    # That venue holds three times as much at the same levels.
    share = (found["open_interest"] / found["mass_src_usd"]).drop_nulls()
    assert len(share) > 0.9 * found.height
    assert share.median() == pytest.approx(1 / 3, rel=1e-3)
    assert set(rows(built, "oi_state", "binance")["venue"]) == {"aster"}  # its prices hold there


def test_rows_tell_the_age_of_their_open_interest_their_deviations_and_how_many_may_be_liquidated(built):
    second_day = [
        rows(built, "clusters", source).filter(pl.col("ts") >= START + timedelta(days=1)) for source in SEVERAL
    ]
    aster, observed, together = (
        found.filter(pl.col("available"), pl.col("p_touch").is_not_null()) for found in second_day
    )
    assert aster["oi_age_s"].is_between(0.0, 120.0).all()
    assert observed["oi_age_s"].null_count() == observed.height
    for found in (aster, observed, together):
        assert (found["dist_sigma"] >= 0.0).all()
        assert (found["liquidation_count"] >= 0.0).all()
        assert found["liquidation_count"].is_null().equals(found["open_interest"].is_null())
    assert aster["liquidation_count"].null_count() == 0
    foreign = rows(built, "clusters", "binance").filter(pl.col("liquidation_count").is_not_null())
    assert foreign.height > 0
    assert foreign["open_interest"].null_count() == 0


def test_the_map_is_read_back_as_it_was_stored(built):
    found = read_map(built, "BTCUSDT", "aster", START + timedelta(hours=10), START + timedelta(hours=11))
    assert len(found.profiles) == 12
    totals = found.heatmap.group_by("ts").agg(pl.col("total_usdt").sum()).sort("ts")["total_usdt"]
    assert found.profiles.mass_usdt.sum(axis=(1, 2)) == pytest.approx(totals.to_numpy(), rel=0.03)


def test_derived_rows_are_no_part_of_coverage(built):
    from data.coverage import coverage

    assert not set(coverage(built)["table"]) & set(DERIVED)


def test_an_unknown_source_is_refused(built):
    with pytest.raises(ValueError, match="expected one of aster, binance"):
        read_map(built, "BTCUSDT", "deribit")


def test_nothing_is_told_where_there_is_no_data(built):
    found = read_map(built, "XAUUSDT", "binance", end=START + timedelta(days=1))
    assert isinstance(found, Unavailable)
    told = built.scan("clusters", symbols=["XAUUSDT"])
    assert told.select("available", "reason").rows() == [(False, "no open interest of XAUUSDT at binance in the lake")]


# --- The command line ------------------------------------------------------------------------------------------------


def test_clusters_are_printed_with_their_bands(built):
    told = run(clusters, built, "--symbol", "BTCUSDT", "--source", "aster")
    assert told.startswith("BTCUSDT by aster, 2026-01-02 23:55 UTC, map ")
    assert "long-term" in told and "wide" in told
    assert f"BTCUSDT: 5{NARROW_SPACE}% against shorts liquidates " in told


def test_scripts_get_every_column_of_the_living_clusters(built):
    told = json.loads(run(clusters, built, "--symbol", "btcusdt,XAUUSDT", "--json"))
    assert [each["symbol"] for each in told] == ["BTCUSDT", "XAUUSDT"]
    assert (told[0]["source"], told[0]["ts"]) == ("aster", "2026-01-02T23:55:00Z")
    first = told[0]["clusters"][0]
    assert {"price_level", "side", "strength", "distance_from_price", "cluster_id", "strength_band"} <= set(first)
    reached = [row["at_risk_usdt"] for row in told[0]["leverage_risk"]]
    assert reached == [*sorted(reached[:3]), *sorted(reached[3:])] and reached[2] > 0.0
    assert [(row["metric"], row["n_days"], row["is_enough"]) for row in told[0]["volatility"]] == [
        ("change", 2, False),
        ("change beyond volatility", 2, False),
    ]
    assert told[1] == {"symbol": "XAUUSDT", "available": False, "clusters": [],
                       "reason": "no open interest of XAUUSDT at aster in the lake"}  # fmt: skip


def test_a_range_shows_the_last_snapshot_before_its_end(built):
    told = json.loads(run(clusters, built, "--symbol", "BTCUSDT", "--end", "2026-01-01T12:00", "--json"))
    assert told[0]["ts"] == "2026-01-01T11:55:00Z"


def test_without_any_data_the_exit_status_tells(built):
    assert "XAUUSDT: no map: no open interest" in run(clusters, built, "--symbol", "XAUUSDT", status=1)


def test_half_minutes_are_refused(built):
    result = CliRunner().invoke(clusters, ["--symbol", "BTCUSDT", "--every", "90s", "--lake", str(built.root)])
    assert result.exit_code == 2
    assert "expected whole minutes, got 90 s" in result.output


def test_signals_have_aster_s_price_and_leave_out_symbols_without_data(built, market):
    told = json.loads(run(signals, built, "--symbols", "BTCUSDT,XAUUSDT", "--at", "2026-01-02T20:00:30", "--json"))
    (minute,) = market["mark_klines"].filter(pl.col("open_time") == datetime(2026, 1, 2, 19, 59, tzinfo=UTC))["close"]
    assert told["signals"]["BTCUSDT"]["entry_price"] == pytest.approx(minute, abs=0.1)
    assert told["omitted"] == {"XAUUSDT": "no open interest of XAUUSDT at aster in the lake"}
    assert built.sql("SELECT count(*) AS n FROM signals")["n"].item() == 2


def test_signals_of_all_contracts_that_trade(built):
    told = run(signals, built, "--at", "2026-01-02T20:00:30", "--cost-bps", "10", "--min-strength", "0.1")
    assert "BTCUSDT" in told


def test_a_range_without_a_snapshot_is_told_as_that(built):
    words = ["--symbol", "BTCUSDT", "--source", "aster", "--end", (START + timedelta(minutes=3)).isoformat()]
    assert "no snapshot in this range" in run(clusters, built, *words)


def test_signals_take_one_symbol_by_the_name_that_clusters_have_for_it(built):
    told = json.loads(run(signals, built, "--symbol", "BTCUSDT", "--at", "2026-01-02T12:00", "--json"))
    assert list(told["signals"]) == ["BTCUSDT"]
