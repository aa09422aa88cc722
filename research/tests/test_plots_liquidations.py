"""The liquidation map, reliability and intervals as figures: what is drawn, what a colour means, what is cut."""

import json
from datetime import timedelta

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from data.schema_clusters import CLUSTER_EVENTS, CLUSTERS
from research import plots
from research.clusters.raster import MAX_ROWS
from research.clusters.validation.calibration import RELIABILITY, SCORES
from research.overlays import overlay_lines, overlays
from research.plots.cluster_lives import cluster_lives
from research.plots.realised import bar_realised
from research.plots.style import DARK, MASS_RAMP, OOS_RAMP, TOKENS, for_page, paint
from research.tests.figure_parts import colours
from research.tests.figure_samples import force_orders
from research.tests.test_clusters_raster import DAY, FIVE_MINUTES_MS, SCALE, START, START_MS, profiles

LIGHT = {light for light, _ in TOKENS.values()} | {*OOS_RAMP, *MASS_RAMP}
NAN = float("nan")


def bars(n: int = 2 * DAY, mark: float = 1_000.0) -> pl.DataFrame:
    """Five-minute candles that swing by one per cent around the mark."""
    opened = mark * (1.0 + 0.01 * np.sin(np.arange(n) / 20.0))
    times = [START + timedelta(minutes=5 * i) for i in range(n)]
    frame = pl.DataFrame({"open_time": times, "open": opened, "high": opened + 0.5, "low": opened - 0.5})
    return frame.with_columns(pl.col("open_time").dt.cast_time_unit("ms"), close=pl.col("open") + 0.1)


def clusters() -> pl.DataFrame:
    """Cluster 1 breaks, 2 fades, 3 lives, 4 was never active, 5 vanishes; snapshots an hour apart."""
    states = {
        1: ["CANDIDATE", "ACTIVE", "BROKEN"], 2: ["ACTIVE", "ACTIVE", "FADED"], 3: ["ACTIVE"] * 4,
        4: ["CANDIDATE"] * 4, 5: ["ACTIVE", "ACTIVE"],
    }  # fmt: skip
    rows = [
        {
            "ts": START + timedelta(hours=hour), "cluster_id": number, "side": "short" if number == 3 else "long",
            "state": state, "active": state == "ACTIVE", "price_lo": 979.0 + number, "price_level": 980.0 + number,
            "price_hi": 981.0 + number, "open_interest": 1e6 * (number + hour), "firstSeen": START, "available": True,
        }
        for number, own in states.items()
        for hour, state in enumerate(own)
    ]  # fmt: skip
    nothing = {"ts": START + timedelta(hours=4), "available": False, "reason": "no cluster"}
    return pl.DataFrame([*rows, nothing], schema=CLUSTERS.columns)


def liquidation_map(**more: object) -> go.Figure:
    drawn = {
        "profiles": profiles(stale=slice(100, 112)), "bars": bars(), "scale": SCALE, "tick_size": 0.01,
        "clusters": clusters(), "events": CLUSTER_EVENTS.empty(), "force_orders": force_orders(START, price=1_000.0),
    } | more  # fmt: skip
    return plots.plot_liquidation_map(drawn.pop("profiles"), drawn.pop("bars"), **drawn)


def score(factor: str, *, calibrated: bool, n: int = 1_000) -> dict:
    return {
        "factor": factor, "ece": 0.02, "brier_skill": 0.1, "brier_skill_low": 0.05, "brier_skill_high": 0.2, "n": n,
        "n_days": 30, "calibrated": calibrated,
    }  # fmt: skip


def reliability(*, calibrated: bool = True) -> go.Figure:
    bins = [
        {"factor": "p_touch", "predicted_low": 0.2 * i, "predicted_high": 0.2 * (i + 1), "predicted": 0.2 * i + 0.1,
         "observed": 0.2 * i + 0.05, "low": 0.2 * i, "high": 0.2 * i + 0.1, "n": 100 * (i + 1), "n_days": 30}
        for i in range(5)
    ]  # fmt: skip
    scores = [score("p_touch", calibrated=calibrated), score("p_liq_touch", calibrated=False, n=0)]
    return plots.plot_reliability(
        pl.DataFrame(bins, schema=RELIABILITY), pl.DataFrame(scores, schema=SCORES), title="XYZUSDT"
    )


