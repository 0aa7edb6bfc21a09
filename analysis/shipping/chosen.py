"""Chooses which adapter is shipped, and finds it in the record of its trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.candidates import AVERAGE, SeedEval
from analysis.contenders import pick_of
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from analysis.pick import Pick, Shipped
from analysis.placements import placements_of, recorded
from trainables.errors import UserError, nearest
from trainables.pareto import Objective
from trainables.record import Measurement, Record
from trainables.spec import TrialSpec


@dataclass(frozen=True)
class ChosenAdapter:
    """The adapter to ship: its record and eval, the directory that holds it, and the baseline's eval if it is there.

    `scale` is the strength of the candidate that was measured; `why` says in sentences why it was chosen.
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


def chosen(
    study: ExperimentRuns, measured: Mapping[str, Sequence[Measurement]], objectives: Sequence[Objective], arm: str
) -> ChosenAdapter:
    """Choose the candidate that `pick` picks, of all arms or of `arm`, and its seed.

    Raises:
        UserError: there is no such arm, no candidate reaches the level, or record or adapter is not on this machine.
    """
    labels = [one.label for one in placements_of(study, objectives) if not one.is_baseline]
    if arm and arm not in labels:
        raise UserError(f"--arm must be an arm of `{study.name}` that trained, but got `{arm}`",
                        nearest(arm, labels))  # fmt: skip
    found = pick_of(study, measured, objectives, arm)
    one, why = _chosen_seed(found, study, measured, arm)
    trial, eval_of_seed = one.trial, one.measured
    record = recorded(trial)
    if record is None:
        raise UserError(f"{trial.name} must have its record on this machine, but {trial.record or 'it'} is not here",
                        "run this where the experiment was run, or copy its records back")  # fmt: skip
    return ChosenAdapter(
        arm=trial.arm,
        trial=trial,
        record=record,
        spec=record.spec(),
        measured=eval_of_seed,
        adapter=adapter_at(record, eval_of_seed),
        scale=float(eval_of_seed.scale),
        baseline=_baseline_of(study, record.spec()),
        why=why,
    )


def _chosen_seed(
    found: Pick, study: ExperimentRuns, measured: Mapping[str, Sequence[Measurement]], arm: str
) -> tuple[SeedEval, str]:
    """Return the picked seed and why; for an arm named by --arm, else its best checkpoint, with a warning."""
    picked = found.picked
    if picked is not None and found.shipped is not None and picked.gain is not None and picked.gain.mean > 0:
        return found.shipped.chosen, _why(found, found.shipped)
    evals = (
        [each for one in found.judged for each in one.candidate.evals if not one.candidate.is_derived] if arm else []
    )
    best = [each for each in evals if each.trial.best_step == str(each.measured.step)]
    if not best:
        raise _nothing_to_ship(found, study.name, arm)
    one = min(best, key=lambda each: each.metrics["eval_loss"])
    judged = next(each for each in found.judged if one in each.candidate.evals)
    known = "not known" if judged.admissible is None else f"{judged.admissible:.2f}"
    return one, (
        f"{judged.name} was named by --arm, not picked: the probability that a new seed meets the constraint is "
        f"{known}, and the level is {found.level:g}. This seed's best checkpoint met it on the rows of the study."
    )


def adapter_at(record: Record, measured: Measurement) -> Path:
    """Return the whole directory that holds the adapter of an eval.

    Raises:
        UserError: none was kept, or its files were changed.
    """
    if measured.scale == AVERAGE:
        raise UserError(f"an averaged adapter must be in its record to be shipped, but {record.name} keeps none",
                        "ship another arm with --arm")  # fmt: skip
    whole = record.adapter_at(measured.step)
    if whole is None:
        raise UserError(f"{record.directory}: the adapter of step {measured.step} must be there whole, but it is not",
                        "restore it from a copy, or run the trial again with --keep all")  # fmt: skip
    return whole


def _nothing_to_ship(found: Pick, experiment: str, arm: str) -> UserError:
    misses = [f"{one.name} misses by {one.rows_short} rows, P {one.admissible or 0:.2f}" for one in found.nearest]
    near = f"; the nearest are {', '.join(misses)}" if misses else ""
    reasons = f" {' '.join(found.unknown)}" if found.unknown else ""
    of = f"arm {arm}" if arm else "arm"
    return UserError(
        f"a candidate to ship must gain, and meet the constraint with probability {found.level:g}, but no {of} of "
        f"`{experiment}` has one{near}.{reasons}",
        f"`analysis pareto --experiment {experiment}` says what each arm reached; more seeds or rows raise the "
        "probability",
    )


def _why(found: Pick, shipped: Shipped) -> str:
    picked = found.picked
    assert picked is not None
    alike = len(found.alike) - 1
    among = f"the most general of {alike + 1} that cannot be told from the best in {found.fit.name}" if alike else (
        f"the one with the best {found.fit.name}")  # fmt: skip
    if picked.admissible is None:
        return f"{picked.name} is {among}."
    seeds = f"{picked.seeds_admissible} of {picked.seeds} seeds met the constraint"
    own = f"this seed has the lowest eval loss of those; its own probability of meeting it is {shipped.admissible:.2f}"
    new = f"a new seed meets the constraint with probability {picked.admissible:.2f} ({seeds})"
    return f"{picked.name} is {among}; {new}; {own}."


def _baseline_of(study: ExperimentRuns, spec: TrialSpec) -> Measurement | None:
    wanted = spec.baseline().trial_id
    records = [record for trial in study.trials if trial.trial_id == wanted and (record := recorded(trial)) is not None]
    evals = [one for record in records for one in record.evals()]
    return evals[-1] if evals else None
