"""Earlier stages: how well the adapter of a curriculum still predicts the validation rows of earlier stages.

No answers are generated: the teacher-forced pass that computes the loss also shows which rows have every token right,
and greedy decoding returns the reference for exactly those rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainables.probes.metric import Metric, RowResults
from trainables.probes.probe import Losses

MOST_STAGES = 9


def loss_name(stage: int) -> str:
    """Return the name of the loss metric of stage `stage`, counted from 1."""
    return f"stage{stage}_loss"


def accuracy_name(stage: int) -> str:
    """Return the name of the token accuracy metric of stage `stage`."""
    return f"stage{stage}_accuracy"


def exact_name(stage: int) -> str:
    """Return the name of the metric for the share of rows of stage `stage` with every token right."""
    return f"stage{stage}_exact_match"


def score(earlier: Sequence[Losses], rows: Sequence[Sequence[str]]) -> dict[str, float | RowResults]:
    """Return the metrics of all earlier stages; `rows` are the ids of the rows of each."""
    metrics: dict[str, float | RowResults] = {}
    for stage, (losses, names) in enumerate(zip(earlier, rows, strict=True), start=1):
        metrics[loss_name(stage)] = losses.by_row(names)
        metrics[accuracy_name(stage)] = losses.accuracy
        metrics[exact_name(stage)] = losses.whole_rows(names)
    return metrics


def _metrics_of(stage: int) -> tuple[Metric, ...]:
    rows = f"the validation rows of stage {stage}"
    return (
        Metric(loss_name(stage), "lower", "nats/token", f"mean cross-entropy of the assistant tokens of {rows}"),
        Metric(accuracy_name(stage), "higher", "fraction", f"assistant tokens of {rows} predicted by argmax"),
        Metric(exact_name(stage), "higher", "fraction", f"share of {rows} right in every assistant token"),
    )


METRICS: tuple[Metric, ...] = tuple(one for stage in range(1, MOST_STAGES + 1) for one in _metrics_of(stage))
