"""Chooses the checkpoint from which a trial resumes: the newest one whose measurements are still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainables.constraint import Constraint, best_eval
from trainables.record import Measurement, Record
from trainables.record_check import missing_lines
from trainables.spec import TrialSpec


def resumable_step(
    record: Record, spec: TrialSpec, constraint: Constraint, baseline: Mapping[str, float]
) -> int | None:  # fmt: skip
    """Return the step of the checkpoint to resume from, None to begin the trial again."""
    best = record.best()
    return choose_step(
        spec, record.checkpoint_steps(), record.measurements(), best.step if best else None, constraint, baseline
    )


def choose_step(
    spec: TrialSpec,
    checkpoints: Sequence[int],
    measured: Sequence[Measurement],
    best_step: int | None,
    constraint: Constraint,
    baseline: Mapping[str, float],
) -> int | None:
    """Return the step to resume from, None to begin again; `checkpoints` are the steps of whole ones, newest first.

    A checkpoint counts if every measurement up to its step can be read, and if the best adapter up to its step is
    kept. `best_step` is the step of the kept one, None without one.
    """
    for step in checkpoints:
        if missing_lines(spec, step, measured):
            continue
        evals = [one for one in measured if one.kind == "eval" and one.step <= step]
        wanted = best_eval(constraint, baseline, evals)
        # a kept adapter of a later step was better, and is measured again
        if wanted is None or (best_step is not None and (best_step == wanted.step or best_step > step)):
            return step
    return None
