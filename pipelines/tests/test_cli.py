"""The command line as scripts and people use it."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from rich.console import Console

from data.lake import Lake
from pipelines.cli import cli, main
from pipelines.terminal import print_rows

COMMANDS = sorted(cli.commands)
WITHOUT_LAKE = ("demo", "bench", "runs", "loopback", "alert", "approve", "shadows", "up", "job")


def run(*arguments: str) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    text = run(command, "--help")
    assert "Usage:" in text
    assert cli.commands[command].help


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in WITHOUT_LAKE])
def test_commands_that_touch_the_lake_take_one(command):
    assert "--lake" in run(command, "--help")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "up"])  # which shows what its processes say
def test_commands_that_print_results_print_json_too(command):
    assert "--json" in run(command, "--help")


def test_sql_prints_a_list_of_row_objects(synthetic_lake):
    out = run(
        "sql", "select symbol, count(*) as n from klines group by symbol", "--lake", str(synthetic_lake.root), "--json"
    )
    assert json.loads(out) == [{"symbol": "BTCUSDT", "n": 3 * 1440}]


def test_sql_times_are_utc(synthetic_lake):
    out = run("sql", "select min(open_time) as first from klines", "--lake", str(synthetic_lake.root), "--json")
    assert json.loads(out) == [{"first": "2026-01-05T00:00:00Z"}]


def test_coverage_of_a_complete_lake_misses_nothing(synthetic_lake):
    rows = json.loads(run("coverage", "--tables", "klines,trades", "--lake", str(synthetic_lake.root), "--json"))
    assert {row["table"] for row in rows} == {"klines", "trades"}
    assert all(row["missing"] == 0 for row in rows)


def test_coverage_of_a_symbol_that_was_never_recorded_says_so(synthetic_lake):
    words = ["coverage", "--symbols", "BTCUSD,BTCUSDT", "--tables", "klines", "--lake", str(synthetic_lake.root)]
    assert run(*words).count("BTCUSDT") == 1
    told = CliRunner().invoke(cli, words).stderr
    assert told == "the lake has no row of BTCUSD: look at the spelling, or record it\n"


def test_what_lies_behind_the_last_row_is_not_sent_to_a_repair_that_finds_no_gap_there(tmp_path, synthetic_lake):
    bars = synthetic_lake.scan("mark_klines", end=datetime(2026, 1, 5, 12, tzinfo=UTC))
    Lake(tmp_path, create=True).append("mark_klines", bars, origin="test")
    lake = ("--lake", str(tmp_path), "--tables", "mark_klines", "--start", "2026-01-05", "--end", "2026-01-06")
    told = run("coverage", *lake)
    assert "open" in told
    assert "no gap is open" in run("repair", *lake, "--venue", "http://127.0.0.1:1")
    assert "what lies before the first or after the last with `aster backfill`" in told


def test_headings_of_a_wide_table_break_between_words(capsys):
    print_rows(
        [dict.fromkeys([*(f"activation bps {n}" for n in range(5)), *(f"net out, USDT {n}" for n in range(9))], 1)]
    )
    assert capsys.readouterr().out.count("activation") == 5


@pytest.mark.parametrize("columns", [10, 20])
def test_no_column_is_lost_on_a_narrow_terminal(monkeypatch, capsys, columns):
    monkeypatch.setattr("pipelines.terminal.output", lambda: Console(width=80, highlight=False))
    row = {f"stream {n}": f"2026-01-05 00:00:{n:02d}" for n in range(columns - 1)} | {"state": "open"}
    print_rows([row])
    out = capsys.readouterr().out
    assert "state" in out and "open" in out
    assert columns > 10 or max(map(len, out.splitlines())) <= 80


def test_features_are_printed_with_the_time_they_were_known(synthetic_lake):
    out = run(
        "features", "--symbol", "BTCUSDT", "--names", "return_bps,volatility_bps_10", "--start", "2026-01-05",
        "--end", "2026-01-05T01:00", "--lake", str(synthetic_lake.root), "--json",
    )  # fmt: skip
    rows = json.loads(out)
    assert len(rows) == 60
    assert rows[0]["return_bps"] is None
    assert rows[30]["volatility_bps_10"] > 0
    assert rows[0]["avail_time"] > rows[0]["open_time"]


DAY = ("--start", "2026-01-05", "--end", "2026-01-06")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("features", "--symbol", "BTCUSDT", "--names", "", *DAY), "names: expected at least one, such as return_bps"),
        (("features", "--symbol", "BTCUSDT", "--names", "return_bps", *DAY, "--latency-ms", "-5"), "-5 is not in the"),
        (("coverage", "--start", "2026-01-06", "--end", "2026-01-05"), "--start 2026-01-06 00:00 is not before --end"),
        (("repair", "--start", "2026-01-06", "--end", "2026-01-05"), "--start 2026-01-06 00:00 is not before --end"),
        (("clusters", "--symbol", "BTCUSDT", "--start", "2026-01-06", "--end", "2026-01-06"), "is not before --end"),
        (("signals", "--symbol", "BTCUSDT", "--start", "2026-01-06", "--end", "2026-01-06"), "is not before --end"),
        (("clusters", "--symbol", ","), "symbols: expected at least one, such as BTCUSDT, got ','"),
        (("coverage", "--symbols", ""), "symbols: expected at least one, such as BTCUSDT, got ''"),
        (("coverage", "--tables", ","), "tables: expected at least one, such as trades, got ','"),
    ],
)
def test_what_asks_for_nothing_is_refused(monkeypatch, capsys, synthetic_lake, command, said):
    status, told = failure(monkeypatch, capsys, *command, "--lake", str(synthetic_lake.root))
    assert status in (1, 2)
    assert said in told


def test_features_are_named_with_spaces_and_symbols_in_small_letters_too(synthetic_lake):
    names, lake = "return_bps, volatility_bps_10", str(synthetic_lake.root)
    words = ["--symbol", "btcusdt", "--names", names, *DAY, "--lake", lake]
    assert len(json.loads(run("features", *words, "--json"))) == 1_440


def test_importing_prints_counts_and_importing_twice_changes_nothing(tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "trades_XYZUSDT.csv").write_text(
        "id,unix_timestamp_ms,side,price,quantity\n7,1758715675162,buy,2.241200,10.000000\n8,1758715675166,sell,bad,1\n"
    )
    lake = str(tmp_path / "lake")
    first = json.loads(run("import", str(folder), "--format", "collector", "--lake", lake, "--json"))
    again = json.loads(run("import", str(folder), "--format", "collector", "--lake", lake, "--json"))
    assert json.loads(run("sql", "select count(*) as n from trades", "--lake", lake, "--json")) == [{"n": 1}]
    quarantined = json.loads(run("sql", "select file, line from quarantine", "--lake", lake, "--json"))
    assert quarantined == [{"file": "csv/trades_XYZUSDT.csv", "line": 3}]
    assert first != again


def test_a_symbol_typed_in_small_letters_lands_where_every_command_looks_for_it(tmp_path, real_data):
    shutil.copy(real_data / "klines" / "aster_BNBUSDT_1m.parquet", tmp_path / "bars.parquet")
    words = ["import", str(tmp_path / "bars.parquet"), "--format", "klines", "--symbol", "bnbusdt"]
    run(*words, "--lake", str(tmp_path / "lake"))
    assert Lake(tmp_path / "lake").symbols("klines") == ["BNBUSDT"]


def failure(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and standard error of a command that must fail."""
    monkeypatch.setattr(sys, "argv", ["aster", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, " ".join(capsys.readouterr().err.split())


def test_a_missing_lake_is_one_sentence_that_says_what_to_do(monkeypatch, capsys, tmp_path):
    status, said = failure(monkeypatch, capsys, "coverage", "--lake", str(tmp_path / "none"))
    assert status == 1
    assert "error:" in said
    assert "none" in said
    assert "Traceback" not in said


def test_an_unknown_config_key_is_named_with_the_one_that_was_meant(monkeypatch, capsys, sweep_toml, synthetic_lake):
    sweep_toml.write_text(sweep_toml.read_text().replace("taker_fee_bps", "taker_fee_bp"))
    status, said = failure(monkeypatch, capsys, "sweep", str(sweep_toml), "--lake", str(synthetic_lake.root))
    assert status == 1
    assert "taker_fee_bp" in said
    assert "did you mean taker_fee_bps" in said


def test_missing_costs_are_refused(monkeypatch, capsys, sweep_toml, synthetic_lake):
    text = sweep_toml.read_text()
    sweep_toml.write_text(text[: text.index("[costs]")] + text[text.index("[orders]") :])
    status, said = failure(monkeypatch, capsys, "sweep", str(sweep_toml), "--lake", str(synthetic_lake.root))
    assert status == 1
    assert "costs" in said


def test_an_empty_date_range_says_what_the_lake_has(monkeypatch, capsys, sweep_toml, synthetic_lake):
    text = sweep_toml.read_text().replace("2026-01-05", "2027-01-05").replace("2026-01-08", "2027-01-08")
    sweep_toml.write_text(text)
    status, said = failure(monkeypatch, capsys, "sweep", str(sweep_toml), "--lake", str(synthetic_lake.root))
    assert status == 1
    assert "2027-01-05" in said
    assert "2026-01-0" in said


def test_a_broken_query_is_an_error_of_the_user(monkeypatch, capsys, synthetic_lake):
    status, said = failure(
        monkeypatch, capsys, "sql", "select nothing from nowhere", "--lake", str(synthetic_lake.root)
    )
    assert status == 1
    assert "nowhere" in said


def test_the_entry_point_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert "version" in done.stdout
