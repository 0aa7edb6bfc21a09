"""The metrics of a record: the one table of names, directions and units that guards, tables and frontiers share."""

from __future__ import annotations

from collections.abc import Collection

from trainables.errors import UserError, nearest
from trainables.probes import PROBES, earlier_stages, probes_for
from trainables.probes.metric import Direction, Metric
from trainables.probes.probe import ProbeData

__all__ = ["GENERALITY", "METRICS", "PRICES", "Direction", "Metric", "generality", "metric", "reported"]

GENERALITY = ("irrelevant_pass", "text_retention")  # what a trial may lose: with pictures, and of text alone

TRAINING_METRICS = (
    Metric("step_loss", "lower", "nats/token", "mean raw training loss since the last eval, dropout on"),
    Metric("gradient_norm", "lower", "norm", "mean gradient norm before clipping since the last eval"),
    Metric("adapter_parameters", "lower", "parameters", "trained parameters: the sum of rank x (in + out)"),
    Metric("adapter_norm_language", "lower", "norm", "size of the language update: Frobenius norm of scale x B A"),
    Metric("adapter_norm_vision", "lower", "norm", "size of the vision update: Frobenius norm of scale x B A"),
    Metric("base_memory_mb", "lower", "MB", "the frozen base's tensors as they lie in memory, quantized or not"),
    Metric("train_seconds", "lower", "s", "seconds of optimizer steps up to this step"),
    Metric("eval_seconds", "lower", "s", "seconds of evals up to this step"),
    Metric("peak_memory_mb", "lower", "MB", "peak memory: of the device, or resident memory of the process on CPU"),
)

# what a trial cost does not depend on which of its checkpoints is kept
PRICES = ("adapter_parameters", "base_memory_mb", "train_seconds", "eval_seconds", "peak_memory_mb")

METRICS: dict[str, Metric] = {
    one.name: one
    for one in (
        *(metric for probe in PROBES for metric in probe.metrics),
        *earlier_stages.METRICS,
        *TRAINING_METRICS,
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


def reported(data: ProbeData) -> frozenset[str]:
    """Name the metrics that records on `data` can hold: all but those of probes without a row to count."""
    counted = probes_for(data)
    silent = {metric.name for probe in PROBES if probe not in counted for metric in probe.metrics}
    return frozenset(METRICS) - silent


def generality(metrics: Collection[str]) -> str:
    """Name the metric of generality among those that trials report: that of pictures, unless there is only text's."""
    return next((name for name in GENERALITY if name in metrics), GENERALITY[0])
