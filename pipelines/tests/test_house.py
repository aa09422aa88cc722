"""The plan of the house, checked: layers, homes of heavy libraries, a lock file without addresses."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "data": {"data"},
    "research": {"data", "research"},
    "live": {"data", "research", "live"},
    "pipelines": {"data", "research", "live", "pipelines"},
}
HOMES = {
    "vectorbt": ("research/backtest.py",),
    "pandas": ("research/backtest.py",),
    "duckdb": ("data/lake.py",),
    "arch": ("research/overfitting.py",),
    "plotly": ("research/plots/",),
    "papermill": ("pipelines/notebooks.py",),
    "picows": ("data/sockets.py", "data/loopback/"),
    "aiohttp": ("data/venues/", "data/loopback/"),
    "msgspec": ("data/messages", "data/loopback/"),
    "eth_account": ("data/venues/signing.py",),
    "eth_keys": ("data/venues/signing.py",),
    "eth_hash": ("data/venues/signing.py",),
    "coincurve": ("data/loopback/signatures.py", "data/loopback/account_keys.py"),
    "Crypto": ("data/loopback/signatures.py",),
    "pydantic_settings": ("live/secrets.py",),
    "ray": ("pipelines/executors.py",),
    "optuna": ("research/optimiser.py",),
    "scipy": ("research/search.py",),
    "apprise": ("live/alerts.py",),
}


def sources() -> list[Path]:
    """Every module of the packages, tests and benchmarks aside."""
    return [
        path
        for package in ALLOWED
        for path in sorted((ROOT / package).rglob("*.py"))
        if "tests" not in path.relative_to(ROOT).parts and "benchmarks" not in path.relative_to(ROOT).parts
    ]


@cache
def imports(path: Path) -> set[str]:
    """Top-level names a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path):
    package = path.relative_to(ROOT).parts[0]
    ours = imports(path) & set(ALLOWED)
    assert ours <= ALLOWED[package], f"{package} may import {sorted(ALLOWED[package])}"


@pytest.mark.parametrize("library", HOMES)
def test_each_heavy_library_has_one_home(library):
    homes = HOMES[library]
    strangers = [
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if library in imports(path) and not path.relative_to(ROOT).as_posix().startswith(homes)
    ]
    assert strangers == []


def test_the_runner_starts_without_the_heavy_libraries():
    code = (
        "import live.runner, live.runs, sys; "
        "print([name for name in ('vectorbt', 'plotly', 'pandas', 'duckdb', 'apprise') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_a_compiler():
    code = "import pipelines.cli, sys; print([name for name in ('numba', 'vectorbt', 'plotly') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_lock_file_has_hashes_and_no_addresses():
    lock = (ROOT / "requirements.lock").read_text()
    pinned = re.findall(r"^[a-z0-9][^\s=]*==", lock, flags=re.MULTILINE)
    assert len(pinned) > 50
    assert "://" not in lock
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_packages_hold_only_a_docstring_in_init():
    for path in sorted(ROOT.glob("*/__init__.py")):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_the_top_level_is_the_one_that_was_asked_for():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    top = {name.split("/")[0] for name in listed if not name.startswith(".")}
    assert top <= {
        "notebooks", "research", "data", "pipelines", "live", "pyproject.toml", "README.md", "Makefile",
        "requirements.lock", "conftest.py",
    }  # fmt: skip


def test_the_guard_keeps_tests_on_loopback():
    import socket

    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as outside,
        pytest.raises(RuntimeError, match="stay on loopback"),
    ):
        outside.connect(("192.0.2.1", 80))
