"""Three days of an exchange with faults, recorded and closed by whole nights: ASTER_WHOLE_NIGHT=1, some ten minutes.

The first day has cuts that the recorder mends by itself. In the second the recorder is killed, and so is its night;
what was swept and promoted meanwhile begins to trade on paper. The third day ends six hours early, and after it a file
is damaged.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import tomli_w

from conftest import SMALL_SWEEP
from data.lake import Lake
from data.synthetic import BTC_LIKE
from live.alerts import VARIABLE
from live.tests.listener import listening
from pipelines.identity import CHECKOUT
from pipelines.nightly import STEPS, facts_of, nights_in
from pipelines.tests.test_nightly import damage, killed_in, nightly, settings

DAYS = ("2026-01-05", "2026-01-06", "2026-01-07")
MARKET = {
    "start": "2026-01-05T00:00:00Z", "days": 3.0, "seed": 11, "trades_per_second": 0.05, "quote_interval_s": 10,
    "depth_interval_s": 60, "mark_interval_s": 1,
}  # fmt: skip
FAULTS = {
    "seed": 1,
    "streams": [
        {"kind": "duplicate", "rate": 0.002},
        {"kind": "late", "rate": 0.002, "by_s": 0.4},
        {"kind": "drop", "streams": "*@aggTrade", "rate": 0.0005},
        {"kind": "cut", "from_s": 21_600.0, "every_s": 21_600.0},
    ],
}
# Of two configs one never trades: every fold picks the other. The day that ends early is walked forward all the same.
SWEEP = SMALL_SWEEP
for old, new in (
    ("end = 2026-01-08", "end = 2026-01-06"),
    ("min_trades = 3", "min_trades = 1"),
    ("top = 2", "top = 2\nmin_coverage = 0.7"),
    ("train_days = 1.0", "train_days = 0.2"),
    ("test_days = 0.5", "test_days = 0.1"),
    ("embargo_bars = 60", "embargo_bars = 30"),
    ("momentum_multiple = [1.0, 1.5, 2.0]", "momentum_multiple = [1.0, 50.0]"),
    ("volatility_window_bars = [10, 20, 30]", "volatility_window_bars = [20]"),
):
    assert old in SWEEP
    SWEEP = SWEEP.replace(old, new)
RECORDER = {"symbols": ["BTCUSDT"], "sockets": 1, "flush_interval_s": 3_600, "open_interest_s": 300}
PATIENCE_S = 1_200.0
SPEED = 3_600  # at full speed the recorder may be killed before its sealer has begun: nothing could be swept then


def started(*words, module="pipelines.cli", **more):
    """A process of the checkout's command line."""
    return subprocess.Popen([sys.executable, "-m", module, *map(str, words)], cwd=CHECKOUT, text=True, **more)


@pytest.fixture(scope="module")
def said():
    """Where alerts go, and what was said there."""
    with listening() as (address, told), pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, address)
        yield told


@pytest.fixture(scope="module")
def three_nights(said, tmp_path_factory):
    """The folder, what each night printed, and how many alerts had been sent after each."""
    folder = tmp_path_factory.mktemp("whole")
    market = {**MARKET, "symbols": [asdict(BTC_LIKE)]}
    for name, content in {"market": market, "faults": FAULTS, "recorder": RECORDER}.items():
        (folder / f"{name}.toml").write_text(tomli_w.dumps(content))
    with started(
        "loopback", "--market", folder / "market.toml", "--faults", folder / "faults.toml", "--speed", SPEED,
        "--port", "0", "--json", stdout=subprocess.PIPE,
    ) as exchange, ExitStack() as running:  # fmt: skip
        running.callback(exchange.kill)
        url = json.loads(exchange.stdout.readline())["rest_url"]
        recorder = recording(folder, url, "2d")
        until(lambda: now(url) > datetime(2026, 1, 6, 12, tzinfo=UTC))
        os.kill(recorder.pid, signal.SIGKILL)
        recorder.wait()
        promoted(folder)
        standing = now(url)
        paper = trading(folder, url)
        until(lambda: now(url) > standing)  # the exchange goes on when somebody listens: the recorder is late
        left_s = (datetime(2026, 1, 7, 18, tzinfo=UTC) - now(url)).total_seconds()
        assert recording(folder, url, f"{left_s}s").wait(PATIENCE_S) == 0
        assert paper.wait(PATIENCE_S) == 0
        # The days are long over to the machine's clock, by which rows of the raw log are retired.
        settings(folder, venue=url, chosen=str(folder / "chosen.toml"), journals=str(folder), raw_days=36_500)
        told = [nightly(folder, DAYS[0])]
        sent = [len(said)]
        killed_in(folder, DAYS[1], "prove")
        told.append(nightly(folder, DAYS[1]))
        sent.append(len(said))
        damage(Lake(folder / "lake"))
        told += [nightly(folder, DAYS[2]), nightly(folder, DAYS[2])]
        sent.append(len(said))
    return folder, told, sent


