"""Records of the same picks on data in which there is nothing to find: what luck and costs alone would have earned.

Each placebo keeps what the selection picked, the costs and the size of every move, and breaks the one thing an edge
needs: that what a decision sees tells where the price goes. A record without an edge is one among its placebos, so its
rank is uniform, whatever it pays; costs move all of them alike. Phipson, B. and Smyth, G. (2010), "Permutation P-values
Should Never Be Zero"; cyclic shifts: Politis, D., Romano, J. and Wolf, M. (1999), "Subsampling".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from research import features
from research.bars import MARKET_COLUMNS, Bars
from research.clusters.columns import CLUSTER_COLUMNS
from research.fills import Market
from research.jit import njit
from research.overfitting import moments
from research.stage import Arrays, Picks, Stage
from research.sweep import SweepConfig

SIGNS, TIMES, MAP = "sign-shuffled", "time-shifted", "rotated map"

_OF_THE_BAR = ("open", "high", "low", "close")
_AFTER_THE_BAR = (
    "bid_price", "ask_price", "mark_price", "index_price", "exec_open", "exec_high", "exec_low", "exec_close",
    "exec_mark_open", "exec_mark_high", "exec_mark_low", "exec_mark_close", "exec_bid", "exec_ask",
)  # fmt: skip
_SWAPPED_WITH_THE_BAR = (("high", "low"), ("forced_sell_usdt", "forced_buy_usdt"))
_SWAPPED_AFTER_IT = (
    ("bid_price", "ask_price"), ("bid_quantity", "ask_quantity"), ("exec_high", "exec_low"),
    ("exec_mark_high", "exec_mark_low"), ("exec_bid", "exec_ask"),
)  # fmt: skip
_PRICES = ("close", "bid_price", "ask_price", "mark_price", "ema")


@dataclass(frozen=True, kw_only=True)
class Placebo:
    """One kind of placebo beside the real record.

    Parameters
    ----------
    sharpe : of the real record, per period.
    sharpes : float64, shape (n_placebos,), of the placebos; 0 where one never traded.
    """

    kind: str
    sharpe: float
    sharpes: np.ndarray

    @property
    def rank(self) -> int:
        """Place of the real record among all, 1 is the best; a tie counts against it."""
        return 1 + int(np.sum(self.sharpes >= self.sharpe))

    @property
    def p_value(self) -> float:
        """How often a record without an edge ranks as well."""
        return self.rank / (len(self.sharpes) + 1)


def placebos(
    config: SweepConfig,
    bars: Bars,
    picks: Picks,
    *,
    period_bars: int,
    n_placebos: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Placebo, ...]:
    """The record of the picks among its placebos, one entry per kind that suits the strategy.

    Signs are shuffled where decisions see prices alone; a liquidation map belongs to the prices it was made of, so a
    strategy on a map is shown another moment's map instead. Decision times are shifted for both.

    Parameters
    ----------
    picks : (fold, parameters) of the record; its test rows are traded, those without a pick stand flat in every
        placebo as they do in the record. At least one fold had a pick.
    period_bars : rows whose PnL is summed before the Sharpe is taken.
    """
    stage = Stage(config, bars, picks)
    reads_map = bool(features.cluster_columns_of(stage.names))
    kinds = ((MAP, _on_map) if reads_map else (SIGNS, _on_signs), (TIMES, _on_times))
    real = _sharpe(stage.pnl(stage.market, stage.features, period_bars))
    found = []
    for place, (kind, data) in enumerate(kinds):
        random = np.random.default_rng([seed, place])
        sharpes = np.empty(n_placebos)
        for k in range(n_placebos):
            progress(place * n_placebos + k, len(kinds) * n_placebos)
            sharpes[k] = _sharpe(stage.pnl(*data(stage, random), period_bars))
        found.append(Placebo(kind=kind, sharpe=real, sharpes=sharpes))
    progress(len(kinds) * n_placebos, len(kinds) * n_placebos)
    return tuple(found)


def _sharpe(pnl: np.ndarray) -> float:
    """Per period; staying out has a Sharpe of 0."""
    return float(np.nan_to_num(moments(pnl).sharpe))


def _on_signs(stage: Stage, random: np.random.Generator) -> tuple[Market, Arrays]:
    """Every bar's move keeps its size and gets a sign of its own."""
    arrays = mirrored(stage.arrays, random.choice([-1.0, 1.0], len(stage.market.close)))
    columns = {field: arrays.get(MARKET_COLUMNS.get(field, field)) for field in Market._fields}
    market = stage.market._replace(**{field: column for field, column in columns.items() if column is not None})
    return market, stage.computed(arrays)


