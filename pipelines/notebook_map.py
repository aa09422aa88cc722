"""Notebook 02, where would liquidations cluster: the map of one symbol, its clusters, and what it rests on."""

import os
from dataclasses import replace
from datetime import UTC, datetime

import ipywidgets
import numpy as np
import polars as pl
from IPython.display import HTML, DisplayHandle, Markdown, display

from data.config import parse_utc
from data.lake import Lake, default_lake
from pipelines.cluster_data import mapped_sources
from pipelines.map_view import DAY, SHOWN_DAYS, Question, Seen, look, moment, of_leverage, tick_size
from pipelines.notebook_views import NOTHING, named, progress, show
from pipelines.report import Table
from research import formats, plots
from research.clusters.profiles import SOURCES
from research.clusters.raster import is_fresh
from research.clusters.tiers import MapConfig
from research.overlays import overlays as overlays_named
from research.plots.cluster_lives import ENDS, cluster_lives
from research.plots.style import Figure, for_notebook

SHOWN_CLUSTERS = 15
DAYS = (1, 3, 7, 14, 30, 60)
LINES = {  # over the candles
    "none": "",
    "EMA 20, 50 × 1 h": "ema_20_1h, ema_50_1h",
    "Bollinger 20 × 1 h": "bollinger_20_1h",
    "trend: EMA 9, 21 × 5 min": "ema_9_5m, ema_21_5m",
}
TIERS = (1, 3, 5, 10, 20, 25, 40, 50, 75, 100, 125)  # where the leverage filter may cut


def look_at(
    lake: str,
    symbol: str,
    source: str,
    start: str,
    end: str,
    leverage_low: float,
    leverage_high: float,
    colour: str,
    overlays: str = "",
) -> Seen:
    """Read a map from the lake, building what is missing of it; where there is no data, say so.

    Raises
    ------
    LookupError
        On a symbol that the lake has no open interest or liquidations of.
    ValueError
        On an unknown source, colour or overlay.
    """
    if colour not in ("usdt", "z"):
        raise ValueError(f"colour: expected usdt or z, got {colour!r}")
    return look(
        Question(
            folder=named(lake, default_lake()),
            symbol=symbol.strip().upper(),
            source=source.strip(),
            start=parse_utc(start) if start else None,
            end=parse_utc(end) if end else None,
            leverage_low=leverage_low,
            leverage_high=leverage_high,
            colour=colour,
            overlays=overlays_named(overlays),
        ),
        progress(),
    )


def whereabouts(seen: Seen) -> Markdown:
    """Which map is shown, or what to run where there is none."""
    if seen.map is None:
        return Markdown(
            f"No map: {seen.reason}. Record with `aster record`, or `aster import --format okx` a history of open "
            "interest; a seeded synthetic market is at hand: run `from pipelines.notebook_lake import synthetic_lake` "
            "and `lake = synthetic_lake()` in a cell of its own, then the cells from here on again."
        )
    key = seen.map.key
    told = "".join(f" {said}." for said in (*seen.map.substituted, *seen.map.late))
    return Markdown(
        f"`{seen.asked.folder}`: {key.symbol}, map of {key.source} on the prices of {key.venue}, id `{key.map_id}`, "
        f"{formats.moment(moment(seen.profiles.time_ms[0]))} to {formats.moment(moment(seen.profiles.time_ms[-1]))}."
        f"{told}"
    )


def explore(seen: Seen) -> Figure | Markdown | None:
    """The map; with controls above it where somebody can use them, which is in JupyterLab and not in a job."""
    if "JPY_SESSION_NAME" not in os.environ:
        return liquidation_map(seen)
    if not seen.symbols:
        return NOTHING
    place = DisplayHandle()
    controls = _controls(seen, place)._repr_mimebundle_() | {"text/plain": "The controls work while the kernel runs."}
    display(controls, raw=True)
    place.display(_stored(seen), raw=True)
    return None


