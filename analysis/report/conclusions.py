"""Sentences about the frontier: which placement to ship, its cost, whether more LoRA was better, and the unknowns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from analysis import holdout
from analysis.frontier import FIT, FrontierInfo, PlacementResult
from analysis.mlflow_runs import TrialRun
from analysis.probabilities import percent
from analysis.report.shipping import shipping
from analysis.uncertainty import MINIMUM_SEEDS, Estimate, greatest_coverage
from trainables.pareto import Objective

# outcomes of comparing a larger placement with the one to ship
LARGER = ("with a better fit", "with a fit not separable from it", "with no better fit", "not admissible")

CRITERIA = ("optimal", "minimum", "none")  # best first

# mark -> its meaning, and a function that returns the checks of a trial that cause it
CAVEATS: dict[str, tuple[str, Callable[[TrialRun], tuple[str, ...]]]] = {
    "†": ("degraded, a health check found a problem", lambda trial: trial.degraded),
    "‡": ("started with --force although the pre-flight refused it", lambda trial: trial.overridden),
}


def recommended(info: FrontierInfo) -> PlacementResult | None:
    """Return the placement with the best task fit, or the cheapest on the frontier that is not separable from it."""
    if info.choice is not None:
        arm = info.choice.picked.candidate.arm if info.choice.picked else None
        return next((one for one in info.results if one.placement.label == arm), None)
    findings = info.of_kind("frontier")
    if not findings:
        return None
    best = findings[0]
    alike = [one for one in findings if one is best or one.estimates[FIT].overlaps(best.estimates[FIT])]
    return min(alike, key=_price)


def conclusion(info: FrontierInfo) -> list[str]:
    """Return sentences on what to ship."""
    if info.choice is not None:
        return [*shipping(info.choice), *holdout.sentences(info.holdout)]
    pick = recommended(info)
    if pick is None:
        return [_nothing_to_ship(info)]
    if info.is_foreign:
        best = f"Best fit: {full_label(pick)}: {_both(pick, info)}."
        sentences = [best, _alternative(pick, info), _certainty(pick, info)]
    else:
        sentences = [_ship(pick, info), _alternative(pick, info), _more_lora(pick, info), _certainty(pick, info)]
    return [sentence for sentence in sentences if sentence]


def unknowns(info: FrontierInfo) -> list[str]:
    """Return what is not known, as the last part of every report."""
    if info.choice is not None:
        running = sum(m.state == "running" for one in info.results for m in one.placement.seed_runs)
        known = (*info.choice.unknown, *holdout.unknown(info.holdout))
        return [*known, *([f"{_count(running, 'trial')} without a verdict yet."] if running else [])]
    compared = info.of_kind("frontier", "dominated", "no gain")
    seeds = Counter(one.estimates[0].seeds for one in compared)
    notes = []
    if seeds[1]:
        notes.append(f"{_count(seeds[1], info.noun)} with one seed: the spread is unknown, so no order is established.")
    if seeds[2]:
        notes.append(f"{_count(seeds[2], info.noun)} with two seeds: a range, too few for an interval.")
    least = min((count for count in seeds if count >= MINIMUM_SEEDS), default=None)
    if least is not None:
        notes.append(
            f"Intervals are 95 % percentile bootstraps over seeds; from {least} seeds one covers at most "
            f"{greatest_coverage(least):.0%}. P(frontier) resamples seeds; {info.noun}s with fewer than "
            f"{MINIMUM_SEEDS} keep their mean."
        )
    if not info.is_foreign and any(one.gain is None for one in compared):
        notes.append("Without a baseline of the same quantization, whether a placement gained anything is unknown.")
    if running := sum(m.state == "running" for one in info.results for m in one.placement.seed_runs):
        notes.append(f"{_count(running, 'trial')} without a verdict yet: the frontier may change.")
    if compared and not info.is_foreign:
        notes.append(
            "The records have no results by row: intervals over rows, the probability of meeting the constraint and "
            "whether fits of one or two seeds are separable are not known."
        )
        notes.append(
            "Values are those of each trial's best admissible checkpoint, which was chosen on the same rows it is "
            "reported on; the spread over other validation rows is not shown."
        )
    return notes


def value_text(one: Estimate, objective: Objective) -> str:
    """Format an estimate: the mean, then its interval [low, high], or its range (minimum–maximum) with two seeds."""
    form = {"fraction": ".3f", "parameters": ",.0f"}.get(objective.unit, ".4g")
    if one.minimum == one.maximum and one.low == one.high:
        return f"{one.mean:{form}}"
    if one.low is None or one.high is None:
        return f"{one.mean:{form}} ({one.minimum:{form}}–{one.maximum:{form}})"
    return f"{one.mean:{form}} [{one.low:{form}}, {one.high:{form}}]"


def values_of(result: PlacementResult, info: FrontierInfo) -> list[str]:
    """Format every estimate of a placement, in the order of the objectives; empty texts if it was not compared."""
    if not result.estimates:
        return [""] * len(info.objectives)
    return [value_text(one, objective) for one, objective in zip(result.estimates, info.objectives, strict=True)]


def full_label(result: PlacementResult) -> str:
    """Return the label and the adapted layers, `C2 L2·V4`."""
    placement = result.placement
    return f"{placement.label} {placement.where}" if placement.is_placed else placement.label


def marked_label(result: PlacementResult) -> str:
    """Return the full label with the marks of the footnotes that apply to its trials, `C2 L2·V4†`."""
    trials = [seed_run.trial for seed_run in result.placement.seed_runs]
    marks = "".join(mark for mark, (_, checks) in CAVEATS.items() if any(checks(trial) for trial in trials))
    return full_label(result) + marks


def footnotes(info: FrontierInfo) -> list[str]:
    """Return a line for each mark: its checks, the placements, and the number of seeds if not all are affected.

    Then a line for each baseline that has its results from another experiment.
    """
    notes = []
    for mark, (meaning, checks_of) in CAVEATS.items():
        where: dict[str, list[str]] = {}
        for result in info.results:
            seed_runs = result.placement.seed_runs
            for check, count in Counter(check for one in seed_runs for check in checks_of(one.trial)).items():
                some = f" ({count} of {len(seed_runs)} seeds)" if count < len(seed_runs) else ""
                where.setdefault(check, []).append(result.placement.label + some)
        if where:
            found = "; ".join(f"{check} in {', '.join(labels)}" for check, labels in where.items())
            notes.append(f"{mark} {meaning}: {found}.")
    trials = [one.trial for result in info.results for one in result.placement.seed_runs]
    notes += [f"{one.name} was measured by {one.measured_by}." for one in trials if one.measured_by]
    return notes


def criteria_text(result: PlacementResult) -> str:
    """Return the success criteria that a placement met: `minimum`, or `2 optimal, 1 none` if its seeds differ."""
    met = Counter(seed_run.trial.criteria for seed_run in result.placement.seed_runs if seed_run.trial.criteria)
    if len(met) == 1:
        return next(iter(met))
    return ", ".join(f"{met[most]} {most}" for most in CRITERIA if met[most])


def _ship(pick: PlacementResult, info: FrontierInfo) -> str:
    gain = f"gain over the baseline {pick.gain:.3g}" if pick.gain is not None else "gain unknown without a baseline"
    price = [f"{parameters:,.0f} trained parameters" if (parameters := _parameters(pick)) is not None else ""]
    seconds = pick.placement.last_mean("train_seconds")
    price.append(f"{seconds:.3g} s of training" if seconds is not None else "")
    prices = " and ".join(part for part in price if part)
    return f"Ship {marked_label(pick)}: {_both(pick, info)}; {gain}; price {prices or 'not logged'}."


def _both(result: PlacementResult, info: FrontierInfo) -> str:
    x, y = info.objectives[:2]
    values = values_of(result, info)
    return f"{y.name} {values[FIT]}, {x.name} {values[0]}"


def _alternative(pick: PlacementResult, info: FrontierInfo) -> str:
    """Return a sentence on the best placement in the first objective; empty if that is the one to ship."""
    x = info.objectives[0]
    others = [one for one in info.of_kind("frontier") if x.better(one.estimates[0].mean, pick.estimates[0].mean)]
    if not others:
        return ""
    other = min(others, key=lambda one: one.estimates[0].mean * (-1 if x.direction == "higher" else 1))
    return f"If {x.name} matters more, take {marked_label(other)}: {_both(other, info)}."


def _more_lora(pick: PlacementResult, info: FrontierInfo) -> str:
    parameters = _parameters(pick)
    if parameters is None:
        return "Whether more LoRA was better is unknown: `final/adapter_parameters` was not logged."
    finished = info.of_kind("frontier", "dominated", "no gain", "excluded")
    larger = [one for one in finished if (_parameters(one) or 0) > parameters]
    if not larger:
        return "No larger placement has finished, so more LoRA may be better."
    outcomes = Counter(_against(pick, one, info) for one in larger)
    counts = ", ".join(f"{outcomes[what]} {what}" for what in LARGER if outcomes[what])
    verdict = "More LoRA had a better fit" if outcomes[LARGER[0]] else "More LoRA was not better"
    return f"{verdict}: of {_count(len(larger), 'larger placement')}, {counts}."


def _against(pick: PlacementResult, larger: PlacementResult, info: FrontierInfo) -> str:
    if larger.kind == "excluded":
        return LARGER[3]
    mine, its = pick.estimates[FIT], larger.estimates[FIT]
    if mine.overlaps(its):
        return LARGER[1]
    return LARGER[0] if info.objectives[FIT].better(its.mean, mine.mean) else LARGER[2]


def _certainty(pick: PlacementResult, info: FrontierInfo) -> str:
    if pick.not_separable_from:
        return f"{pick.placement.label} is not separable from {', '.join(pick.not_separable_from)} by its seeds."
    if pick.probability is not None:
        return f"{pick.placement.label} is on the frontier in {percent(pick.probability)} of resampled seeds."
    return f"With fewer than {MINIMUM_SEEDS} seeds its advantage is not established: repeat it with more seeds."


def _nothing_to_ship(info: FrontierInfo) -> str:
    kinds = Counter(one.kind for one in info.results if one.kind != "baseline")
    words = {
        "excluded": "not admissible",
        "gain outside the constraint": "with a gain outside the constraint",
        "no gain": "without gain over the baseline",
        "running": "running",
    }
    parts = [f"{kinds[kind]} {text}" for kind, text in words.items() if kinds[kind]] + (
        [f"{kinds['dominated']} dominated by the baseline"] if kinds["dominated"] else []
    )
    return f"Ship nothing yet: no placement is on the frontier ({', '.join(parts) or 'only the baseline ran'})."


def _price(result: PlacementResult) -> float:
    parameters = _parameters(result)
    return math.inf if parameters is None else parameters


def _parameters(result: PlacementResult) -> float | None:
    return result.placement.last_mean("adapter_parameters")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
