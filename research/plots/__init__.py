"""Figures: frame in, ``go.Figure`` out. The one home of Plotly; in a notebook, importing it forbids to upload data."""

import sys

from research.plots.causes import plot_causes
from research.plots.coverage import plot_gap_calendar
from research.plots.equity import plot_equity
from research.plots.folds import plot_walk_forward
from research.plots.grids import Axis
from research.plots.intervals import plot_intervals
from research.plots.liquidation_map import plot_liquidation_map
from research.plots.market import plot_candles, plot_liquidations, plot_trades
from research.plots.parameters import plot_parameters
from research.plots.reliability import plot_reliability
from research.plots.robustness import plot_cost_surface, plot_drawdown_band
from research.plots.style import refuse_uploads

__all__ = [
    "Axis",
    "plot_candles",
    "plot_causes",
    "plot_cost_surface",
    "plot_drawdown_band",
    "plot_equity",
    "plot_gap_calendar",
    "plot_intervals",
    "plot_liquidation_map",
    "plot_liquidations",
    "plot_parameters",
    "plot_reliability",
    "plot_trades",
    "plot_walk_forward",
]

if "IPython" in sys.modules:  # elsewhere nothing is shown by renderers, and to load them takes longer than all the rest
    refuse_uploads()
