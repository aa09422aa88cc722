"""What a replay trades is what the backtest trades, to the last bit; killed, repeated or interleaved, it stays so."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from data.convert import import_path
from data.lake import Lake
from data.wal import Log
from live import runner, runs
from live.desk import Desk
from live.dispatch import first_open_ms
from live.journal import read_journal
from live.journal_trades import trades
from live.replay import bars_of, write_recording
from live.tests.random_stream import random_log
from research import engine
from research.bars import Substitutions

START = datetime(2025, 11, 18, tzinfo=UTC)
LOG_MS = 1_780_000_017_345
SUBSTITUTED = Substitutions(spread_ticks=1.0, mark="last", funding_rate_bps=1.0, funding_interval_hours=8.0)


def assert_same_trades(path, config, bars) -> pl.DataFrame:
    """The journal's trade list is the backtest's, every float to the bit."""
    listed = trades(path, config.config_hash, config.symbol)
    assert_frame_equal(listed, engine.backtest(config, bars, min_coverage=0.0).trades, check_exact=True)
    return listed


def test_a_replay_trades_what_the_backtest_trades(case, replayed, tmp_path):
    listed = []
    for seed in range(40):
        config, bars = case(seed)
        path, _ = replayed((config, bars), path=tmp_path / f"{seed}.sqlite")
        listed.append(assert_same_trades(path, config, bars))
    found = pl.concat(listed)
    assert set(found["reason"]) == {"stop", "target", "trailing", "open"}
    assert set(found["side"]) == {-1, 1}
    assert found["is_ambiguous"].any() and (found["funding_usdt"] != 0.0).any()


def test_two_replays_write_the_same_chain(case, replayed, tmp_path):
    heads = {replayed(case(1), path=tmp_path / f"{n}.sqlite")[1] for n in range(2)}
    assert len(heads) == 1


def test_several_configs_run_side_by_side_as_each_would_alone(case, replayed):
    (config, bars), other = case(1), case(2)
    narrow = replace(config, params={**config.params, "stop_bps": 7.0})
    path, _ = replayed((config, bars), (narrow, bars), other)
    for config_, bars_ in ((config, bars), (narrow, bars), other):
        assert_same_trades(path, config_, bars_)
    hashes = read_journal(path)["config_hash"].to_list()
    assert hashes != sorted(hashes)  # interleaved by time, not one after the other


def test_the_same_config_twice_is_refused(case, replayed):
    with pytest.raises(ValueError, match="given twice"):
        replayed(case(1), case(1))


def test_rows_of_another_config_are_refused(case, recorded):
    config, bars = case(1)
    with pytest.raises(ValueError, match="are for another config"):
        Desk(replace(config, params={**config.params, "stop_bps": 7.0}), recorded(config, bars).header)


def test_every_decision_order_and_fill_can_be_traced(case, replayed):
    config, bars = case(1)
    path, _ = replayed((config, bars))
    events = read_journal(path)
    open_ms = set(bars.frame["open_time"].dt.epoch("ms"))
    traced = events.filter(pl.col("kind").is_in(["decision", "intent", "missed", "fill", "cancelled"]))
    assert traced.height > 20
    assert traced.select(pl.col("trade_id", "client_order_id").is_null().any()).row(0) == (False, False)
    assert set(traced["config_hash"]) == {config.config_hash} and set(traced["symbol"]) == {config.symbol}
    for trade, name, body in traced.select("trade_id", "client_order_id", "body").iter_rows():
        key = json.loads(body)
        assert key["interval"] == "1m" and key["open_time_ms"] in open_ms
        assert name.startswith(f"wbrpl-{trade}-") and len(name) <= 36


def test_every_order_has_its_intent_written_first(case, replayed):
    path, _ = replayed(case(1))
    intents = set()
    for kind, name in read_journal(path).select("kind", "client_order_id").iter_rows():
        if kind == "intent":
            assert name not in intents, "one intent per order"
            intents.add(name)
        if kind in ("fill", "cancelled"):
            assert name in intents


KILLED = """
import os, signal, sys
from itertools import count
from pathlib import Path
from live.config import load_chosen
from live.journal import Journal
from live.recordings import replayed, run
from live.replay_rows import open_recording

chosen, stream, journal, rows = sys.argv[1:]
seen = count(1)
def on_row():
    if next(seen) == int(rows):
        os.kill(os.getpid(), signal.SIGKILL)
with open(stream, "rb") as source, Journal(Path(journal)) as journal:
    run([replayed(load_chosen(Path(chosen)).config, open_recording(source))], journal, on_row)
