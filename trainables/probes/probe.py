"""What a probe is: questions to the live model, and a pure function from its answers to numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trainables.data.ood import OodRow
from trainables.data.rows import Row
from trainables.probes.metric import Metric, Proportion
from trainables.probes.question import Question


@dataclass(frozen=True)
class Losses:
    """Teacher-forced sums over one set of rows: nats, tokens, tokens predicted by argmax, rows predicted whole."""

    nats: float
    tokens: int
    correct: int
    whole_rows: int = 0

    def plus(self, nats: float, tokens: int, correct: int, whole_rows: int = 0) -> Losses:
        """Return the sums with further rows in them."""
        return Losses(self.nats + nats, self.tokens + tokens, self.correct + correct, self.whole_rows + whole_rows)

    @property
    def mean(self) -> float:
        """Return the mean cross-entropy in nats per token."""
        return self.nats / self.tokens


@dataclass(frozen=True)
class ProbeData:
    """The rows every eval sees, the same for every trial of a study."""

    validation: tuple[Row, ...]
    train_slice: tuple[Row, ...]
    ood: tuple[OodRow, ...]
    task_vocabulary: frozenset[str]
    earlier: tuple[tuple[Row, ...], ...] = ()

    def of_kind(self, kind: str) -> tuple[OodRow, ...]:
        """Return the out-of-distribution rows of one kind."""
        return tuple(row for row in self.ood if row.kind == kind)


@dataclass(frozen=True)
class Baseline:
    """What the base scored without an adapter; passed as a value to every trial that is compared with it."""

    metrics: Mapping[str, float]
    captions: Mapping[str, str]
    counts: Mapping[str, Proportion] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """Everything one eval saw: answers by question key, losses by row set, and the baseline to compare with.

    `earlier` are the losses on the validation rows of a curriculum's earlier stages, first stage first.
    """

    answers: Mapping[str, str]
    validation: Losses
    train_slice: Losses
    baseline: Baseline | None = field(default=None)
    earlier: tuple[Losses, ...] = ()


@dataclass(frozen=True)
class Probe:
    """One capability: its metrics, the questions it asks, and how the evidence is counted, without I/O or a model.

    A metric that is the share of some answers is scored as a `Proportion`. `rows` are the rows the probe counts;
    without any (rows with pictures, for a base that sees none) the probe is left out of the eval.
    """

    name: str
    metrics: tuple[Metric, ...]
    questions: Callable[[ProbeData], Sequence[Question]]
    score: Callable[[ProbeData, Evidence], Mapping[str, float | Proportion]]
    rows: Callable[[ProbeData], Sequence[Row | OodRow]] = lambda data: data.validation
