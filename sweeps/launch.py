"""Launches a study of independent trials, or resumes it.

From Python::

    from sweeps.launch import run
    from sweeps.stage4 import STUDY

    records = run(STUDY)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from sweeps.display.plan_table import plan_text
from sweeps.execution.adapter_space import begun_bytes, keeping, waiting_bytes
from sweeps.execution.begun_records import begin_lost_baselines, check_begun
from sweeps.execution.engine_plan import describe
from sweeps.execution.experiment import Experiment, configuration_of, read_configuration
from sweeps.execution.forecast import forecast_texts, kept_width, planned_at_once, with_width, with_widths
from sweeps.execution.holdout_file import check_holdout, keep_holdout, planned_holdout
from sweeps.execution.launch_data import gather_for
from sweeps.execution.measured_gradients import MeasuredGradients, keep_gradients
from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.run import run_records
from sweeps.execution.schedulers import check_scheduler
from sweeps.execution.storage import check_storage
from sweeps.execution.tried_rates import TriedRates, keep_tried, kept_tried, run_tried
from sweeps.job import run_job
from sweeps.planning.active_guards import active_guards
from sweeps.planning.holdout import holdout_text
from sweeps.planning.mixes import AskedMix, expand_mixes, mix_text, read_mixes
from sweeps.planning.parents import continuing
from sweeps.planning.pilots import PilotArm, at_chosen_rates, check_study, pilot_arms, pilots_text, undecided
from sweeps.planning.plan import Plan, plan_specs, with_pilots
from sweeps.planning.preflight import Preflight, admit
from sweeps.planning.probe_requests import check_probes
from sweeps.planning.sources import reported_by
from sweeps.planning.space import Axes, chosen_arms, expand
from sweeps.planning.speed import remember_speed
from sweeps.study import Study, as_begun, as_kept, with_begun_rules
from trainables.checkpoints.adapter import read_adapter
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.rates import read_choices
from trainables.record import Record
from trainables.spec import TrialSpec


# -------------------------------------------------------------------- a study
@dataclass(frozen=True)
class StudyJob:
    """The job of a study of independent trials."""

    study: Study
    axes: Axes
    launch: Launch
    mixes: tuple[AskedMix, ...] = ()
    tries_rates: bool = False

    def plan(self, data_directory: Path) -> Plan:
        """Read the base and the data, expand the study into trials, and check them."""
        study, axes, launch = self.study, self.axes, self.launch
        chosen_arms(study, axes.only)  # refuse an unknown arm before any file is written
        for directory in filter(None, (axes.init_from, axes.restart_from)):
            read_adapter(directory)  # before a base is looked up on the hub
        begun = Experiment(launch.directory(study)).begun
        study = as_begun(study, begun.format, launch.reading)
        sources = gather_for(study, launch, data_directory, begun)
        study = with_begun_rules(study, _begun_configuration(Experiment(launch.directory(study))), sources.reported)
        measured = MeasuredGradients.of(launch.directory(study), launch.console)
        mixes = read_mixes(self.mixes, sources)
        expanded = expand_mixes(study, axes, sources, mixes, begun.format, measured)
        specs = continuing(expanded, axes.init_from, axes.restart_from)
        arms = self._arms(specs)
        specs = at_chosen_rates(specs, arms, choices := read_choices(launch.directory(study)))
        planned = plan_specs(study, specs, sources, launch.resident, launch.devices)
        unmixed = expand(study, axes, sources, begun.format, measured) if mixes else ()
        planned = replace(planned, gradients=tuple(measured.found.values()), unmixed=tuple(unmixed))
        planned = with_pilots(planned, undecided(arms, choices))
        if launch.scheduler:
            check_scheduler(launch.scheduler, planned.specs, sources.reported)
        return planned

    def _arms(self, specs: list[TrialSpec]) -> tuple[PilotArm, ...]:
        if not self.tries_rates:
            return ()
        check_study(self.study)
        return pilot_arms(specs, "vision_learning_rate" in self.axes.fixed)

    def show(self, planned: Plan) -> None:
        """Print the trials, a summary of the data, and the findings of preflight."""
        show_plan(self.study, planned, self.launch)

    def trials(self, planned: Plan) -> list[TrialSpec]:
        """Return the trials, baselines first."""
        return planned.specs

    def check(self, planned: Plan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        check_plan(planned, self.launch)

    def run(self, planned: Plan) -> list[Record]:
        """Run the trials, baselines first."""
        return run_plan(planned, self.launch)


def show_plan(study: Study, planned: Plan, launch: Launch) -> None:
    """Print a plan: trials, cohorts, a summary of the data, warnings and overridden refusals."""
    at_once = planned_at_once(planned)
    launch = with_width(launch, [planned], at_once)
    for part in plan_text(study, planned, describe(planned.specs, launch.cohort, launch.width), launch.force):
        launch.console.print(part, soft_wrap=isinstance(part, str | Text), highlight=False)
    experiment = Experiment(launch.directory(study))
    kept = experiment.kept(launch.keep, waiting_bytes(experiment, planned.forecasts))
    if planned.unmixed and (replay := mix_text(planned.specs, planned.preflight.data)):
        launch.console.print(replay, soft_wrap=True, highlight=False)
    if tried := pilots_text(planned.pilots):
        launch.console.print(tried, soft_wrap=True, highlight=False)
    taken = forecast_texts([planned], launch, at_once, planned.kept)
    for text in (*taken, holdout_text(planned_holdout(planned, launch)), kept.text):
        launch.console.print(text, soft_wrap=True, highlight=False)


def check_plan(planned: Plan, launch: Launch) -> None:
    """Refuse what `run_plan` would refuse; raises the same as `Job.check`."""
    experiment = Experiment(launch.directory(planned.active.study))
    experiment.check(_configuration(planned, launch), waiting_bytes(experiment, planned.forecasts), launch.steal)
    check_holdout(experiment.directory, planned_holdout(planned, launch))


def _configuration(planned: Plan, launch: Launch) -> dict[str, Any]:
    specs = list(planned.unmixed) or planned.specs
    return {**configuration_of(planned.active.study, specs), **scheduler_in(launch)}


def run_plan(planned: Plan, launch: Launch) -> list[Record]:
    """Run the trials of a plan; returns and raises the same as `Job.run`."""
    study, specs = planned.active.study, planned.specs
    overridden, holdout = admit(planned.preflight, launch.force), planned_holdout(planned, launch)
    experiment = Experiment(launch.directory(study))
    size = waiting_bytes(experiment, planned.forecasts)
    check_storage(experiment.directory.parent, size)
    with experiment.held(launch.steal) as experiment:
        experiment.configure(_configuration(planned, launch))
        check_begun(experiment, study.constraint, planned.sources.files)
        keep_holdout(experiment.directory, holdout)  # refused before a trial is begun
        waiting = {one.trial_id for arm in planned.pilots for one in arm.trials}
        records = experiment.begin([one for one in specs if one.trial_id not in waiting], overridden)
        experiment.keep_base_files(planned.sources.base)
        experiment.keep_preflight(planned.preflight, overridden)
        keep_gradients(experiment.directory, planned.gradients)
        show_plan(study, planned, launch)
        launch = with_width(launch, [planned], planned_at_once(planned))
        experiment.keep_forecast(with_widths(planned.resources, launch))
        launch = keeping(experiment, launch, size)
        if planned.pilots:
            tried = TriedRates(planned.pilots, launch.command, tuple(overridden))
            keep_tried(experiment, tried)
            records = run_tried(study, experiment, tried, records, launch)
        else:
            run_records(study, experiment, records, launch)
        remember_speed(planned.resources, records)
    return records


def run(study: Study, axes: Axes | None = None, launch: Launch | None = None) -> list[Record]:
    """Run a study's trials, baselines first, and return their records; finished trials are not run again.

    Raises:
        UserError: the input is invalid; nothing was trained.
        Checkpointed: the launch was stopped; every running trial has checkpointed.

    >>> from rich.console import Console
    >>> from sweeps import Axes, Launch, run
    >>> from sweeps.smoke import STUDY
    >>> records = run(STUDY, Axes(only=("C1",)), Launch(console=Console(quiet=True)))
    >>> [record.spec().name for record in records]
    ['A0', 'C1']
    """
    return run_job(StudyJob(study, axes or Axes(), launch or Launch()))


# -------------------------------------------------------------------- resuming an experiment
@dataclass(frozen=True)
class ResumedPlan:
    """The records of an existing experiment; its trials were checked when it was started."""

    records: list[Record]
    preflight: Preflight = field(default_factory=lambda: Preflight({}, ()))


@dataclass(frozen=True)
class ResumedStudy:
    """The job that resumes an experiment: it runs the trials that have no verdict or failed."""

    study: Study
    launch: Launch

    def plan(self, data_directory: Path) -> ResumedPlan:
        """Read the records, and check that neither they nor base and data have changed; nothing is expanded again.

        Raises:
            FileDamaged: `study.json` is gone, without which the guards would decide otherwise; or a record is damaged.
        """
        experiment = Experiment(self.launch.directory(self.study))
        read_configuration(experiment.directory / "study.json")
        check_begun(experiment, self.study.constraint)
        return ResumedPlan(experiment.records())

    def show(self, planned: ResumedPlan) -> None:
        """Print the trials."""
        names = ", ".join(record.name for record in planned.records)
        self.launch.console.print(f"resumes {names}", soft_wrap=True, highlight=False)

    def trials(self, planned: ResumedPlan) -> list[TrialSpec]:
        """Return the trials of the records."""
        return [record.spec() for record in planned.records]

    def check(self, planned: ResumedPlan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        experiment = Experiment(self.launch.directory(self.study))
        experiment.check(self._configuration(experiment), steal=self.launch.steal)

    def _configuration(self, experiment: Experiment) -> dict[str, Any]:
        kept = read_configuration(experiment.directory / "study.json")
        return {**kept, "scheduler": None, **scheduler_in(self.launch)}

    def run(self, planned: ResumedPlan) -> list[Record]:
        """Run the trials that have no verdict or failed, with the scheduler of this launch."""
        experiment = Experiment(self.launch.directory(self.study))
        with experiment.held(self.launch.steal) as experiment:
            experiment.check_configuration(self._configuration(experiment))
            records, size = begin_lost_baselines(experiment), begun_bytes(experiment)
            self.launch.console.print(experiment.kept(self.launch.keep, size).text, soft_wrap=True, highlight=False)
            launch = replace(keeping(experiment, self.launch, size), width=kept_width(experiment))
            if tried := kept_tried(experiment):
                return run_tried(self._active(experiment), experiment, tried, records, launch)
            run_records(self._active(experiment), experiment, records, launch)
        return records

    def _active(self, experiment: Experiment) -> Study:
        """Return the study with the guards that apply to the experiment's base and data."""
        spec, kept = experiment.records()[0].spec(), read_configuration(experiment.directory / "study.json")
        reported = reported_by(spec) | check_probes([spec])
        study = as_kept(with_begun_rules(self.study, kept, reported), kept)
        return active_guards(study, reported, family_of(spec.base.path)[0].sees).study


def _begun_configuration(experiment: Experiment) -> dict[str, Any] | None:
    path = experiment.directory / "study.json"
    return read_configuration(path) if path.exists() else None


def resumed(study: Study, launch: Launch) -> ResumedStudy:
    """Return the job that resumes an experiment.

    Raises:
        UserError: the experiment has no trial.
    """
    experiment = Experiment(launch.directory(study))
    if not experiment.records():
        raise UserError(
            f"only an experiment that was begun can be resumed, but {experiment.directory} holds no trial",
            "run it without --resume",
        )
    return ResumedStudy(study, launch)


def resume(study: Study, launch: Launch) -> list[Record]:
    """Resume an experiment: run every trial that has no verdict or failed.

    Raises:
        UserError: the experiment does not exist.
        Checkpointed: the launch was stopped; every running trial has checkpointed.

    >>> from rich.console import Console
    >>> from sweeps import Launch, resume
    >>> from sweeps.smoke import STUDY
    >>> [str(record.verdict()) for record in resume(STUDY, Launch(console=Console(quiet=True)))]
    ['completed', 'completed']
    """
    return run_job(resumed(study, launch))
