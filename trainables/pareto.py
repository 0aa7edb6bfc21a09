"""Pareto dominance, for whoever compares trials: arrays in, arrays out. Every column is a cost: lower is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError, nearest
from trainables.metrics import metric
from trainables.probes.metric import Direction


def as_costs(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Turn values (points, objectives) into costs: objectives where higher is better change their sign."""
    return np.asarray(values, dtype=float) * np.array([-1.0 if one == "higher" else 1.0 for one in directions])


def dominance(costs: np.ndarray) -> np.ndarray:
    """Return which point dominates which: (points, points), true where the row's point dominates the column's.

    One dominates another when it is nowhere worse and somewhere better; a point that is not finite in every
    objective dominates none and is dominated by none.
    """
    finite = _finite(costs)
    one, other = costs[:, None, :], costs[None, :, :]
    dominates = np.logical_and((one <= other).all(axis=2), (one < other).any(axis=2))
    return dominates & finite[:, None] & finite[None, :]


def non_dominated(costs: np.ndarray) -> np.ndarray:
    """Return which points lie on the frontier: (points,) of bool; equal points lie on it together.

    A point that is not finite in every objective is never on it.
    """
    return np.logical_and(_finite(costs), ~dominance(costs).any(axis=0))


def _finite(costs: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(costs).all(axis=1))


@dataclass(frozen=True)
class Objective:
    """A metric and the way that is better."""

    name: str
    direction: Direction


def parse_objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives in order; each is NAME, NAME:higher or NAME:lower, as for `analysis pareto`.

    Raises:
        UserError: there is none, one is unknown (the nearest is named), malformed or given twice.
    """
    found = tuple(_parse(text) for text in names)
    known = [one.name for one in found]
    twice = sorted({name for name in known if known.count(name) > 1})
    if not found or twice:
        raise UserError(
            f"objectives must be one or more, each once, but got `{','.join(names)}`",
            f"leave {', '.join(twice)} once" if twice else "for example --objectives exact_match,irrelevant_pass",
        )
    return found


def _parse(text: str) -> Objective:
    name, separator, direction = text.strip().partition(":")
    if separator and direction not in ("higher", "lower"):
        raise UserError(
            f"an objective must be NAME, NAME:higher or NAME:lower, but got `{text}`",
            nearest(direction, ("higher", "lower")),
        )
    known = metric(name)
    return Objective(known.name, direction if direction in ("higher", "lower") else known.direction)
