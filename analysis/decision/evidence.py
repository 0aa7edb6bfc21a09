"""What the results by row say of all candidates together: draws, and the probability of being admissible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.candidates import FULL_STRENGTH, Candidate
from analysis.decision.admissibility import probability, room
from analysis.decision.pooled import GENERATOR_SEED, Draws, RowArray, Weights, draw_weights, pooled, weighted_mean
from analysis.decision.shrinkage import shrunk
from trainables.constraint import Constraint
from trainables.probes.metric import RowResults

BASELINE = -1


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
class DrawnCandidates:
    """Draws of candidates and of their baselines; the last axis of every array is that of `contenders`.

    Candidates are compared with each other on the rows that all of them answered: `draws` and `baselines` hold each
    metric's expected values there, `compared` what they were drawn from. `own` are the expected values of each
    contender on all rows that it answered, and whether it is admissible is judged on these, with its baseline's on
    the same. `inside` (draws, contenders) how far one new seed is inside the constraint, `expected_inside` the same
    of the mean over seeds, `admissible` (contenders,) the probability for a new seed, `survival` the share of seeds
    that reached the step. `arrays` and `weights` are what `own` was drawn from: contenders and then baselines, that
    of a contender at `baseline_at`.
    """

    contenders: tuple[Contender, ...]
    arrays: Mapping[str, RowArray]
    weights: Mapping[str, Weights]
    compared: Mapping[str, RowArray]
    draws: Mapping[str, Draws]
    own: Mapping[str, Draws]
    baselines: Mapping[str, np.ndarray]
    inside: np.ndarray
    expected_inside: np.ndarray
    admissible: np.ndarray
    survival: np.ndarray
    baseline_at: np.ndarray

    def compared_means(self, metric: str) -> np.ndarray:
        """Return the mean of each contender on the rows that all answered: (contenders,)."""
        one = self.compared[metric]
        return weighted_mean(one.row_means, one.row_weights)[: len(self.contenders)]

    def shared_rows(self, metric: str) -> int:
        """Return how many rows all contenders answered."""
        return int((~np.isnan(self.compared[metric].row_means[: len(self.contenders)])).all(axis=0).sum())


def evidence(contenders: Sequence[Contender], metrics: Sequence[str], constraint: Constraint) -> DrawnCandidates:
    """Draw what the contenders score.

    Args:
        contenders: candidates with a baseline and with results by row of every metric.
        metrics: what decides: fit, generality; those of the constraint are added.
        constraint: what an eval must keep of the baseline's generality.
    """
    names = tuple(dict.fromkeys((*metrics, *constraint.needs)))
    whole = _arrays(contenders, names, carried=True)
    alone = _arrays(contenders, names, carried=False)
    weights = {name: draw_weights(one) for name, one in whole.items()}
    survivors = np.array([len(one.candidate.evals) for one in contenders])
    stopped = np.array([len(one.candidate.stopped) for one in contenders])
    count, of = len(contenders), _baseline_positions(contenders)
    compared = {name: _on_shared_rows(one, count) for name, one in whole.items()}
    draws, own = (_draws(one, weights, contenders) for one in (compared, whole))
    reaching = own if not stopped.any() else _draws(alone, weights, contenders)
    limits = {name: weights[name].means_alone(whole[name].row_means[count:])[:, of] for name in constraint.needs}
    generator = np.random.default_rng([GENERATOR_SEED, len(names)])
    new = {name: reaching[name].new_seed(generator)[:, :count] for name in constraint.needs}
    expected = {name: own[name].expected[:, :count] for name in constraint.needs}
    inside = room(constraint.allowances, limits, new)
    return DrawnCandidates(
        contenders=tuple(contenders),
        arrays=whole,
        weights=weights,
        compared=compared,
        draws=_first(count, draws),
        own=_first(count, own),
        baselines={name: one.expected[:, count:][:, of] for name, one in draws.items()},
        inside=inside,
        expected_inside=room(constraint.allowances, limits, expected),
        admissible=probability(inside, survivors, stopped),
        survival=survivors / (survivors + stopped),
        baseline_at=count + of,
    )


def _first(count: int, draws: Mapping[str, Draws]) -> dict[str, Draws]:
    return {name: Draws(one.expected[:, :count], one.seed_deviation) for name, one in draws.items()}


def _on_shared_rows(one: RowArray, count: int) -> RowArray:
    """Return the results on the rows that all of the first `count` series answered; on all rows if there are none."""
    answered = ~np.isnan(one.row_means[:count]).any(axis=0)
    if answered.all() or not answered.any():
        return one
    return replace(one, values=np.where(answered, one.values, np.nan))


def _draws(
    arrays: Mapping[str, RowArray], weights: Mapping[str, Weights], contenders: Sequence[Contender]
) -> dict[str, Draws]:
    """Return the draws of contenders and then baselines; the contenders' are pulled toward each other."""
    count = len(contenders)
    arms = _arms(contenders)
    total = len(next(iter(arrays.values())).values)
    is_fixed = np.arange(total) >= count
    numbers = np.concatenate([arms, np.full(total - count, BASELINE)])
    raw = {name: pooled(one, weights[name], numbers, is_fixed, at) for at, (name, one) in enumerate(arrays.items())}
    stacked = shrunk(np.stack([one.expected[:, :count] for one in raw.values()], axis=-1))
    return {
        name: Draws(np.concatenate([stacked[:, :, at], one.expected[:, count:]], axis=1), one.seed_deviation)
        for at, (name, one) in enumerate(raw.items())
    }


