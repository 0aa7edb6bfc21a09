"""Tests the outcome of a trial that a search reports to its sampler: values, constraints and state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.hpo.outcome import Outcome, outcome
from sweeps.stage4 import STUDY as STAGE4
from trainables.errors import UserError
from trainables.pareto import parse_objectives
from trainables.record import Measurement
from trainables.verdict import Verdict

BASELINE = {
    "exact_match": 0.0, "irrelevant_pass": 1.0, "hallucination": 0.0, "generalization_gap": 0.0, "caption_sanity": 1.0,
}  # fmt: skip
OBJECTIVES = parse_objectives(("exact_match", "irrelevant_pass"))
STUDY = replace(STAGE4, reading="exact")  # these evals have no results by row


def evals(*passes: float, **changed: float) -> list[Measurement]:
    """Return evals with these irrelevant-image passes, and other metrics as of the base."""
    return [
        Measurement("eval", 30 * number, {**BASELINE, "exact_match": number / 10, "irrelevant_pass": one, **changed})
        for number, one in enumerate(passes, start=1)
    ]


def end(kind: str, measured: list[Measurement], best_step: int | None = None, names=OBJECTIVES) -> Outcome:
    verdict = Verdict(kind=kind, step=measured[-1].step if measured else 0)  # type: ignore[arg-type]
    return outcome(verdict, measured, best_step, Measurement("eval", 0, BASELINE), STUDY, names)


def test_a_completed_trial_is_reported_with_its_best_eval() -> None:
    output = end("completed", evals(1.0, 0.95, 0.85), best_step=60)
    assert (output.state, output.values, output.is_feasible) == ("complete", (0.2, 0.95), True)
    assert output.constraints["best"] <= 0.0


@pytest.mark.parametrize(("kept", "feasible"), [(0.90, True), (0.89, False)])
def test_a_trial_without_an_admissible_eval_breaks_the_constraint_on_the_best(kept: float, feasible: bool) -> None:
    output = end("completed", evals(kept), best_step=30 if feasible else None)
    assert output.is_feasible == feasible
    assert output.values == (0.1, kept)


def test_a_pruned_trial_is_reported_as_pruned_with_the_violated_guard() -> None:
    output = end("pruned", evals(0.9, 0.79, 0.70))
    assert (output.state, output.values, output.is_feasible) == ("pruned", (), False)
    assert output.constraints["floor_irrelevant_pass"] == pytest.approx(0.80 - 0.79)  # both evals lie that far below
    assert output.constraints["ceiling_hallucination"] == pytest.approx(-0.15)
    broken = {name for name, value in output.constraints.items() if value > 0}
    assert broken == {"floor_irrelevant_pass"}


@pytest.mark.parametrize("kind", ["invalid", "infeasible", "failed"])
def test_invalid_infeasible_and_failed_trials_are_reported_as_failed(kind: str) -> None:
    assert end(kind, evals(1.0)) == Outcome("failed")
    assert end(kind, []) == Outcome("failed")


def test_prices_are_those_of_the_whole_trial() -> None:
    objectives = parse_objectives(("exact_match", "train_seconds"))
    measured = [*evals(1.0, 0.85), Measurement("train", 60, {"train_seconds": 9.0})]
    assert end("completed", measured, best_step=30, names=objectives).values == (0.1, 9.0)


def test_a_guard_without_its_metric_is_an_error() -> None:
    with pytest.raises(KeyError):
        end("completed", [Measurement("eval", 30, {"exact_match": 1.0})], best_step=30)


def test_every_trial_has_the_same_constraints() -> None:
    """Optuna's Gaussian process requires it."""
    assert end("completed", evals(1.0)).constraints.keys() == end("pruned", evals(0.1, 0.1)).constraints.keys()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "at least one objective is needed"),
        (
            ("exact_match", "exact_match:lower"),
            "2 times in `exact_match,exact_match:lower`",
        ),
        (("exact_mach",), "exact_mach"),
        (("exact_match:up",), "an objective must be NAME, NAME:higher or NAME:lower"),
    ],
)
def test_objectives_are_refused_by_name(names: tuple[str, ...], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        parse_objectives(names)
    assert error.value.hint


def test_an_objective_has_its_metrics_direction_unless_set() -> None:
    found = parse_objectives(("eval_loss", "exact_match", "irrelevant_pass:lower"))
    assert [one.direction for one in found] == ["lower", "higher", "lower"]
