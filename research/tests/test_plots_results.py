import numpy as np
import polars as pl
import pytest

from research import plots
from research.plots.equity import spread, worst_drawdowns
from research.plots.style import TOKENS
from research.tests.figure_samples import FIGURES, coverage, folds, parameters, scores, trace

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


# parameters and folds


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
    *texts, names = [note.text for note in FIGURES["folds"].layout.annotations if note.name != "caption"]
    assert (texts, names) == (
        ["2<br>45", "2<br><b>60</b>", "no pick<br>too few trades", "2<br><b>45</b>"],
        "k<br>window",
    )


def test_where_there_is_no_room_for_their_names_they_stand_in_every_fold():
    named = folds(params="k 2, a_window_of_bars 45")
    begun_late = named.with_columns(train_start=pl.col("test_start") - pl.duration(hours=1))
    texts = [note.text for note in plots.plot_walk_forward(begun_late).layout.annotations if note.name != "caption"]
    assert texts[:2] == ["k 2<br>a_window_of_bars 45", "k 2<br><b>a_window_of_bars 60</b>"] and len(texts) == 4


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
        *notes, _ = [note.x for note in plots.plot_walk_forward(each).layout.annotations if note.name != "caption"]
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


# coverage


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
