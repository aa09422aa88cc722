"""Report section on the statistical gate: what decides, what is only told, dearer costs and larger sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.paper_report import resolution_table
from pipelines.report import Section, Table
from research import formats
from research.gate import Finding

_SIGNS = {True: "holds", False: "fails", None: "not measured"}


def gate_section(findings: Sequence[Finding], judged: Mapping[str, Any]) -> Section:
    """Findings in words, and the record at other costs and sizes.

    Parameters
    ----------
    judged : what ``gate_job.judge_run`` wrote of the symbol.
    """
    return Section(
        title="Is it luck?",
        intro=f"The selection procedure {judged['verdict']}.",
        tables=(
            _findings("What decides", [one for one in findings if one.decides]),
            _findings("What is told beside it, and decides nothing", [one for one in findings if not one.decides]),
            *([resolution_table(judged["ticks"]["difference"])] if judged["ticks"] else []),
            _costs(judged["costs"]),
            _capacity(judged["capacity"]),
        ),
    )


def _findings(title: str, findings: Sequence[Finding]) -> Table:
    rows = tuple((one.name, one.value, one.limit, _SIGNS[one.passes], one.sentence) for one in findings)
    return Table(title=title, columns=("finding", "value", "limit", "result", "in words"), align="lrrll", rows=rows)


def _costs(rows: Sequence[Mapping[str, float]]) -> Table:
    return Table(
        title="The record if fees and slippage were higher",
        columns=("times the costs", "net, USDT", "trades"),
        align="rrr",
        rows=tuple(
            (f"{row['multiple']:g}", formats.usdt(row["net_pnl_usdt"], signed=True), formats.count(row["trades"]))
            for row in rows
        ),
    )


def _capacity(rows: Sequence[Mapping[str, Any]]) -> Table:
    lacking = [
        sentence
        for name, sentence in (
            ("within_touch", "No quantities were recorded at the best prices, so depth is not known. "),
            ("volume_share", "No volume was recorded. "),
        )
        if all(row[name] is None for row in rows)
    ]
    return Table(
        title="How much larger the orders could have been",
        columns=("times the size", "notional, USDT", "offered at the best price", "of the bar's volume"),
        align="rrrr",
        rows=tuple(
            (
                f"{row['multiple']:g}",
                formats.usdt(row["notional_usdt"]),
                formats.percent(row["within_touch"]),
                formats.percent(row["volume_share"], decimals=3),
            )
            for row in rows
        ),
        note="Share of entries whose notional stood at the best price when they were decided, and the median notional "
        f"over the volume of that bar. {''.join(lacking)}What an order moves beyond the best price is not modelled.",
    )
