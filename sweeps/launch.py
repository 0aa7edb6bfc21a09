"""A launch: specs become records, records become seats, and what they leave is mirrored and summed up.

`run` is the whole of it, from Python as from the command line::

    from sweeps.launch import run
    from sweeps.stage4 import STUDY

    records = run(STUDY)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from sweeps.display.plan_table import findings_text, matrix, quality_grid
from sweeps.execution.engine_plan import describe
from sweeps.execution.experiment import Experiment, check_storage, configuration_of
from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.schedulers import check_scheduler
from sweeps.planning.active_guards import Fitted, fitted
from sweeps.planning.finding import Finding
from sweeps.planning.forecast import Forecast, forecast
from sweeps.planning.parents import going_on
from sweeps.planning.preflight import Preflight, admit, preflight
from sweeps.planning.sources import Sources, gather, reported_by
from sweeps.planning.space import Axes, chosen_arms, expand
from sweeps.planning.trial_checks import check_packable
from sweeps.study import Study
from sweeps.tracking.tracker import checked_uri, default_tracking_uri
from trainables.data.scan import Scan, scan
from trainables.errors import UserError
from trainables.io.files import read_json, write_json
from trainables.model.families import family_of
from trainables.record import Record
from trainables.spec import TrialSpec

BLIND = "the base has no vision tower: arms place their language layers alone; those that are then equal are one"


@dataclass(frozen=True)
class Plan:
    """What a launch would do."""

    sources: Sources
    forecasts: list[Forecast]
    preflight: Preflight
    fitted: Fitted


def plan(study: Study, axes: Axes, launch: Launch, data_directory: Path) -> Plan:
    """Read and check base, data and axes; nothing is written but the miniature's rows and filtered ones.

    Raises:
        UserError: anything that would make the launch fail later.
    """
    chosen_arms(study, axes.only)  # what needs no file to be refused, before any is written
    files = launch.train, launch.validation, launch.ood
    sources = gather(launch.base, *files, data_directory, study.world, launch.drop)
    specs = going_on(expand(study, axes, sources), axes.init_from, axes.restart_from)
    return plan_specs(study, specs, sources, launch)


def plan_specs(study: Study, specs: list[TrialSpec], sources: Sources, launch: Launch) -> Plan:
    """Check trials that are already expanded, all of them on `sources`.

    Raises:
        UserError: as `plan`.
    """
    forecasts, fit = forecast(specs, sources.train_rows), fitted(study, sources.reported, sources.sees)
    scanned = _scanned(sources)
    check_packable(specs, scanned)
    return Plan(sources, forecasts, preflight(forecasts, fit.study.guards, scanned, fit.study.limits), fit)


@cache  # sources are known by their content; stages on the same rows are planned one after another
def _scanned(sources: Sources) -> Scan:
    return scan(sources.base.path, sources.train.path, sources.validation.path, sources.ood.path)


def show(study: Study, planned: Plan, launch: Launch) -> None:
    """Print the matrix, what the data holds, the warnings, and the refusals that --force overrides."""
    found = [one for one in planned.preflight.findings if launch.force or one.level == "warn"]
    launch.console.print(matrix(study, planned.forecasts, planned.sources.train_rows))
    launch.console.print(describe([one.spec for one in planned.forecasts], launch.cohort), soft_wrap=True)
    launch.console.print(quality_grid(planned.preflight.data))
    if planned.sources.dropped:
        launch.console.print(planned.sources.dropped, soft_wrap=True, highlight=False)
    if not planned.sources.sees and any(arm.vision for arm in study.arms):
        launch.console.print(BLIND, soft_wrap=True, highlight=False)
    if planned.fitted.left_out:
        launch.console.print(planned.fitted.left_out, soft_wrap=True, highlight=False)
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
    study, directory = planned.fitted.study, launch.directory(study)
    overridden = admit(planned.preflight, launch.force)
    specs = [one.spec for one in planned.forecasts]
    if launch.scheduler:
        check_scheduler(launch.scheduler, specs, planned.sources.reported)
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for one in planned.forecasts)
    check_storage(directory.parent, int(largest * 1e6 * len(specs)))
    experiment = Experiment(directory)
    with experiment.locked():
        experiment.configure({**configuration_of(study, specs), **scheduler_in(launch)})
        records = [experiment.record_of(spec) for spec in specs]
        for record, spec in zip(records, specs, strict=True):
            record.create(spec)
            keep_overridden(record, spec.name, overridden)
        write_json(directory / "preflight.json", {**planned.preflight.as_json(), "overridden": bool(overridden)})
        show(study, planned, launch)
        _run_records(study, experiment, records, launch)
    return records


def keep_overridden(record: Record, trial: str, overridden: Sequence[Finding]) -> None:
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
    spec = records[0].spec()
    study = fitted(study, reported_by(spec), family_of(spec.base.path)[0].sees).study
    with experiment.locked():
        if (begun := experiment.directory / "study.json").exists():
            experiment.configure({**read_json(begun), "scheduler": None, **scheduler_in(launch)})
        _run_records(study, experiment, records, launch)
    return records


def _run_records(study: Study, experiment: Experiment, records: list[Record], launch: Launch) -> None:
    from sweeps.execution.session import mirrored, ray_room, run_batch

    todo = reopened(records)
    baselines = [record for record in records if record.spec().placement.is_baseline]
    with mirrored(study, experiment, baselines, launch) as mirror:
        for record in records:
            mirror.submit(record)
        if todo:
            with ray_room(experiment, len(todo), launch) as room:
                run_batch(study, experiment, records, room, launch, mirror)
    if experiment.stop_file.exists():
        raise KeyboardInterrupt


def reopened(records: Sequence[Record]) -> list[Record]:
    """Take failed verdicts back, so that those trials are tried again; returns the records without a verdict."""
    for record in records:
        verdict = record.verdict()
        if verdict is not None and verdict.kind == "failed":
            record.reopen()
    return [record for record in records if record.verdict() is None]
