"""Opens a cohort: with shared passes if the family of the base supports them, else sequential."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.cohort.calibration_memory import calibration_memory, costs_memory
from trainables.cohort.cohort import Cohort
from trainables.cohort.keeping import as_begun
from trainables.cohort.sequential import SequentialCohort
from trainables.engine import Engine
from trainables.frozen.keeping_file import write_if_new
from trainables.frozen.worth import IN_TURN, Keeping
from trainables.training.trial import Trial


def open_cohort(engine: Engine, trials: Sequence[Trial]) -> Cohort | SequentialCohort:
    """Return a cohort of opened trials on the base of `engine`.

    What is decided by now about kept activations is written to the records of new trials, before their first step.

    Raises:
        ValueError: the trials differ in data order, batch shape or step, or in whether they began from kept
            activations.
        FileDamaged: a record says in a damaged file whether its passes start from kept activations.
    """
    if engine.base.family.shared_forward is None:
        _write(trials, IN_TURN)
        return SequentialCohort(engine, trials)
    cohort = Cohort(engine, trials)
    cohort.memory, cohort.costs_memory = calibration_memory(), costs_memory()
    cohort.keeping = as_begun(engine, trials)
    if cohort.keeping is not None:
        _write(trials, cohort.keeping)
    return cohort


def _write(trials: Sequence[Trial], keeping: Keeping) -> None:
    for trial in trials:
        write_if_new(trial.record.directory, trial.step, keeping)
