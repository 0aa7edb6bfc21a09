"""What a study found, for readers who do not know the field."""

from __future__ import annotations

from analysis.frontier import FIT, FrontierInfo, PlacementResult
from analysis.report.conclusions import full_label, recommended
from trainables.pareto import Objective

WORDS = {
    "adapter": "What training adds to a model. The model itself stays as it was.",
    "placement, arm": "One way of training: which layers of the model, and how many of them, carry the adapter.",
    "baseline": "The model alone, without an adapter. Everything is compared with it.",
    "frontier": "The ways of training that no other one beats at the task and in general at once.",
    "constraint, guard": "How much of what the model could do before may be lost. Beyond it, a way is out.",
    "seed": "The same training once more with other random numbers, to see how much depends on chance.",
    "0.58 [0.49, 0.66]": "A measured value, and in brackets the range that very likely holds the true one.",
}
LEAD = (
    "A model that can do many things was trained further for one task. The more of it is trained, the better it may do "
    "the task, and the more it may forget of everything else. This page compares {count} ways of training it, and asks "
    "which one gains most without forgetting too much."
)
FOREIGN = (
    "This page compares {count} results by two numbers at once, and shows those that no other result beats in both."
)


def plain_words(info: FrontierInfo) -> list[str]:
    """Return a few sentences: what was asked, what was found, and what it is compared with."""
    base = next((one for one in info.results if one.kind == "baseline" and one.estimates), None)
    count = sum(one.kind != "baseline" for one in info.results)
    lead = (FOREIGN if info.is_foreign else LEAD).format(count=count)
    pick = recommended(info)
    if pick is None or not (info.choice or pick.estimates):
        return [lead, "None of them has been shown to be good enough to be used, by the limits that were set."]
    return [lead, f"{_best(pick, info)}. " + " ".join(_compared(pick, base, info, at) for at in (FIT, 0))]


def _best(pick: PlacementResult, info: FrontierInfo) -> str:
    if info.choice is None or info.choice.picked is None:
        return f"{'The best fit has' if info.is_foreign else 'The best choice is'} {full_label(pick)}"
    name = f"{full_label(pick)} {info.choice.picked.candidate.at}"
    if info.choice.is_settled:
        return f"The best choice is {name}"
    return f"So far the best choice is {name}, but more measurements may well lead to another one"


def _mean(pick: PlacementResult, info: FrontierInfo, at: int) -> float:
    """Return the value of what is picked, which need not be the candidate that places its arm on the frontier."""
    if info.choice is not None and info.choice.picked is not None:
        return info.choice.picked.estimates[info.objectives[at].name].mean
    return pick.estimates[at].mean


def _compared(pick: PlacementResult, base: PlacementResult | None, info: FrontierInfo, at: int) -> str:
    one = info.objectives[at]
    what = "At the task" if at == FIT else "Outside the task"
    before = f"; the model alone {_value(base.estimates[at].mean, one)}" if base is not None else ""
    named = f"{one.name}, of which {'more' if one.direction == 'higher' else 'less'} is better"
    after = _value(_mean(pick, info, at), one)
    return f"{what if not info.is_foreign else 'Measured'} ({named}) it reaches {after}{before}."


def _value(value: float, objective: Objective) -> str:
    return f"{100 * value:.0f} of 100" if objective.unit == "fraction" else f"{value:,.4g}"
