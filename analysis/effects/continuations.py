"""Pairs of continued trials: the same training from a parent that kept its generality and from one that lost it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.compare.difference import Difference
from analysis.compare.proportions import LEVEL
from analysis.effects.contrasts import combined
from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.constraint import CONSTRAINT, applicable_constraint
from trainables.record import Measurement


@dataclass(frozen=True)
class Continued:
    """A trial that continued an adapter: its eval before the first step, and its last one."""

    trial: TrialRun
    first: Measurement
    last: Measurement


@dataclass(frozen=True)
class ContinuedPair:
    """Two continued trials that are equal but for their parent: one kept its generality, one lost it."""

    stable: Continued
    lost: Continued


def continued_pairs(
    experiment: ExperimentRuns, measured: Mapping[str, Sequence[Measurement]]
) -> tuple[ContinuedPair, ...]:
    """Return the pairs of an experiment: equal in every logged setting, one parent within the constraint, one outside.

    The constraint is that of the best checkpoint, against the baseline of the same quantization.
    """
    baselines: dict[str, Measurement] = {}
    alike: dict[tuple, list[Continued]] = defaultdict(list)
    for trial in experiment.trials:
        evals = sorted((one for one in measured[trial.run_id] if one.kind == "eval"), key=lambda one: one.step)
        layers = [trial.parameters.get(key) for key in ("language_layers", "vision_blocks")]
        if evals and layers == [0, 0]:
            baselines[str(trial.parameters.get("quantization"))] = evals[-1]
        elif len(evals) > 1 and evals[0].step == 0:
            alike[tuple(sorted(trial.parameters.items()))].append(Continued(trial, evals[0], evals[-1]))
    pairs = []
    for key, trials in alike.items():
        reference = baselines.get(str(dict(key).get("quantization")))
        if reference is None or len(trials) != 2:
            continue
        kept = [_kept(one, reference) for one in trials]
        if sorted(kept) == [False, True]:
            pairs.append(ContinuedPair(trials[kept.index(True)], trials[kept.index(False)]))
    return tuple(pairs)


def _kept(one: Continued, baseline: Measurement) -> bool:
    constraint = applicable_constraint(CONSTRAINT, one.first.metrics)
    return constraint.admits(baseline.metrics, one.first.metrics)


def changes(pairs: Sequence[ContinuedPair], metric: str) -> tuple[Difference, Difference]:
    """Return how much training on changed a metric: from the stable parent, and from the lost one more than that.

    The pairs are the seeds; an interval needs two of them.
    """
    stable = [(one.stable.first, one.stable.last) for one in pairs]
    lost = [(one.lost.first, one.lost.last) for one in pairs]
    rises = [np.array([last.metrics[metric] - first.metrics[metric] for first, last in of]) for of in (stable, lost)]
    rows = [_rises_by_row(of, metric) for of in (stable, lost)]
    more = None
    if rows[0] is not None and rows[1] is not None and rows[0].shape == rows[1].shape:
        more = rows[1] - rows[0]
    return _mean(rises[0], rows[0]), _mean(rises[1] - rises[0], more)


def _rises_by_row(evals: Sequence[tuple[Measurement, Measurement]], metric: str) -> np.ndarray | None:
    """Return the mean rise of each row that all evals answered, (rows,)."""
    if not all(metric in one.rows for pair in evals for one in pair):
        return None
    common = sorted(set.intersection(*(set(one.rows[metric].values) for pair in evals for one in pair)))
    if len(common) < 3:
        return None
    rises = [[last.rows[metric].values[r] - first.rows[metric].values[r] for r in common] for first, last in evals]
    return np.array(rises).mean(axis=0)


def _mean(values: np.ndarray, by_row: np.ndarray | None) -> Difference:
    from scipy.stats import t

    half = math.inf
    if len(values) > 1:
        half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return combined(float(values.mean()), by_row, half, len(values))
