"""Notebooks headless: what they refuse, what they store, the page made of them, and that git holds them clean.

The recorded history is judged up to 4 June 2026; ``ASTER_REAL_END=`` (empty) asks for all of it.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import nbformat
import polars as pl
import pytest

from conftest import SMALL_SWEEP
from data.convert import import_path
from data.lake import Lake
from pipelines import notebook_sweep, notebook_trades, notebooks
from pipelines.identity import CHECKOUT
from pipelines.jobs import job_of
from pipelines.nightly import run_night
from pipelines.notebook_views import words
from pipelines.notebooks import PLOTLY_MIME, execute, signature, to_html
from pipelines.promote import promote
from pipelines.sweep_job import run_sweep
from pipelines.tests.test_notebook_answers import by_name, explored, seen
from research import formats

FIGURES = {
    "01_is_the_lake_complete": 2,
    "02_where_would_liquidations_cluster": 1,
    "03_does_the_map_predict": 4,
    "04_which_parameters_survive": 3,
    "05_what_did_it_trade": 2,
    "06_nightly_report": 0,
    "07_which_sweep_holds_up": 1,
}
NAMES = tuple(FIGURES)
REAL_END = os.environ.get("ASTER_REAL_END", "2026-06-04")


@pytest.fixture(scope="module")
def mapped(synthetic_lake, tmp_path_factory) -> Path:
    """A copy of the synthetic lake: maps are built into the lake that they are made from."""
    return Path(shutil.copytree(synthetic_lake.root, tmp_path_factory.mktemp("mapped") / "lake"))


@pytest.fixture(scope="module")
def given(synthetic_lake, mapped, tmp_path_factory) -> dict[str, dict[str, object]]:
    """Parameters per notebook: a finished sweep, its rank 1 promoted, and the journal of its replay."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "small.toml").write_text(SMALL_SWEEP)
    run = run_sweep(folder / "small.toml", synthetic_lake, folder / "runs", lambda what, done, total: None)
    chosen = promote(run, synthetic_lake, rank=1, destination=folder / "chosen.toml")
    lake, journal = str(synthetic_lake.root), str(folder / "journal.sqlite")
    subprocess.run(
        [sys.executable, "-m", "live.runner", "--config", chosen, "--mode", "replay", "--lake", lake,
         "--start", "2026-01-05", "--end", "2026-01-08", "--journal", journal],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "nightly.toml").write_text('symbols = ["BTCUSDT"]\nsteps = ["prove"]\n')
    run_night(date(2026, 1, 6), folder / "nightly.toml", synthetic_lake.root, folder / "runs", lambda *told: None)
    return {
        "01_is_the_lake_complete": {"lake": lake},
        "02_where_would_liquidations_cluster": {"lake": str(mapped), "leverage_low": 5.0},
        "03_does_the_map_predict": {"lake": str(mapped), "placebo_maps": 10},
        "04_which_parameters_survive": {"lake": lake, "run": str(run.path), "chosen": str(chosen)},
        "05_what_did_it_trade": {"lake": lake, "chosen": str(chosen), "journal": journal, "end": "2026-01-08"},
        "06_nightly_report": {"runs": str(folder / "runs")},
        "07_which_sweep_holds_up": {"runs": str(run.path.parent)},
    }


@pytest.fixture(scope="module")
def pages(given, tmp_path_factory) -> dict[str, Path]:
    """The page per executed notebook; the notebook itself lies beside it."""
    folder = tmp_path_factory.mktemp("executed")
    return {name: execute(name, folder / f"{name}.ipynb", given[name]) for name in NAMES}


