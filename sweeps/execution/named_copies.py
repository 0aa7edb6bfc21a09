"""Finds the adapters of candidates that are named on a command line, such as `C2 @ 60 x 0.5`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweeps.execution.later_evals import EndedExperiment
from trainables.derived.candidate_name import CandidateName
from trainables.derived.copies import KEEP_HINT, AdapterCopy
from trainables.errors import UserError, nearest
from trainables.measurement import AVERAGE
from trainables.record import Record


def copies_named(ended: EndedExperiment, name: CandidateName) -> list[AdapterCopy]:
    """Return the adapters of a candidate: of each seed that has an eval at its step, and keeps what is needed.

    The candidate's arm may also be the name or the id of one trial.

    Raises:
        UserError: there is no such arm, no such eval, or no adapter is kept.
    """
    records = [one for one in ended.trained if name.arm in _names(one)]
    if not records:
        known = dict.fromkeys(word for one in ended.trained for word in _names(one))
        raise UserError(f"a candidate must be of an arm with a result, but got `{name.arm}`", nearest(name.arm, known))
    steps = {one.step for record in records for one in record.evals() if one.step > 0}
    if name.step not in steps:
        raise UserError(
            f"a candidate must be an eval of {name.arm}, but none is at step {name.step}",
            f"its evals are at {', '.join(map(str, sorted(steps)))}",
        )
    kept = [
        one
        for one in records
        if one.adapter_at(name.step) is not None and (name.scale != AVERAGE or one.evals()[-1].step == name.step)
    ]
    if not kept:
        raise UserError(f"the adapter of `{name}` must be kept by a seed, but none keeps it", KEEP_HINT)
    return [AdapterCopy(one, name.step, name.scale) for one in kept]


def unmeasured(copies: Iterable[AdapterCopy], file: str) -> list[AdapterCopy]:
    """Return the copies that have no eval in this file of their records, each once."""
    return [one for one in dict.fromkeys(copies) if not _is_measured(one, file)]


def _is_measured(copy: AdapterCopy, file: str) -> bool:
    return any((one.step, one.scale) == (copy.step, copy.scale) for one in copy.record.later_evals(file))


def _names(record: Record) -> Sequence[str]:
    spec = record.spec()
    return spec.arm, spec.name, spec.trial_id
