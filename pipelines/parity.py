"""Is a run what its log, its rules, its recording and its backtest say? Four proofs, each with an id to refer to.

P1: a replay of the input log writes the journal again, byte for byte. P2: the rules, computed over the whole recording
at once, decide what the runner decided, from the same features. P3: the bars it heard are those that a recorder beside
it heard; what is missing has its gap on record. P4: the backtest of its own recording makes the same trades.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data.lake import Lake
from data.schema import interval_ms
from live.asking import GIVEN_UP_MS
from live.dispatch import walk
from live.journal import Journal, read_journal
from pipelines.explain_case import Evidence, gather
from research.counterfactual import Account
from research.explanation import explain, open_times, rerun
from research.fills import Decision
from research.recorded import Recorded

SAME_BARS = 0.999  # of those that should be there
FEED = "P3 feed"
_BAR = ["open", "high", "low", "close", "volume"]


class Proof(NamedTuple):
    """One of the four. ``holds`` is None where it could not be tried; ``id`` names what was compared."""

    name: str
    holds: bool | None
    found: str
    id: str


def proofs_of(journal: Path, feed: Path, lake: Lake | None) -> list[Proof]:
    """P1 to P4 of a run.

    Parameters
    ----------
    feed : folder of its input log.
    lake : of a recorder that heard the same market; None leaves P3 untried.

    Raises
    ------
    LookupError, ValueError
        As ``explain_case.gather``.
    """
    evidence = gather(journal, feed, lake)
    return [
        _replayed(journal, feed, evidence),
        _decided(evidence),
        _heard(evidence, lake),
        _traded(evidence),
    ]


def parity_id(proofs: Sequence[Proof]) -> str:
    """One name for all of them, that a promotion can carry."""
    return _digest([list(proof) for proof in proofs])


def _replayed(journal: Path, feed: Path, evidence: Sequence[Evidence]) -> Proof:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / journal.name
        with Journal(path, is_derived=True) as again:
            walk([each.past.config for each in evidence], feed, again)
        replayed, written = read_journal(path), read_journal(journal)
    if written["kind"][-1] != "end":  # it goes on, or was killed: either may be ahead of the other
        both = min(written.height, replayed.height)
        written, replayed = written.head(both), replayed.head(both)
    same = replayed.equals(written)
    return Proof(
        "P1 replay", same, f"{written.height} events{'' if same else ': another journal'}", written["hash"][-1]
    )


def _decided(evidence: Sequence[Evidence]) -> Proof:
    if (reason := _not_followed(evidence)) is not None:
        return Proof("P2 engine", None, reason, _digest([]))
    decided: list[list[Any]] = []
    others = 0
    for each in evidence:
        case = each.case
        rules, first_ms = rerun(case, case.heard, case.arrivals), case.first_ms
        length_ms = interval_ms(case.config.interval)
        ours = {
            (body["open_time_ms"] - first_ms) // length_ms: body
            for body in map(json.loads, each.events.filter(kind="decision")["body"])
        }
        # A day that lost what it may decides nothing more, which a row by itself does not know.
        rows = ours if case.config.orders.max_daily_loss_usdt is not None else np.flatnonzero(case.life.is_free)
        for row in map(int, rows):
            told, ruled = ours.get(row), rules.rule(row)
            wanted = {} if ruled is None or ruled[0].side == 0 else {**ruled[0]._asdict(), "features": ruled[1]}
            mine = {} if told is None else {name: told[name] for name in (*Decision._fields, "features")}
            if wanted or mine:
                decided.append([case.config.config_hash, row, mine])
                others += not _is_same(wanted, mine)
    found = f"{len(decided)} decisions, {others} differ"
    return Proof("P2 engine", others == 0 if decided else None, found, _digest(decided))


def _heard(evidence: Sequence[Evidence], lake: Lake | None) -> Proof:
    if lake is None:
        return Proof(FEED, None, "no lake of a recorder beside the run was given", _digest([]))
    compared, same, unaccounted = [], 0, 0
    for each in evidence:
        past = each.past
        open_ms = pl.Series("open_ms", open_times(past.config, past.first_ms, past.end_ms))
        ours, theirs = (_bars(recorded, open_ms) for recorded in (each.heard, each.reference))
        is_missing = pl.col("close_ours").is_null()
        # What a run still waits for as it ends it has neither heard nor given up.
        last_ms = past.end_ms - GIVEN_UP_MS - interval_ms(past.config.interval)
        both = theirs.join(ours, on="open_ms", how="left", suffix="_ours")
        both = both.filter(~is_missing | (pl.col("open_ms") <= last_ms))
        is_same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_ours")) for name in _BAR)
        other = both.filter(~is_same & ~(is_missing & pl.col("open_ms").is_in(_gap_slots(each, open_ms).implode())))
        same += both.filter(is_same).height
        unaccounted += other.height
        compared += both.rows()
    found = f"{same} of {len(compared)} bars the same, {unaccounted} others without a gap on record"
    holds = same >= SAME_BARS * len(compared) and not unaccounted if compared else None
    return Proof(FEED, holds, found, _digest(compared))


def _traded(evidence: Sequence[Evidence]) -> Proof:
    if any(each.past.mode != "paper" for each in evidence):
        return Proof("P4 paper = backtest", None, "a real run: `aster explain` puts its differences down", _digest([]))
    if (reason := _not_followed(evidence)) is not None:
        return Proof("P4 paper = backtest", None, reason, _digest([]))
    trades: list[Account | None] = []
    others = 0
    for each in evidence:
        found = explain(replace(each.case, reference=None))
        trades += [trade.live for trade in found.trades]
        others += sum(1 for trade in found.trades if trade.live != trade.backtest)
    found = f"{len(trades)} trades, {others} differ"
    return Proof(
        "P4 paper = backtest", others == 0 if trades else None, found, _digest([list(each or ()) for each in trades])
    )


def _not_followed(evidence: Sequence[Evidence]) -> str | None:
    """Why the run's decisions are not made again here."""
    return next((each.not_followed for each in evidence if each.not_followed is not None), None)


def _is_same(wanted: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Bit for bit; the journal writes NaN as null."""
    if wanted.keys() != mine.keys():
        return False
    features = wanted.get("features", {})
    pairs = [(wanted[name], mine[name]) for name in wanted if name != "features"]
    pairs += [(value, mine["features"][name]) for name, value in features.items()]
    return all(theirs == ours or (ours is None and theirs != theirs) for theirs, ours in pairs)


def _bars(recorded: Recorded, open_ms: pl.Series) -> pl.DataFrame:
    bars = recorded.klines.select(pl.col("open_time").dt.epoch("ms").alias("open_ms"), *_BAR)
    return bars.filter(pl.col("open_ms").is_in(open_ms.implode())).sort("open_ms")


def _gap_slots(each: Evidence, open_ms: pl.Series) -> pl.Series:
    """Slots that the run has on record as missed."""
    gaps = each.heard.gaps.select(pl.col("from_time", "to_time").dt.epoch("ms"))
    inside = pl.col("open_ms") > pl.col("from_time"), pl.col("open_ms") < pl.col("to_time")
    return open_ms.to_frame().join_where(gaps, *inside)["open_ms"]


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
