"""The constraint that a study declared, from the experiment's `study.json`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from analysis.mlflow_runs import ExperimentRuns
from trainables.constraint import CONSTRAINT, BestConstraint, Constraint, TextConstraint, applicable_constraint
from trainables.io.files import read_json


def constraint_of(experiment: ExperimentRuns, reported: Collection[str]) -> Constraint:
    """Return the constraint of an experiment: the declared one where it can be read, else the default.

    Where it needs metrics that are not reported, it is the one on text.
    """
    for trial in experiment.trials:
        study = Path(trial.record).parent.parent / "study.json" if trial.record else None
        if study is not None and study.is_file():
            declared = _declared(read_json(study).get("constraint", {}))
            if declared is not None:
                return applicable_constraint(declared, reported)
    return applicable_constraint(CONSTRAINT, reported)


def _declared(values: dict[str, float]) -> Constraint | None:
    for kind in (BestConstraint, TextConstraint):
        if values and set(values) == set(kind.__dataclass_fields__):
            return kind(**values)
    return None
