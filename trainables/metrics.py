"""The metrics of a record: the one table of names, directions and units that guards, tables and frontiers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainables.errors import UserError, nearest

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """A number a trial reports: `direction` says which way is better, `counts` what exactly was counted."""

    name: str
    direction: Direction
    unit: str
    counts: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("eval_loss", "lower", "nats/token", "mean cross-entropy of the assistant tokens of the validation rows"),
        Metric("token_accuracy", "higher", "fraction", "assistant tokens of the validation rows predicted by argmax"),
        Metric("exact_match", "higher", "fraction", "validation rows whose greedy answer equals the reference"),
        Metric("train_loss", "lower", "nats/token", "the same as eval_loss, on a fixed slice of the training rows"),
        Metric("generalization_gap", "lower", "nats/token", "eval_loss - train_loss, both without dropout"),
        Metric("irrelevant_pass", "higher", "fraction", "irrelevant images answered with exactly the agreed refusal"),
        Metric("hallucination", "lower", "fraction", "irrelevant images answered with forbidden or task vocabulary"),
        Metric("blindness", "lower", "fraction", "images answered with nothing, next to nothing, or one thing repeated"),
        Metric("caption_sanity", "higher", "fraction", "fixed captions that keep language, length, variety and chrF"),
        Metric("crop_consistency", "higher", "fraction", "shifted crops of validation images answered as the original"),
        Metric("text_retention", "higher", "fraction", "text-only questions answered exactly"),
        Metric("step_loss", "lower", "nats/token", "mean raw training loss since the last eval, dropout on"),
        Metric("gradient_norm", "lower", "norm", "mean gradient norm before clipping since the last eval"),
        Metric("adapter_parameters", "lower", "parameters", "trained parameters: the sum of rank x (in + out)"),
        Metric("wall_seconds", "lower", "s", "seconds of training and evaluation up to this step"),
        Metric("train_seconds", "lower", "s", "seconds of optimizer steps up to this step"),
        Metric("peak_memory_mb", "lower", "MB", "peak memory: of the device, or resident memory of the process on CPU"),
    )
}


def metric(name: str) -> Metric:
    """Look a metric up.

    Raises:
        UserError: no metric has this name.
    """
    if name not in METRICS:
        raise UserError(f"a metric must be one that records hold, but got `{name}`", nearest(name, METRICS))
    return METRICS[name]
