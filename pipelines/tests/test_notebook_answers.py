"""What the notebooks' modules answer, asked without a notebook: of no lake, of too little, of what was misspelt."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import ipywidgets
import polars as pl
import pytest

from data.lake import Lake
from pipelines import notebook_lake, notebook_map, notebook_nights, notebook_verdicts
from pipelines.nightly import NIGHT, Night, NightSettings
from pipelines.notebook_views import show
from pipelines.report import Table
from pipelines.runs import write_whole
from research.clusters.maps import MapSettings, map_key
from research.clusters.validation.verdicts import verdicts


@pytest.fixture
def ten_minutes(tmp_path) -> Lake:
    """Klines 12:00 to 12:09 of one symbol; 12:04, 12:05 and 12:06 are missing."""
    opened = [datetime(2026, 1, 5, 12, minute, tzinfo=UTC) for minute in (0, 1, 2, 3, 7, 8, 9)]
    rows = pl.DataFrame({"open_time": opened}).with_columns(
        venue=pl.lit("aster"), symbol=pl.lit("XYZUSDT"), interval=pl.lit("1m"), source=pl.lit("import"),
        open=pl.lit(1.5), high=pl.lit(1.75), low=pl.lit(1.25), close=pl.lit(1.5), volume=pl.lit(1.0),
        quote_volume=pl.lit(1.5), trade_count=pl.lit(1),
    )  # fmt: skip
    lake = Lake(tmp_path / "lake", create=True)
    lake.append("klines", rows, origin="test")
    return lake


def test_the_answer_counts_what_is_missing(ten_minutes):
    contents = notebook_lake.look_into(str(ten_minutes.root), "", "", "")
    assert notebook_lake.lake_sentence(contents).data == (
        "**No, as far as rows can be counted: 0 of 1 stream-days are complete, 3 rows are missing, "
        "the longest gap is 4 min in klines 1m XYZUSDT on 05 Jan 2026.**"
    )
    assert "05 Jan 2026 12:03 UTC" in notebook_lake.worst_gaps(contents).data
    assert "30.0\u202f% of the range was not seen" in notebook_lake.candles(contents).layout.meta["caption"]


def test_a_symbol_the_lake_has_not_is_refused_with_the_one_that_was_meant(ten_minutes):
    with pytest.raises(LookupError, match=r"no rows of XYZUSD in .*; did you mean XYZUSDT\?"):
        notebook_lake.look_into(str(ten_minutes.root), "xyzusd", "", "")


def test_the_synthetic_lake_is_the_demos_own(synthetic_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTER_RUNS", str(tmp_path))
    monkeypatch.setattr(notebook_lake, "MARKET", synthetic_spec)
    lake = notebook_lake.synthetic_lake()
    assert lake == str(tmp_path / "demo" / "lake")
    assert Lake(Path(lake)).symbols("klines") == ["BTCUSDT"]


def seen(lake: Path | str, **more: object) -> object:
    asked = {"symbol": "", "source": "", "start": "", "end": "", "leverage_low": 0.0, "leverage_high": 0.0}
    return notebook_map.look_at(str(lake), **(asked | {"colour": "usdt"} | more))


def judged(lake: Path | str, **more: object) -> object:
    asked = {"symbols": "", "source": "", "start": "", "end": "", "horizon_h": 4.0, "min_print_usdt": 0.0}
    return notebook_verdicts.ask(str(lake), **(asked | {"cost_bps": 10.0, "placebo_maps": 5} | more))


def test_without_a_lake_nobody_can_say_where_or_whether(tmp_path):
    where, whether = seen(tmp_path / "none"), judged(tmp_path / "none")
    assert notebook_map.map_sentence(where).data == f"**Nobody can say: there is no lake at {tmp_path / 'none'}.**"
    assert "lake = synthetic_lake()" in notebook_map.whereabouts(where).data
    assert notebook_verdicts.verdicts_sentence(whether).data == "**Nobody can say: there was no map to judge.**"
    assert "lake = synthetic_lake()" in notebook_verdicts.judged_maps(whether).data
    views = [view(where) for view in (notebook_map.explore, notebook_map.active_clusters, notebook_map.ends)]
    views += [
        notebook_map.rests_on(where),
        notebook_verdicts.verdict_table(whether),
        notebook_verdicts.located(whether),
    ]
    assert views == [notebook_map.NOTHING] * 6


def test_klines_alone_make_no_map(ten_minutes):
    assert "holds neither open interest nor liquidations" in seen(ten_minutes.root).reason
    assert "holds neither open interest nor liquidations" in judged(ten_minutes.root).reasons[""]


def test_symbols_beside_each_other_are_figures_and_together_a_verdict(tmp_path):
    row = {"metric": "mass_beta", "band": "all", "horizon_s": 3_600, "value": 0.3, "low": 0.1, "high": 0.5,
           "n": 900, "n_days": 30, "n_symbols": 1}  # fmt: skip
    symbols = [f"{letter}USDT" for letter in "ABCDE"]
    results = pl.DataFrame([row | {"n_symbols": 5}, row | {"low": -0.1}, *[row] * 4])
    told = replace(
        judged(tmp_path / "none"),
        maps=dict.fromkeys(symbols),
        verdicts=verdicts(results).with_columns(symbol=pl.Series(["all", *symbols])),
    )
    together, apart = (view(told).data for view in (notebook_verdicts.verdict_table, notebook_verdicts.by_symbol))
    assert re.findall(r'data-heading="(?:of|verdict)">([^<]+)', together) == ["5 symbols", "evidence"]
    assert "of 1 with enough data, 0.0 would show evidence by chance if the map knew nothing; 1 do." in together
    cells = re.findall(r'data-heading="elasticity of mass">([^<]+)', apart)
    assert cells == ["0.300 (−0.100 to 0.500)", *["0.300 (0.100 to 0.500) *"] * 4]
    assert "of these 5 figures 0.1 would lie past their gates by chance if the map knew nothing; 4 do." in apart


def by_name(controls: ipywidgets.VBox) -> dict[str, ipywidgets.Widget]:
    return {one.description: one for one in controls.children[0].children[0].children}


def explored(monkeypatch, shown) -> tuple[ipywidgets.VBox, list[dict]]:
    """The controls that JupyterLab shows above a map, and what stands below them, one after the other."""
    controls, drawn = [], []
    monkeypatch.setenv("JPY_SESSION_NAME", "02.ipynb")
    controls_of = notebook_map._controls
    monkeypatch.setattr(notebook_map, "_controls", lambda *given: controls.append(controls_of(*given)) or controls[0])
    monkeypatch.setattr(notebook_map, "display", lambda stored, raw: drawn.append(stored["text/plain"]))
    for name in ("display", "update"):
        monkeypatch.setattr(notebook_map.DisplayHandle, name, lambda _, stored, raw: drawn.append(stored))
    assert notebook_map.explore(shown) is None
    assert drawn.pop(0) == "The controls work while the kernel runs."  # what an export of the notebook shows of them
    return controls[0], drawn


def test_controls_stand_where_the_first_symbol_has_no_map(ten_minutes, monkeypatch):
    opened = pl.DataFrame({"event_time": [datetime(2026, 1, 5, 12, tzinfo=UTC)]}).with_columns(
        venue=pl.lit("okx"), symbol=pl.lit("ABCUSDT"), open_interest=pl.lit(5.0)
    )
    ten_minutes.append("open_interest", opened, origin="test")
    controls, drawn = explored(monkeypatch, seen(ten_minutes.root))
    offered = {name: by_name(controls)[name].options for name in ("symbol", "source")}
    assert offered == {"symbol": ("ABCUSDT",), "source": (("first with data", ""),)}
    reason = "No map: no mark price of ABCUSDT at aster and no klines of it at okx in the lake."
    assert drawn == [{"text/markdown": reason}]
    by_name(controls)["days"].value = 7
    assert drawn[1:] == [{"text/markdown": ""}, {"text/markdown": reason}]


def test_klines_of_aster_are_not_said_to_be_missing_where_its_marks_are(ten_minutes):
    opened = pl.DataFrame({"event_time": [datetime(2026, 1, 5, 12, tzinfo=UTC)], "open_interest": [5.0]})
    opened = opened.with_columns(venue=pl.lit("aster"), symbol=pl.lit("XYZUSDT"))
    ten_minutes.append("open_interest", opened, origin="test")
    made = map_key(ten_minutes, "XYZUSDT", "aster", MapSettings())
    assert made.reason == "no mark price of XYZUSDT at aster in the lake"


def test_a_colour_or_horizon_that_means_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="colour: expected usdt or z, got 'hot'"):
        seen(tmp_path, colour="hot")
    with pytest.raises(ValueError, match="horizon_h: expected whole minutes above zero, got 0"):
        judged(tmp_path, horizon_h=0.0)


def test_commands_in_a_cell_stand_as_code_and_first_columns_and_numbers_on_one_line():
    shown = show(
        Table(title="", columns=("step", "what", "took"), align="llr", rows=(("prove", "run `aster verify`", "2 min"),))
    )
    first, what, took = re.findall(r"<td .*?</td>", shown.data)
    assert "run <code>aster verify</code>" in what
    assert [";white-space:nowrap" in cell for cell in (first, what, took)] == [True, False, True]


def test_a_single_night_is_told_in_words(tmp_path):
    night = Night(
        day=date(2026, 1, 5), folder=tmp_path / "2026-01-05", lake=tmp_path, settings=NightSettings(symbols=("A",))
    )
    write_whole(
        night.folder / NIGHT, json.dumps({"day": "2026-01-05", "lake": "", "settings": {"symbols": ["A"]}}).encode()
    )
    assert notebook_nights.nights_sentence(night).data == "**There was one night so far, and it needed nobody.**"


def test_a_lake_of_many_symbols_names_a_dozen_and_counts_those_of_other_venues(ten_minutes):
    rows = ten_minutes.scan("klines")
    for number in range(14):
        name = f"{chr(ord('A') + number)}AAUSDT"
        venue = "aster" if number < 13 else "okx"
        ten_minutes.append("klines", rows.with_columns(symbol=pl.lit(name), venue=pl.lit(venue)), origin="test")
    contents = notebook_lake.look_into(str(ten_minutes.root), "", "", "")
    told = notebook_lake.whereabouts(contents).data
    assert "AAAUSDT, BAAUSDT" in told and "LAAUSDT and 2 more, 05 Jan 2026" in told
    assert told.endswith("Of 1 more it has only other venues' rows.")
    assert "NAAUSDT" not in notebook_lake.completeness(contents).data
