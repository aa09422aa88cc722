"""The dashboard's page in a real browser, beside a real run: exchange, runner in real mode, recorder, all on loopback.

One run for the whole module; the tests follow each other on it, from the first fill to the flattened end.
"""

import http.client
import json
import signal
import time
from pathlib import Path

import axe_core_python
import numpy as np
import polars as pl
import pytest

from live.benchmarks.configs import champion
from live.benchmarks.stage import SYMBOL, Stage
from live.commands import ask
from live.journal import read_journal

EVENTS = 40
EVIL = "<img src=x onerror=document.title='owned'><b>x</b>"
LISTED = "[...document.querySelectorAll('#events li div')].map(one => one.textContent)"
ACKS = f"{LISTED}.filter(text => /asks: ack|^ack:/.test(text))"
BANNER = "document.getElementById('banner')"
AXE = Path(axe_core_python.__file__).parent / "axe.min.js"
FAR = {"stop_bps": 300.0, "target_bps": 400.0, "activation_bps": 300.0}  # what is held is held until it is closed


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A run that enters as soon as it may."""
    config = champion(momentum_multiple=0.1, volume_multiple=0.1, **FAR)
    with Stage(tmp_path_factory.mktemp("run") / "stage", config, speed=20.0) as stage:
        yield stage


@pytest.fixture(scope="module")
def page(stage, browser):
    """The operator's page, with the first position on it."""
    visit(browser, stage)
    browser.wait_for("document.querySelector('#positions tbody tr') !== null")
    yield browser
    assert browser.complaints == []


def visit(browser, stage, path="/", width=1440, theme="light"):
    """Open a page with the operator's link and wait for its first words."""
    browser.visit("about:blank", width, 812, theme)
    browser.ask("Page.navigate", url=stage.link.replace("/#", f"{path}#"))
    browser.wait_for("location.hash === '' && document.title !== '' && !document.title.startsWith('Connecting')")


def events(stage) -> pl.DataFrame:
    return read_journal(stage.journal)


