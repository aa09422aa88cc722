"""What an explanation rests on: gathered from a run's journal and logs, or from one file that replays anywhere."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import polars as pl

from data import wal
from data.config import canonical_json
from data.lake import Lake
from data.schema import interval_ms
from data.sealer import seal_folder
from live.ctl import JOURNALS, newest_journal
from live.dispatch import looks_at_map
from live.journal import read_journal
from live.journal_trades import events_of
from live.lived import Past, past_of
from live.readings import known_ms
from pipelines.runs import write_whole
from research.explanation import Case
from research.recorded import Recorded, read_recorded

SUFFIX = ".case"
_FORMAT = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same evidence is the same file, byte for byte


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One config on one symbol of a run.

    Attributes
    ----------
    run : the journal's file name.
    events : of the journal, of this config and symbol alone.
    end_ms : up to when something was heard.
    heard, reference : see ``research.explanation.Case``.
    reference_name : where the reference comes from.
    """

    run: str
    events: pl.DataFrame
    end_ms: int
    heard: Recorded
    reference: Recorded | None
    reference_name: str

    @property
    def past(self) -> Past:
        """What the runner did."""
        return past_of(self.events, self.end_ms)

    @property
    def not_followed(self) -> str | None:
        """Why its decisions cannot be made again from what was recorded; None where they can."""
        past = self.past
        if past.resolution != "tick":
            return f"{self.run} is a run at {past.resolution} resolution: only runs at tick resolution are followed"
        if looks_at_map(past.config):
            return (
                f"{self.run}: {past.config.strategy} decides by the liquidation map, which is not made again from "
                "bars and ticks; a replay of its log (`aster-live --mode replay --feed`) decides the same"
            )
        return None

    @property
    def case(self) -> Case:
        """Ready to be explained.

        Raises
        ------
        ValueError
            Where ``not_followed``.
        """
        if (reason := self.not_followed) is not None:
            raise ValueError(reason)
        past = self.past
        return Case(
            config=past.config,
            instrument=past.instrument,
            first_ms=past.first_ms,
            end_ms=past.end_ms,
            heard=self.heard,
            reference=self.reference,
            life=past.life,
            arrivals=past.arrivals,
        )


def find_run(name: str) -> Path:
    """The journal or case that a command line names: a path, a name in ``live/journals``, or ``latest``: of them
    the one that was written to last. A start that failed leaves a journal without a run, which is never the latest.

    Raises
    ------
    LookupError
        When there is no such file.
    """
    if name == "latest":
        try:
            return newest_journal(JOURNALS)
        except LookupError:
            raise LookupError(f"no journal of a run in {JOURNALS}; `aster-live --mode paper` writes one") from None
    for path in (Path(name), JOURNALS / name, JOURNALS / f"{name}.sqlite"):
        if path.is_file():
            return path
    raise LookupError(f"no journal or case {name}, here or in {JOURNALS}; a run names its journal when it ends")


def gather(journal: Path, feed: Path, lake: Lake | None, *, config_hash: str = "", symbol: str = "") -> list[Evidence]:
    """What is known of every config and symbol of a run, or of those named.

    Parameters
    ----------
    feed : folder of the run's input log.
    lake : recorded beside the run, which the backtest is made of; None for the run's own recording.
    config_hash : or how it begins.

    Raises
    ------
    LookupError
        When there is no journal, no input log, or no such config in it.
    ValueError
        When a file is damaged, or the run has not ended.
    """
    events = read_journal(journal).filter(pl.col("config_hash") != "")  # else it is of the run as a whole
    keys = events.select("config_hash", "symbol").unique(maintain_order=True).rows()
    wanted = [key for key in keys if key[0].startswith(config_hash) and key[1].startswith(symbol)]
    if not wanted:
        held = ", ".join(f"{known[:10]} on {traded}" for known, traded in keys)
        raise LookupError(f"{journal} has no config {config_hash} on {symbol or 'any symbol'}: it has {held or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        # A copy, as the run may go on: its log is its own.
        logs, own = Path(folder) / "feed", Lake(Path(folder) / "lake", create=True)
        logs.mkdir()
        for segment in wal.segments(feed):
            shutil.copyfile(segment, logs / segment.name)
        heard_until_ms = _heard_until_ms(logs, feed)
        seal_folder(logs, own)
        return [_evidence(journal, events_of(journal, *key), heard_until_ms, own, lake) for key in wanted]


def freeze(evidence: Evidence, path: Path) -> Path:
    """Put everything that an explanation needs into one file; the same evidence gives the same bytes."""
    told = {"format": _FORMAT, "run": evidence.run, "end_ms": evidence.end_ms, "reference": evidence.reference_name}
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        _put(file, "case.json", canonical_json(told))
        _put(file, "events.parquet", _parquet(evidence.events))
        for side in ("heard", "reference"):
            recorded = getattr(evidence, side)
            for part in () if recorded is None else fields(Recorded):
                _put(file, f"{side}/{part.name}.parquet", _parquet(getattr(recorded, part.name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content.getvalue())
    return path


def thaw(path: Path) -> Evidence:
    """What ``freeze`` put into a file.

    Raises
    ------
    ValueError
        When it is another file, or one of another version.
    """
    try:
        with zipfile.ZipFile(path) as file:
            told = json.loads(file.read("case.json"))
            if told["format"] != _FORMAT:
                raise ValueError(f"{path} is a case of format {told['format']}, this version reads {_FORMAT}")
            parts = {name: pl.read_parquet(file.read(name)) for name in file.namelist() if name.endswith(".parquet")}
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a case that `aster explain RUN --freeze FILE` wrote: {error}") from error
    return Evidence(
        run=told["run"],
        events=parts["events.parquet"],
        end_ms=told["end_ms"],
        heard=_recorded(parts, "heard"),
        reference=_recorded(parts, "reference") if "reference/klines.parquet" in parts else None,
        reference_name=told["reference"],
    )


def _evidence(journal: Path, events: pl.DataFrame, heard_until_ms: int, own: Lake, lake: Lake | None) -> Evidence:
    events = events.filter(pl.col("ts_ms") <= heard_until_ms)  # what came while the log was copied is another day's
    past = past_of(events, heard_until_ms)
    start, end = (_EPOCH + timedelta(milliseconds=ms) for ms in (past.first_ms, past.end_ms))
    span = (past.config.symbol, start, max(end, start + timedelta(milliseconds=interval_ms(past.config.interval))))
    heard = read_recorded(own, *span, interval=past.config.interval)
    reference = None
    if lake is not None:
        # The contract is the one that was traded; a lake may know it from a later day on only.
        recorded = read_recorded(lake, *span, interval=past.config.interval)
        reference = replace(recorded, instruments=heard.instruments)
    return Evidence(
        run=journal.name,
        events=events,
        end_ms=past.end_ms,
        heard=heard,
        reference=reference,
        reference_name="the run's own recording" if lake is None else str(lake.root),
    )


def _heard_until_ms(logs: Path, feed: Path) -> int:
    segments = wal.segments(logs)
    if not segments:
        raise LookupError(f"no input log in {feed}; a run keeps one beside its journal")
    return max(known_ms(record.recv_ns) for segment in segments for record in wal.read(segment))


def _put(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    file.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)


def _parquet(frame: pl.DataFrame) -> bytes:
    content = BytesIO()
    frame.write_parquet(content, compression="zstd", statistics=False)
    return content.getvalue()


def _recorded(parts: Mapping[str, pl.DataFrame], side: str) -> Recorded:
    return Recorded(**{part.name: parts[f"{side}/{part.name}.parquet"] for part in fields(Recorded)})
