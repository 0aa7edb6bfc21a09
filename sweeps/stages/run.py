"""The job of a staged study: checks all stages first, then runs them in order until one does not complete."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.display.plan_table import date_text, decisions_text, found_text, matrix, quality_grid
from sweeps.execution.adapter_space import budget_bytes, keeping
from sweeps.execution.begun_records import check_begun, check_not_lost
from sweeps.execution.experiment import Experiment, reopened
from sweeps.execution.forecast import forecast_texts
from sweeps.execution.holdout_file import check_holdout, holdout_of, holdout_of_stages, keep_holdout
from sweeps.execution.measured_gradients import keep_gradients
from sweeps.execution.options import Launch
from sweeps.execution.session import mirrored, run_batch, started_cluster
from sweeps.execution.storage import AdapterBytes, check_storage
from sweeps.planning.device_memory import Devices
from sweeps.planning.holdout import Holdout, holdout_text
from sweeps.planning.plan import Plan, plan_specs
from sweeps.planning.preflight import Preflight, admit
from sweeps.planning.resources import TrialResources
from sweeps.planning.speed import remember_speed
from sweeps.stages.report import stage_summary
from sweeps.stages.staged_study import (
    STAGES_FILE,
    StagedStudy,
    as_json,
    begun_stages,
    check_continuation,
    configuration_of_stages,
)
from sweeps.study import Study, as_begun
from trainables.errors import Checkpointed, UserError
from trainables.io.files import write_json
from trainables.model.residency import DEFAULT_CHOICE, ResidencyChoice
from trainables.probes.earlier_stages import MOST_STAGES
from trainables.record import Record
from trainables.source_check import check_sources
from trainables.spec import TrialSpec
from trainables.tested_guards import Reading

if TYPE_CHECKING:
    from sweeps.execution.session import Cluster
    from sweeps.tracking.mirror import Mirror


@dataclass(frozen=True)
class StagesPlan:
    """The stages and the plan of each; `preflight` has the findings of all stages."""

    staged: StagedStudy
    plans: tuple[Plan, ...]
    preflight: Preflight


@dataclass(frozen=True)
class StagedJob:
    """The job of a staged study; `stages_in` makes its stages, and writes the miniature's rows below a directory."""

    study: Study
    launch: Launch
    stages_in: Callable[[Path], StagedStudy]

    def plan(self, data_directory: Path) -> StagesPlan:
        """Make the stages and check them."""
        return plan_stages(
            self.stages_in(data_directory), self.launch.reading, self.launch.resident, self.launch.devices
        )

    def show(self, planned: StagesPlan) -> None:
        """Print the stages as one matrix, then the data and the findings of each."""
        show_stages(planned, self.launch)

    def trials(self, planned: StagesPlan) -> list[TrialSpec]:
        """Return the stages, each after its baseline."""
        return [spec for plan in planned.plans for spec in plan.specs]

    def check(self, planned: StagesPlan) -> None:
        """Refuse what `run` would refuse; writes nothing."""
        experiment = Experiment(self.launch.directory(self.study))
        size = _adapter_bytes(planned, experiment)
        experiment.check(configuration_of_stages(planned.staged), size, self.launch.steal)
        check_holdout(experiment.directory, _holdout(planned, self.launch))

    def run(self, planned: StagesPlan) -> list[Record]:
        """Run the stages, print a summary, and return the records of baselines and stages."""
        records = run_stages(planned, self.launch)
        self.launch.console.print()
        self.launch.console.print(stage_summary(planned.staged, records), soft_wrap=True, highlight=False)
        return records


def staged_job(study: Study, launch: Launch, resume: bool, stages_in: Callable[[Path], StagedStudy]) -> StagedJob:
    """Return the job of new stages, or with `resume` of those that the experiment began with.

    Raises:
        UserError: there is nothing to resume.
    """
    if resume:
        begun = begun_stages(study, launch)
        return StagedJob(study, launch, lambda _: unchanged(begun))
    return StagedJob(study, launch, stages_in)


def unchanged(staged: StagedStudy) -> StagedStudy:
    """Return stages whose base and data are those of the first launch.

    Raises:
        SourceChanged: names what has changed.
    """
    check_sources([stage.spec for stage in staged.stages])
    return staged


