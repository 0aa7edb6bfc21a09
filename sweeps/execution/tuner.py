"""Runs trials under Ray Tune: starts Ray and the engines, sends requests, retries them, and handles Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule
from ray.tune.search.basic_variant import BasicVariantGenerator

from sweeps.execution.baselines_ahead import BaselinesAhead
from sweeps.execution.engine_plan import MOST_SEATS, groups
from sweeps.execution.fleet import NO_ENGINE_SECONDS, Fleet, FleetWatch
from sweeps.execution.ray_session import Resources
from sweeps.execution.relay import Listener, Relay, records_of
from sweeps.execution.schedulers import METRIC_PREFIX, TIME_ATTRIBUTE, Asha, Scheduler
from sweeps.execution.storage import check_not_full
from trainables.attempt import claim
from trainables.errors import InfrastructureError
from trainables.metrics import metric
from trainables.record import Record
from trainables.verdict import Verdict
from trainables.workers.assignment import Group
from trainables.workers.protocol import ProtocolMismatch, Request, Rules
from trainables.workers.retries import MOST_LOST, GivenUp, verdict_of
from trainables.workers.trainable import TrialWorker

NO_RESULT = "NoResult: its worker ended without one"
WAITING_CPUS = 0.01  # for a worker that waits for an engine


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


@dataclass(frozen=True)
class TuneSettings:
    """The settings of all trials of a launch.

    A trial that fails is retried up to `retries` times; losses of its process or machine count apart
    (`trainables.workers.retries`). Without a `fleet` of engines, every worker trains its trial in its own process.
    `scheduler` can end trials early; without one, only guards and health checks do. `launch` is the number of the
    launch within its experiment. At most `most_seats` trials of an engine have a worker at once; the next ones take
    over its processes. The trials of a group share one process, unless `own_seats` or a scheduler asks for one each.
    No trial starts before the file `gate` is there.
    """

    rules: Rules
    resources: Resources
    stop_file: Path
    retries: int
    launch: int = 0
    fleet: Fleet | None = None
    scheduler: Scheduler | None = None
    most_seats: int = MOST_SEATS
    own_seats: bool = False
    gate: Path | None = None

    @property
    def tune_directory(self) -> Path:
        """Return the directory of Tune's own files, which nothing reads after the launch."""
        return self.stop_file.parent / "ray" / f"launch-{self.launch}"

    @property
    def shares_seats(self) -> bool:
        """True when one process waits for all trials of a group."""
        return self.fleet is not None and self.scheduler is None and not self.own_seats