"""


def test_a_killed_replay_goes_on_where_it_stopped_and_writes_nothing_twice(case, replayed, promoted, tmp_path):
    config, bars = case(1)
    stream, path = tmp_path / "rows.arrow", tmp_path / "killed.sqlite"
    with stream.open("wb") as sink:
        write_recording(config, bars, sink)
    chosen, lengths = promoted(config), [0]
    for rows in (bars.frame.height // 3, 2 * bars.frame.height // 3):
        killed = subprocess.run([sys.executable, "-c", KILLED, chosen, stream, path, str(rows)], check=False)
        assert killed.returncode == -9
        lengths.append(read_journal(path).height)
    assert lengths[0] < lengths[1] < lengths[2]

    _, head = replayed((config, bars), path=path)
    straight, straight_head = replayed((config, bars))
    assert head == straight_head
    assert read_journal(path).equals(read_journal(straight))
    assert lengths[2] < read_journal(path).height
    assert_same_trades(path, config, bars)


@pytest.fixture
def lake(tmp_path):
    """A lake of 400 minutes of BNBUSDT: klines and filters, no quotes, marks or funding; three minutes are missing."""
    random = np.random.default_rng(1)
    lake, n_rows = Lake(tmp_path / "lake", create=True), 400
    ticks = 60_000 + np.cumsum(random.integers(-60, 61, (n_rows, 4))).reshape(n_rows, 4)
    volume = random.lognormal(2.0, 1.0, n_rows)
    klines = pl.DataFrame(
        {
            "venue": "aster",
            "symbol": "BNBUSDT",
            "interval": "1m",
            "open_time": [START + timedelta(minutes=i) for i in range(n_rows)],
            "open": ticks[:, 0] / 100,
            "high": ticks.max(axis=1) / 100,
            "low": ticks.min(axis=1) / 100,
            "close": ticks[:, 3] / 100,
            "volume": volume,
            "quote_volume": volume * 600.0,
            "trade_count": 10,
            "taker_buy_volume": volume / 2.0,
            "source": "rest",
        }
    )
    lake.append("klines", klines.filter(~pl.int_range(pl.len()).is_in([100, 101, 250])), origin="test")
    instrument = {
        "venue": "aster",
        "symbol": "BNBUSDT",
        "event_time": START - timedelta(days=1),
        "status": "TRADING",
        "tick_size": 0.01,
        "step_size": 0.01,
        "min_quantity": 0.01,
        "max_quantity": 1_000.0,
        "market_max_quantity": 500.0,
        "min_notional_usdt": 5.0,
        "source": "rest",
    }
    lake.append("instruments", pl.DataFrame([instrument]), origin="test")
    return lake


@pytest.fixture
def aster_live():
    """Run the command line in this process: ``aster_live("--config", path)``."""
    return lambda *arguments: CliRunner().invoke(runner.main, [str(argument) for argument in arguments])


def test_the_command_replays_the_lake_and_prints_one_object(config, lake, promoted, aster_live, tmp_path):
    traded = config(substitutions=SUBSTITUTED)
    path = tmp_path / "journal.sqlite"
    done = aster_live("--config", promoted(traded), "--lake", lake.root, "--journal", path, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.output)
    listed = assert_same_trades(path, traded, bars_of(traded, lake, None, None))
    assert result["trades"] == listed.filter(pl.col("reason") != "open").height > 10
    assert result["net_pnl_usdt"] == listed["net_pnl_usdt"].sum()
    assert result["chain_head"] == read_journal(path)["hash"][-1]
    assert result["journal"] == str(path)
    assert any("no quotes recorded" in sentence for sentence in result["configs"][0]["assumptions"])


def test_the_command_replays_a_range_and_prints_for_people(config, lake, promoted, aster_live, tmp_path):
    traded = config(substitutions=SUBSTITUTED)
    path, end = tmp_path / "journal.sqlite", START + timedelta(hours=2)
    done = aster_live("--config", promoted(traded), "--lake", lake.root, "--journal", path,
                      "--start", "2025-11-18", "--end", "2025-11-18T02:00")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert_same_trades(path, traded, bars_of(traded, lake, START, end))
    assert "120 rows" in done.output and "chain head" in done.output and "no funding recorded" in done.output


def test_real_mode_wants_the_symbols_typed_again(config, promoted, aster_live):
    done = aster_live("--config", promoted(config()), "--mode", "real")
    assert done.exit_code == 2
    assert "needs --send-orders with the symbols typed again" in done.output


@pytest.mark.parametrize("mode", ["replay", "paper"])
def test_orders_are_never_sent_from_a_replay_or_on_paper(config, promoted, aster_live, mode):
    done = aster_live("--config", promoted(config()), "--mode", mode, "--send-orders", "BNBUSDT")
    assert done.exit_code == 2 and f"have no place in --mode {mode}" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode", "paper", "--start", "2026-01-05"], "paper trades from now on"),
        (["--mode", "paper", "--run-length", "soon"], "expected seconds, or a number and one of s m h d"),
        (["--feed", "somewhere", "--end", "2026-01-05"], "--feed replays a whole input log"),
    ],
)
def test_options_of_another_mode_are_refused(config, promoted, aster_live, arguments, words):
    done = aster_live("--config", promoted(config()), *arguments)
    assert done.exit_code == 2 and words in done.output


def test_an_exchange_that_is_not_there_is_said_in_one_sentence(config, promoted, aster_live, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        asked = ("--mode", "paper", "--venue", url, "--journal", tmp_path / "j")
        done = aster_live("--config", promoted(config()), *asked)
    assert done.exit_code == 1 and done.output.startswith("Error: /loopback: ") and "Traceback" not in done.output


def test_a_log_that_is_not_there_is_said_in_one_sentence(config, promoted, aster_live, tmp_path):
    done = aster_live("--config", promoted(config()), "--feed", tmp_path / "none.feed", "--journal", tmp_path / "j")
    assert done.exit_code == 1 and "no input log in" in done.output and "none.feed" in done.output


def test_what_the_lake_lacks_is_said_in_one_sentence(config, promoted, aster_live, tmp_path):
    journal = tmp_path / "journal.sqlite"
    done = aster_live("--config", promoted(config()), "--lake", tmp_path / "nowhere", "--journal", journal)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ") and "Traceback" not in done.output and "nowhere" in done.output
    assert not journal.exists()


def test_a_time_that_is_none_is_refused(config, promoted, aster_live):
    done = aster_live("--config", promoted(config()), "--start", "yesterday")
    assert done.exit_code == 2 and "expected an ISO date or time" in done.output


def test_a_run_that_ended_too_early_says_why_and_fails(config, promoted, aster_live, monkeypatch):
    monkeypatch.setattr(runs, "paper", lambda *asked: {"trades": 3, "ended_early": "the market ended"})
    done = aster_live("--config", promoted(config()), "--mode", "paper", "--json")
    assert done.exit_code == 1
    assert done.output.splitlines() == ['{"trades": 3, "ended_early": "the market ended"}', "Error: the market ended"]


LOADED = """
import sys
from live import runner
from live.desk import Desk
from live.dispatch import first_open_ms

