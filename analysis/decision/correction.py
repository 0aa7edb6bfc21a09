"""What a pick is worth on rows that did not choose it: the choice is repeated on resampled rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.decision.admissibility import room
from analysis.decision.choice import Chosen, corrected, slack
from analysis.decision.evidence import DrawnCandidates
from analysis.decision.judged import Judged, higher, minimum_gain
from analysis.decision.pooled import weighted_mean
from trainables.constraint import ROUNDING, Constraint
from trainables.pareto import Objective


@dataclass(frozen=True)
class PickRule:
    """What a candidate is picked by; `only` names those that may be picked, all if it is empty."""

    fit: Objective
    generality: Objective
    constraint: Constraint
    level: float
    only: Collection[str] = ()

    def allows(self, found: DrawnCandidates) -> np.ndarray:
        """Return which contenders may be picked, (contenders,)."""
        return np.array([not self.only or one.candidate.name in self.only for one in found.contenders])


def corrected_values(
    found: DrawnCandidates, judged: Sequence[Judged], choice: Chosen, rule: PickRule
) -> dict[str, float]:
    """Repeat the choice on resampled rows, with the margins that it came to on all rows.

    These are how far a mean must be inside the constraint, above the baseline, and may be behind the best fit.
    """
    fit, generality, constraint = rule.fit, rule.generality, rule.constraint
    count = len(found.contenders)
    lead = slack(higher(found.draws[fit.name].expected, fit), choice.best)
    means = {name: weighted_mean(one.row_means, one.row_weights) for name, one in found.compared.items()}
    required = _room(means, found, constraint) - _room_at_level(found, rule.level)
    allowed = rule.allows(found)
    least_gain = minimum_gain(fit) + np.array([_margin_of_gain(one) for one in judged])

    def select(drawn: Mapping[str, np.ndarray]) -> int | None:
        worth = higher(drawn[fit.name][:count] - drawn[fit.name][found.baseline_at], fit) > least_gain
        admitted = np.flatnonzero(allowed & worth & (_room(drawn, found, constraint) >= required - ROUNDING))
        if not len(admitted):
            return None
        mine = higher(drawn[fit.name][:count], fit)
        alike = admitted[mine[admitted] >= mine[admitted].max() - lead[admitted] - ROUNDING]
        return int(alike[np.argmax(higher(drawn[generality.name], generality)[alike])])

    return corrected(found.compared, select)


def _margin_of_gain(one: Judged) -> float:
    return np.inf if one.gain is None or one.gain.low is None else one.gain.mean - one.gain.low


def _room(means: Mapping[str, np.ndarray], found: DrawnCandidates, constraint: Constraint) -> np.ndarray:
    count = len(found.contenders)
    limits = {name: means[name][found.baseline_at] for name in constraint.needs}
    return room(constraint.allowances, limits, {name: means[name][:count] for name in constraint.needs})


def _room_at_level(found: DrawnCandidates, level: float) -> np.ndarray:
    """Return the room that a new seed has with the probability of the level: negative below it, (contenders,)."""
    wanted = level / found.survival
    tails = np.clip(1.0 - wanted, 0.0, 1.0)
    found_room = [np.quantile(found.inside[:, at], tail) for at, tail in enumerate(tails)]
    return np.where(wanted > 1.0, -np.inf, found_room)
