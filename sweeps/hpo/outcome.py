"""The outcome of a trial for a search: its objective values, its distance to each guard's limit, and how it ended.

The functions are pure functions of a record's verdict and measurements. A missing metric raises KeyError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sweeps.study import Study
from trainables.guards import label_of
from trainables.metrics import PRICES
from trainables.pareto import Objective
from trainables.record import Measurement, Record
from trainables.schedule import planned_evals
from trainables.spec import TrialSpec
from trainables.tested_guards import deciding
from trainables.verdict import Verdict

State = Literal["complete", "pruned", "failed"]

BEST = "best"  # name of the constraint on a trial's best eval


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; only a complete trial has `values`, in the order of the objectives.

    A constraint above 0 is violated.
    """

    state: State
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_feasible(self) -> bool:
        """True when the trial is complete and violates no constraint."""
        return self.state == "complete" and all(value <= 0.0 for value in self.constraints.values())


def outcome_of(record: Record, baseline: Record, study: Study, objectives: Sequence[Objective]) -> Outcome:
    """Return the outcome of a record that has a verdict."""
    verdict, best = record.verdict(), record.best()
    assert verdict is not None
    measured = record.measurements()
    reference = baseline.evals()[0]
    evals = _planned(record.spec())
    return outcome(verdict, measured, best.step if best else None, reference, study, objectives, evals)


def outcome(
    verdict: Verdict, measured: Sequence[Measurement], best_step: int | None, baseline: Measurement, study: Study,
    objectives: Sequence[Objective], planned_evals: int = 1,
) -> Outcome:  # fmt: skip
    """Return the outcome of a trial that has ended.

    A pruned trial is `pruned` and has its constraints but no values. Invalid, infeasible and failed trials say nothing
    about their settings and are `failed`. A trial without an eval that meets the constraint has the values of its last
    eval and violates `BEST`. Prices (seconds, parameters) are those of the whole trial.
    """
    if verdict.kind not in ("completed", "pruned"):
        return Outcome("failed")
    constraints = distances(measured, baseline, study, planned_evals)
    if verdict.kind == "pruned":
        return Outcome("pruned", (), constraints)
    last = {one.kind: one.metrics for one in measured}
    final = {**last.get("train", {}), **last["eval"]}
    best = next((one.metrics for one in measured if one.kind == "eval" and one.step == best_step), final)
    values = tuple(float((final if one.name in PRICES else best)[one.name]) for one in objectives)
    return Outcome("complete", values, constraints)


def distances(
    measured: Sequence[Measurement], baseline: Measurement, study: Study, planned_evals: int = 1
) -> dict[str, float]:
    """Return the distance to the limit of every guard and of the constraint on the best eval; above 0 is violated."""
    evals = [one for one in measured if one.kind == "eval"]
    guards = deciding(study.guards, study.reading, planned_evals)
    found = {label_of(rule): guard.excess(baseline, evals) for rule, guard in zip(study.guards, guards, strict=True)}
    return found | {BEST: min(study.constraint.excess(baseline.metrics, one.metrics) for one in evals)}


def _planned(spec: TrialSpec) -> int:
    return planned_evals(spec.steps, spec.eval_every_steps, spec.init_from is not None)
