"""Metrics with name, direction and meaning, and proportions with their counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number that a trial reports: `direction` is the better direction, `counts` says what is measured."""

    name: str
    direction: Direction
    unit: str
    counts: str


@dataclass(frozen=True)
class Proportion:
    """A share of the answers or rows that a probe scored: `successes` of `rows`."""

    successes: int
    rows: int

    @property
    def rate(self) -> float:
        """Return the share of successes."""
        return self.successes / self.rows


@dataclass(frozen=True)
class Scores:
    """The metrics of one eval; `counts` holds successes and rows of those that are proportions."""

    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)


def scores(values: Mapping[str, float | Proportion]) -> Scores:
    """Return the scores of one eval; the value of a proportion is its rate."""
    counts = {name: value for name, value in values.items() if isinstance(value, Proportion)}
    rates = {name: value.rate if isinstance(value, Proportion) else value for name, value in values.items()}
    return Scores(rates, counts)


def proportion(hits: Sequence[bool]) -> Proportion:
    """Return the proportion of hits.

    Raises:
        ValueError: `hits` is empty, which must not look like a perfect score.
    """
    if not hits:
        raise ValueError("a probe must have at least one row to count, but it has none")
    return Proportion(sum(hits), len(hits))
