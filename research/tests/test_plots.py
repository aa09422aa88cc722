import json
from datetime import UTC, date, datetime, timedelta
from html import unescape

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

from data.coverage import COVERAGE
from research import plots
from research.plots import style
from research.plots.equity import spread, worst_drawdowns
from research.plots.style import DARK, MASS_RAMP, OOS_RAMP, TOKENS, for_page, paint
from research.tests.figure_parts import colours
from research.thin import MAX_CANDLES, MAX_LINE_POINTS, merge_candles
from research.trades import TRADES

START = datetime(2026, 2, 10, tzinfo=UTC)
LIGHT = {light for light, _ in TOKENS.values()} | {*OOS_RAMP, *MASS_RAMP}


def bars(n: int = 2_000, minutes: int = 1) -> pl.DataFrame:
    """A price that rises one tick per bar; bars 500 to 559 were not seen."""
    opened = 100.0 + 0.1 * np.arange(n)
    opened[500:560] = np.nan
    times = [START + timedelta(minutes=minutes * i) for i in range(n)]
    frame = pl.DataFrame({"open_time": times, "open": opened, "high": opened + 0.3, "low": opened - 0.2})
    return frame.with_columns(pl.col("open_time").dt.cast_time_unit("ms"), close=pl.col("open") + 0.1)


def trades(n: int, reason: str = "target") -> pl.DataFrame:
    """Trades a minute apart that gain their own number in USDT; every second one is short."""
    rows = [
        {
            "trade_id": f"t{i}", "symbol": "BTCUSDT", "side": 1 - 2 * (i % 2),
            "entry_row_time": START + timedelta(minutes=i), "entry_time": START + timedelta(minutes=i),
            "exit_time": START + timedelta(minutes=i + 5), "quantity": 1.0, "entry_price": 100.0, "exit_price": 101.0,
            "stop_price": 99.0, "target_price": 101.0, "activation_price": 100.5, "callback_bps": 20.0,
            "reason": reason, "gross_pnl_usdt": float(i), "fees_usdt": 0.1, "funding_usdt": 0.0,
            "net_pnl_usdt": float(i), "is_ambiguous": False,
        }
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TRADES)


def force_orders() -> pl.DataFrame:
    """Two longs closed for 1 000 USDT each in one candle, a short closed for 500 in another."""
    times = [START + timedelta(minutes=minute) for minute in (0, 1, 60)]
    return pl.DataFrame(
        {"event_time": times, "side": ["SELL", "SELL", "BUY"], "average_price": [100.0] * 3,
         "filled_quantity": [10.0, 10.0, 5.0]},
        schema_overrides={"event_time": pl.Datetime("ms", "UTC")},
    )  # fmt: skip


def equity(n: int = 9_000) -> pl.DataFrame:
    curve = np.cumsum(np.sin(np.arange(n) / 50.0))
    peak = np.maximum.accumulate(np.maximum(curve, 0.0))
    return pl.DataFrame(
        {
            "time": [START + timedelta(minutes=i) for i in range(n)],
            "equity_usdt": curve,
            "drawdown_usdt": curve - peak,
            "exposure_usdt": 1_000.0 * np.sign(np.sin(np.arange(n) / 300.0)),
            "is_oos": np.arange(n) >= n // 3,
        }
    )


