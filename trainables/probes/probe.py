"""The definition of a probe: questions to the live model, and a pure function from its answers to metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trainables.data.ood import OodRow
from trainables.data.rows import Row
from trainables.probes.metric import Metric, Proportion, RowResults, hits
from trainables.probes.question import Question


@dataclass(frozen=True)
class Losses:
    """Teacher-forced results of rows, in order: of each its nats, supervised tokens and tokens right by argmax."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    correct: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Return the mean cross-entropy in nats per token."""
        return sum(self.nats) / sum(self.tokens)

    @property
    def accuracy(self) -> float:
        """Return the share of tokens right by argmax."""
        return sum(self.correct) / sum(self.tokens)

    def by_row(self, names: Sequence[str]) -> RowResults:
        """Return the loss of each row, in nats per token, weighted by its tokens; `names` are the ids of the rows."""
        weights = {name: float(count) for name, count in zip(names, self.tokens, strict=True)}
        return RowResults({name: nats / weights[name] for name, nats in zip(names, self.nats, strict=True)}, weights)

    def whole_rows(self, names: Sequence[str]) -> RowResults:
        """Return which rows have every token right."""
        pairs = zip(names, self.correct, self.tokens, strict=True)
        return hits({name: correct == tokens for name, correct, tokens in pairs})


@dataclass(frozen=True)
class ProbeData:
    """The rows of every eval, equal for all trials of a study; `reserve` are those that only guards ask, in order."""

    validation: tuple[Row, ...]
    train_slice: tuple[Row, ...]
    ood: tuple[OodRow, ...]
    task_vocabulary: frozenset[str]
    earlier: tuple[tuple[Row, ...], ...] = ()
    reserve: tuple[OodRow, ...] = ()

    def of_kind(self, kind: str) -> tuple[OodRow, ...]:
        """Return the out-of-distribution rows of one kind."""
        return tuple(row for row in self.ood if row.kind == kind)


@dataclass(frozen=True)
class Baseline:
    """The result of the baseline, passed to every trial that is compared with it; it has asked the whole reserve.

    `answers` are its answers by question key, as drafts of those of trials; without them evals only take longer.
    """

    metrics: Mapping[str, float]
    captions: Mapping[str, str]
    counts: Mapping[str, Proportion] = field(default_factory=dict)
    rows: Mapping[str, RowResults] = field(default_factory=dict)
    reserve: Mapping[str, RowResults] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The raw results of one eval: answers by question key, losses by set of rows, and the baseline.

    `earlier` are the losses on the validation rows of the earlier stages of a curriculum, in order.
    """

    answers: Mapping[str, str]
    validation: Losses
    train_slice: Losses
    baseline: Baseline | None = field(default=None)
    earlier: tuple[Losses, ...] = ()


@dataclass(frozen=True)
class Probe:
    """Measures one capability: its metrics, its questions, and a pure function that scores the evidence.

    A metric that is a mean over rows is scored as `RowResults`. `rows` returns the rows that the probe scores;
    without any the probe is left out of the eval (for example image probes, for a text-only base). `kind` is the kind
    of out-of-distribution row that all its metrics count, "" if there is none.
    """

    name: str
    metrics: tuple[Metric, ...]
    questions: Callable[[ProbeData], Sequence[Question]]
    score: Callable[[ProbeData, Evidence], Mapping[str, float | RowResults]]
    rows: Callable[[ProbeData], Sequence[Row | OodRow]] = lambda data: data.validation
    kind: str = ""
