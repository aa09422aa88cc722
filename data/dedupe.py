"""Which arriving rows are new, which are known already, which contradict what is stored. Frames in, frames out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from data.table import Table

_STORED = ":stored"
_DISPUTED = pl.Schema(dict.fromkeys(("symbol", "key", "stored", "arrived"), pl.String))


@dataclass(frozen=True, kw_only=True)
class Sifted:
    """What became of the arriving rows; every one is in exactly one of the three.

    Parameters
    ----------
    fresh : rows to store, in order of arrival.
    already_present : how many rows repeat a fact.
    disputed : one row per contradiction: key, stored, arrived (JSON), symbol.
    """

    fresh: pl.DataFrame
    already_present: int
    disputed: pl.DataFrame


def sift(table: Table, arrived: pl.DataFrame, stored: pl.DataFrame) -> Sifted:
    """Compare arriving rows with the stored ones and with each other; the first row of a key holds it.

    Two rows with one key are the same fact when every column agrees that both of them hold, apart from the columns
    that say how a row arrived, and from the time where one of the two was dated by our own clock. A row without ids, or
    with an id of which nobody knows whose it is, is the same fact as another only when they agree on the fallback key:
    such a row never bars one with the same id and other content.

    Parameters
    ----------
    table : the contract of both frames.
    arrived, stored : frames that conform to it; ``stored`` holds at least the rows with the keys of ``arrived``.
    """
    arrived = arrived.with_row_index("row")
    sure = _is_sure(table)
    known_sure, known_doubtful = stored.filter(sure), stored.filter(~sure)

    fresh, disputed = _against(table, table.key, arrived.filter(sure), known_sure)
    if table.fallback_key and not known_doubtful.is_empty():
        fresh = fresh.join(known_doubtful, on=table.fallback_key, how="anti")
    doubtful = arrived.filter(~sure)
    if not doubtful.is_empty():
        known = pl.concat([stored, fresh.drop("row")])
        more, contradictions = _against(table, table.fallback_key, doubtful, known)
        fresh, disputed = pl.concat([fresh, more]), pl.concat([disputed, contradictions])
    return Sifted(
        fresh=fresh.sort("row").drop("row"),
        already_present=arrived.height - fresh.height - disputed.height,
        disputed=disputed,
    )


def near(table: Table, frame: pl.DataFrame) -> tuple[dict[str, list[str]], dict[str, tuple[int, int]]]:
    """Where rows with the keys of ``frame`` are: symbols, and first and last value of ids and times they all have."""
    within = {}
    for name in table.ranged:
        if name in table.key and name in (table.fallback_key or table.key):
            values = frame[name].to_physical()
            within[name] = (values.min(), values.max())
    return {"symbol": frame["symbol"].unique().to_list()} if "symbol" in table.key else {}, within


def only(rows: pl.DataFrame, among: Mapping[str, Sequence[str]], within: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
    """The rows with these texts, and with ids and times (in the column's own unit) from first to last."""
    for name, values in among.items():
        rows = rows.filter(pl.col(name).cast(pl.String).is_in(list(values)))
    for name, (first, last) in within.items():
        rows = rows.filter(pl.col(name).to_physical().is_between(first, last))
    return rows


def has_identity(table: Table) -> pl.Expr:
    """True for rows with a time and a whole key or fallback key."""
    whole = _is_whole(table.key)
    if table.fallback_key:
        whole = whole | _is_whole(table.fallback_key)
    return whole & pl.col(table.time).is_not_null()


def _is_whole(key: Sequence[str]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_not_null() for name in key)


def _is_sure(table: Table) -> pl.Expr:
    """True for rows that ``key`` identifies."""
    whole = _is_whole(table.key)
    return whole & ~pl.col("is_ambiguous").fill_null(False) if "is_ambiguous" in table.columns else whole


def _against(
    table: Table, key: Sequence[str], arrived: pl.DataFrame, stored: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows whose key nobody holds yet, contradictions) among rows that ``key`` identifies."""
    fresh = arrived.unique(subset=key, keep="first", maintain_order=True)
    known = stored
    if not stored.is_empty():
        known = stored.join(fresh, on=key, how="semi")
        fresh = fresh.join(stored, on=key, how="anti")
    rest = arrived.join(fresh, on="row", how="anti")
    if rest.is_empty():
        return fresh, _DISPUTED.to_frame()
    pairs = rest.join(pl.concat([known, fresh.drop("row")]), on=key, how="inner", suffix=_STORED)
    agreed = pairs.with_columns(_agrees(table, key).alias(":agrees"))
    contradictions = agreed.filter(~pl.col(":agrees").any().over("row")).unique("row", maintain_order=True)
    return fresh, contradictions.select(*_as_text(table, key))


def _agrees(table: Table, key: Sequence[str]) -> pl.Expr:
    """True where the two rows of a pair hold the same fact."""
    apart = {*key, *table.arrival, "clock", "is_ambiguous"}
    ours = pl.lit(False)
    if "clock" in table.columns:
        ours = ((pl.col("clock") == "receive") | (pl.col("clock" + _STORED) == "receive")).fill_null(False)

    def agree(name: str) -> pl.Expr:
        same = (pl.col(name) == pl.col(name + _STORED)).fill_null(True)
        return same | ours if name == table.time else same

    return pl.all_horizontal(pl.lit(True), *(agree(name) for name in table.columns if name not in apart))


def _as_text(table: Table, key: Sequence[str]) -> list[pl.Expr]:
    """The columns of ``disputed``."""
    held = [name if name in key else name + _STORED for name in table.columns]
    symbol = pl.col("symbol") if "symbol" in table.columns else pl.lit(None, pl.String)

    def told(name: str) -> pl.Expr:
        plain = name.removesuffix(_STORED)
        value = pl.col(name).bin.encode("hex") if table.columns[plain] == pl.Binary else pl.col(name)
        return value.alias(plain)  # JSON has no bytes

    return [
        symbol.alias("symbol"),
        pl.struct(key).struct.json_encode().alias("key"),
        pl.struct(told(name) for name in held).struct.json_encode().alias("stored"),
        pl.struct(told(name) for name in table.columns).struct.json_encode().alias("arrived"),
    ]
