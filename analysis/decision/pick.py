"""Chooses what to ship: the most general candidate that the best task fit cannot be told from, and its seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.candidates import SeedEval
from analysis.decision.choice import Chosen, choose, finalists
from analysis.decision.correction import PickRule, corrected_values
from analysis.decision.evidence import Contender, DrawnCandidates, evidence, row_array
from analysis.decision.judged import (
    Interval,
    Judged,
    gains,
    higher,
    interval_of_draws,
    judge,
    judged_without_rows,
    shows_gain,
)
from analysis.decision.pick_reasons import not_known, not_shared, would_change
from analysis.decision.settled import ACCEPTED, probability_of_change
from trainables.constraint import ROUNDING, Constraint
from trainables.pareto import Objective
from trainables.rows_needed import LEVEL

__all__ = ["LEVEL", "Contender", "Interval", "Judged", "Pick", "Shipped", "pick", "seed_of"]

NEAREST = 3


@dataclass(frozen=True)
class Shipped:
    """The seed of the picked candidate whose adapter is shipped; `admissible` is its own, not a new seed's.

    `reaches_level` is false where no seed of the candidate reaches the level on its own: the likeliest one is shipped.
    """

    chosen: SeedEval
    estimates: Mapping[str, Interval]
    admissible: float
    reaches_level: bool


@dataclass(frozen=True)
class Pick:
    """What to ship and why.

    `contenders` are all candidates in the order of the draws, and `judged` the same, best fit first. `best` has the
    best expected fit of those that show a gain over their baseline and are at the `level`; `alike` are those of them
    that it is not separable from, itself included, among which `picked` is the most general, then the cheapest. All
    three are empty where there is no such candidate: `nearest` then names those that miss by the fewest rows.
    `finalists` are those that more rows can make the pick. `changes` is the probability that endless rows and seeds
    lead to another pick, None where nothing is known by row. `corrected` is what the picked candidate is worth on other
    rows than those that chose it (bootstrap bias correction), by metric, empty where it is not known. `would_change`
    and `unknown` are sentences.
    """

    level: float
    fit: Objective
    generality: Objective
    contenders: tuple[Contender, ...]
    judged: tuple[Judged, ...]
    best: Judged | None
    alike: tuple[Judged, ...]
    picked: Judged | None
    shipped: Shipped | None
    nearest: tuple[Judged, ...]
    finalists: tuple[Judged, ...]
    changes: float | None
    corrected: Mapping[str, float]
    would_change: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def is_settled(self) -> bool:
        """Return whether more rows or seeds are unlikely to lead to another pick; False where that is not known."""
        return self.changes is not None and self.changes <= ACCEPTED


def pick(
    contenders: Sequence[Contender], fit: Objective, generality: Objective, constraint: Constraint,
    level: float = LEVEL, also: Sequence[str] = (), only: Collection[str] = (),
) -> Pick:  # fmt: skip
    """Choose among candidates.

    Args:
        contenders: every candidate of every arm, derived ones included: all of them count in the correction.
        fit: the task fit.
        generality: the metric of generality.
        constraint: what an eval must keep of the baseline's generality.
        level: the probability of meeting the constraint that a candidate must reach.
        also: further metrics to estimate.
        only: the names of the candidates that may be picked; all, if it is empty. The others count in the evidence.
    """
    names, rule = (fit.name, generality.name, *constraint.needs), PickRule(fit, generality, constraint, level, only)
    known = [one for one in contenders if has_rows(one, names)]
    unknown = [one for one in contenders if not has_rows(one, names)]
    others = [judged_without_rows(one, (*names, *also), fit, constraint) for one in unknown]
    found = evidence(known, names, constraint) if known else None
    judged = judge(found, fit, generality, constraint, also) if found else []
    choice = _choice(found, judged, rule) if found else None
    at = choice.picked if choice else None
    changes = probability_of_change(found, at, fit, constraint) if found else None
    return Pick(
        level=level, fit=fit, generality=generality, contenders=tuple(contenders),
        judged=_best_first([*judged, *others], fit),
        best=judged[choice.best] if choice else None,
        alike=tuple(judged[one] for one in choice.alike) if choice else (),
        picked=None if at is None else judged[at],
        shipped=_shipped(at, found, constraint, level) if found and at is not None else None,
        nearest=_nearest_misses([*judged, *others], fit, only) if at is None else (),
        finalists=_finalists(judged, choice, fit, level),
        changes=changes,
        corrected=corrected_values(found, judged, choice, rule) if found and choice else {},
        would_change=would_change(judged, choice, level, fit, generality, changes or 0.0),
        unknown=(*not_known(judged, others, level, constraint, at is not None), *not_shared(found, names[:2])),
    )  # fmt: skip


def seed_of(found: Pick, name: str, constraint: Constraint) -> Shipped | None:
    """Return the seed of a candidate by the rule for the pick's, whether it is picked or not; None without its rows."""
    names = (found.fit.name, found.generality.name, *constraint.needs)
    known = [one for one in found.contenders if has_rows(one, names)]
    at = next((at for at, one in enumerate(known) if one.candidate.name == name), None)
    return None if at is None else _shipped(at, evidence(known, names, constraint), constraint, found.level)


