"""What ``aster explain`` shows: the causes, the trades behind them, and the page of both."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.explain_case import Evidence
from pipelines.report import Section, Table, Verdict, write_report
from research import formats, plots
from research.counterfactual import Account
from research.explanation import PER_USDT, Cause, Explained, Explanation

DECIMALS = 6  # all there are: what is shown adds up to the last digit
SHOWN_TRADES = 40
WHAT = {
    Cause.DATA: "bars, trades, quotes or marks were not heard, or had to be asked for",
    Cause.LATENCY: "they became known later, or orders arrived later",
    Cause.SIGNAL: "another decision on the same inputs, or one that the runner's gates kept back",
    Cause.MISSED_FILL: "an entry filled on one side only, or only in part",
    Cause.PRICE: "fills at another price at the same moment",
    Cause.ROUNDING: "another quantity or other levels of the exit orders",
    Cause.OPERATOR: "entries paused, positions closed by hand or by the runner's guards",
    Cause.EXIT_PATH: "an exit by another order, or at another moment",
    Cause.FEE: "other fees than the config's",
    Cause.FUNDING: "another funding payment",
}
NOT_MODELLED = (
    "queue position",
    "depth beyond the touch",
    "own market impact: what the model cannot see stands under price or exit path",
)


def usdt(amount: int) -> str:
    """Millionths of a USDT as text, all digits."""
    return formats.number(amount / PER_USDT, DECIMALS, signed=True)


def cause_rows(found: Explanation) -> list[dict[str, Any]]:
    """A row per cause that made a difference, and their sum, for a terminal."""
    rows = [
        {"cause": cause.value, "USDT": usdt(amount), "trades": _touched(found, cause), "what it was": WHAT[cause]}
        for cause, amount in found.causes.items()
        if _touched(found, cause)
    ]
    differing = sum(1 for trade in found.trades if trade.causes)
    total = {
        "cause": "all",
        "USDT": usdt(found.live - found.backtest),
        "trades": differing,
        "what it was": "live less backtest",
    }
    return [*rows, total]


def trade_rows(found: Explanation) -> list[dict[str, Any]]:
    """The trades that differ most, in order of entry, for a terminal."""
    return [
        {
            "trade": trade.trade_id,
            "entry, UTC": _entry(trade),
            "backtest, USDT": _net(trade.backtest),
            "live, USDT": _net(trade.live),
            "difference": usdt(trade.difference),
            "put down to": _causes(trade.causes),
        }
        for trade in _largest(found)
    ]


def to_json(found: Explanation) -> dict[str, Any]:
    """Every trade and every cause, USDT."""
    return {
        "backtest_usdt": found.backtest / PER_USDT,
        "live_usdt": found.live / PER_USDT,
        "difference_usdt": (found.live - found.backtest) / PER_USDT,
        "causes_usdt": {cause.value: amount / PER_USDT for cause, amount in found.causes.items()},
        "trades": [
            {
                "trade_id": trade.trade_id,
                "backtest": trade.backtest and trade.backtest._asdict(),
                "live": trade.live and trade.live._asdict(),
                "difference_usdt": trade.difference / PER_USDT,
                "causes_usdt": {cause.value: amount / PER_USDT for cause, amount in trade.causes.items()},
            }
            for trade in found.trades
        ],
    }


def sentence(found: Explanation) -> str:
    """The finding in words."""
    difference = found.live - found.backtest
    if not any(trade.causes for trade in found.trades):
        return f"live did what the backtest does: {formats.count(len(found.trades))} trades, to the last digit"
    largest = sorted(found.causes.items(), key=lambda each: -abs(each[1]))
    named = ", ".join(f"{cause} {usdt(amount)}" for cause, amount in largest if amount)
    return f"live earned {usdt(difference)} USDT against the backtest: {named or 'causes that cancel out'}"


def write_explanation(evidence: Evidence, found: Explanation, path: Path) -> Path:
    """Write the page and return its path."""
    past = evidence.past
    span = f"{formats.moment(_utc(past.first_ms))} to {formats.moment(_utc(past.end_ms))}"
    differing = [trade for trade in found.trades if trade.causes]
    sections = [Section(title="What the difference is put down to", tables=(_causes_table(found),))]
    if differing:
        sections.append(Section(title="Trade by trade", tables=(_trades_table(found),)))
    return write_report(
        path,
        title=f"{past.config.strategy} on {past.config.symbol}: why did live differ?",
        verdict=Verdict(
            headline=_headline(found),
            sentence=f"{past.mode} run {evidence.run}, {span}: {sentence(found)}.",
            key_numbers=(
                ("backtest, net USDT", usdt(found.backtest)),
                ("live, net USDT", usdt(found.live)),
                ("difference, USDT", usdt(found.live - found.backtest)),
                ("trades that differ", f"{formats.count(len(differing))} of {formats.count(len(found.trades))}"),
            ),
            figure=plots.plot_causes(
                found.backtest / PER_USDT,
                [(cause.value, amount / PER_USDT) for cause, amount in found.causes.items() if amount],
                title="From the backtest's net to the runner's, USDT",
            ),
        ),
        sections=sections,
        facts=[
            ("config", past.config.config_hash[:12]),
            ("backtest on", evidence.reference_name),
            ("method", "one input after the other is taken as it was live, and the whole run is traded again"),
        ],
        not_modelled=NOT_MODELLED,
    )


def _headline(found: Explanation) -> str:
    difference = found.live - found.backtest
    if not any(trade.causes for trade in found.trades):
        return "EQUAL: live and backtest made the same trades"
    return f"EXPLAINED: every millionth of {usdt(difference)} USDT has its cause"


def _touched(found: Explanation, cause: Cause) -> int:
    return sum(1 for trade in found.trades if cause in trade.causes)


def _causes_table(found: Explanation) -> Table:
    rows = tuple(tuple(str(value) for value in row.values()) for row in cause_rows(found))
    return Table(
        title="Causes, live less backtest",
        columns=("cause", "USDT", "trades", "what it was"),
        align="lrrl",
        rows=rows,
        note="Each cause with its consequences: an exit by hand leaves room for an entry that the backtest never made.",
    )


def _trades_table(found: Explanation) -> Table:
    shown = trade_rows(found)
    return Table(
        title=f"The {len(shown)} trades that differ most",
        columns=tuple(shown[0]),
        align="llrrrl",
        rows=tuple(tuple(row.values()) for row in shown),
    )


def _largest(found: Explanation) -> Sequence[Explained]:
    differing = [trade for trade in found.trades if trade.causes]
    kept = sorted(differing, key=lambda trade: -sum(map(abs, trade.causes.values())))[:SHOWN_TRADES]
    return [trade for trade in differing if trade in kept]


def _entry(trade: Explained) -> str:
    made = trade.live or trade.backtest
    return formats.UNKNOWN if made is None else f"{_utc(made.entry_ms):%d %b %H:%M:%S}"


def _net(account: Account | None) -> str:
    return (
        formats.UNKNOWN
        if account is None
        else f"{formats.number(account.net_usdt, DECIMALS, signed=True)} {account.reason}"
    )


def _causes(causes: Mapping[Cause, int]) -> str:
    return ", ".join(f"{cause} {usdt(amount)}" for cause, amount in causes.items())


def _utc(moment_ms: int) -> datetime:
    return datetime.fromtimestamp(moment_ms / 1_000, UTC)
