"""The README is run: every ``aster`` command it shows works, in its order, and prints what it shows."""

import json
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
MADE_LATER = ("data/lake", "pipelines/runs", "live/configs/chosen.toml")
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
    with ExitStack() as running:
        for command, shown in (
            step for block in BLOCKS if "aster import" in block or "aster record" in block for step in steps(block)
        ):
            for place, ours in places.items():
                command = command.replace(place, ours)
            program, *arguments = shlex.split(command)
            if arguments[-1] == "&":
                places["--venue loopback"] = f"--venue {loopback(running, arguments[:-1])}"
                continue
            if "promote" in arguments:
                arguments += ["--out", places["live/configs/chosen.toml"]]
            if program == "aster-live":
                arguments += ["--journal", str(tmp_path / f"{arguments[3]}.sqlite")]
            done = subprocess.run(
                [sys.executable, "-m", MODULES[program], *arguments], capture_output=True, text=True, cwd=ROOT
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            printed = squeezed(done.stdout)
            for line in shown:
                if line and line != "...":
                    assert squeezed(line) in printed, f"{command} prints\n{done.stdout}"


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