def _arms(contenders: Sequence[Contender]) -> np.ndarray:
    names = list(dict.fromkeys(one.candidate.arm for one in contenders))
    return np.array([names.index(one.candidate.arm) for one in contenders])


def _distinct_baselines(contenders: Sequence[Contender]) -> list[Candidate]:
    found: list[Candidate] = []
    for one in contenders:
        if one.baseline is not None and not any(one.baseline is other for other in found):
            found.append(one.baseline)
    return found


def _baseline_positions(contenders: Sequence[Contender]) -> np.ndarray:
    distinct = _distinct_baselines(contenders)
    return np.array([next(i for i, other in enumerate(distinct) if one.baseline is other) for one in contenders])


def _arrays(contenders: Sequence[Contender], names: Sequence[str], carried: bool) -> dict[str, RowArray]:
    series = [[one.rows for one in contender.candidate.evals] for contender in contenders]
    if carried:
        last = _last_evals(contenders)
        for contender, evals in zip(contenders, series, strict=True):
            evals += [_before(contender, seed, last) for seed in contender.candidate.stopped]
    series += [[one.rows for one in baseline.evals] for baseline in _distinct_baselines(contenders)]
    return {name: row_array([[one[name] for one in evals] for evals in series]) for name in names}


Evals = Mapping[tuple[str, str], Sequence[tuple[int, Mapping[str, RowResults]]]]


def _last_evals(contenders: Sequence[Contender]) -> Evals:
    found: dict[tuple[str, str], list[tuple[int, Mapping[str, RowResults]]]] = {}
    for contender in contenders:
        one = contender.candidate
        if one.scale == FULL_STRENGTH:
            for each in one.evals:
                found.setdefault((one.arm, each.seed), []).append((one.step, each.rows))
    return found


def _before(contender: Contender, seed: str, last: Evals) -> Mapping[str, RowResults]:
    """Return the last results of a seed that was stopped before this step: its own, else the baseline's."""
    earlier = [one for one in last.get((contender.candidate.arm, seed), []) if one[0] < contender.candidate.step]
    if earlier:
        return max(earlier, key=lambda one: one[0])[1]
    assert contender.baseline is not None
    return contender.baseline.evals[0].rows


def row_array(series: Sequence[Sequence[RowResults]]) -> RowArray:
    """Return results by row as one array: per candidate, its seeds' results; a row that was not asked is NaN."""
    every = [one for seeds in series for one in seeds]
    rows = tuple(sorted({row for one in every for row in one.values}))
    at = {row: i for i, row in enumerate(rows)}
    values = np.full((len(series), max(map(len, series)), len(rows)), np.nan)
    row_weights = np.ones(len(rows))
    for i, seeds in enumerate(series):
        for j, one in enumerate(seeds):
            values[i, j, [at[row] for row in one.values]] = list(one.values.values())
            for row, weight in one.weights.items():
                row_weights[at[row]] = weight
    return RowArray(rows, values, row_weights, not any(one.weights for one in every))
