"""Shift: how far a tuned model has moved from its base on the base's own answers; it needs no labels."""

from __future__ import annotations

from trainables.data.ood import OodRow
from trainables.probes.metric import Metric
from trainables.probes.probe import ProbeData

SHIFT = "shift"
KINDS = ("text", "irrelevant", "caption")
LANGUAGE_OFF, VISION_OFF = f"{SHIFT}_language_off", f"{SHIFT}_vision_off"

METRICS = (
    Metric(SHIFT, "lower", "nats/token", "KL(base to tuned), mean over the tokens of the base's own greedy answers"),
    Metric(LANGUAGE_OFF, "lower", "nats/token", "the same with the LoRA of the language tower off"),
    Metric(VISION_OFF, "lower", "nats/token", "the same with the LoRA of the vision tower off"),
)


def shift_rows(data: ProbeData) -> tuple[OodRow, ...]:
    """Return the general rows whose answers by the base are compared."""
    return tuple(row for row in data.ood if row.kind in KINDS)


def shift_metrics(sees: bool) -> tuple[Metric, ...]:
    """Return the metrics that are reported; a base without a vision tower has one."""
    return METRICS if sees else METRICS[:1]
