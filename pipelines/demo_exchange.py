"""The loopback exchange of the demo: started when first needed, left running for all that follows it."""

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from pipelines.children import Child, ChildFailed

_WAIT_S = 30.0
_STANDSTILL_S = 600.0  # of the machine: longer than any start or end of a client takes, that of a sealer behind too


class Exchange:
    """A loopback exchange that plays ``<folder>/market.toml`` as fast as its clients follow.

    While nobody follows, its time stands still: the next client goes on where the last one stopped.

    Parameters
    ----------
    running : closes it.
    lock : of ``alone_in``.
    quiet_every_s : market seconds after which it waits for its clients, who may then act.
    """

    def __init__(self, folder: Path, running: ExitStack, lock: int, quiet_every_s: float) -> None:
        self._folder = folder
        self._running = running
        self._lock = lock
        self._quiet_every_s = quiet_every_s
        self._process: Child | None = None
        self._url = ""

    def at(self, moment: datetime) -> str:
        """Its address. Where it did not run yet, its time is ``moment``."""
        if self._process is None:
            self._process = self._running.enter_context(
                self.client(
                    "loopback exchange", "pipelines.cli", "loopback", "--market", str(self._folder / "market.toml"),
                    "--start", moment.isoformat(), "--speed", "max", "--port", "0", "--json",
                    "--quiet-every", str(self._quiet_every_s),
                )
            )  # fmt: skip
            self._process.until(lambda: "\n" in self._process.printed)
            self._url = json.loads(self._process.printed)["rest_url"]
        return self._url

    def client(self, name: str, module: str, *arguments: str) -> Child:
        """A process of the demo."""
        return Child(name, module, *arguments, logs=self._folder / "logs", lock=self._lock)

    def follow(self, client: Child, tell: Callable[[datetime], None]) -> None:
        """Wait until a client has ended well, telling the market's time meanwhile.

        Raises
        ------
        ChildFailed
            When it or the exchange failed, or the market stands still.
        """

        moved_at, moment = time.monotonic(), None

        def look() -> bool:
            nonlocal moved_at, moment
            with suppress(OSError):  # an exchange that died is noticed at the next look, with its last words
                now = self._now()
                if now != moment:
                    moved_at, moment = time.monotonic(), now
                tell(now)
            if time.monotonic() - moved_at > _STANDSTILL_S:
                raise ChildFailed(
                    f"the market stands still at {moment} since {_STANDSTILL_S:.0f} s: the {client.name} "
                    f"does not follow; see {self._folder / 'logs'}"
                )
            return False

        client.until(look, self._process)

    def _now(self) -> datetime:
        with urllib.request.urlopen(f"{self._url}/loopback", timeout=_WAIT_S) as answer:
            return datetime.fromtimestamp(json.load(answer)["now_ms"] / 1000, UTC)