def asks(stage, count, by="somebody") -> None:
    """Commands that change nothing: the runner writes each down, and its answer."""
    for _ in range(count):
        ask(stage.journal, "ack", None, by=by, now_ms=time.time_ns() // 1_000_000, patience_ms=60_000)


def acks(browser) -> list[str]:
    """Those that the page lists, newest first."""
    return browser.evaluate(ACKS)


def test_a_fill_shows_with_the_stop_that_the_exchange_holds(page, stage):
    page.wait_for("document.querySelector('#positions .c-stop .sub').textContent.startsWith('✓')")
    assert stage.exchange.held != 0.0
    trade = page.evaluate("document.querySelector('#positions tbody tr').dataset.key")
    kinds = events(stage).filter(trade_id=trade)["kind"].to_list()
    assert kinds.index("decision") < kinds.index("intent") < kinds.index("fill") < kinds.index("guarded")
    guarded, fill = page.evaluate(f"{LISTED}.filter(text => /sold|bought|its stop/.test(text)).slice(0, 2)")
    assert "its stop stands on the exchange" in guarded and fill.startswith((f"{SYMBOL}sold", f"{SYMBOL}bought"))
    page.wait_for("document.getElementById('account').textContent.includes('10\u202f0') || "
                  "document.getElementById('account').textContent.includes('9\u202f9')")  # fmt: skip
    tiles = page.evaluate("[...document.querySelectorAll('.tile h3')].map(one => one.textContent)")
    assert all(tile.endswith("✓") for tile in tiles) and len(tiles) == 6
    limit = page.evaluate("document.getElementById('tiles').textContent.split('Drawdown today')[1]")
    assert "of 2\u202f0" in limit  # 20 % of the day's highest
    page.wait_for("document.querySelectorAll('#recorder tbody tr').length >= 5")


def test_two_tabs_both_get_every_event_and_html_in_it_is_inert(page, stage):
    first = page.new_tab()
    visit(page, stage)
    asks(stage, EVENTS // 2, by=EVIL)
    second = page.front(first)
    for tab in (first, second):
        page.front(tab)
        page.wait_for(f"{ACKS}.length >= {EVENTS}")
        assert sorted(acks(page)) == sorted([f"{EVIL} asks: ack", "ack: ACTIVE"] * (EVENTS // 2))
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert "owned" not in page.evaluate("document.title")
    page.ask("Page.close")
    page.front(first)


def test_a_dashboard_that_is_killed_resumes_without_a_gap_and_the_runner_did_not_notice(page, stage):
    before = len(acks(page))
    stage.kill("dashboard")
    page.wait_for(f"!{BANNER}.hidden && {BANNER}.textContent.startsWith('Disconnected.')")
    assert page.evaluate("document.getElementById('flatten').disabled && document.body.matches('.old')")
    assert "aster-live ctl flatten" in page.evaluate(f"{BANNER}.textContent")
    asks(stage, 5)
    while events(stage).filter(kind="answer").height < EVENTS // 2 + 5:
        time.sleep(0.05)
    assert stage.is_alive("runner") and stage.is_alive("recorder")
    stage.serve(stage.port)
    page.wait_for(f"{ACKS}.length >= {before + 10}")
    assert len(acks(page)) == before + 10
    page.wait_for(f"{BANNER}.hidden")
    page.complaints[:] = [each for each in page.complaints if not each.startswith("Failed to load resource: net::")]


def test_silence_shows_and_takes_every_tick_away(page, stage):
    stage.signal("dashboard", signal.SIGSTOP)
    page.wait_for(f"!{BANNER}.hidden && {BANNER}.textContent.startsWith('Stale.')")
    tiles = page.evaluate("[...document.querySelectorAll('.tile h3')].map(one => one.textContent)")
    assert tiles and all(tile.endswith("unverified") for tile in tiles)
    assert "✓" not in page.evaluate("document.getElementById('positions').textContent")
    stage.signal("dashboard", signal.SIGCONT)
    page.wait_for(f"{BANNER}.hidden")


def posted(stage, **headers) -> int:
    """Status of a command with these headers beside what the page sends."""
    connection = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=20)
    given = {"Content-Type": "application/json", "Authorization": f"Bearer {stage.token}"} | headers
    connection.request("POST", "/api/commands", b'{"action": "pause"}', given)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_another_origin_a_missing_token_and_a_wrong_host_are_refused(stage, page):
    before = events(stage).filter(kind="command").height
    assert posted(stage, Origin="https://evil.example") == 403
    assert posted(stage, Authorization="") == 401
    assert posted(stage, Host="evil.example") == 421
    assert posted(stage) == 200  # the first of two steps: nothing is asked of the runner yet
    assert events(stage).filter(kind="command").height == before


def test_without_the_token_the_page_can_do_nothing(page, stage):
    first = page.new_tab()  # what a tab was given stays with it
    page.visit(f"{stage.url}/", 1440, 812)
    page.wait_for("document.querySelector('#positions tbody tr') !== null")
    assert page.evaluate("document.getElementById('flatten').disabled")
    page.ask("Page.close")
    page.front(first)


def test_closing_takes_a_word_and_the_runner_closes_on_the_exchange(page, stage):
    page.wait_for("document.querySelector('.c-close button')?.disabled === false")
    trade = page.evaluate("document.querySelector('#positions tbody tr').dataset.key")
    page.evaluate("document.querySelector('.c-close button').click()")
    page.wait_for("!document.getElementById('dialog-typing').hidden")
    assert page.evaluate("document.activeElement.id") == "dialog-cancel"
    assert page.evaluate("document.getElementById('dialog-go').disabled")
    assert "at the market" in page.evaluate("document.getElementById('dialog-body').textContent")
    confirm(page, "CLOSE")
    page.wait_for(f"document.querySelector('#positions tr[data-key=\"{trade}\"]') === null")
    page.wait_for("document.getElementById('trades').textContent.includes('operator')")
    closed = events(stage).filter(trade_id=trade, kind="fill")
    assert [json.loads(body)["leg"] for body in closed["body"]] == ["E", "X"]
    assert stage.exchange.fills >= 2
    page.evaluate("document.getElementById('dialog-cancel').click()")
    assert page.evaluate("!document.getElementById('dialog').open")


def confirm(page, word: str) -> None:
    page.evaluate("document.getElementById('dialog-word').focus()")
    page.ask("Input.insertText", text=word)
    page.evaluate("document.getElementById('dialog-go').click()")
    page.wait_for("document.getElementById('dialog-said').textContent.startsWith('The runner answers:')")


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (375, "dark")])
def test_the_page_fits_and_can_be_used_by_everyone(page, stage, width, theme):
    visit(page, stage, width=width, theme=theme)
    page.wait_for("document.querySelectorAll('#trades tr').length > 1 && document.querySelector('#map p') !== null")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    still = {"name": "prefers-reduced-motion", "value": "reduce"}  # an event that arrives is tinted for half a second
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}, still])
    page.evaluate(AXE.read_text() + "; axe.run().then(found => { window.found = found.violations; })")
    page.wait_for("window.found !== undefined")
    found = json.loads(page.evaluate("JSON.stringify(window.found)"))
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert {url.split("/")[2] for url in page.requests} <= {f"127.0.0.1:{stage.port}", "about:blank", ""}


