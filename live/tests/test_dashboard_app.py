"""The dashboard's endpoints, who may ask them, the stream, commands in two steps, the candidate's file."""

import asyncio
import hashlib
import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pytest

from data.schema_clusters import SIGNALS
from live.commands import Inbox
from live.config import load_chosen
from live.dashboard import stream
from live.dashboard.app import Place
from live.dashboard.commands import CONFIRM_WITHIN_S, Commands, Wanted
from live.dashboard.market import SPARK_MINUTES, _Seen
from live.dashboard.serving import inbox_of
from live.dashboard.watch import Watch
from live.journal import Record
from live.tests.dashboard_run import Served, StandIn, traded
from research.clusters.signals import Signal
from research.plots.style import MASS_RAMP, TOKENS, paint

TOKEN = "a token of enough letters"
HERE = Path(__file__).resolve().parents[1] / "dashboard"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A stand-in for a runner that has traded and holds a position."""
    events = traded(3)
    with StandIn(tmp_path_factory.mktemp("run") / "live.sqlite", [*events, *_notes(3)]) as runner:
        runner.play(len(events))
        yield runner


@pytest.fixture(scope="module")
def place(runner):
    """Where the dashboard looks, with an inbox that keeps what it is given."""
    kept = []

    def inbox(action, symbol):
        kept.append((action, symbol))
        return f"command-{len(kept)}"

    inbox.kept = kept
    folder = runner.path.parent
    return Place(
        journal=runner.path, lake=folder / "no-lake", candidate=folder / "candidate.toml", token=TOKEN, inbox=inbox
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(place, runner):
    with Served(place) as served:
        yield served.caught_up(runner.written)


@pytest.fixture(autouse=True)
def nothing_kept(place):
    place.inbox.kept.clear()
    place.candidate.unlink(missing_ok=True)


@pytest.fixture
def watch(runner):
    """A watch that has read the journal."""
    watch = Watch(runner.path)
    while watch.look():
        pass
    yield watch
    watch.close()


def _notes(count):
    return [
        Record(ts_ms=each, kind="note", config_hash="", symbol="", trade_id=None, client_order_id=None,
               body={"said": each})
        for each in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/api/overview", "/api/positions", "/api/account", "/api/trades", "/api/equity", "/api/orders",
     "/api/orders?state=ended", "/api/events", "/api/stats", "/api/config", "/api/parity", "/api/health",
     "/api/recorders", "/metrics", "/openapi.json", "/static/main.js", "/vendor/uPlot-1.6.32.iife.min.js"],
)  # fmt: skip
def test_everything_but_the_lake_answers_without_a_lake(client, path):
    answer = client.ask(path)
    assert answer.status == 200, answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/heatmap", "/api/heatmap/BTCUSDT", "/api/signals", "/api/liquidations"])
def test_what_needs_the_lake_says_that_there_is_none(client, path):
    answer = client.ask(path)
    assert answer.status == 404
    assert "no lake" in answer.json()["detail"]


def test_positions_tell_their_stop_and_trades_their_money(client, runner):
    (position,) = client.ask("/api/positions").json()
    assert position["stop_state"] == "held"
    told = client.ask("/api/trades?after=1&limit=2").json()
    assert [trade["number"] for trade in told["trades"]] == [2, 3]
    nets = [trade["net_usdt"] for trade in client.ask("/api/trades").json()["trades"]]
    assert client.ask("/api/stats").json()["performance"]["since_start"]["net_usdt"] == pytest.approx(sum(nets))
    assert client.ask("/api/equity").json()["points"][-1][1] == pytest.approx(sum(nets), abs=1e-3)
    assert {order["leg"] for order in client.ask("/api/orders").json()} <= {"stop", "target", "trailing"}


def test_parity_proves_the_chain(client, runner):
    told = client.ask("/api/parity").json()
    assert told["is_chain_sound"] and told["events"] == runner.written


def test_health_and_parity_say_what_is_wrong(place, tmp_path):
    path = tmp_path / "live.sqlite"
    with Served(replace(place, journal=path)) as served:
        with StandIn(path, traded(3)) as runner:
            runner.play(10)
            assert served.caught_up(10).ask("/api/health").json()["is_well"]
        told = served.caught_up(10).ask("/api/health").json()
        assert not told["is_well"] and told["troubles"] == ["the runner is not running: stopped"]
        path.rename(tmp_path / "moved.sqlite")
        told = served.ask("/api/parity").json()
        assert not told["is_chain_sound"] and "no journal" in told["reason"]


def test_a_dashboard_that_is_started_answers_nothing_before_it_has_read_the_journal(place, tmp_path, monkeypatch):
    monkeypatch.setattr("live.dashboard.watch._AT_ONCE", 1)  # a long journal takes many turns
    with StandIn(tmp_path / "live.sqlite", traded(3)) as runner:
        runner.play(len(runner.left))
        with Served(replace(place, journal=runner.path)) as served:
            assert served.ask("/api/overview").json()["runner"]["head"] == runner.written > 300


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example", "", "localhost.:8050"])
def test_another_name_is_refused(client, host):
    answer = client.ask("/api/positions", Host=host)
    assert answer.status == 421
    assert "positions" not in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:8050", "null", "http://127.0.0.1:9999"])
def test_a_command_of_another_origin_is_refused(client, place, origin):
    answer = client.ask("/api/commands", {"action": "pause"}, Origin=origin)
    assert answer.status == 403 and place.inbox.kept == []


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer wrong", TOKEN[:-1]])
def test_a_command_without_the_token_is_refused(client, place, given):
    for path in ("/api/commands", "/api/config", "/api/config/check"):
        assert client.ask(path, {"action": "pause"}, Authorization=given).status == 401
    assert place.inbox.kept == []


def test_no_answer_may_be_read_by_another_origin(client):
    answer = client.ask("/api/positions", Origin="https://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.ask("/api/commands", method="OPTIONS", Origin="https://evil.example").status == 403


def test_closing_takes_two_steps_and_a_typed_word(client, place):
    (position,) = client.ask("/api/positions").json()
    wanted = {"action": "close", "symbol": position["symbol"]}
    plan = client.ask("/api/commands", wanted, Origin=client.url).json()
    assert place.inbox.kept == []
    assert plan["typed"] == "CLOSE"
    assert [each["trade_id"] for each in plan["closes"]] == [position["trade_id"]]
    assert plan["cancels"] and {each["trade_id"] for each in plan["cancels"]} == {position["trade_id"]}
    costs = client.ask("/api/config").json()["running"][0]["config"]["costs"]
    cost_bps = costs["taker_fee_bps"] + costs["slippage_bps"]
    assert plan["expected_cost_usdt"] == pytest.approx(position["notional_usdt"] * cost_bps / 1e4)
    confirmed = {**wanted, "confirm": plan["confirm"]}
    assert client.ask("/api/commands", confirmed).status == 403
    assert client.ask("/api/commands", {**confirmed, "action": "flatten", "symbol": None}).status == 403
    taken = client.ask("/api/commands", {**confirmed, "typed": "CLOSE"}).json()
    assert taken == {"action": "close", "symbol": position["symbol"], "command_id": "command-1"}
    assert place.inbox.kept == [("close", position["symbol"])]
    assert client.ask("/api/commands", {**confirmed, "typed": "CLOSE"}).status == 403


def test_what_cannot_be_done_is_said_before_it_is_confirmed(client):
    assert client.ask("/api/commands", {"action": "close", "symbol": "NOPE"}).status == 404
    assert client.ask("/api/commands", {"action": "close"}).status == 422
    assert client.ask("/api/commands", {"action": "pause", "symbol": "BTCUSDT"}).status == 422
    assert client.ask("/api/commands", {"action": "sell"}).status == 422


def test_a_confirmation_does_not_wait_for_ever():
    now = [0.0]
    commands = Commands(lambda action, symbol: "never", lambda: now[0])
    plan = commands.plan(Wanted(action="pause"), [], [], lambda position: 0.0)
    now[0] = CONFIRM_WITHIN_S
    with pytest.raises(PermissionError, match="ask again"):
        commands.take(Wanted(action="pause", confirm=plan.confirm))


def test_without_an_inbox_the_host_command_is_named(place):
    commands = Commands(None)
    assert not commands.are_taken
    with pytest.raises(ValueError, match="aster-live ctl"):
        commands.plan(Wanted(action="flatten"), [], [], lambda position: 0.0)


def test_a_candidate_is_checked_saved_and_taken_by_the_runner(client, place):
    (running,) = client.ask("/api/config").json()["running"]
    config = json.loads(json.dumps(running["config"]))
    notional, config["orders"]["notional_usdt"] = config["orders"]["notional_usdt"], 75.0
    edited = {"config": config, "based_on": running["config_hash"]}
    checked = client.ask("/api/config/check", edited).json()
    assert checked["is_valid"], checked
    assert checked["changes"] == [{"key": "orders.notional_usdt", "running": notional, "candidate": 75.0}]
    assert not place.candidate.exists()
    saved = client.ask("/api/config", edited).json()
    assert saved["saved_as"] == str(place.candidate)
    chosen = load_chosen(place.candidate)
    assert chosen.config_hash == saved["config_hash"] and chosen.config.orders.notional_usdt == 75.0
    assert chosen.provenance["statistical_gate"] is False
    told = client.ask("/api/config").json()
    assert told["candidate_hash"] == saved["config_hash"]
    assert [each["config_hash"] for each in told["running"]] == [running["config_hash"]]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [(("costs", "taker_fee_bp"), 4.0, "did you mean taker_fee_bps"), (("params", "stop_bps"), "tight", "stop_bps"),
     (("orders", "max_notional_usdt"), 1.0, "notional"), (("strategy",), "magic", "magic")],
)  # fmt: skip
def test_a_candidate_that_could_not_run_is_not_saved(client, place, path, value, words):
    (running,) = client.ask("/api/config").json()["running"]
    config = running["config"]
    part = config
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    edited = {"config": config, "based_on": running["config_hash"]}
    checked = client.ask("/api/config/check", edited).json()
    assert not checked["is_valid"] and words in " ".join(checked["problems"])
    assert client.ask("/api/config", edited).status == 422
    assert not place.candidate.exists()


def listened(watch, after, count, writes=lambda: None):
    """What a client is sent until it has so many journal events."""

    async def listen():
        sent, following = [], asyncio.create_task(watch.follow())
        try:
            async for event in stream.events(watch, after, lambda event: str(event.seq), lambda: "{}"):
                sent.append((event.event, event.id, event.data))
                if len(sent) == 1:
                    writes()
                if Counter(name for name, _, _ in sent)["journal"] == count or sent[-1][0] == "resync":
                    return sent
        finally:
            following.cancel()

    return asyncio.run(asyncio.wait_for(listen(), 20))


def test_a_client_that_comes_back_is_sent_what_it_missed_and_nothing_twice(runner, watch):
    head = watch.book.head
    sent = listened(watch, head - 5, 7, lambda: runner.play(2))
    numbers = [int(name) for kind, name, _ in sent if kind == "journal"]
    assert numbers == list(range(head - 4, head + 3))


def test_a_new_client_begins_with_the_present(runner, watch):
    head = watch.book.head
    sent = listened(watch, None, 1, lambda: runner.play(1))
    assert sent[0][:2] == ("pulse", str(head))
    assert [name for kind, name, _ in sent if kind == "journal"] == [str(head + 1)]


@pytest.mark.parametrize("after", [10**9, 1])
def test_a_client_that_is_too_far_off_is_told_to_fetch_anew(watch, monkeypatch, after):
    monkeypatch.setattr(stream, "BEHIND", 50)
    sent = listened(watch, after, 1)
    assert sent[-1][:2] == ("resync", str(watch.book.head))


def test_a_client_whose_events_cannot_be_read_just_now_holds_nobody_up(watch, monkeypatch):
    waited = []

    async def changed(timeout_s):
        waited.append(timeout_s)
        watch.end()

    monkeypatch.setattr(watch, "changed", changed)
    monkeypatch.setattr(watch, "after", lambda seq, limit: [])

    async def listen():
        heard = stream.events(watch, watch.book.head - 5, lambda event: "", lambda: "{}")
        return [event.event for event in [await anext(heard), await anext(heard, None)] if event]

    assert asyncio.run(listen()) == ["pulse"]
    assert waited


def test_an_event_reaches_every_client_and_none_takes_it_from_another(runner, watch):

    async def listen(into):
        async for event in stream.events(watch, None, lambda event: str(event.seq), lambda: "{}"):
            if event.event == "journal":
                into.append(event.data)

    async def all_of_them():
        heard = [[] for _ in range(50)]
        tasks = [asyncio.create_task(listen(into)) for into in heard]
        tasks.append(asyncio.create_task(watch.follow()))
        await asyncio.sleep(0.05)
        for note in _notes(40):
            runner.write(note)
        while min(map(len, heard)) < 40:
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        return heard

    heard = asyncio.run(asyncio.wait_for(all_of_them(), 20))
    assert len(heard) == 50 and all(each == heard[0] and len(set(each)) == 40 for each in heard)


def test_the_page_has_the_colours_of_every_figure():
    style = (HERE / "static" / "page.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    for name, (in_light, in_dark) in TOKENS.items():
        assert f"--{name}: {in_light};" in light and f"--{name}: {in_dark};" in dark
    for number, shade in enumerate(MASS_RAMP, start=1):
        assert f"--m{number}: {shade};" in light and f"--m{number}: {paint(shade, 'dark')};" in dark


def test_the_page_parses_no_html_and_loads_nothing_from_elsewhere():
    for path in (HERE / "static").iterdir():
        text = path.read_text()
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", " style=", "https:"):
            assert forbidden not in text, f"{path.name}: {forbidden}"


def test_the_page_is_small():
    parts = [*(HERE / "static").glob("*.*"), *(HERE / "vendor").glob("*.js"), *(HERE / "vendor").glob("*.css")]
    assert sum(part.stat().st_size for part in parts) <= 150_000


def test_the_chart_library_is_the_one_that_was_vendored():
    for line in (HERE / "vendor" / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split()
        assert hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() == expected
    assert "MIT" in (HERE / "vendor" / "uPlot.LICENSE").read_text()


def test_the_dashboard_can_sign_nothing():
    code = (
        "import live.dashboard.server, live.dashboard.serving, sys; "
        "print([name for name in ('eth_account', 'coincurve', 'aiohttp', 'picows', 'plotly', 'pandas', 'vectorbt') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    assert done.stdout.strip() == "[]"


def test_a_confirmed_command_lies_in_the_inbox_that_the_runner_reads(tmp_path):
    with StandIn(tmp_path / "live.sqlite", traded(3)) as runner, Inbox(runner.path) as inbox:
        runner.play(1)
        key = inbox_of(runner.path)("close", "BNBUSDT")
        (command,) = inbox.unread()
    assert (command.key, command.command, command.symbol, command.by) == (key, "close", "BNBUSDT", "dashboard")


def test_a_stream_that_nobody_looked_at_for_minutes_has_no_minute_with_all_of_them():
    seen = _Seen(0, 0.0)
    for now_s in (60.0, 130.0, 730.0):  # ten messages a second
        seen.look(round(10 * now_s), now_s)
    assert list(seen.per_minute) == [600] * 12
    seen.look(600_000, 60_000.0)
    assert list(seen.per_minute) == [600] * SPARK_MINUTES


def test_signals_have_the_columns_that_the_batch_tells():
    assert {field.name for field in fields(Signal)} <= set(SIGNALS.columns)
