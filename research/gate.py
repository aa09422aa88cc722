"""The statistical half of the promotion gate: from the numbers of a sweep to a verdict, in words.

Two questions decide. **Is there an edge?** The record is compared with what the same picks earn where there is nothing
to find (``research.placebos``): its rank, and its Sharpe against the best that so many tries without an edge would
show. Both hold at 5 % whatever the costs are. **Does it pay for its costs?** The probability that the true Sharpe after
costs is above zero. Everything else is told beside them and decides nothing, for a reason given with each.

What can be asked of the second question is bounded. A Sharpe of 3 over 90 days has an expected t of
3 * sqrt(90 / 365) = 1.49, so the most powerful test that lets a strategy which exactly earns its costs through in 5 %
of cases sees the edge in 44 % (``best_power``); to see it in 80 % any test must let the other through in 26 %, and in
more when days go to training. ``MIN_PAYS`` is what that leaves. The first question has no such bound: what is to be
told apart there differs by the costs too, which a strategy without an edge pays and earns nothing for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from research import formats
from research.overfitting import (
    NORMAL,
    Moments,
    Overfitting,
    deflated_sharpe,
    expected_best,
    periods_needed,
    probabilistic_sharpe,
)
from research.placebos import Placebo

MAX_RANK = 0.05  # share of placebos that may rank above the record
MIN_DEFLATED = 0.95
MIN_PAYS = 0.60
MIN_CALLBACK_RANGES = 1.0  # of the median bar; tighter trailing orders look better in bars than they are
MIN_PERIODS = 20  # of a record; fewer tell nothing about their own spread
MIN_HOLDOUT = 0.05  # how unlikely, given the record, a holdout may be
CONVINCING = 0.95  # level of what is told only
EVEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a sweep knows about one symbol's selection procedure. Sharpes are per period.

    Parameters
    ----------
    period : what returns are summed over, such as "day"; ``periods_per_year`` of them.
    record : of the walk-forward record's PnL per period.
    placebos : the record among its placebos, by kind.
    earlier_trials : configs that other searches evaluated on these days before this one.
    searched : of the best-ranked config over the rows that were searched; of nothing where none is ranked.
    trials, trial_variance : every config ever evaluated on these days, this search's included, and the variance of
        their Sharpes.
    overfitting, superior_p : None where there were too few periods or configs, or an optimiser chose the configs.
    stands_alone : True when a quarter of the best-ranked config's neighbourhood earned nothing in training; None where
        none is ranked.
    at_costs : rows of ``capacity.at_cost_multiples``.
    callback_ranges : smallest callback of its trailing orders over the median bar's range; None without any.
    tick_net_pnl_usdt : what the record earns trade by trade; None where trades were not recorded.
    rests : True when entries wait in the book.
    starved : where nothing was picked, what the strategy asked for and was hardly recorded (``completeness.starved``).
    """

    period: str
    periods_per_year: float
    record: Moments
    net_pnl_usdt: float
    trades: int
    placebos: tuple[Placebo, ...]
    earlier_trials: int
    searched: Moments
    trials: int
    trial_variance: float
    overfitting: Overfitting | None = None
    superior_p: float | None = None
    stands_alone: bool | None = False
    at_costs: tuple[dict[str, float], ...] = ()
    callback_ranges: float | None = None
    tick_net_pnl_usdt: float | None = None
    rests: bool = False
    starved: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number against its limit, and what it says.

    Parameters
    ----------
    passes : None when it could not be measured, which is not a pass.
    decides : False for what is told only.
    """

    name: str
    value: str
    limit: str
    passes: bool | None
    decides: bool
    sentence: str

    def __post_init__(self) -> None:
        if self.passes is not None:  # comparing NumPy's numbers gives no bool, and JSON would store its text
            object.__setattr__(self, "passes", bool(self.passes))


def judge(evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding; those that decide come first."""
    return (*deciding(evidence), *told(evidence))


