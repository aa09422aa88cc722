import json
from datetime import timedelta
from html import unescape

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from research import plots
from research.plots import style
from research.plots.style import DARK, MASS_RAMP, OOS_RAMP, TOKENS, for_page, paint
from research.tests.figure_parts import colours
from research.tests.figure_samples import FIGURES, START, bars, trace, trades
from research.thin import MAX_CANDLES, MAX_LINE_POINTS, merge_candles

LIGHT = {light for light, _ in TOKENS.values()} | {*OOS_RAMP, *MASS_RAMP}


@pytest.fixture(params=FIGURES)
def figure(request) -> go.Figure:
    return FIGURES[request.param]


def test_every_colour_is_one_of_the_palette(figure):
    assert set(colours(json.loads(figure.to_json()))) <= LIGHT


def test_no_two_colours_of_the_palette_are_the_same_string():
    assert len(LIGHT) == len(TOKENS) + len(OOS_RAMP) + len(MASS_RAMP) == len(DARK)


def test_painting_swaps_every_colour_and_nothing_else(figure):
    light = json.loads(figure.to_json())
    dark = paint(light, "dark")
    assert list(colours(dark)) == [DARK[colour] for colour in colours(light)]
    assert paint(light, "light") == light
    assert dark["layout"]["meta"] == light["layout"]["meta"]


def test_axis_titles_carry_their_unit(figure):
    titles = [axis["title"]["text"] for name, axis in json.loads(figure.to_json())["layout"].items()
              if "axis" in name and "title" in axis]  # fmt: skip
    assert titles
    units = ("USDT", "UTC", "Sharpe", "fold", "(σ)", "(bars)")
    assert [title for title in titles if not any(unit in title for unit in units)] == []


def test_lines_and_marks_stay_within_their_limits(figure):
    for one in figure.data:
        if one.type == "scatter":
            finite = sum(value is not None and np.isfinite(value) for value in one.y)
            assert finite <= (300 if "markers" in one.mode else MAX_LINE_POINTS)


def test_a_figure_says_what_it_shows_and_what_was_cut(figure):
    page = for_page(figure)
    assert page["title"]
    assert page["caption"].endswith(".")
    assert page["layout"].keys().isdisjoint({"title", "template", "meta"})
    assert all(note.get("name") != "caption" for note in page["layout"]["annotations"])


def test_captions_fit_the_outputs_of_a_notebook_beside_its_files(figure):
    (caption,) = [one for one in figure.layout.annotations if one.name == "caption"]
    room_px = 592 - figure.layout.margin.l
    # 5.5 px a character, as Chromium draws them at 12 px.
    assert [line for line in caption.text.split("<br>") if 5.5 * len(unescape(line)) > room_px] == []


def test_days_are_told_by_their_date_and_parts_of_a_day_by_the_hour():
    stops = style.time_axis()["tickformatstops"]
    shown = {step: next(stop["value"] for stop in stops if _holds(stop["dtickrange"], step)) for step in (
        1_000, 60_000, 43_200_000, 86_400_000)}  # fmt: skip
    assert list(shown.values()) == ["%H:%M:%S\n%d %b", "%H:%M\n%d %b", "%H:%M\n%d %b", "%d %b\n%Y"]


def _holds(span: list, step_ms: int) -> bool:
    """As Plotly reads it: both ends belong to it; a month is longer than any number here."""
    low, high = [0 if span[0] is None else span[0], np.inf if isinstance(span[1], str) else span[1]]
    return low <= step_ms <= high


def test_a_page_draws_only_figures_of_the_house():
    with pytest.raises(ValueError, match="only"):
        for_page(go.Figure())


def test_hover_says_at_most_three_lines_and_no_trace_box(figure):
    for one in figure.data:
        if one.hovertemplate:
            assert one.hovertemplate.endswith("<extra></extra>")
            text = one.hovertext if isinstance(one.hovertext, str) else np.ravel(one.hovertext or [""])[0]
            assert (one.hovertemplate.replace("%{hovertext}", text or "")).count("<br>") <= 2


# candles and trades


def test_a_month_of_minutes_becomes_candles_of_two_hours():
    candles, interval = merge_candles(bars(43_200))
    assert interval == 2 * 3_600_000
    assert len(candles) == 360 <= MAX_CANDLES


def test_a_merged_candle_opens_with_the_first_and_closes_with_the_last_bar():
    candles, interval = merge_candles(bars(800))
    first = candles.row(0, named=True)
    assert interval == 3 * 60_000
    assert (first["open"], first["high"], first["low"], first["close"]) == pytest.approx((100.0, 100.5, 99.8, 100.3))


