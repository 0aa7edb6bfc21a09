"""Records become seats under Ray Tune; what happens on Ray is told to a listener, one call at a time."""

from __future__ import annotations

import gc
import logging
import math
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
from uuid import uuid4

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.execution.engine_plan import engine_plans, most_threads, shared_out
from sweeps.execution.schedulers import METRIC_PREFIX, TIME_ATTRIBUTE, Asha, Scheduler, stopped_by
from trainables.metrics import metric
from trainables.record import Record, Verdict
from trainables.workers.cohort_trainable import CohortSeat
from trainables.workers.engine_actor import EngineActor, EngineSettings
from trainables.workers.protocol import Rules
from trainables.workers.solo_trainable import Seat

ENGINE_CPUS = 0.5  # what is left of a machine's only core is for the seats, which wait
MOST_CALLS = 10_000  # seats that wait at once
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
    """What one seat that trains alone holds, and what the cluster has for engines: GPUs, and the cores of each node."""

    cpus: float
    gpus: float
    devices: int
    cores: Mapping[str, int]


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
        yield _resources()
    finally:
        _shut_down()


def _shut_down() -> None:
    # Tune leaves cycles that hold references to Ray. One that the collector drops on another thread (MLflow's mirror)
    # while Ray shuts down ends this process at once, results and all.
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _resources() -> Resources:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    alive = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]}
    cores = {name: count for name, count in alive.items() if count}
    return Resources(cpus=1, gpus=1 if gpus else 0, devices=gpus, cores=cores)


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


@contextmanager
def engines(resources: Resources, trials: int, stop_file: Path, max_trials: int | None) -> Iterator[list[str]]:
    """Start engine actors for `trials`, as `engine_plans` has them; gives their names.

    An engine that dies is started again by Ray; its seats, which fail with it, ask the new one.
    """
    token = uuid4().hex[:8]
    plans = engine_plans(resources.cores, resources.devices, trials, most_threads(os.environ))
    names = [f"footprint-engine-{token}-{number}" for number in range(len(plans))]
    actors: list[Any] = [
        ray.remote(EngineActor)
        .options(
            name=name, num_cpus=ENGINE_CPUS, num_gpus=resources.gpus, max_restarts=-1, max_concurrency=MOST_CALLS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(one.node, soft=True) if one.node else "DEFAULT",
        )
        .remote(EngineSettings(threads=one.threads, stop_file=str(stop_file), max_trials=max_trials))
        for name, one in zip(names, plans, strict=True)
    ]  # fmt: skip
    try:
        yield names
    finally:
        for actor in actors:
            ray.kill(actor)


@dataclass(frozen=True)
class Seating:
    """What all seats of a launch share: the rules of their trials, and how often one that dies is tried again.

    `engines` are the names of the engine actors; without any, every seat trains alone in its own process. `scheduler`
    may end trials early; without any, only guards and checks do.
    """

    rules: Rules
    resources: Resources
    stop_file: Path
    retries: int
    engines: Sequence[str] = ()
    scheduler: Scheduler | None = None


def run_seats(records: Sequence[Record], seating: Seating, listener: Listener) -> None:
    """Run every record's trial as a seat; a seat that dies is retried from its newest valid checkpoint.

    Afterwards every record has a verdict, unless the stop file asked for an early end.
    """
    if not records:
        return
    for result in _tuner(records, seating, listener).fit():
        record = Record(Path((result.config or {})["place"]["record"]))
        if record.verdict() is None and result.error is not None:
            record.close(_failed(record, result.error))
            listener.advanced(record)


def _tuner(records: Sequence[Record], seating: Seating, listener: Listener) -> tune.Tuner:
    places = seated(records, seating.engines)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(16, len(places)))  # a cohort waits for all its seats
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that is invalid before its first eval has none
    return tune.Tuner(
        CohortSeat if seating.engines else Seat,
        param_space={
            "place": tune.grid_search(places),
            "rules": seating.rules,
            "stop_file": str(seating.stop_file),
            "cpus": seating.resources.cpus,
            "gpus": seating.resources.gpus,
        },
        tune_config=tune.TuneConfig(reuse_actors=True, **_scheduling(records, seating.scheduler)),
        run_config=tune.RunConfig(
            name="seats",
            storage_path=str(seating.stop_file.parent / "ray"),
            failure_config=tune.FailureConfig(max_failures=seating.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[_Relay(listener, seating)],
            verbose=0,
        ),
    )


def seated(records: Sequence[Record], engine_names: Sequence[str]) -> list[dict[str, Any]]:
    """Give every record its place: the engine it asks, and the records it expects beside it."""
    if not engine_names:
        return [{"record": str(record.directory)} for record in records]
    shares = shared_out([record.spec() for record in records], len(engine_names))
    return [
        {
            "record": str(records[index].directory),
            "engine": name,
            "company": [str(records[one].directory) for one in share],
        }
        for name, share in zip(engine_names, shares, strict=True)
        for index in share
    ]


def _scheduling(records: Sequence[Record], scheduler: Scheduler | None) -> dict[str, Any]:
    if scheduler is None:
        return {}
    observed: dict[str, Any] = {
        "time_attr": TIME_ATTRIBUTE,
        "metric": METRIC_PREFIX + scheduler.metric,
        "mode": "max" if metric(scheduler.metric).direction == "higher" else "min",
        "grace_period": scheduler.grace_period,
    }
    if isinstance(scheduler, Asha):
        most_steps = max(record.spec().steps for record in records)
        # a trial that reached its last step is complete by itself
        return {
            "scheduler": ASHAScheduler(
                **observed, max_t=most_steps, reduction_factor=scheduler.reduction_factor, stop_last_trials=False
            )
        }
    never_pausing: Any = math.inf  # a seat that pauses would hold up its cohort
    return {
        "scheduler": MedianStoppingRule(
            **observed, min_samples_required=scheduler.min_samples_required, min_time_slice=never_pausing
        )
    }


class _Relay(tune.Callback):
    def __init__(self, listener: Listener, seating: Seating) -> None:
        self.listener, self.seating = listener, seating

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for Tuner.restore, which is never used; a live board cannot be pickled

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.listener.started(Record(Path(trial.config["place"]["record"])))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.listener.advanced(Record(Path(result["record"])))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = Record(Path(trial.config["place"]["record"]))
        scheduler = self.seating.scheduler
        # a trial that ends without a verdict, and nobody asked all to stop, was stopped by the scheduler
        if scheduler is not None and record.verdict() is None and not self.seating.stop_file.exists():
            record.close(stopped_by(scheduler, record.evals()))
            self.listener.advanced(record)


def _failed(record: Record, error: Exception) -> Verdict:
    evals = record.evals()
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    cause = lines[-1].split(":")[0].split(".")[-1].strip() if lines else type(error).__name__
    return Verdict(
        kind="failed", step=evals[-1].step if evals else 0, cause=cause, reason=lines[-1].strip() if lines else cause
    )