def liquidation_map(seen: Seen) -> Figure | Markdown:
    """Mass at risk, clusters and realised liquidations."""
    if seen.map is None:
        return NOTHING
    return plots.plot_liquidation_map(
        seen.profiles,
        seen.bars,
        scale=seen.scale,
        tick_size=tick_size(seen),
        clusters=of_leverage(seen.map.clusters, seen.asked),
        events=seen.map.events,
        force_orders=seen.force_orders,
        overlays=seen.lines,
        colour=seen.asked.colour,
        note=" ".join(filter(None, (_filter_words(seen.asked), _missing_lines(seen)))),
    )


def active_clusters(seen: Seen) -> HTML | Markdown:
    """The active clusters of the last snapshot, nearest first."""
    if seen.map is None:
        return NOTHING
    active = of_leverage(seen.map.newest, seen.asked).filter("active").sort(pl.col("dist_bps").abs())
    tick = tick_size(seen)
    rows = tuple(
        (
            formats.count(row["cluster_id"]),
            "longs" if row["side"] == "long" else "shorts",
            f"{formats.price(row['price_lo'], tick)}\u00a0–\u00a0{formats.price(row['price_hi'], tick)}",
            formats.bps(row["dist_bps"]),
            formats.usdt(row["open_interest"] if row["open_interest"] is not None else row["mass_src_usd"]),
            formats.number(row["leverage_tier"], 0),
            formats.ratio(row["strength"]),
            formats.ratio(row["zscore"]),
            formats.percent(row["confidence"]),
            formats.age((row["ts"] - row["firstSeen"]).total_seconds()),
        )
        for row in active.head(SHOWN_CLUSTERS).iter_rows(named=True)
    )
    more = f"The nearest {len(rows)} of {active.height}. " if active.height > len(rows) else ""
    return show(
        Table(
            title=f"{_whose(seen)}: active clusters now",
            columns=(
                "id", "side", "price, USDT", "distance, bps", "at risk, USDT", "leverage", "strength", "z-score",
                "confidence", "age",
            ),
            align="rllrrrrrrr",
            rows=rows,
            note=(
                f"{more}At risk is a lower bound, of the source's open interest. Strength is the mass's rank among the "
                "symbol's last 7 days; a confidence is shown only once it is calibrated."
            ),
        )
    )  # fmt: skip


def ends(seen: Seen) -> HTML | Markdown:
    """What became of the clusters that were ever active in the range."""
    if seen.map is None:
        return NOTHING
    lives = cluster_lives(of_leverage(seen.map.clusters, seen.asked), seen.map.events)
    rows = []
    for side, whose in (("long", "longs, below the mark"), ("short", "shorts, above the mark")):
        own = lives.filter(pl.col("side") == side)
        if own.is_empty():
            continue
        hours = ((own["last"] - own["first"]).dt.total_seconds() / 3600.0).median()
        counts = [formats.count(int((own["state"] == state).sum())) for state in (*ENDS, "ACTIVE", "STALE")]
        broken = own.filter(pl.col("state") == "BROKEN")["realised_usd"]
        realised = formats.usdt(broken.sum()) if broken.count() else formats.UNKNOWN
        rows.append((whose, formats.count(own.height), *counts, formats.age(hours * 3600.0), realised))
    return show(
        Table(
            title=f"{_whose(seen)}: what became of the clusters that were active in this range",
            columns=(
                "side", "clusters", *(end.lower() for end in ENDS), "active", "lost", "median life",
                "realised in broken ones, USDT",
            ),
            align="lrrrrrrrrr",
            rows=tuple(rows),
            note=(
                "Broken: the mark went through an active cluster. Consumed: swept without a break. Faded: positions "
                "closed. Lost: no longer followed when the range or its data ended."
            ),
        )
    )  # fmt: skip


