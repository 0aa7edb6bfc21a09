"""Chooses which adapter is shipped, and finds it in the record of its trial."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.candidates import Candidate, SeedEval
from analysis.conclusion import Conclusion, pick_among
from analysis.decision.judged import Judged
from analysis.decision.pick import Pick, Shipped, seed_of
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from analysis.placements import recorded
from analysis.probabilities import chance
from analysis.report.shipping import miss, settled, undecided
from trainables.derived.candidate_name import parse_candidate
from trainables.derived.copies import kept_adapters
from trainables.errors import ExitCode, UserError, named, nearest
from trainables.record import Measurement, Record
from trainables.spec import TrialSpec
from trainables.typed import typed


class NothingToShip(UserError):
    """No candidate reaches the level; the message names those that come nearest."""

    exit_code = ExitCode.CHECK_FAILED


@dataclass(frozen=True)
class ChosenAdapter:
    """The adapter to ship: its candidate's name, the record and eval of its seed, and the baseline's eval if known.

    `evals` are all evals of the same seed and step, at every scale that was measured; `why` says in sentences why it
    was chosen.
    """

    arm: str
    name: str
    trial: TrialRun
    record: Record
    spec: TrialSpec
    measured: Measurement
    evals: tuple[Measurement, ...]
    baseline: Measurement | None
    why: str


def chosen(found: Conclusion, arm: str, asked: Sequence[str] = ()) -> ChosenAdapter:
    """Choose what is shipped: the pick of all arms, the best candidate of `arm`, or the candidate that `arm` names.

    `asked` are the words of a command that conclude the same: its store, objectives and level.

    Raises:
        UserError: there is no such arm or candidate, or record or adapter is not on this machine.
        NothingToShip: no candidate, or none of the arm, reaches the level.
    """
    candidates = [one.candidate for one in found.choice.contenders]
    labels = dict.fromkeys(one.arm for one in candidates)
    if not arm or arm in labels:
        names = [one.name for one in candidates if one.arm == arm]
        candidate, one, why = _picked(pick_among(found, names) if arm else found.choice, found, arm, asked)
    else:
        candidate, one, why = _named(arm, found, candidates)
    record = recorded(one.trial)
    if record is None:
        where = one.trial.record or "it"
        raise UserError(f"{one.trial.name} must have its record on this machine, but {where} is not here",
                        "run this where the experiment was run, or copy its records back")  # fmt: skip
    kept_adapters(record, candidate.step, candidate.scale)  # refused here, before a base is loaded
    spec = record.spec()
    return ChosenAdapter(
        arm=one.trial.arm,
        name=candidate.name,
        trial=one.trial,
        record=record,
        spec=spec,
        measured=one.measured,
        evals=_at_step(found, one),
        baseline=_baseline_of(found.study, spec),
        why=why,
    )


def _picked(choice: Pick, found: Conclusion, arm: str, asked: Sequence[str]) -> tuple[Candidate, SeedEval, str]:
    if choice.picked is None or choice.shipped is None:
        raise _nothing_to_ship(choice, found, arm, asked)
    return choice.picked.candidate, choice.shipped.chosen, _why(choice, choice.shipped, arm)


def _named(text: str, found: Conclusion, candidates: list[Candidate]) -> tuple[Candidate, SeedEval, str]:
    """Return the candidate of this name and its seed, whether it is at the level or not, which `why` says."""
    known = {one.name: one for one in candidates}
    names = {*known, *(one.arm for one in candidates)}
    name = str(parse_candidate(text)) if "@" in text else text
    if name not in known:
        raise UserError(
            f"--arm must be an arm of `{found.study.name}` that trained, or a candidate that was measured, but got "
            f"`{named(text)}`",
            nearest(name, names),
        )
    candidate = known[name]
    judged = next(one for one in found.choice.judged if one.name == name)
    shipped = seed_of(found.choice, name, found.constraint)
    one = shipped.chosen if shipped else _by_means(judged, found)
    is_pick = found.choice.picked is not None and found.choice.picked.name == name
    return candidate, one, _why_named(judged, shipped, found.choice.level, is_pick)


def _by_means(judged: Judged, found: Conclusion) -> SeedEval:
    """Return the seed of lowest eval loss of those whose numbers meet the constraint, else of all."""
    base, evals = judged.contender.baseline, judged.candidate.evals
    metrics = base.evals[-1].metrics if base else {}
    admitted = [one for one in evals if base is not None and found.constraint.admits(metrics, one.metrics)]
    return min(admitted or evals, key=lambda one: one.metrics["eval_loss"])


def _at_step(found: Conclusion, one: SeedEval) -> tuple[Measurement, ...]:
    measured = found.measured[one.trial.run_id]
    return tuple(each for each in measured if each.kind == "eval" and each.step == one.measured.step)


def _nothing_to_ship(choice: Pick, found: Conclusion, arm: str, asked: Sequence[str]) -> NothingToShip:
    near = f"; the nearest: {'; '.join(miss(one, choice) for one in choice.nearest)}" if choice.nearest else ""
    reasons = f" {' '.join(choice.unknown)}" if choice.unknown else ""
    of = f"arm {arm}" if arm else "arm"
    among = [one.candidate for one in choice.judged if not arm or one.candidate.arm == arm]
    best = next(iter([one.candidate for one in choice.nearest] or among), None)
    anyway = f"; {shlex.join(['--arm', best.name])} ships that one all the same" if best else ""
    return NothingToShip(
        f"a candidate to ship must show a gain, and meet the constraint with probability {choice.level:g}, but no {of} "
        f"of `{found.study.name}` has one{near}.{reasons}",
        f"more seeds or rows raise the probability: `{typed('pareto', '--experiment', found.study.name, *asked)}` "
        f"says what each arm reached{anyway}",
    )


def _why(choice: Pick, shipped: Shipped, arm: str) -> str:
    picked = choice.picked
    assert picked is not None and picked.admissible is not None
    alike = len(choice.alike)
    of = f" of arm {arm}, which --arm named" if arm else ""
    among = (
        f"the most general of {alike} candidates{of} that cannot be told from the best in {choice.fit.name}"
        if alike > 1
        else f"the one with the best {choice.fit.name} of those at {choice.level:g}{of}"
    )
    seeds = f"{picked.seeds_admissible} of {picked.seeds} seeds met the constraint"
    own = f"this seed has the lowest eval loss of those at {choice.level:g} by their own rows"
    if not shipped.reaches_level:
        own = f"no seed reaches {choice.level:g} by its own rows, and this is the likeliest"
    new = f"a new seed meets the constraint with probability {chance(picked.admissible, choice.level)} ({seeds})"
    sure = "" if arm else " ".join([*undecided(choice), *settled(choice)])
    return f"{picked.name} is {among}; {new}; {own}: {chance(shipped.admissible, choice.level)}. {sure}".rstrip()


def _why_named(judged: Judged, shipped: Shipped | None, level: float, is_pick: bool) -> str:
    if judged.admissible is None or shipped is None:
        return (f"{judged.name} was named by --arm, not picked; the records have no results by row, so whether it "
                "meets the constraint on other rows is not known.")  # fmt: skip
    below = "" if shipped.admissible >= level and judged.admissible >= level else f", below the level of {level:g}"
    named_by = f"{judged.name} was named by --arm{', and is the pick' if is_pick else ', not picked'}"
    return (f"{named_by}; a new seed meets the constraint with probability "
            f"{chance(judged.admissible, level)}, the shipped one does with "
            f"{chance(shipped.admissible, level)}{below}.")  # fmt: skip


def _baseline_of(study: ExperimentRuns, spec: TrialSpec) -> Measurement | None:
    wanted = spec.baseline().trial_id
    records = [record for trial in study.trials if trial.trial_id == wanted and (record := recorded(trial)) is not None]
    evals = [one for record in records for one in record.evals()]
    return evals[-1] if evals else None
