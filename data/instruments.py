"""The contracts' rules over time: which answers say something new, and which rows do."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import polars as pl

from data.exchange_info import instruments
from data.messages_rest import RestBrackets, RestFundingInfo, RestIndexReferences, as_rows, plain, rest_rows
from data.schema import INSTRUMENTS

ABSENT = "ABSENT"  # our word, no exchange's: the contract is no longer listed
_OWNER = ("venue", "symbol")
_NOT_LISTED = ("brackets", "funding_interval_hours")  # exchangeInfo names neither: an answer without says nothing
_APART = ("event_time", "source")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def fingerprint(name: str, body: bytes) -> str:
    """Equal for two answers that say the same, though the time they carry differs.

    Parameters
    ----------
    name : exchangeInfo, fundingInfo, indexreferences or leverageBracket.

    Raises
    ------
    ValueError, LookupError, TypeError, AttributeError
        When the answer is not what it should be.
    """
    if name == "exchangeInfo":
        rows, unreadable = instruments(json.loads(body), source="rest", effective=_EPOCH)
        said: Any = [rows.drop("event_time").sort("symbol").rows(), unreadable]
    else:
        what = {
            "fundingInfo": RestFundingInfo,
            "indexreferences": RestIndexReferences,
            "leverageBracket": RestBrackets,
        }[name]
        found, refused = rest_rows(as_rows(body), what)
        timeless = [{**plain(each), "event_time": None} for each in found]
        said = [sorted(timeless, key=lambda each: each["symbol"]), [text for text, _ in refused]]
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def changed(last: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``new`` that say something else than the one in force before, and one for each contract that went.

    Brackets and funding interval of a row that has none are those of the row before: exchangeInfo does not name them.
    A contract that the newest listing of its venue leaves out gets a last row with the status ``ABSENT``; so every
    status that was ever seen stays, and none stays in force for ever.

    Parameters
    ----------
    last : stored rows of ``instruments``; the newest of each contract is enough.
    new : rows of whole listings, later than all of ``last``.
    """
    rows = pl.concat([_newest(last), new])
    rows = pl.concat([rows, _gone(rows, new)]).sort(*_OWNER, "event_time")
    return _differing(last, rows.with_columns(pl.col(_NOT_LISTED).forward_fill().over(_OWNER)))


def bracket_rows(last: pl.DataFrame, body: bytes, *, effective: datetime, source: str = "import") -> pl.DataFrame:
    """Rows of ``instruments`` that differ from those in force by the brackets of a leverageBracket answer.

    Parameters
    ----------
    last : stored rows; the newest of each contract is enough. A contract without one gets none: brackets alone are no
        rules.
    body : the answer as the exchange sent it, of one contract or of all.
    effective : aware; from when on they are in force.

    Raises
    ------
    ValueError
        When the answer is no leverageBracket answer, or ``effective`` names no time zone.
    """
    if effective.tzinfo is None:
        raise ValueError(
            f"expected an effective time with a time zone, got {effective.isoformat()}; add +00:00 for UTC"
        )
    found, refused = rest_rows(as_rows(body), RestBrackets)
    if refused or not found:
        why = refused[0][1].reason if refused else "no contract in it"
        raise ValueError(f"expected the answer of leverageBracket, got {bytes(body[:80])!r}: {why}")
    steps = {each.symbol: [plain(step) for step in each.brackets] for each in found}
    rows = _newest(last).filter(pl.col("symbol").is_in(list(steps)))
    rows = rows.with_columns(
        event_time=pl.lit(effective, INSTRUMENTS.columns["event_time"]),
        source=pl.lit(source, INSTRUMENTS.columns["source"]),
        brackets=pl.Series([steps[symbol] for symbol in rows["symbol"]], dtype=INSTRUMENTS.columns["brackets"]),
    )
    return _differing(last, rows)


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("event_time").unique(_OWNER, keep="last", maintain_order=True)


def _gone(rows: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """A last row for each contract of ``rows`` that the newest listing of its venue in ``new`` leaves out."""
    listings = (
        new.sort("event_time").group_by("venue").agg(pl.col("event_time", "source").last().name.prefix("listing_"))
    )
    left_out = pl.col("event_time") < pl.col("listing_event_time")
    gone = _newest(rows).join(listings, on="venue").filter(left_out, pl.col("status") != ABSENT)
    gone = gone.with_columns(event_time="listing_event_time", source="listing_source", status=pl.lit(ABSENT))
    return gone.select(rows.columns)


def _differing(last: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Those of ``rows`` that are not in ``last`` and say something else than the row before; sorted."""
    compared = [name for name in rows.columns if name not in (*_OWNER, *_APART)]
    told = pl.concat([_newest(last).with_columns(is_new=pl.lit(False)), rows.with_columns(is_new=pl.lit(True))])
    told = told.sort(*_OWNER, "event_time", "is_new", maintain_order=True)
    said = pl.struct(compared).struct.json_encode()
    return told.filter((said != said.shift(1).over(_OWNER)).fill_null(True) & pl.col("is_new")).drop("is_new")
