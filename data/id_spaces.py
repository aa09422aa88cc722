"""Two kinds of trade id in one column: which row is an aggregate, which a single fill.

The prior collector starts by writing the last 100 trades of REST ``/trades`` (raw trade ids) and then appends what the
``aggTrade`` stream sends (aggregate ids) to the same column of the same file. The wire says nothing about which is
which, so a row is placed only where its id and time prove it. Two facts carry the proof:

- in either space a later trade never has a lower id;
- an aggregate holds at least one fill, so at any moment the latest raw id is at least the latest aggregate id.

Take two rows where the later one has the lower id. They cannot share a space, and the later one cannot be the raw one:
raw ids had already passed it when the earlier row, then an aggregate, was printed. So **the later, lower id is an
aggregate and the earlier, higher id is a raw trade**. No jump size, no threshold.

Both facts were checked on every recording at hand: where the fills of one aggregate are found in both spaces (179
aggregates of several fills in USD1USDT, 34 in the dirty BNBUSDT file), they never sum to more than the aggregate.
"""

import numpy as np
import polars as pl

SEED_ROWS = 100  # REST /trades asks for this many at every start
STREAM_RUN_ROWS = 1_000  # more consecutive ids than ten starts in a row could seed: only the stream writes such a run
ORDER_MARGIN_MS = 1_000  # rows closer than this prove nothing about each other: clocks jitter

SPACE = pl.Enum(["aggregate", "raw"])


def id_spaces(trades: pl.DataFrame) -> pl.DataFrame:
    """The rows with the id space each belongs to, and whether that is proven.

    What one row of a run proves holds for the whole run: consecutive ids on consecutive lines come from one source.
    A run without proof is

    - an aggregate run where it is longer than ten seeds together (``STREAM_RUN_ROWS``);
    - otherwise raw and ambiguous, if the rows show that raw trades are among them. Raw trades enter neither bars nor
      gap detection, so a wrong doubt costs a visible hole and never a trade counted twice;
    - otherwise an aggregate run, for nothing hints at a second space; ambiguous if it is exactly one seed long.

    A run with proof of both kinds is raw and ambiguous.

    Parameters
    ----------
    trades : columns ``id`` (Int64), ``event_ms`` (Int64) and ``file`` (any; a run ends where it changes), in the order
        they were written. No nulls.

    Returns
    -------
    The same rows in the same order, with ``space`` (aggregate, raw) and ``is_ambiguous`` added.
    """
    runs = trades.with_columns(
        run=((pl.col("id") != pl.col("id").shift() + 1) | (pl.col("file") != pl.col("file").shift()))
        .fill_null(True)
        .cum_sum()
    )
    witness = runs.select(
        # a row whose time disagrees with its own run may carry a damaged time: it must not testify about others
        (pl.col("event_ms") == pl.col("event_ms").cum_max().over("run"))
        & (pl.col("event_ms") == pl.col("event_ms").cum_min(reverse=True).over("run"))
    ).to_series()
    is_later_lower, is_earlier_higher = _order_proofs(
        runs["id"].to_numpy(), runs["event_ms"].to_numpy(), witness.to_numpy()
    )
    rows = pl.len().over("run")
    proves_aggregate = pl.Series("proves_aggregate", is_later_lower)
    proves_raw = pl.Series("proves_raw", is_earlier_higher)
    judged = runs.with_columns(proves_aggregate, proves_raw).with_columns(
        rows=rows,
        proves_aggregate=pl.col("proves_aggregate").any().over("run") | (rows >= STREAM_RUN_ROWS),
        proves_raw=pl.col("proves_raw").any().over("run") & (rows < STREAM_RUN_ROWS),
    )
    proven = pl.col("proves_aggregate") != pl.col("proves_raw")
    is_mixed = judged.select((pl.col("proves_raw") & proven).any()).item() or False
    unproven_space = pl.lit("raw") if is_mixed else pl.lit("aggregate")
    contradicted = pl.col("proves_aggregate") & pl.col("proves_raw")
    return judged.with_columns(
        space=pl.when(contradicted).then(pl.lit("raw"))
        .when(pl.col("proves_aggregate")).then(pl.lit("aggregate"))
        .when(pl.col("proves_raw")).then(pl.lit("raw"))
        .otherwise(unproven_space).cast(SPACE),
        is_ambiguous=contradicted | (~proven & (pl.lit(is_mixed) | (pl.col("rows") == SEED_ROWS))),
    ).drop("run", "rows", "proves_aggregate", "proves_raw")  # fmt: skip