def recording(folder, url, length):
    """A recorder of the exchange at work."""
    return started(
        "record", "--venue", url, "--config", folder / "recorder.toml", "--lake", folder / "lake", "--run-length",
        length, "--json", stdout=subprocess.DEVNULL,
    )  # fmt: skip


def promoted(folder):
    """Sweep what the recorder left in the lake, and promote the best for paper."""
    (folder / "small.toml").write_text(SWEEP)
    places = ("--lake", folder / "lake", "--runs", folder / "runs")
    sweep = started("sweep", folder / "small.toml", "--no-notebook", *places, stdout=subprocess.DEVNULL)
    assert sweep.wait(PATIENCE_S) == 0
    words = ("promote", "latest", "--rank", "1", "--out", folder / "chosen.toml")
    assert started(*words, *places, stdout=subprocess.DEVNULL).wait(PATIENCE_S) == 0


def trading(folder, url):
    """Six hours of the promoted config on paper; the runner's own alerts go nowhere."""
    return started(
        "--config", folder / "chosen.toml", "--mode", "paper", "--venue", url, "--run-length", "6h", "--journal",
        folder / "paper.sqlite", module="live.runner", stdout=subprocess.DEVNULL, env={**os.environ, VARIABLE: ""},
    )  # fmt: skip


def now(url):
    """The time of the exchange's market."""
    with urllib.request.urlopen(f"{url}/loopback", timeout=60) as answer:
        return datetime.fromtimestamp(json.load(answer)["now_ms"] / 1_000, UTC)


def until(is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_every_night_ends_with_all_its_steps_and_pages(three_nights):
    folder, told, _ = three_nights
    for day, (status, night) in zip(DAYS, told, strict=False):
        assert (status, [step["step"] for step in night["steps"]]) == (0, list(STEPS)), night["human"]
        (walked,) = [path.stem for path in (folder / "runs").glob("2*")]
        pages = {path.name for path in (folder / "runs" / "nightly" / day).glob("*.html")}
        assert pages >= {"report.html", "health.html", "clusters.html", "market-BTCUSDT.html", f"{walked}.html"}


def test_the_run_of_the_second_day_is_proven(three_nights):
    _, told, _ = three_nights
    notes = [step["note"] for _, night in told[:3] for step in night["steps"] if step["step"] == "parity"]
    assert notes == ["nothing traded that day", "one run of the day, all of it proven", "nothing traded that day"]


def test_people_hear_of_what_was_planted_and_of_nothing_else(three_nights, said):
    _, told, sent = three_nights
    assert sent[:2] == [0, 0]
    assert [night["human"] for _, night in told[:2]] == [[], []]
    planted = {entry["step"] for entry in told[2][1]["human"]}
    assert planted == {"repair", "health", "prove"}, "the recorder that ended early, twice, and the damaged file"
    assert len(said) == len(told[2][1]["human"]) == 3  # run again, the night says nothing twice


def test_what_changed_is_what_the_nights_found(three_nights):
    folder, told, _ = three_nights
    assert told[0][1]["changed"] == []
    nights = nights_in(folder / "runs" / "nightly")
    for (before, night), (_, printed) in zip(pairwise(nights), told[1:], strict=False):
        was, found = facts_of(before), facts_of(night)
        expected = {name: (was.get(name, "–"), found.get(name, "–")) for name in {*was, *found}}
        listed = {change["figure"]: (change["was"], change["is"]) for change in printed["changed"]}
        assert listed == {name: pair for name, pair in expected.items() if pair[0] != pair[1]}
    assert {"figure": "damaged files", "was": "0", "is": "1"} in told[2][1]["changed"]
