"""Replays samplers on a table of measured trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search_table import LANGUAGE, RANKS, RATES, STUDY, VISION
from sweeps.hpo.outcome import Outcome, outcome
from sweeps.hpo.points import is_baseline_point
from sweeps.hpo.sampler import Searcher, SearchSettings
from sweeps.hpo.space import SAMPLERS, Choice, Point, Sampler, Space
from trainables import pareto
from trainables.pareto import as_costs, directions_of, parse_objectives
from trainables.record import Measurement
from trainables.verdict import Verdict

OBJECTIVES = parse_objectives(("exact_match", "irrelevant_pass"))


REFERENCE = (0.0, 0.80)  # an exact match of 0, and the guard's limit on the irrelevant-image pass


SPACE = Space(
    {
        "language": Choice(LANGUAGE),
        "vision": Choice(VISION),
        "rank": Choice(RANKS),
        "learning_rate": Choice(RATES),
    }
)


BUDGET, COHORT, SEEDS = 48, 8, 50


Key = tuple[int, int, int, float]


@dataclass(frozen=True)
class Table:
    """The outcome of every trial of the space, by its key, and the hypervolume of all of them together."""

    outcomes: Mapping[str, Outcome]
    whole: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Table:
        """Compute outcomes from recorded rows as a search does; the row without an adapter is the baseline."""
        first = next(row for row in rows if is_baseline_point(row))["evals"][0]
        baseline = Measurement("eval", first["step"], first)
        found = {key_of(row): _outcome(row, baseline) for row in rows if not is_baseline_point(row)}
        outcomes = {key: one for key, one in found.items() if key is not None}
        return cls(outcomes, hypervolume(list(outcomes.values())))


def key_of(point: Point) -> str | None:
    """Return the key of a trial of the table, None for the baseline."""
    return None if is_baseline_point(point) else " ".join(f"{point[name]:g}" for name in SPACE.dimensions)


def hypervolume(outcomes: Sequence[Outcome]) -> float:
    """Return the hypervolume that the feasible outcomes dominate, against `REFERENCE`; 0 when none is feasible."""
    values = [one.values for one in outcomes if one.is_feasible]
    directions = directions_of(OBJECTIVES)
    if not values:
        return 0.0
    reference = as_costs(np.array(REFERENCE), directions)
    return pareto.hypervolume(as_costs(np.array(values), directions), reference)


def replay(table: Table, sampler: Sampler, seed: int, budget: int = BUDGET, cohort: int = COHORT) -> list[float]:
    """Search the table with a sampler; returns the share of its hypervolume found after each cohort."""
    searcher = Searcher(SearchSettings(SPACE, OBJECTIVES, sampler, cohort, seed), None, key_of)
    shares = []
    while searcher.asked_count < budget and (asked := searcher.ask(min(cohort, budget - searcher.asked_count))):
        for one in asked:
            searcher.tell(one.key, table.outcomes[one.key])
        shares.append(hypervolume(list(searcher.outcomes.values())) / table.whole)
    return shares


def compare(table: Table, seeds: int, gp_seeds: int, say: Callable[[str], None]) -> dict[str, list[list[float]]]:
    """Replay every sampler with every seed; returns the shares by sampler: (seeds, cohorts)."""
    found: dict[str, list[list[float]]] = {}
    for sampler in SAMPLERS:
        count = gp_seeds if sampler == "gp" else seeds
        found[sampler] = [replay(table, sampler, seed) for seed in range(count)]
        say(f"{sampler}: median {np.median([one[-1] for one in found[sampler]]):.3f} after {BUDGET} trials")
    return found


def _outcome(row: Mapping[str, Any], baseline: Measurement) -> Outcome:
    measured = [Measurement("eval", one["step"], one) for one in row["evals"]]
    return outcome(Verdict.model_validate(row["verdict"]), measured, row["best_step"], baseline, STUDY, OBJECTIVES)
