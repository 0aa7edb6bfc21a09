"""What is concluded from a simulated sweep: by the pooled estimator and its pick, and by the rule before them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.decision.admissibility import probability
from analysis.decision.choice import Chosen, choose, finalists
from analysis.decision.judged import TAILS
from analysis.decision.pooled import draw_weights, pooled
from analysis.decision.shrinkage import shrunk
from analysis.uncertainty import estimate
from benchmarks.decision_worlds import LIMIT, World, asked
from trainables.pareto import dominance, non_dominated

DRAWS = 1000
LEVEL = 0.9


@dataclass(frozen=True)
class Conclusions:
    """Draws of the expected fit and pass of each candidate, the baseline last, and of one new seed's pass."""

    fit: np.ndarray
    generality: np.ndarray
    new_generality: np.ndarray


def conclude(one: World, generator: np.random.Generator, described: bool = False) -> Conclusions:
    """Return draws by the pooled estimator; `described` leaves the candidates as they are, not pulled together."""
    fixed = np.arange(len(one.arms)) == len(one.arms) - 1
    shared = one.generality_rows
    answered = ~np.isnan(shared.row_means[:-1]).any(axis=0)
    shared = replace(shared, values=np.where(answered, shared.values, np.nan))  # as `analysis.decision.evidence` does
    drawn = [
        pooled(rows, draw_weights(rows, DRAWS), one.arms, fixed, stream)
        for stream, rows in enumerate((one.fit_rows, shared))
    ]
    whole = pooled(one.generality_rows, draw_weights(one.generality_rows, DRAWS), one.arms, fixed, 1)
    both = np.stack([each.expected for each in drawn], axis=-1)
    if not described:
        both[:, :-1] = shrunk(both[:, :-1])
    both[:, -1] = one.fit[-1], one.generality[-1]
    noise = whole.seed_deviation[:, None] * generator.standard_normal(both.shape[:2])
    own = both[:, :, 1] + whole.expected - drawn[1].expected  # equal to the shared ones where all answered all rows
    return Conclusions(both[:, :, 0], both[:, :, 1], own + noise)


def said(found: Conclusions, constrained: bool) -> np.ndarray:
    """Return the probability of being on the frontier that is stated of each candidate."""
    costs = -np.stack([found.fit, found.generality], axis=-1)
    if constrained:
        costs[found.generality < LIMIT] = np.nan
    return _share_on_frontier(costs)


def true(one: World, constrained: bool) -> np.ndarray:
    """Return which candidates truly are on the frontier."""
    costs = -np.stack([one.fit, one.generality], axis=-1)
    if constrained:
        costs[one.generality < LIMIT] = np.nan
    return non_dominated(costs)


def said_before(one: World, constrained: bool, generator: np.random.Generator) -> np.ndarray:
    """Return the probability that was stated before: seeds resampled, their rows taken for the truth."""
    means = np.stack([one.fit_rows.seed_means, one.generality_rows.seed_means], axis=-1)
    seeds = means.shape[1]
    drawn = generator.integers(seeds, size=(DRAWS, len(means), seeds))
    picked = means[np.arange(len(means))[None, :, None], drawn].mean(axis=2)
    picked[:, -1] = means[-1, 0]
    if constrained:  # an arm with a seed below the limit was not compared at all
        picked[:, (means[:, :, 1] < LIMIT).any(axis=1)] = np.nan
    return _share_on_frontier(-picked)


def _share_on_frontier(costs: np.ndarray) -> np.ndarray:
    """Do as `trainables.pareto.share_on_frontier`, all draws of a dozen candidates at once."""
    return (~dominance(costs).any(axis=-2) & np.isfinite(costs).all(axis=-1)).mean(axis=0)


def pick_now(one: World, found: Conclusions, level: float = LEVEL) -> tuple[int, int] | None:
    """Return the candidate and the seed that the pick ships, None for nothing."""
    _, choice = _choice(one, found, level)
    if choice is None:
        return None
    rows = one.generality_rows
    own = draw_weights(rows, DRAWS).means(rows.values[choice.picked])
    likely = (own >= LIMIT).mean(axis=0)
    reaching = np.flatnonzero(likely >= level)
    fits = one.fit_rows.seed_means[choice.picked]
    return choice.picked, int(reaching[np.argmax(fits[reaching])] if len(reaching) else np.argmax(likely))


def _choice(one: World, found: Conclusions, level: float) -> tuple[np.ndarray, Chosen | None]:
    count, seeds = one.seed_generality.shape
    admissible = probability(found.new_generality[:, :count] - LIMIT, np.full(count, seeds), np.zeros(count))
    at_level = (admissible >= level) & _shows_gain(found)
    return admissible, choose(found.fit[:, :count], found.generality[:, :count], at_level, one.sizes[:count])


def _shows_gain(found: Conclusions) -> np.ndarray:
    return np.quantile(found.fit[:, :-1] - found.fit[:, -1:], TAILS[0], axis=0) > 0.0


def with_finalists_asked(whole: World, generator: np.random.Generator, level: float = LEVEL) -> World:
    """Return the sweep after the finalists were asked all rows, again until no new ones appear."""
    known: tuple[int, ...] = ()
    while True:
        one = asked(whole, known)
        new = [each for each in _finalists(one, conclude(one, generator), level) if each not in known]
        if not new:
            return one
        known = (*known, *new)


def _finalists(one: World, found: Conclusions, level: float) -> tuple[int, ...]:
    count, means = len(one.seed_generality), found.fit.mean(axis=0)
    admissible, choice = _choice(one, found, level)
    return finalists(choice, means[:count], admissible, _shows_gain(found), level)


def pick_before(one: World) -> tuple[int, int] | None:
    """Return what the rule before shipped: arms by their seeds' best admitted evals, None for nothing.

    The eval of highest fit stands for that of lowest loss.
    """
    fits, passes = one.fit_rows.seed_means[:-1], one.generality_rows.seed_means[:-1]
    fits = np.where(passes >= LIMIT - 1e-9, fits, -1.0)
    best: dict[int, list[int]] = {}
    for arm in np.unique(one.arms[:-1]):
        mine = np.flatnonzero(one.arms[:-1] == arm)
        steps = [int(mine[np.argmax(column)]) for column in fits[mine].T]
        if all(fits[step, seed] > 0 for seed, step in enumerate(steps)):
            best[int(arm)] = steps
    if not best:
        return None
    values = {arm: [fits[step, seed] for seed, step in enumerate(steps)] for arm, steps in best.items()}
    kept = {arm: np.mean([passes[step, seed] for seed, step in enumerate(steps)]) for arm, steps in best.items()}
    arms = list(best)
    on_it = non_dominated(-np.array([[np.mean(values[arm]), kept[arm]] for arm in arms]))
    front = [arm for arm, is_on in zip(arms, on_it, strict=True) if is_on]
    first = max(front, key=lambda arm: np.mean(values[arm]))
    estimates = {arm: estimate(values[arm]) for arm in front}
    alike = [arm for arm in front if arm == first or estimates[arm].overlaps(estimates[first])]
    arm = min(alike, key=lambda each: one.sizes[best[each][0]])
    seed = int(np.argmax(values[arm]))
    return best[arm][seed], seed
