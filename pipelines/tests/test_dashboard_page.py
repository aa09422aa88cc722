"""The dashboard's page in a real browser, beside a stand-in for a runner: what an operator sees and can do."""

import json
from dataclasses import replace
from pathlib import Path
from queue import Queue

import axe_core_python
import pytest

from live.dashboard import stream
from live.dashboard.app import Place
from live.journal import Record
from live.tests.dashboard_run import Served, StandIn, traded

TOKEN = "a token of enough letters"
SEED = 3
LISTED = "[...document.querySelectorAll('#events li div')].map(one => one.textContent)"
SEEN = "document.getElementById('state-word').textContent !== 'Connecting'"
AXE = Path(axe_core_python.__file__).parent / "axe.min.js"


def note(number: int, said: str = "", symbol: str = "") -> Record:
    """An event that the page lists in its own words."""
    body = {"said": said or f"note {number}"}
    return Record(
        ts_ms=traded(SEED)[-1].ts_ms + number, kind="note", config_hash="", symbol=symbol, trade_id=None,
        client_order_id=None, body=body,
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path):
    """A stand-in that has traded, holds a position and has just heard its mark."""
    events = traded(SEED)
    with StandIn(tmp_path / "live.sqlite", events) as runner:
        runner.play(len(events))
        entry = next(event for event in reversed(events) if event.kind == "fill")
        runner.hear(events[-1].ts_ms, {entry.symbol: entry.body["price"] * 1.0005})
        yield runner


@pytest.fixture
def asked() -> Queue:
    """Commands that the dashboard left for the runner."""
    return Queue()


@pytest.fixture
def place(runner, tmp_path, asked):
    def inbox(action, symbol):
        asked.put((action, symbol))
        return "the-key"

    return Place(
        journal=runner.path, lake=tmp_path / "lake", candidate=tmp_path / "candidate.toml", token=TOKEN, inbox=inbox
    )  # fmt: skip


@pytest.fixture
def served(place, runner):
    with Served(place) as served:
        yield served.caught_up(runner.written)


def visit(browser, served, width=1440, height=900, theme="light"):
    """Open the page with the operator's link and wait for its first numbers."""
    browser.visit("about:blank", width, height, theme)
    browser.complaints.clear()
    browser.requests.clear()
    browser.ask("Page.navigate", url=f"{served.url}/#token={TOKEN}")
    browser.wait_for(f"location.hash === '' && {SEEN} && document.querySelectorAll('#trades tr').length > 5")


def notes_listed(browser) -> list[str]:
    return [text for text in browser.evaluate(LISTED) if text.startswith("said ")]


def test_two_tabs_both_get_forty_of_forty_events(browser, served, runner):
    visit(browser, served)
    first = browser.new_tab()
    visit(browser, served)
    for number in range(40):
        runner.write(note(number))
    expected = [f"said note {number}" for number in reversed(range(40))]
    second = browser.front(first)
    for tab in (first, second):
        browser.front(tab)
        browser.wait_for(f"{LISTED}.filter(text => text.startsWith('said ')).length >= 40")
        assert notes_listed(browser) == expected
    browser.ask("Page.close")
    browser.front(first)


def test_a_restarted_server_resumes_without_a_gap(browser, place, runner):
    with Served(place) as served:
        visit(browser, served.caught_up(runner.written))
        runner.write(note(0))
        browser.wait_for(f"{LISTED}[0] === 'said note 0'")
        port = served.port
    browser.wait_for("document.getElementById('banner').textContent.startsWith('Disconnected.')")
    assert browser.evaluate("document.getElementById('flatten').disabled && document.body.matches('.old')")
    assert "aster-live ctl flatten" in browser.evaluate("document.getElementById('banner').textContent")
    for number in range(1, 11):
        runner.write(note(number))
    with Served(place, port):
        browser.wait_for(f"{LISTED}[0] === 'said note 10'")
        browser.wait_for("!document.getElementById('banner').textContent.startsWith('Disconnected.')")
        assert notes_listed(browser) == [f"said note {number}" for number in reversed(range(11))]