def passes(findings: Sequence[Finding]) -> bool:
    """True when every finding that decides is a pass."""
    return all(finding.passes is True for finding in findings if finding.decides)


def verdict(findings: Sequence[Finding]) -> str:
    """The statistical verdict in a sentence."""
    against = [finding for finding in findings if finding.decides and finding.passes is not True]
    if not against:
        return "passes the statistical gate: the record is better than luck and pays for its costs"
    return "fails the statistical gate: " + "; ".join(finding.sentence for finding in against)


def deciding(evidence: Evidence) -> list[Finding]:
    """Is there an edge, and does it pay for its costs?"""
    record, year = evidence.record, math.sqrt(evidence.periods_per_year)
    too_short = record.n_periods < MIN_PERIODS or math.isnan(record.sharpe)
    pays = math.nan if too_short else probabilistic_sharpe(record)
    findings = [
        Finding(
            name="pays for its costs",
            value=_share(pays),
            limit=f"≥ {MIN_PAYS:.2f}",
            passes=None if too_short else pays >= MIN_PAYS,
            decides=True,
            sentence=f"{record.n_periods} {evidence.period}s of record are too few to tell, {MIN_PERIODS} are needed"
            if too_short
            else f"the record's Sharpe of {formats.ratio(record.sharpe * year)} after costs, of {record.n_periods} "
            f"{evidence.period}s, is above zero with probability {pays:.2f}",
        )
    ]
    findings += [_luck(evidence, too_short)]
    for placebo in evidence.placebos:
        among = len(placebo.sharpes) + 1
        findings.append(
            Finding(
                name=f"rank among {placebo.kind} data",
                value=f"{placebo.rank} of {among}",
                limit=f"≤ {math.floor(MAX_RANK * among)}",
                passes=placebo.p_value <= MAX_RANK,
                decides=True,
                sentence=f"the record ranks {placebo.rank} among {among} on {placebo.kind} data, where there is "
                "nothing to find",
            )
        )
    if not evidence.placebos:
        findings.append(
            Finding(
                name="rank among placebos",
                value=formats.UNKNOWN,
                limit=f"≤ {MAX_RANK:.0%}",
                passes=None,
                decides=True,
                sentence="; ".join(("nothing was picked, so there is no record to compare", *evidence.starved)),
            )
        )
    if evidence.callback_ranges is not None:
        findings.append(_fills(evidence.callback_ranges, evidence.tick_net_pnl_usdt))
    if evidence.rests:
        findings.append(_rested(evidence.tick_net_pnl_usdt))
    return findings


def _rested(tick_net_pnl_usdt: float | None) -> Finding:
    """Do entries that rest earn by the trades that fill them? Bars leave some out, the better or the worse ones."""
    value, sentence = formats.UNKNOWN, "bars cannot tell which resting entries are filled, and no trades were recorded"
    if tick_net_pnl_usdt is not None:
        earned = formats.usdt(tick_net_pnl_usdt, signed=True)
        value, sentence = f"{earned} USDT at ticks", f"filled trade by trade the record earns {earned} USDT"
    return Finding(
        name="entries that rest",
        value=value,
        limit="net > 0 at ticks",
        passes=None if tick_net_pnl_usdt is None else tick_net_pnl_usdt > 0.0,
        decides=True,
        sentence=sentence,
    )


