"""The figures of ``aster robust``."""

import json

import polars as pl
import pytest

from research import plots
from research.plots.style import MASS_RAMP, OOS_RAMP, TOKENS, for_page
from research.tests.figure_parts import colours

LIGHT = {light for light, _ in TOKENS.values()} | {*OOS_RAMP, *MASS_RAMP}


def cells() -> pl.DataFrame:
    """Two latencies, two fees, three slippages; every step costs 10 USDT."""
    rows = [
        (latency, fee, slippage, 25.0 - 10.0 * (latency // 1_000) - 10.0 * (fee - 4.0) - 10.0 * slippage)
        for latency in (0, 1_000)
        for fee in (4.0, 5.0)
        for slippage in (0.0, 1.0, 2.0)
    ]
    frame = pl.DataFrame(rows, schema=["latency_ms", "taker_fee_bps", "slippage_bps", "median_usdt"], orient="row")
    return frame.with_columns(worst_usdt=pl.col("median_usdt") - 1.0, best_usdt=pl.col("median_usdt") + 1.0)


def band() -> pl.DataFrame:
    days = [1.0, 2.0, 3.0]
    return pl.DataFrame(
        {"days": days, "observed_usdt": [0.0, -4.0, -4.0], "low_usdt": [-3.0, -6.0, -9.0],
         "median_usdt": [-1.0, -2.0, -5.0], "high_usdt": [0.0, -1.0, -2.0]}
    )  # fmt: skip


@pytest.fixture(params=["surface", "band"])
def figure(request):
    if request.param == "surface":
        return plots.plot_cost_surface(cells(), title="Costs")
    return plots.plot_drawdown_band(band(), title="Falls", block="24 h")


def test_a_page_takes_it_in_the_colours_of_the_palette(figure):
    assert set(colours(json.loads(figure.to_json()))) <= LIGHT
    page = for_page(figure)
    assert page["title"]
    assert page["caption"].endswith(".")


def test_a_latency_has_a_panel_with_the_dearest_terms_at_its_top_right():
    first, second = plots.plot_cost_surface(cells(), title="Costs").data
    assert first.z.tolist() == [[25.0, 15.0, 5.0], [15.0, 5.0, -5.0]]
    assert second.z.tolist() == [[15.0, 5.0, -5.0], [5.0, -5.0, -15.0]]
    assert (first.zmin, second.zmax) == (-25.0, 25.0)


def test_captions_count_the_cells_that_earn_and_tell_the_fall_beside_its_band():
    assert "8 of 12 cells earn" in for_page(plots.plot_cost_surface(cells(), title="Costs"))["caption"]
    caption = for_page(plots.plot_drawdown_band(band(), title="Falls", block="24 h"))["caption"]
    assert "fell 4.00 USDT at most" in caption
    assert "24 h together at a time, fall 2.00 to 9.00 USDT" in caption


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match="no surface to draw"):
        plots.plot_cost_surface(cells().clear(), title="Costs")
    with pytest.raises(ValueError, match="no drawdown to draw"):
        plots.plot_drawdown_band(band().clear(), title="Falls", block="24 h")
