"""The job of a search: runs cohorts of trials that Optuna suggests, and tells Optuna their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.execution.adapter_space import budget_bytes, keeping
from sweeps.execution.begun_records import check_begun, check_not_lost
from sweeps.execution.engine_plan import describe
from sweeps.execution.experiment import (
    Experiment,
    configuration_of,
    reopened,
)
from sweeps.execution.holdout_file import check_holdout, keep_holdout, planned_holdout
from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.schedulers import Scheduler, check_scheduler
from sweeps.execution.session import Cluster, mirrored, run_batch, started_cluster
from sweeps.execution.storage import check_storage
from sweeps.hpo.outcome import outcome_of
from sweeps.hpo.plan_text import settings_of, show_search
from sweeps.hpo.sampler import Searcher, SearchSettings, Suggestion, check_told
from sweeps.hpo.space import Point, Search, corners, fixed_settings, is_baseline_point, spec_of
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.plan import Plan, plan_specs
from sweeps.planning.preflight import admit
from sweeps.planning.sources import gather
from sweeps.study import Study, as_begun
from trainables.errors import Checkpointed, UserError
from trainables.metrics import generality, metric
from trainables.pareto import Objective
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

    def records(self) -> list[Record]:
        """Return the records of the baselines and of all trials so far."""
        return [*self.baselines.values(), *(one for one in self.experiment.records() if not _is_baseline(one))]


@dataclass(frozen=True)
class SearchJob:
    """The job of a search: runs one cohort after another until the budget is used."""

    search: Search
    launch: Launch

    @property
    def study(self) -> Study:
        """Return the study of the search, which has no arms."""
        return self.search.study

    def plan(self, data_directory: Path) -> Plan:
        """Check the base, the data, and every edge of the space."""
        return plan_search(self.search, self.launch, data_directory)

    def show(self, planned: Plan) -> None:
        """Print the space, the budget, a summary of the data, and the findings of preflight."""
        show_search(self.search, planned, self.launch)

    def trials(self, planned: Plan) -> list[TrialSpec]:
        """Return no trial: the sampler suggests them from the results."""
        return []

    def check(self, planned: Plan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        configuration = configuration_of_search(replace(self.search, study=planned.active.study), planned, self.launch)
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


def resumed_search(search: Search, launch: Launch) -> SearchJob:
    """Return the job that resumes a search; its settings must be unchanged.

    Raises:
        UserError: there is no search.
    """
    directory = launch.directory(search.study)
    if not (directory / "search.db").exists():
        raise UserError(
            f"only a search that was begun can be resumed, but {directory} holds none", "run it without --resume"
        )
    return SearchJob(search, launch)


def plan_search(search: Search, launch: Launch, data_directory: Path) -> Plan:
    """Read and check base, data and every edge of the space; writes only the miniature's and filtered rows.

    Raises:
        UserError: anything that would make the search fail later.
    """
    settings = settings_of(search)
    if launch.scheduler:
        _check_metric(launch.scheduler, settings.objectives)
    files = launch.train, launch.validation, launch.ood
    begun = Experiment(launch.directory(search.study)).begun
    sources = gather(launch.base, *files, data_directory, search.study.world, launch.drop, begun)
    for objective in settings.objectives:
        if objective.name not in sources.reported:
            raise UserError(
                f"an objective must be measured, but trials on this data report no `{objective.name}`",
                f"the metric of generality on this data is {generality(sources.reported)}",
            )
    study = as_begun(search.study, begun.format, launch.reading)
    specs = list(corners(search.space, study, sources, begun.format))
    if launch.scheduler:
        arms = [spec for spec in specs if not spec.placement.is_baseline]
        check_scheduler(launch.scheduler, arms[: min(search.cohort, search.trials)], sources.reported)
    return plan_specs(study, specs, sources, launch.resident, launch.devices)


def _check_metric(scheduler: Scheduler, objectives: Sequence[Objective]) -> None:
    """Refuse a scheduler that would stop the trials that the search prefers.

    Raises:
        UserError: the scheduler's metric is not the only objective, or the objective has the opposite direction.
    """
    hint = f"pass --objectives {scheduler.metric}, or leave out --scheduler"
    if [scheduler.metric] != [one.name for one in objectives]:
        raise UserError(
            f"the metric of a scheduler must be the only objective of the search, but got {scheduler.metric} and the "
            f"objectives {', '.join(one.name for one in objectives)}",
            hint,
        )
    own = metric(scheduler.metric).direction
    if objectives[0].direction != own:
        raise UserError(
            f"a scheduler keeps the trials whose {scheduler.metric} is {own}, but the objective is "
            f"{scheduler.metric}:{objectives[0].direction}: it would stop the trials that the search prefers",
            hint,
        )


# -------------------------------------------------------------------- running cohorts
def begin(search: Search, planned: Plan, experiment: Experiment, launch: Launch) -> RunningSearch:
    """Open the search of an experiment, or create it.

    Raises:
        UserError: it exists with other settings; names every setting that differs.
    """
    search, sources = replace(search, study=planned.active.study), planned.sources
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

    def key_of(point: Point) -> str | None:
        return None if is_baseline_point(point) else spec_of(point, search.study, sources, specs[0].format).trial_id

    experiment.keep_preflight(planned.preflight, planned.preflight.refusals if launch.force else ())
    searcher = Searcher(settings, f"sqlite:///{experiment.directory / 'search.db'}", key_of)
    check_told(searcher, experiment)
    return RunningSearch(search, settings, planned, experiment, launch, searcher, baselines)


def configuration_of_search(search: Search, planned: Plan, launch: Launch) -> dict[str, Any]:
    """Return the content of `study.json`; `search` has the study with the guards that apply."""
    study, varied = replace(search.study, varies=(*search.study.varies, "steps")), search.space.dimensions
    own = fixed_settings(study, planned.sources)
    return {
        **configuration_of(study, planned.specs),
        **settings_of(search).as_configuration(),
        "fixed": {key: value for key, value in own.items() if key not in varied},
        **scheduler_in(launch),
    }


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
            if reopened([*running.baselines.values(), *cohort]):
                cluster = cluster or stack.enter_context(started_cluster(experiment, running.search.cohort, launch))
                _run_cohort(running, cohort, cluster, mirror)
            for one, record in zip(batch, cohort, strict=True):
                baseline = running.baselines[record.spec().baseline().trial_id]
                running.searcher.tell(
                    one.key, outcome_of(record, baseline, running.search.study, running.settings.objectives)
                )
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
    spec = spec_of(suggestion.point, running.search.study, running.planned.sources, spec_format)
    return running.experiment.begin([spec], _overridden(running, spec))[0]


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
        text = describe([one.spec() for one in cohort], running.launch.cohort)
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
