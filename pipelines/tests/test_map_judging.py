"""What stands behind the answers over several symbols."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from data.lake import Lake
from data.table import TIME_MS
from pipelines import map_judging
from pipelines.map_judging import Asked, judge
from research.clusters.validation.verdicts import EVIDENCE, TOO_LITTLE

START = datetime(2026, 1, 1, tzinfo=UTC)
SYMBOLS = ("AUSDT", "BUSDT", "CUSDT", "DUSDT", "EUSDT")
DAYS, PER_DAY = 25, 40


def minutes(symbol: str) -> pl.DataFrame:
    """An hour of a mark that stands still."""
    ts = pl.datetime_range(START, START.replace(hour=1), "1m", time_unit="ms", eager=True, closed="right")
    prices = dict.fromkeys(("mark_high", "mark_low", "mark_close"), pl.lit(100.0))
    return pl.DataFrame({"ts": ts}).with_columns(symbol=pl.lit(symbol), **prices)


def a_map(symbol: str) -> SimpleNamespace:
    """One cluster of one snapshot, and nothing that happened to it."""
    at = pl.Series([START.replace(minute=5)]).cast(TIME_MS)
    row = {"symbol": symbol, "cluster_id": 1, "side": "short", "price_level": 101.0, "active": True, "available": True}
    clusters = pl.DataFrame({name: [value] for name, value in row.items()}).with_columns(
        avail_time=at, open_interest=pl.lit(1.0), mass_src_usd=pl.lit(1.0)
    )
    events = {"symbol": pl.String, "ts": TIME_MS, "avail_time": TIME_MS, "side": pl.String, "event": pl.String}
    return SimpleNamespace(
        heatmap=pl.DataFrame({"ts": at}), clusters=clusters, events=pl.DataFrame(schema=events), key=None
    )


def predictions(symbol: str) -> pl.DataFrame:
    """Honest chances of being touched of every symbol; of being liquidated those of the first one alone."""
    random = np.random.default_rng(SYMBOLS.index(symbol))
    n = DAYS * PER_DAY
    near, given_touch = random.uniform(0.05, 0.95, (2, n))
    touched = random.random(n) < near
    liquidated = np.where(touched, random.random(n) < given_touch, None)
    if symbol != SYMBOLS[0]:
        given_touch[:], liquidated[:] = np.nan, None
    at = START.timestamp() * 1_000 + np.arange(n) // PER_DAY * 86_400_000
    return pl.DataFrame(
        {
            "avail_time": pl.Series(at.astype(np.int64)).cast(TIME_MS),
            "p_touch": near,
            "p_liq_touch": given_touch,
            "confidence": near * given_touch,
            "touch_base": np.full(n, 0.5),
            "liquidated_base": np.full(n, 0.5),
            "is_touched": touched,
            "is_liquidated": pl.Series(liquidated.tolist(), dtype=pl.Boolean),
        }
    )


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Maps of five symbols, of which one had its liquidations recorded."""
    Lake(tmp_path, create=True)
    names = iter(SYMBOLS)
    monkeypatch.setattr(map_judging, "mapped_symbols", lambda lake: (SYMBOLS, ()))
    monkeypatch.setattr(map_judging, "read_map", lambda lake, symbol, *asked: a_map(symbol))
    monkeypatch.setattr(map_judging, "mark_minutes", lambda *asked: minutes("AUSDT"))
    scored = lambda *asked: SimpleNamespace(samples=predictions(next(names)))  # noqa: E731
    monkeypatch.setattr(map_judging, "with_confidence", scored)
    asked = Asked(
        folder=tmp_path, symbols=(), source="", start=None, end=None, horizon_s=3_600, min_print_usdt=0.0,
        cost_bps=10.0, placebo_maps=5,
    )  # fmt: skip
    return judge(asked, lambda *told: None)


def test_a_factor_is_judged_by_the_symbols_that_it_was_predicted_for(judged):
    skill = judged.verdicts.filter(pl.col("metric") == "brier_skill")
    assert dict(skill.select("band", "n_symbols").rows()) == {"p_touch": 5, "p_liq_touch": 1, "confidence": 1}
    said = dict(skill.select("band", "verdict").rows())
    assert said == {"p_touch": EVIDENCE, "p_liq_touch": TOO_LITTLE, "confidence": TOO_LITTLE}
    colours = dict(judged.scores.select("factor", "calibrated").rows())
    assert colours == {"p_touch": True, "p_liq_touch": False, "confidence": False}
