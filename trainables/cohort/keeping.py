"""Decides for a cohort whether its passes start from kept activations: as its records say, else by what steps take.

A resumed trial goes on as it began, so that it equals one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from trainables.engine import Engine
from trainables.frozen.keeping_file import begun
from trainables.frozen.kept import KeptActivations
from trainables.frozen.worth import NEVER, RANDOM, Keeping, Reads, StepCosts, decide, needs_costs, pays
from trainables.schedule import planned_evals
from trainables.spec import TrialSpec
from trainables.training.trial import Trial

CLEAR_READS = 2.0  # of a row: where these pay in the first round of timed steps, there is no second


def as_begun(engine: Engine, trials: Sequence[Trial]) -> Keeping | None:
    """Return how trials began, from their records; None if all are new.

    A new trial goes on as the others began.

    Raises:
        ValueError: trials began in different ways.
        FileDamaged: the file of a record is not as it was written.
    """
    if engine.kept is None:
        return NEVER
    if not engine.kept.is_usable:
        return RANDOM
    found = [one for trial in trials if (one := begun(trial.record.directory, trial.step)) is not None]
    ways = {(one.training, one.evals) for one in found}
    if len(ways) > 1:
        raise ValueError(f"trials of a cohort must have begun alike, but {len(ways)} ways of keeping differ")
    return found[0] if found else None


def decided(
    engine: Engine, spec: TrialSpec, costs: Callable[[], StepCosts | None], shares_cut: Callable[[], bool]
) -> Keeping:
    """Return what new trials keep.

    `costs` times a step, None if the device has too little memory for one; `shares_cut` says whether several passes of
    a step start at one cut.
    """
    assert engine.kept is not None
    store, rows = engine.kept.store, spec.rows_before(spec.last_step)
    distinct = len(set(islice(engine.row_stream(spec, 0), rows)))
    evals = planned_evals(spec.last_step, spec.eval_every_steps)  # the first of a continued trial reads no entries
    reads, has_files = Reads.of(rows, distinct, evals), store.files is not None
    found = costs() if needs_costs(reads, has_files, not has_files and shares_cut()) else None
    return decide(reads, has_files, found, found.fits(distinct, store.memory.room_bytes) if found else 1.0)


def costs_of(
    kept: KeptActivations, rows: int, seconds: Callable[[KeptActivations | None], float | None]
) -> StepCosts | None:
    """Return what a step of `rows` rows takes; None if memory is short.

    `seconds` runs a step from what is kept there, or without. Where keeping seems to cost time, a second run of each
    way decides, since another process may have disturbed the first.
    """
    if seconds(kept) is None:  # allocates memory, and proves the shapes of entries
        return None
    found = _round(kept, rows, seconds)
    if found is None or pays(CLEAR_READS, found):
        return found
    again = _round(kept, rows, seconds)
    return found if again is None else found.fastest(again)


def _round(
    kept: KeptActivations, rows: int, seconds: Callable[[KeptActivations | None], float | None]
) -> StepCosts | None:
    empty = kept.emptied()
    plain, cold, warm = (seconds(used) for used in (None, empty, empty))
    if plain is None or cold is None or warm is None:
        return None
    return StepCosts(plain, cold, warm, empty.store.memory.lasting_bytes / rows)
