"""Objectives, Pareto dominance and hypervolume.

Arrays are (points, objectives), and every column is a cost: lower is better. moocore takes 0.2 s to load, so the
functions that use it import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError, nearest
from trainables.metrics import PRICES, metric
from trainables.probes.metric import Direction

SUITES = ("lm-eval/", "lmms-eval/")  # how the names of their metrics begin


def as_costs(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Turn values (points, objectives) into costs by negating the objectives where higher is better."""
    return np.asarray(values, dtype=float) * np.array([-1.0 if one == "higher" else 1.0 for one in directions])


def dominance(costs: np.ndarray) -> np.ndarray:
    """Return a (points, points) array that is true where the row's point dominates the column's point.

    A point dominates another if it is worse in no objective and better in at least one. A point with a value that is
    not finite dominates no point and is dominated by none. Axes before (points, objectives) are kept: each set of
    points is compared by itself.
    """
    finite = _finite(costs)
    dominates = finite[..., :, None] & finite[..., None, :]
    better = np.zeros_like(dominates)
    for at in range(costs.shape[-1]):  # all objectives at once would take a number for each pair and objective
        one, other = costs[..., :, None, at], costs[..., None, :, at]
        dominates &= one <= other
        better |= one < other
    return dominates & better


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Return which points are on the frontier, as (points,) of bool; equal points are all on it.

    A point with a value that is not finite is never on it.
    """
    import moocore

    found = _finite(costs)
    # moocore would let a point with NaN dominate others
    found[found] = moocore.is_nondominated(costs[found], keep_weakly=True)
    return found


def share_on_frontier(draws: Iterable[np.ndarray]) -> np.ndarray:
    """Return how often each point is on the frontier: (points,).

    Args:
        draws: resampled costs, each (points, objectives); they are read one after another and need not fit in memory.

    Raises:
        ValueError: there is no draw.
    """
    count, total = 0, np.zeros(0)
    for costs in draws:
        found = non_dominated(costs)
        total = found.astype(float) if not count else total + found
        count += 1
    if not count:
        raise ValueError("a share of draws needs at least one draw, but got none")
    return total / count


def fronts(draws: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return the distinct points of each draw's frontier, all that hypervolume and attainment need of it."""
    import moocore

    return [moocore.filter_dominated(costs[_finite(costs)]) for costs in draws]


def hypervolumes(draws: Iterable[np.ndarray], reference: np.ndarray) -> np.ndarray:
    """Return the hypervolume of each draw of costs (points, objectives) against `reference`: (draws,)."""
    return np.array([hypervolume(costs, reference) for costs in draws])


def attainment(fronts: Iterable[np.ndarray], percentages: Sequence[float]) -> list[np.ndarray]:
    """Return the surface that so many percent of the draws attain, as points (points, objectives) for each percentage.

    A draw attains a point if one of its points is at least as good in every objective (the empirical attainment
    function; Grunert da Fonseca et al. 2001, by moocore). Two or three objectives.

    Args:
        fronts: the frontier of each draw as costs, (points, objectives), as `fronts` returns them.
        percentages: in (0, 100].
    """
    import moocore

    found = [one for one in fronts if len(one)]
    if not found:
        return [np.zeros((0, 0)) for _ in percentages]
    sets = np.repeat(np.arange(len(found)), [len(one) for one in found])
    surfaces = np.asarray(moocore.eaf(np.concatenate(found), sets=sets, percentiles=list(percentages)))
    return [surfaces[np.isclose(surfaces[:, -1], one), :-1] for one in percentages]


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume dominated by `costs` (points, objectives) and bounded by `reference` (objectives,).

    A point that is not better than the reference in every objective adds nothing.
    """
    import moocore

    inside = costs[(costs < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def _finite(costs: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(costs).all(axis=-1))


@dataclass(frozen=True)
class Objective:
    """A metric to optimize, with its better direction and its unit."""

    name: str
    direction: Direction
    unit: str

    @property
    def is_price(self) -> bool:
        """True when the metric is a cost of the whole trial (`final/`), not of its best checkpoint (`best/`)."""
        return self.name in PRICES

    def better(self, one: float, other: float) -> bool:
        """True when `one` is strictly better than `other`."""
        return one > other if self.direction == "higher" else one < other


def directions_of(objectives: Sequence[Objective]) -> tuple[Direction, ...]:
    """Return the direction of each objective, in order."""
    return tuple(objective.direction for objective in objectives)


def parse_objectives(texts: Sequence[str], options: Sequence[str] = ()) -> tuple[Objective, ...]:
    """Parse objectives; each text is NAME, NAME:higher or NAME:lower.

    Args:
        texts: at least one objective.
        options: the command-line option of each text, for the messages; empty if all texts come from one list.

    Raises:
        UserError: there is no objective, or one is unknown, malformed or repeated.
    """
    if not texts:
        hint = "for example --objectives exact_match,irrelevant_pass"
        raise UserError("at least one objective is needed, but got none", hint)
    sources = options or [""] * len(texts)
    objectives = tuple(_parse(text, source) for text, source in zip(texts, sources, strict=True))
    _refuse_repeated([one.name for one in objectives], sources, ",".join(texts))
    return objectives


def _refuse_repeated(names: Sequence[str], sources: Sequence[str], text: str) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is None:
        return
    options = [source for source, name in zip(sources, names, strict=True) if source and name == repeated]
    hint = f"name another metric for {' or '.join(dict.fromkeys(options))}" if options else f"list {repeated} once"
    where = f"by {' and '.join(options)}" if options else f"in `{text}`"
    raise UserError(
        f"an objective must be given once, but got `{repeated}` {names.count(repeated)} times {where}", hint
    )


def _parse(text: str, option: str) -> Objective:
    name, separator, direction = text.strip().partition(":")
    if separator and direction not in ("higher", "lower"):
        raise UserError(
            f"{option or 'an objective'} must be NAME, NAME:higher or NAME:lower, but got `{text}`",
            nearest(direction, ("higher", "lower")),
        )
    if name.startswith(SUITES) and direction in ("higher", "lower"):
        return Objective(name, direction, "")  # the records describe it; a table of suites' metrics there is not
    if name.startswith(SUITES):
        raise UserError(
            f"{option or 'an objective'}: a metric of a suite must be given with its direction, but got `{text}`",
            f"`direction` in the records says which is better: {name}:higher or {name}:lower",
        )
    try:
        known = metric(name)
    except UserError as error:
        raise UserError(f"{option}: {error.message}" if option else error.message, error.hint) from None
    return Objective(known.name, direction if direction in ("higher", "lower") else known.direction, known.unit)
