"""The result of a frontier as frozen values, from which every table, file and chart is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.decision.judged import Judged
from analysis.decision.pick import Pick
from analysis.holdout import HoldoutFindings
from analysis.placements import PlacementRuns
from analysis.uncertainty import Estimate
from trainables.pareto import Objective

Kind = Literal["frontier", "baseline", "dominated", "gain outside the constraint", "no gain", "excluded", "running"]
KINDS: tuple[Kind, ...] = (
    "frontier", "baseline", "dominated", "gain outside the constraint", "no gain", "excluded", "running",
)  # fmt: skip

GENERALITY, FIT = 0, 1  # indices of the objectives: x is generality, y the task fit, and further ones follow


@dataclass(frozen=True)
class PlacementResult:
    """The result of one placement and the reason for it.

    `estimates` are in the order of the objectives, and empty if the placement is not compared. `gain` is the task fit
    over the baseline of the same quantization, positive when better, None if no such baseline was measured.
    `probability` is that of being on the frontier, None where it is not known.

    Where the records have results by row, `path` holds every candidate of the placement in order of step and scale, and
    `candidate` the one that stands for it: the best fit of those whose mean meets the constraint, None if none does.
    """

    placement: PlacementRuns
    kind: Kind
    on_frontier: bool
    reason: str
    estimates: tuple[Estimate, ...] = ()
    gain: float | None = None
    probability: float | None = None
    not_separable_from: tuple[str, ...] = ()
    path: tuple[Judged, ...] = ()
    candidate: Judged | None = None


@dataclass(frozen=True)
class Volume:
    """The hypervolume of the frontier and of the baseline alone, against `reference` (one value per objective).

    `baseline` is None where there is none. `low` and `high` bound the frontier's in 95 % of the draws of rows and
    seeds, None without results by row.
    """

    frontier: float
    baseline: float | None
    reference: tuple[float, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AttainedEdge:
    """The edge of what the frontier reaches in this share of the draws, as (x, y) from the best x to the best y."""

    share: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Attained:
    """What the frontier reaches for sure (in 97.5 % of the draws of rows and seeds), in half, and at most (in 2.5 %).

    `surely` and `at_most` bound a 95 % band around `median`.
    """

    surely: AttainedEdge
    median: AttainedEdge
    at_most: AttainedEdge

    @property
    def surfaces(self) -> tuple[AttainedEdge, AttainedEdge, AttainedEdge]:
        """Return all three, the surest first."""
        return self.surely, self.median, self.at_most


@dataclass(frozen=True)
class FrontierInfo:
    """All results; `floor` is the guard's limit on the first objective, None if it is not known.

    `choice` is what to ship by the results by row, and `attained` how far the frontier reaches, None where the records
    have none; `holdout` is what is known of the choice on held-out rows, None where nothing is picked. `is_foreign` is
    true for results that no study made, which have no baseline.
    """

    experiment: str
    objectives: tuple[Objective, ...]
    results: tuple[PlacementResult, ...]
    volume: Volume | None
    floor: float | None
    choice: Pick | None = None
    holdout: HoldoutFindings | None = None
    attained: Attained | None = None
    is_foreign: bool = False

    @property
    def noun(self) -> str:
        """Return what is compared: placements of a study, or results that were not made here."""
        return "result" if self.is_foreign else "placement"

    def of_kind(self, *kinds: Kind) -> list[PlacementResult]:
        """Return the results of these kinds, in order."""
        return [result for result in self.results if result.kind in kinds]
