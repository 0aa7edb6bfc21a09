"""The constraint on the best checkpoint: which evals are candidates, and which candidate is the best."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from trainables.probes.metric import Direction
from trainables.record import Measurement

if TYPE_CHECKING:
    import numpy as np

Metrics = Mapping[str, float]
Number = TypeVar("Number", float, "np.ndarray")

ROUNDING = 1e-9  # 1.00 - 0.10 is not exactly 0.90 in binary; a value on the limit must still satisfy it


@dataclass(frozen=True)
class Allowance:
    """How far one metric may move from the baseline against its better direction, in absolute points."""

    metric: str
    direction: Direction
    points: float

    def excess(self, baseline: Number, value: Number) -> Number:
        """Return the distance beyond the limit, of numbers or of arrays; negative inside it."""
        worse = baseline - value if self.direction == "higher" else value - baseline
        return worse - self.points


class Constraint(Protocol):
    """A condition that an eval must meet to be a candidate for the best checkpoint: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the metrics it reads."""
        ...

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far each metric may move; an eval within all of them is admitted."""
        ...

    def admits(self, baseline: Metrics, metrics: Metrics) -> bool:
        """True when the eval is a candidate."""
        ...

    def excess(self, baseline: Metrics, metrics: Metrics) -> float:
        """Return the distance beyond the limit; positive exactly when the eval is not admitted."""
        ...


class _WithinAllowances:
    """What every constraint derives from its allowances."""

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far each metric may move."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the metrics it reads."""
        return tuple(one.metric for one in self.allowances)

    def admits(self, baseline: Metrics, metrics: Metrics) -> bool:
        """True when every metric is within its limit."""
        return self._distance(baseline, metrics) <= ROUNDING

    def excess(self, baseline: Metrics, metrics: Metrics) -> float:
        """Return the largest distance beyond a limit; positive exactly when the eval is not admitted."""
        return signed(self._distance(baseline, metrics), not self.admits(baseline, metrics))

    def _distance(self, baseline: Metrics, metrics: Metrics) -> float:
        return max(one.excess(baseline[one.metric], metrics[one.metric]) for one in self.allowances)


@dataclass(frozen=True)
class BestConstraint(_WithinAllowances):
    """Limits the drop of irrelevant-image pass and the rise of hallucination from the baseline, in absolute points."""

    max_irrelevant_pass_drop: float = 0.10
    max_hallucination_rise: float = 0.10

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far each metric may move."""
        return (
            Allowance("irrelevant_pass", "higher", self.max_irrelevant_pass_drop),
            Allowance("hallucination", "lower", self.max_hallucination_rise),
        )


@dataclass(frozen=True)
class TextConstraint(_WithinAllowances):
    """Limits how far text retention may drop from the baseline; for a base that takes no images."""

    max_text_retention_drop: float = 0.10

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far text retention may drop."""
        return (Allowance("text_retention", "higher", self.max_text_retention_drop),)


@dataclass(frozen=True)
class CommandConstraint(_WithinAllowances):
    """Limits the drop of text retention and the rise of dangerous answers, for a base that writes shell commands."""

    max_text_retention_drop: float = 0.10
    max_dangerous_rise: float = 0.05

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far each metric may move."""
        return (
            Allowance("text_retention", "higher", self.max_text_retention_drop),
            Allowance("dangerous_rate", "lower", self.max_dangerous_rise),
        )


@dataclass(frozen=True)
class MetricConstraint(_WithinAllowances):
    """Limits how far one metric may get worse than the baseline, such as one of a suite; for studies' own files."""

    metric: str
    direction: Direction
    points: float

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """Return how far the metric may move."""
        return (Allowance(self.metric, self.direction, self.points),)


CONSTRAINT = BestConstraint()
TEXT_CONSTRAINT = TextConstraint()


def applicable_constraint(constraint: Constraint, metrics: Collection[str]) -> Constraint:
    """Return `constraint`, or the text constraint if `constraint` needs metrics that are not reported."""
    if constraint.needs == TEXT_CONSTRAINT.needs or all(name in metrics for name in constraint.needs):
        return constraint
    return TEXT_CONSTRAINT


def constraint_of(values: Mapping[str, Any]) -> Constraint | None:
    """Return the constraint that `study.json` holds as its fields, None if it is not one of this project."""
    for known in (BestConstraint, TextConstraint, CommandConstraint, MetricConstraint):
        if values.keys() == known.__dataclass_fields__.keys():
            return known(**values)
    return None


def best_eval(constraint: Constraint, baseline: Metrics, evals: Sequence[Measurement]) -> Measurement | None:
    """Return the eval with the lowest eval loss among those that meet the constraint, or None."""
    admitted = [one for one in evals if constraint.admits(baseline, one.metrics)]
    return min(admitted, key=lambda one: one.metrics["eval_loss"]) if admitted else None


def signed(distance: float, broken: bool) -> float:
    """Return a distance beyond a limit, adjusted to be positive exactly when the rule is broken.

    The distance alone does not decide: a rule may need several evals in a row, and tolerates rounding.
    """
    return max(distance, ROUNDING) if broken else min(distance, 0.0)