def _order_proofs(ids: np.ndarray, event_ms: np.ndarray, witness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row: is there a witness clearly earlier with a higher id; is there one clearly later with a lower id.

    Only witnesses are judged, too: a damaged time proves nothing about its own row either.
    """
    later_lower = np.zeros(len(ids), bool)
    earlier_higher = np.zeros(len(ids), bool)
    order = np.flatnonzero(witness)[np.argsort(event_ms[witness], kind="stable")]
    if not len(order):
        return later_lower, earlier_higher
    ms, sorted_ids = event_ms[order], ids[order]
    highest_so_far = np.maximum.accumulate(sorted_ids)
    lowest_from_here = np.minimum.accumulate(sorted_ids[::-1])[::-1]
    earlier = np.searchsorted(ms, ms - ORDER_MARGIN_MS, side="left")  # rows [0, earlier) are clearly before
    later = np.searchsorted(ms, ms + ORDER_MARGIN_MS, side="right")  # rows [later, n) are clearly after
    later_lower[order] = (earlier > 0) & (highest_so_far[np.maximum(earlier - 1, 0)] > sorted_ids)
    earlier_higher[order] = (later < len(ms)) & (lowest_from_here[np.minimum(later, len(ms) - 1)] < sorted_ids)
    return later_lower, earlier_higher


def id_space_switches(spaces: pl.DataFrame) -> int:
    """How often the id space changes from one line of a file to the next. Columns: ``space``, ``file``."""
    changed = (pl.col("space") != pl.col("space").shift()) & (pl.col("file") == pl.col("file").shift())
    return spaces.select(changed.sum()).item()


def repeated_aggregates(spaces: pl.DataFrame) -> pl.Series:
    """Per row, the aggregate that a raw trade repeats; null for aggregates and for raw trades that repeat none.

    A raw trade repeats an aggregate when it is the whole of it: same time, side, price and quantity. A fill that is
    only a part of a recorded aggregate has a smaller quantity and is not a repetition. Where equal fills meet equal
    aggregates in one millisecond they pair in id order, one to one, so an aggregate is never repeated twice.

    Parameters
    ----------
    spaces : columns ``id``, ``event_ms``, ``price``, ``quantity``, ``is_buyer_maker``, ``space``, ``is_ambiguous``; one
        symbol, every id of a space once. Ambiguous rows repeat nothing and are repeated by nothing.

    Returns
    -------
    Int64 ``repeats_agg_trade_id``, in the order of the rows.
    """
    content = ["event_ms", "price", "quantity", "is_buyer_maker"]
    rows = spaces.with_row_index("row")
    sure = rows.filter(~pl.col("is_ambiguous")).sort("id")
    sure = sure.with_columns(turn=pl.int_range(pl.len()).over([*content, "space"]))
    aggregates = sure.filter(pl.col("space") == "aggregate").select(*content, "turn", repeats_agg_trade_id="id")
    pairs = sure.filter(pl.col("space") == "raw").join(aggregates, on=[*content, "turn"], how="inner")
    return (
        rows.select("row")
        .join(pairs.select("row", "repeats_agg_trade_id"), on="row", how="left", maintain_order="left")
        .get_column("repeats_agg_trade_id")
    )