def _fills(callback_ranges: float, tick_net_pnl_usdt: float | None) -> Finding:
    """Can bars tell what the trailing orders got? Trades can, where they were recorded."""
    name, sentence = "trailing orders at bar resolution", "callbacks are as wide as a bar: bars do not flatter them"
    limit = f"callback ≥ {MIN_CALLBACK_RANGES:.1f} bar ranges, or net > 0 at ticks"
    value, is_sound = f"{callback_ranges:.2f} bar ranges", True
    if tick_net_pnl_usdt is not None:
        value, is_sound = f"{formats.usdt(tick_net_pnl_usdt, signed=True)} USDT at ticks", tick_net_pnl_usdt > 0.0
        sentence = f"trade by trade the record earns {formats.usdt(tick_net_pnl_usdt, signed=True)} USDT"
        is_sound = is_sound or callback_ranges >= MIN_CALLBACK_RANGES
    elif callback_ranges < MIN_CALLBACK_RANGES:
        is_sound = None
        sentence = (
            f"a callback of {callback_ranges:.2f} times the median bar's range is flattered by bars, and no trades "
            "were recorded that could tell by how much: record trades, or widen callback_bps"
        )
    return Finding(name=name, value=value, limit=limit, passes=is_sound, decides=True, sentence=sentence)


def _luck(evidence: Evidence, too_short: bool) -> Finding:
    """The record against the best of as many tries without an edge.

    A search on fresh days counts as one try: it picks on train rows, and the record is made of others. Every config
    that an earlier search evaluated on these days counts as one more, for its result was seen and may have led here.
    """
    tries = 1 + evidence.earlier_trials
    lucky = [value for placebo in evidence.placebos for value in placebo.sharpes]
    deflated, best = math.nan, math.nan
    if lucky and not too_short:
        mean = sum(lucky) / len(lucky)
        variance = sum((value - mean) ** 2 for value in lucky) / len(lucky)
        best = expected_best(tries, mean, variance)
        deflated = deflated_sharpe(evidence.record, n_trials=tries, mean=mean, variance=variance)
    earlier = "one try"
    if evidence.earlier_trials:
        earlier = f"{formats.count(evidence.earlier_trials)} configs tried before on these days"
    return Finding(
        name="deflated Sharpe, out of sample",
        value=_share(deflated),
        limit=f"> {MIN_DEFLATED:.2f}",
        passes=None if math.isnan(deflated) else deflated > MIN_DEFLATED,
        decides=True,
        sentence="the record could not be compared with luck"
        if math.isnan(deflated)
        else f"the true Sharpe is above the {formats.ratio(best * math.sqrt(evidence.periods_per_year))} that luck "
        f"shows after costs ({earlier}) with probability {deflated:.2f}",
    )


def told(evidence: Evidence) -> list[Finding]:
    """What a reader should know and what cannot decide."""
    record, searched = evidence.record, evidence.searched
    needed = periods_needed(record)
    deflated = deflated_sharpe(searched, n_trials=evidence.trials, variance=evidence.trial_variance)
    split, p = evidence.overfitting, evidence.superior_p
    return [
        Finding(
            name="deflated Sharpe of the best config, in sample",
            value=_share(deflated),
            limit=f"> {CONVINCING:.2f}",
            passes=None if math.isnan(deflated) else deflated > CONVINCING,
            decides=False,
            sentence="its Sharpe against the best that luck would show in as many configs as were ever tried on these "
            f"days, {formats.count(evidence.trials)}; a selection on other rows is not credited, and even 90 days are "
            "too short for it",
        ),
        Finding(
            name="record needed for 95 %",
            value=f"{formats.count(needed)} {evidence.period}s"
            if math.isfinite(needed)
            else formats.UNKNOWN
            if math.isnan(record.sharpe)
            else "none is enough",
            limit=f"≤ {record.n_periods}",
            passes=None if math.isnan(record.sharpe) else needed <= record.n_periods,
            decides=False,
            sentence="how long this Sharpe must last until it is above zero beyond doubt",
        ),
        Finding(
            name="probability of overfitting",
            value=_share(split.probability if split else math.nan),
            limit="< 0.20",
            passes=split.probability < 0.2 if split else None,
            decides=False,
            sentence="how often the pick of one half of the days is below the median on the other half: one half "
            "where all configs are alike, little where costs alone order them",
        ),
        Finding(
            name="probability that a pick loses",
            value=_share(split.loss if split else math.nan),
            limit="< 0.50",
            passes=split.loss < EVEN if split else None,
            decides=False,
            sentence="how often the pick of one half of the days loses on the other half",
        ),
        Finding(
            name="superior ability, p",
            value=_share(math.nan if p is None else p),
            limit="< 0.05",
            passes=None if p is None or math.isnan(p) else p < 1.0 - CONVINCING,
            decides=False,
            sentence="how often the best of so many configs that only pay their costs would do as well (Hansen)",
        ),
        Finding(
            name="neighbours of the best config",
            value={True: "alone", False: "agree", None: formats.UNKNOWN}[evidence.stands_alone],
            limit="agree",
            passes=None if evidence.stands_alone is None else not evidence.stands_alone,
            decides=False,
            sentence="a config whose neighbours lose in training is luck",
        ),
        *(
            Finding(
                name=f"net PnL at {row['multiple']:g} times the costs, USDT",
                value=formats.usdt(row["net_pnl_usdt"], signed=True),
                limit="> 0",
                passes=row["net_pnl_usdt"] > 0.0,
                decides=False,
                sentence="fees and slippage are estimates",
            )
            for row in evidence.at_costs
            if row["multiple"] > 1.0
        ),
    ]