def test_trades_are_sorted_by_what_is_clicked(page, stage):
    random = np.random.default_rng(7)
    columns = {
        "exit_time": [f"2026-01-0{day}T00:00:00+00:00" for day in random.integers(1, 5, 30)],
        "side": random.choice(["long", "short"], 30).tolist(),
        "net_usdt": random.integers(-3, 4, 30).tolist(),
        "exit_price": [None if price > 4 else float(price) for price in random.integers(1, 8, 30)],
    }
    rest = {"symbol": SYMBOL, "quantity": 1.0, "entry_price": 1.0, "reason": "stop", "fees_usdt": 0, "funding_usdt": 0}
    trades = [
        rest | {"number": number, **{name: values[number] for name, values in columns.items()}} for number in range(30)
    ]
    first = page.new_tab()
    visit(page, stage)
    page.evaluate(
        f"import('/static/tables.js').then(all => {{ window.t = new all.Trades(); t.add({json.dumps(trades)}); }}); 0"
    )
    page.wait_for("window.t !== undefined")
    for name in columns:
        for is_descending in (True, False):
            page.evaluate(f"t.sort('{name}')")
            told = page.evaluate("t.shown.filter(one => !one.hidden).map(one => Number(one.firstChild.textContent))")
            newest_first = trades[::-1]
            known = [each for each in newest_first if each[name] is not None]
            unknown = [each for each in newest_first if each[name] is None]
            ordered = sorted(known, key=lambda each: each[name], reverse=is_descending)
            wanted = ordered + unknown if is_descending else unknown + ordered
            assert told == [each["number"] for each in wanted], (name, is_descending)
    page.ask("Page.close")
    page.front(first)


def test_the_configuration_page_saves_a_candidate(page, stage):
    candidate = stage.folder / "candidate.toml"
    visit(page, stage, path="/config")
    page.wait_for("document.getElementById('orders.notional_usdt') !== null")
    page.evaluate("document.getElementById('orders.notional_usdt').select()")
    page.ask("Input.insertText", text="77")
    page.evaluate("document.getElementById('check').click()")
    page.wait_for("!document.getElementById('save').disabled")
    assert "orders.notional_usdt" in page.evaluate("document.getElementById('changes').textContent")
    assert not candidate.exists()
    page.evaluate("document.getElementById('save').click()")
    page.wait_for("document.getElementById('said').textContent.startsWith('Saved as')")
    assert "notional_usdt = 77.0" in candidate.read_text()


def test_flatten_halts_the_run_and_the_page_says_so(page, stage):
    visit(page, stage)
    page.wait_for("!document.getElementById('flatten').disabled")
    page.evaluate("document.getElementById('flatten').click()")
    page.wait_for("!document.getElementById('dialog-typing').hidden")
    confirm(page, "FLATTEN")
    page.wait_for(f"{BANNER}.className === 'banner halt' && document.querySelector('#positions .empty') !== null")
    assert page.evaluate("document.getElementById('state-word').textContent") == "Halted"
    assert stage.exchange.held == 0.0
