"""Sentences about a choice: what would change it, and what is not known."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.decision.choice import Chosen
from analysis.decision.evidence import DrawnCandidates
from analysis.decision.judged import Judged
from analysis.decision.settled import ACCEPTED, MARGIN
from analysis.probabilities import chance
from trainables.constraint import Constraint
from trainables.pareto import Objective
from trainables.rows_needed import TooFewRows, too_few_rows


def would_change(
    judged: Sequence[Judged],
    choice: Chosen | None,
    level: float,
    fit: Objective,
    generality: Objective,
    changes: float,
) -> tuple[str, ...]:
    """Return what would lead to another choice: a candidate that is told apart, or one that reaches the level."""
    below = [one for one in judged if one.admissible is not None and one.admissible < level]
    if choice is None:
        return ()
    picked, best = judged[choice.picked], judged[choice.best]
    found = []
    if picked is not best and _is_better(best, picked, fit):
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
    # one that is ahead by less than the margin would not be worth another pick
    if better := [one for one in better if _lead(one, picked, fit) > MARGIN] or better:
        one = max(better, key=lambda each: each.admissible or 0.0)
        found.append(
            f"{one.name} fits better, {_value(one, fit)}, and is admissible with probability "
            f"{chance(one.admissible or 0.0, level)}, below {level:g}: it is considered if more rows or seeds show "
            "that it meets the constraint."
        )
    if not found and changes > ACCEPTED:
        found.append(
            "More rows or seeds can show that it misses the constraint, or that another candidate fits better."
        )
    return tuple(found) or ("No other candidate comes near.",)


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
    rows = {one.metric: max(_rows(each, one.metric) for each in judged) for one in constraint.allowances if judged}
    found += [_too_few(one, level) for one in too_few_rows(constraint, rows, level)]
    if is_picked:
        found.append(
            "The values are measured on the rows that chose the candidate, so they are too high on the average; "
            "expect what the same choice scores on rows that did not choose it."
        )
    if any(one.seeds == 1 for one in judged):
        found.append("With one seed the spread between seeds is assumed, 0.03 of a proportion, not measured.")
    return tuple(found)


def not_shared(found: DrawnCandidates | None, metrics: Sequence[str]) -> tuple[str, ...]:
    """Return on which rows candidates are compared by these metrics, where some answered more than others."""
    if found is None:
        return ()
    return tuple(
        f"Candidates are compared with each other on the {found.shared_rows(name)} rows of {name} that all of them "
        "answered; values, and probabilities of being admissible, are those on all rows that each answered."
        for name in metrics
        if found.compared[name] is not found.arrays[name]
    )


def _too_few(one: TooFewRows, level: float) -> str:
    return (
        f"{one.metric} has {one.rows} rows: even an arm without a failure would be admissible with probability "
        f"{chance(one.reached, level)}, below {level:g}; it takes {one.least} rows or more."
    )


def _rows(one: Judged, name: str) -> int:
    return len(one.candidate.evals[0].rows[name].values)


def _is_better(one: Judged, other: Judged, fit: Objective) -> bool:
    return fit.better(one.estimates[fit.name].mean, other.estimates[fit.name].mean)


def _lead(one: Judged, other: Judged, fit: Objective) -> float:
    return abs(one.estimates[fit.name].mean - other.estimates[fit.name].mean)


def _value(one: Judged, fit: Objective) -> str:
    found = one.estimates[fit.name]
    interval = "" if found.low is None or found.high is None else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{found.mean:.3g}{interval}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
