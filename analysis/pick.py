"""Chooses what to ship: the most general candidate that the best task fit cannot be told from, and its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.candidates import Candidate, SeedEval
from trainables.constraint import Constraint
from trainables.pareto import Objective

LEVEL = 0.9
CONFIDENCE = 0.95

Standing = Literal["admitted", "outside", "no gain"]


@dataclass(frozen=True)
class Interval:
    """The expected value of a metric over rows and seeds, with its 95 % interval; without one it is not known."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Contender:
    """A candidate, what it is compared with, and its price.

    `baseline` is that of the same quantization, None where none was measured; `parameters` are the trained ones, None
    where they were not logged.
    """

    candidate: Candidate
    baseline: Candidate | None
    parameters: float | None


@dataclass(frozen=True)
class Judged:
    """A candidate and what is known of it; what is not known is None.

    `estimates` holds the fit, the generality, the constraint's metrics and every further one that was asked for, over
    rows and seeds; seeds stopped before its step count with their last eval. `gain` is the fit over the baseline's on
    the same rows, positive when better. `admissible` is the probability that one new seed meets the constraint at this
    step, `seeds_admissible` how many of the seeds' own evals meet it, of `seeds`. `rows_short` is by how many rows the
    mean misses the constraint, 0 where it meets it. `on_frontier` is the probability that no other candidate is better
    in fit and generality.
    """

    contender: Contender
    estimates: Mapping[str, Interval]
    gain: Interval | None
    admissible: float | None
    seeds_admissible: int
    seeds: int
    rows_short: int | None
    on_frontier: float | None

    @property
    def candidate(self) -> Candidate:
        """Return the candidate."""
        return self.contender.candidate

    @property
    def name(self) -> str:
        """Return the candidate's name, `C2 @ 60`."""
        return self.candidate.name


@dataclass(frozen=True)
class Shipped:
    """The seed of the picked candidate whose adapter is shipped; `admissible` is its own, not a new seed's."""

    chosen: SeedEval
    estimates: Mapping[str, Interval]
    admissible: float | None


@dataclass(frozen=True)
class Pick:
    """What to ship and why.

    `judged` are all candidates, best fit first. `best` has the best expected fit among those at the `level`;
    `alike` are those at the level that it is not separable from, itself included, among which `picked` is the most
    general, then the cheapest. All three are empty where no candidate reaches the level: `nearest` then names those
    that miss by the fewest rows. `corrected` is what the fit of the best is worth on other rows than those that chose
    it (bootstrap bias correction), None where it is not known. `would_change` and `unknown` are sentences.
    """

    level: float
    fit: Objective
    generality: Objective
    judged: tuple[Judged, ...]
    best: Judged | None
    alike: tuple[Judged, ...]
    picked: Judged | None
    shipped: Shipped | None
    nearest: tuple[Judged, ...]
    corrected: float | None
    would_change: tuple[str, ...]
    unknown: tuple[str, ...]


def pick(
    contenders: Sequence[Contender],
    fit: Objective,
    generality: Objective,
    constraint: Constraint,
    level: float = LEVEL,
    also: Sequence[str] = (),
) -> Pick:
    """Choose among candidates.

    Args:
        contenders: every candidate of every arm, derived ones included: all of them count in the correction.
        fit: the task fit.
        generality: the metric of generality.
        constraint: what an eval must keep of the baseline's generality.
        level: the probability of meeting the constraint that a candidate must reach.
        also: further metrics to estimate.
    """
    raise NotImplementedError
