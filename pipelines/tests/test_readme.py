"""The README is run: every ``aster`` command it shows works, in its order, and prints what it shows."""

import json
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.cli import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
MADE_LATER = ("data/lake", "pipelines/runs", "live/configs/chosen.toml")
PATIENCE_S = 90.0  # for what a command shows to come true
MODULES = {"aster": "pipelines.cli", "aster-live": "live.runner"}


def steps(block: str) -> list[tuple[str, list[str]]]:
    """Commands of a console block with the output lines shown below each."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def squeezed(text: str) -> str:
    """Text with runs of white space as one space: column widths depend on the terminal."""
    return " ".join(text.split())


def test_the_make_targets_it_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make (\w+)", README))
    assert {"demo", "test", "lab"} <= named
    assert all(re.search(rf"^{name}:", makefile, flags=re.MULTILINE) for name in named)


def test_every_command_it_names_exists():
    named = set(re.findall(r"`aster ([a-z]+)", README))
    assert named > {"clusters", "nightly"}
    assert named <= set(cli.commands)


def test_every_path_it_names_exists():
    named = re.findall(r"`((?:data|research|live|pipelines|notebooks)/[\w/.]+)`", README)
    named += re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists() and name not in MADE_LATER] == []


def test_its_sessions_run_as_shown(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTER_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("ASTER_RUNS", str(tmp_path / "runs"))
    places = {
        "../shared/real": str(real_data),
        "live/configs/chosen.toml": str(tmp_path / "chosen.toml"),  # the checkout's own promoted config is not touched
        "data/lake-loopback": str(tmp_path / "lake-loopback"),
    }
    for block in BLOCKS:
        if "make demo" not in block:
            with ExitStack() as running:
                run_session(block, running, places, tmp_path)


def run_session(block: str, running: ExitStack, places: dict[str, str], folder: Path) -> None:
    """The commands of one block, one after the other; what goes on in the background ends with it.

    Parameters
    ----------
    places : what stands in the README, and what stands for it here; addresses are added.
    folder : for journals.
    """
    for command, lines in steps(block):
        for place, ours in places.items():
            command = command.replace(place, ours)
        program, *arguments = shlex.split(command)
        if "promote" in arguments:
            arguments += ["--out", places["live/configs/chosen.toml"]]
        if program == "aster-live":
            arguments += ["--journal", str(folder / f"{arguments[3]}.sqlite")]
        if arguments[-1] != "&":
            run_until_shown(program, arguments, [line for line in lines if line and line != "..."])
        elif arguments[0] == "loopback":
            url = loopback(running, arguments[:-1])
            port = arguments[arguments.index("--port") + 1] if "--port" in arguments else "8730"
            places[f"http://127.0.0.1:{port}"] = url
            places["--venue loopback"] = f"--venue {url}"
        else:
            background(running, program, arguments[:-1])


def run_until_shown(program: str, arguments: list[str], lines: list[str]) -> None:
    """Run a command of the README, again while what it shows is still to come."""
    if program == "curl":
        with urllib.request.urlopen(urllib.request.Request(arguments[-1], method="POST"), timeout=30) as answer:
            assert answer.status == 200
        return
    until = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run(
            [sys.executable, "-m", MODULES[program], *arguments], capture_output=True, text=True, cwd=ROOT
        )
        printed = squeezed(done.stdout)
        missing = [line for line in lines if squeezed(line) not in printed]
        if done.returncode == 0 and not missing:
            return
        assert time.monotonic() < until, f"{program} {arguments} lacks {missing}\n{done.stdout}\n{done.stderr}"
        time.sleep(1.0)


def background(running: ExitStack, program: str, arguments: list[str]) -> None:
    """Start a command that goes on until the end."""
    process = running.enter_context(subprocess.Popen([sys.executable, "-m", MODULES[program], *arguments], cwd=ROOT))
    running.callback(process.terminate)


def loopback(running: ExitStack, arguments: list[str]) -> str:
    """Start a loopback exchange on a free port; its URL."""
    command = [sys.executable, "-m", "pipelines.cli", *arguments, "--port", "0", "--json"]
    exchange = running.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
    running.callback(exchange.terminate)
    told = ""
    while not told.rstrip().endswith("}"):
        told += exchange.stdout.readline()
    return json.loads(told)["rest_url"]


@pytest.mark.parametrize("sentence", ["queue position", "partial fills", "NOT PROMOTABLE"])
def test_it_says_what_is_not_modelled(sentence):
    assert sentence.lower() in README.lower()
