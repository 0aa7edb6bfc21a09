"""Success criteria: labels that say whether a trial learned enough, with thresholds fixed before it runs.

A label never stops a trial; guards do. All functions are pure; a missing metric raises KeyError.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainables.health.checks import Finding
from trainables.record import Measurement

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class MinimumCriteria:
    """Thresholds for minimal learning; losses in nats per token, accuracy in absolute points (0.05 = 5 points).

    The training loss is `train_loss`, without dropout on a fixed slice of training rows, so that it is comparable with
    the baseline's.
    """

    min_loss_drop_nats: float = 0.5
    min_eval_improvement_nats: float = 0.2
    min_token_accuracy_rise: float = 0.05
    min_gradient_norm: float = 0.0


@dataclass(frozen=True)
class OptimalCriteria:
    """Thresholds for a good run; `max_loss_rise_nats` limits the rise of the loss above its lowest value so far."""

    min_loss_drop_nats: float = 1.0
    max_perplexity: float = 6.0
    max_blindness: float = 0.10
    max_loss_rise_nats: float = 0.05


MINIMUM, OPTIMAL = MinimumCriteria(), OptimalCriteria()


@dataclass(frozen=True)
class Criterion:
    """A measured value and its threshold; `rule` shows both, as in `loss drop 0.71 > 0.5`."""

    name: str
    value: float
    limit: float
    above: bool

    @property
    def met(self) -> bool:
        """True when the value is strictly above (or below) the limit."""
        return self.value > self.limit if self.above else self.value < self.limit

    @property
    def rule(self) -> str:
        """Return name, value and limit with the relation that holds between them."""
        sign = (">" if self.met else "<=") if self.above else ("<" if self.met else ">=")
        return f"{self.name} {self.value:.4g} {sign} {self.limit:g}"


def minimum(baseline: Metrics, measured: Sequence[Measurement], limits: MinimumCriteria = MINIMUM) -> list[Criterion]:
    """Compare the last eval with the baseline, and check the gradient norms of all intervals."""
    last = _evals(measured)[-1]
    norms = [one.metrics["gradient_norm"] for one in measured if one.kind == "train"]
    return [
        Criterion("loss_drop_nats", baseline["train_loss"] - last["train_loss"], limits.min_loss_drop_nats, True),
        Criterion(
            "eval_improvement_nats", baseline["eval_loss"] - last["eval_loss"], limits.min_eval_improvement_nats, True
        ),
        Criterion(
            "token_accuracy_rise",
            last["token_accuracy"] - baseline["token_accuracy"],
            limits.min_token_accuracy_rise,
            True,
        ),
        Criterion("smallest_gradient_norm", min(norms, default=0.0), limits.min_gradient_norm, True),
    ]


def optimal(baseline: Metrics, measured: Sequence[Measurement], limits: OptimalCriteria = OPTIMAL) -> list[Criterion]:
    """Check the loss drop, perplexity, blindness (if the baseline reports it) and stability of the loss."""
    evals = _evals(measured)
    last, losses = evals[-1], [baseline["train_loss"], *(one["train_loss"] for one in evals)]
    rises = (loss - best for loss, best in zip(losses[1:], itertools.accumulate(losses, min), strict=False))
    has_blindness = "blindness" in baseline
    return [
        Criterion("loss_drop_nats", baseline["train_loss"] - last["train_loss"], limits.min_loss_drop_nats, True),
        Criterion("perplexity", math.exp(min(last["eval_loss"], 700.0)), limits.max_perplexity, False),
        *([Criterion("blindness", last["blindness"], limits.max_blindness, False)] if has_blindness else []),
        Criterion("largest_loss_rise_nats", max(rises), limits.max_loss_rise_nats, False),
    ]


def labels(baseline: Metrics, measured: Sequence[Measurement], degraded: Sequence[Finding] = ()) -> dict[str, Any]:
    """Return the content of `labels.json`: both sets of criteria and the degraded findings of the health checks."""
    return {
        "minimum": _label(minimum(baseline, measured)),
        "optimal": _label(optimal(baseline, measured)),
        "degraded": [asdict(finding) for finding in degraded],
    }


def _label(criteria: Sequence[Criterion]) -> dict[str, Any]:
    return {"met": all(one.met for one in criteria), "criteria": [{"met": o.met, "rule": o.rule} for o in criteria]}


def _evals(measured: Sequence[Measurement]) -> list[Metrics]:
    return [one.metrics for one in measured if one.kind == "eval"]
