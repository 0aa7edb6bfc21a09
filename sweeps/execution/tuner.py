"""Runs trials under Ray Tune: starts Ray and the engines, sends requests, retries them, and handles Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any
from uuid import uuid4

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.execution.engine_plan import MOST_SEATS, distribute, engine_plans, groups
from sweeps.execution.ray_session import Resources
from sweeps.execution.relay import Listener, Relay, records_of
from sweeps.execution.schedulers import METRIC_PREFIX, TIME_ATTRIBUTE, Asha, Scheduler
from sweeps.execution.storage import check_not_full
from trainables.attempt import claim
from trainables.errors import InfrastructureError
from trainables.metrics import metric
from trainables.record import Record
from trainables.verdict import Verdict
from trainables.workers.engine_actor import EngineActor, EngineSettings
from trainables.workers.protocol import ProtocolMismatch, Request, Rules
from trainables.workers.trainable import TrialWorker

ENGINE_CPUS = 0.5  # on a machine with one core, the waiting workers need the rest
WAITING_CPUS = 0.01  # for a worker that waits for an engine
MAX_CALLS = 10_000  # workers that can wait for one engine at once


@contextmanager
def stopping_on_signals(stop_file: Path) -> Iterator[None]:
    """Create the stop file on the first Ctrl-C or SIGTERM, so that trials checkpoint; the second one ends at once."""
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
def engines(
    resources: Resources, trials: int, stop_file: Path, max_trials: int | None, max_threads: int | None = None
) -> Iterator[list[str]]:
    """Start the engine actors that `engine_plans` plans for `trials` trials; yields their names.

    Ray restarts an engine that dies. Its workers fail too, and Tune retries them with the new engine.
    """
    token = uuid4().hex[:8]
    plans = engine_plans(resources.cores, resources.devices, trials, max_threads)
    names = [f"footprint-engine-{token}-{number}" for number in range(len(plans))]
    actors: list[Any] = [
        ray.remote(EngineActor)
        .options(
            name=name, num_cpus=ENGINE_CPUS, num_gpus=resources.gpus, max_restarts=-1, max_concurrency=MAX_CALLS,
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
class TuneSettings:
    """The settings of all trials of a launch.

    A trial whose worker dies is retried up to `retries` times. `engines` are the names of the engine actors; without
    any, every worker trains its trial in its own process. `scheduler` can end trials early; without one, only guards
    and health checks do. `launch` is the number of the launch within its experiment. At most `most_seats` trials of an
    engine have a worker at once; the next ones take over its processes.
    """

    rules: Rules
    resources: Resources
    stop_file: Path
    retries: int
    launch: int = 0
    engines: Sequence[str] = ()
    scheduler: Scheduler | None = None
    most_seats: int = MOST_SEATS


def run_trials(records: Sequence[Record], settings: TuneSettings, listener: Listener) -> None:
    """Run every record's trial in a worker; when a worker dies, the trial resumes from its newest valid checkpoint.

    Afterwards every record has a verdict, unless the stop file ended the launch early.

    Raises:
        ProtocolMismatch: a node runs another version of this package.
        InfrastructureError: the storage is full, or Tune cannot keep its own files.
    """
    if not records:
        return
    relay = Relay(listener, settings.stop_file, settings.launch, settings.scheduler)
    results = _fit(_tuner(records, settings, relay), settings.stop_file.parent)
    for result in results:
        if mismatch := relay.mismatch or _mismatch(result.error):
            raise mismatch
    for result in results:
        for record in records_of((result.config or {})["request"]):
            if record.verdict() is None and result.error is not None and record.home.is_dir():  # or it was deleted
                claim(record, settings.launch).close(_failed(record, result.error))
                listener.advanced(record)


def _fit(tuner: tune.Tuner, storage: Path) -> tune.ResultGrid:
    try:
        results = tuner.fit()
    except (OSError, EOFError, UnpicklingError, TuneError) as error:  # the last two: a file of Tune is cut off
        check_not_full(storage)
        raise InfrastructureError(
            f"Ray Tune must be able to keep its files in {storage}, but: {str(error).splitlines()[0]}",
            "check the storage, then run the same command again with --resume",
        ) from error
    if results.num_errors:
        check_not_full(storage)
    return results


def _tuner(records: Sequence[Record], settings: TuneSettings, relay: Relay) -> tune.Tuner:
    requests = requests_for(records, settings)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(16, len(requests)))  # a cohort waits for all its workers
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = (
        "1"  # a trial that is invalid before its first eval reports no metrics
    )
    return tune.Tuner(
        TrialWorker,
        param_space={"request": tune.grid_search(requests)},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=len(settings.engines) * settings.most_seats or None,
            **_scheduling(records, settings.scheduler),
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(settings.stop_file.parent / "ray" / f"launch-{settings.launch}"),
            failure_config=tune.FailureConfig(max_failures=settings.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=[relay],
            verbose=0,
        ),
    )


def requests_for(records: Sequence[Record], settings: TuneSettings) -> list[Request]:
    """Return a request for every record; with engines, it names an engine and the trials that wait for each other.

    The first groups of all engines come first, so that they get the workers.
    """
    resources, scheduler = settings.resources, settings.scheduler
    alone = Request(
        (), settings.rules, str(settings.stop_file), resources.cpus, resources.gpus,
        scheduler_metrics=(scheduler.metric,) if scheduler else (), lease_epoch=settings.launch,
    )  # fmt: skip
    names = [str(record.home) for record in records]
    if not settings.engines:
        return [replace(alone, trials=(name,)) for name in names]
    waiting = replace(alone, cpus=WAITING_CPUS, gpus=0)
    shares = distribute([record.spec() for record in records], len(settings.engines))
    divided = [groups(share, settings.most_seats) for share in shares]
    return [
        replace(waiting, trials=(names[index],), engine=engine, peers=tuple(names[one] for one in group))
        for turn in zip_longest(*divided)
        for engine, group in zip(settings.engines, turn, strict=True)
        for index in group or ()
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
        # a trial that has reached its last step ends by itself
        return {
            "scheduler": ASHAScheduler(
                **observed, max_t=most_steps, reduction_factor=scheduler.reduction_factor, stop_last_trials=False
            )
        }
    never_pausing: Any = math.inf  # a paused trial would block its cohort
    return {
        "scheduler": MedianStoppingRule(
            **observed, min_samples_required=scheduler.min_samples_required, min_time_slice=never_pausing
        )
    }


def _mismatch(error: Exception | None) -> ProtocolMismatch | None:
    if isinstance(error, RayTaskError):
        error = error.cause
    return error if isinstance(error, ProtocolMismatch) else None


def _failed(record: Record, error: Exception) -> Verdict:
    evals = record.evals()
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    cause = lines[-1].split(":")[0].split(".")[-1].strip() if lines else type(error).__name__
    return Verdict(
        kind="failed", step=evals[-1].step if evals else 0, cause=cause, reason=lines[-1].strip() if lines else cause
    )