def rests_on(seen: Seen) -> HTML | Markdown:
    """How fresh and how complete the map is: what a reader must know before believing it."""
    if seen.map is None:
        return NOTHING
    profiles, key = seen.profiles, seen.map.key
    fresh = np.flatnonzero(is_fresh(profiles))
    last = fresh[-1] if len(fresh) else -1
    state = seen.map.oi_state.tail(1)
    age = state["age_s"][0] if state.height else None
    rows = [
        ("open interest of", f"{key.source}, one-sided: every contract has one long and one short"),
        ("open interest now", f"{formats.usdt(float(profiles.open_interest_usdt[last]))} USDT, {formats.age(age)} old"),
        ("inside the window now", f"{formats.percent(float(profiles.placed_share[last]))} of it; a lower bound"),
        ("fresh snapshots", f"{formats.percent(len(fresh) / len(profiles))} of {formats.count(len(profiles))}"),
        ("snapshots", f"every {key.settings.every_minutes} min, built up to {formats.moment(seen.map.until)}"),
        ("prices of", key.venue),
        ("leverage assumed", _tiers_words(key.settings.map)),
        (
            "colours frozen on",
            f"{formats.count(seen.scale.snapshots)} snapshots, {formats.moment(moment(seen.scale.start_ms))} to "
            f"{formats.moment(moment(seen.scale.end_ms))}",
        ),
    ]
    if profiles.basis_bps is not None:
        rows.append(("basis to the source now", f"{formats.bps(float(profiles.basis_bps[last]))} bps"))
    if key.source not in SOURCES:
        rows = [row for row in rows if row[0] not in ("open interest of", "open interest now", "inside the window now")]
    return show(
        Table(title=f"{_whose(seen)}: what the map rests on", columns=("what", "value"), align="ll", rows=tuple(rows))
    )


def map_sentence(seen: Seen) -> Markdown:
    """Where the nearest and the largest active clusters are."""
    if seen.map is None:
        return Markdown(f"**Nobody can say: {seen.reason}.**")
    key = seen.map.key
    newest = of_leverage(seen.map.newest, seen.asked).filter("active")
    parts = []
    for side, whose, where in (("long", "longs", "below"), ("short", "shorts", "above")):
        own = newest.filter(pl.col("side") == side)
        if own.is_empty():
            parts.append(f"no active cluster of {whose} {where}")
            continue
        near = own.row(int(own["dist_bps"].abs().arg_min()), named=True)
        parts.append(
            f"the nearest active cluster of {whose} lies {formats.number(abs(near['dist_bps']), 0)} bps {where} the "
            f"mark at {formats.price(near['price_level'], tick_size(seen))}"
        )
    lives = cluster_lives(seen.map.clusters, seen.map.events)
    broken = int((lives["state"] == "BROKEN").sum())
    return Markdown(
        f"**{key.symbol} by the open interest of {key.source}: {', '.join(parts)}; "
        f"{formats.count(broken)} of {formats.count(lives.height)} clusters that were active were broken. "
        "Notebook 03 says whether any of this predicts.**"
    )


def _whose(seen: Seen) -> str:
    """Controls move the map and not the tables: each says what it is of."""
    return f"{seen.map.key.symbol}, {seen.map.key.source}"


def _filter_words(asked: Question) -> str:
    if not asked.is_filtered:
        return ""
    high = f" to {asked.leverage_high:g}x" if asked.leverage_high else "x and more"
    return f"Only buckets and clusters whose mean leverage is {asked.leverage_low:g}{high}."


def _missing_lines(seen: Seen) -> str:
    drawn = seen.lines["label"].unique()
    missing = [overlay.label for overlay in seen.asked.overlays if overlay.label not in drawn]
    return f"Too few candles for {', '.join(missing)}." if missing else ""


def _tiers_words(config: MapConfig) -> str:
    shares = [f"{leverage:g}x {formats.percent(share, decimals=0)}" for leverage, share in
              zip(config.leverages, config.shares, strict=True)]  # fmt: skip
    return f"{', '.join(shares)} of what opens (a prior, not measured)"


def _stored(seen: Seen) -> dict:
    """The map, or why there is none, as a notebook stores it."""
    if seen.map is None:
        return {"text/markdown": f"No map: {seen.reason}."}
    return for_notebook(liquidation_map(seen))