heavy = {"duckdb", "pandas", "plotly", "vectorbt"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
runner.main(sys.argv[1:], standalone_mode=False)
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_the_runner_loads_no_database_and_no_plots_even_to_replay(config, lake, promoted, tmp_path):
    arguments = ["--config", promoted(config(substitutions=SUBSTITUTED)), "--lake", lake.root]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments, "--journal", tmp_path / "journal.sqlite"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "chain head" in done.stdout


def test_a_replay_of_an_input_log_loads_no_database_either(config, promoted, tmp_path):
    traded = config(substitutions=Substitutions(funding_interval_hours=8.0))
    first_ms = first_open_ms(traded, LOG_MS - 10_000)
    records = random_log(1, traded, slots=20, start_ms=LOG_MS, first_ms=first_ms, resolution="tick")
    with Log(tmp_path / "paper.feed") as log:
        for record in records:
            log.write(*record)
    arguments = ["--config", promoted(traded), "--feed", tmp_path / "paper.feed", "--journal", tmp_path / "again"]
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "BNBUSDT" in done.stdout and "bars told" in done.stdout and "chain head" in done.stdout


def test_a_replay_of_the_synthetic_market_trades_what_the_backtest_trades(config, synthetic_lake, replayed):
    traded = replace(config(momentum_multiple=1.0, volume_multiple=1.0, max_spread_ticks=10.0, max_funding_bps=5.0,
                            notional_usdt=500.0, max_notional_usdt=600.0), symbol="BTCUSDT")  # fmt: skip
    bars = bars_of(traded, synthetic_lake, None, None)
    assert not bars.substituted
    path, _ = replayed((traded, bars))
    assert assert_same_trades(path, traded, bars).height > 50


@pytest.fixture(scope="module")
def real_lake(real_data, tmp_path_factory):
    """Builder of a lake with one set of recordings and the exchange's filters: ``real_lake("klines", path)``."""

    def build(format: str, path) -> Lake:
        lake = Lake(tmp_path_factory.mktemp(format), create=True)
        import_path(lake, real_data / path, format=format)
        import_path(lake, real_data / "exchangeInfo-response.json", format="exchange-info", effective=START)
        return lake

    return build


def test_a_replay_of_eleven_real_days_trades_what_the_backtest_trades(config, real_lake, replayed):
    lake = real_lake("klines", "klines/aster_BNBUSDT_1m.parquet")
    traded = config(substitutions=SUBSTITUTED)
    bars = bars_of(traded, lake, None, None)
    assert bars.frame.height == 16_450
    path, _ = replayed((traded, bars))
    listed = assert_same_trades(path, traded, bars)
    assert listed.height > 500 and (listed["funding_usdt"] != 0.0).any()


@pytest.fixture(scope="module")
def midfreq_lake(real_lake):
    """One hour of five symbols with quotes, marks and funding."""
    return real_lake("midfreq", "midfreq-logs")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"])
def test_a_replay_of_recorded_quotes_and_marks_trades_what_the_backtest_trades(config, midfreq_lake, replayed, symbol):
    traded = config(momentum_multiple=0.1, volume_multiple=0.2, volume_window_bars=5, max_spread_ticks=100.0,
                    max_funding_bps=50.0, notional_usdt=200.0, max_notional_usdt=1_000.0)  # fmt: skip
    # The logs hold rates, but no one wrote down how often they are paid.
    traded = replace(traded, symbol=symbol, substitutions=Substitutions(funding_interval_hours=8.0))
    bars = bars_of(traded, midfreq_lake, None, None)
    assert not bars.substituted
    path, _ = replayed((traded, bars))
    assert assert_same_trades(path, traded, bars).height > 0
