"""What an experiment does now: its launch, its trials, the time that is left, and the free space."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal

from sweeps.display.trial_rows import TrialRow, seconds_left_of
from sweeps.execution.experiment import Experiment
from sweeps.watching.launches import WatchedLaunch, launch_of
from trainables.errors import UserError
from trainables.phase import TrialProcess, read_phase, read_process
from trainables.record import Record
from trainables.weak_probes import weak_probes_of

UNUSABLE = ("invalid", "infeasible", "failed")
TrialState = Literal["running", "waiting", "stopped", "ended"]


@dataclass(frozen=True)
class WatchedTrial:
    """One trial: its row, the process that holds it, and its state.

    `waiting` is a trial that a launch has yet to train, `stopped` one without a verdict that no launch runs.
    `log_directory` holds what its newest attempt has written.
    """

    record: str
    log_directory: str
    row: TrialRow
    state: TrialState
    process: TrialProcess | None

    @property
    def has_failed(self) -> bool:
        """True when the trial ended without a usable result."""
        return self.row.verdict is not None and self.row.verdict.kind in UNUSABLE

    @property
    def doing(self) -> str:
        """Return in words what the trial does now, or how it ended."""
        if self.state != "stopped":
            return self.row.state
        return f"stopped after its eval at step {self.row.eval_step}" if self.row.eval_step >= 0 else "not measured yet"


@dataclass(frozen=True)
class ExperimentStatus:
    """An experiment at one moment, and the launch that holds it.

    `warnings` are about its probes. `damaged` maps records that cannot be read to the reason. `seconds_left` is None
    before the first step is done.
    """

    experiment: str
    directory: str
    launch: WatchedLaunch
    trials: tuple[WatchedTrial, ...]
    damaged: Mapping[str, str]
    seconds_left: float | None
    free_bytes: int
    warnings: tuple[str, ...] = ()


def read_status(experiment: Experiment, now_seconds: float) -> ExperimentStatus:
    """Read the status of an experiment from its records; `now_seconds` counts since 1970."""
    launch = launch_of(experiment)
    trials: list[WatchedTrial] = []
    damaged: dict[str, str] = {}
    readable: list[Record] = []
    for record in (*experiment.records(), *(one for one in experiment.pilots() if one.verdict() is None)):
        try:
            trials.append(_watched(record, launch.may_run))
            readable.append(record)
        except UserError as error:
            damaged[record.name] = error.message
    return ExperimentStatus(
        experiment=experiment.name,
        directory=str(experiment.directory),
        launch=launch,
        trials=tuple(trials),
        damaged=damaged,
        seconds_left=time_left(trials, now_seconds) if launch.may_run else None,
        free_bytes=shutil.disk_usage(experiment.directory).free,
        warnings=tuple(map(str, weak_probes_of(readable))),
    )


def time_left(trials: Sequence[WatchedTrial], now_seconds: float) -> float | None:
    """Return the estimated seconds until the last trial ends; None if all have ended or none has done a step.

    A process trains several trials, so their time is counted together. A record does not say which engine a waiting
    trial will get: waiting trials are shared out evenly among the processes that train.
    """
    if all(one.state == "ended" for one in trials):
        return None
    engines = sorted({engine for one in trials if (engine := _engine(one.process)) is not None})
    following = cycle(engines or [None])
    rows = [replace(one.row, engine=_engine(one.process) or next(following)) for one in trials]
    return seconds_left_of(rows, now_seconds)


def _engine(process: TrialProcess | None) -> str | None:
    return f"{process.node}:{process.process_id}" if process else None


def _watched(record: Record, is_launched: bool) -> WatchedTrial:
    directory = record.directory
    row, phase, process = TrialRow(record.spec()), read_phase(directory), read_process(directory)
    row.read(record)
    if process is not None:
        row.began_seconds, row.first_step = process.began_seconds, process.first_step
    if row.verdict is not None:
        return WatchedTrial(record.name, str(directory), row, "ended", process)
    if not is_launched:  # what an ended launch left says nothing
        return WatchedTrial(record.name, str(directory), row, "stopped", None)
    if phase is not None:
        row.phase = phase
    return WatchedTrial(
        record.name, str(directory), row, "waiting" if row.phase.name == "waiting" else "running", process
    )
