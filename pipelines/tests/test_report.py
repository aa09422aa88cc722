import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines import report
from pipelines.report import Gate, Section, Table, Verdict, gate_headline, write_report
from research import plots

START = datetime(2026, 2, 10, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script> & <img src=http://example.com/x onerror=alert(1)>'


def folds(n: int = 12) -> pl.DataFrame:
    rows = [
        {
            "fold": i + 1, "train_start": START + timedelta(days=10 * i),
            "train_end": START + timedelta(days=10 * i + 30),
            "test_start": START + timedelta(days=10 * i + 31), "test_end": START + timedelta(days=10 * i + 41),
            "in_sample_sharpe": 2.0, "oos_sharpe": 1.0 - i / 4, "oos_low": -1.0, "oos_high": 2.0, "trades": 30,
            "net_bps": 1.1, "params": f"k 2, window {30 + i % 2}", "changed": i > 0,
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def equity(title: str = "Equity"):
    curve = np.cumsum(np.sin(np.arange(500) / 50.0))
    frame = pl.DataFrame(
        {
            "time": [START + timedelta(minutes=i) for i in range(500)],
            "equity_usdt": curve,
            "drawdown_usdt": curve - np.maximum.accumulate(np.maximum(curve, 0.0)),
            "exposure_usdt": np.where(curve > 10.0, 1_000.0, -1_000.0),
            "is_oos": True,
        }
    )
    return plots.plot_equity(frame, title=title)


GATES = tuple(
    Gate(name=f"probability of something {i}", value="207 of 207 trades", limit="> 99.9\u202f%", passes=passes)
    for i, passes in enumerate([False, False, True, True, True, True, True, True, True])
)
TABLE = Table(
    title="Trades",
    columns=("entered, UTC", "side", "entry, USDT", "exit, USDT", "reason", "net, USDT"),
    align="llrrlr",
    rows=(("10 Feb 14:03", "▲ long", "77\u202f665.9", "77\u202f962.2", HOSTILE, "−1.20"),),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report with hostile text wherever text goes."""
    return write_report(
        tmp_path_factory.mktemp("report") / "report.html",
        title=f"momentum {HOSTILE}",
        verdict=Verdict(
            headline=gate_headline(GATES),
            sentence=f"Momentum BTCUSDT earned +1.1 bps per trade. {HOSTILE}",
            key_numbers=(("Sharpe out of sample", "0.9 [−0.2, 1.8]"), ("trades", "412"), ("worst drawdown", "−6.1 %")),
            gates=GATES,
            figure=plots.plot_walk_forward(folds()),
        ),
        sections=[Section(title=HOSTILE, intro=HOSTILE, figures=(equity(HOSTILE), equity()), tables=(TABLE,))],
        facts=[("commit", HOSTILE), ("configs tried", "6\u202f561")],
        not_modelled=["queue position", HOSTILE],
    )


class Elements(HTMLParser):
    """Start tags with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def without_library(page: Path) -> str:
    """The page without plotly.js, whose source names addresses that it is never asked for."""
    return re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", page.read_text(), flags=re.DOTALL)


def test_the_page_carries_one_library_and_stays_under_8_mb(page):
    assert page.read_text().count("* plotly.js (cartesian - minified)") == 1
    assert 1_500_000 < page.stat().st_size < report.MAX_BYTES


def test_nothing_on_the_page_is_loaded_from_anywhere(page):
    loading = [
        (tag, name, value)
        for tag, attributes in Elements(page.read_text()).found
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "poster"} and not value.startswith(("#", "data:,"))
    ]
    assert loading == []
    assert not re.search(r"url\(|@import", without_library(page))


def test_the_page_allows_only_its_own_scripts(page):
    policy = next(at["content"] for _, at in Elements(page.read_text()).found if "http-equiv" in at)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_text_is_escaped_wherever_it_goes(page):
    tags = [tag for tag, _ in Elements(without_library(page)).found]
    assert "img" not in tags
    assert "alert(" in page.read_text()  # as text
    assert re.findall(r"<script>(?!\"use strict\")", without_library(page)) == []


def test_figures_never_offer_to_be_uploaded(page):
    shared = re.search(r'id="shared">(.*?)</script>', page.read_text())[1]
    config = json.loads(shared)["config"]
    assert (config["showSendToCloud"], config["plotlyServerURL"]) == (False, "")


def test_every_figure_has_a_label_for_those_who_do_not_see_it(page):
    drawings = [at for _, at in Elements(page.read_text()).found if at.get("class") == "drawing"]
    assert len(drawings) == 3
    assert all(at["role"] == "img" and at["aria-label"].endswith(".") for at in drawings)


def test_the_headline_counts_what_fails_and_what_was_not_measured():
    assert gate_headline(GATES) == "NOT PROMOTABLE: 2 of 9 gates fail"
    assert gate_headline(GATES[2:]) == "PROMOTABLE: all 7 gates hold"
    unmeasured = Gate(name="placebo rank", value="–", limit="≤ 10", passes=None)
    assert gate_headline([unmeasured, GATES[2]]) == "NOT PROMOTABLE: 1 of 2 could not be measured"
    assert gate_headline([]) == "NOT PROMOTABLE: no gate was measured"


def test_a_row_that_does_not_fit_its_table_is_refused():
    with pytest.raises(ValueError, match="row widths \\[1, 2\\]"):
        Table(title="Costs", columns=("cost", "bps"), align="lr", rows=(("fee", "4.0"), ("slippage",)))


def test_a_page_over_the_limit_is_refused_and_the_old_one_kept(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(report, "MAX_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="the limit is 1 MB; draw fewer figures"):
        empty = Verdict(headline="LONG", sentence="word " * 200_000)
        write_report(path, title="t", verdict=empty, sections=[], facts=[], not_modelled=[])
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("report.html", "old")]


@pytest.mark.parametrize("width", [375, 1440])
def test_every_figure_is_drawn_in_both_themes_without_a_complaint_or_a_request(browser, page, width):
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width, 6_000)
    browser.wait_for(browser.ALL_DRAWN.format("light"))
    assert browser.evaluate("document.querySelectorAll('.drawing .scatterlayer .trace').length") >= 8
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.evaluate("document.getElementById('theme').click()")
    browser.wait_for(browser.ALL_DRAWN.format("dark"))
    assert browser.evaluate("document.querySelector('.main-svg').style.background") == "rgb(22, 27, 35)"
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_figures_below_the_screen_wait_until_they_are_scrolled_to(browser, page):
    browser.open(page, 1440, 500)
    browser.wait_for("document.querySelector('.drawing').dataset.drawn === 'light'")
    assert browser.evaluate("document.querySelectorAll('.drawing[data-drawn]').length") < 3
    browser.evaluate("[...document.querySelectorAll('.drawing')].at(-1).scrollIntoView()")
    browser.wait_for("[...document.querySelectorAll('.drawing')].at(-1).dataset.drawn === 'light'")


def test_the_verdict_fits_the_first_screen(browser, page):
    browser.open(page, 1440, 900)
    browser.wait_for("document.querySelector('.drawing').dataset.drawn === 'light'")
    assert browser.evaluate("document.querySelector('.verdict').getBoundingClientRect().bottom") <= 900
