"""A metric: its name, its direction and what it measures; a proportion, with what it was counted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number a trial reports: `direction` says which way is better, `counts` what exactly was counted."""

    name: str
    direction: Direction
    unit: str
    counts: str


@dataclass(frozen=True)
class Proportion:
    """How many of the answers, or rows, that a probe looked at are what it counts (`successes` of `rows`)."""

    successes: int
    rows: int

    @property
    def rate(self) -> float:
        """Return the share of successes."""
        return self.successes / self.rows


@dataclass(frozen=True)
class Scores:
    """The metrics of one eval; `counts` holds, for those that are proportions, what they were counted from."""

    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)


def scores(values: Mapping[str, float | Proportion]) -> Scores:
    """Return scores, where a metric given as a proportion has its rate."""
    counts = {name: value for name, value in values.items() if isinstance(value, Proportion)}
    rates = {name: value.rate if isinstance(value, Proportion) else value for name, value in values.items()}
    return Scores(rates, counts)


def proportion(hits: Sequence[bool]) -> Proportion:
    """Count the hits; an empty probe must not look perfect.

    Raises:
        ValueError: there is nothing to count.
    """
    if not hits:
        raise ValueError("a probe must have at least one row to count, but it has none")
    return Proportion(sum(hits), len(hits))
