"""Says whether the pick is settled, which arms deserve more seeds, and whether rows limit the choice instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.decision.evidence import DrawnCandidates
from analysis.decision.settled import ACCEPTED, MARGIN, Parts, Values, changed, judge_of, parts_of
from analysis.probabilities import chance
from trainables.constraint import Constraint
from trainables.pareto import Objective

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


def advise(
    found: DrawnCandidates,
    picked: int | None,
    fit: Objective,
    constraint: Constraint,
    margin: float = MARGIN,
    accepted: float = ACCEPTED,
) -> Advice:
    """Judge what more seeds or more rows would do to a pick.

    Args:
        found: the draws of all contenders.
        picked: the position of the pick among them, None where there is none.
        fit: the task fit.
        constraint: what a candidate must keep.
        margin: a gain in fit that is not worth another pick.
        accepted: the probability of a change at which the pick counts as settled.
    """
    parts = parts_of(found)
    judge = judge_of(found, picked, fit, constraint, margin)
    now = judge({name: one.whole for name, one in parts.items()})
    with_seeds = changed(judge({name: one.rows for name, one in parts.items()}))
    with_rows = changed(judge({name: one.rows.mean(axis=0) + one.seeds for name, one in parts.items()}))
    changes = changed(now)
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


def _limit(changes: float, with_seeds: float, with_rows: float, accepted: float) -> Limit:
    if changes <= accepted:
        return "settled"
    if with_seeds <= accepted:
        return "seeds"
    if with_rows <= accepted:
        return "rows"
    seeds_help = changes - with_seeds >= LEAST_SHARE * changes
    rows_help = changes - with_rows >= LEAST_SHARE * changes
    if seeds_help == rows_help:
        return "both"
    return "seeds" if seeds_help else "rows"


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
        chances[own] = max(chances[own], changed(drawn))
    worth = [ArmChance(label, chance, measured[label]) for label, chance in chances.items() if chance >= WORTH]
    return tuple(sorted(worth, key=lambda one: (-one.chance, one.arm)))


def _seeds_needed(
    parts: Mapping[str, Parts], judge: Callable[[Values], np.ndarray], measured: Mapping[str, int], accepted: float
) -> int | None:  # fmt: skip
    """Return the seeds of each arm with which the pick is settled, if the means stay what they are."""
    least = max(measured.values(), default=1)
    for seeds in range(least + 1, MOST_SEEDS + 1):
        shrink = np.sqrt(least / seeds)
        if changed(judge({name: one.rows + shrink * one.seeds for name, one in parts.items()})) <= accepted:
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
            "Nothing is picked yet: no candidate both shows a gain over the base alone and, at the level, that it "
            "meets the constraint.",
            f"Some candidate meets it and gains with probability {chance(advice.changes)}. More seeds and more rows "
            f"(now {counts}) can both show it; which of them would is not known before there is a pick.",
        ]
    changes, with_seeds, with_rows = (
        chance(one, accepted, is_most=True) for one in (advice.changes, advice.with_seeds, advice.with_rows)
    )
    lines = [f"The pick is {advice.picked}; more data would change that with probability {changes}."]
    if advice.limit == "settled":
        return [*lines, f"That is at most {accepted:g}: no arm deserves more seeds."]
    remains = f"Any number of seeds would leave {with_seeds}, any number of rows {with_rows}."
    counts = ", ".join(f"{count} of {name}" for name, count in rows.items())
    if advice.limit == "rows":
        return [*lines, remains, f"Rows, not seeds, limit you: add rows to --val and --ood (now {counts})."]
    if advice.limit == "both":
        return [*lines, remains, f"Neither is enough alone: rows limit you too (now {counts})."]
    return [*lines, remains, "Seeds limit you."]
