"""Checks the records of an experiment before a launch adds to them: damage, changed base and data, lost baselines."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from sweeps.execution.experiment import Experiment, kept_base_files
from sweeps.execution.holdout_file import holdout_of
from trainables.constraint import Constraint, applicable_constraint, best_eval
from trainables.errors import UserError
from trainables.io.files import FileDamaged
from trainables.io.manifest import MANIFEST
from trainables.model.base_files import file_digests
from trainables.record import BEST, RUN_AGAIN, Record
from trainables.record_check import check_record
from trainables.record_labels import LABELLED
from trainables.source_check import SourceChanged, check_sources
from trainables.spec import BASELINE_ARM, EARLIER_FORMATS, Source, TrialSpec


class TrialsLost(FileDamaged):
    """Trials lost their directory while they trained; `whole` are the others of the launch."""

    def __init__(self, lost: Sequence[Record], whole: Sequence[Record]) -> None:
        names = ", ".join(record.name for record in lost)
        super().__init__(
            f"the directory of a trial must stay while it trains, but that of {names} lost its spec.json or is gone",
            RUN_AGAIN,
        )
        self.whole = list(whole)


def check_not_lost(records: Sequence[Record]) -> None:
    """Check that every record of a launch is still there, after its trials were run.

    Raises:
        TrialsLost: names those that are not.
    """
    lost = [record for record in records if not record.exists()]
    if lost:
        raise TrialsLost(lost, [record for record in records if record not in lost])


def check_begun(experiment: Experiment, constraint: Constraint, fresh: Collection[Source] | None = None) -> None:
    """Check the records of an experiment, and the base and data that they read.

    A launch that has just planned its trials passes their sources as `fresh`: these are not read again, and neither
    are those of trials that have ended.

    Raises:
        FileDamaged: names every record that is damaged, or, without `fresh`, that is gone.
        SourceChanged: names what has changed.
    """
    records = [*experiment.records(), *experiment.pilots()]
    check_records(records, constraint)
    lost = experiment.lost_trials() if fresh is None else []
    if lost:
        raise FileDamaged(
            f"{experiment.directory / 'trials'} must hold every trial that was begun, but {', '.join(lost)} is gone",
            "restore it from a copy, or launch again without --resume, which trains it again",
        )
    reading = records if fresh is None else [record for record in records if record.verdict() is None]
    holdout = holdout_of(experiment.directory)
    specs = [record.spec() for record in reading]
    try:
        check_sources([*specs, *([holdout.rows_of(specs[0])] if holdout and specs else [])], fresh or ())
    except SourceChanged as error:
        hint = f"restore it, or start another experiment: leave out --resume and pass --experiment {experiment.name}-2"
        raise SourceChanged(error.message + _changed_files(experiment), hint) from None


def copy_begun_rows(experiment: Experiment, directory: Path) -> None:
    """Copy the miniature's rows beside an experiment of an earlier format, which reads those that it began with."""
    if experiment.begun.format in EARLIER_FORMATS:
        for rows in experiment.directory.parent.glob("data*"):
            shutil.copytree(rows, directory / rows.name)


def check_records(records: Sequence[Record], constraint: Constraint | None) -> None:
    """Check that no record is damaged; with a constraint also that no best adapter of an earlier version is lost.

    Raises:
        FileDamaged: names every record that is damaged.
    """
    damaged, whole = [], []
    for record in records:
        try:
            check_record(record)
            whole.append(record)
        except UserError as error:
            damaged.append(error.message)
    damaged += [] if damaged or constraint is None else _without_best(whole, constraint)
    if damaged:
        raise FileDamaged("\n".join(damaged), RUN_AGAIN)


def begin_lost_baselines(experiment: Experiment) -> list[Record]:
    """Begin the baselines that trials need but the experiment no longer has; return all records."""
    specs = [record.spec() for record in experiment.records()]
    needed = {one.trial_id: one for one in (spec.baseline() for spec in specs if not spec.placement.is_baseline)}
    lost = [one for trial_id, one in needed.items() if trial_id not in {spec.trial_id for spec in specs}]
    if len(needed) == 1:
        lost = [one.model_copy(update={"name": BASELINE_ARM}) for one in lost]
    experiment.begin(lost)
    return experiment.records()


def _without_best(records: Sequence[Record], constraint: Constraint) -> list[str]:
    """Return which records without a manifest have lost their best adapter; a manifest would have shown it."""
    specs = {record: record.spec() for record in records}
    metrics = {spec.trial_id: _first_eval(record) for record, spec in specs.items() if spec.placement.is_baseline}
    found = []
    for record, spec in specs.items():
        verdict, path = record.verdict(), record.directory / BEST
        has_ended = verdict is not None and verdict.kind in LABELLED and not (record.directory / MANIFEST).exists()
        if has_ended and not path.exists() and _has_best(record, spec, metrics, constraint):
            found.append(f"{path} is missing, although the trial has an eval that meets the constraint")
    return found


def _has_best(
    record: Record, spec: TrialSpec, metrics: Mapping[str, Mapping[str, float] | None], constraint: Constraint
) -> bool:  # fmt: skip
    baseline, evals = metrics.get(spec.baseline().trial_id), record.evals()
    if spec.placement.is_baseline or baseline is None or not evals:
        return False
    constraint = applicable_constraint(constraint, evals[0].metrics)
    is_measured = all(set(constraint.needs) <= {*one.metrics} for one in evals)
    return is_measured and best_eval(constraint, baseline, evals) is not None


def _first_eval(record: Record) -> Mapping[str, float] | None:
    evals = record.evals()
    return evals[0].metrics if evals else None


def _changed_files(experiment: Experiment) -> str:
    """Return which files of the base differ from those at the first launch; empty if that is not known."""
    base, kept = kept_base_files(experiment)
    if base is None or not base.is_dir():
        return ""
    now = file_digests(base)
    names = sorted(name for name in {*kept, *now} if kept.get(name) != now.get(name))
    return f"; changed in the base: {', '.join(names)}" if names else ""