# -------------------------------------------------------------------- the plan
def plan_stages(
    staged: StagedStudy, reading: Reading | None = None, resident: ResidencyChoice = DEFAULT_CHOICE,
    devices: Devices | None = None,
) -> StagesPlan:  # fmt: skip
    """Check every stage, and that each can start from the one before; writes nothing.

    With `reading`, guards decide so; else as the study says. `resident` says how engines hold 4-bit weights. `devices`
    are those that train; None for those of this machine.

    Raises:
        UserError: anything that would make a stage fail later.
    """
    staged = replace(staged, study=as_begun(staged.study, staged.stages[0].spec.format, reading))
    if len(staged.stages) > MOST_STAGES:
        raise UserError(
            f"a staged study must have at most {MOST_STAGES} stages, but it has {len(staged.stages)}",
            "continue its last adapter in a second staged study, with --init-from",
        )
    plans = [
        plan_specs(
            staged.study_of(number),
            [staged.baseline(number), stage.spec if number else staged.first()],
            stage.sources,
            resident,
            devices,
        )
        for number, stage in enumerate(staged.stages)
    ]
    for before, after in itertools.pairwise(plans):
        check_continuation(before.forecasts[-1], after.forecasts[-1], staged.continuation)
    found = dict.fromkeys(one for plan in plans for one in plan.preflight.findings)
    return StagesPlan(staged, tuple(plans), Preflight(plans[0].preflight.data, tuple(found)))


def show_stages(planned: StagesPlan, launch: Launch) -> None:
    """Print the stages as one matrix, then the data and the findings of each."""
    show, plans = launch.console.print, planned.plans
    trained = [one for plan in planned.plans for one in plan.forecasts if not one.spec.placement.is_baseline]
    show(matrix(planned.staged.study, trained, plans[-1].sources.train_rows))
    if date := date_text(plans[0].sources):
        show(date, soft_wrap=True, highlight=False)
    shown: set[str] = set()
    for plan in plans:
        spec = plan.specs[-1]
        if spec.train.sha256 not in shown:
            show(f"\n{spec.name} reads {spec.train.path}", soft_wrap=True, highlight=False)
            show(quality_grid(plan.preflight.data))
            if plan.sources.dropped:
                show(plan.sources.dropped, soft_wrap=True, highlight=False)
        shown.add(spec.train.sha256)
        if plan.active.left_out:
            show(f"{spec.name}: {plan.active.left_out}", soft_wrap=True, highlight=False)
        for text in found_text(plan.preflight, launch.force):
            show(text, soft_wrap=True, highlight=False)
    kept_rows = [replace(one, arms=(plan.specs[-1].name,)) for plan in plans for one in plan.kept]
    taken = forecast_texts(plans, launch, 1, kept_rows)
    for text in (*_decisions(plans), *taken, holdout_text(_holdout(planned, launch))):
        show(text, soft_wrap=True, highlight=False)
    experiment = Experiment(launch.directory(planned.staged.study))
    kept = experiment.kept(launch.keep, _adapter_bytes(planned, experiment))
    show(kept.text, soft_wrap=True, highlight=False)


def _holdout(planned: StagesPlan, launch: Launch) -> Holdout | None:
    kept = holdout_of(launch.directory(planned.staged.study))
    return holdout_of_stages([plan.sources for plan in planned.plans], launch, kept)


def _decisions(plans: Sequence[Plan]) -> list[str]:
    """Return what is decided at the evals of all stages; what differs between stages names them."""
    stages: dict[str, list[str]] = {}
    for plan in plans:
        for text in decisions_text(plan):
            stages.setdefault(text, []).append(plan.specs[-1].name)
    return [text if len(names) == len(plans) else f"{', '.join(names)}: {text}" for text, names in stages.items()]


