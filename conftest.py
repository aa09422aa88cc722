"""Shared fixtures and the guard that keeps tests on this machine."""

import os
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("ASTER_REAL_DATA", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"real recordings not found at {folder}; set ASTER_REAL_DATA")
    return folder


@pytest.fixture(autouse=True, scope="session")
def only_loopback():
    """Refuse every socket that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise RuntimeError(f"tests stay on loopback; something tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


def pytest_sessionfinish(session, exitstatus):
    """In CI everything needed is installed, so a skipped test is a failure there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
