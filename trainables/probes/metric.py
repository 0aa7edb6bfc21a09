"""Metrics with name, direction and meaning, and proportions with their counts."""

from __future__ import annotations

from collections.abc import Mapping
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
class Declared:
    """What a record says of a metric that no table of this project has, such as one of a suite.

    `rows` is the number of rows that it was measured on, `error` its standard error; None if the suite gives none.
    """

    direction: Direction
    unit: str
    counts: str
    rows: int
    error: float | None = None


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
class RowResults:
    """The results of one metric by row id, whose mean is the metric.

    A row counts by its weight (its supervised tokens, for a loss), or each the same if `weights` is empty. The values
    of a proportion are 0 and 1.
    """

    values: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Return the mean over rows."""
        if not self.weights:
            return sum(self.values.values()) / len(self.values)
        return sum(self.values[row] * weight for row, weight in self.weights.items()) / sum(self.weights.values())

    @property
    def proportion(self) -> Proportion:
        """Return successes and rows of results that are 0 and 1."""
        return Proportion(round(sum(self.values.values())), len(self.values))


def hits(by_row: Mapping[str, bool]) -> RowResults:
    """Return the results of a proportion.

    Raises:
        ValueError: `by_row` is empty, which must not look like a perfect score.
    """
    if not by_row:
        raise ValueError("a probe must have at least one row to count, but it has none")
    return RowResults({row: float(is_hit) for row, is_hit in by_row.items()})


@dataclass(frozen=True)
class Scores:
    """The metrics of one eval, with successes and rows of those that are proportions, and results by row.

    `declared` describes the metrics of suites.
    """

    metrics: Mapping[str, float]
    counts: Mapping[str, Proportion] = field(default_factory=dict)
    rows: Mapping[str, RowResults] = field(default_factory=dict)
    declared: Mapping[str, Declared] = field(default_factory=dict)

    def joined(self, other: Scores) -> Scores:
        """Return these scores and further ones of the same eval."""
        return Scores(
            {**self.metrics, **other.metrics},
            {**self.counts, **other.counts},
            {**self.rows, **other.rows},
            {**self.declared, **other.declared},
        )


def scores(values: Mapping[str, float | RowResults]) -> Scores:
    """Return the scores of one eval."""
    rows = {name: value for name, value in values.items() if isinstance(value, RowResults)}
    counts = {name: value.proportion for name, value in rows.items() if not value.weights}
    rates = {name: counts[name].rate for name in counts}
    means = {name: value.mean if isinstance(value, RowResults) else value for name, value in values.items()}
    return Scores({**means, **rates}, counts, rows)
