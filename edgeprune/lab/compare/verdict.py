"""What a comparison says: which rows are on the front, which one to deploy, and whether a pruned one pays.

Each of MEASURES is asked by itself, of the rows of each precision and engine, and of all of them together, where every row
counts in its best one. Accuracy is the mean over the seeds, latency the median frame. Differences are paired by seed; two rows
are told apart where the mean difference is larger than the distance between its extremes (of three seeds: under one chance in
ten of seeing that where there is none). Rows may have fewer seeds than dense: a difference is then of those that both have.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from edgeprune.base.statistics import Extremes, extremes, pareto_front
from edgeprune.bundle import DENSE
from edgeprune.lab.compare.comparison import MEASURES, ComparedRow, Kind, Limits, Measure, TimingRun
from edgeprune.lab.compare.controls import add_controls


@dataclass(frozen=True)
class Gap:
    """What one row has of a measure less what another one has, in points, paired by the seeds that both have.

    Attributes:
        points: the mean.
        spread: the extremes.
        apart: whether the spread tells the two rows apart; None with one seed in common, which has none.
    """

    points: float
    spread: Extremes
    apart: bool | None


@dataclass(frozen=True)
class Standing:
    """A row as a verdict names it, and what it has of the measure: the mean and the extremes over seeds, 0 to 1."""

    row: str
    kind: Kind
    precision: str
    engine: str
    p50_ms: float
    p95_ms: float
    value: float
    spread: Extremes
    bundle: str | None


@dataclass(frozen=True)
class Choice:
    """The row to deploy.

    Attributes:
        under: what it has less than the dense row.
        level: rows that the spread of seeds doesn't tell from it: at a stated latency those that are as accurate; at a stated
            accuracy faster ones that miss it by less than their seeds lie apart.
    """

    chosen: Standing
    under: Gap
    level: list[str]


@dataclass(frozen=True)
class Payoff:
    """Whether pruning pays: it does not where for every pruned row a dense one or a peer is as fast, and at least as good.

    Attributes:
        rows: the pruned rows for which there is none.
        best: the pruned row that leads by the most or loses by the least.
        control: the best of what is as fast as that one; None: nothing is.
        lead: its points over that one.
    """

    rows: list[str]
    best: Standing
    control: Standing | None
    lead: Gap | None


@dataclass(frozen=True)
class Verdict:
    """What one measure says of the rows of a precision and engine; of all rows where these are None.

    Attributes:
        measure: a key of MEASURES.
        at_points: the fastest row that is at most so many points under dense, in its best precision.
        at_latency: the best row that takes at most so long; None: no latency was stated, or no row is as fast.
        payoff: None: no pruned row was timed.
    """

    precision: str | None
    engine: str | None
    measure: Measure
    at_points: Choice
    at_latency: Choice | None
    payoff: Payoff | None


@dataclass(frozen=True)
class Comparison:
    """A comparison: `plan` as in YAML, how it was timed, what a row to deploy may cost, what is said of the rows, and these."""

    plan: dict[str, Any]
    timing: TimingRun
    limits: Limits
    verdicts: list[Verdict]
    rows: list[ComparedRow]


def conclude(plan: dict[str, Any], timing: TimingRun, rows: Sequence[ComparedRow], limits: Limits) -> Comparison:
    """What rows that were measured say."""
    marked = with_fronts(add_controls(rows))
    return Comparison(plan, timing, limits, judge(marked, limits), marked)


def judge(rows: Sequence[ComparedRow], limits: Limits) -> list[Verdict]:
    """The verdicts by every measure that the dense row has: of each precision and engine, and, if there are several, of all."""
    found = []
    for (precision, engine), group in _groups(rows).items():
        for measure in MEASURES:
            measured = [row for row in group if measure in row.by_seed]
            if any(row.row == DENSE for row in measured):
                at_points = fastest_within(measured, measure, limits.points)
                at_latency = None if limits.latency_ms is None else best_within(measured, measure, limits.latency_ms)
                payoff = pays(measured, measure)
                found.append(Verdict(precision, engine, measure, at_points, at_latency, payoff))
    return found


def _groups(rows: Sequence[ComparedRow]) -> dict[tuple[str | None, str | None], list[ComparedRow]]:
    """The rows that have times, by precision and engine; last, where there are several of these, all of them."""
    timed = [row for row in rows if row.latency_ms is not None]
    groups: dict[tuple[str | None, str | None], list[ComparedRow]] = {}
    for row in timed:
        groups.setdefault(row.key, []).append(row)
    return groups if len(groups) < 2 else {**groups, (None, None): timed}


def with_fronts(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """The rows, each with the measures by which no other is as fast and as good: of its precision and engine, and of all."""
    timed = [row for row in rows if row.latency_ms is not None]
    marked = []
    for row in rows:
        alike = [each for each in timed if each.key == row.key]
        fronts, of_all = ([name for name in MEASURES if _on_front(row, group, name)] for group in (alike, timed))
        marked.append(replace(row, fronts=fronts, fronts_of_all=of_all))
    return marked


def _on_front(row: ComparedRow, group: Sequence[ComparedRow], measure: Measure) -> bool:
    if row.latency_ms is None or measure not in row.by_seed:
        return False
    points = [(_p50(each), _mean(each, measure)) for each in group if measure in each.by_seed]
    return (_p50(row), _mean(row, measure)) in pareto_front(points)


def fastest_within(rows: Sequence[ComparedRow], measure: Measure, points: float) -> Choice:
    """The fastest row that is at most `points` under dense: dense itself where nothing else is."""
    dense = max((row for row in rows if row.row == DENSE), key=lambda row: _mean(row, measure))
    under = {id(row): gap(dense, row, measure) for row in rows}
    fit = [row for row in rows if under[id(row)].points <= points]
    chosen = min(fit, key=lambda row: (_p50(row), -_mean(row, measure)))
    faster = [row for row in rows if _p50(row) < _p50(chosen) and under[id(row)].apart is not None]
    close = [row for row in faster if under[id(row)].points - points <= _width(under[id(row)].spread)]
    return Choice(_standing(chosen, measure), under[id(chosen)], _names(close, chosen))


def best_within(rows: Sequence[ComparedRow], measure: Measure, latency_ms: float) -> Choice | None:
    """The row with the most of a measure that takes at most `latency_ms`; None where none is as fast."""
    dense = max((row for row in rows if row.row == DENSE), key=lambda row: _mean(row, measure))
    fit = [row for row in rows if _p50(row) <= latency_ms]
    if not fit:
        return None
    chosen = max(fit, key=lambda row: (_mean(row, measure), -_p50(row)))
    level = [row for row in fit if gap(chosen, row, measure).apart is False]
    return Choice(_standing(chosen, measure), gap(dense, chosen, measure), _names(level, chosen))


class _Lead(NamedTuple):
    """A pruned row, the best dense row or peer that is at least as fast, and its points over that one; None: there is none."""

    row: ComparedRow
    control: ComparedRow | None
    over: Gap | None


def pays(rows: Sequence[ComparedRow], measure: Measure) -> Payoff | None:
    """Whether a pruned row has more of a measure than every dense row and peer that is at least as fast."""
    leads = []
    for row in (row for row in rows if row.kind == "pruned"):
        as_fast = [each for each in rows if each.kind != "pruned" and _p50(each) <= _p50(row)]
        control = max(as_fast, key=lambda each: (_mean(each, measure), -_p50(each)), default=None)
        leads.append(_Lead(row, control, gap(row, control, measure) if control else None))
    if not leads:
        return None
    ahead = [lead for lead in leads if lead.over is None or lead.over.points > 0]
    best = max(ahead or leads, key=lambda lead: (lead.over.points if lead.over else 0, _mean(lead.row, measure)))
    control_standing = _standing(best.control, measure) if best.control else None
    names = list(dict.fromkeys(lead.row.row for lead in ahead))
    return Payoff(names, _standing(best.row, measure), control_standing, best.over)


def gap(row: ComparedRow, other: ComparedRow, measure: Measure) -> Gap:
    """What `row` has more than `other`, without what is but the rounding of floats."""
    pairs = zip(row.by_seed[measure], other.by_seed[measure], strict=False)  # of the seeds that both have
    over = [round(100 * (ours - theirs), 6) + 0.0 for ours, theirs in pairs]
    points, spread = round(statistics.mean(over), 6), extremes(over)
    return Gap(points, spread, abs(points) > _width(spread) if len(over) > 1 else None)


def _standing(row: ComparedRow, measure: Measure) -> Standing:
    assert row.latency_ms is not None and row.engine is not None  # rows without times are not judged
    taken, spread = row.latency_ms, extremes(row.by_seed[measure])
    where = (row.precision, row.engine, taken.p50, taken.p95)
    return Standing(row.row, row.kind, *where, _mean(row, measure), spread, row.bundle)


def _names(rows: Sequence[ComparedRow], but: ComparedRow) -> list[str]:
    return [name for name in dict.fromkeys(row.row for row in rows) if name != but.row]


def _mean(row: ComparedRow, measure: Measure) -> float:
    return statistics.mean(row.by_seed[measure])


def _width(spread: Extremes) -> float:
    return spread.most - spread.least


def _p50(row: ComparedRow) -> float:
    assert row.latency_ms is not None
    return row.latency_ms.p50
