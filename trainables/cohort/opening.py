"""Opens a cohort: with shared passes if the family of the base supports them, else sequential."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.cohort.calibration_memory import calibration_memory, costs_memory
from trainables.cohort.cohort import Cohort
from trainables.cohort.keeping import as_begun
from trainables.cohort.sequential import SequentialCohort
from trainables.engine import Engine
from trainables.training.trial import Trial


def open_cohort(engine: Engine, trials: Sequence[Trial]) -> Cohort | SequentialCohort:
    """Return a cohort of opened trials on the base of `engine`.

    Raises:
        ValueError: the trials differ in data order, batch shape or step.
        FileDamaged: a record says in a damaged file whether its passes start from kept activations.
    """
    if engine.base.family.shared_forward is None:
        return SequentialCohort(engine, trials)
    cohort = Cohort(engine, trials)
    cohort.memory, cohort.costs_memory = calibration_memory(), costs_memory()
    cohort.keeping = as_begun(engine, trials)
    return cohort
