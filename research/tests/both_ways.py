"""Every compiled function that a runner decides and fills by, called on random numbers: ``python -m`` prints the bits.

The same calls are made once compiled and once plain, in processes of their own.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator

import numpy as np

from research import daily_loss, features, fills, liquidation, rounding, tick_fills
from research.fills import Decision, Exit, Levels, Market, Terms, Trailing
from research.strategies.registry import STRATEGIES

_ODD = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0)
_ROWS = 70


class Numbers:
    """Random numbers, some of them odd."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def price(self, odd: float = 0.1) -> float:
        """Near 100."""
        if self.random.random() < odd:
            return float(self.random.choice(_ODD))
        return float(np.round(100.0 * math.exp(self.random.normal(0.0, 0.003)), int(self.random.integers(1, 5))))

    def size(self) -> float:
        """Of a tick, a step, a quantity, bps: never zero or unknown."""
        return float(self.random.choice([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 3.0, 7.0, 40.0, 500.0]))

    def bps(self) -> float:
        """A distance, or none."""
        return math.nan if self.random.random() < 0.2 else float(self.random.uniform(0.0, 80.0))

    def side(self) -> int:
        """Of a position."""
        return int(self.random.choice([1, -1]))

    def prices(self, count: int = 1) -> np.ndarray:
        """Several."""
        return np.array([self.price() for _ in range(count)])

    def market(self) -> Market:
        """One row."""
        found = {name: self.prices() for name in Market._fields}
        high, low = max(found["exec_open"], found["exec_high"]), min(found["exec_open"], found["exec_low"])
        found |= {"exec_high": high, "exec_low": low, "half_spread_bps": np.array([self.bps()])}
        found["last_mark_ratio"] = found["exec_close"] / 100.0
        return Market(**found | {"can_enter": np.ones(1, bool)})

    def terms(self) -> Terms:
        """Of an order."""
        return Terms(
            **{name: self.size() for name in Terms._fields if name not in ("cooldown_bars", "brackets", "risk_usdt")},
            cooldown_bars=int(self.random.integers(0, 5)),
            risk_usdt=self.bps(),
            brackets=np.array([[0.004, 0.0], [0.01, 50.0]])[: self.random.integers(0, 3)],
        )

    def decision(self) -> Decision:
        """With distances, or prices in their place."""
        prices = (math.nan if self.random.random() < 0.5 else self.price() for _ in range(2))
        return Decision(self.side(), *(self.bps() for _ in range(4)), *prices)

    def levels(self) -> Levels:
        """Exit orders."""
        return Levels(*(self.price() for _ in range(3)), self.bps(), *(self.price(0.7) for _ in range(2)))

    def trailing(self) -> Trailing:
        """Its state."""
        return Trailing(self.price(), bool(self.random.random() < 0.5))


def _calls(some: Numbers) -> Iterator[tuple[Callable, tuple]]:
    side, market, terms, levels = some.side(), some.market(), some.terms(), some.levels()
    decision, trailing, price = some.decision(), some.trailing(), some.price()
    book = daily_loss.DayBook(int(some.random.integers(3)), some.price())
    yield fills.size_multiple, (side, 0, np.array([[some.size()], [some.bps()]]))
    yield fills.entry_quantity, (np.float64(price), decision, some.bps(), terms)
    yield fills.decision_price, (side, 0, market)
    yield fills.entry_limit, (side, price, terms)
    yield fills.entry_price, (side, 0, market, terms)
    yield fills.exit_levels, (side, price, decision, terms.tick_size)
    yield fills.exit_in_bar, (side, levels, trailing, 0, market)
    yield fills.fee_usdt, (price, some.size(), some.bps())
    yield fills.gross_pnl_usdt, (side, some.size(), price, some.price())
    yield fills.funding_paid_usdt, (side, some.size(), some.bps())
    yield liquidation.with_liquidation, (levels, side, price, some.size(), terms)
    exit_ = Exit(int(some.random.integers(5)), price, True, False, trailing)
    yield liquidation.exit_price, (side, exit_, some.bps(), some.bps())
    yield tick_fills.stop_watches_last, (price,)
    yield tick_fills.exit_on_mark, (side, levels, price)
    yield tick_fills.exit_on_trade, (side, levels, trailing, price, trailing.armed)
    quote = (price, some.price(), some.size(), some.price(), some.bps(), some.bps())
    yield tick_fills.exit_price_at_tick, (side, int(some.random.integers(5)), levels, *quote)
    yield rounding.floor_to, (price, some.size())
    yield rounding.ceil_to, (price, some.size())
    yield daily_loss.booked, (book, int(some.random.integers(3)), price)
    yield daily_loss.is_spent, (book, terms)
    for module in STRATEGIES.values():
        row = module.Row(
            *(np.float64(some.size() if some.random.random() < 0.9 else some.price()) for _ in module.Row._fields)
        )
        yield (
            module.decide,
            (row, int(some.random.integers(2)), module.Params(*(some.size() for _ in module.Params._fields))),
        )


def _featured(some: Numbers) -> dict[str, np.ndarray]:
    """Every feature, over windows of seven bars where it has one."""
    names = [name if feature.window is None else f"{name}_7" for name, feature in features.FEATURES.items()]
    columns = dict.fromkeys(column for feature in features.FEATURES.values() for column in feature.inputs)
    arrays = {name: some.prices(_ROWS) for name in columns}
    edges = np.sort(np.stack([arrays[name] for name in ("open", "high", "low", "close")]), axis=0)
    arrays |= {"low": edges[0].copy(), "high": edges[-1].copy()}
    return features.compute(arrays, names, constants={"tick_size": 0.1, "taker_fee_bps": 4.0})


def _bits(value: object) -> object:
    """Floats as their bits, but NaN, of which there are many kinds."""
    if isinstance(value, tuple | list | np.ndarray):
        return [_bits(each) for each in value]
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return int(value)
    return "nan" if math.isnan(value) else float(value).hex()


def answers(seed: int, count: int) -> list:
    """Name and bits of every answer."""
    some, found = Numbers(seed), []
    for _ in range(count):
        found += [[f"{call.__module__}.{call.__name__}", _bits(call(*given))] for call, given in _calls(some)]
    return found + [[name, _bits(values)] for name, values in _featured(some).items()]


if __name__ == "__main__":
    print(json.dumps([answers(int(sys.argv[1]), int(sys.argv[2])), "numba" in sys.modules]))