def test_closing_a_position_takes_a_word_and_tells_the_answer(browser, served, runner, asked):
    visit(browser, served)
    browser.wait_for("!document.querySelector('.c-close button').disabled")
    browser.evaluate("document.querySelector('.c-close button').click()")
    browser.wait_for("!document.getElementById('dialog-typing').hidden")
    assert browser.evaluate("document.activeElement.id") == "dialog-cancel"
    assert browser.evaluate("document.getElementById('dialog-go').disabled")
    assert "at the market" in browser.evaluate("document.getElementById('dialog-body').textContent")
    browser.evaluate("document.getElementById('dialog-word').focus()")
    browser.ask("Input.insertText", text="CLOSE")
    browser.evaluate("document.getElementById('dialog-go').click()")
    action, symbol = asked.get(timeout=60)
    assert action == "close"
    told = {"key": "the-key", "command": action, "is_done": True, "answer": f"ACTIVE; closing {symbol}"}
    runner.write(replace(note(0), kind="answer", body=told))
    browser.wait_for("document.getElementById('dialog-said').textContent.startsWith('The runner answers: close')")
    browser.wait_for(f"({LISTED})[0].startsWith('close: ACTIVE; closing')")
    browser.evaluate("document.getElementById('dialog-cancel').click()")
    assert browser.evaluate("!document.getElementById('dialog').open")


def test_without_the_token_nothing_can_be_done(browser, served):
    browser.visit("about:blank", 1440, 900)
    browser.new_tab()  # what a tab was given stays with it
    browser.visit(f"{served.url}/", 1440, 900)
    browser.wait_for(SEEN)
    assert browser.evaluate("document.getElementById('flatten').disabled")
    browser.ask("Page.close")
    browser.front(browser.first)


def test_html_in_any_field_is_inert(browser, served, runner):
    evil = "<img src=x onerror=document.title='owned'><b>x</b>"
    visit(browser, served)
    runner.write(note(0, said=evil, symbol=evil))
    level = {"level": "HALTED", "because": [evil], "state": {"lowered": {"operator": "HALTED"}}}
    runner.write(replace(note(1), kind="risk", body=level))
    browser.wait_for("document.getElementById('banner').textContent.includes('onerror')")
    assert evil in browser.evaluate("document.getElementById('events').textContent")
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert "owned" not in browser.evaluate("document.title")
    assert browser.evaluate("document.getElementById('banner').className") == "banner halt"


def test_silence_shows_and_takes_every_tick_away(browser, place, runner, monkeypatch):
    monkeypatch.setattr(stream, "PULSE_S", 3_600.0)
    with Served(place) as served:
        visit(browser, served.caught_up(runner.written))
        browser.wait_for("document.getElementById('banner').textContent.startsWith('Stale.')")
        assert browser.evaluate(
            "[...document.querySelectorAll('.tile h3')].every(one => !one.textContent.includes('✓'))"
        )


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (375, "dark")])
def test_the_page_fits_complains_of_nothing_and_can_be_used_by_everyone(browser, served, width, theme):
    visit(browser, served, width, 812, theme)
    browser.wait_for("document.querySelectorAll('#map .empty').length === 1")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []
    assert {url.split("/")[2] for url in browser.requests} <= {f"127.0.0.1:{served.port}", "about:blank", ""}
    browser.evaluate(AXE.read_text() + "; axe.run().then(found => { window.found = found.violations; })")
    browser.wait_for("window.found !== undefined")
    found = json.loads(browser.evaluate("JSON.stringify(window.found)"))
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_configuration_page_saves_a_candidate(browser, served, place):
    visit(browser, served)
    browser.ask("Page.navigate", url=f"{served.url}/config")
    browser.wait_for("document.getElementById('orders.notional_usdt') !== null")
    browser.evaluate("document.getElementById('orders.notional_usdt').select()")
    browser.ask("Input.insertText", text="77")
    browser.evaluate("document.getElementById('check').click()")
    browser.wait_for("!document.getElementById('save').disabled")
    assert "orders.notional_usdt" in browser.evaluate("document.getElementById('changes').textContent")
    assert not place.candidate.exists()
    browser.evaluate("document.getElementById('save').click()")
    browser.wait_for("document.getElementById('said').textContent.startsWith('Saved as')")
    assert "notional_usdt = 77.0" in place.candidate.read_text()
    assert browser.complaints == []
