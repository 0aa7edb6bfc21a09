"""Evals of an experiment after its trials have ended: of derived copies, finalists, and the picks on the holdout.

They run in this process, one base after another: nothing trains, so there is nothing to schedule or to resume within an
eval, and a copy is written as soon as it is measured.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.execution.baselines import scores_of
from sweeps.execution.begun_records import check_records
from sweeps.execution.experiment import Experiment
from sweeps.execution.lease_holder import check_held
from sweeps.execution.options import experiment_directory
from sweeps.tracking.sync import StoreUnreachable, sync_all
from trainables.command import quieten_libraries
from trainables.errors import UserError, items, nearest
from trainables.measurement import Measurement
from trainables.mlflow_store import checked_uri, default_tracking_uri
from trainables.progress import working
from trainables.record import Record
from trainables.record_labels import LABELLED
from trainables.sharing_keys import engine_key
from trainables.source_check import check_sources
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from trainables.derived.copies import AdapterCopy
    from trainables.engine import Engine
    from trainables.health.checks import Finding
    from trainables.probes.probe import Baseline

Say = Callable[[str], None]


@dataclass(frozen=True)
class EndedExperiment:
    """An experiment with its trained trials that have a result, and its baselines by trial id."""

    experiment: Experiment
    trained: tuple[Record, ...]
    baselines: Mapping[str, Record]

    @contextmanager
    def held(self) -> Iterator[EndedExperiment]:
        """Hold the experiment while evals are added to it.

        Raises:
            AlreadyRunning: a launch holds it, or took it over during the block.
        """
        with self.experiment.held() as experiment:
            yield replace(self, experiment=experiment)

    def baseline_of(self, spec: TrialSpec) -> Record:
        """Return the record of a trial's baseline.

        Raises:
            UserError: there is none.
        """
        found = self.baselines.get(spec.baseline().trial_id)
        if found is None:
            where = ["--storage", str(self.experiment.directory.parent), "--experiment", self.experiment.name]
            raise UserError(
                f"{self.experiment.directory}: the baseline of {spec.name} must be there, but it is not",
                "to measure it again, run the command that began the experiment, with these options added: "
                + shlex.join(["--resume", *where]),
            )
        return found


@dataclass
class Counts:
    """How many evals were measured, and how many of them were invalid."""

    measured: int = 0
    invalid: int = 0


def ended_experiment(storage: Path, name: str, tracking_uri: str) -> EndedExperiment:
    """Read an experiment and check that no record is damaged.

    Raises:
        UserError: there is no such experiment, no trial has a result, or the tracking URI is invalid.
        FileDamaged: names every record that is damaged.
    """
    checked_uri(tracking_uri or default_tracking_uri())
    experiment = Experiment(experiment_directory(storage, name))
    records = experiment.records()
    if not records:
        others = sorted(path.parent.name for path in experiment.directory.parent.glob("*/trials"))
        raise UserError(
            f"--experiment must be one that {experiment.directory.parent} holds, but got `{name}`",
            nearest(name, others) or "check --storage",
        )
    check_records(records, None)
    baselines = {one.spec().trial_id: one for one in records if one.spec().placement.is_baseline}
    trained = [one for one in records if one.spec().trial_id not in baselines and _has_result(one)]
    if not trained:
        raise UserError(
            f"{experiment.directory}: a trial must have ended with a result, but none has",
            "run the experiment first, or finish it with --resume",
        )
    return EndedExperiment(experiment, tuple(trained), baselines)


def _has_result(record: Record) -> bool:
    verdict = record.verdict()
    return verdict is not None and verdict.kind in LABELLED


def of_arms(ended: EndedExperiment, only: str) -> list[Record]:
    """Return the trials of the named arms; of all arms if none is named.

    Raises:
        UserError: no trial has such an arm.
    """
    arms = {record.spec().arm: None for record in ended.trained}
    for name in (wanted := items(only, "--only", "A1,C2")):
        if name not in arms:
            raise UserError(f"an arm must have a trial with a result, but got `{name}`", nearest(name, arms))
    return [record for record in ended.trained if not wanted or record.spec().arm in wanted]


def measure_into(
    name: str, ended: EndedExperiment, copies: Sequence[AdapterCopy], say: Say,
    rows: Callable[[TrialSpec], TrialSpec] = lambda spec: spec,
    known: Callable[[Engine, EndedExperiment, Sequence[AdapterCopy]], Mapping[str, Baseline]] | None = None,
    all_rows: bool = False,
) -> Counts:  # fmt: skip
    """Evaluate copies, one base after another, and append each eval to the file `name` of its record.

    Args:
        rows: returns the spec whose rows are asked, from that of a trial; the same one asks the rows of the trial.
        known: returns the results of the base on these rows; by default those of the baselines' records.
        all_rows: asks the irrelevant rows beyond the core too.

    Raises:
        UserError: base or data have changed, or an adapter is not kept.
        AlreadyRunning: a launch took the experiment over, which `ended` holds.
    """
    from rich.console import Console

    quieten_libraries()  # before the libraries are imported
    from trainables.derived.measuring import measure_copies
    from trainables.engine import Engine
    from trainables.frozen.settings import IN_MEMORY
    from trainables.frozen.store import Store

    specs = {copy.record: copy.record.spec() for copy in copies}
    check_sources(rows(spec) for spec in specs.values())
    counts, console = Counts(), Console(stderr=True)
    for group in _by_engine(copies, specs):
        spec = specs[group[0].record]
        with working(console, f"loading {spec.base.path.name}, {spec.quantization}, for {len(group)} evals"):
            engine = Engine.load(rows(spec), all_rows=all_rows, store=Store.of(IN_MEMORY))
        with working(console, f"asking the rows, {len(group)} evals"):
            baselines = (known or _recorded)(engine, ended, group)
            for copy, found in measure_copies(engine, group, baselines):
                counts.measured += 1
                at = f"{copy.record.spec().name} @ {copy.step}, scale {copy.scale}"
                counts.invalid += not isinstance(found, Measurement)
                say(f"{counts.measured} of {len(copies)}: {at}: {_written(found, copy.record, name, ended.experiment)}")
    return counts


def _written(found: Measurement | Finding, record: Record, name: str, experiment: Experiment) -> str:
    """Append an eval to a file of its record, unless it is invalid; return what there is to say of it."""
    if not isinstance(found, Measurement):
        return f"invalid, not recorded: {found.evidence}"
    check_held(experiment.directory, experiment.launch)
    record.append(found, name)
    return _shown(found.metrics)


def copy_to_mlflow(ended: EndedExperiment, tracking_uri: str, say: Say) -> None:
    """Copy what was measured to MLflow; an outage loses nothing and is said."""
    experiment = ended.experiment
    try:
        sync_all(experiment.directory, tracking_uri or default_tracking_uri(), experiment.name)
    except StoreUnreachable as error:
        say(f"not copied to MLflow: {error.message}; the same command copies it when MLflow answers")


def _recorded(_: Engine, ended: EndedExperiment, copies: Sequence[AdapterCopy]) -> Mapping[str, Baseline]:
    records = {one.spec().trial_id: one for one in (ended.baseline_of(copy.record.spec()) for copy in copies)}
    return {trial_id: scores_of(record) for trial_id, record in records.items()}


def _by_engine(copies: Sequence[AdapterCopy], specs: Mapping[Record, TrialSpec]) -> Iterator[list[AdapterCopy]]:
    groups: dict[tuple[str, ...], list[AdapterCopy]] = {}
    for copy in copies:
        groups.setdefault(engine_key(specs[copy.record]), []).append(copy)
    yield from groups.values()


def _shown(metrics: Mapping[str, float]) -> str:
    names = ("exact_match", "eval_loss", "irrelevant_pass", "text_retention")
    return ", ".join(f"{name} {metrics[name]:.3f}" for name in names if name in metrics)
