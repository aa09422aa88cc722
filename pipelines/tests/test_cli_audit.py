"""``aster audit`` as people and scripts use it."""

import json

from click.testing import CliRunner

from pipelines.cli import cli

PEEKS = "def ahead(bars):\n    return bars['close'].shift(-1)\n"
KEEPS = "LOOKBACK_BARS = 2\n\n\ndef behind(bars):\n    print('hello')\n    return bars['close'].shift(1)\n"


def test_findings_are_printed_and_the_exit_status_is_one(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PEEKS)
    done = CliRunner().invoke(cli, ["audit", str(path)])
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    assert "mine.py, line 2" in text
    assert "return bars['close'].shift(-1)" in text
    assert "1 finding" in text


def test_without_findings_the_exit_status_is_zero_and_what_the_code_prints_is_no_result(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(KEEPS)
    done = CliRunner().invoke(cli, ["audit", str(path), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["findings"], found["notes"]) == ([], [])


def test_recorded_bars_can_be_audited_too(tmp_path, synthetic_lake):
    path = tmp_path / "mine.py"
    path.write_text(PEEKS)
    done = CliRunner().invoke(
        cli,
        ["audit", str(path), "--symbol", "BTCUSDT", "--start", "2026-01-05", "--end", "2026-01-05T12:00", "--lake",
         str(synthetic_lake.root), "--json"],
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["time"].startswith("2026-01-05T")
    assert (finding["line"], finding["columns"]) == (2, ["ahead"])


def test_the_help_warns_that_the_code_runs(tmp_path):
    text = CliRunner().invoke(cli, ["audit", "--help"]).stdout
    assert "runs with all your rights" in " ".join(text.split())
    assert "LOOKBACK_BARS" in text
