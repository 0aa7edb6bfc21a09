"""The interface of a guard: the evals it reads and the decisions it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

from trainables.probes.metric import Proportion, RowResults


class Eval(Protocol):
    """One eval as a guard reads it: metrics, and results by row of those that are means over rows."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the metrics by name."""
        ...

    @property
    def counts(self) -> Mapping[str, Proportion]:
        """Return successes and rows of the metrics that are proportions; empty if they were not recorded."""
        ...

    @property
    def rows(self) -> Mapping[str, RowResults]:
        """Return the results by row of the metrics that are means over rows; empty if they were not recorded."""
        ...

    @property
    def reserve(self) -> Mapping[str, RowResults]:
        """Return the results on the rows of the reserve that were asked at this eval."""
        ...


@dataclass(frozen=True)
class Continue:
    """Continue training."""


@dataclass(frozen=True)
class Ask:
    """Request the next `rows` rows of the reserve, then decide again; without any left the trial continues."""

    rows: int


@dataclass(frozen=True)
class Stop:
    """End the trial; `reason` names the values that violate the rule.

    `value` is the rate on all rows asked; None if the decision is about the metric itself.
    """

    reason: str
    value: float | None = None


Decision = Continue | Ask | Stop


class Guard(Protocol):
    """A rule that decides after every eval whether a trial continues: a frozen dataclass with these members.

    Any class with these members is a guard. `study.json` stores its class name and fields.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def metric(self) -> str:
        """Return the name of the metric that the guard checks."""
        ...

    @property
    def evals_needed(self) -> int:
        """Return how many evals of a trial are needed before the guard can stop it."""
        ...

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        """Return the limit of the metric after these evals; None if there are too few evals to compute it."""
        ...

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the metric lies beyond the limit after these evals; positive exactly when the guard stops."""
        ...

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Decide after the newest of `evals`, which are in order of step and not empty."""
        ...
