"""Earlier stages: how well a curriculum's adapter still answers the validation rows of its earlier stages.

It asks no questions: the teacher-forced pass that gives the loss also tells which rows are right in every token, which
are exactly those that greedy decoding would answer with the reference.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainables.probes.metric import Metric, Proportion
from trainables.probes.probe import Losses

MOST_STAGES = 9


def loss_name(stage: int) -> str:
    """Name the loss on the validation rows of stage `stage`, counted from 1."""
    return f"stage{stage}_loss"


def accuracy_name(stage: int) -> str:
    """Name the token accuracy on the validation rows of stage `stage`."""
    return f"stage{stage}_accuracy"


def exact_name(stage: int) -> str:
    """Name the share of rows of stage `stage` that are right in every token."""
    return f"stage{stage}_exact_match"


def score(earlier: Sequence[Losses], rows: Sequence[int]) -> dict[str, float | Proportion]:
    """Count every earlier stage; `rows` are how many rows each has."""
    metrics: dict[str, float | Proportion] = {}
    for stage, (losses, count) in enumerate(zip(earlier, rows, strict=True), start=1):
        metrics[loss_name(stage)] = losses.mean
        metrics[accuracy_name(stage)] = losses.correct / losses.tokens
        metrics[exact_name(stage)] = Proportion(losses.whole_rows, count)
    return metrics


def _metrics_of(stage: int) -> tuple[Metric, ...]:
    rows = f"the validation rows of stage {stage}"
    return (
        Metric(loss_name(stage), "lower", "nats/token", f"mean cross-entropy of the assistant tokens of {rows}"),
        Metric(accuracy_name(stage), "higher", "fraction", f"assistant tokens of {rows} predicted by argmax"),
        Metric(exact_name(stage), "higher", "fraction", f"share of {rows} right in every assistant token"),
    )


METRICS: tuple[Metric, ...] = tuple(one for stage in range(1, MOST_STAGES + 1) for one in _metrics_of(stage))