def intervals() -> go.Figure:
    rows = {
        "label": ["all", "1–2 %", "XYZUSDT"], "value": [1.0, 0.1, NAN], "low": [0.5, -1.0, NAN],
        "high": [1.5, 1.2, NAN], "n": [900, 300, 0], "n_days": [30, 25, 0],
        "verdict": ["evidence", "no evidence", "too little data"],
    }  # fmt: skip
    return plots.plot_intervals(
        pl.DataFrame(rows), title="Magnet", axis="excess (per 100 walls)", limit=0.0, caption="By days."
    )


FIGURES = {
    "map": liquidation_map(),
    "z": liquidation_map(colour="z"),
    "lines": liquidation_map(overlays=overlay_lines(bars(), overlays("ema_20_5m, bollinger_20_1h"))),
    "reactive": liquidation_map(profiles=profiles(source="force_orders"), force_orders=None),
    "reliability": reliability(),
    "intervals": intervals(),
}


@pytest.fixture(params=FIGURES)
def figure(request) -> go.Figure:
    return FIGURES[request.param]


def traces(figure: go.Figure, name: str) -> list:
    return [one for one in figure.data if one.name == name]


def test_every_colour_is_one_of_the_palette_and_has_a_dark_twin(figure):
    light = json.loads(figure.to_json())
    found = list(colours(light))
    assert set(found) <= LIGHT
    assert list(colours(paint(light, "dark"))) == [DARK[colour] for colour in found]


def test_a_page_can_carry_the_figure(figure):
    page = for_page(figure)
    assert page["title"]
    assert page["caption"].endswith(".")
    indexes = [int(path.split("[")[1].split("]")[0]) for path in page["narrow"]["layout"] if path.startswith("annot")]
    assert max(indexes, default=0) < len(page["layout"]["annotations"])


def test_axis_titles_carry_their_unit(figure):
    titles = [axis["title"]["text"] for name, axis in json.loads(figure.to_json())["layout"].items()
              if "axis" in name and axis.get("title", {}).get("text")]  # fmt: skip
    assert [one for one in titles if not any(unit in one for unit in ("USDT", "UTC", "share", "per 100"))] == []


# lives of clusters


def test_a_life_has_one_row_and_says_how_it_ended():
    lives = cluster_lives(clusters(), CLUSTER_EVENTS.empty()).sort("cluster_id")
    assert lives["cluster_id"].to_list() == [1, 2, 3, 5]
    assert lives["state"].to_list() == ["BROKEN", "FADED", "ACTIVE", "STALE"]
    assert lives["last"][0] == START + timedelta(hours=2)


def test_the_end_comes_from_the_event_log_with_what_was_realised():
    event = {
        "event_id": 1,
        "cluster_id": 5,
        "event": "BROKEN",
        "ts": START + timedelta(minutes=70),
        "realised_usd": 7.0,
    }
    lives = cluster_lives(clusters(), pl.DataFrame([event], schema=CLUSTER_EVENTS.columns))
    row = lives.row(by_predicate=pl.col("cluster_id") == 5, named=True)
    assert (row["state"], row["last"], row["realised_usd"]) == ("BROKEN", START + timedelta(minutes=70), 7.0)


def test_rows_that_say_that_there_is_nothing_have_no_life():
    assert cluster_lives(clusters().tail(1), CLUSTER_EVENTS.empty()).is_empty()


# the figure


def test_the_map_is_a_trace_per_run_of_columns_that_were_seen():
    first, second = traces(FIGURES["map"], "mass")
    assert (np.asarray(first.z).shape[1], np.asarray(second.z).shape[1]) == (100, 2 * DAY - 112)
    assert second.x0 - first.x0 == 112 * FIVE_MINUTES_MS
    assert np.asarray(first.z).dtype == np.uint16
    assert "In 2.1\u202f% of the range the map is missing" in FIGURES["map"].layout.meta["caption"]


