"""Two guards for every strategy: live decides as the backtest did, and past decisions do not change with the future."""

import numpy as np
import polars as pl
import pytest

from live.desk import Desk
from live.feed import BarClosed, Gap
from live.journal import Record
from live.replay import feature_inputs
from live.trader import feature_row
from live.trading_rules import rules_of
from research.bars import SIGNAL
from research.engine import TradingConfig, feature_arrays
from research.kernel import feature_names
from research.strategies.registry import STRATEGIES

SEEDS = range(8)


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request):
    """Every strategy there is."""
    return STRATEGIES[request.param]


@pytest.fixture
def corners(strategy, config, case):
    """Random bars under the smallest and the largest values of the strategy's grid, and one that trades often."""

    def build(seed: int):
        often, bars = case(seed)
        kept = {name: often.params[name] for name in strategy.GRID if name in often.params}
        for pick in (min, max, None):
            params = {name: float(kept.get(name, values[0]) if pick is None else pick(values))
                      for name, values in strategy.GRID.items()}  # fmt: skip
            yield (
                TradingConfig(
                    strategy=strategy.NAME,
                    symbol=bars.symbol,
                    params=params,
                    costs=often.costs,
                    orders=often.orders,
                ),
                bars,
            )

    return build


def decisions(config, bars) -> list[tuple]:
    """What the full run knows and decides, row by row: (features of the row, decision)."""
    module, params = STRATEGIES[config.strategy], config.typed_params()
    arrays = feature_arrays(bars, config.costs, feature_names(module, [params]))
    columns = np.array([arrays[name] for name in module.columns(params)]).T
    rows = [module.Row(*map(float, values)) for values in columns]
    return [(row, module.decide(row, 0, params)) for row in rows]


def test_lives_window_decides_as_the_full_run_does(corners, recorded):
    wanted = 0
    for seed in SEEDS:
        for config, bars in corners(seed):
            recording = recorded(config, bars)
            rules = rules_of(config, recording.header, "rpl")
            expected = decisions(config, bars)
            inputs = np.array(list(feature_inputs(config, bars).values()))
            for i, (row, decision) in enumerate(expected):
                window = inputs[:, max(0, i + 1 - rules.lookback_bars) : i + 1].copy()
                seen = feature_row(rules, window)
                np.testing.assert_array_equal(seen, row, err_msg=f"seed {seed}, row {i}")
                np.testing.assert_array_equal(rules.strategy.decide(seen, 0, rules.params), decision)
                wanted += decision[0] != 0
    assert wanted > 100


def test_the_recording_hands_over_the_window_that_the_full_run_has(corners, recorded):
    config, bars = next(corners(0))
    inputs = np.array(list(feature_inputs(config, bars).values())).T
    slots = [event for event in recorded(config, bars).events() if isinstance(event, (BarClosed, Gap))]
    np.testing.assert_array_equal([event.inputs for event in slots], inputs)


@pytest.mark.parametrize("fate", ["cut", "scrambled"])
def test_the_future_changes_no_earlier_decision(corners, fate):
    for seed in SEEDS:
        for config, bars in corners(seed):
            known = bars.frame.height // 2
            changed = decisions(config, with_future(bars, known, fate, seed))
            np.testing.assert_array_equal(
                [(*row, *decision) for row, decision in changed[:known]],
                [(*row, *decision) for row, decision in decisions(config, bars)[:known]],
            )


def test_the_future_changes_no_earlier_line_of_the_journal(case, recorded):
    lines = 0
    for seed in SEEDS:
        config, bars = case(seed)
        known = bars.frame.height // 2
        whole = told(config, bars, recorded, known)
        scrambled = told(config, with_future(bars, known, "scrambled", seed), recorded, known)
        assert repr(whole) == repr(scrambled)
        lines += len(whole)
    assert lines > 100


def with_future(bars, known: int, fate: str, seed: int):
    """The bars with rows from ``known`` on cut off, or with everything but their times drawn from each other."""
    past, future = bars.frame.head(known), bars.frame.slice(known)
    if fate == "cut":
        return bars_of(bars, past)
    random = np.random.default_rng(seed)
    times = [name for name, dtype in bars.frame.schema.items() if dtype.is_temporal()]
    noise = [pl.col(name) * random.uniform(0.5, 2.0) for name, dtype in SIGNAL.items() if dtype == pl.Float64]
    shuffled = future.drop(times)[random.permutation(future.height)].with_columns(noise)
    return bars_of(bars, pl.concat([past, future.select(times).hstack(shuffled).select(past.columns)]))


def bars_of(bars, frame):
    return type(bars)(symbol=bars.symbol, interval=bars.interval, frame=frame, instrument=bars.instrument)


class Lines(list):
    """A journal in memory."""

    def append(self, records) -> None:
        self.extend(records)


def told(config, bars, recorded, known: int) -> list[Record]:
    """Everything a replay writes before it hears of row ``known``."""
    lines, recording = Lines(), recorded(config, bars)
    desk = Desk(config, recording.header)
    first_unknown_ms = bars.frame["open_time"].dt.epoch("ms")[known]
    for event in recording.events():
        if isinstance(event, (BarClosed, Gap)) and event.row.open_ms == first_unknown_ms:
            return list(lines)
        desk.handle(event, lines)
    raise AssertionError(f"row {known} never came")
