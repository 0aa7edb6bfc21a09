"""What is traded against what: metric names and directions, from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import UserError, nearest
from trainables.metrics import PRICES, Direction, generality, metric

if TYPE_CHECKING:
    from analysis.mlflow_runs import Trial


# a baseline has no adapter and takes no step, so these need no measurement
BASELINE_PRICES: Mapping[str, float] = {"adapter_parameters": 0.0, "train_seconds": 0.0}


@dataclass(frozen=True)
class Objective:
    """A metric and the way that is better; `unit` is the metric's own."""

    name: str
    direction: Direction
    unit: str

    @property
    def is_price(self) -> bool:
        """True when the value is that of the whole trial (`final/`), not of its best checkpoint (`best/`)."""
        return self.name in PRICES

    def better(self, one: float, other: float) -> bool:
        """True when `one` is strictly better than `other`."""
        return one > other if self.direction == "higher" else one < other


def directions_of(objectives: Sequence[Objective]) -> tuple[Direction, ...]:
    """Return the direction of each objective, in order."""
    return tuple(objective.direction for objective in objectives)


def generality_in(trials: Iterable[Trial]) -> str:
    """Name the metric of generality that these trials report."""
    return generality({name for trial in trials for name in (*trial.best, *trial.last)})


def parse_objectives(x: str, y: str, further: Sequence[str]) -> tuple[Objective, ...]:
    """Return the objectives in order x, y, further ones; each is NAME or NAME:higher or NAME:lower.

    Raises:
        UserError: an objective is malformed, unknown (the nearest is named) or given twice.
    """
    named = [("--x", x), ("--y", y), *(("--objective", one) for one in further)]
    objectives = tuple(_parse(option, text) for option, text in named)
    names = [objective.name for objective in objectives]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(
            f"an objective must be given once, but got `{twice[0]}` {names.count(twice[0])} times",
            "the defaults are --x irrelevant_pass and --y exact_match; name another metric for one of them",
        )
    return objectives


def _parse(option: str, text: str) -> Objective:
    name, separator, direction = text.partition(":")
    if separator and direction not in ("higher", "lower"):
        raise UserError(
            f"{option} must be NAME, NAME:higher or NAME:lower, but got `{text}`",
            nearest(direction, ("higher", "lower")),
        )
    try:
        known = metric(name)
    except UserError as error:
        raise UserError(f"{option}: {error.message}", error.hint) from None
    return Objective(known.name, direction if direction in ("higher", "lower") else known.direction, known.unit)