def test_rows_stay_within_their_limit_however_far_the_price_went():
    wide = bars().with_columns(pl.col("high") * 3.0)
    z = np.asarray(traces(liquidation_map(bars=wide), "mass")[0].z)
    assert z.shape[0] <= MAX_ROWS


def test_a_colour_means_the_same_whatever_range_is_drawn():
    def stops(figure: go.Figure) -> list[float]:
        heat = traces(figure, "mass")[0]
        return [round(stop * heat.zmax) for stop, _ in heat.colorscale]

    part = liquidation_map(profiles=profiles(50), bars=bars(50))
    assert stops(part) == stops(FIGURES["map"])


def test_colours_begin_where_the_strip_says():
    heat = traces(FIGURES["map"], "mass")[0]
    unit = 1_000.0
    begins = [stop * heat.zmax * unit for stop, _ in heat.colorscale[2::2]]
    assert begins == pytest.approx(SCALE.edges_usdt)
    assert [colour for _, colour in heat.colorscale[2::2]] == list(MASS_RAMP)
    strip = FIGURES["map"].layout.xaxis5.ticktext
    assert [float(text) * 1e3 for text in strip] == pytest.approx(SCALE.edges_usdt)


def test_a_box_has_the_look_of_its_end():
    look = {one.name: (one.line.dash, one.line.width) for one in FIGURES["map"].data
            if one.type == "scatter" and one.mode == "lines"}  # fmt: skip
    assert look["cluster active"] == ("solid", 2.4)
    assert look["cluster faded ○ (positions closed)"] == ("dot", 1.0)
    assert look["cluster broken ✕ (price went through)"] == ("solid", 1.0)
    ends = {one.name: one.marker.symbol for one in FIGURES["map"].data if one.name and one.name.startswith("end, ")}
    assert ends == {
        "end, cluster faded ○ (positions closed)": "circle",
        "end, cluster broken ✕ (price went through)": "x",
    }


def test_a_box_stands_on_its_life_and_its_prices():
    box = traces(FIGURES["map"], "cluster active")[0]
    assert (min(box.x[:5]), max(box.x[:5])) == (START_MS, START_MS + 3 * 3_600_000)
    assert (min(box.y[:5]), max(box.y[:5])) == (982.0, 984.0)
    assert box.hovertext[0].startswith("<b>6.00\u202fM</b> USDT at most, shorts, cluster 3<br>peak 983.00, −170.0 bps")


def test_active_clusters_and_the_mark_are_labelled_at_the_right():
    labels = [note.text for note in FIGURES["map"].layout.annotations if note.name == "label"]
    assert labels == ["983.0 · −170 bps", "mark 1\u202f000.0"]


def test_lines_over_the_candles_are_steps_that_say_what_they_are_and_when_they_were_known():
    mean, band = traces(FIGURES["lines"], "EMA 20 × 5 min")[0], traces(FIGURES["lines"], "Bollinger 20 × 1 h")[0]
    assert (mean.line.shape, mean.line.dash, band.line.dash) == ("hv", "solid", "8px,3px")
    assert mean.line.color == band.line.color == TOKENS["overlay"][0]
    assert mean.x[0] == START_MS + 80 * FIVE_MINUTES_MS  # four spans of closes
    assert list(band.customdata[[0, -1]]) == ["upper", "lower"]
    assert band.hovertemplate.startswith("<b>%{y:,.2f}</b> USDT<br>Bollinger 20 × 1 h, %{customdata}<br>known ")
    assert "Lines are of closed candles" in FIGURES["lines"].layout.meta["caption"]


def test_what_is_realised_has_triangles_and_mirrored_sums():
    down = traces(FIGURES["map"], "realised: longs closed (forced sell)")[0]
    assert (down.marker.symbol, down.marker.sizemode) == ("triangle-down", "area")
    assert list(traces(FIGURES["map"], "shorts closed")[0].y) == [500.0]
    assert list(traces(FIGURES["map"], "longs closed")[0].y) == [-2_000.0]


