"""Says whether the pick is settled, which arms deserve more seeds, and whether rows limit the choice instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.decision.admissibility import room
from analysis.decision.evidence import DrawnCandidates
from analysis.decision.judged import higher
from analysis.decision.pooled import pooled
from trainables.constraint import ROUNDING, Constraint
from trainables.pareto import Objective

ACCEPTED = 0.10
MARGIN = 0.05
MOST_SEEDS = 20
LEAST_SHARE = 0.10  # of the probability of a change; what takes away less does not help
WORTH = 0.02  # an arm that would be the better pick in fewer draws is left out

Limit = Literal["settled", "seeds", "rows", "both"]


@dataclass(frozen=True)
class ArmChance:
    """An arm and the probability that it should be picked instead; `seeds` is how many were measured."""

    arm: str
    chance: float
    seeds: int


@dataclass(frozen=True)
class Advice:
    """How probable it is that more data changes the pick, and what of it would.

    `changes` is that probability now, `with_seeds` what remains with any number of seeds, `with_rows` with any number
    of rows. `arms` deserve more data, the likeliest first, the picked one among them where it may fail the constraint.
    `seeds` is how many seeds each of them should have, None where no number up to twenty settles the pick.
    """

    picked: str | None
    changes: float
    with_seeds: float
    with_rows: float
    limit: Limit
    arms: tuple[ArmChance, ...]
    seeds: int | None


@dataclass(frozen=True)
class _Parts:
    """What was drawn of one metric, (draws, series): the part of the rows, and that of the seeds around it."""

    rows: np.ndarray
    seeds: np.ndarray


Values = Mapping[str, np.ndarray]


def advise(
    found: DrawnCandidates,
    picked: int | None,
    fit: Objective,
    constraint: Constraint,
    margin: float = MARGIN,
    accepted: float = ACCEPTED,
) -> Advice:
    """Judge what more seeds or more rows would do to a pick.

    In a draw the pick changes when it is outside the constraint, or when another candidate inside it fits better by
    more than the margin. Where nothing is picked, it changes when a candidate is inside and better than the baseline.

    Args:
        found: the draws of all contenders.
        picked: the position of the pick among them, None where there is none.
        fit: the task fit.
        constraint: what a candidate must keep.
        margin: a gain in fit that is not worth another pick.
        accepted: the probability of a change at which the pick counts as settled.
    """
    parts = {name: _parts(found, name, stream) for stream, name in enumerate(found.arrays)}
    judge = _judge(found, picked, fit, constraint, margin)
    now = judge({name: one.rows + one.seeds for name, one in parts.items()})
    with_seeds = _changed(judge({name: one.rows for name, one in parts.items()}))
    with_rows = _changed(judge({name: one.rows.mean(axis=0) + one.seeds for name, one in parts.items()}))
    changes = _changed(now)
    measured = _seeds_of(found)
    return Advice(
        picked=None if picked is None else found.contenders[picked].candidate.name,
        changes=changes,
        with_seeds=with_seeds,
        with_rows=with_rows,
        limit="both" if picked is None else _limit(changes, with_seeds, with_rows, accepted),
        arms=_arms(now, found, picked, measured),
        seeds=_seeds_needed(parts, judge, measured, accepted),
    )


# a draw is the position of the candidate that should be picked, KEEP where the pick stays, FAILS where it is outside
KEEP, FAILS = -1, -2


def _parts(found: DrawnCandidates, name: str, stream: int) -> _Parts:
    array, weights = found.arrays[name], found.weights[name]
    labels = [one.candidate.arm for one in found.contenders]
    count = len(array.values)
    arms = np.array([labels.index(one) for one in labels] + list(range(len(labels), count)))
    rows = weights.means(array.row_means)
    every = pooled(array, weights, arms, np.arange(count) >= len(labels), stream).expected
    return _Parts(rows, every - rows)


def _judge(
    found: DrawnCandidates, picked: int | None, fit: Objective, constraint: Constraint, margin: float
) -> Callable[[Values], np.ndarray]:
    count = len(found.contenders)

    def judge(values: Values) -> np.ndarray:
        limits = {name: values[name][:, found.baseline_at] for name in constraint.needs}
        own = {name: values[name][:, :count] for name in constraint.needs}
        inside = room(constraint.allowances, limits, own) >= -ROUNDING
        fits = higher(values[fit.name][:, :count], fit)
        gains = fits - higher(values[fit.name][:, found.baseline_at], fit) > margin
        eligible = np.where(inside & gains, fits, -np.inf)
        best = eligible.argmax(axis=1)
        exists = np.isfinite(eligible.max(axis=1))
        if picked is None:
            return np.where(exists, best, KEEP)
        better = exists & (eligible.max(axis=1) > fits[:, picked] + margin)
        return np.where(~inside[:, picked], np.where(exists, best, FAILS), np.where(better, best, KEEP))

    return judge


def _changed(drawn: np.ndarray) -> float:
    return float((drawn != KEEP).mean())


def _limit(changes: float, with_seeds: float, with_rows: float, accepted: float) -> Limit:
    if changes <= accepted:
        return "settled"
    if with_seeds <= accepted:
        return "seeds"
    if with_rows <= accepted:
        return "rows"
    if changes - with_seeds < LEAST_SHARE * changes:
        return "rows"
    return "seeds" if changes - with_rows < LEAST_SHARE * changes else "both"


def _arms(
    drawn: np.ndarray, found: DrawnCandidates, picked: int | None, measured: Mapping[str, int]
) -> tuple[ArmChance, ...]:
    labels = [one.candidate.arm for one in found.contenders]
    chances: dict[str, float] = {}
    for at, label in enumerate(labels):
        chances[label] = chances.get(label, 0.0) + float((drawn == at).mean())
    if picked is not None:
        own = labels[picked]
        # another arm is told apart from the pick only if the pick is measured as well
        chances[own] = max(chances[own], _changed(drawn))
    worth = [ArmChance(label, chance, measured[label]) for label, chance in chances.items() if chance >= WORTH]
    return tuple(sorted(worth, key=lambda one: (-one.chance, one.arm)))


def _seeds_needed(
    parts: Mapping[str, _Parts], judge: Callable[[Values], np.ndarray], measured: Mapping[str, int], accepted: float
) -> int | None:  # fmt: skip
    """Return the seeds of each arm with which the pick is settled, if the means stay what they are."""
    least = max(measured.values(), default=1)
    for seeds in range(least + 1, MOST_SEEDS + 1):
        shrink = np.sqrt(least / seeds)
        if _changed(judge({name: one.rows + shrink * one.seeds for name, one in parts.items()})) <= accepted:
            return seeds
    return None


def _seeds_of(found: DrawnCandidates) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in found.contenders:
        own = len(one.candidate.evals) + len(one.candidate.stopped)
        counts[one.candidate.arm] = max(own, counts.get(one.candidate.arm, 0))
    return counts


def sentences(advice: Advice, rows: Mapping[str, int], accepted: float = ACCEPTED) -> Sequence[str]:
    """Return the advice in words; `rows` are how many each metric has."""
    if not advice.picked:
        counts = ", ".join(f"{count} of {name}" for name, count in rows.items())
        return [
            "Nothing is picked yet: no candidate shows at the level that it meets the constraint.",
            f"Some candidate meets it and gains with probability {advice.changes:.2f}. More seeds and more rows (now "
            f"{counts}) can both show it; which of them would is not known before there is a pick.",
        ]
    lines = [f"The pick is {advice.picked}; more data would change that with probability {advice.changes:.2f}."]
    if advice.limit == "settled":
        return [*lines, f"That is at most {accepted:g}: no arm deserves more seeds."]
    remains = f"Any number of seeds would leave {advice.with_seeds:.2f}, any number of rows {advice.with_rows:.2f}."
    counts = ", ".join(f"{count} of {name}" for name, count in rows.items())
    if advice.limit == "rows":
        return [*lines, remains, f"Rows, not seeds, limit you: add rows to --val and --ood (now {counts})."]
    if advice.limit == "both":
        return [*lines, remains, f"Neither is enough alone: rows limit you too (now {counts})."]
    return [*lines, remains, "Seeds limit you."]