def _controls(seen: Seen, place: DisplayHandle) -> ipywidgets.Widget:
    """Symbol, source, range, leverage, colour and lines; a change draws the map anew in its place.

    The map is an output of the cell and no part of these: it stays in a saved notebook, where they are gone.
    """
    asked, lake = seen.asked, Lake(seen.asked.folder)
    style = {"style": {"description_width": "64px"}, "layout": {"width": "256px"}}
    slider = style | {"continuous_update": False}
    symbol = ipywidgets.Dropdown(
        options=seen.symbols, value=asked.symbol or seen.symbols[0], description="symbol", **style
    )
    source = ipywidgets.Dropdown(options=_sources(lake, symbol.value), description="source", **style)
    if seen.map is not None:
        source.value = asked.source
    until = ipywidgets.DatePicker(
        value=asked.end.date() if asked.end else None,
        description="until",
        tooltip="the last day shown, UTC; empty is the end of the map",
        **style,
    )
    days = ipywidgets.SelectionSlider(options=DAYS, value=_days(asked), description="days", **slider)
    leverage = ipywidgets.SelectionRangeSlider(
        options=[(f"{tier}x", tier) for tier in TIERS],
        value=(_tier(asked.leverage_low or TIERS[0]), _tier(asked.leverage_high or TIERS[-1])),
        description="leverage",
        **slider,
    )
    colour = ipywidgets.Dropdown(
        options=[("USDT", "usdt"), ("unusual (σ)", "z")], value=asked.colour, description="colour", **style
    )
    offered = {words: overlays_named(names) for words, names in LINES.items()}
    if asked.overlays not in offered.values():
        offered[", ".join(overlay.label for overlay in asked.overlays)] = asked.overlays
    lines = ipywidgets.Dropdown(options=list(offered.items()), value=asked.overlays, description="lines", **style)
    state, failed = ipywidgets.Label(), ipywidgets.Output()

    def wanted() -> Question:
        low, high = leverage.value
        end = datetime(*until.value.timetuple()[:3], tzinfo=UTC) + DAY if until.value else asked.end
        return Question(
            folder=asked.folder,
            symbol=symbol.value,
            source=source.value,
            end=min(end, asked.end) if end and asked.end else end,
            days=days.value,
            leverage_low=low if low > TIERS[0] else 0.0,
            leverage_high=high if high < TIERS[-1] else 0.0,
            overlays=lines.value,
        )

    read = [(wanted(), seen)]

    def tell(what: str, done: int, total: int) -> None:
        state.value = f"{what}: {done} of {total}"

    def draw(_change: dict | None = None) -> None:
        state.value = "drawing"
        failed.clear_output()
        question = wanted()
        with failed:
            if read[0][0] != question:  # another colour is the same map
                read[:] = [(question, look(question, tell))]
            drawn = _stored(_in(read[0][1], colour.value))
            place.update({"text/markdown": ""}, raw=True)  # Plotly's renderer does not take a second figure
            place.update(drawn, raw=True)
        state.value = ""

    def offer(_change: dict) -> None:
        source.unobserve(draw, names="value")
        source.options = _sources(lake, symbol.value)
        source.observe(draw, names="value")
        draw()

    symbol.observe(offer, names="value")
    for control in (source, until, days, leverage, colour, lines):
        control.observe(draw, names="value")
    columns = {"grid_template_columns": "repeat(auto-fill, 264px)", "width": "800px", "max_width": "100%"}
    controls = ipywidgets.GridBox([symbol, source, until, days, leverage, colour, lines], layout=columns)
    return ipywidgets.VBox([ipywidgets.HBox([controls, state], layout={"flex_flow": "row wrap"}), failed])


def _sources(lake: Lake, symbol: str) -> list[tuple[str, str]]:
    return [("first with data", ""), *((source, source) for source in mapped_sources(lake, symbol))]


def _days(asked: Question) -> int:
    """The nearest of ``DAYS`` to the range that was asked for."""
    span = (asked.end - asked.start) / DAY if asked.start and asked.end else SHOWN_DAYS
    return min(DAYS, key=lambda days: abs(days - span))


def _tier(leverage: float) -> int:
    """The nearest of ``TIERS``."""
    return min(TIERS, key=lambda tier: abs(tier - leverage))


def _in(seen: Seen, colour: str) -> Seen:
    return replace(seen, asked=replace(seen.asked, colour=colour))