def test_the_caption_says_that_it_is_a_lower_bound_and_what_was_cut():
    caption = FIGURES["map"].layout.meta["caption"]
    assert "a lower bound; 62.5\u202f% of it lies inside the map's window now" in caption
    assert "of the mass now lies beyond the prices drawn" in caption
    assert "(this range itself: nothing earlier is known)" in caption


def test_a_reactive_map_is_not_called_an_estimate():
    page = for_page(FIGURES["reactive"])
    assert "recorded liquidations, decayed" in page["title"]
    assert "estimate" not in page["caption"]
    assert "Liquidations were not recorded" in page["caption"]


def test_a_day_that_lacks_its_last_minute_is_called_a_day():
    minutes = bars(DAY - 1)
    assert liquidation_map(bars=minutes).layout.meta["title"].endswith(", 1 day")


def test_a_map_without_a_snapshot_is_refused():
    with pytest.raises(ValueError, match="XYZUSDT, map of binance: no snapshot"):
        liquidation_map(profiles=profiles().rows(slice(0)))


# reliability and intervals


def test_predictions_that_fail_the_gate_are_grey_and_called_uncalibrated():
    good, bad = reliability(), reliability(calibrated=False)
    assert traces(good, "observed")[0].marker.color == TOKENS["oos"][0]
    assert traces(bad, "observed")[0].marker.color == TOKENS["ins"][0]
    assert bad.layout.meta["title"].endswith(": uncalibrated")
    heads = [note.text for note in bad.layout.annotations if note.text.startswith("<b>")]
    assert heads == [
        "<b>reached within the horizon</b><br>ECE 0.020 · uncalibrated<br>skill +0.100 [+0.050, +0.200]",
        "<b>liquidated there, once reached</b><br>no score · uncalibrated",
    ]


def test_a_factor_without_outcomes_says_that_there_is_too_little_data():
    assert any(note.text.startswith("too little data") for note in FIGURES["reliability"].layout.annotations)


def test_dots_have_the_area_of_their_count_and_bars_their_interval():
    dots = traces(FIGURES["reliability"], "observed")[0]
    assert list(dots.marker.size) == [100.0, 200.0, 300.0, 400.0, 500.0]
    assert list(dots.error_y.array) == pytest.approx([0.05] * 5)


def test_a_verdict_has_its_own_mark_and_an_unknown_figure_is_not_drawn_at_zero():
    marks = {one.name: (one.marker.symbol, list(one.x)) for one in FIGURES["intervals"].data
             if one.mode == "markers"}  # fmt: skip
    assert marks["evidence"] == ("circle", [1.0])
    assert marks["no evidence"] == ("circle-open", [0.1])
    assert np.isnan(marks["too little data"][1]).all()
    assert any(note.text == "no figure" for note in FIGURES["intervals"].layout.annotations)


def test_figures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no scores to draw"):
        plots.plot_reliability(pl.DataFrame(schema=RELIABILITY), pl.DataFrame(schema=SCORES), title="X")
    with pytest.raises(ValueError, match="no result to draw"):
        plots.plot_intervals(pl.DataFrame(), title="X", axis="bps", limit=0.0, caption="None.")


def test_the_caption_stands_below_every_row_of_the_legend():
    frame = FIGURES["map"].layout.meta["frame"]
    entries = [one.name for one in FIGURES["map"].data if one.name and one.showlegend is not False]
    assert len(entries) == 6
    assert frame["bottom"] - frame["axis"] == 30 + 2 * 21  # two entries to a row in half a screen


@pytest.mark.parametrize(
    ("usdt", "label"), [(64.0, "50"), (6_400.0, "5\u202f000"), (64_000.0, "50\u202fk"), (2.4e6, "2\u202fM")]
)
def test_sums_of_liquidations_are_labelled_in_few_letters(usdt, label):
    row = {"open_time": START, "side": "SELL", "usdt": usdt, "price": 1_000.0, "prints": 1, "single": usdt}
    sums = pl.DataFrame([row]).with_columns(pl.col("open_time").dt.cast_time_unit("ms"))
    assert bar_realised(go.Figure(), sums, 60_000, "y2")["ticktext"] == [label, "0", label]
