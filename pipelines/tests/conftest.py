"""A browser for the tests that look at pages, and a demo small enough to be run and killed."""

import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.identity import CHECKOUT
from pipelines.runs import RunFolder

PATIENCE_S = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Chromium reads commands from descriptor 3 and writes answers to 4; copies above 9 keep one from overwriting the other;
# no further copy stays open, so that a Chromium that dies ends the answers.
HAND_OVER = """
import os, sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
given = [int(one) for one in sys.argv[1:3]]
commands, answers = (fcntl(one, F_DUPFD_CLOEXEC, 10) for one in given)
for one in given:
    os.close(one)
os.dup2(commands, 3), os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """Headless Chromium over its own pipe: no port, no network."""

    ALL_DRAWN = "[...document.querySelectorAll('.drawing')].every(one => one.dataset.drawn === '{}')"

    def __init__(self, profile: Path) -> None:
        (commands, ours_out), (ours_in, answers) = os.pipe(), os.pipe()
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(commands), str(answers), CHROMIUM, *flags, "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._input, self._output = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb")
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")["targetId"]
        self._attach(target)
        self.first = self._session

    def ask(self, method: str, **params) -> dict:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._output.write(json.dumps(message).encode() + b"\0")
        self._output.flush()
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _read(self) -> bytes:
        received = bytearray()
        assert select.select([self._input], [], [], PATIENCE_S)[0], f"Chromium said nothing for {PATIENCE_S} s"
        while (byte := self._input.read(1)) not in (b"\0", b""):
            received += byte
        assert byte, "Chromium ended"
        return bytes(received)

    def _note(self, event: dict) -> None:
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params))
        elif kind == "Log.entryAdded" and params["entry"]["level"] in {"warning", "error"}:
            self.complaints.append(params["entry"]["text"])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in {"warning", "error"}:
            self.complaints.append(json.dumps(params["args"]))

    def evaluate(self, expression: str):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints}"
            time.sleep(0.05)

    def open(self, page: Path, width: int, height: int) -> None:
        self.visit(page.as_uri(), width, height)

    def visit(self, url: str, width: int, height: int, theme: str = "light") -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.ask("Page.navigate", url=url)
        self.wait_for(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def front(self, tab: str) -> str:
        """Ask that tab from now on; the one that was asked before."""
        before, self._session = self._session, tab
        return before

    def new_tab(self) -> str:
        """Open another tab and ask it from now on; the one that was asked before."""
        self._session, before = None, self._session
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._attach(target)
        return before

    def _attach(self, target: str) -> None:
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page is not opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def finished(synthetic_lake, tmp_path_factory) -> RunFolder:
    """One finished run of the small sweep; copy its folder before writing into it."""
    from conftest import SMALL_SWEEP
    from pipelines.sweep_job import run_sweep

    folder = tmp_path_factory.mktemp("runs")
    path = folder / "small.toml"
    path.write_text(SMALL_SWEEP)
    return run_sweep(path, synthetic_lake, folder / "runs", lambda *told: None)


TINY_DEMO = """
import json, sys
from dataclasses import replace
from pathlib import Path
from conftest import SMALL_SWEEP
from pipelines.demo import MARKET, run_demo

market = replace(MARKET, symbols=MARKET.symbols[:1], days=0.6, trades_per_second=0.2, depth_interval_s=60)
sweep = SMALL_SWEEP
for old, new in (
    ("end = 2026-01-08", "end = 2026-01-05T12:00:00Z"),
    ("train_days = 1.0", "train_days = 0.2"),
    ("test_days = 0.5", "test_days = 0.1"),
    ("embargo_bars = 60", "embargo_bars = 30"),
    ("min_trades = 3", "min_trades = 1"),
):
    assert old in sweep
    sweep = sweep.replace(old, new)
print(json.dumps(run_demo(Path(sys.argv[1]), lambda *told: None, market=market, sweep=sweep)))
"""


@pytest.fixture(scope="session")
def tiny_demo() -> str:
    """A program that runs the demo on half a day, trades two hours of it on paper, and prints the result as JSON."""
    return TINY_DEMO


@pytest.fixture(scope="session")
def demo_done(tiny_demo, tmp_path_factory) -> tuple[Path, dict]:
    """Folder of a demo that nobody interrupted, and its result."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    done = subprocess.run([sys.executable, "-c", tiny_demo, str(folder)], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)