def test_candles_of_which_nothing_was_seen_are_not_drawn():
    candles, _ = merge_candles(bars(1_000))
    missing = START + timedelta(minutes=501), START + timedelta(minutes=557)  # 08:21 to 09:17 are whole candles
    assert candles.filter(pl.col("open_time").is_between(*missing)).is_empty()


def test_what_was_not_seen_has_a_band():
    band = FIGURES["candles"].layout.shapes[0]
    first = START.timestamp() * 1_000 + 500 * 60_000
    assert (band.x0, band.x1) == (first, first + 60 * 60_000)
    assert "3.0\u202f% of the range was not seen, in one gap" in FIGURES["candles"].layout.meta["caption"]


def test_a_mark_for_which_the_last_price_stands_in_is_no_line():
    assert "mark price" in [one.name for one in FIGURES["candles"].data]
    stood_in = plots.plot_candles(bars().with_columns(mark_price="close"), symbol="X", tick_size=0.1)
    assert "mark price" not in [one.name for one in stood_in.data]


def test_where_no_mark_was_heard_the_line_has_a_hole():
    minute_ms, n = 60_000.0, 100
    age_ms = np.where(np.arange(n) < 50, 900.0, 900.0 + minute_ms * (np.arange(n) - 49))
    marked = bars(n).with_columns(mark_price=pl.col("close") + 0.05, mark_age_ms=pl.Series(age_ms))
    line = trace(plots.plot_candles(marked, symbol="X", tick_size=0.1), "mark price")
    assert np.isfinite(line.y[:51]).all()  # a bar later the last mark still stands
    assert np.isnan(line.y[51:]).all()


def test_rising_candles_are_hollow_and_falling_ones_solid():
    assert trace(FIGURES["candles"], "rising").marker.color == TOKENS["surface"][0]
    assert trace(FIGURES["candles"], "falling").marker.color == TOKENS["ink"][0]


def test_bars_of_which_none_was_seen_still_make_a_figure():
    unseen = bars(100).with_columns(pl.lit(float("nan")).alias(name) for name in ("open", "high", "low", "close"))
    assert "100.0\u202f%" in plots.plot_candles(unseen, symbol="X", tick_size=0.1).layout.meta["caption"]


def test_an_empty_range_is_refused():
    with pytest.raises(ValueError, match="aster import"):
        plots.plot_candles(bars(10).clear(), symbol="X", tick_size=0.1)


def test_of_many_trades_the_worst_the_best_and_the_latest_are_drawn():
    entered = [*trace(FIGURES["trades"], "long entry").x, *trace(FIGURES["trades"], "short entry").x]
    minutes = sorted((x / 1_000 - START.timestamp()) / 60 for x in entered)
    assert minutes == [*range(20), *range(70, 200)]
    assert "150 of 200 trades are drawn" in FIGURES["trades"].layout.meta["caption"]


def test_side_has_its_own_shape_and_colour():
    long, short = trace(FIGURES["trades"], "long entry").marker, trace(FIGURES["trades"], "short entry").marker
    assert (long.symbol, long.color) == ("triangle-up", TOKENS["long"][0])
    assert (short.symbol, short.color) == ("triangle-down", TOKENS["short"][0])


def test_a_trade_still_held_has_no_exit_mark():
    held = plots.plot_trades(bars(100), trades(2, reason="open"), symbol="X", tick_size=0.1)
    assert len(trace(held, "long exit").x) == 0


def test_order_levels_are_drawn_only_where_trades_are_few():
    assert trace(FIGURES["few trades"], "long stop").line.dash == "solid"
    assert trace(FIGURES["few trades"], "long target").line.dash == "dot"
    assert "long stop" not in [one.name for one in FIGURES["trades"].data]


def test_liquidations_are_summed_per_candle_and_side():
    up, down = trace(FIGURES["liquidations"], "shorts closed"), trace(FIGURES["liquidations"], "longs closed")
    assert (list(up.y), list(down.y)) == ([500.0], [-2_000.0])


def test_a_triangle_says_sum_prints_and_largest():
    mark = trace(FIGURES["liquidations"], "realised: longs closed (forced sell)")
    assert mark.hovertext[0].startswith("<b>2\u202f000.00</b> USDT liquidated<br>2 prints, largest 1\u202f000.00")
    assert mark.marker.sizemode == "area"
