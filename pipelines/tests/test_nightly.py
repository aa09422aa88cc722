"""Three nights of a small market: what was planted is told, what was interrupted goes on, nothing is done twice.

ASTER_WHOLE_NIGHT=1 runs every step of one, maps and their judges too.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import tomli_w
from click.testing import CliRunner
from filelock import FileLock

from conftest import SMALL_SWEEP
from data.gaps import HOLES, gap_rows
from data.lake import CorruptFile, Lake
from data.recorder_status import write_status
from data.sealer import seal_folder
from data.synthetic import generate
from data.tests.finished_segments import logged
from data.tests.finished_segments import market as messages
from data.tests.test_unrecorded import STATUS, STREAMS, lake_heard
from live.alerts import Alerts
from live.config import Chosen
from live.promotion import document_of
from live.tests.conftest import a_config
from pipelines.cli import cli
from pipelines.identity import CHECKOUT
from pipelines.nightly import (
    DONE,
    FAILED,
    STEPS,
    Night,
    NightSettings,
    Outcome,
    Step,
    changes,
    human_of,
    nights_in,
    previous,
)
from pipelines.nightly_alerts import alert
from pipelines.nightly_lake import prove, repair
from pipelines.nightly_report import headline
from pipelines.nightly_study import health, market, walk_forward
from pipelines.runs import write_whole
from pipelines.upkeep import fill_gaps

FEW = ["repair", "compact", "prove"]
ASKED = [] if os.environ.get("ASTER_WHOLE_NIGHT") else ["walk_forward"]


def nightly(folder, day, *more):
    """``aster nightly`` of a day: its status, and what it printed as JSON, or what was wrong."""
    command = ["nightly", "--config", str(folder / "nightly.toml"), "--day", day, "--lake", str(folder / "lake")]
    done = CliRunner().invoke(cli, [*command, "--runs", str(folder / "runs"), "--json", *more])
    return done.exit_code, json.loads(done.stdout) if done.stdout else str(done.exception)


def settings(folder, **more):
    """Write the settings of the nights."""
    told = {"symbols": ["BTCUSDT"], "placebo_maps": 5, "report_days": 3, "chosen": "none", **more}
    (folder / "nightly.toml").write_text(tomli_w.dumps(told))


@pytest.fixture(scope="module")
def three_nights(synthetic_lake, tmp_path_factory):
    """A quiet night, one that is killed and repeated and after which a file is damaged, and one that finds it."""
    folder = tmp_path_factory.mktemp("nights")
    shutil.copytree(synthetic_lake.root, folder / "lake")
    settings(folder, steps=FEW)
    told = [nightly(folder, "2026-01-05")]
    killed_in(folder, "2026-01-06", "prove")
    told.append(nightly(folder, "2026-01-06"))
    damage(Lake(folder / "lake"))
    told.append(nightly(folder, "2026-01-07"))
    return folder, told


def killed_in(folder, day, step):
    """Start a night and kill it, with kill -9, in a step."""
    command = [sys.executable, "-m", "pipelines.cli", "nightly", "--config", str(folder / "nightly.toml"), "--day", day]
    process = subprocess.Popen(
        [*command, "--lake", str(folder / "lake"), "--runs", str(folder / "runs")],
        cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    log = folder / "runs" / "nightly" / day / "logs" / f"{step}.out"
    deadline = time.monotonic() + 120
    while not log.exists():
        assert time.monotonic() < deadline and process.poll() is None, "the night never came to that step"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.copytree(folder / "runs" / "nightly" / day / "steps", folder / "before")


def damage(lake):
    """Turn one bit of the largest file."""
    entry = max(lake.files("book_ticker"), key=lambda entry: entry.bytes)
    path = lake.root / entry.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_quiet_night_leaves_nothing_to_do(three_nights):
    _, told = three_nights
    status, night = told[0]
    assert status == 0
    assert [step["step"] for step in night["steps"]] == FEW
    assert night["human"] == [] and night["changed"] == []
    assert night["headline"] == "Nothing needs a person: all 3 steps are done"


def test_a_recorder_that_did_not_come_back_is_told_with_what_to_do(tmp_path, monkeypatch):
    lake = lake_heard(tmp_path / "lake", "stopped", STREAMS)
    write_status(lake.root, STATUS)
    monkeypatch.setattr("pipelines.nightly_lake.fill_gaps", lambda *_, **__: None)
    settings = NightSettings(symbols=("BTCUSDT",), venue="aster")
    (told,) = repair(Night(day=date(2026, 1, 5), folder=tmp_path, lake=lake.root, settings=settings)).human
    assert told.startswith("nobody heard 4 streams at the end of the day, some since 2026-01-05 23:50 UTC (stopped): ")
    before = Night(day=date(2026, 1, 4), folder=tmp_path, lake=lake.root, settings=settings)
    assert repair(before).human == ()  # it was heard all that day


def test_a_killed_night_goes_on_where_it_was(three_nights):
    folder, told = three_nights
    status, night = told[1]
    assert status == 0
    assert [step["state"] for step in night["steps"]] == ["done", "done", "done"]
    started = [json.loads(path.read_text()) for path in (folder / "before").glob("*.json")]
    assert {step["name"] for step in started} == {"repair", "compact"}
    for step in started:  # done before the kill, and not again after it
        assert step["seconds"] == next(one["seconds"] for one in night["steps"] if one["step"] == step["name"])


def test_a_damaged_file_is_told_with_what_to_do(three_nights):
    _, told = three_nights
    _, night = told[2]
    todo = {entry["step"]: entry["what"] for entry in night["human"]}
    assert "book_ticker" in todo["prove"] and "aster verify --set-aside" in todo["prove"]
    assert {"figure": "damaged files", "was": "0", "is": "1"} in night["changed"]


def test_a_damaged_file_whose_rows_the_raw_log_has_is_mended_and_told(tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    logged(lake.root / "wal" / "0", *messages(range(60)))
    seal_folder(lake.root / "wal", lake)
    damage(lake)
    settings = NightSettings(symbols=("BTCUSDT",))
    night = Night(day=date(2026, 1, 5), folder=tmp_path, lake=lake.root, settings=settings)
    found = prove(night)
    (sentence,) = found.human
    assert found.facts == {"damaged files": "1"}
    assert "a file of book_ticker was damaged: 120 of 120 rows were made again from the raw log; it lies in" in sentence
    assert prove(night).human == ()


def test_a_damaged_file_is_told_once_however_many_steps_need_it(three_nights, tmp_path):
    folder, _ = three_nights
    asked = NightSettings(symbols=("BTCUSDT",), report_days=3)
    night = Night(day=date(2026, 1, 7), folder=tmp_path, lake=folder / "lake", settings=asked)
    with pytest.raises(CorruptFile, match="book_ticker") as unreadable:
        market(night)
    went = {
        "prove": (DONE, prove(night)),
        "market": (FAILED, Outcome(note=f"the market ended with status 1: {unreadable.value}")),
        "maps": (FAILED, Outcome(note="it did not say why")),
    }
    for name, (state, outcome) in went.items():
        step = Step(name=name, state=state, seconds=1.0, outcome=outcome)
        write_whole(tmp_path / "steps" / f"{name}.json", json.dumps(asdict(step)).encode())
    failed, told = human_of(night)
    assert failed == ("maps", "failed: it did not say why")
    assert told[0] == "prove" and "aster verify --set-aside" in told[1]
    assert headline(night) == "2 of 3 steps failed, 2 things need a person"


def walked(folder, lake, day, **settings):
    """``walk_forward`` of a day, where the config promoted is of a sweep of three days."""
    config = a_config(symbol="BTCUSDT")
    promoted = Chosen(config_hash=config.config_hash, config=config, provenance={"run": "swept"})
    write_whole(folder / "swept" / "config.toml", SMALL_SWEEP.encode())
    (folder / "chosen.toml").write_text(tomli_w.dumps(document_of(promoted)))
    night = Night(
        day=day, folder=folder / "nightly" / str(day), lake=lake.root,
        settings=NightSettings(symbols=("BTCUSDT",), **settings),
    )  # fmt: skip
    night.folder.mkdir(parents=True)
    return walk_forward(night)


def test_a_config_of_another_lake_is_no_failure_and_told_with_what_to_do(synthetic_lake, tmp_path):
    chosen, sweep = tmp_path / "chosen.toml", tmp_path / "swept" / "config.toml"
    found = walked(tmp_path, synthetic_lake, date(2026, 1, 6), chosen=str(chosen), sweeps=(sweep,))
    of_chosen, of_sweep = found.human
    assert of_chosen.startswith(
        "small is not walked forward: it asks for BTCUSDT from 04 Jan 2026 00:00 UTC on, and the lake has it from "
        "05 Jan 2026 00:00 UTC on: bring the days before with `aster backfill`; or where it was swept on another lake"
    )
    assert of_sweep.endswith("with `aster backfill`; or take it out of `sweeps`")
    assert found.pages == () and found.facts == {}


def test_a_promoted_file_that_is_not_there_is_an_error_that_names_it(synthetic_lake, tmp_path):
    gone = str(tmp_path / "gone.toml")
    with pytest.raises(LookupError, match=rf"chosen in the settings: no config at {gone}; .*name another file, or"):
        walked(tmp_path, synthetic_lake, date(2026, 1, 6), chosen=gone)


def test_what_lies_before_the_first_recording_is_no_hole(synthetic_lake, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("pipelines.nightly_study.execute", lambda name, output, parameters: asked.append(parameters))
    settings = NightSettings(symbols=("BTCUSDT",))
    health(Night(day=date(2026, 1, 6), folder=tmp_path, lake=synthetic_lake.root, settings=settings))
    assert (asked[0]["start"], asked[0]["end"]) == ("2026-01-05T00:00:00+00:00", "2026-01-07T00:00:00+00:00")


def test_a_symbol_that_was_never_recorded_is_asked_for(synthetic_lake, tmp_path):
    settings = NightSettings(symbols=("SOLUSDT",))
    found = health(Night(day=date(2026, 1, 5), folder=tmp_path, lake=synthetic_lake.root, settings=settings))
    assert found.human == ("SOLUSDT: not a row was recorded that day: is the recorder running?",)
    assert found.pages == ()


def test_a_stream_that_nobody_heard_all_day_is_told(synthetic_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.nightly_study.execute", lambda name, output, parameters: None)
    lake = Lake(tmp_path / "lake", create=True)
    first, second = (generate(synthetic_spec, "BTCUSDT", day) for day in synthetic_spec.dates[:2])
    for name in ("klines", "trades", "instruments"):
        lake.append(name, first[name], origin="test")
    lake.append("klines", second["klines"], origin="test")
    asked = NightSettings(symbols=("BTCUSDT",))
    told = [health(Night(day=date(2026, 1, day), folder=tmp_path, lake=lake.root, settings=asked)) for day in (5, 6)]
    assert told[0].human == ()
    (sentence,) = told[1].human
    assert sentence.startswith("not heard at all that day, but the day before: trades BTCUSDT: is the recorder asked")
    assert told[1].note == "2 streams, 1 incomplete"


def test_the_day_on_which_recording_began_is_whole_from_there_on(synthetic_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.nightly_study.execute", lambda name, output, parameters: None)
    lake = Lake(tmp_path / "lake", create=True)
    day = generate(synthetic_spec, "BTCUSDT", synthetic_spec.dates[0])
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    for name, clock in {"klines": "open_time", "trades": "event_time", "mark_price": "event_time"}.items():
        since = noon + timedelta(seconds=20 if name == "mark_price" else 0)  # a bar's minute began before it was heard
        lake.append(name, day[name].filter(pl.col(clock) >= since), origin="test")
    found = health(
        Night(day=date(2026, 1, 5), folder=tmp_path, lake=lake.root, settings=NightSettings(symbols=("BTCUSDT",)))
    )
    assert fill_gaps(lake, "http://127.0.0.1:1", 1_200, print, end=datetime(2026, 1, 6, tzinfo=UTC)) is None
    assert found.human == ()  # a repair would bring nothing
    assert found.note == "3 streams, 0 incomplete"


def test_what_is_lost_for_good_is_incomplete_too(synthetic_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.nightly_study.execute", lambda name, output, parameters: None)
    lake = Lake(tmp_path / "lake", create=True)
    day = generate(synthetic_spec, "BTCUSDT", synthetic_spec.dates[0])
    lake.append("klines", day["klines"], origin="test")
    lake.append("book_ticker", day["book_ticker"], origin="test")
    since = datetime(2026, 1, 5, 3, tzinfo=UTC)
    deaf = pl.DataFrame(
        [{"table": "book_ticker", "venue": "aster", "symbol": "BTCUSDT", "is_estimate": True, "from_time": since,
          "to_time": since + timedelta(minutes=3)}],
        schema=HOLES,
    )  # fmt: skip
    lake.append("gaps", gap_rows(deaf, cause="stopped", detected_time=since, state="unrepairable"), origin="test")
    found = health(
        Night(day=date(2026, 1, 5), folder=tmp_path, lake=lake.root, settings=NightSettings(symbols=("BTCUSDT",)))
    )
    assert found.note == "2 streams, 1 incomplete, 1 of them for good"
    assert found.human == ()


@pytest.fixture
def quick(monkeypatch):
    """Steps are done at once, and each has a sentence for a person."""
    done = DONE, Outcome(note="done", human=("look",), pages=(("A page", "page.html"),))
    monkeypatch.setattr("pipelines.nightly._run_step", lambda night, name, lock: done)


def test_a_night_that_was_killed_before_it_said_what_it_is_begins_anew(tmp_path, quick):
    settings(tmp_path, steps=["prove"])
    (tmp_path / "runs" / "nightly" / "2026-01-05" / "logs").mkdir(parents=True)
    status, night = nightly(tmp_path, "2026-01-05")
    assert (status, [step["state"] for step in night["steps"]]) == (0, ["done"])


def test_the_night_that_was_just_closed_keeps_its_page_however_old_it_is(tmp_path, quick, monkeypatch):
    sent = []
    monkeypatch.setenv("ASTER_ALERTS", "json://127.0.0.1:1/x")
    monkeypatch.setattr(Alerts, "send", lambda self, kind, detail: sent.append(detail) or True)
    settings(tmp_path, steps=["prove"], keep_nights=1)
    for day in ("2026-01-06", "2026-01-05", "2026-01-05"):
        _, night = nightly(tmp_path, day)
        assert Path(night["report"]).exists()
    assert sent == ["2026-01-06 prove: look", "2026-01-05 prove: look"]


def test_a_step_that_fails_does_not_stop_the_others_and_is_tried_again(three_nights, tmp_path):
    folder, _ = three_nights
    (tmp_path / "lake").symlink_to(folder / "lake")
    settings(tmp_path, steps=["compact", "prove"])
    with FileLock(folder / "lake" / "compaction.lock"):
        status, night = nightly(tmp_path, "2026-01-05")
    failed, done = night["steps"]
    assert (status, failed["state"], done["state"]) == (1, "failed", "done")
    assert "another process merges its files" in failed["note"]
    assert night["human"][0] == {"step": "compact", "what": f"failed: {failed['note']}"}
    assert night["headline"] == "1 of 2 steps failed, 2 things need a person"  # the damaged file is the other one
    status, night = nightly(tmp_path, "2026-01-05")
    assert (status, [step["state"] for step in night["steps"]]) == (0, ["done", "done"])


def test_a_night_ends_with_all_its_pages(synthetic_lake, tmp_path):
    shutil.copytree(synthetic_lake.root, tmp_path / "lake")
    (tmp_path / "small.toml").write_text(SMALL_SWEEP)
    settings(tmp_path, sweeps=["small.toml"], steps=ASKED)
    status, night = nightly(tmp_path, "2026-01-07")
    assert status == 0, night
    assert [step["step"] for step in night["steps"]] == (ASKED or list(STEPS))
    pages = {path.name for path in (tmp_path / "runs" / "nightly" / "2026-01-07").glob("*.html")}
    assert pages >= {"report.html", "small.html"}
    assert ASKED or pages >= {"health.html", "clusters.html", "market-BTCUSDT.html"}
    assert {step["step"]: step["note"] for step in night["steps"]}["walk_forward"].startswith(
        "nothing is promoted; small: "
    )


def test_the_index_names_every_night_newest_first(three_nights):
    folder, _ = three_nights
    page = (folder / "runs" / "nightly" / "index.html").read_text()
    places = [page.index(f">{day}<") for day in ("2026-01-07", "2026-01-06", "2026-01-05")]
    assert places == sorted(places)
    assert len(page) < 100_000


def test_nights_are_compared_by_what_they_found(three_nights):
    folder, _ = three_nights
    _, second, third = nights_in(folder / "runs" / "nightly")
    assert changes(second, second) == []
    assert changes(third, second) == [("damaged files", "0", "1")]


def test_a_night_with_other_settings_is_not_compared_with(three_nights):
    folder, _ = three_nights
    first, second, third = nights_in(folder / "runs" / "nightly")
    assert [previous(night) and previous(night).day for night in (first, second, third)] == [
        None,
        first.day,
        second.day,
    ]
    other = replace(third, settings=replace(third.settings, report_days=4))
    assert previous(other) is None
    assert previous(replace(third, lake=folder / "elsewhere")) is None


def test_what_a_person_must_do_is_alerted_once_and_again_only_if_nobody_got_it(three_nights, monkeypatch):
    folder, told = three_nights
    arrives, sent = iter([False, True]), []
    monkeypatch.setattr(Alerts, "send", lambda self, kind, detail: sent.append((kind, detail)) or next(arrives))
    first, _, third = nights_in(folder / "runs" / "nightly")
    for night in (first, third, third, third):
        alert(night, ["json://127.0.0.1:1/token-0123"])
    (entry,) = told[2][1]["human"]
    assert sent == [("nightly", f"2026-01-07 prove: {entry['what']}")] * 2
    assert not any("token-0123" in path.read_text() for path in third.folder.rglob("*.json"))


def test_a_day_that_is_not_over_is_refused(three_nights):
    folder, _ = three_nights
    status, said = nightly(folder, "2999-01-01")
    assert status == 1
    assert "2999-01-01 is not over" in said


def test_settings_without_symbols_are_refused():
    with pytest.raises(ValueError, match="symbols: expected at least one"):
        NightSettings(symbols=())


def test_steps_that_do_not_exist_are_refused_by_name():
    with pytest.raises(ValueError, match="steps: there is no sleep; there are repair"):
        NightSettings(symbols=("BTCUSDT",), steps=("sleep",))