def run_trials(
    records: Sequence[Record], settings: TuneSettings, listener: Listener, baselines: Sequence[Record] = (),
    check: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Run every record's trial in a worker; when a worker dies, the trial resumes from its newest valid checkpoint.

    Afterwards every record has a verdict, unless the stop file ended the launch early. `baselines` are measured on an
    engine of the fleet meanwhile; the trials start when `check` has passed, which may refuse them.

    Raises:
        UserError: `check` refused the baselines.
        ProtocolMismatch: a node runs another version of this package.
        InfrastructureError: the storage is full, or Tune cannot keep its own files.
    """
    if not records:
        return
    relay = Relay(listener, settings.stop_file, settings.launch, settings.scheduler, settings.retries)
    fleet = settings.fleet
    if fleet and baselines:
        settings = replace(settings, gate=settings.tune_directory / "baselines-measured")
    requests = _assigned_requests(records, settings, fleet) if fleet else requests_for(records, settings)
    with _ahead(baselines, requests[0], settings, listener, check):
        results = _fit(_tuner(requests, records, settings, relay), settings.stop_file.parent)
    if fleet and fleet.has_given_up:
        settings.stop_file.unlink(missing_ok=True)
        raise InfrastructureError(
            f"a launch must have a node to train on, but it lost its last one more than {NO_ENGINE_SECONDS / 60:g} "
            "minutes ago",
            "run the same command again with --resume when `ray status` lists one under Active",
        )
    for result in results:
        if mismatch := relay.mismatch or _mismatch(result.error):
            raise mismatch
    for result in results:
        for record in records_of((result.config or {})["request"]):
            has_ended = record.verdict() is not None or not record.home.is_dir()  # or it was deleted
            if has_ended or (result.error is None and settings.stop_file.exists()):
                continue
            claim(record, settings.launch).close(_failed(record, result.error or RuntimeError(NO_RESULT)))
            listener.advanced(record)


def _ahead(
    baselines: Sequence[Record], request: Request, settings: TuneSettings, listener: Listener, check: Callable[[], None]
) -> AbstractContextManager[None]:
    if settings.gate is None:
        return nullcontext()
    alone = replace(request, gate=None, scheduler_metrics=(), rules=replace(request.rules, baselines={}))
    return BaselinesAhead(baselines, alone, settings.gate, listener, check).measuring()


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


def _assigned_requests(records: Sequence[Record], settings: TuneSettings, fleet: Fleet) -> list[Request]:
    """Return a request for every group or record, in the order of their workers, and tell the roster the groups."""
    groups = groups_of(records, max(1, len(fleet.engines)), settings.most_seats)
    fleet.begin(groups, settings.retries)
    homes = {str(record.home): record for record in records}
    if settings.shares_seats:
        [common] = requests_for(records[:1], settings, fleet.roster_name)
        return [replace(common, trials=group.trials, shares_seat=True) for group in groups]
    return requests_for([homes[trial] for group in groups for trial in group.trials], settings, fleet.roster_name)


def seats_of_an_engine(requests: Sequence[Request], most_seats: int) -> int:
    """Return how many workers an engine has at once, when together they may wait for `most_seats` trials."""
    return max(1, most_seats // max(len(request.trials) for request in requests))


def _tuner(requests: Sequence[Request], records: Sequence[Record], settings: TuneSettings, relay: Relay) -> tune.Tuner:
    searcher = BasicVariantGenerator()
    callbacks: list[tune.Callback] = [relay]
    if settings.fleet is not None:
        seats = seats_of_an_engine(requests, settings.most_seats)
        callbacks.append(FleetWatch(settings.fleet, searcher, relay.listener, seats))
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(16, len(requests)))  # a cohort waits for all its workers
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = (
        "1"  # a trial that is invalid before its first eval reports no metrics
    )
    return tune.Tuner(
        TrialWorker,
        param_space={"request": tune.grid_search(list(requests))},
        tune_config=tune.TuneConfig(reuse_actors=True, search_alg=searcher, **_scheduling(records, settings.scheduler)),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(settings.tune_directory),
            failure_config=tune.FailureConfig(max_failures=settings.retries + MOST_LOST + 1),  # more than the relay
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            callbacks=callbacks,
            verbose=0,
        ),
    )


def requests_for(records: Sequence[Record], settings: TuneSettings, roster: str | None = None) -> list[Request]:
    """Return a request for every record; with a roster, its worker waits for an engine and needs little."""
    resources, scheduler = settings.resources, settings.scheduler
    alone = Request(
        (), settings.rules, str(settings.stop_file), resources.cpus, resources.gpus,
        scheduler_metrics=(scheduler.metric,) if scheduler else (), lease_epoch=settings.launch,
    )  # fmt: skip
    gate = str(settings.gate) if settings.gate else None
    common = replace(alone, cpus=WAITING_CPUS, gpus=0, roster=roster, gate=gate) if roster else alone
    return [replace(common, trials=(str(record.home),)) for record in records]


def groups_of(records: Sequence[Record], engines: int, most_seats: int) -> list[Group]:
    """Return the groups of trials that wait for each other; the first groups of all engines come first."""
    names = [str(record.home) for record in records]
    shares = groups([record.spec() for record in records], engines, most_seats)
    return [
        Group(tuple(names[index] for index in group), share)
        for turn in zip_longest(*shares)
        for share, group in enumerate(turn)
        if group
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
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("hint: ")]
    cause = lines[-1].split(":")[0].split(".")[-1].strip() if lines else type(error).__name__
    return verdict_of(record, GivenUp(cause, lines[-1].strip() if lines else cause))
