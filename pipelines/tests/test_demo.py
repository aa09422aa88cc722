import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from data.lake import Lake
from pipelines.demo import MARKET, SWEEP, run_demo
from pipelines.report import MAX_BYTES
from pipelines.tests.killing import finish, kill_when, start


def silent(*told) -> None:
    """Progress that nobody looks at."""


def test_paper_over_sockets_trades_what_its_replay_and_its_backtest_trade(demo_done):
    folder, result = demo_done
    assert result["paper"]["trades"] > 0
    assert result["paper"]["agrees"]
    told = dict(line.split(": ", 1) for line in result["summary"])
    assert list(told) == ["market", "sweep", "promoted", "paper", "resolution"]
    rows = Lake(folder / "lake").sql("select count(*) as n from trades")["n"][0]
    counted, new = re.fullmatch(r"([\d,]+) rows in the lake, ([\d,]+) of them new", told["market"]).groups()
    assert counted == new and int(new.replace(",", "")) > rows
    assert told["paper"].endswith("the same trades, to the last digit.")
    assert re.match(r"At bar resolution \d+ trades, net .* USDT; ticks differ by .* bps", told["resolution"])


def test_the_recording_has_every_trade_and_bar_and_no_gap(demo_done):
    folder, _ = demo_done
    counted = Lake(folder / "lake").sql(
        "select max(agg_trade_id) - min(agg_trade_id) + 1 = count(*) as is_whole from trades union all "
        "select count(*) = 12 * 60 from klines union all select count(*) = 0 from gaps union all "
        "select count(*) = 0 from quarantine"
    )
    assert counted["is_whole"].to_list() == [True] * 4


def test_its_report_has_every_section(demo_done):
    folder, _ = demo_done
    page = (folder / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "The market",
        "Liquidations",
        "Gaps",
        "Do neighbouring parameters agree?",
        "What following the procedure would have traded",
        "Is it luck?",
        "Paper trading, against its replay and the backtest",
    ]
    assert "None: no row that can be counted is missing, and the ledger of gaps is empty." in page
    assert "synthetic, with a planted edge" in page
    assert len(page.encode()) < MAX_BYTES


@pytest.mark.parametrize("width", [375, 1440])
def test_its_report_is_drawn_without_a_complaint_or_a_request(browser, demo_done, width):
    folder, _ = demo_done
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(folder / "report.html", width, 16_000)
    browser.wait_for(browser.ALL_DRAWN.format("light"))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "lake").mkdir()
    with pytest.raises(ValueError, match="holds lake that no demo put there: remove it, or give another --folder"):
        run_demo(tmp_path, silent)
    assert (tmp_path / "lake").exists()


def test_what_was_made_of_another_market_goes(tmp_path):
    with pytest.raises(ValueError, match="unknown key 'nonsense'"):
        run_demo(tmp_path, silent, sweep=f"nonsense = 1\n{SWEEP}")
    (tmp_path / "lake").mkdir()
    with pytest.raises(ValueError, match="unknown key 'nonsense'"):
        run_demo(tmp_path, silent, market=replace(MARKET, seed=1), sweep=f"nonsense = 1\n{SWEEP}")
    assert not (tmp_path / "lake").exists()


def some(folder: Path, pattern: str, at_least_bytes: int) -> bool:
    """Whether a file of that name has grown that far."""
    return any(path.stat().st_size >= at_least_bytes for path in folder.glob(pattern))


def test_a_demo_killed_twice_and_repeated_ends_as_if_nothing_had_happened(demo_done, tiny_demo, tmp_path):
    folder = tmp_path / "demo"
    for half_done, at_least_bytes in (
        ("lake/trades/*/*.parquet", 1),
        ("paper/*.feed/*.wal", 1_000_000),
    ):
        kill_when(start("-c", tiny_demo, str(folder)), partial(some, folder, half_done, at_least_bytes))
        assert not (folder / "report.html").exists()
    result = json.loads(finish(start("-c", tiny_demo, str(folder))))
    assert (folder / "report.html").exists()
    assert result["summary"][0].endswith(" 0 of them new")
    undisturbed, expected = demo_done
    assert result["paper"]["agrees"]
    assert result["paper"]["trades"] == expected["paper"]["trades"]
    assert stored(folder / "lake") == stored(undisturbed / "lake")
    assert Lake(folder / "lake").verify() == []


def stored(lake: Path) -> dict[str, list]:
    """Every row of the streams in a lake, less where it came from."""
    return {
        table: Lake(lake).scan(table).drop("source").rows()
        for table in ("klines", "kline_updates", "trades", "book_ticker", "depth", "mark_price", "force_orders")
    }
