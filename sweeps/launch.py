"""A launch: specs become records, records become seats, and what they leave is mirrored and summed up.

`run` is the whole of it, from Python as from the command line::

    from sweeps.launch import run
    from sweeps.stage4 import STUDY

    records = run(STUDY)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweeps.board import Board
from sweeps.cohorts import describe
from sweeps.experiment import Experiment, check_storage, configuration_of
from sweeps.plan import Forecast, forecast
from sweeps.preflight import LIMITS, Finding, Limits, Preflight, admit, preflight
from sweeps.report import findings_text, matrix, quality_grid
from sweeps.sources import Sources, gather
from sweeps.space import Axes, expand
from sweeps.study import Study
from sweeps.tracker import Tracker, checked_uri, default_tracking_uri
from trainables.errors import UserError
from trainables.guards import broken_by_baseline
from trainables.probes.captions import captions_in
from trainables.probes.probe import Baseline
from trainables.record import Record, write_json
from trainables.scan import scan
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from sweeps.mirror import Mirror
    from sweeps.seats import Listener, Resources

MIRROR_CLOSE_SECONDS = 60.0


@dataclass(frozen=True)
class Launch:
    """How a study is run; everything that decides a result stands in the study, the axes and the sources instead."""

    storage: Path = Path("runs")
    experiment: str | None = None
    tracking_uri: str | None = None
    address: str | None = None
    retries: int = 2
    cohort: int | None = None
    command: str = "sweeps.launch.run"
    base: str | None = None
    train: Path | None = None
    validation: Path | None = None
    ood: Path | None = None
    limits: Limits = LIMITS
    force: bool = False
    console: Console = field(default_factory=Console)

    def directory(self, study: Study) -> Path:
        """Return the experiment's directory, absolute: workers run elsewhere."""
        return self.storage.expanduser().resolve() / (self.experiment or study.name)


@dataclass(frozen=True)
class Plan:
    """What a launch would do."""

    sources: Sources
    forecasts: list[Forecast]
    preflight: Preflight


def plan(study: Study, axes: Axes, launch: Launch, data_directory: Path) -> Plan:
    """Read and check base, data and axes; nothing is written but the miniature's rows below `data_directory`.

    Raises:
        UserError: anything that would make the launch fail later.
    """
    sources = gather(launch.base, launch.train, launch.validation, launch.ood, data_directory)
    return plan_specs(study, expand(study, axes, sources), sources, launch)


def plan_specs(study: Study, specs: list[TrialSpec], sources: Sources, launch: Launch) -> Plan:
    """Check trials that are already expanded, all of them on `sources`.

    Raises:
        UserError: as `plan`.
    """
    forecasts = forecast(specs, sources.train_rows)
    scanned = scan(sources.base.path, sources.train.path, sources.validation.path, sources.ood.path)
    return Plan(sources, forecasts, preflight(forecasts, study.guards, scanned, launch.limits))


def show(study: Study, planned: Plan, launch: Launch) -> None:
    """Print the matrix, what the data holds, the warnings, and the refusals that --force overrides."""
    found = [one for one in planned.preflight.findings if launch.force or one.level == "warn"]
    launch.console.print(matrix(study, planned.forecasts, planned.sources.train_rows))
    launch.console.print(describe([one.spec for one in planned.forecasts], launch.cohort), soft_wrap=True)
    launch.console.print(quality_grid(planned.preflight.data))
    if found:
        launch.console.print(findings_text(found), soft_wrap=True, highlight=False)


def run(study: Study, axes: Axes | None = None, launch: Launch | None = None) -> list[Record]:
    """Run a study's trials, baselines first, and return their records; finished trials are not run again.

    Raises:
        UserError: bad input, before anything is spent.
        KeyboardInterrupt: the launch was stopped; every running trial has checkpointed.
    """
    launch = launch or Launch()
    directory = launch.directory(study)
    checked(launch, directory)
    return run_planned(study, plan(study, axes or Axes(), launch, directory.parent / "data"), launch)


def checked(launch: Launch, directory: Path) -> None:
    """Refuse a tracking URI or a storage that a launch could not write to.

    Raises:
        UserError: saying which.
    """
    checked_uri(launch.tracking_uri or default_tracking_uri())
    check_storage(directory.parent, 0)


def run_planned(study: Study, planned: Plan, launch: Launch) -> list[Record]:
    """Run the trials of a plan, baselines first, and return their records; finished trials are not run again.

    Raises:
        UserError: the plan is refused, or the experiment was begun with another configuration.
        KeyboardInterrupt: as in `run`.
    """
    directory = launch.directory(study)
    overridden = admit(planned.preflight, launch.force)
    specs = [one.spec for one in planned.forecasts]
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for one in planned.forecasts)
    check_storage(directory.parent, int(largest * 1e6 * len(specs)))
    experiment = Experiment(directory)
    with experiment.locked():
        experiment.configure(configuration_of(study, specs))
        records = [experiment.record_of(spec) for spec in specs]
        for record, spec in zip(records, specs, strict=True):
            record.create(spec)
            _keep_overridden(record, spec.name, overridden)
        write_json(directory / "preflight.json", {**planned.preflight.as_json(), "overridden": bool(overridden)})
        show(study, planned, launch)
        _run_records(study, experiment, records, launch)
    return records


