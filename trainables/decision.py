"""What a guard is, what it reads, and what it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

from trainables.probes.metric import Proportion


class Eval(Protocol):
    """What a guard reads of one eval: its metrics and, for metrics that are proportions, successes and rows."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Return the metrics by name."""
        ...

    @property
    def counts(self) -> Mapping[str, Proportion]:
        """Return what the proportions among the metrics were counted from; empty where it was not recorded."""
        ...


@dataclass(frozen=True)
class Continue:
    """Keep training."""


@dataclass(frozen=True)
class Ask:
    """Ask `rows` further rows before deciding. The evaluator cannot do so yet: for now the trial keeps training."""

    rows: int


@dataclass(frozen=True)
class Stop:
    """End the trial; `reason` says why in numbers."""

    reason: str


Decision = Continue | Ask | Stop


class Guard(Protocol):
    """A rule that decides after every eval whether a trial goes on: a frozen dataclass with these members.

    Nothing asks for the class of a guard. Its class name and its fields describe it in `study.json`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def metric(self) -> str:
        """Return the name of the metric it watches."""
        ...

    @property
    def evals_needed(self) -> int:
        """Return how many evals of the training it must see before it can stop a trial."""
        ...

    def limit(self, baseline: Eval, evals: Sequence[Eval]) -> float | None:
        """Return the value that the metric must keep to after these evals; None where too few evals tell it."""
        ...

    def excess(self, baseline: Eval, evals: Sequence[Eval]) -> float:
        """Return how far the metric lies beyond the limit after these evals; positive exactly when it stops."""
        ...

    def decide(self, baseline: Eval, evals: Sequence[Eval]) -> Decision:
        """Decide after the newest of `evals`, which are in order of step and at least one."""
        ...
