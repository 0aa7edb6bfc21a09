"""Tests the success criteria at their limits, and on a run that learned nothing."""

from __future__ import annotations

from typing import Any

import pytest

from trainables.health.checks import Finding
from trainables.health.criteria import Criterion, MinimumCriteria, labels, minimum, optimal
from trainables.record import Measurement

BASE = {"train_loss": 2.7, "eval_loss": 2.9, "token_accuracy": 0.45, "blindness": 0.0}


def run(*evals: dict[str, float], norms: tuple[float, ...] = (1.0,)) -> list[Measurement]:
    measured = [Measurement("train", 30 * number, {"gradient_norm": norm}) for number, norm in enumerate(norms, 1)]
    return [*measured, *(Measurement("eval", 30 * number, {**BASE, **one}) for number, one in enumerate(evals, 1))]


def met(criteria: list[Criterion]) -> dict[str, bool]:
    return {one.name: one.met for one in criteria}


def test_a_run_that_saw_little_data_did_not_learn() -> None:
    """Loss 2.7335 to 2.7150, eval 2.9310 three times, accuracy 45.2 % to 46.0 %, gradient norm 0.0."""
    base = {"train_loss": 2.7335, "eval_loss": 2.9310, "token_accuracy": 0.452, "blindness": 0.0}
    last = {"train_loss": 2.7150, "eval_loss": 2.9310, "token_accuracy": 0.460}
    found = labels(base, run(last, norms=(0.0, 0.0)))
    assert not found["minimum"]["met"] and not found["optimal"]["met"]
    assert not any(one["met"] for one in found["minimum"]["criteria"])
    assert found["minimum"]["criteria"][0]["rule"] == "loss_drop_nats 0.0185 <= 0.5"


@pytest.mark.parametrize(
    ("name", "changes", "norms", "expected"),
    [
        ("loss_drop_nats", {"train_loss": 2.19}, (1.0,), True),
        ("loss_drop_nats", {"train_loss": 2.21}, (1.0,), False),
        ("eval_improvement_nats", {"eval_loss": 2.69}, (1.0,), True),
        ("eval_improvement_nats", {"eval_loss": 2.71}, (1.0,), False),
        ("token_accuracy_rise", {"token_accuracy": 0.51}, (1.0,), True),
        ("token_accuracy_rise", {"token_accuracy": 0.49}, (1.0,), False),
        ("smallest_gradient_norm", {}, (1.0, 1e-9), True),
        ("smallest_gradient_norm", {}, (1.0, 0.0), False),
        ("smallest_gradient_norm", {}, (), False),
    ],
)
def test_the_minimum_at_its_edges(name: str, changes: dict, norms: Any, expected: bool) -> None:
    assert met(minimum(BASE, run(changes, norms=norms)))[name] is expected


@pytest.mark.parametrize(
    ("name", "evals", "expected"),
    [
        ("loss_drop_nats", [{"train_loss": 1.69}], True),
        ("loss_drop_nats", [{"train_loss": 1.71}], False),
        ("perplexity", [{"eval_loss": 1.79}], True),
        ("perplexity", [{"eval_loss": 1.80}], False),
        ("blindness", [{"blindness": 0.09}], True),
        ("blindness", [{"blindness": 0.10}], False),
        ("largest_loss_rise_nats", [{"train_loss": 2.0}, {"train_loss": 2.04}, {"train_loss": 1.5}], True),
        ("largest_loss_rise_nats", [{"train_loss": 2.0}, {"train_loss": 2.06}, {"train_loss": 1.5}], False),
        ("largest_loss_rise_nats", [{"train_loss": 2.76}], False),
    ],
)
def test_the_optimum_at_its_edges(name: str, evals: list[dict], expected: bool) -> None:
    assert met(optimal(BASE, run(*evals)))[name] is expected


def test_a_threshold_is_a_field() -> None:
    lenient = MinimumCriteria(min_loss_drop_nats=0.1)
    assert met(minimum(BASE, run({"train_loss": 2.5}), lenient))["loss_drop_nats"]


def test_labels_keep_what_was_found_degraded() -> None:
    finding = Finding("gradient_spikes", "degraded", 28, "gradient norm 5e4 at step 24")
    found = labels(BASE, run({"train_loss": 1.0, "eval_loss": 1.0, "token_accuracy": 0.9}), [finding])
    assert found["minimum"]["met"] and found["optimal"]["met"]
    assert found["degraded"] == [{"check": "gradient_spikes", "level": "degraded", "step": 28,
                                  "evidence": "gradient norm 5e4 at step 24"}]  # fmt: skip


def test_a_criterion_without_its_metric_raises() -> None:
    with pytest.raises(KeyError, match="token_accuracy"):
        minimum(BASE, [Measurement("eval", 30, {"train_loss": 1.0, "eval_loss": 1.0})])
