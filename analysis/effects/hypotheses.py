"""The four hypotheses about the footprint of an adapter, each judged by contrasts with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from analysis.compare.difference import MARGIN, Difference, needed_text
from analysis.effects.continuations import ContinuedPair, changes
from analysis.effects.contrasts import contrast
from analysis.effects.design import (
    FACTORS,
    INTERACTION,
    LANGUAGE,
    RATE,
    VISION,
    Design,
    Factor,
    Observation,
    level_design,
    levels,
    linear_design,
)
from trainables.metrics import METRICS
from trainables.probes.metric import RowResults
from trainables.typed import typed

Outcome = Literal["supported", "contradicted", "undecided"]

MODEST_RANGE = 2.0  # the highest of the rates against the lowest; more is not a modest change
LEAST_LEVELS = 3
STATEMENTS = {
    "H1": "more LoRA costs generality",
    "H2": "each tower has a best number of layers between few and many",
    "H3": "placement matters more than a modest change of the rate",
    "H4": "training on harms an adapter that lost its generality, more than one that kept it",
}


@dataclass(frozen=True)
class Effect:
    """The effect of a factor on one metric, per unit of the factor."""

    factor: str
    unit: str
    metric: str
    found: Difference


@dataclass(frozen=True)
class Judgement:
    """One part of a hypothesis: the contrast that judges it, and what would decide it where it is undecided.

    `expected` is the sign that the hypothesis gives the contrast; `found` is None where the trials cannot tell.
    """

    hypothesis: str
    part: str
    outcome: Outcome
    contrast: str
    found: Difference | None
    what_decides: str

    @property
    def statement(self) -> str:
        """Return the hypothesis in words."""
        return STATEMENTS[self.hypothesis]


def outcome_of(found: Difference, expected: int, margin: float = MARGIN) -> Outcome:
    """Judge an effect that should have the sign `expected` (1 or -1).

    Supported: the whole interval has that sign. Contradicted: the whole interval lies below the margin in that
    direction, so that there is no such effect worth speaking of. Otherwise undecided.
    """
    low, high = (found.low, found.high) if expected > 0 else (-found.high, -found.low)
    if low > 0:
        return "supported"
    return "contradicted" if high < margin else "undecided"


# ------------------------------------------------------------------- all effects
def effects_of(among: Sequence[Observation], metrics: Sequence[str]) -> tuple[Effect, ...]:
    """Return the effect of every factor that varies, and of the towers together, on every metric."""
    design = linear_design(among)
    units = {factor.name: factor.unit for factor in FACTORS} | {INTERACTION: "layer x block"}
    return tuple(
        Effect(name, units[name], metric, contrast(design, {name: 1.0}, metric, among))
        for metric in metrics
        for name in design.columns
        if name in units and design.can_tell({name: 1.0})
    )


# ------------------------------------------------------------------- the hypotheses
def answers_of(
    among: Sequence[Observation], pairs: Sequence[ContinuedPair], fit: str, margin: float = MARGIN
) -> tuple[Judgement, ...]:
    """Judge H1 to H4.

    Args:
        among: the trials of the study.
        pairs: continued trials, for H4.
        fit: the metric of task fit.
        margin: the largest effect that counts as none.
    """
    measured = _measured(among)
    generality = [name for name in ("text_retention", "irrelevant_pass", "hallucination") if name in measured]
    first = [_more_costs(name, among, margin) for name in generality]
    second = [_best_between(tower, fit, generality, among, margin) for tower in (LANGUAGE, VISION)]
    third = [_placement_above_rate(name, among, margin) for name in (fit, *generality)]
    fourth = [_training_on(name, pairs, margin) for name in (fit, *generality)]
    return (*first, *second, *third, *fourth)


def _measured(among: Sequence[Observation]) -> set[str]:
    sets = [set(one.last.metrics) for one in among]
    return set.intersection(*sets) if sets else set()


def _more_costs(metric: str, among: Sequence[Observation], margin: float) -> Judgement:
    design = linear_design(among)
    weights, named = _corners(design, among)
    if not design.can_tell(weights):
        return _unknown("H1", metric, "from few to many layers", f"depths that vary, crossed; {_crossed()}")
    return _answer("H1", metric, named, contrast(design, weights, metric, among), _worse(metric), margin)


def _corners(design: Design, among: Sequence[Observation]) -> tuple[dict[str, float], str]:
    """Return the weights of the change from the fewest to the most layers of both towers, and its name."""
    values = {tower.name: levels(tower, among) for tower in (LANGUAGE, VISION)}
    weights = {name: own[-1] - own[0] for name, own in values.items() if name in design.columns}
    if INTERACTION in design.columns:
        few, many = (math.prod(own[end] - design.means[name] for name, own in values.items()) for end in (0, -1))
        weights[INTERACTION] = many - few
    few, many = (" ".join(f"{name} {own[end]:g}" for name, own in values.items()) for end in (0, -1))
    return weights, f"from {few} to {many}"


def _best_between(
    tower: Factor, fit: str, generality: Sequence[str], among: Sequence[Observation], margin: float
) -> Judgement:  # fmt: skip
    """Judge by the sum of fit and generality: the best inner depth against the better of the two ends.

    The depth is chosen on the rows that judge it, so the interval counts the inner depths (Bonferroni).
    """
    values = levels(tower, among)
    name = next((one for one in ("irrelevant_pass", "text_retention") if one in generality), "")
    if len(values) < LEAST_LEVELS or not name or METRICS[fit].direction != "higher":
        return _unknown("H2", tower.name, f"a {tower.unit} in between",
                        f"three depths or more of this tower; {_crossed()}")  # fmt: skip
    design = level_design(tower, among)
    columns = {level: f"{tower.name} {level:g}" for level in values[1:]}
    if not design.can_tell(dict.fromkeys(columns.values(), 1.0)):
        return _unknown("H2", tower.name, f"a {tower.unit} in between",
                        f"depths that vary by themselves; {_crossed()}")  # fmt: skip
    summed = [_with_sum(one, fit, name) for one in among]

    def against(level: float, end: float) -> Difference:
        weights = {columns[level]: 1.0} | ({columns[end]: -1.0} if end in columns else {})
        return contrast(design, weights, SUM, summed)

    inner = {level: min((against(level, end) for end in (values[0], values[-1])), key=lambda one: one.mean)
             for level in values[1:-1]}  # fmt: skip
    best = max(inner, key=lambda level: inner[level].mean)
    found = _widened(inner[best], len(inner))
    named = f"{fit} + {name}, {best:g} against the better of {values[0]:g} and {values[-1]:g}"
    return _answer("H2", tower.name, named, found, 1, margin)


SUM = "fit and generality"


def _with_sum(one: Observation, fit: str, generality: str) -> Observation:
    """Return the observation with the sum of two metrics; its rows are those of both, each over its own count."""
    total = one.last.metrics[fit] + one.last.metrics[generality]
    parts = [one.last.rows[name].values for name in (fit, generality) if name in one.last.rows]
    rows = dict(one.last.rows)
    if len(parts) == 2:
        # the mean over all rows is the sum of both means
        count = sum(map(len, parts))
        rows[SUM] = RowResults({row: value * count / len(part) for part in parts for row, value in part.items()})
    return replace(one, last=replace(one.last, metrics={**one.last.metrics, SUM: total}, rows=rows))


def _widened(found: Difference, comparisons: int) -> Difference:
    """Return a difference whose interval holds for the best of several comparisons."""
    from scipy.stats import norm

    factor = float(norm.ppf(1 - 0.025 / comparisons) / norm.ppf(0.975))
    low, high = found.mean - factor * (found.mean - found.low), found.mean + factor * (found.high - found.mean)
    halves = (factor * found.rows_half, None if found.seeds_half is None else factor * found.seeds_half)
    return replace(found, low=low, high=high, rows_half=halves[0], seeds_half=halves[1])


def _placement_above_rate(metric: str, among: Sequence[Observation], margin: float) -> Judgement:
    """Judge by the largest effect of a tower over its range, less that of the rate over its range."""
    design, rates = linear_design(among), [one.rate for one in among]
    towers = [one for one in (LANGUAGE, VISION) if design.can_tell({one.name: 1.0})]
    if not towers or not design.can_tell({RATE.name: 1.0}) or max(rates) > MODEST_RANGE * min(rates):
        why = "rates within a factor of 2, crossed with depths" if towers else "depths and rates that vary"
        return _unknown("H3", metric, "the larger tower less the rate", f"{why}; {_crossed()}")
    ranges = {one.name: levels(one, among)[-1] - levels(one, among)[0] for one in (*towers, RATE)}
    sizes = {name: contrast(design, {name: span}, metric, among).mean for name, span in ranges.items()}
    larger = max(towers, key=lambda one: abs(sizes[one.name])).name
    signs = {name: 1.0 if sizes[name] >= 0 else -1.0 for name in (larger, RATE.name)}
    weights = {larger: signs[larger] * ranges[larger], RATE.name: -signs[RATE.name] * ranges[RATE.name]}
    found = contrast(design, weights, metric, among)
    return _answer("H3", metric, f"|{larger}| - |rate| over their ranges", found, 1, margin)


def _training_on(metric: str, pairs: Sequence[ContinuedPair], margin: float) -> Judgement:
    if not pairs:
        how = f"pairs of continued trials: {continuation_command()}, then --continuations continuation here"
        return _unknown("H4", metric, "its change by training on", how)
    _, more = changes(pairs, metric)
    return _answer("H4", metric, "its change from the lost parent less that from the stable one", more, _worse(metric),
                   margin)  # fmt: skip


def _worse(metric: str) -> int:
    """Return the sign of a change for the worse."""
    return -1 if METRICS[metric].direction == "higher" else 1


def _answer(hypothesis: str, part: str, named: str, found: Difference, expected: int, margin: float) -> Judgement:
    outcome = outcome_of(found, expected, margin)
    return Judgement(hypothesis, part, outcome, named, found, _decides(found, margin) if outcome == "undecided" else "")


def _decides(found: Difference, margin: float) -> str:
    if not found.rows:
        return "results by row, which these records do not hold"
    return needed_text(found, margin) or "an effect outside the margin"


def _unknown(hypothesis: str, part: str, named: str, what_decides: str) -> Judgement:
    return Judgement(hypothesis, part, "undecided", named, None, what_decides)


def continuation_command() -> str:
    """Return the command that trains on from one parent within the constraint and one outside."""
    return typed("continuation", "--init-from", "STABLE", "--restart-from", "LOST", "--seeds", "5")


def _crossed() -> str:
    return f"run the crossed study: {typed('response', '--seeds', '5')}"
