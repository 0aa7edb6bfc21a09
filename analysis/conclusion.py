"""What a study says: the frontier, what to ship, and the holdout; every command and file concludes by this alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.candidates import Candidate
from analysis.decision.pick import LEVEL, Contender, Pick, pick
from analysis.frontier import frontier_info
from analysis.holdout import holdout_of
from analysis.mlflow_runs import ExperimentRuns
from analysis.placement_results import FIT, GENERALITY, FrontierInfo
from analysis.placements import PlacementRuns, placements_of
from analysis.standings import trusted_candidates
from analysis.study_constraint import constraint_of
from trainables.constraint import Constraint
from trainables.pareto import Objective
from trainables.record import Measurement


@dataclass(frozen=True)
class Conclusion:
    """The frontier of a study with what the holdout says, what to ship, and what they were concluded from.

    `choice` is that of `info`, and picks nothing where the records have no results by row.
    """

    study: ExperimentRuns
    measured: Mapping[str, Sequence[Measurement]]
    constraint: Constraint
    info: FrontierInfo
    choice: Pick


def conclude(
    study: ExperimentRuns,
    measured: Mapping[str, Sequence[Measurement]],
    objectives: Sequence[Objective],
    level: float = LEVEL,
    held_out: Mapping[str, Sequence[Measurement]] | None = None,
) -> Conclusion:
    """Conclude from the trials of a study.

    Args:
        study: the runs.
        measured: the measurements of each trial by run id, as `read_logged` returns them.
        objectives: generality, the task fit, and further ones.
        level: the probability of meeting the constraint that the pick must reach.
        held_out: the evals on the holdout by run id, as `read_logged` returns them.

    Raises:
        UserError: no trial has a verdict yet, or no trial has measured an objective.
    """
    constraint = constraint_of(study)
    info = frontier_info(study, objectives, measured, constraint, level)
    choice = info.choice
    if choice is None:
        contenders = _without_rows(placements_of(study, objectives), measured)
        choice = pick(contenders, objectives[FIT], objectives[GENERALITY], constraint, level)
    info = replace(info, holdout=holdout_of(study, choice, held_out or {}))
    return Conclusion(study, measured, constraint, info, choice)


def pick_among(found: Conclusion, names: Collection[str]) -> Pick:
    """Choose again by the same rule and evidence, but only among the candidates of these names."""
    choice = found.choice
    return pick(choice.contenders, choice.fit, choice.generality, found.constraint, choice.level, only=names)


def _without_rows(
    placements: Sequence[PlacementRuns], measured: Mapping[str, Sequence[Measurement]]
) -> list[Contender]:
    """Return every candidate of every arm that trained, with the baseline of the same quantization."""
    baselines: dict[object, Candidate] = {}
    for one in placements:
        if one.is_baseline and (known := trusted_candidates(one, measured)):
            baselines.setdefault(one.parameters.get("quantization"), known[-1])
    return [
        Contender(candidate, baselines.get(one.parameters.get("quantization")), one.last_mean("adapter_parameters"))
        for one in placements
        if not one.is_baseline
        for candidate in trusted_candidates(one, measured)
    ]
