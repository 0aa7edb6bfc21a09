"""Objectives, Pareto dominance and hypervolume.

Arrays are (points, objectives), and every column is a cost: lower is better. moocore takes 0.2 s to load, so the
functions that use it import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError, nearest
from trainables.metrics import PRICES, metric
from trainables.probes.metric import Direction


def as_costs(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Turn values (points, objectives) into costs by negating the objectives where higher is better."""
    return np.asarray(values, dtype=float) * np.array([-1.0 if one == "higher" else 1.0 for one in directions])


def dominance(costs: np.ndarray) -> np.ndarray:
    """Return a (points, points) array that is true where the row's point dominates the column's point.

    A point dominates another if it is worse in no objective and better in at least one. A point with a value that is
    not finite dominates no point and is dominated by none.
    """
    finite = _finite(costs)
    one, other = costs[:, None, :], costs[None, :, :]
    dominates = np.logical_and((one <= other).all(axis=2), (one < other).any(axis=2))
    return dominates & finite[:, None] & finite[None, :]


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Return which points are on the frontier, as (points,) of bool; equal points are all on it.

    A point with a value that is not finite is never on it.
    """
    import moocore

    found = _finite(costs)
    # moocore would let a point with NaN dominate others
    found[found] = moocore.is_nondominated(costs[found], keep_weakly=True)
    return found


def hypervolume(costs: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume dominated by `costs` (points, objectives) and bounded by `reference` (objectives,).

    A point that is not better than the reference in every objective adds nothing.
    """
    import moocore

    inside = costs[(costs < reference).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def _finite(costs: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(costs).all(axis=1))


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
    try:
        known = metric(name)
    except UserError as error:
        raise UserError(f"{option}: {error.message}" if option else error.message, error.hint) from None
    return Objective(known.name, direction if direction in ("higher", "lower") else known.direction, known.unit)
