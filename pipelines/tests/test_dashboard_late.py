"""The dashboard's page when answers come late or in another order, and what it says of a journal that is none."""

import json

import pytest

from live.dashboard.app import Place
from live.journal import Record
from live.tests.dashboard_run import Served, StandIn, traded

TOKEN = "a token of enough letters"
LISTED = "[...document.querySelectorAll('#events li div')].map(one => one.textContent)"
# What is asked under a path waits until the test lets it go; ``told`` counts the answers.
LATE = """
const ask = window.fetch.bind(window);
window.late = [];
window.told = 0;
window.fetch = async (path, ...rest) => {
  if (!path.startsWith(%s)) return ask(path, ...rest);
  await new Promise((go) => window.late.push(go));
  const answer = await ask(path, ...rest);
  const json = answer.json.bind(answer);
  answer.json = async () => { const read = await json(); setTimeout(() => { window.told += 1; }, 0); return read; };
  return answer;
};
"""


@pytest.fixture
def runner(tmp_path):
    """A stand-in for a runner that has traded."""
    with StandIn(tmp_path / "live.sqlite", traded(3)) as runner:
        runner.play(10)
        yield runner


@pytest.fixture
def asked():
    """Commands that reached the runner's inbox."""
    return []


@pytest.fixture
def page(browser, runner, asked, request):
    """The operator's page in a tab of its own, on which answers under a path are late."""

    def inbox(action, symbol):
        asked.append((action, symbol))
        return f"command-{len(asked)}"

    folder = runner.path.parent
    place = Place(journal=runner.path, lake=None, candidate=folder / "candidate.toml", token=TOKEN, inbox=inbox)
    first = browser.new_tab()
    with Served(place) as served:
        served.caught_up(runner.written)
        browser.ask("Page.addScriptToEvaluateOnNewDocument", source=LATE % json.dumps(request.param))
        browser.ask("Page.navigate", url=f"{served.url}/#token={TOKEN}")
        browser.wait_for("document.getElementById('flatten')?.disabled === false")
        yield browser
        browser.ask("Page.close")
    browser.front(first)


def click(page, button: str) -> None:
    page.evaluate(f"document.getElementById('{button}').click()")


@pytest.mark.parametrize("page", ["/api/events"], indirect=True)
def test_an_event_that_comes_while_the_earlier_ones_are_fetched_stands_above_them(page, runner):
    page.wait_for("late.length === 1")
    said = {"said": "just now"}
    runner.write(
        Record(ts_ms=1, kind="note", config_hash="", symbol="", trade_id=None, client_order_id=None, body=said)
    )
    page.wait_for(f"{LISTED}.length === 1")
    page.evaluate("late[0]()")
    page.wait_for("told === 1")
    listed = page.evaluate(LISTED)
    assert listed[0] == "said just now"
    assert listed[-1].endswith("begins") and len(listed) == len(set(listed)) > 2


@pytest.mark.parametrize("page", ["/api/commands"], indirect=True)
def test_the_plan_of_a_dialog_that_was_closed_is_not_taken_for_that_of_the_next(page, asked):
    click(page, "flatten")
    click(page, "dialog-cancel")
    click(page, "pause")
    page.wait_for("late.length === 2")
    page.evaluate("late[1]()")
    page.wait_for("told === 1 && !document.getElementById('dialog-go').disabled")
    page.evaluate("late[0]()")
    page.wait_for("told === 2")
    assert page.evaluate("document.getElementById('dialog-typing').hidden")
    assert "FLATTEN" not in page.evaluate("document.getElementById('dialog').textContent")
    click(page, "dialog-go")
    page.wait_for("late.length === 3")
    page.evaluate("late[2]()")
    page.wait_for("told === 3")
    assert asked == [("pause", None)]


@pytest.mark.parametrize("page", ["/api/commands"], indirect=True)
def test_the_answer_to_a_dialog_that_was_closed_does_not_end_the_next(page, asked):
    click(page, "pause")
    page.evaluate("late[0]()")
    page.wait_for("told === 1 && !document.getElementById('dialog-go').disabled")
    click(page, "dialog-go")
    click(page, "dialog-cancel")
    click(page, "flatten")
    page.wait_for("late.length === 3")
    page.evaluate("late[2]()")
    page.wait_for("!document.getElementById('dialog-typing').hidden")
    page.evaluate("late[1]()")
    page.wait_for("told === 3")
    assert asked == [("pause", None)]
    assert not page.evaluate("document.getElementById('dialog-go').hidden")
    assert page.evaluate("document.getElementById('dialog-cancel').textContent") == "Cancel"


def test_a_file_that_is_no_journal_is_not_shown_as_one_that_is_still_to_come(browser, tmp_path):
    path = tmp_path / "live.sqlite"
    path.write_text("no database" * 100)
    place = Place(journal=path, lake=None, candidate=tmp_path / "candidate.toml", token=TOKEN)
    with Served(place) as served:
        browser.visit(f"{served.url}/", 1440, 812)
        browser.wait_for("!document.getElementById('banner').hidden")
        assert "is not a sound journal" in browser.evaluate("document.getElementById('banner').textContent")
        browser.visit("about:blank", 1440, 812)
