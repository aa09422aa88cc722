"""The tables that tell about the recording itself: what is missing, unreadable or disputed, the raw log, the clock.

And those that tell who has looked at it: every search over these days, every holdout that was opened.
"""

import polars as pl

from data.table import TIME_MS, TIME_NS, Table

GAPS = Table(
    name="gaps",  # append-only ledger: the row with the newest detected_time speaks for its gap
    time="detected_time",
    key=("venue", "gap_id", "state", "cause", "rows_recovered"),  # finding a gap again in the same state adds no row
    fallback_key=("venue", "gap_id", "state"),
    arrival=("detected_time",),
    columns=pl.Schema(
        {
            "gap_id": pl.String,  # table|symbol|from|to, for klines table|symbol|interval|from|to
            "venue": pl.String,
            "symbol": pl.String,
            "table": pl.String,
            "interval": pl.String,  # klines only
            "from_id": pl.Int64,  # first missing id
            "to_id": pl.Int64,  # last missing id
            "from_time": TIME_MS,  # last good event before
            "to_time": TIME_MS,  # first good event after
            "missing": pl.Int64,
            "is_estimate": pl.Boolean,  # missing is exact for ids and klines, estimated elsewhere
            "cause": pl.String,  # reconnect, sequence, silence, crash, stopped, disk, exchange, corrupt, import
            "state": pl.String,  # open, repaired, partial, unrepairable
            "repair_source": pl.String,
            "rows_recovered": pl.Int64,
            "detected_time": TIME_MS,
        }
    ),
)
QUARANTINE = Table(
    name="quarantine",  # what could not be read, verbatim
    time="quarantined_time",
    key=("file", "line", "raw"),
    arrival=("quarantined_time",),
    columns=pl.Schema(
        {
            "file": pl.String,
            "line": pl.Int64,  # 1 is the header
            "symbol": pl.String,
            "table": pl.String,  # where it would have gone
            "reason": pl.String,
            "raw": pl.String,
            "quarantined_time": TIME_MS,
        }
    ),
)
CONFLICTS = Table(
    name="conflicts",  # same key, other content: the stored row stays, the newcomer is kept here
    time="conflict_time",
    key=("table", "key", "arrived"),
    arrival=("conflict_time", "source_file", "stored"),
    columns=pl.Schema(
        {
            "table": pl.String,
            "symbol": pl.String,
            "key": pl.String,  # JSON
            "stored": pl.String,  # JSON of the row that stays
            "arrived": pl.String,  # JSON of the newcomer
            "source_file": pl.String,
            "conflict_time": TIME_MS,
        }
    ),
)
RAW = Table(
    name="raw",  # the raw log after sealing: what every other row of a recorder can be made from again
    time="event_time",
    key=("segment", "event_time", "line"),  # the time keeps a seal from looking into every raw file there is
    columns=pl.Schema(
        {
            "segment": pl.String,  # of the raw log
            "line": pl.Int64,  # record in the segment; 1 is the first
            "recv_time": TIME_NS,
            "event_time": TIME_MS,  # the same to the millisecond: it dates the file
            "kind": pl.Int64,  # data.wal.Kind
            "connection": pl.Int64,  # data.wal.origin_of tells venue, shard and socket
            "payload": pl.Binary,  # byte for byte
        }
    ),
)
CLOCK_OFFSETS = Table(
    name="clock",
    time="event_time",
    key=("venue", "event_time"),
    columns=pl.Schema(
        {
            "venue": pl.String,
            "event_time": TIME_MS,  # our clock at the midpoint of the request
            "offset_ms": pl.Float64,  # exchange minus ours
            "round_trip_ms": pl.Float64,
            "step_ms": pl.Float64,  # realtime minus monotonic since the last row; a step beyond 500 ms is an event
        }
    ),
)
TRIALS = Table(
    name="trials",  # every search that was made on a piece of data; the same search again adds no row
    time="evaluated_time",
    key=("symbol", "strategy", "interval", "from_time", "to_time", "digest"),
    arrival=("evaluated_time", "run", "sharpe_mean", "sharpe_variance"),
    columns=pl.Schema(
        {
            "symbol": pl.String,
            "strategy": pl.String,
            "interval": pl.String,
            "from_time": TIME_MS,  # rows that were searched, first and end
            "to_time": TIME_MS,
            "digest": pl.String,  # sha256 of the grid, costs and orders
            "configs": pl.Int64,
            "sharpe_mean": pl.Float64,  # of the configs' annualised Sharpes in sample
            "sharpe_variance": pl.Float64,
            "run": pl.String,  # folder of the run that was first
            "evaluated_time": TIME_MS,
        }
    ),
)
HOLDOUTS = Table(
    name="holdouts",  # every opening of days that a search was kept from; the same config again adds no row
    time="opened_time",
    key=("symbol", "from_time", "to_time", "config_hash"),
    arrival=("opened_time", "opened_by", "run", "net_pnl_usdt", "trades"),
    columns=pl.Schema(
        {
            "symbol": pl.String,
            "from_time": TIME_MS,
            "to_time": TIME_MS,
            "config_hash": pl.String,  # of the config that was promoted
            "opened_by": pl.String,  # user@machine
            "run": pl.String,
            "net_pnl_usdt": pl.Float64,  # what it earned there
            "trades": pl.Int64,
            "opened_time": TIME_MS,
        }
    ),
)
