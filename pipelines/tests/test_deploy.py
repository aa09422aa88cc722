"""The container file, the compose file and the systemd units say nothing that is not there."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from live.runner import main as runner
from live.watchdog import main as watchdog
from pipelines.cli import cli

PROGRAMS = {"aster": cli, "aster-live": runner, "aster-watchdog": watchdog}
CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "pipelines" / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("aster-*.*"))
COMPILING = tuple(f"aster-{name}.service" for name in ("live", "nightly", "recorder", "watchdog"))  # load Numba


def assert_is_a_command(words: list[str], command: click.Command = cli) -> None:
    """The command line takes these words; what would be read from files and environment is not looked at."""
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{command.name}: no command {words[0]}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, f"{command.name}: {words}"


def test_every_command_of_the_units_exists():
    for unit in UNITS:
        for line in re.findall(r"^ExecStart=(.*)$", (DEPLOY / unit).read_text(), flags=re.MULTILINE):
            program, *words = shlex.split(line)
            place, _, name = program.rpartition("/")
            assert place == "/opt/aster/.venv/bin"
            assert words
            assert_is_a_command(words, PROGRAMS[name])


def test_the_line_of_cron_runs_the_night_as_its_unit_does():
    unit = (DEPLOY / "aster-nightly.service").read_text()
    (line,) = re.findall(r"^# 30 2 \* \* \* (.*)$", unit, flags=re.MULTILINE)
    words = shlex.split(line)
    told = dict(word.split("=") for word in words if "=" in word)
    assert told.pop("CREDENTIALS_DIRECTORY") == "/etc/aster" and "LoadCredential=alerts:/etc/aster/alerts" in unit
    assert all(f"Environment={name}={place}" in unit for name, place in told.items())
    assert f"ExecStart={' '.join(words[words.index('nice') + 1 :])}" in unit


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault_with_the_unit(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(re.sub("/opt/aster/.venv/bin/[a-z-]+", "/bin/true", text))
    found = subprocess.run(
        ["systemd-analyze", "verify", f"./{unit}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_what_is_compiled_goes_where_a_unit_may_write():
    for unit in COMPILING:
        assert "CacheDirectory=aster\nEnvironment=XDG_CACHE_HOME=/var/cache/aster\n" in (DEPLOY / unit).read_text()


def test_compose_mounts_and_builds_what_is_there():
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["recorder"]
    context = (DEPLOY / service["build"]["context"]).resolve()
    assert context == CHECKOUT
    assert (context / service["build"]["dockerfile"]).is_file()
    assert (DEPLOY / service["volumes"][1].split(":")[0]).resolve() == CHECKOUT / "pipelines" / "recorder.toml"
    assert_is_a_command(service["command"])
    assert_is_a_command(service["healthcheck"]["test"][2:])


def test_the_image_copies_what_is_there_and_what_the_installation_needs():
    text = (DEPLOY / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for word in line.split()]
    assert all((CHECKOUT / name).exists() for name in copied)
    packages = {path.parent.name for path in CHECKOUT.glob("*/__init__.py")}
    assert packages | {"requirements.lock", "pyproject.toml", "README.md", "Makefile"} <= set(copied)
