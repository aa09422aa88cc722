"""What reaches the runner, in the order it becomes known. An event holds nothing that is learnt later.

A row of bars is three events: its bar at ``avail_time``; the market its order meets at ``t_i``; the execution bar
[t_i, t_{i+1}) once it is over. The next bar is known before the execution bar is over, so a decision on row *i* has
not seen how the window of row *i* - 1 ends. The answer to that row's order it has seen: where rows came in late and
together, it waits for it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from live.orders import RowKey
from research.fills import Market

HEADER = b"replay"  # key of the stream's description in the schema's metadata

KNOWN_AT_CLOSE = {"can_enter", "close", "bid", "ask", "half_spread_bps", "last_mark_ratio"}
KNOWN_AT_OPEN = KNOWN_AT_CLOSE | {"exec_open", "mark_open", "exec_bid", "exec_ask"}
KNOWN_AT_END = set(Market._fields)
UNKNOWN = np.full(1, np.nan)


def market_known(values: Mapping[str, float], names: set[str]) -> Market:
    """One row's market with the values of these fields; NaN in every other."""
    return Market(*(np.array([values[name]]) if name in names else UNKNOWN for name in Market._fields))


@dataclass(frozen=True, kw_only=True, eq=False)
class BarClosed:
    """A bar of the clock is complete.

    Attributes
    ----------
    time_ms : when it became known, ``avail_time``.
    close_ms : end of the bar.
    inputs : float64, shape (n_inputs,), what features are computed from, in the order of ``Header.inputs``.
    market : arrays of length 1; NaN in every field that is not known yet.
    """

    time_ms: int
    row: RowKey
    close_ms: int
    inputs: np.ndarray
    market: Market


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """A slot of the clock ended and we did not see its bar. ``inputs`` are NaN where they come from the bar."""

    time_ms: int
    row: RowKey
    inputs: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutionOpen:
    """The market at ``t_i``, as the order decided on the row meets it; ``market`` knows no range and no close yet."""

    time_ms: int
    row: RowKey
    market: Market


@dataclass(frozen=True, kw_only=True, eq=False)
class ExecutionBar:
    """The window [open, end) behind a row is over; ``time_ms`` is its end."""

    time_ms: int
    row: RowKey
    opened_ms: int
    market: Market


@dataclass(frozen=True, kw_only=True)
class FeedEnded:
    """Nothing comes after this, or nothing for a while: a runner that was stopped goes on when it is started again.

    Attributes
    ----------
    last_price : that an open position is valued at; NaN for that of the last execution bar.
    """

    time_ms: int
    last_price: float = math.nan


class Traded(NamedTuple):
    """A trade, at tick resolution."""

    recv_ns: int
    price: float


class Quoted(NamedTuple):
    """A new best bid and ask, at tick resolution."""

    recv_ns: int
    bid: float
    ask: float


class Marked(NamedTuple):
    """A new mark price, at tick resolution."""

    recv_ns: int
    mark: float


class FundingDue(NamedTuple):
    """Funding is settled, at tick resolution; ``per_unit`` is what a long of one base unit pays, USDT."""

    time_ms: int
    per_unit: float


Tick = Traded | Quoted | Marked | FundingDue
Event = BarClosed | Gap | ExecutionOpen | ExecutionBar | FeedEnded | Tick


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a recording holds.

    Attributes
    ----------
    rows : how many there are; 0 when nobody knows yet, live.
    instrument : the symbol's filters of the time, by name of ``data.schema.INSTRUMENTS``.
    inputs : names of the feature inputs, in order.
    assumptions : sentences every print of a result carries.
    """

    config_hash: str
    symbol: str
    interval: str
    rows: int
    instrument: dict[str, Any]
    inputs: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_metadata(self) -> dict[bytes, bytes]:
        """For the schema of the stream."""
        return {HEADER: json.dumps(vars(self), sort_keys=True).encode()}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None) -> "Header":
        """Raises ValueError when the stream describes something else."""
        if not metadata or HEADER not in metadata:
            raise ValueError("expected a stream written by live.replay; its schema carries no description of a replay")
        fields = json.loads(metadata[HEADER])
        fields["inputs"], fields["assumptions"] = tuple(fields["inputs"]), tuple(fields["assumptions"])
        return cls(**fields)


def plain(instrument: Mapping[str, Any]) -> dict[str, Any]:
    """The filters for ``Header.instrument``: everything but times."""
    return {name: value for name, value in instrument.items() if not isinstance(value, datetime)}
