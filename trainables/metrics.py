"""The table of all metrics in a record, with direction and unit; guards, tables and frontiers use it."""

from __future__ import annotations

from collections.abc import Collection

from trainables.errors import UserError, nearest
from trainables.probes import PROBES, earlier_stages, probes_for, shift
from trainables.probes.metric import Direction, Metric
from trainables.probes.probe import ProbeData

__all__ = ["GENERALITY", "METRICS", "PRICES", "Direction", "Metric", "generality", "metric", "reported"]

GENERALITY = ("irrelevant_pass", "text_retention")  # for bases that take images, and for text-only bases

TRAINING_METRICS = (
    Metric("step_loss", "lower", "nats/token", "mean raw training loss since the last eval, dropout on"),
    Metric("gradient_norm", "lower", "norm", "mean gradient norm before clipping since the last eval"),
    Metric("adapter_parameters", "lower", "parameters", "trained parameters: the sum of rank x (in + out)"),
    Metric("adapter_norm_language", "lower", "norm", "size of the language update: Frobenius norm of scale x B A"),
    Metric("adapter_norm_vision", "lower", "norm", "size of the vision update: Frobenius norm of scale x B A"),
    Metric(
        "base_memory_mb",
        "lower",
        "MB",
        "size of the frozen base as it is quantized, held so or dequantized",
    ),
    Metric("train_seconds", "lower", "s", "the trial's share of compute for its steps so far; shared passes are split"),
    Metric("eval_seconds", "lower", "s", "the trial's share of compute for its evals so far; shared passes are split"),
    Metric("peak_memory_mb", "lower", "MB", "peak memory: of the device, or resident memory of the process on CPU"),
)

# of an average of adapters, which no trial reports while it trains
AVERAGE_METRICS = (
    Metric("rank_cut_error", "lower", "fraction", "averaged weight change that the cut to the rank leaves out"),
)

# costs of the whole trial, independent of which checkpoint is best
PRICES = ("adapter_parameters", "base_memory_mb", "train_seconds", "eval_seconds", "peak_memory_mb")

METRICS: dict[str, Metric] = {
    one.name: one
    for one in (
        *(metric for probe in PROBES for metric in probe.metrics),
        *earlier_stages.METRICS,
        *shift.METRICS,
        *TRAINING_METRICS,
        *AVERAGE_METRICS,
    )
}


def metric(name: str) -> Metric:
    """Return the metric with this name.

    Raises:
        UserError: no metric has this name.
    """
    if name not in METRICS:
        raise UserError(f"a metric must be one that records hold, but got `{name}`", nearest(name, METRICS))
    return METRICS[name]


def reported(data: ProbeData) -> frozenset[str]:
    """Return the names of the metrics that trials on `data` report; probes without a row to score are left out.

    Those of probes that a study asks for beside its own are not among them.
    """
    active = probes_for(data)
    absent = {metric.name for probe in PROBES if probe not in active for metric in probe.metrics}
    return frozenset(METRICS) - absent - {metric.name for metric in (*AVERAGE_METRICS, *shift.METRICS)}


def generality(metrics: Collection[str]) -> str:
    """Return the metric of generality: the one on images if trials report it, else the one on text."""
    return next((name for name in GENERALITY if name in metrics), GENERALITY[0])