def scores(columns: int = 6, rows: int = 5) -> pl.DataFrame:
    """A hill of out-of-sample Sharpe in the middle; the last column has too few trades."""
    cells = [
        (
            x,
            10.0 * y,
            1.5 - abs(x - columns // 2) - abs(y - 1 - rows // 2),
            2.0 - abs(x - 3),
            10 if x == columns else 100,
        )
        for x in range(1, columns + 1)
        for y in range(1, rows + 1)
    ]
    return pl.DataFrame(cells, schema=["k", "window_bars", "oos_sharpe", "is_sharpe", "trades"], orient="row")


def folds(n: int = 4, params: str = "k 2, window 45") -> pl.DataFrame:
    def row(i: int) -> dict:
        at = START + timedelta(days=10 * i)
        return {
            "fold": i + 1, "train_start": at, "train_end": at + timedelta(days=30),
            "test_start": at + timedelta(days=31), "test_end": at + timedelta(days=41),
            "in_sample_sharpe": 2.0, "oos_sharpe": None if i == 2 else 1.0 - i, "oos_low": None if i == 2 else -1.0 - i,
            "oos_high": None if i == 2 else 2.0, "trades": 30, "net_bps": 1.1,
            "params": params if i != 1 else params.replace("45", "60"), "changed": i in (1, 2),
        }  # fmt: skip

    return pl.DataFrame([row(i) for i in range(n)])


def coverage(days: int = 20) -> pl.DataFrame:
    """klines lack rows on the second day, trades of a day in the middle are gone for good, quotes begin late."""
    damage = {("klines", 1): "open", ("trades", 9): "unrepairable", ("klines", 5): "repaired"}
    rows = [
        {
            "table": table, "symbol": "BTCUSDT", "interval": "1m" if table == "klines" else None,
            "date": date(2026, 2, 10) + timedelta(days=day), "covered": 0.9, "missing": 7, "is_estimate": False,
            "longest_gap_ms": 90_000,
            "state": "missing" if table == "book_ticker" and day < 3
            else "unknown" if table == "book_ticker" else damage.get((table, day), "complete"),
        }
        for table in ("klines", "trades", "book_ticker")
        for day in range(days)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=COVERAGE)


def parameters(frame: pl.DataFrame | None = None, **more: object) -> go.Figure:
    axes = {"x": plots.Axis(column="k", label="k (σ)"), "y": plots.Axis(column="window_bars", label="window (bars)")}
    settings = {"title": "Sharpe", "chosen": (3, 20.0), "folds": 4, "min_trades": 60, "configs_tried": 30}
    return plots.plot_parameters(scores() if frame is None else frame, **axes, **(settings | more))


def every_figure() -> dict[str, go.Figure]:
    market = {"symbol": "BTCUSDT", "tick_size": 0.1}
    marked = bars().with_columns(mark_price=pl.col("close") + 0.1)
    return {
        "candles": plots.plot_candles(marked, **market, force_orders=force_orders()),
        "trades": plots.plot_trades(bars(), trades(200), **market),
        "few trades": plots.plot_trades(bars(100), trades(4), **market),
        "liquidations": plots.plot_liquidations(bars(), force_orders(), **market),
        "equity": plots.plot_equity(equity(), title="Equity"),
        "parameters": parameters(),
        "folds": plots.plot_walk_forward(folds()),
        "gap calendar": plots.plot_gap_calendar(coverage()),
    }


FIGURES = every_figure()


@pytest.fixture(params=FIGURES)
def figure(request) -> go.Figure:
    return FIGURES[request.param]


def trace(figure: go.Figure, name: str) -> go.Figure:
    return next(one for one in figure.data if one.name == name)


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


# lines and equity


def test_in_sample_is_grey_dashed_and_shaded_and_out_of_sample_is_ink():
    inside, outside = trace(FIGURES["equity"], "in sample"), trace(FIGURES["equity"], "out of sample")
    assert (inside.line.color, outside.line.color) == (TOKENS["ins"][0], TOKENS["ink"][0])
    assert inside.line.dash
    assert len(FIGURES["equity"].layout.shapes) == 1


def test_drawdowns_are_ranked_by_depth_and_last_from_peak_to_recovery():
    days = np.arange(10) * 86_400_000.0
    falls = worst_drawdowns(days, np.array([0.0, -1, -3, 0, 0, -5, 0, -2, -2, -2]))
    assert [(fall["depth_usdt"], fall["days"]) for fall in falls] == [(-5.0, 2.0), (-3.0, 3.0), (-2.0, 3.0)]


def test_labels_are_moved_apart_and_stay_inside():
    assert spread([0.5, 0.52, 0.99], 0.2, 0.1) == pytest.approx([0.5, 0.7, 0.9])


# parameters, folds, coverage


def test_cells_with_too_few_trades_show_a_dot_and_no_colour():
    grid = trace(FIGURES["parameters"], "out of sample")
    assert [row[-1] for row in grid.text] == ["·"] * 5
    assert np.isnan(grid.z[:, -1]).all()
    assert list(grid.text[2]) == ["−0.5", "0.5", "1.5", "0.5", "−0.5", "·"]


def test_the_grid_is_centred_on_zero_with_fixed_limits():
    grid = trace(parameters(limit=2.0), "out of sample")
    assert (grid.zmin, grid.zmax) == (-2.0, 2.0)


def test_the_circle_is_where_the_procedure_chose():
    circle = trace(FIGURES["parameters"], "chosen on the train folds")
    assert (circle.x[0], circle.y[0]) == (2, 1)
    assert "Chosen on the train folds: k 3, window bars 20" in FIGURES["parameters"].layout.meta["caption"]


def test_without_a_ranked_config_none_is_marked_and_the_caption_says_so():
    caption = parameters(chosen=None, configs_tried=7_209).layout.meta["caption"]
    assert "None is marked as chosen: the train folds rank no config." in caption
    assert caption.endswith("30 configs are here, 7\u202f209 were ever tried on these days.")


def test_a_large_grid_leaves_its_numbers_to_the_hover():
    assert trace(parameters(scores(21, 3)), "out of sample").texttemplate is None


def test_a_choice_off_the_grid_is_refused():
    with pytest.raises(ValueError, match="not on the axis"):
        parameters(chosen=(3.5, 20.0))


def test_a_grid_with_two_configs_in_one_cell_is_refused():
    with pytest.raises(ValueError, match="fix the other parameters first"):
        parameters(pl.concat([scores(), scores()]))


def test_parameters_that_changed_are_bold():
    texts = [note.text for note in FIGURES["folds"].layout.annotations if note.name != "caption"]
    assert texts == ["k 2<br>window 45", "k 2<br><b>window 60</b>", "k 2<br><b>window 45</b>", "k 2<br>window 45"]


def test_texts_too_long_for_their_fold_are_turned_upright_and_cut():
    crowded = plots.plot_walk_forward(folds(40, params=", ".join(f"a_long_parameter_{i} 45" for i in range(5))))
    notes = [note for note in crowded.layout.annotations if note.name != "caption"]
    assert {note.textangle for note in notes} == {-90}
    assert max(len(note.text) for note in notes) <= len("<b></b>") + 32


def test_the_text_of_a_shorter_last_fold_keeps_its_distance():
    in_time = folds()
    short = in_time.with_columns(
        pl.when(pl.col("fold") == 4).then("test_start").otherwise("test_end").alias("test_end")
    )  # fmt: skip
    for each in (in_time, short):
        notes = [note.x for note in plots.plot_walk_forward(each).layout.annotations if note.name != "caption"]
        assert np.diff(notes).tolist() == 3 * [10 * 86_400_000]


def test_every_fold_has_its_number_and_the_caption_counts_the_changes():
    assert FIGURES["folds"].layout.yaxis.dtick == 1
    assert "changed 2 times (bold)" in FIGURES["folds"].layout.meta["caption"]
    kept = plots.plot_walk_forward(folds().with_columns(changed=False))
    assert "never changed." in kept.layout.meta["caption"]


def test_a_fold_without_a_pick_is_counted_and_not_drawn_as_zero():
    assert "1 without a pick stayed out of the market" in FIGURES["folds"].layout.meta["caption"]
    assert np.isnan(trace(FIGURES["folds"], "out-of-sample Sharpe, 90 % interval").y[2])


def test_a_fold_in_which_nothing_was_traded_is_not_one_without_a_pick():
    idle = plots.plot_walk_forward(folds().with_columns(pl.col("oos_sharpe").fill_null(float("nan"))))
    assert "1 did not trade" in idle.layout.meta["caption"]
    assert "without a pick" not in idle.layout.meta["caption"]


def test_the_most_damaged_stream_comes_first():
    labels = list(FIGURES["gap calendar"].layout.yaxis.ticktext)
    assert labels == ["trades BTCUSDT", "klines BTCUSDT 1m", "book_ticker BTCUSDT"]


def test_days_without_any_row_are_blank():
    recorded = trace(FIGURES["gap calendar"], "recorded")
    assert np.isnan(recorded.z[2][:3]).all()
    assert not np.isnan(recorded.z[2][3:]).any()


def test_damage_has_a_sign_of_its_own():
    signs = {one.text[0] for one in FIGURES["gap calendar"].data if one.type == "scatter" and one.text}
    assert signs == {"<b>R</b>", "<b>!</b>", "<b>✕</b>"}


def test_a_day_that_lacks_one_row_in_a_thousand_counts_as_complete():
    nearly = plots.plot_gap_calendar(coverage().with_columns(covered=pl.lit(0.999)))
    state = trace(nearly, "state")
    assert state.z[list(nearly.layout.yaxis.ticktext).index("trades BTCUSDT")].tolist() == [0.0] * 20
    assert "7 missing" in state.hovertext[0][0]


def test_a_state_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="unknown coverage states \\['lost'\\]"):
        plots.plot_gap_calendar(coverage().with_columns(state=pl.lit("lost")))
