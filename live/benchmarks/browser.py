"""Headless Chromium over its own pipe: no port, no network."""

import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
    """One browser; it asks one of its tabs at a time.

    Attributes
    ----------
    first : the tab it began with. complaints : errors and warnings of all tabs so far. requests : their addresses.

    Parameters
    ----------
    profile : folder for what the browser keeps.
    """

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

    def ask(self, method: str, **params: object) -> dict:
        """The answer of the tab to one command of the DevTools protocol."""
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

    def evaluate(self, expression: str) -> Any:
        """What a script on the page gives, as JSON values."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Return once that is true on the page."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints}"
            time.sleep(0.05)

    def open(self, page: Path, width: int, height: int) -> None:
        """Show a file."""
        self.visit(page.as_uri(), width, height)

    def visit(self, url: str, width: int, height: int, theme: str = "light") -> None:
        """Show an address, in a window of that size."""
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
        """End it."""
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()