def holdout_finding(
    record_pnl: Sequence[float], holdout_pnl: float, n_periods: int, opening: int, searches: int = 0
) -> Finding:
    """Does the holdout look like the record? Decides at promotion.

    A holdout is short, so it cannot prove an edge: it can show that the record was not one. It fails when its PnL is
    lower than ``MIN_HOLDOUT`` of what as many periods of the record would earn, normal by their mean and deviation, or
    when other eyes have seen it before. Without a record it cannot pass.

    Parameters
    ----------
    opening : which opening of these days it is, from 1 on.
    searches : that ran over some of these days before the opening.
    """
    n = len(record_pnl)
    chance = math.nan
    if n:
        mean = sum(record_pnl) / n
        deviation = math.sqrt(sum((value - mean) ** 2 for value in record_pnl) / n)
        # The record's own mean is known as well as its length allows.
        spread = deviation * math.sqrt(n_periods + n_periods**2 / n)
        chance = NORMAL.cdf((holdout_pnl - n_periods * mean) / spread) if spread > 0.0 else float(holdout_pnl >= 0.0)
    likeness = f"a record like this one earns less with probability {chance:.2f}"
    if not n:
        likeness = "nothing was picked, so there is no record to compare it with"
    seen = f"; this is opening number {opening}: it is no longer unseen" if opening > 1 else ""
    if searches:
        seen += f"; searches that saw some of these days before: {formats.count(searches)}"
    return Finding(
        name="holdout",
        value=_share(chance),
        limit=f"≥ {MIN_HOLDOUT:.2f}, first opening",
        passes=chance >= MIN_HOLDOUT and opening == 1 and not searches if n else None,
        decides=True,
        sentence=f"the holdout earned {formats.usdt(holdout_pnl, signed=True)} USDT; {likeness}{seen}",
    )


def best_power(sharpe: float, days: float, size: float) -> float:
    """Power of the most powerful test of an annual Sharpe against zero after ``days``, at this size.

    Neyman and Pearson: for returns of known deviation the test on their mean, whose t is ``sharpe`` times the root of
    the years.
    """
    return NORMAL.cdf(sharpe * math.sqrt(days / 365.0) - NORMAL.inv_cdf(1.0 - size))


def least_size(sharpe: float, days: float, power: float) -> float:
    """Smallest size at which any test has this power; the inverse of ``best_power``."""
    return 1.0 - NORMAL.cdf(sharpe * math.sqrt(days / 365.0) - NORMAL.inv_cdf(power))


def _share(value: float) -> str:
    return formats.UNKNOWN if math.isnan(value) else f"{value:.2f}"
