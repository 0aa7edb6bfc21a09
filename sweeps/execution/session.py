"""Keeps what `tuner` started, Ray and engines, and the MLflow mirror open while a launch runs its batches of trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sweeps.display.live_table import LiveTable
from sweeps.display.progress import say, working
from sweeps.execution import known_results
from sweeps.execution.baselines import baseline_of
from sweeps.execution.engine_plan import MOST_SEATS
from sweeps.execution.engine_text import engines_text
from sweeps.execution.experiment import Experiment
from sweeps.execution.notifier import TrialAlerts
from sweeps.study import Study
from sweeps.tracking.tracker import Tracker
from trainables.mlflow_store import default_tracking_uri
from trainables.phase import forget_phase
from trainables.record import PILOTS, Record
from trainables.recorded_baselines import RecordedBaselines
from trainables.typed import typed

if TYPE_CHECKING:
    from sweeps.execution.fleet import Fleet
    from sweeps.execution.options import Launch
    from sweeps.execution.ray_session import Resources
    from sweeps.execution.tuner import TuneSettings
    from sweeps.tracking.mirror import Mirror


MIRROR_CLOSE_SECONDS = 60.0


@dataclass(frozen=True)
class Cluster:
    """The resources of a running Ray cluster, and the engines on it; None with `--cohort 1`."""

    resources: Resources
    fleet: Fleet | None


@dataclass(frozen=True)
class ProgressUpdater:
    """Updates the live table and the MLflow mirror as trials progress, and tells what was asked for."""

    live_table: LiveTable
    mirror: Mirror
    alerts: TrialAlerts | None = None

    def started(self, record: Record) -> None:
        """Show that a worker has started the trial."""
        self.live_table.started(record)
        self._mirror(record)

    def assigned(self, record: Record, engine: str) -> None:
        """Count the trial to the time that the engine still takes."""
        self.live_table.assigned(record, engine)

    def noted(self, text: str) -> None:
        """Show that a node has joined or is lost."""
        self.live_table.note(text)

    def advanced(self, record: Record) -> None:
        """Show a new eval or verdict of a trial."""
        self.live_table.advanced(record)
        self._mirror(record)
        if self.alerts is not None:
            self.alerts.advanced(record)

    def _mirror(self, record: Record) -> None:
        if record.home.parent.name != PILOTS:  # which are no results
            self.mirror.submit(record)

    def retried(self, records: Sequence[Record], reason: str) -> None:
        """Show that trials lost their worker and go on."""
        self.live_table.retried(records, reason)


@contextmanager
def mirrored(study: Study, experiment: Experiment, baselines: Sequence[Record], launch: Launch) -> Iterator[Mirror]:
    """Copy results to MLflow until the end of the block, then print how many trials MLflow lacks."""
    from sweeps.tracking.mirror import Mirror

    tracker = Tracker(launch.tracking_uri or default_tracking_uri(), experiment.name, study.question)
    tags = {"footprint.study": study.name, "footprint.baseline": ",".join(r.spec().trial_id for r in baselines)}
    mirror = Mirror(tracker, launch.command, tags)
    status = "FAILED"  # of the launch in MLflow, unless the block ends without an error
    try:
        yield mirror
        status = "KILLED" if experiment.stop_file.exists() else "FINISHED"
    finally:
        with working(launch.console, "copying the rest to MLflow"):
            left = mirror.close(MIRROR_CLOSE_SECONDS, status)
    if left:
        launch.console.print(
            f"MLflow lacks {len(left)} trials ({mirror.last_outage}). When it answers, complete it with:\n\n"
            f"    {launch.sync_command or _sync_command(experiment, launch)}\n",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def _sync_command(experiment: Experiment, launch: Launch) -> str:
    """Return the command for a launch from Python; every study's command line copies any experiment."""
    store = ["--tracking-uri", launch.tracking_uri] if launch.tracking_uri else []
    where = ["--storage", str(experiment.directory.parent), "--experiment", experiment.name]
    return typed("stage4", "--sync", *where, *store)


@contextmanager
def started_cluster(experiment: Experiment, trials: int, launch: Launch) -> Iterator[Cluster]:
    """Start Ray, and engines for `trials` trials; until the end of the block, Ctrl-C makes trials checkpoint."""
    with ExitStack() as ending, ExitStack() as stack:
        with working(launch.console, "starting Ray"):
            from sweeps.execution.fleet import engines
            from sweeps.execution.ray_session import ray_session
            from sweeps.execution.tuner import stopping_on_signals

            resources = stack.enter_context(ray_session(launch.address, launch.verbose))
            stack.enter_context(stopping_on_signals(experiment.stop_file))
        fleet: Fleet | None = None
        if launch.cohort != 1:
            with working(launch.console, "placing the engines"):
                most = launch.most_trials
                started = engines(resources, trials, experiment.stop_file, most, launch.threads, launch.cache)
                fleet = stack.enter_context(started)
            say(launch.console, f"starting {engines_text(fleet.plans)}")
        # entered when the block ends, and left when all of `stack` is closed
        stack.callback(lambda: ending.enter_context(working(launch.console, "ending Ray")))
        yield Cluster(resources, fleet)


def run_batch(
    study: Study, experiment: Experiment, records: Sequence[Record], cluster: Cluster, launch: Launch, mirror: Mirror
) -> None:
    """Run the trials in `records` that have no verdict, baselines first.

    Raises:
        UserError: a baseline has no result, or the base violates a guard.
    """
    from sweeps.execution.tuner import TuneSettings
    from trainables.workers.protocol import Rules

    live_table = LiveTable(launch.console, records)
    alerts = TrialAlerts(launch.notifier, experiment) if launch.notifier else None
    listener = ProgressUpdater(live_table, mirror, alerts)
    todo = [record for record in records if record.verdict() is None]
    for record in todo:
        forget_phase(record.directory)
    keep = launch.keep or experiment.keep or "all"
    settings = TuneSettings(
        Rules({}, study.guards, study.constraint, study.reading, keep, launch.resident),
        cluster.resources, experiment.stop_file, launch.retries, experiment.launch, cluster.fleet,
        most_seats=launch.most_trials or MOST_SEATS,
    )  # fmt: skip
    with live_table:
        _run_all(study, experiment, records, todo, settings, listener, launch)


def _run_all(
    study: Study, experiment: Experiment, records: Sequence[Record], todo: Sequence[Record], settings: TuneSettings,
    listener: ProgressUpdater, launch: Launch,
) -> None:  # fmt: skip
    from sweeps.execution.tuner import run_trials

    baselines = [record for record in records if record.spec().placement.is_baseline]
    arms = [record for record in todo if record not in baselines]
    storage, device = experiment.directory.parent, "cuda" if settings.resources.gpus else "cpu"
    missing = [record for record in todo if record in baselines]
    if not launch.fresh_baseline:
        missing = known_results.reuse(missing, storage, device, experiment.launch, listener.noted)
    for record in baselines:
        listener.advanced(record)
    known_results.measured_anew(missing)

    def check() -> None:
        for record in baselines:
            baseline_of(record, study)  # refused before an arm trains
        known_results.keep(missing, storage, device)

    homes = {record.spec().trial_id: str(record.home) for record in baselines}
    arms_settings = replace(
        settings, rules=replace(settings.rules, baselines=RecordedBaselines(homes)), scheduler=launch.scheduler
    )
    if missing and arms and settings.fleet is not None:
        run_trials(arms, arms_settings, listener, baselines=missing, check=check)
        return
    run_trials(missing, settings, listener)
    if not experiment.stop_file.exists():
        check()
        run_trials(arms, arms_settings, listener)