def _on_times(stage: Stage, random: np.random.Generator) -> tuple[Market, Arrays]:
    """Decisions see another time's features, prices among them moved to the price of now."""
    return stage.market, _moved(stage.features, stage.market, random)


def _on_map(stage: Stage, random: np.random.Generator) -> tuple[Market, Arrays]:
    """Decisions see another time's liquidation map, moved to the price of now."""
    of_map = {name: values for name, values in stage.arrays.items() if name in CLUSTER_COLUMNS}
    return stage.market, stage.computed({**stage.arrays, **_moved(of_map, stage.market, random)})


def _moved(columns: Arrays, market: Market, random: np.random.Generator) -> Arrays:
    """The columns of another time, shifted around by at least a twentieth of the rows; prices at the price of now."""
    close = _carried(market.close)
    least = max(1, len(close) // 20)
    shift = int(random.integers(least, len(close) - least + 1))
    ratio = close / np.roll(close, shift)
    return {
        name: np.roll(values, shift) * ratio if _is_price(name) else np.roll(values, shift)
        for name, values in columns.items()
    }


def mirrored(arrays: Arrays, signs: np.ndarray) -> dict[str, np.ndarray]:
    """The bars with every move of sign -1 turned over: a rise becomes the fall of the same ratio.

    A bar's own prices move from the close before it; quotes, marks and the execution window, which come after the
    close, belong to the move of the next bar. Where a move is turned over, highs and lows, bids and asks change places,
    and so do the longs and shorts that were liquidated in the bar.

    Parameters
    ----------
    arrays : columns of the bars frame, float64 of shape (n_rows,).
    signs : float64, shape (n_rows,), 1 or -1 per bar.
    """
    close = _carried(arrays["close"])
    before = np.concatenate([close[:1], close[:-1]])
    moved = close[0] * np.exp(np.cumsum(signs * np.log(close / before)))
    moved_before = np.concatenate([moved[:1], moved[:-1]])
    following = np.concatenate([signs[1:], [1.0]])
    turned = dict(arrays)
    for names, swapped, sign, anchor, new in (
        (_OF_THE_BAR, _SWAPPED_WITH_THE_BAR, signs, before, moved_before),
        (_AFTER_THE_BAR, _SWAPPED_AFTER_IT, following, close, moved),
    ):
        for name in names:
            turned[name] = _turned(arrays[name], sign, anchor, new)
        for one, other in swapped:
            kept = sign > 0.0
            turned[one], turned[other] = (
                np.where(kept, turned[one], turned[other]),
                np.where(kept, turned[other], turned[one]),
            )
    turned["taker_buy_volume"] = np.where(
        signs > 0.0, arrays["taker_buy_volume"], arrays["volume"] - arrays["taker_buy_volume"]
    )
    turned["last_mark_ratio"] = np.where(following > 0.0, arrays["last_mark_ratio"], 1.0 / arrays["last_mark_ratio"])
    turned["funding_per_unit"] = arrays["funding_per_unit"] * moved / close
    return turned


@njit
def _turned(prices, signs, anchor, new):
    """Prices as ratios to the anchor, turned over where the sign is -1, at the new anchor."""
    out = np.empty(len(prices))
    for i in range(len(prices)):
        ratio = prices[i] / anchor[i] if signs[i] > 0.0 else anchor[i] / prices[i]
        out[i] = new[i] * ratio
    return out


def _carried(close: np.ndarray) -> np.ndarray:
    """Closes with those of gaps carried over from before, the first known one before it."""
    known = ~np.isnan(close)
    last = np.maximum.accumulate(np.where(known, np.arange(len(close)), -1))
    return close[np.where(last < 0, np.argmax(known), last)]


def _is_price(name: str) -> bool:
    stem = name.rstrip("0123456789").rstrip("_")
    return stem in _PRICES or (name in CLUSTER_COLUMNS and name.endswith(("_price", "_lo", "_hi", "_far")))