def _keep_overridden(record: Record, trial: str, overridden: Sequence[Finding]) -> None:
    """Write the refusals that --force overrode beside the trial they concern: a reader of its result must know."""
    concerning = [asdict(one) for one in overridden if one.concerns(trial)]
    if concerning and record.verdict() is None:
        write_json(record.directory / "overridden.json", concerning)


def resume(study: Study, launch: Launch) -> list[Record]:
    """Finish what an experiment has begun: every trial without a verdict, and every failed one.

    Raises:
        UserError: the experiment does not exist.
        KeyboardInterrupt: as in `run`.
    """
    experiment = Experiment(launch.directory(study))
    records = experiment.records()
    if not records:
        raise UserError(
            f"only an experiment that was begun can be resumed, but {experiment.directory} holds no trial",
            "run it without --resume",
        )
    with experiment.locked():
        _run_records(study, experiment, records, launch)
    return records


def _run_records(study: Study, experiment: Experiment, records: list[Record], launch: Launch) -> None:
    from sweeps.mirror import Mirror
    from sweeps.seats import ray_session, stopping_on_signals

    for record in records:
        verdict = record.verdict()
        if verdict is not None and verdict.kind == "failed":
            record.reopen()
    todo = [record for record in records if record.verdict() is None]
    tracker = Tracker(launch.tracking_uri or default_tracking_uri(), experiment.name)
    baselines = [record for record in records if record.spec().placement.is_baseline]
    tags = {"footprint.study": study.name, "footprint.baseline": ",".join(r.spec().trial_id for r in baselines)}
    mirror = Mirror(tracker, launch.command, tags)
    board = Board(launch.console, records)
    listener = _Listener(board, mirror)
    for record in records:
        mirror.submit(record)
    try:
        if todo:
            with ray_session(launch.address) as resources, stopping_on_signals(experiment.stop_file), board:
                _seat(study, experiment, todo, baselines, resources, launch, listener)
    finally:
        left = mirror.close(MIRROR_CLOSE_SECONDS)
    if left:
        board.note(f"MLflow misses {len(left)} trials ({mirror.last_outage}); run the same command with --sync")
    if experiment.stop_file.exists():
        raise KeyboardInterrupt


def _seat(
    study: Study, experiment: Experiment, todo: list[Record], baselines: list[Record], resources: Resources,
    launch: Launch, listener: Listener,
) -> None:  # fmt: skip
    """Run the baselines, then the arms that are held against them."""
    from sweeps.seats import Seating, engines, run_seats
    from trainables.standing import Rules

    alone = launch.cohort == 1
    starting = nullcontext([]) if alone else engines(resources, len(todo), experiment.stop_file, launch.cohort)
    with starting as names:
        rules = Rules({}, study.guards, study.constraint)
        seating = Seating(rules, resources, experiment.stop_file, launch.retries, names)
        run_seats([record for record in todo if record in baselines], seating, listener)
        if not experiment.stop_file.exists():
            known = {record.spec().trial_id: _baseline(record, study) for record in baselines}
            rest = [record for record in todo if record not in baselines]
            run_seats(rest, replace(seating, rules=replace(rules, baselines=known)), listener)


def _baseline(record: Record, study: Study) -> Baseline:
    """Read what the base scored.

    Raises:
        UserError: the baseline has no result, or the base itself breaks a guard, which would prune every arm.
    """
    verdict = record.verdict()
    if verdict is None or verdict.kind != "completed":
        raise UserError(
            f"every arm is held against the baseline, but {record.name} ended as {verdict}: "
            f"{verdict.reason if verdict else 'no verdict'}",
            "its record and the message above say why; nothing else was started",
        )
    metrics = record.evals()[0].metrics
    broken = broken_by_baseline(study.guards, metrics)
    if broken:
        raise UserError(
            f"the base itself must keep the guards, else every arm is pruned, but {'; '.join(broken)}",
            "lower `min_absolute` of that guard in the study, or use out-of-distribution rows the base can answer",
        )
    return Baseline(metrics=metrics, captions=captions_in(record.samples(0)))


@dataclass(frozen=True)
class _Listener:
    board: Board
    mirror: Mirror

    def started(self, record: Record) -> None:
        self.board.started(record)
        self.mirror.submit(record)

    def advanced(self, record: Record) -> None:
        self.board.advanced(record)
        self.mirror.submit(record)
