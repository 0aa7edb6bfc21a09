"""Finds the adapters of candidates that are named on a command line, such as `C2 @ 60 x 0.5`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from sweeps.execution.later_evals import EndedExperiment
from trainables.derived.candidate_name import CandidateName
from trainables.derived.copies import AVERAGED_EVALS, KEEP_HINT, AdapterCopy, kept_adapters, trained_steps
from trainables.errors import UserError, nearest
from trainables.measurement import AVERAGE
from trainables.record import Record


def copies_named(
    ended: EndedExperiment, names: Iterable[CandidateName], say: Callable[[str], None]
) -> Mapping[CandidateName, Sequence[AdapterCopy]]:
    """Return the adapters of each candidate: of every seed that has an eval at its step.

    The candidate's arm may also be the name or the id of one trial. A candidate is measured on all of its seeds or
    not at all: where one of them does not keep what is needed, it is left out, and `say` gets a line about it.

    Raises:
        UserError: there is no such arm or no such eval, or of no candidate all adapters are kept.
    """
    found = {name: _copies(ended, name) for name in names}
    skipped = {name: line for name, copies in found.items() if (line := _not_kept(name, copies))}
    if len(skipped) == len(found):
        name, line = next(iter(skipped.items()))
        raise UserError(f"every seed must keep the adapters of `{name}`, but {line}", KEEP_HINT)
    for name, line in skipped.items():
        say(f"skipped '{name}': {line}")
    return {name: copies for name, copies in found.items() if name not in skipped}


def unmeasured(
    ended: EndedExperiment, names: Iterable[CandidateName], file: str, what: str, say: Callable[[str], None]
) -> list[AdapterCopy]:
    """Return the adapters of candidates that have no eval in a file of their records, each once.

    `say` gets a line with how many there are; `what` says in it what the candidates are.

    Raises:
        UserError: as `copies_named`.
    """
    found = copies_named(ended, names, say)
    copies = list(dict.fromkeys(copy for of_name in found.values() for copy in of_name))
    missing = [one for one in copies if not _is_measured(one, file)]
    say(f"{len(copies)} adapters of {len(found)} {what}, {len(copies) - len(missing)} measured before")
    return missing


def _copies(ended: EndedExperiment, name: CandidateName) -> list[AdapterCopy]:
    records = [one for one in ended.trained if name.arm in _names(one)]
    if not records:
        known = dict.fromkeys(word for one in ended.trained for word in _names(one))
        raise UserError(f"a candidate must be of an arm with a result, but got `{name.arm}`", nearest(name.arm, known))
    at_step = [one for one in records if name.step in trained_steps(one)]
    if not at_step:
        steps = {step for record in records for step in trained_steps(record)}
        raise UserError(
            f"a candidate must be an eval of {name.arm}, but none is at step {name.step}",
            f"its evals are at {', '.join(map(str, sorted(steps)))}",
        )
    with_it = [one for one in at_step if name.scale != AVERAGE or _ends_an_average(one, name.step)]
    if not with_it:
        kept_adapters(at_step[0], name.step, AVERAGE)  # raises, and says where averages end
    return [AdapterCopy(one, name.step, name.scale) for one in with_it]


def _ends_an_average(record: Record, step: int) -> bool:
    steps = trained_steps(record)
    return len(steps) >= AVERAGED_EVALS and steps[-1] == step


def _not_kept(name: CandidateName, copies: Iterable[AdapterCopy]) -> str:
    """Return which seed lacks which adapters of a candidate; empty if all are kept."""
    for copy in copies:
        steps = trained_steps(copy.record)[-AVERAGED_EVALS:] if copy.scale == AVERAGE else [copy.step]
        if missing := [step for step in steps if copy.record.adapter_at(step) is None]:
            what = "this step" if missing == [name.step] else f"step {', '.join(map(str, missing))}"
            return f"seed {copy.record.spec().seed} keeps no adapter of {what}"
    return ""


def _is_measured(copy: AdapterCopy, file: str) -> bool:
    return any((one.step, one.scale) == (copy.step, copy.scale) for one in copy.record.later_evals(file))


def _names(record: Record) -> Sequence[str]:
    spec = record.spec()
    return spec.arm, spec.name, spec.trial_id
