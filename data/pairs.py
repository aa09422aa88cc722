"""One row out of the two that a pair of sockets brought, where their bytes differ but not what they say."""

import polars as pl

from data.table import Table


def merge_pairs(rows: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, int]:
    """(rows without further copies, how many of those there were).

    A copy has the key of an earlier row and says the same. Where it came on the other socket, the row keeps both
    arrivals: the earlier one as ``recv_time``, with its ``socket``, the later one as ``recv2_time``. A row that says
    something else stays: the lake makes a conflict of it.

    Parameters
    ----------
    rows : conform to the table, in the order of the log.
    """
    if "socket" not in rows.columns or rows["socket"].drop_nulls().n_unique() < 2:
        return rows, 0
    numbers = [name for name in table.key if not table.columns[name].is_(pl.String)]
    if not rows.select(
        pl.struct(numbers).is_duplicated().any()
    ).item():  # quicker than whole keys, and nearly always so
        return rows, 0
    numbered = rows.with_row_index("row")
    first = numbered.unique(table.key, keep="first", maintain_order=True)
    later = numbered.join(first, on="row", how="anti")
    pairs = later.join(first, on=table.key, suffix=":first")  # a null in the key is nobody's copy
    apart = {*table.key, *table.arrival, "clock"}
    says_the_same = [
        pl.col(name).eq_missing(pl.col(f"{name}:first")) for name in table.columns.names() if name not in apart
    ]
    copies = pairs.filter(*says_the_same)
    second = (
        copies.filter(pl.col("socket") != pl.col("socket:first"))
        .group_by("row:first")
        .agg(copy_time=pl.col("recv_time").min())
    )
    has_second = pl.col("copy_time").is_not_null() & pl.col("recv2_time").is_null()
    was_first = has_second & (pl.col("copy_time") < pl.col("recv_time"))
    merged = (
        numbered.join(copies, on="row", how="anti")
        .join(second, left_on="row", right_on="row:first", how="left", maintain_order="left")
        .with_columns(
            recv_time=pl.when(was_first).then("copy_time").otherwise("recv_time"),
            recv2_time=pl.when(was_first).then("recv_time").when(has_second).then("copy_time").otherwise("recv2_time"),
            socket=pl.when(was_first).then(1 - pl.col("socket")).otherwise("socket"),
        )
    )
    return merged.select(rows.columns), copies.height
