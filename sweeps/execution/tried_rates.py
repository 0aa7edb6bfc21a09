"""Runs pilots, chooses the rate of each arm from them, then runs the arms' trials.

Pilots are records in `pilots/` of the experiment, so that nothing that reads its trials meets them. `pilots.json` keeps
the arms, from which a launch that resumes knows the trials that no launch has begun yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from sweeps.execution.begun_records import check_not_lost
from sweeps.execution.engine_plan import most_at_once
from sweeps.execution.experiment import RESTORE, Experiment, reopened
from sweeps.execution.options import Launch
from sweeps.execution.session import mirrored, run_batch, started_cluster
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.pilots import PilotArm, undecided, with_chosen
from sweeps.study import Study
from trainables.attempt import claim
from trainables.errors import Checkpointed, UserError, redacted
from trainables.io.files import FileDamaged, read_json, write_json
from trainables.rates import ARMS, RATES, RateChoice, choice_text, choices_as_json, choose_rate, read_choices, result_of
from trainables.record import PILOTS, Record
from trainables.spec import read_spec
from trainables.verdict import Verdict

if TYPE_CHECKING:
    from sweeps.execution.session import Cluster
    from sweeps.tracking.mirror import Mirror


@dataclass(frozen=True)
class TriedRates:
    """The arms that have pilots, the command that tries them, and the refusals that --force overrode."""

    arms: tuple[PilotArm, ...]
    command: str = ""
    overridden: tuple[PreflightFinding, ...] = ()


# -------------------------------------------------------------------- the file of the arms
def keep_tried(experiment: Experiment, tried: TriedRates) -> None:
    """Add arms and their trials to those that an experiment keeps."""
    kept = kept_tried(experiment)
    arms = {arm.key: arm for arm in (kept.arms if kept else ())}
    for arm in tried.arms:
        known = arms[arm.key].trials if arm.key in arms else ()
        arms[arm.key] = PilotArm(tuple({one.trial_id: one for one in (*known, *arm.trials)}.values()), arm.pilots)
    values = {
        "command": redacted(tried.command),
        "arms": [
            {name: [one.model_dump(mode="json") for one in getattr(arm, name)] for name in ("trials", "pilots")}
            for arm in arms.values()
        ],
        "overridden": [asdict(one) for one in tried.overridden],
    }
    write_json(experiment.directory / ARMS, values)


def kept_tried(experiment: Experiment) -> TriedRates | None:
    """Read the arms of an experiment that have pilots; None if no launch asked for pilots.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = experiment.directory / ARMS
    if not path.exists():
        return None
    try:
        return _tried_in(read_json(path), str(path))
    except (KeyError, TypeError, ValidationError, UserError):
        raise FileDamaged(f"{path}: the arms with pilots must be as they were written, but they are not",
                          RESTORE) from None  # fmt: skip


def _tried_in(kept: Any, where: str) -> TriedRates:
    arms = tuple(
        PilotArm(*(tuple(read_spec(one, where) for one in arm[name]) for name in ("trials", "pilots")))
        for arm in kept["arms"]
    )
    overridden = TypeAdapter(tuple[PreflightFinding, ...]).validate_python(kept["overridden"])
    return TriedRates(arms, kept["command"], overridden)


# -------------------------------------------------------------------- running them
def run_tried(
    study: Study, experiment: Experiment, tried: TriedRates, records: Sequence[Record], launch: Launch
) -> list[Record]:
    """Run the pilots of arms without a rate, then all trials; returns the records of the trials.

    Args:
        records: the records that are begun already, baselines among them.

    Raises:
        UserError: a baseline has no result, or the base violates a guard.
        TrialsLost: the directory of a trial was deleted meanwhile; the others have run.
        Checkpointed: the launch was stopped; every running trial has checkpointed.
    """
    baselines = [one for one in records if one.spec().placement.is_baseline]
    pilots = _begun_pilots(experiment, undecided(tried.arms, read_choices(experiment.directory)))
    specs = [one for arm in tried.arms for one in (*arm.trials, *arm.pilots)]
    with mirrored(study, experiment, baselines, launch) as mirror, ExitStack() as stack:
        session = _Session(study, experiment, launch, mirror, stack, most_at_once(specs))
        for record in records:
            mirror.submit(record)
        session.run([*baselines, *pilots], replace(launch, keep="best", scheduler=None, notifier=None), pilots)
        if not experiment.stop_file.exists():
            begun = {one.home: one for one in (*records, *_begun_trials(experiment, tried, launch))}
            records = list(begun.values())
            session.run(records, launch, records)
    if experiment.stop_file.exists():
        raise Checkpointed
    return list(records)


@dataclass
class _Session:
    """A launch with its mirror; Ray and engines are started for the first batch that has something to run."""

    study: Study
    experiment: Experiment
    launch: Launch
    mirror: Mirror
    stack: ExitStack
    most_trials: int
    cluster: Cluster | None = None

    def run(self, records: Sequence[Record], launch: Launch, asked: Sequence[Record]) -> None:
        """Run a batch, if one of the records in `asked` has no verdict or failed."""
        if not reopened(asked):
            return
        reopened(records)
        if self.cluster is None:
            started = started_cluster(self.experiment, self.most_trials, self.launch)
            self.cluster = self.stack.enter_context(started)
        run_batch(self.study, self.experiment, records, self.cluster, launch, self.mirror)
        check_not_lost(asked)


def pilot_of(experiment: Experiment, arm: PilotArm, number: int) -> Record:
    """Return the record of a pilot; number 0 is the one with the lowest rate."""
    spec = arm.pilots[number]
    return Record(experiment.directory / PILOTS / f"{spec.name}-{spec.trial_id}")


def _begun_pilots(experiment: Experiment, arms: Sequence[PilotArm]) -> list[Record]:
    found = {}
    for arm in arms:
        for number, spec in enumerate(arm.pilots):
            record = pilot_of(experiment, arm, number)
            record.create(spec)
            found[record.home] = record
    return list(found.values())


def _begun_trials(experiment: Experiment, tried: TriedRates, launch: Launch) -> list[Record]:
    """Choose the rates that are not chosen yet, print them, and begin the trials of all arms."""
    choices = dict(read_choices(experiment.directory))
    for arm in undecided(tried.arms, choices):
        pilots = [pilot_of(experiment, arm, number) for number in range(len(arm.pilots))]
        choices[arm.key] = choose_rate(arm.name, [result_of(one) for one in pilots], arm.study_arm)
        launch.console.print(choice_text(choices[arm.key]), soft_wrap=True, highlight=False, markup=False)
    write_json(experiment.directory / RATES, choices_as_json(choices))
    records = []
    for arm in tried.arms:
        begun = experiment.begin(with_chosen(arm, choices[arm.key]), tried.overridden)
        if choices[arm.key].chosen is None:
            _end_without_rate(begun, choices[arm.key], experiment.launch)
        records += begun
        for number in range(len(arm.pilots)):
            pilot_of(experiment, arm, number).keep_checkpoints(0)
    return records


def _end_without_rate(records: Sequence[Record], choice: RateChoice, launch: int) -> None:
    for record in records:
        if record.verdict() is None:
            verdict = Verdict(kind="infeasible", step=0, cause="rate", reason=choice_text(choice))
            claim(record, launch).close(verdict)