@pytest.fixture
def one_cell(tmp_path, monkeypatch):
    """Replaces the notebooks by one called ``tiny`` with this code after two parameters."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)

    def write(code: str, parameters: str = 'symbol: str = ""  # venue symbol\nlatency_ms: int = 0  # ms') -> None:
        cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
        cells += [nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "tiny.ipynb")

    return write


def outputs(path: Path) -> list[dict]:
    """What the cells of an executed notebook show."""
    cells = nbformat.read(path, as_version=4).cells
    return [output["data"] for cell in cells for output in cell.get("outputs", []) if "data" in output]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_ends_in_a_sentence(pages, name):
    last = outputs(pages[name].with_suffix(".ipynb"))[-1]["text/markdown"]
    assert re.fullmatch(r"\*\*[^*]+\.\*\*", last)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_stores_its_figures_as_data_only(pages, name):
    figures = [shown for shown in outputs(pages[name].with_suffix(".ipynb")) if PLOTLY_MIME in shown]
    assert len(figures) == FIGURES[name]
    assert all(set(shown) == {PLOTLY_MIME} for shown in figures)
    assert all(shown[PLOTLY_MIME]["config"]["plotlyServerURL"] == "" for shown in figures)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_goes_to_stderr_in_a_notebook(pages, name):
    cells = nbformat.read(pages[name].with_suffix(".ipynb"), as_version=4).cells
    assert [one for cell in cells for one in cell.get("outputs", []) if one.get("name") == "stderr"] == []


def test_the_replay_is_found_equal_to_the_backtest(pages):
    last = outputs(pages["05_what_did_it_trade"].with_suffix(".ipynb"))[-1]["text/markdown"]
    assert "none of them after the data it was chosen on, and" in last
    assert "the journal equals the backtest trade by trade" in last


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_nothing_to_load_and_stays_small(pages, name):
    page = pages[name].read_text()
    without_library = page[: page.index('<script type="application/json"')]
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?!data:)[^\"]*", without_library) == []
    assert "default-src 'none'" in page
    assert len(page.encode()) < 6_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_page_draws_every_figure_without_a_complaint_or_a_request(browser, pages, name):
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(pages[name], 1280, 6_000)
    browser.wait_for(browser.ALL_DRAWN.format("light"))
    assert browser.evaluate("document.querySelectorAll('.drawing .cartesianlayer .subplot').length") >= FIGURES[name]
    assert browser.evaluate("document.documentElement.scrollWidth") <= 1280
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_an_empty_lake_gets_an_offer_instead_of_an_exception(tmp_path):
    execute("01_is_the_lake_complete", tmp_path / "empty.ipynb", {"lake": str(tmp_path / "none")})
    shown = outputs(tmp_path / "empty.ipynb")
    assert "lake = views.synthetic_lake()" in shown[0]["text/markdown"]
    assert shown[-1]["text/markdown"] == f"**Nothing that was asked for is recorded in `{tmp_path / 'none'}`.**"


def test_a_sweep_that_finished_as_a_job_is_shown_by_its_config(given, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTER_RUNS", str(tmp_path))
    run, lake = (given["04_which_parameters_survive"][name] for name in ("run", "lake"))
    config = f"{run}/config.toml"
    job = job_of(("sweep", config, "--lake", lake), CHECKOUT)
    job.write_result(0)
    (job.path / "job.out").write_text(
        f"BTCUSDT: the selection procedure passes\nrun: {run}\nreport: {run}/report.html\n"
    )
    assert str(notebook_sweep.open_sweep(config, lake, "").run.path) == run


def test_rank_1_stands_beside_the_promoted_config_with_what_both_did_on_the_test_folds(given, tmp_path):
    asked = given["04_which_parameters_survive"]
    sweep = notebook_sweep.open_sweep(asked["run"], asked["lake"], "")
    first, second = sweep.results.head(2).iter_rows(named=True)
    chosen = promote(sweep.run, sweep.lake, rank=2, destination=tmp_path / "chosen.toml")
    cells = re.findall(r">([^<]*)</td>", notebook_sweep.beside_promoted(sweep, str(chosen)).data)
    shown = {cells[place]: (cells[place + 1], cells[place + 2]) for place in range(0, len(cells), 3)}
    told = {words(name): (f"{second[name]:g}", f"{first[name]:g}") for name in sweep.swept}
    earned = [formats.usdt(row["out_of_sample_net_pnl_usdt"], signed=True) for row in (second, first)]
    assert shown.items() >= {name: pair for name, pair in told.items() if pair[0] != pair[1]}.items()
    assert shown["net out, USDT"] == tuple(earned)
    assert "promoted already" in notebook_sweep.beside_promoted(sweep, asked["chosen"]).data
    assert "Nothing is promoted yet" in notebook_sweep.beside_promoted(sweep, str(tmp_path / "none.toml")).data


def test_liquidations_have_a_column_where_one_of_the_best_had_any(given):
    asked = given["04_which_parameters_survive"]
    sweep = notebook_sweep.open_sweep(asked["run"], asked["lake"], "")
    for liquidations, has_column in ((0, False), (2, True)):
        told = sweep.results.with_columns(
            out_of_sample_liquidations=pl.when(pl.col("rank") == 2).then(liquidations).otherwise(0)
        )
        page = notebook_sweep.ranked(replace(sweep, results=told)).data
        assert ("liquidated out" in page, "None of these was liquidated." in page) == (has_column, not has_column)


def test_a_misspelt_parameter_is_refused_with_the_one_that_was_meant(tmp_path):
    with pytest.raises(ValueError, match=r"has no parameter 'symbl'; did you mean symbol\?"):
        execute("04_which_parameters_survive", tmp_path / "out.ipynb", {"symbl": "BTCUSDT"})
    with pytest.raises(ValueError, match="has no parameter 'colour'; it has run, lake, symbol"):
        execute("04_which_parameters_survive", tmp_path / "out.ipynb", {"colour": "red"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"symbol": 3}, "parameter symbol is str, got int 3"),
        ({"latency_ms": "3"}, "parameter latency_ms is int, got str '3'"),
        ({"latency_ms": True}, "parameter latency_ms is int, got bool True"),
    ],
)
def test_a_parameter_of_another_type_is_refused(one_cell, tmp_path, parameters, said):
    one_cell("")
    with pytest.raises(ValueError, match=said):
        execute("tiny", tmp_path / "out.ipynb", parameters)


def test_the_parameters_cell_is_the_signature(one_cell):
    one_cell("", 'symbol: str = ""  # venue symbol\nspread_ticks: float = -1.5  # ticks\n')
    assert signature("tiny") == {"symbol": ("str", "", "venue symbol"), "spread_ticks": ("float", -1.5, "ticks")}


@pytest.mark.parametrize(
    ("cell", "said"),
    [("a = 1", "only `name: type = literal` lines, got `a = 1`"), ("a: list = []", "a is list; use one of str, int")],
)
def test_a_parameters_cell_of_anything_else_is_refused(one_cell, cell, said):
    one_cell("", cell)
    with pytest.raises(ValueError, match=said):
        signature("tiny")


def test_an_unknown_notebook_names_those_there_are():
    with pytest.raises(LookupError, match="no notebook '06'; there are 01_is_the_lake_complete, 02_"):
        signature("06")


def test_a_failing_cell_raises_its_own_error_and_leaves_what_ran(one_cell, tmp_path):
    one_cell("print(symbol)\nopen_orders = 1 / latency_ms")
    with pytest.raises(RuntimeError, match="notebook tiny, cell 3: ZeroDivisionError: division by zero"):
        execute("tiny", tmp_path / "out.ipynb", {"symbol": "BTCUSDT"})
    assert "BTCUSDT" in (tmp_path / "out.part.ipynb").read_text()
    assert not (tmp_path / "out.ipynb").exists()


def test_text_of_a_cell_cannot_become_a_script_of_the_page():
    said = nbformat.v4.new_output("stream", text="</script><script>alert(1)</script>")
    page = to_html(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[said])]), "tiny")
    assert "<script>alert" not in page


def test_a_figure_from_elsewhere_is_refused():
    shown = nbformat.v4.new_output("display_data", data={PLOTLY_MIME: {"data": [], "layout": {}}})
    with pytest.raises(ValueError, match=r"not of research\.plots"):
        to_html(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[shown])]), "tiny")


@pytest.mark.parametrize("name", NAMES)
def test_git_holds_notebooks_without_what_they_showed(name):
    path = notebooks.NOTEBOOKS / f"{name}.ipynb"
    code = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    subprocess.run([sys.executable, "-m", "nbstripout", "--verify", path], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_calls_and_answers(name):
    cells = nbformat.read(notebooks.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    assert len(cells) <= 14
    assert re.match(r"# [^\n]+\?\n", cells[0].source)
    assert ast.unparse(ast.parse(cells[-1].source)).count("_sentence(") == 1
    assert all(parameter.about for parameter in signature(name).values())
    kinds = {type(node) for cell in cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))}
    assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try, ast.If, ast.ListComp}


def test_a_journal_that_differs_is_told_apart_trade_by_trade(given):
    parameters = given["05_what_did_it_trade"]
    traded = notebook_trades.follow(parameters["chosen"], parameters["journal"], parameters["lake"], "", "")
    assert traded.journal.height > 2
    bent = traded.journal.with_row_index().with_columns(
        pl.when(pl.col("index") == 0).then(pl.col("fees_usdt") + 1.0).otherwise("fees_usdt").alias("fees_usdt")
    )
    other = notebook_trades.Traded(
        chosen=traded.chosen, bars=traded.bars, result=traded.result, journal=bent.drop("index").head(-1)
    )
    counted = re.findall(r'data-heading="number">(\d+)<', notebook_trades.agreement(other).data)
    assert counted == [str(traded.journal.height - 2), "1", "1", "0"]
    assert "differs from the backtest" in notebook_trades.trades_sentence(other).data


def test_three_days_of_one_symbol_are_too_little_to_say_anything(pages):
    last = outputs(pages["03_does_the_map_predict"].with_suffix(".ipynb"))[-1]["text/markdown"]
    assert re.fullmatch(r"\*\*Too little data to say .*: 1 of 5 symbols and \d of 20 days with events\.\*\*", last)


def test_the_verdicts_on_the_real_recordings_are_in_the_notebook(real_data, tmp_path):
    lake = Lake(tmp_path / "lake", create=True)
    for folder, format in (("okx-SOLUSDT", "okx"), ("liquidations", "force-orders"), ("midfreq-logs", "midfreq")):
        import_path(lake, real_data / folder, format=format)
    parameters = {"lake": str(lake.root), "end": REAL_END, "placebo_maps": 10}
    execute("03_does_the_map_predict", tmp_path / "real.ipynb", parameters)
    shown = outputs(tmp_path / "real.ipynb")
    judged, table = (next(one["text/html"] for one in shown if f"<h3>{title}" in one.get("text/html", ""))
                     for title in ("What is judged", "Verdicts"))  # fmt: skip
    assert re.findall(r'data-heading="(?:symbol|map of)">([^<]+)', judged) == ["SOLUSDT", "okx on prices of okx"]
    assert "more: only liquidations of another venue" in judged
    figures = re.findall(r'data-heading="figure[^"]+">([^<]+)', table)
    assert re.fullmatch(r"−?[\d.]+ per 100 walls \(−?[\d.]+ to −?[\d.]+\)", figures[0])
    assert set(re.findall(r'data-heading="verdict">([^<]+)', table)) == {"too little data"}
    assert re.match(r"\*\*Too little data .*: 1 of 5 symbols", shown[-1]["text/markdown"])


def test_the_map_of_some_leverage_says_so(pages):
    shown = outputs(pages["02_where_would_liquidations_cluster"].with_suffix(".ipynb"))
    figure = next(one[PLOTLY_MIME] for one in shown if PLOTLY_MIME in one)
    assert "whose mean leverage is 5x and more." in figure["layout"]["meta"]["caption"]
    assert "a lower bound" in figure["layout"]["meta"]["caption"]


def test_controls_draw_the_map_again_where_somebody_can_use_them(mapped, monkeypatch):
    controls, drawn = explored(monkeypatch, seen(mapped, leverage_low=5.0, overlays="ema_5_15m, ema_500_1d"))
    offered = by_name(controls)
    assert offered["leverage"].value == (5, 125)
    assert offered["lines"].options[-1][0] == offered["lines"].label == "EMA 5 × 15 min, EMA 500 × 1 d"
    offered["colour"].value = "z"
    first, between, second = drawn
    assert between == {"text/markdown": ""}  # Plotly's renderer draws a figure once: another has to stand there first
    first, second = (stored[PLOTLY_MIME] for stored in (first, second))
    assert second["layout"]["xaxis5"]["ticktext"] == ["0.5", "1", "2", "3", "4", "6"]
    names = [trace.get("name") or "" for trace in first["data"]]
    assert [name for name in names if name.startswith("EMA")] == ["EMA 5 × 15 min"]
    assert "Too few candles for EMA 500 × 1 d." in first["layout"]["meta"]["caption"]
