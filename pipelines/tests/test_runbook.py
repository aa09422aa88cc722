"""The runbook is run: its first paper run as a new user would do it, and everything else that it names exists."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner

from data.config import load
from live.account_rules import AccountRules
from live.alerts import KINDS
from live.commands import COMMANDS
from live.config import Chosen
from live.heartbeat import read_beat
from live.journal import read_journal
from live.oversight import RiskConfig
from live.promotion import document_of
from live.runner import main
from live.tests.conftest import a_config
from live.tests.paper_run import OFTEN
from live.tests.test_promotion import RISK
from pipelines.cli import cli
from pipelines.identity import CHECKOUT

RUNBOOK = (CHECKOUT / "live" / "docs" / "runbook.md").read_text()
SHOWN = re.search(r"```console\n(.*?)```", RUNBOOK, flags=re.DOTALL)[1]
TOML = re.findall(r"```toml\n(.*?)```", RUNBOOK, flags=re.DOTALL)
PATIENCE_S = 180.0


def until(is_so, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def promoted(tmp_path) -> Path:
    config = a_config(**{**OFTEN, "symbol": "BNBUSDT", "max_notional_usdt": 500.0})
    path = tmp_path / "chosen.toml"
    chosen = Chosen(config_hash=config.config_hash, config=config, provenance={"run": "by hand"}, risk=RISK)
    path.write_text(tomli_w.dumps(document_of(replace(chosen))))
    return path


def test_the_first_paper_run_goes_as_shown(promoted, tmp_path):
    journal, places = tmp_path / "first.sqlite", {"live/configs/chosen.toml": str(promoted)}
    places["live/journals/first.sqlite"] = str(journal)
    lines = SHOWN.splitlines()
    with ExitStack() as running:
        for line, shown in zip(lines, [*lines[1:], ""], strict=True):
            if not line.startswith("$ "):
                continue
            for place, ours in places.items():
                line = line.replace(place, ours)
            program, *words = shlex.split(line.removeprefix("$ ").removesuffix(" &"))
            if words[0] == "loopback":
                places["http://127.0.0.1:8732"] = loopback(running, words)
            elif words[0] == "up":
                up = start(running, words)
                until(lambda: read_beat(journal) is not None, "no sign of life")
            else:
                assert program == "aster-live"
                done = CliRunner().invoke(main, [*words, "--timeout", str(PATIENCE_S)])
                assert done.exit_code == 0 and done.output.startswith(shown), done.output
        up.send_signal(signal.SIGTERM)
        printed, complaints = up.communicate(timeout=PATIENCE_S)
    assert up.returncode == 0, complaints
    assert "started: runner, watchdog" in printed and "chain head" in printed
    assert read_beat(journal).has_ended and read_beat(journal).level == "HALTED"
    answers = read_journal(journal).filter(kind="answer")["body"]
    assert [json.loads(body)["command"] for body in answers] == ["pause", "resume", "flatten"]


def start(running: ExitStack, words: list[str], **told) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines.cli", *words]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": CHECKOUT}
    process = running.enter_context(subprocess.Popen(command, **piped, **told))
    running.callback(process.terminate)
    return process


def loopback(running: ExitStack, words: list[str]) -> str:
    """Start the exchange on a free port; its URL."""
    words[words.index("--port") + 1] = "0"
    return json.loads(start(running, [*words, "--json"]).stdout.readline())["rest_url"]


def test_every_command_alert_and_file_that_it_names_exists():
    named = set(re.findall(r"`aster-live ctl (\w+)", RUNBOOK))
    assert named == set(COMMANDS)
    assert all(f"(`{name}`) | {kind.do} |" in RUNBOOK for name, kind in KINDS.items())
    assert set(re.findall(r"`aster (\w+)", RUNBOOK)) <= set(cli.commands)
    units = set(re.findall(r"`(aster-[\w@-]+\.service)`", RUNBOOK))
    assert len(units) == 3 and all((CHECKOUT / "pipelines" / "deploy" / unit).is_file() for unit in units)
    options = {option for each in main.params for option in each.opts}
    real = re.search(r"`aster-live (--mode real[^`]*)`", RUNBOOK)[1]
    assert {word for word in real.split() if word.startswith("--")} <= options


def test_its_files_are_read_and_say_the_same():
    risk, account = (tomllib.loads(text) for text in TOML)
    limits, rules = load(RiskConfig, risk), load(AccountRules, account)
    assert (limits.account, limits.entries) == (rules.risk, rules.entries)
    assert rules.chain_id == 714 and rules.agent_expires is not None
