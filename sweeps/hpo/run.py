"""The job of a search: runs cohorts of trials that Optuna suggests, and tells Optuna their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.execution.adapter_space import budget_bytes, keeping
from sweeps.execution.begun_records import check_begun, check_not_lost
from sweeps.execution.engine_plan import describe
from sweeps.execution.experiment import (
    Experiment,
    reopened,
)
from sweeps.execution.forecast import with_width, with_widths
from sweeps.execution.holdout_file import check_holdout, keep_holdout, planned_holdout
from sweeps.execution.measured_gradients import MeasuredGradients, keep_gradients
from sweeps.execution.options import Launch
from sweeps.execution.session import Cluster, mirrored, run_batch, started_cluster
from sweeps.execution.storage import check_storage
from sweeps.hpo.outcome import outcome_of
from sweeps.hpo.plan_text import settings_of, show_search
from sweeps.hpo.planning import configuration_of_search, plan_search, planned_search
from sweeps.hpo.points import is_baseline_point, spec_of
from sweeps.hpo.sampler import Searcher, SearchSettings, Suggestion, check_told
from sweeps.hpo.space import Point, Search
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.mixes import AskedMix
from sweeps.planning.plan import Plan, forecast_of
from sweeps.planning.preflight import admit
from sweeps.planning.resources import TrialResources
from sweeps.planning.speed import remember_speed
from sweeps.study import Study
from trainables.errors import Checkpointed, UserError
from trainables.record import Record
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from sweeps.tracking.mirror import Mirror


@dataclass(frozen=True)
class RunningSearch:
    """The values that all cohorts of a running search share."""

    search: Search
    settings: SearchSettings
    planned: Plan
    experiment: Experiment
    launch: Launch
    searcher: Searcher
    baselines: dict[str, Record]
    measured: MeasuredGradients

    def records(self) -> list[Record]:
        """Return the records of the baselines and of all trials so far."""
        return [*self.baselines.values(), *(one for one in self.experiment.records() if not _is_baseline(one))]


@dataclass(frozen=True)
class SearchJob:
    """The job of a search: runs one cohort after another until the budget is used."""

    search: Search
    launch: Launch
    mix: AskedMix | None = None

    @property
    def study(self) -> Study:
        """Return the study of the search, which has no arms."""
        return self.search.study

    def plan(self, data_directory: Path) -> Plan:
        """Check the base, the data, and every edge of the space."""
        return plan_search(self.search, self.launch, data_directory, self.mix)

    def show(self, planned: Plan) -> None:
        """Print the space, the budget, a summary of the data, and the findings of preflight."""
        search = planned_search(self.search, planned)
        show_search(search, planned, self.launch, is_told=bool(self.search.objectives))

    def trials(self, planned: Plan) -> list[TrialSpec]:
        """Return no trial: the sampler suggests them from the results."""
        return []

    def check(self, planned: Plan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        configuration = configuration_of_search(planned_search(self.search, planned), planned, self.launch)
        experiment = Experiment(self.launch.directory(self.study))
        size = budget_bytes(experiment, planned.forecasts, self.search.trials)
        experiment.check(configuration, size, self.launch.steal)
        check_holdout(experiment.directory, planned_holdout(planned, self.launch))

    def run(self, planned: Plan) -> list[Record]:
        """Run the search until its budget is used; an existing search with the same settings is continued."""
        admit(planned.preflight, self.launch.force)
        experiment = Experiment(self.launch.directory(self.study))
        with experiment.held(self.launch.steal) as experiment:
            running = begin(self.search, planned, experiment, self.launch)
            self.show(planned)
            run_cohorts(running)
            return running.records()


def resumed_search(search: Search, launch: Launch, mix: AskedMix | None = None) -> SearchJob:
    """Return the job that resumes a search; its settings must be unchanged.

    Raises:
        UserError: there is no search.
    """
    directory = launch.directory(search.study)
    if not (directory / "search.db").exists():
        raise UserError(
            f"only a search that was begun can be resumed, but {directory} holds none", "run it without --resume"
        )
    return SearchJob(search, launch, mix)


# -------------------------------------------------------------------- running cohorts
def begin(search: Search, planned: Plan, experiment: Experiment, launch: Launch) -> RunningSearch:
    """Open the search of an experiment, or create it.

    Raises:
        UserError: it exists with other settings; names every setting that differs.
    """
    search, sources = planned_search(search, planned), planned.sources
    settings, specs, holdout = settings_of(search), planned.specs, planned_holdout(planned, launch)
    size = budget_bytes(experiment, planned.forecasts, search.trials)
    check_storage(experiment.directory.parent, size)
    experiment.configure(configuration_of_search(search, planned, launch))
    check_begun(experiment, search.study.constraint, sources.files)
    keep_holdout(experiment.directory, holdout)  # refused before a trial is begun
    experiment.keep_base_files(sources.base)
    launch = keeping(experiment, launch, size)
    unadapted = [spec for spec in specs if spec.placement.is_baseline]
    baselines = {spec.trial_id: record for spec, record in zip(unadapted, experiment.begin(unadapted), strict=True)}

    measured = MeasuredGradients(launch.console, {one.source: one for one in planned.gradients})
    keep_gradients(experiment.directory, planned.gradients)

    def key_of(point: Point) -> str | None:
        if is_baseline_point(point):
            return None
        return spec_of(point, search.study, sources, specs[0].format, measured).trial_id

    experiment.keep_preflight(planned.preflight, planned.preflight.refusals if launch.force else ())
    searcher = Searcher(settings, f"sqlite:///{experiment.directory / 'search.db'}", key_of)
    check_told(searcher, experiment)
    launch = with_width(launch, [planned], search.cohort, search.cohort)
    return RunningSearch(search, settings, planned, experiment, launch, searcher, baselines, measured)


def run_cohorts(running: RunningSearch) -> None:
    """Ask Optuna for cohorts, run them and tell their outcomes, until the budget is used.

    Raises:
        UserError: a baseline has no result.
        Checkpointed: the launch was stopped.
    """
    records, experiment, launch = running.records(), running.experiment, running.launch
    with (
        mirrored(running.search.study, experiment, list(running.baselines.values()), launch) as mirror,
        ExitStack() as stack,
    ):
        for record in records:
            mirror.submit(record)
        cluster: Cluster | None = None
        if reopened(list(running.baselines.values())) and any(record.verdict() for record in records):
            cluster = stack.enter_context(started_cluster(experiment, running.search.cohort, launch))
            _run_cohort(running, [], cluster, mirror)  # a lost baseline is measured again
        while batch := _next_cohort(running):
            cohort = [_created(running, one) for one in batch]
            found = _forecast(running, cohort)
            if reopened([*running.baselines.values(), *cohort]):
                cluster = cluster or stack.enter_context(started_cluster(experiment, running.search.cohort, launch))
                _run_cohort(running, cohort, cluster, mirror)
            for one, record in zip(batch, cohort, strict=True):
                baseline = running.baselines[record.spec().baseline().trial_id]
                running.searcher.tell(
                    one.key, outcome_of(record, baseline, running.search.study, running.settings.objectives)
                )
            remember_speed(found, cohort)
    left = running.search.trials - running.searcher.asked_count
    if left > 0:
        launch.console.print(f"the space has no more trials: {left} of the {running.search.trials} were not run")


def _next_cohort(running: RunningSearch) -> list[Suggestion]:
    """Return the unfinished trials of a stopped launch, filled up to a cohort; empty when the budget is used."""
    unfinished = running.searcher.unfinished()
    budget = running.search.trials - running.searcher.asked_count
    return [*unfinished, *running.searcher.ask(max(0, min(running.search.cohort - len(unfinished), budget)))]


def _created(running: RunningSearch, suggestion: Suggestion) -> Record:
    spec_format = running.planned.specs[0].format
    study, sources = running.search.study, running.planned.sources
    spec = spec_of(suggestion.point, study, sources, spec_format, running.measured)
    return running.experiment.begin([spec], _overridden(running, spec))[0]


def _forecast(running: RunningSearch, cohort: Sequence[Record]) -> Sequence[TrialResources]:
    """Return what the trials of a cohort are forecast to take, and keep it with that of the earlier ones."""
    found = forecast_of(running.planned, [one.spec() for one in cohort])
    running.experiment.keep_forecast(with_widths(found, running.launch))
    return found


def _overridden(running: RunningSearch, spec: TrialSpec) -> Sequence[PreflightFinding]:
    """Return the refusals that --force overrode for a trial: those of planned trials with the same steps."""
    alike = {one.spec.name for one in running.planned.forecasts if one.spec.steps == spec.steps}
    refusals = running.planned.preflight.refusals if running.launch.force else ()
    return [replace(one, trials=()) for one in refusals if not one.trials or alike & set(one.trials)]


def _run_cohort(running: RunningSearch, cohort: Sequence[Record], cluster: Cluster, mirror: Mirror) -> None:
    """Run a cohort; the first cohort includes the baselines.

    Raises:
        UserError: a baseline has no result, or a trial was deleted meanwhile.
        Checkpointed: the launch was stopped.
    """
    if cohort:
        text = describe([one.spec() for one in cohort], running.launch.cohort, running.launch.width)
        running.launch.console.print(text, soft_wrap=True)
    run_batch(
        running.search.study,
        running.experiment,
        [*running.baselines.values(), *cohort],
        cluster,
        running.launch,
        mirror,
    )
    check_not_lost(cohort)
    if running.experiment.stop_file.exists():
        raise Checkpointed


def _is_baseline(record: Record) -> bool:
    return record.spec().placement.is_baseline
