"""The values exchanged through Ray: a request to train trials, and a report of their progress, both with a version.

Ray Tune's config holds only `request`; its result holds only `report`, `done` and the values that its scheduler reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trainables.constraint import Constraint
from trainables.decision import Guard
from trainables.errors import UserError
from trainables.model.residency import ResidencyChoice
from trainables.probes.probe import Baseline
from trainables.record import Keep, Record
from trainables.schedule import planned_evals
from trainables.spec import TrialSpec
from trainables.tested_guards import Reading, deciding
from trainables.typed import typed
from trainables.verdict import Verdict
from trainables.workers.retries import TrialFailure

PROTOCOL_VERSION = 4
TIME_ATTRIBUTE = "step"  # the scheduler reads the step of the newest eval, and its metrics with the prefix below
METRIC_PREFIX = "eval/"


class ProtocolMismatch(UserError):
    """Two processes of one launch run different versions of this package."""


@dataclass(frozen=True)
class Rules:
    """The rules of a study for all of its trials; `baselines` are keyed by the trial id of the baseline.

    `reading` says whether the guards decide by tests or by the numbers as they are, `keep` whether records keep the
    adapter of every eval, or the best one alone. `resident` says how engines hold 4-bit weights.
    """

    baselines: Mapping[str, Baseline]
    guards: Sequence[Guard]
    constraint: Constraint
    reading: Reading = "exact"
    keep: Keep = "all"
    resident: ResidencyChoice = "auto"

    def guards_for(self, spec: TrialSpec) -> Sequence[Guard]:
        """Return the guards of one trial, whose tests share their error over its evals."""
        evals = planned_evals(spec.last_step, spec.eval_every_steps, spec.init_from is not None)
        return deciding(self.guards, self.reading, evals)


@dataclass(frozen=True)
class Request:
    """A request to a worker to train trials.

    Attributes:
        trials: the directories of their records; several trials share one report, so they should train together.
        stop_file: while it exists, trials checkpoint and stop early.
        cpus, gpus: what the worker reserves in Ray.
        roster: the name of the actor that tells the worker its engine; None trains the trials in the worker's process.
        engine: the name of the engine actor that trains the trials, which the worker fills in, as the next two.
        peers: the record directories of all trials that the engine should train together.
        company: the most trials that the engine may train together with these to the next eval, None for no limit.
        scheduler_metrics: the metrics of an eval that Tune's scheduler reads.
        lease_epoch: number of the launch within its experiment; after a later launch took over, no trial is opened.
        shares_seat: whether one worker process waits for all of these trials at once, each on a thread of its own.
        gate: the file that must be there before an engine trains the trials, None for none.
        worker: a unique id, which distinguishes this worker from an earlier one with the same trials.
    """

    trials: tuple[str, ...]
    rules: Rules = field(repr=False)
    stop_file: str
    cpus: float
    gpus: float
    roster: str | None = None
    engine: str | None = None
    peers: tuple[str, ...] = field(default=(), repr=False)
    company: int | None = None
    scheduler_metrics: tuple[str, ...] = ()
    lease_epoch: int = 0
    shares_seat: bool = False
    gate: str | None = None
    worker: str = ""
    version: int = PROTOCOL_VERSION

    @property
    def stop_requested(self) -> bool:
        """True when the launch requests that every trial checkpoints and stops."""
        return Path(self.stop_file).exists()


@dataclass(frozen=True)
class TrialReport:
    """The progress of one trial: step (0 before the first eval) and metrics of its newest eval, and its verdict."""

    record: str
    step: int
    metrics: Mapping[str, float]
    verdict: Verdict | None


@dataclass(frozen=True)
class Report:
    """The progress of the trials of a request; `stopped` if they end early because the launch requested it.

    An engine reports the `failure` that ended their training, or `moved` when another engine is to train them.
    """

    trials: tuple[TrialReport, ...]
    stopped: bool
    lease_epoch: int = 0
    failure: TrialFailure | None = None
    moved: bool = False
    version: int = PROTOCOL_VERSION

    @property
    def done(self) -> bool:
        """True when no trial continues."""
        if self.failure is not None or self.moved:
            return False
        return self.stopped or all(trial.verdict is not None for trial in self.trials)


class Backend(Protocol):
    """Trains the trials of one request at a time."""

    def take(self, request: Request) -> None:
        """Release the previous request, if any, and start this one."""
        ...

    def advance(self) -> Report:
        """Train to the next eval and report."""
        ...

    def close(self) -> None:
        """Release the request and all resources."""
        ...


def check_version(value: Request | Report) -> None:
    """Refuse a value of another protocol version.

    Raises:
        ProtocolMismatch: `value` has another version.
    """
    if value.version != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            f"workers, engines and the launch must use protocol version {PROTOCOL_VERSION}, "
            f"but a {type(value).__name__.lower()} has version {value.version}",
            f"install the same version of this project on every node; `{typed('doctor', '--address', 'auto')}` names "
            "the nodes that differ",
        )


def trial_report(record: Record) -> TrialReport:
    """Return the progress of a trial from its record."""
    evals = record.evals()
    step, metrics = (evals[-1].step, dict(evals[-1].metrics)) if evals else (0, {})
    return TrialReport(str(record.home), step, metrics, record.verdict())


def report_on(request: Request) -> Report:
    """Return the progress of the trials of a request from their records."""
    trials = tuple(trial_report(Record(Path(trial))) for trial in request.trials)
    return Report(trials, request.stop_requested, request.lease_epoch)


def tune_result(report: Report, scheduler_metrics: Sequence[str]) -> dict[str, Any]:
    """Return the result of one step of the Tune Trainable; only requests of one trial include scheduler metrics."""
    result: dict[str, Any] = {"report": report, "done": report.done}
    if not scheduler_metrics or len(report.trials) != 1:
        return result
    [trial] = report.trials
    read = {METRIC_PREFIX + name: trial.metrics[name] for name in scheduler_metrics if name in trial.metrics}
    return {**result, TIME_ATTRIBUTE: trial.step, **read}
