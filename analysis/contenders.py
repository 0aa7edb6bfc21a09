"""The candidates of an experiment with their baselines and prices, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.candidates import Candidate, candidates_of
from analysis.finalists import paired
from analysis.mlflow_runs import ExperimentRuns
from analysis.pick import Contender, Pick, pick
from analysis.placements import PlacementRuns, placements_of
from analysis.study_constraint import constraint_of
from trainables.pareto import Objective
from trainables.record import Measurement

FIT, GENERALITY = 1, 0  # of the objectives


def pick_of(
    study: ExperimentRuns,
    measured: Mapping[str, Sequence[Measurement]],
    objectives: Sequence[Objective],
    arm: str = "",
) -> Pick:
    """Choose what to ship of an experiment, or of one of its arms, by its label.

    Args:
        study: the runs.
        measured: the measurements of each trial by run id, as `read_measurements` returns them.
        objectives: generality, then the task fit; further ones are not looked at.
        arm: the only arm to choose from; all, if it is empty.
    """
    placements = placements_of(study, objectives)
    contenders = contenders_of(placements, measured)
    chosen = [one for one in contenders if not arm or one.candidate.arm == arm]
    return pick(chosen, objectives[FIT], objectives[GENERALITY], constraint_of(study))


def contenders_of(
    placements: Sequence[PlacementRuns], measured: Mapping[str, Sequence[Measurement]]
) -> list[Contender]:
    """Return every candidate of every arm that trained, with the baseline of the same quantization."""
    baselines: dict[object, Candidate] = {}
    for placement in placements:
        if placement.is_baseline and (found := candidates_of(placement, measured)):
            baselines[placement.parameters.get("quantization")] = found[-1]
    return [
        Contender(candidate, baseline, placement.last_mean("adapter_parameters"))
        for placement in placements
        if not placement.is_baseline
        for candidate, baseline in paired(
            candidates_of(placement, measured), baselines.get(placement.parameters.get("quantization"))
        )
    ]
