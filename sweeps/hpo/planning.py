"""Plans a search: its space on a base and data, the trials at the edges of the space, and its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeps.execution.experiment import Experiment, configuration_of
from sweeps.execution.launch_data import gather_for
from sweeps.execution.measured_gradients import MeasuredGradients
from sweeps.execution.options import Launch, scheduler_in
from sweeps.execution.schedulers import Scheduler, check_scheduler
from sweeps.hpo.plan_text import settings_of
from sweeps.hpo.points import corners, fixed_settings
from sweeps.hpo.space import Search, measurable
from sweeps.planning.mixes import AskedMix, read_mixes
from sweeps.planning.plan import Plan, plan_specs
from sweeps.planning.probe_requests import check_requests
from sweeps.planning.sources import Sources
from sweeps.planning.space import Measure
from sweeps.study import Study, as_begun
from trainables.errors import UserError
from trainables.metrics import metric
from trainables.pareto import Objective, parse_objectives
from trainables.spec import FORMAT, Format, ProbeRequest, Source, TrialSpec


def plan_search(search: Search, launch: Launch, data_directory: Path, mix: AskedMix | None = None) -> Plan:
    """Read and check base, data and every edge of the space; writes only the miniature's and filtered rows.

    Raises:
        UserError: anything that would make the search fail later.
    """
    if launch.scheduler and search.objectives:
        _check_metric(launch.scheduler, parse_objectives(search.objectives))
    begun = Experiment(launch.directory(search.study)).begun
    sources = gather_for(search.study, launch, data_directory, begun)
    study = with_replay(as_begun(search.study, begun.format, launch.reading), mix, sources)
    measured = MeasuredGradients.of(launch.directory(search.study), launch.console)
    search, specs = edges(replace(search, study=study), sources, begun.format, measured)
    if launch.scheduler:
        _check_metric(launch.scheduler, settings_of(search).objectives)
        arms = [spec for spec in specs if not spec.placement.is_baseline]
        check_scheduler(launch.scheduler, arms[: min(search.cohort, search.trials)], sources.reported)
    planned = plan_specs(study, specs, sources, launch.resident, launch.devices)
    return replace(planned, gradients=tuple(measured.found.values()))


def edges(
    search: Search, sources: Sources, spec_format: Format = FORMAT, measure: Measure | None = None
) -> tuple[Search, list[TrialSpec]]:
    """Return a search as it is on its base and data, and the trials at the edges of its space.

    Raises:
        UserError: an objective is not measured, a value is out of range, or a probe cannot be had.
    """
    probes = fixed_settings(search.study, sources)["probes"]
    reported = sources.reported | (check_requests(probes) if search.objectives else frozenset())
    search = measurable(search, reported, sources.sees)
    return search, list(corners(search.space, search.study, sources, spec_format, measure))


def with_replay(study: Study, mix: AskedMix | None, sources: Sources) -> Study:
    """Return a study whose trials all replay the rows of a mix.

    Raises:
        UserError: a row is broken, or is also in validation.
    """
    if mix is None:
        return study
    [found] = read_mixes([mix], sources)
    replay = {"replay": found.source, "replay_ratio": found.ratio}
    return replace(study, settings={**study.settings, **replay}, miniature={**study.miniature, **replay})


def planned_search(search: Search, planned: Plan) -> Search:
    """Return the search of a plan: on its base and data, with the guards that apply."""
    sources = planned.sources
    return measurable(replace(search, study=planned.active.study), sources.reported | planned.reported, sources.sees)


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


def configuration_of_search(search: Search, planned: Plan, launch: Launch) -> dict[str, Any]:
    """Return the content of `study.json`; `search` has the study with the guards that apply."""
    study, varied = replace(search.study, varies=(*search.study.varies, "steps")), search.space.dimensions
    own = fixed_settings(study, planned.sources)
    return {
        **configuration_of(study, planned.specs),
        **settings_of(search).as_configuration(),
        "fixed": {key: _plain(value) for key, value in own.items() if key not in varied},
        **scheduler_in(launch),
    }


def _plain(value: Any) -> Any:
    """Return a setting as `study.json` holds it: files by their digest, probes by what identifies them."""
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.sha256 if isinstance(value, Source) else value.identity() if isinstance(value, ProbeRequest) else value
