"""The constraint that a study declared, from the experiment's `study.json`."""

from __future__ import annotations

from analysis.guard_limits import constraint_of_record
from analysis.mlflow_runs import ExperimentRuns
from analysis.placements import recorded
from trainables.constraint import CONSTRAINT, Constraint, applicable_constraint


def constraint_of(study: ExperimentRuns) -> Constraint:
    """Return the constraint of an experiment: the declared one where it can be read, else the default.

    Where it needs metrics that are not reported, it is the one on text.
    """
    declared = (constraint_of_record(record) for trial in study.trials if (record := recorded(trial)) is not None)
    reported = {name for trial in study.trials for name in (*trial.last, *trial.best)}
    return applicable_constraint(next(filter(None, declared), CONSTRAINT), reported)
