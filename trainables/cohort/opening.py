"""Opens a cohort for trials of one engine: in shared passes if the family of the base has them, else in sequence."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.cohort.cohort import Cohort
from trainables.cohort.sequential import SequentialCohort
from trainables.engine import Engine
from trainables.training.trial import Trial


def open_cohort(engine: Engine, trials: Sequence[Trial]) -> Cohort | SequentialCohort:
    """Return opened trials as a cohort that trains them on the base of `engine`.

    Raises:
        ValueError: the trials differ in data order, batch shape or step.
    """
    if engine.base.family.shared_forward is None:
        return SequentialCohort(engine, trials)
    return Cohort(engine, trials)
