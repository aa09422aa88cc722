"""The dashboard beside a run: from a fill to the pixels that show it, and what a flood does to the decisions."""

import asyncio
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.benchmarks.figures import figure
from live.benchmarks.bench_live import FIRST_BARS, heard, record_market
from live.benchmarks.browser import CHROMIUM, Browser
from live.benchmarks.configs import champion
from live.benchmarks.stage import Stage

FILLS = 40
SPEED = 60.0
HOURS, ROUNDS = 1.0, 2
_PATIENCE_S = 300.0
_LOOK_S = 0.001
_NEAR = {"stop_bps": 4.0, "target_bps": 4.0, "activation_bps": 300.0}  # what is entered has soon ended
_OBSERVED = """
window.shown = [];
document.addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  const count = changes.flatMap((each) => [...each.addedNodes]).filter((each) => /sold|bought/.test(each.textContent)).length;
  if (count) requestAnimationFrame(() => setTimeout(() => window.shown.push(...Array(count).fill(Date.now()))));
}).observe(document.getElementById("events"), { childList: true }));
"""  # noqa: E501

_USED = """
(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const taken = [];
  const timed = async (act) => {
    await frame();
    const begun = performance.now();
    act();
    await frame();
    taken.push(performance.now() - begun);
  };
  const list = document.querySelector("#trades .window");
  for (let round = 0; round < 3; round++) for (const heading of list.querySelectorAll("button.sort")) {
    await timed(() => heading.click());
    await timed(() => { list.scrollTop = (7919 * taken.length) % list.scrollHeight; });
  }
  window.taken = taken;
})(); 0
"""

Flooded = Callable[[tuple[str, int]], object]
Serve = Callable[[Path], tuple[subprocess.Popen, tuple[str, int]]]


def bench_table(address: tuple[str, int], trades: int) -> list[dict]:
    """From a click on a heading, or a jump, in so many trades to the frame that shows it; needs Chromium."""
    if CHROMIUM is None:
        return []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # Chromium may still be writing
        browser = Browser(Path(profile))
        browser.visit("http://{}:{}/".format(*address), 1_440, 900)
        browser.wait_for(f"document.getElementById('trades-note').textContent.replace(/\\D/g, '') === '{trades}'")
        browser.evaluate(_USED)
        browser.wait_for("window.taken !== undefined")
        taken = browser.evaluate("window.taken")
        browser.close()
    return [
        figure(f"{trades:,} trades sorted and scrolled, to the frame that shows it p50", np.quantile(taken, 0.5), "ms"),
        figure(f"the slowest of {len(taken)} clicks and jumps", max(taken), "ms", at_most=100.0),
    ]


def bench_fills(folder: Path) -> list[dict]:
    """From a fill on the exchange, through runner, journal and dashboard, to a drawn frame; needs Chromium."""
    if CHROMIUM is None:
        return []
    config = champion(momentum_multiple=0.1, volume_multiple=0.1, **_NEAR)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Stage(Path(place) / "stage", config, SPEED) as stage,
    ):
        filled_ms: list[float] = []
        is_over = threading.Event()
        looking = threading.Thread(target=_look, args=(stage, filled_ms, is_over), daemon=True)
        looking.start()
        browser = Browser(Path(place) / "profile")
        browser.ask("Page.addScriptToEvaluateOnNewDocument", source=_OBSERVED)
        browser.ask("Page.navigate", url=stage.link)
        browser.wait_for("document.title.startsWith('REAL')")
        seen, until = len(filled_ms), time.monotonic() + _PATIENCE_S
        while len(filled_ms) < seen + FILLS and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2.0)
        shown_ms = browser.evaluate("window.shown")
        is_over.set()
        looking.join()
        browser.close()
    delays = [shown - filled for shown, filled in zip(shown_ms, filled_ms, strict=False)][seen:]
    return [
        figure(f"fill on the exchange to pixel p50, {len(delays)} fills", np.quantile(delays, 0.5), "ms"),
        figure("fill on the exchange to pixel p95", np.quantile(delays, 0.95), "ms", at_most=1_000.0),
    ]


def _look(stage: Stage, filled_ms: list[float], is_over: threading.Event) -> None:
    """Note when each fill happened."""
    while not is_over.wait(_LOOK_S):
        filled_ms.extend([time.time() * 1e3] * (stage.exchange.fills - len(filled_ms)))


def bench_flood(folder: Path, serve: Serve, flood: Flooded) -> list[dict]:
    """A runner's decisions alone, and with fifty pages on its journal whose dashboard is killed halfway; in turn."""
    alone, beside = [], []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        feed = Path(place) / "feed"
        asyncio.run(record_market(feed, HOURS))
        for number in range(ROUNDS):
            alone += heard(feed, 0)["seconds"][FIRST_BARS:]
            journal = Path(place) / f"{number}.sqlite"
            process, address = serve(journal)
            with flood(address):
                killing = threading.Timer(HOURS * 10.0, process.kill)
                killing.start()
                beside += heard(feed, 0, journal)["seconds"][FIRST_BARS:]
                killing.cancel()
            process.kill()
            process.communicate()
    return [
        figure(
            f"bar to decision {name} with 50 pages, 10 of them stuck, and the dashboard killed, {len(beside)} bars",
            1e3 * np.quantile(beside, share), "ms", baseline="no dashboard",
            baseline_value=1e3 * np.quantile(alone, share),
        )
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]  # fmt: skip