def has_rows(one: Contender, names: Sequence[str]) -> bool:
    """True when the candidate and its baseline have results by row of all these metrics."""
    if one.baseline is None:
        return False
    return all(name in each.rows for each in (*one.candidate.evals, *one.baseline.evals) for name in names)


def is_at_level(one: Judged, fit: Objective, level: float) -> bool:
    """True when a candidate may be picked: it shows a gain, and a new seed of it is admissible with the probability."""
    return shows_gain(one, fit) and (one.admissible or 0.0) >= level


def _best_first(judged: Sequence[Judged], fit: Objective) -> tuple[Judged, ...]:
    def order(one: Judged) -> tuple[float, str]:
        if fit.name not in one.estimates:
            return np.inf, one.name
        mean = one.estimates[fit.name].mean
        return (-mean if fit.direction == "higher" else mean), one.name

    return tuple(sorted(judged, key=order))


def _choice(found: DrawnCandidates, judged: Sequence[Judged], rule: PickRule) -> Chosen | None:
    at_level = np.array([is_at_level(one, rule.fit, rule.level) for one in judged])
    prices = [np.inf if one.parameters is None else one.parameters for one in found.contenders]
    return choose(
        higher(found.draws[rule.fit.name].expected, rule.fit),
        higher(found.draws[rule.generality.name].expected, rule.generality),
        at_level & rule.allows(found),
        np.array(prices),
    )


def _finalists(judged: Sequence[Judged], choice: Chosen | None, fit: Objective, level: float) -> tuple[Judged, ...]:
    means = higher(np.array([one.estimates[fit.name].mean for one in judged]), fit)
    admissible = np.array([one.admissible or 0.0 for one in judged])
    gaining = np.array([shows_gain(one, fit) for one in judged], dtype=bool)
    return tuple(judged[one] for one in finalists(choice, means, admissible, gaining, level))


def nearest_first(judged: Sequence[Judged], fit: Objective) -> list[Judged]:
    """Return the candidates that gain, those that miss the level by the least first.

    Those that show their gain come first, then those that miss by the fewest rows, then the likeliest.
    """
    gaining = [one for one in judged if one.rows_short is not None and gains(one, fit)]
    return sorted(gaining, key=lambda one: (not shows_gain(one, fit), one.rows_short or 0, -(one.admissible or 0.0)))


def _nearest_misses(judged: Sequence[Judged], fit: Objective, only: Collection[str]) -> tuple[Judged, ...]:
    among = [one for one in judged if not only or one.name in only]
    return tuple(nearest_first(among, fit)[:NEAREST])


def _shipped(at: int, found: DrawnCandidates, constraint: Constraint, level: float) -> Shipped:
    """Return the admissible seed of lowest eval loss; each seed is judged by its own rows alone."""
    candidate, baseline = found.contenders[at].candidate, found.contenders[at].baseline
    assert baseline is not None
    mine = []
    for each in candidate.evals:
        estimates, parts = {}, []
        for name, weights in found.weights.items():
            array = row_array([[each.rows[name]], [one.rows[name] for one in baseline.evals]])
            own = weights.on(found.arrays[name].rows, array.rows)
            draws = own.means(array.row_means[:1])[:, 0]
            estimates[name] = interval_of_draws(each.rows[name].mean, draws, array.is_proportion)
            limit = own.means_alone(array.row_means[1:])[:, 0]
            parts += [-one.excess(limit, draws) for one in constraint.allowances if one.metric == name]
        inside = np.min(parts, axis=0)
        mine.append((each, estimates, float((inside >= -ROUNDING).mean())))
    reaching = [one for one in mine if one[2] >= level]
    each, estimates, admissible = (
        min(reaching, key=lambda one: one[0].metrics["eval_loss"]) if reaching else max(mine, key=lambda one: one[2])
    )
    return Shipped(each, estimates, admissible, bool(reaching))
