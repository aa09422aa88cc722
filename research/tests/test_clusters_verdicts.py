"""Verdicts: nothing is called before there is enough, and then in plain words."""

import math

import polars as pl
import pytest

from research.clusters.validation.verdicts import GATES, VERDICTS, by_chance, verdicts


def result(metric: str = "magnet_excess", **changes) -> pl.DataFrame:
    row = {
        "metric": metric, "band": "all", "horizon_s": 14_400, "value": 0.012, "low": 0.004, "high": 0.02,
        "n": 3_900, "n_days": 29, "n_symbols": 6,
    }  # fmt: skip
    return pl.DataFrame([row | changes])


def test_an_interval_above_the_limit_on_enough_days_and_symbols_is_evidence():
    row = verdicts(result()).row(0, named=True)
    assert row["verdict"] == "evidence"
    assert row["question"] == "Does the price reach these walls more often than levels beside them?"
    assert row["gate"] == "interval above 0 per 100 walls"
    assert row["sentence"] == (
        "The price just reaches these walls more often than levels beside them: "
        "1.20 per 100 walls (0.40 to 2.00), 3,900 samples on 29 days."
    )


def test_an_interval_that_holds_the_limit_is_no_evidence():
    row = verdicts(result(low=-0.001)).row(0, named=True)
    assert row["verdict"] == "no evidence"
    assert row["sentence"].startswith("These walls are reached no more often than levels beside them: 1.20")
    assert "(−0.10 to 2.00)" in row["sentence"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n_days": 19}, "19 of 20 days with events"),
        ({"n_symbols": 4}, "4 of 5 symbols"),
        ({"n_days": 3, "n_symbols": 1}, "3 of 20 days with events, 1 of 5 symbols"),
        ({"n_symbols": None}, "0 of 5 symbols"),
        ({"low": math.nan, "high": math.nan}, "the figure cannot be computed"),
    ],
)
def test_too_little_is_said_to_be_too_little_however_good_the_figure(changes, why):
    row = verdicts(result(**changes)).row(0, named=True)
    assert row["verdict"] == "too little data"
    assert row["sentence"] == f"Too little data to say: {why}."


def test_a_reaction_may_go_either_way():
    through = verdicts(result("reaction_touched", value=8.0, low=2.0, high=14.0))
    back = verdicts(result("reaction_touched", value=-8.0, low=-14.0, high=-2.0))
    neither = verdicts(result("reaction_touched", value=-8.0, low=-20.0, high=4.0))
    assert [frame["verdict"][0] for frame in (through, back, neither)] == ["evidence", "evidence", "no evidence"]
    assert "goes on through" in through["sentence"][0]
    assert "turns back" in back["sentence"][0]
    assert "does what it does after any touch" in neither["sentence"][0]


def test_a_rank_needs_no_interval():
    nan = {"low": math.nan, "high": math.nan}
    assert verdicts(result("placebo_rank", value=0.02, **nan))["verdict"][0] == "evidence"
    assert verdicts(result("placebo_rank", value=0.2, **nan))["verdict"][0] == "no evidence"
    assert verdicts(result("placebo_rank", value=math.nan, **nan))["verdict"][0] == "too little data"
    assert "rank p: 0.200, 3,900" in verdicts(result("placebo_rank", value=0.2, **nan))["sentence"][0]


def test_the_symbols_behind_rows_that_do_not_say_are_told_once():
    frame = result().drop("n_symbols")
    assert verdicts(frame)["verdict"][0] == "too little data"
    assert verdicts(frame, n_symbols=5)["verdict"][0] == "evidence"
    assert verdicts(result(n_symbols=2), n_symbols=5)["verdict"][0] == "too little data"


def test_rows_keep_their_order_and_every_gate_has_words():
    results = pl.concat([result(name) for name in GATES])
    judged = verdicts(results)
    assert judged.schema == VERDICTS
    assert judged["metric"].to_list() == list(GATES)
    assert all(sentence.endswith("days.") for sentence in judged["sentence"])
    assert all(question.endswith("?") for question in judged["question"])


def test_no_results_give_no_verdicts():
    assert verdicts(result().clear()).is_empty()


def test_a_metric_without_a_gate_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no gate for \['hit_rate'\]"):
        verdicts(result("hit_rate"))


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"\['n_days'\] are missing"):
        verdicts(result().drop("n_days"))


def test_many_rows_are_many_tests_and_chance_passes_some():
    assert by_chance(["magnet_excess"] * 4) == pytest.approx(0.1)
    assert by_chance(["reaction_touched", "placebo_rank"]) == pytest.approx(0.1)
    assert by_chance(["ece"]) == 0.0
