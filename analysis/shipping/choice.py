"""Chooses which seed of which arm is shipped, and finds its adapter in the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.candidates import FULL_STRENGTH
from analysis.frontier import FrontierInfo
from analysis.mlflow_runs import TrialRun
from analysis.report.conclusions import recommended
from trainables.errors import UserError, nearest
from trainables.record import BEST, Measurement, Record, is_whole
from trainables.spec import TrialSpec


@dataclass(frozen=True)
class Choice:
    """The adapter to ship: its record and eval, the directory that holds it, and the baseline's eval if it is there.

    `scale` is the strength of the candidate that was measured; `why` says in a sentence why it was chosen.
    """

    arm: str
    trial: TrialRun
    record: Record
    spec: TrialSpec
    measured: Measurement
    adapter: Path
    scale: float
    baseline: Measurement | None
    why: str


def chosen(info: FrontierInfo, arm: str) -> Choice:
    """Choose the admissible seed of lowest eval loss, of `arm`, or of the arm that the frontier recommends.

    Raises:
        UserError: there is no such arm, none is recommended, no seed of it met the constraint, or its record is not on
            this machine.
    """
    pick = recommended(info)
    if not arm and pick is None:
        raise UserError(f"an arm to ship must be on the frontier, but no arm of `{info.experiment}` is",
                        f"`analysis pareto --experiment {info.experiment}` says why; --arm NAME ships one that "
                        "met the constraint")  # fmt: skip
    placements = {one.placement.label: one.placement for one in info.results if not one.placement.is_baseline}
    label = arm or (pick.placement.label if pick else "")
    if label not in placements:
        raise UserError(f"--arm must be an arm of `{info.experiment}` that trained, but got `{arm}`",
                        nearest(arm, placements))  # fmt: skip
    trials = [one.trial for one in placements[label].seed_runs if one.trial.best]
    if not trials:
        raise UserError(f"a seed of {label} must have met the constraint at an eval, but none of "
                        f"{len(placements[label].seed_runs)} did", "ship another arm, or the arm with other settings")  # fmt: skip
    trial = min(trials, key=lambda one: one.best["eval_loss"])
    asked = "named by --arm" if arm else "recommended by the frontier"
    why = f"{label} was {asked}; of its {len(trials)} seeds that met the constraint, this one has the lowest eval loss."
    return _choice(info, label, trial, why)


def _choice(info: FrontierInfo, arm: str, trial: TrialRun, why: str) -> Choice:
    record = record_of(trial)
    spec, best = record.spec(), record.best()
    if best is None:
        raise UserError(f"{record.directory / BEST}: the adapter to ship must be whole, but it is missing or changed",
                        "restore it from a copy, or run the trial again")  # fmt: skip
    measured = next((one for one in record.evals() if one.step == best.step and one.scale == FULL_STRENGTH), best)
    return Choice(arm, trial, record, spec, measured, record.directory / BEST, 1.0, baseline_of(info, spec), why)


def record_of(trial: TrialRun) -> Record:
    """Return the record of a trial.

    Raises:
        UserError: it is not on this machine.
    """
    if not trial.record or not Path(trial.record).is_dir():
        found = f"{trial.record} is not on this machine" if trial.record else "MLflow names none"
        raise UserError(f"{trial.name} must have its record on this machine, but {found}",
                        "run this where the experiment was run, or copy its records back")  # fmt: skip
    return Record(Path(trial.record))


def baseline_of(info: FrontierInfo, spec: TrialSpec) -> Measurement | None:
    """Return the eval of the baseline of a trial, None where its record is not on this machine."""
    wanted = spec.baseline().trial_id
    runs = [one.trial for result in info.results for one in result.placement.seed_runs]
    directories: Sequence[Path] = [Path(run.record) for run in runs if run.record and run.trial_id == wanted]
    evals = [one for directory in directories if directory.is_dir() for one in Record(directory).evals()]
    return evals[-1] if evals else None


def check_adapter(choice: Choice) -> None:
    """Check that the adapter's files are those that its trial wrote.

    Raises:
        UserError: a file is missing or changed.
    """
    if not is_whole(choice.adapter):
        raise UserError(f"{choice.adapter}: every file must match its manifest, but one is missing or changed",
                        f"`python -m trainables.verify {choice.adapter}` names it")  # fmt: skip
