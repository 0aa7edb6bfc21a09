"""What crosses Ray: a request to train trials, and a report of how far they are. Both are frozen and carry a version.

Ray Tune's config holds only `request`; its result holds only `report`, `done` and what its scheduler reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.constraint import Constraint
from trainables.decision import Guard
from trainables.errors import UserError
from trainables.probes.probe import Baseline
from trainables.record import Record, Verdict

PROTOCOL_VERSION = 1
TIME_ATTRIBUTE = "step"  # what a scheduler reads: the step of the newest eval, and its metrics with this prefix
METRIC_PREFIX = "eval/"


class ProtocolMismatch(UserError):
    """Two processes of one launch run different versions of this package."""


@dataclass(frozen=True)
class Rules:
    """The limits every trial of a study is held to; `baselines` are by the trial id of the baseline."""

    baselines: Mapping[str, Baseline]
    guards: Sequence[Guard]
    constraint: Constraint


@dataclass(frozen=True)
class Request:
    """Asks a worker to train trials.

    Attributes:
        trials: the directories of their records; several should be able to train together: one report answers for all.
        stop_file: its existence asks for a checkpoint and an early end.
        cpus, gpus: what the worker reserves in Ray.
        engine: the name of the engine actor that trains the trials; without one the worker's own process does.
        peers: the records of all trials that the engine should expect to train together.
        scheduler_metrics: the metrics of an eval that Tune's scheduler reads.
        lease_epoch: counts the launches of one experiment, so that an engine can refuse a request of an earlier one;
            it is always 0 for now, and nothing checks it yet.
        worker: tells this worker from an earlier one with the same trials; every worker sets its own.
    """

    trials: tuple[str, ...]
    rules: Rules = field(repr=False)
    stop_file: str
    cpus: float
    gpus: float
    engine: str | None = None
    peers: tuple[str, ...] = field(default=(), repr=False)
    scheduler_metrics: tuple[str, ...] = ()
    lease_epoch: int = 0
    worker: str = ""
    version: int = PROTOCOL_VERSION

    @property
    def stop_requested(self) -> bool:
        """True when the launch asks every trial to checkpoint and end."""
        return Path(self.stop_file).exists()


@dataclass(frozen=True)
class TrialReport:
    """How far one trial is: the step (0 before the first eval) and metrics of its newest eval, and its verdict."""

    record: str
    step: int
    metrics: Mapping[str, float]
    verdict: Verdict | None


@dataclass(frozen=True)
class Report:
    """How far the trials of a request are; `stopped` when they end early because the launch asked for it."""

    trials: tuple[TrialReport, ...]
    stopped: bool
    lease_epoch: int = 0
    version: int = PROTOCOL_VERSION

    @property
    def done(self) -> bool:
        """True when there is nothing left to train."""
        return self.stopped or all(trial.verdict is not None for trial in self.trials)


def check_version(value: Request | Report) -> None:
    """Refuse a value that another version of this protocol made.

    Raises:
        ProtocolMismatch: `value` has another version.
    """
    if value.version != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            f"workers, engines and the launch must speak protocol version {PROTOCOL_VERSION}, "
            f"but a {type(value).__name__.lower()} has version {value.version}",
            "install the same version of this project on every node; `python -m sweeps.doctor --address auto` names "
            "the nodes that differ",
        )


def trial_report(record: Record) -> TrialReport:
    """Read from its record how far a trial is."""
    evals = record.evals()
    step, metrics = (evals[-1].step, dict(evals[-1].metrics)) if evals else (0, {})
    return TrialReport(str(record.directory), step, metrics, record.verdict())


def report_on(request: Request) -> Report:
    """Read from the records how far the trials of a request are."""
    trials = tuple(trial_report(Record(Path(trial))) for trial in request.trials)
    return Report(trials, request.stop_requested, request.lease_epoch)


def tune_result(report: Report, scheduler_metrics: Sequence[str]) -> dict[str, Any]:
    """Return what a step of Tune's Trainable reports; a scheduler decides on single trials, so it reads only those."""
    result: dict[str, Any] = {"report": report, "done": report.done}
    if not scheduler_metrics or len(report.trials) != 1:
        return result
    [trial] = report.trials
    read = {METRIC_PREFIX + name: trial.metrics[name] for name in scheduler_metrics if name in trial.metrics}
    return {**result, TIME_ATTRIBUTE: trial.step, **read}
