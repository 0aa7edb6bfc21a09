"""A search as a launch: cohorts that Optuna asks for are run like the trials of any study, and told back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from sweeps.display.plan_table import findings_text, quality_grid
from sweeps.execution.engine_plan import describe
from sweeps.execution.experiment import Experiment, check_storage, configuration_of
from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.schedulers import Scheduler, check_scheduler
from sweeps.execution.session import Room, mirrored, ray_room, run_batch
from sweeps.hpo.outcome import outcome_of
from sweeps.hpo.sampler import Asked, Searcher, Settings
from sweeps.hpo.space import Point, Search, corners, fixed_settings, is_bare, spec_of
from sweeps.launch import Plan, checked, keep_overridden, plan_specs, reopened
from sweeps.planning.finding import Finding
from sweeps.planning.preflight import admit
from sweeps.planning.sources import gather
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.metrics import generality, metric
from trainables.pareto import Objective, parse_objectives
from trainables.record import Record
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from sweeps.tracking.mirror import Mirror


@dataclass(frozen=True)
class Begun:
    """A search under way: what its cohorts share."""

    search: Search
    settings: Settings
    planned: Plan
    experiment: Experiment
    launch: Launch
    searcher: Searcher
    baselines: dict[str, Record]

    def records(self) -> list[Record]:
        """Return the records of the baselines and of every trial asked for so far."""
        return [*self.baselines.values(), *(one for one in self.experiment.records() if not _is_baseline(one))]


def run_search(search: Search, launch: Launch) -> list[Record]:
    """Run a search to its budget and return its records; what was begun with the same settings goes on.

    Raises:
        UserError: bad input, before anything is spent; or another search was begun under this name.
        KeyboardInterrupt: the launch was stopped; every running trial has checkpointed.
    """
    directory = launch.directory(search.study)
    checked(launch, directory)
    planned = plan_search(search, launch, directory.parent / "data")
    admit(planned.preflight, launch.force)
    experiment = Experiment(directory)
    with experiment.locked():
        begun = begin(search, planned, experiment, launch)
        show_search(search, planned, launch)
        run_cohorts(begun)
        return begun.records()


def settings_of(search: Search) -> Settings:
    """Return what decides which trials are asked for.

    Raises:
        UserError: an objective is unknown.
    """
    return Settings(search.space, parse_objectives(search.objectives), search.sampler, search.cohort, search.seed)


def plan_search(search: Search, launch: Launch, data_directory: Path) -> Plan:
    """Read and check base and data, and look at every edge of the space; nothing is written but the miniature's rows.

    Raises:
        UserError: anything that would make the search fail later.
    """
    settings = settings_of(search)
    if launch.scheduler:
        _check_decided(launch.scheduler, settings.objectives)
    files = launch.train, launch.validation, launch.ood
    sources = gather(launch.base, *files, data_directory, search.study.world, launch.drop)
    for objective in settings.objectives:
        if objective.name not in sources.reported:
            raise UserError(
                f"an objective must be measured, but trials on this data report no `{objective.name}`",
                f"for what they may lose: {generality(sources.reported)}",
            )
    specs = list(corners(search.space, search.study, sources))
    if launch.scheduler:
        arms = [spec for spec in specs if not spec.placement.is_baseline]
        check_scheduler(launch.scheduler, arms[: min(search.cohort, search.trials)], sources.reported)
    return plan_specs(search.study, specs, sources, launch)


def _check_decided(scheduler: Scheduler, objectives: Sequence[Objective]) -> None:
    """Refuse a scheduler that would stop what the search seeks.

    Raises:
        UserError: it looks at another metric than the only objective, or that is sought the other way.
    """
    hint = f"pass --objectives {scheduler.metric}, or leave out --scheduler"
    if [scheduler.metric] != [one.name for one in objectives]:
        raise UserError(
            f"a scheduler decides on one objective, the search's own, but got {scheduler.metric} and the objectives "
            f"{', '.join(one.name for one in objectives)}",
            hint,
        )
    own = metric(scheduler.metric).direction
    if objectives[0].direction != own:
        raise UserError(
            f"a scheduler keeps the trials whose {scheduler.metric} is {own}, but the objective is "
            f"{scheduler.metric}:{objectives[0].direction}: it would stop what the search seeks",
            hint,
        )


def show_search(search: Search, planned: Plan, launch: Launch) -> None:
    """Print what is searched, on which data, and what the plan warns of."""
    found = [one for one in planned.preflight.findings if launch.force or one.level == "warn"]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("varied", no_wrap=True)
    table.add_column("between")
    for name, dimension in search.space.dimensions.items():
        table.add_row(name, str(dimension))
    objectives = " and ".join(f"{one.name} ({one.direction} is better)" for one in settings_of(search).objectives)
    launch.console.print(Text(f"{search.study.name}: {search.study.question}", style="bold"), table)
    launch.console.print(
        f"{search.trials} trials for {objectives}; {search.sampler} asks for {search.cohort} at a time, seed "
        f"{search.seed}.",
        highlight=False,
    )
    launch.console.print(quality_grid(planned.preflight.data))
    for told in (planned.sources.dropped, planned.fitted.left_out):
        if told:
            launch.console.print(told, soft_wrap=True, highlight=False)
    if found:
        launch.console.print(findings_text(found), soft_wrap=True, highlight=False)


# -------------------------------------------------------------------- one cohort after the other
def begin(search: Search, planned: Plan, experiment: Experiment, launch: Launch) -> Begun:
    """Open a search below its experiment, or take up the one that was begun there with the same settings.

    Raises:
        UserError: it was begun with others; names every one that differs.
    """
    search, sources = replace(search, study=planned.fitted.study), planned.sources
    settings, specs = settings_of(search), [one.spec for one in planned.forecasts]
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for one in planned.forecasts)
    check_storage(experiment.directory.parent, int(largest * 1e6 * search.trials))
    study = replace(search.study, varies=(*search.study.varies, "steps"))
    fixed = {key: value for key, value in fixed_settings(study, sources).items() if key not in search.space.dimensions}
    experiment.configure(
        {**configuration_of(study, specs), **configuration_in(settings), "fixed": fixed, **scheduler_in(launch)}
    )
    baselines: dict[str, Record] = {}
    for spec in specs:
        if spec.placement.is_baseline:
            baselines[spec.trial_id] = experiment.record_of(spec)
            baselines[spec.trial_id].create(spec)

    def key_of(point: Point) -> str | None:
        return None if is_bare(point) else spec_of(point, search.study, sources).trial_id

    write_json(
        experiment.directory / "preflight.json",
        {**planned.preflight.as_json(), "overridden": bool(launch.force and planned.preflight.refusals)},
    )
    searcher = Searcher(settings, f"sqlite:///{experiment.directory / 'search.db'}", key_of)
    return Begun(search, settings, planned, experiment, launch, searcher, baselines)


def configuration_in(settings: Settings) -> dict[str, Any]:
    """Return what an experiment's configuration says of its search; a larger budget of trials may follow."""
    return {
        "sampler": settings.sampler,
        "seed": settings.seed,
        "cohort": settings.cohort,
        "objectives": [f"{one.name}:{one.direction}" for one in settings.objectives],
        **{f"space.{name}": values for name, values in settings.space.as_json().items()},
    }


