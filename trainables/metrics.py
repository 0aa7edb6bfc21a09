"""The metrics of a record: the one table of names, directions and units that guards, tables and frontiers share."""

from __future__ import annotations

from trainables.errors import UserError, nearest
from trainables.probes import PROBES
from trainables.probes.probe import Direction, Metric

__all__ = ["METRICS", "Direction", "Metric", "metric"]

TRAINING_METRICS = (
    Metric("step_loss", "lower", "nats/token", "mean raw training loss since the last eval, dropout on"),
    Metric("gradient_norm", "lower", "norm", "mean gradient norm before clipping since the last eval"),
    Metric("adapter_parameters", "lower", "parameters", "trained parameters: the sum of rank x (in + out)"),
    Metric("adapter_norm_language", "lower", "norm", "size of the language update: Frobenius norm of scale x B A"),
    Metric("adapter_norm_vision", "lower", "norm", "size of the vision update: Frobenius norm of scale x B A"),
    Metric("train_seconds", "lower", "s", "seconds of optimizer steps up to this step"),
    Metric("eval_seconds", "lower", "s", "seconds of evals up to this step"),
    Metric("peak_memory_mb", "lower", "MB", "peak memory: of the device, or resident memory of the process on CPU"),
)

METRICS: dict[str, Metric] = {
    one.name: one for one in (*(metric for probe in PROBES for metric in probe.metrics), *TRAINING_METRICS)
}


def metric(name: str) -> Metric:
    """Look a metric up.

    Raises:
        UserError: no metric has this name.
    """
    if name not in METRICS:
        raise UserError(f"a metric must be one that records hold, but got `{name}`", nearest(name, METRICS))
    return METRICS[name]
