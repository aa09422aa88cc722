"""A source as the exchange would tell it: bars that end late, minutes that say nothing, contracts that come and go."""

from hashlib import blake2b

import numpy as np
import polars as pl

from data.loopback.faults import ContractChange, Faults
from data.loopback.tape import MINUTE_MS, NS_PER_MS, Source
from data.table import TIME_MS

_RULES = ("status", "tick_size", "step_size", "min_notional_usdt", "funding_interval_hours")
_TRADING = "TRADING"
_NEVER_MS = 1 << 53
_SENT_BEFORE_MS = 60  # a bar's last message is that long under way


class Quirky:
    """A source with the quirks that were asked for; see ``tape.Source``.

    Raises
    ------
    ValueError
        When a change is about a contract that the source does not have.
    """

    def __init__(self, source: Source, faults: Faults, start_ms: int):
        self.symbols, self.tables = source.symbols, source.tables
        self.start, self.end, self.first_ms, self.chunk_ms = source.start, source.end, source.first_ms, source.chunk_ms
        self._source, self._faults, self._start_ms = source, faults, start_ms
        for change in faults.contracts:
            if change.symbol not in source.symbols:
                raise ValueError(f"contracts: expected one of {', '.join(source.symbols)}, got {change.symbol!r}")
        self._changes = sorted(faults.contracts, key=lambda change: change.from_s)
        self._alive = {symbol: self._life(symbol) for symbol in source.symbols}
        self._has_late_bars = faults.late_bars_s is not None

    def instruments(self) -> pl.DataFrame:
        rows = self._source.instruments()
        for change in self._changes:
            rows = pl.concat([rows, self._changed(rows, change)]) if not change.is_new else self._begun(rows, change)
        return rows.sort("event_time", maintain_order=True)

    def happened(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        first_ms, end_ms = self._alive[symbol]
        rows = self._source.happened(table, symbol, max(from_ms, first_ms), min(to_ms, end_ms))
        return self._late(table, symbol, rows)

    def carried(self, table: str, symbol: str, from_ms: int, to_ms: int) -> pl.DataFrame:
        first_ms, end_ms = self._alive[symbol]
        rows = self._source.carried(table, symbol, max(from_ms, first_ms), min(to_ms, end_ms))
        if self._faults.silent_minutes and table in ("klines", "kline_updates"):
            rows = rows.filter(pl.col("trade_count") > 0)
        return self._late(table, symbol, rows)

    def has_bar_states(self, symbol: str, first_ms: int, last_ms: int) -> bool:
        return self._source.has_bar_states(symbol, first_ms, last_ms)

    def _life(self, symbol: str) -> tuple[int, int]:
        """When a contract begins and ends to trade, milliseconds since 1970."""
        first_ms, end_ms = 0, _NEVER_MS
        for change in self._changes:
            if change.symbol == symbol and change.is_new:
                first_ms = self._ms(change)
            elif change.symbol == symbol and change.status not in (None, _TRADING):
                end_ms = min(end_ms, self._ms(change))
        return first_ms, end_ms

    def _ms(self, change: ContractChange) -> int:
        return self._start_ms + round(change.from_s * 1_000)

    def _changed(self, rows: pl.DataFrame, change: ContractChange) -> pl.DataFrame:
        """The contract's newest row with other rules."""
        before = rows.filter(pl.col("symbol") == change.symbol).sort("event_time").tail(1)
        told = {name: value for name in _RULES if (value := getattr(change, name)) is not None}
        return before.with_columns(
            pl.lit(self._ms(change)).cast(TIME_MS).alias("event_time"),
            *(pl.lit(value, before.schema[name]).alias(name) for name, value in told.items()),
        )

    def _begun(self, rows: pl.DataFrame, change: ContractChange) -> pl.DataFrame:
        """The rows, the contract's first of them as of its beginning."""
        others = rows.filter(pl.col("symbol") != change.symbol)
        begins = pl.lit(self._ms(change)).cast(TIME_MS)
        first = self._changed(rows, change).with_columns(begins.alias("onboard_time"))
        return pl.concat([others, first])

    def _late(self, table: str, symbol: str, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows, those of bars that are over delivered as late as asked for."""
        if not self._has_late_bars or table not in ("klines", "kline_updates") or rows.is_empty():
            return rows
        least_s, most_s = self._faults.late_bars_s
        opened_ms = rows["open_time"].to_physical().to_numpy()
        late_ms = (least_s + _luck(self._faults.seed, symbol, opened_ms) * (most_s - least_s)) * 1_000
        is_over = (rows["interval"] == "1m").to_numpy()
        if table == "kline_updates":
            is_over = is_over & rows["is_final"].to_numpy()
        late_ns = (opened_ms + MINUTE_MS) * NS_PER_MS + np.rint(late_ms * NS_PER_MS).astype(np.int64)
        delivered_ns = np.where(is_over, late_ns, rows["delivered_ns"].to_numpy())
        sent_ms = pl.Series(delivered_ns // NS_PER_MS - _SENT_BEFORE_MS).cast(TIME_MS)
        sent = pl.when(pl.Series(is_over)).then(sent_ms).otherwise("sent_time")
        return rows.with_columns(sent.alias("sent_time"), delivered_ns=pl.Series(delivered_ns))


def _luck(seed: int, symbol: str, times_ms: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each time, always the same."""

    def one(time_ms: int) -> float:
        return int.from_bytes(blake2b(f"{seed}/{symbol}/{time_ms}".encode(), digest_size=6).digest(), "big") / 2**48

    return np.array([one(time_ms) for time_ms in times_ms.tolist()])