def run_cohorts(begun: Begun) -> None:
    """Ask for cohort after cohort, run them and tell what came of them, until the budget is spent.

    Raises:
        UserError: a baseline has no result.
        KeyboardInterrupt: the launch was stopped.
    """
    records, experiment, launch = begun.records(), begun.experiment, begun.launch
    with (
        mirrored(begun.search.study, experiment, list(begun.baselines.values()), launch) as mirror,
        ExitStack() as stack,
    ):
        for record in records:
            mirror.submit(record)
        room: Room | None = None
        while batch := _next_cohort(begun):
            asked = [_created(begun, one) for one in batch]
            if reopened([*begun.baselines.values(), *asked]):
                room = room or stack.enter_context(ray_room(experiment, begun.search.cohort, launch))
                _run_cohort(begun, asked, room, mirror)
            for one, record in zip(batch, asked, strict=True):
                baseline = begun.baselines[record.spec().baseline().trial_id]
                begun.searcher.tell(
                    one.key, outcome_of(record, baseline, begun.search.study, begun.settings.objectives)
                )
    left = begun.search.trials - begun.searcher.asked_count
    if left > 0:
        launch.console.print(f"the space holds no more trials: {left} of {begun.search.trials} were not needed")


def _next_cohort(begun: Begun) -> list[Asked]:
    """Return what a stopped launch left, filled up to a cohort; nothing when the budget is spent."""
    left = begun.searcher.unfinished()
    budget = begun.search.trials - begun.searcher.asked_count
    return [*left, *begun.searcher.ask(max(0, min(begun.search.cohort - len(left), budget)))]


def _created(begun: Begun, asked: Asked) -> Record:
    spec = spec_of(asked.point, begun.search.study, begun.planned.sources)
    record = begun.experiment.record_of(spec)
    record.create(spec)
    keep_overridden(record, spec.name, _overridden(begun, spec))
    return record


def _overridden(begun: Begun, spec: TrialSpec) -> Sequence[Finding]:
    """Return the refusals that --force overrode and that concern a trial: those of the corners that share its steps."""
    alike = {one.spec.name for one in begun.planned.forecasts if one.spec.steps == spec.steps}
    refusals = begun.planned.preflight.refusals if begun.launch.force else ()
    return [replace(one, trials=()) for one in refusals if not one.trials or alike & set(one.trials)]


def _run_cohort(begun: Begun, asked: Sequence[Record], room: Room, mirror: Mirror) -> None:
    """Run a cohort, with the baselines in the first.

    Raises:
        UserError: a baseline has no result.
        KeyboardInterrupt: the launch was stopped.
    """
    begun.launch.console.print(describe([one.spec() for one in asked], begun.launch.cohort), soft_wrap=True)
    run_batch(begun.search.study, begun.experiment, [*begun.baselines.values(), *asked], room, begun.launch, mirror)
    if begun.experiment.stop_file.exists():
        raise KeyboardInterrupt


def _is_baseline(record: Record) -> bool:
    return record.spec().placement.is_baseline
