"""Records become seats under Ray Tune; what happens on Ray is told to a listener, one call at a time."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import ray
from ray import tune

from sweeps.study import Study
from trainables.probes.probe import Baseline
from trainables.record import Record, Verdict
from trainables.seat import Seat

NO_RESOURCES = "no node of the cluster"


class Listener(Protocol):
    """Is told what the seats do; must not raise, an exception here would end the whole sweep."""

    def started(self, record: Record) -> None:
        """A seat took the trial."""
        ...

    def advanced(self, record: Record) -> None:
        """A trial has a new eval or a verdict."""
        ...


@dataclass(frozen=True)
class Resources:
    """What one seat holds while its trial runs."""

    cpus: float
    gpus: float


@contextmanager
def ray_session(address: str | None) -> Iterator[Resources]:
    """Start Ray on this machine, or join the cluster at `address`; gives the resources of one seat.

    On a machine without GPU a seat holds one core, else one GPU.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", RAY_AIR_NEW_OUTPUT="0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # ours asks the seats to checkpoint first
    local: dict[str, Any] = {} if address else {"include_dashboard": False}
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=True, **local)
    try:
        gpus = ray.cluster_resources().get("GPU", 0)
        yield Resources(cpus=1, gpus=1 if gpus else 0)
    finally:
        ray.shutdown()


@contextmanager
def stopping_on_signals(stop_file: Path) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into the stop file, so that seats checkpoint; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        if stop_file.exists():
            raise KeyboardInterrupt
        stop_file.touch()
        sys.stderr.write("\nstopping: running trials checkpoint after their current step; Ctrl-C again ends at once\n")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_seats(
    records: Sequence[Record],
    study: Study,
    baselines: Mapping[str, Baseline],
    resources: Resources,
    stop_file: Path,
    retries: int,
    listener: Listener,
) -> None:
    """Run every record's trial as a seat; a seat that dies is retried from its newest valid checkpoint.

    Afterwards every record has a verdict, unless the stop file asked for an early end.
    """
    if not records:
        return
    tuner = _tuner(records, study, baselines, resources, stop_file, retries, listener)
    for result in tuner.fit():
        record = Record(Path((result.config or {})["record"]))
        if record.verdict() is None and result.error is not None:
            record.close(_failed(record, result.error))
            listener.advanced(record)


def _tuner(
    records: Sequence[Record],
    study: Study,
    baselines: Mapping[str, Baseline],
    resources: Resources,
    stop_file: Path,
    retries: int,
    listener: Listener,
) -> tune.Tuner:
    return tune.Tuner(
        Seat,
        param_space={
            "record": tune.grid_search([str(record.directory) for record in records]),
            "baselines": dict(baselines),
            "guards": study.guards,
            "constraint": study.constraint,
            "stop_file": str(stop_file),
            "cpus": resources.cpus,
            "gpus": resources.gpus,
        },
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name="seats",
            storage_path=str(stop_file.parent / "ray"),
            failure_config=tune.FailureConfig(max_failures=retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[_Relay(listener)],
            verbose=0,
        ),
    )


class _Relay(tune.Callback):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is never used; a live board cannot be pickled

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.listener.started(Record(Path(trial.config["record"])))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.listener.advanced(Record(Path(result["record"])))


def _failed(record: Record, error: Exception) -> Verdict:
    evals = record.evals()
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    cause = lines[-1].split(":")[0].split(".")[-1].strip() if lines else type(error).__name__
    return Verdict(
        kind="failed", step=evals[-1].step if evals else 0, cause=cause, reason=lines[-1].strip() if lines else cause
    )
