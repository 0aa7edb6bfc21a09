"""Stages run one after another, each from the adapter of the one before, until one does not end well.

The whole course is checked and written down before its first step; a stage that has ended is not run again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sweeps.display.plan_table import findings_text, matrix, quality_grid
from sweeps.execution.experiment import Experiment, check_storage
from sweeps.execution.options import Launch
from sweeps.execution.session import mirrored, ray_room, run_batch
from sweeps.launch import Plan, checked, keep_overridden, plan_specs, reopened
from sweeps.planning.preflight import Preflight, admit
from sweeps.stages.sequence import COURSE, Course, check_goes_on, configuration_of_course, course_as_json
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.probes.earlier_stages import MOST_STAGES
from trainables.record import Record
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from sweeps.execution.session import Room
    from sweeps.tracking.mirror import Mirror


# -------------------------------------------------------------------- before anything is spent
def plan_course(course: Course, launch: Launch) -> list[Plan]:
    """Check every stage, and that each can go on from the one before; nothing is written.

    Raises:
        UserError: anything that would make a stage fail later.
    """
    if len(course.legs) > MOST_STAGES:
        raise UserError(f"a course must have at most {MOST_STAGES} stages, but it has {len(course.legs)}",
                        "go on from its last adapter in a second one, with --init-from")  # fmt: skip
    plans = [
        plan_specs(
            course.study_of(number),
            [course.baseline(number), leg.spec if number else course.first()],
            leg.sources,
            launch,
        )
        for number, leg in enumerate(course.legs)
    ]
    for before, after in itertools.pairwise(plans):
        check_goes_on(before.forecasts[-1], after.forecasts[-1], course.continuation)
    return plans


def show_course(course: Course, plans: Sequence[Plan], launch: Launch) -> None:
    """Print the stages as one matrix, then each one's data and what was found there."""
    say = launch.console.print
    arms = [one for plan in plans for one in plan.forecasts if not one.spec.placement.is_baseline]
    say(matrix(course.study, arms, plans[-1].sources.train_rows))
    shown: dict[str, Any] = {}
    for plan in plans:
        name, spec = plan.forecasts[-1].spec.name, plan.forecasts[-1].spec
        if shown.get(spec.train.sha256) is None:
            say(f"\n{name} reads {spec.train.path}", soft_wrap=True, highlight=False)
            say(quality_grid(plan.preflight.data))
        shown[spec.train.sha256] = name
        if plan.fitted.left_out:
            say(f"{name}: {plan.fitted.left_out}", soft_wrap=True, highlight=False)
        found = [one for one in plan.preflight.findings if launch.force or one.level == "warn"]
        if found:
            say(findings_text(found), soft_wrap=True, highlight=False)


def admit_all(plans: Sequence[Plan], launch: Launch) -> None:
    """Refuse the course when one of its stages is refused.

    Raises:
        UserError: naming every reason.
    """
    found = dict.fromkeys(one for plan in plans for one in plan.preflight.findings)
    admit(Preflight(plans[0].preflight.data, tuple(found)), launch.force)


# -------------------------------------------------------------------- the stages, one after another
def run_course(course: Course, launch: Launch) -> list[Record]:
    """Run the stages, and return the records of those that were begun, baselines among them.

    A stage that ended is not run again; one that did not end well is the last.

    Raises:
        UserError: bad input, before anything is spent.
        KeyboardInterrupt: the launch was stopped; the running stage has checkpointed.
    """
    directory = launch.directory(course.study)
    checked(launch, directory)
    plans = plan_course(course, launch)
    admit_all(plans, launch)
    largest = max(one.placement.adapter_megabytes(one.spec.rank) for plan in plans for one in plan.forecasts)
    check_storage(directory.parent, int(largest * 1e6 * len(plans)))
    experiment = Experiment(directory)
    with experiment.locked():
        experiment.configure(configuration_of_course(course))
        write_json(directory / COURSE, course_as_json(course))
        show_course(course, plans, launch)
        return _walk(course, plans, experiment, launch)


def _walk(course: Course, plans: Sequence[Plan], experiment: Experiment, launch: Launch) -> list[Record]:
    baselines = [_begun(experiment, course.baseline(number)) for number in range(len(course.legs))]
    for record, plan in zip(baselines, plans, strict=True):
        keep_overridden(record, record.spec().name, plan.preflight.refusals if launch.force else ())
    baselines = list({record.directory: record for record in baselines}.values())
    with mirrored(course.study, experiment, baselines, launch) as mirror:
        done = _ended(course, experiment)
        for record in (*baselines, *done):
            mirror.submit(record)
        if len(done) < len(course.legs) and all(map(course.can_go_on, done)):
            with ray_room(experiment, 1, launch) as room:
                if reopened(baselines):
                    run_batch(plans[0].fitted.study, experiment, baselines, room, launch, mirror)
                while len(done) < len(course.legs):
                    if experiment.stop_file.exists() or not all(map(course.can_go_on, done)):
                        break
                    done.append(_run_leg(course, plans, experiment, done, room, launch, mirror))
    if experiment.stop_file.exists():
        raise KeyboardInterrupt
    return [*baselines, *done]


def _run_leg(
    course: Course, plans: Sequence[Plan], experiment: Experiment, done: Sequence[Record], room: Room,
    launch: Launch, mirror: Mirror,
) -> Record:  # fmt: skip
    number = len(done)
    record = _begun(experiment, course.from_parent(number, done[-1]) if done else course.first())
    keep_overridden(record, record.spec().name, plans[number].preflight.refusals if launch.force else ())
    mirror.submit(record)
    reopened([record])
    baseline = experiment.record_of(course.baseline(number))
    run_batch(plans[number].fitted.study, experiment, [baseline, record], room, launch, mirror)
    return record


def _ended(course: Course, experiment: Experiment) -> list[Record]:
    """Return the stages that have a result, in order; a failed one is tried again and has none."""
    done: list[Record] = []
    for number in range(len(course.legs)):
        spec = course.from_parent(number, done[-1]) if done else course.first()
        record = experiment.record_of(spec)
        verdict = record.verdict()
        if verdict is None or verdict.kind == "failed":
            break
        done.append(record)
        if not course.can_go_on(record):
            break
    return done


def _begun(experiment: Experiment, spec: TrialSpec) -> Record:
    record = experiment.record_of(spec)
    record.create(spec)
    return record