# -------------------------------------------------------------------- the stages in order
def run_stages(planned: StagesPlan, launch: Launch) -> list[Record]:
    """Run the stages, and return the records of the baselines and of every stage that was started.

    A stage that has a result is not run again. No stage follows one that did not complete.

    Raises:
        UserError: preflight refuses the plan, or the experiment has other stages.
        Checkpointed: the launch was stopped; the running stage has checkpointed.
    """
    staged, holdout = planned.staged, _holdout(planned, launch)
    admit(planned.preflight, launch.force)
    experiment = Experiment(launch.directory(staged.study))
    size = _adapter_bytes(planned, experiment)
    check_storage(experiment.directory.parent, size)
    with experiment.held(launch.steal) as experiment:
        experiment.configure(configuration_of_stages(staged))
        check_begun(experiment, staged.study.constraint, [one for plan in planned.plans for one in plan.sources.files])
        keep_holdout(experiment.directory, holdout)
        experiment.keep_base_files(planned.plans[0].sources.base)
        write_json(experiment.directory / STAGES_FILE, as_json(staged))
        keep_gradients(experiment.directory, staged.gradients)
        show_stages(planned, launch)
        records = _run_in_order(planned, experiment, keeping(experiment, launch, size))
        remember_speed(forecast_of_stages(planned, records), records)
        return records


def _run_in_order(planned: StagesPlan, experiment: Experiment, launch: Launch) -> list[Record]:
    staged = planned.staged
    begun = [_begun(planned, experiment, number, staged.baseline(number), launch) for number in _numbers(staged)]
    baselines = list({record.home: record for record in begun}.values())
    with mirrored(staged.study, experiment, baselines, launch) as mirror:
        done = _ended(staged, experiment)
        for record in (*baselines, *done):
            mirror.submit(record)
        lost = reopened(baselines)
        if lost or (len(done) < len(staged.stages) and all(map(staged.can_continue, done))):
            with started_cluster(experiment, 1, launch) as cluster:
                if lost:
                    run_batch(planned.plans[0].active.study, experiment, baselines, cluster, launch, mirror)
                while len(done) < len(staged.stages):
                    if experiment.stop_file.exists() or not all(map(staged.can_continue, done)):
                        break
                    done.append(_run_stage(planned, experiment, done, cluster, launch, mirror))
    if experiment.stop_file.exists():
        raise Checkpointed
    return [*baselines, *done]


def _run_stage(
    planned: StagesPlan,
    experiment: Experiment,
    done: Sequence[Record],
    cluster: Cluster,
    launch: Launch,
    mirror: Mirror,
) -> Record:
    staged, number = planned.staged, len(done)
    spec = staged.from_parent(number, done[-1]) if done else staged.first()
    record = _begun(planned, experiment, number, spec, launch)
    mirror.submit(record)
    reopened([record])
    experiment.keep_forecast(forecast_of_stages(planned, [*done, record]))
    baseline = experiment.record_of(staged.baseline(number))
    run_batch(planned.plans[number].active.study, experiment, [baseline, record], cluster, launch, mirror)
    check_not_lost([record])
    return record


def forecast_of_stages(planned: StagesPlan, records: Sequence[Record]) -> list[TrialResources]:
    """Return what stages are forecast to take, under the ids that they have since the stage before has ended."""
    stages = [one.spec() for one in records if not one.spec().placement.is_baseline]
    found = (one for plan in planned.plans for one in plan.resources)
    return [replace(one, trial_id=spec.trial_id) for one, spec in zip(found, stages, strict=False)]


def _ended(staged: StagedStudy, experiment: Experiment) -> list[Record]:
    """Return the records of the stages that have a result, in order; a failed stage has none and runs again."""
    done: list[Record] = []
    for number in _numbers(staged):
        spec = staged.from_parent(number, done[-1]) if done else staged.first()
        record = experiment.record_of(spec)
        verdict = record.verdict()
        if verdict is None or verdict.kind == "failed":
            break
        done.append(record)
        if not staged.can_continue(record):
            break
    return done


def _begun(planned: StagesPlan, experiment: Experiment, number: int, spec: TrialSpec, launch: Launch) -> Record:
    overridden = planned.plans[number].preflight.refusals if launch.force else ()
    return experiment.begin([spec], overridden)[0]


def _adapter_bytes(planned: StagesPlan, experiment: Experiment) -> AdapterBytes:
    return budget_bytes(experiment, [one for plan in planned.plans for one in plan.forecasts], len(planned.plans))


def _numbers(staged: StagedStudy) -> range:
    return range(len(staged.stages))
