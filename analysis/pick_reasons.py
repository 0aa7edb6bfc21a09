"""Sentences about a choice: what would change it, and what is not known."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.admissibility import least_rows, perfect_arm
from analysis.choice import Chosen
from analysis.judged import Judged
from trainables.constraint import Constraint
from trainables.pareto import Objective


def would_change(
    judged: Sequence[Judged], choice: Chosen | None, level: float, fit: Objective, generality: Objective
) -> tuple[str, ...]:
    """Return what would lead to another choice: a candidate that is told apart, or one that reaches the level."""
    below = [one for one in judged if one.admissible is not None and one.admissible < level]
    if choice is None:
        return ()
    picked, best = judged[choice.picked], judged[choice.best]
    found = []
    if picked is not best:
        found.append(
            f"{best.name} has the best expected {fit.name}, {_value(best, fit)} against {_value(picked, fit)}; it is "
            "taken instead if more rows or seeds tell them apart."
        )
    elif len(choice.alike) > 1:
        others = [judged[one].name for one in choice.alike if one != choice.picked]
        found.append(
            f"{_listed(others)} cannot be told from it in {fit.name} and {'is' if len(others) == 1 else 'are'} less "
            f"general in {generality.name}: more rows of {generality.name} can reverse that."
        )
    better = [one for one in below if _is_better(one, best, fit)]
    if better:
        one = max(better, key=lambda each: each.admissible or 0.0)
        found.append(
            f"{one.name} fits better, {_value(one, fit)}, and is admissible with probability {one.admissible:.2f}, "
            f"below {level:g}: it is considered if more rows or seeds show that it meets the constraint."
        )
    return tuple(found) or ("No other candidate comes near: more rows or seeds are unlikely to change it.",)


def not_known(
    judged: Sequence[Judged], others: Sequence[Judged], level: float, constraint: Constraint, is_picked: bool
) -> tuple[str, ...]:
    """Return what the choice cannot say."""
    found = []
    if others:
        found.append(
            f"{_listed([one.name for one in others])}: no results by row, or no baseline to compare with, so whether "
            "they are admissible on other rows, and separable, is not known; they are not chosen."
        )
    found += [_too_few(one, level, constraint) for one in _too_small(judged, level, constraint)]
    if is_picked:
        found.append(
            "The values are measured on the rows that chose the candidate, so they are too high on the average; "
            "expect what the same choice scores on rows that did not choose it."
        )
    if any(one.seeds == 1 for one in judged):
        found.append("With one seed the spread between seeds is assumed, 0.03 of a proportion, not measured.")
    return tuple(found)


def _too_small(judged: Sequence[Judged], level: float, constraint: Constraint) -> list[tuple[str, int, float]]:
    """Return the constraint's metrics with too few rows for the level: name, rows and allowed points."""
    if not judged:
        return []
    rows = {one.metric: _rows(judged[0], one.metric) for one in constraint.allowances}
    return [
        (one.metric, rows[one.metric], one.points)
        for one in constraint.allowances
        if one.points > 0 and perfect_arm(rows[one.metric], one.points) < level
    ]


def _too_few(one: tuple[str, int, float], level: float, constraint: Constraint) -> str:
    name, rows, points = one
    return (
        f"{name} has {rows} rows: even an arm without a failure would be admissible with probability "
        f"{perfect_arm(rows, points):.2f}, below {level:g}; it takes {least_rows(level, points)} rows or more."
    )


def _rows(one: Judged, name: str) -> int:
    return len(one.candidate.evals[0].rows[name].values)


def _is_better(one: Judged, other: Judged, fit: Objective) -> bool:
    return fit.better(one.estimates[fit.name].mean, other.estimates[fit.name].mean)


def _value(one: Judged, fit: Objective) -> str:
    found = one.estimates[fit.name]
    interval = "" if found.low is None or found.high is None else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{found.mean:.3g}{interval}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
