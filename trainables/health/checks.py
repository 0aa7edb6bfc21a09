"""Detects broken training from statistics of steps and evals.

All checks are pure functions of plain values. `monitor.py` collects these values during training; `selftest/judge.py`
checks the values that the self-test measures before training. The tests in `tests/corpus/` plant the failures that the
checks detect; `docs/corpus.md` reports how soon each is detected, and false alarms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainables.verdict import Verdict

Level = Literal["invalid", "degraded"]


@dataclass(frozen=True)
class Finding:
    """A failed check, with its step and the evidence; level `degraded` labels a trial, `invalid` ends it."""

    check: str
    level: Level
    step: int
    evidence: str

    def verdict(self) -> Verdict:
        """Return the verdict of an invalid trial."""
        return Verdict(kind="invalid", step=self.step, cause=self.check, reason=self.evidence)


@dataclass(frozen=True)
class HealthLimits:
    """The thresholds of the checks, calibrated on the failure corpus (`docs/corpus.md`)."""

    max_loss_of_uniform: float = 1.5
    zero_losses: int = 2
    zero_gradient_steps: int = 2
    constant_gradient_steps: int = 5
    constant_gradient_digits: int = 6
    max_relative_rate_error: float = 0.01
    spike_robust_z: float = 50.0
    spikes: int = 2
    spike_window_steps: int = 50
    min_spike_history_steps: int = 20
    min_relative_spread: float = 0.25
    min_relative_move: float = 1e-4
    max_handover_relative_drift: float = 0.10
    max_handover_relative_rise: float = 0.50


LIMITS = HealthLimits()


@dataclass(frozen=True)
class StepFacts:
    """The raw values of one optimizer step.

    `loss` is in nats per supervised token, and `gradient_norm` is before clipping. `tower_norms` are the gradient norms
    of the towers that carry LoRA and that the rows of the step pass through (text rows skip the vision tower). `rates`
    are those of the optimizer, `expected_rates` those of the schedule. `uniform_loss` is ln(vocabulary).
    """

    step: int
    loss: float
    gradient_norm: float
    tower_norms: Mapping[str, float]
    rates: Mapping[str, float]
    expected_rates: Mapping[str, float]
    uniform_loss: float


@dataclass(frozen=True)
class EvalFacts:
    """The loss of one eval, and how far the adapter moved since the previous eval, relative to its norm.

    `rate_sum` is the sum of the learning rates of the steps since then, over the towers that their rows passed through.
    """

    step: int
    eval_loss: float
    relative_move: float
    rate_sum: float


def judge_step(history: Sequence[StepFacts], limits: HealthLimits = LIMITS) -> Finding | None:
    """Check the newest step; return the first finding, with `invalid` before `degraded`.

    Raises:
        IndexError: `history` is empty.
    """
    now = history[-1]
    return (
        _non_finite(now)
        or _too_large(history, limits)
        or _zero_loss(history, limits)
        or _zero_gradient(history, limits)
        or _constant_gradient(history, limits)
        or _wrong_rate(now, limits)
        or _spikes(history, limits)
    )


def judge_metrics(step: int, metrics: Mapping[str, float]) -> Finding | None:
    """Return a finding if a metric of an eval is NaN or infinite."""
    broken = ", ".join(f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value))
    return Finding("non_finite_eval", "invalid", step, f"{broken} at step {step}") if broken else None


def judge_eval(before: EvalFacts, now: EvalFacts, limits: HealthLimits = LIMITS) -> Finding | None:
    """Compare an eval with the previous one, or the first with the baseline's.

    If both losses are exactly equal although the adapter moved, the eval does not use the adapter (`broken_eval`). If
    the adapter did not move although the rates were not zero, it learned nothing (`no_learning`).
    """
    if now.eval_loss != before.eval_loss or now.rate_sum == 0:
        return None
    same = f"eval loss {now.eval_loss!r} at steps {before.step} and {now.step}, exactly equal"
    moved = f"the adapter moved by {now.relative_move:.3g} of its norm"
    check = "broken_eval" if now.relative_move > limits.min_relative_move else "no_learning"
    return Finding(check, "invalid", now.step, f"{same}; {moved}")


def judge_handover(parent_loss: float, first_loss: float, limits: HealthLimits = LIMITS) -> Finding | None:
    """Compare the first eval of a continued adapter with the last eval of its parent on the same rows."""
    change = (first_loss - parent_loss) / parent_loss
    evidence = f"eval loss {first_loss:.4f} before training, {change:+.0%} of the parent's {parent_loss:.4f}"
    if change > limits.max_handover_relative_rise:
        return Finding("handover", "invalid", 0, f"{evidence}; the adapter was not loaded as it was saved")
    if abs(change) > limits.max_handover_relative_drift:
        return Finding("handover", "degraded", 0, evidence)
    return None


# -------------------------------------------------------------------- the checks
def _non_finite(now: StepFacts) -> Finding | None:
    if math.isfinite(now.loss) and math.isfinite(now.gradient_norm):
        return None
    check = "non_finite_loss" if not math.isfinite(now.loss) else "non_finite_gradient"
    return Finding(check, "invalid", now.step, f"loss {now.loss}, gradient norm {now.gradient_norm} at step {now.step}")


def _too_large(history: Sequence[StepFacts], limits: HealthLimits) -> Finding | None:
    now, limit = history[-1], limits.max_loss_of_uniform * history[-1].uniform_loss
    if now.step != 1 or now.loss <= limit:
        return None
    reason = f"loss {now.loss:.2f} at step 1 > {limit:.2f} = {limits.max_loss_of_uniform} ln(vocabulary)"
    return Finding("loss_too_large", "invalid", now.step, f"{reason}; uniform guessing scores {now.uniform_loss:.2f}")


def _zero_loss(history: Sequence[StepFacts], limits: HealthLimits) -> Finding | None:
    recent = history[-limits.zero_losses :]
    if len(recent) < limits.zero_losses or any(one.loss != 0.0 for one in recent):
        return None
    evidence = f"loss exactly 0.0 in {limits.zero_losses} consecutive steps, up to step {recent[-1].step}"
    return Finding("zero_loss", "invalid", recent[-1].step, evidence)


def _zero_gradient(history: Sequence[StepFacts], limits: HealthLimits) -> Finding | None:
    now = history[-1]
    for tower in now.tower_norms:
        norms = [one.tower_norms[tower] for one in history if tower in one.tower_norms][-limits.zero_gradient_steps :]
        if len(norms) == limits.zero_gradient_steps and not any(norms):
            others = ", ".join(f"{name} {norm:.3g}" for name, norm in now.tower_norms.items() if name != tower)
            evidence = f"{tower} gradient norm 0 in {len(norms)} consecutive steps, up to step {now.step}"
            context = f"; loss {now.loss:.4f}" + (f", other gradient norms: {others}" if others else "")
            return Finding("zero_gradient", "invalid", now.step, evidence + context)
    return None


def _constant_gradient(history: Sequence[StepFacts], limits: HealthLimits) -> Finding | None:
    recent = [one for one in history if one.tower_norms][-limits.constant_gradient_steps :]
    digits = {f"{one.gradient_norm:.{limits.constant_gradient_digits}g}" for one in recent}
    if len(recent) < limits.constant_gradient_steps or len(digits) > 1 or recent[-1].gradient_norm == 0:
        return None
    count = f"in {len(recent)} consecutive steps, up to step {recent[-1].step}"
    evidence = f"gradient norm {recent[-1].gradient_norm!r} {count}"
    return Finding("constant_gradient", "invalid", recent[-1].step, evidence)


def _wrong_rate(now: StepFacts, limits: HealthLimits) -> Finding | None:
    for tower, expected in now.expected_rates.items():
        rate = now.rates.get(tower, 0.0)
        if abs(rate - expected) > limits.max_relative_rate_error * expected:
            evidence = f"{tower} rate {rate:.4g} at step {now.step}, but the schedule says {expected:.4g}"
            return Finding("rate", "invalid", now.step, evidence)
    return None


def _spikes(history: Sequence[StepFacts], limits: HealthLimits) -> Finding | None:
    window = history[-limits.spike_window_steps :]
    norms = [one.gradient_norm for one in window if one.tower_norms]
    if len(norms) < limits.min_spike_history_steps:
        return None
    scores = robust_z(norms, limits.min_relative_spread)
    spikes = [(one.step, one.gradient_norm, z) for one, z in zip(
        [one for one in window if one.tower_norms], scores, strict=True) if z > limits.spike_robust_z]  # fmt: skip
    if len(spikes) < limits.spikes:
        return None
    shown = ", ".join(f"{norm:.3g} at step {step} (z {z:.0f})" for step, norm, z in spikes[-limits.spikes :])
    median = statistics.median(norms)
    return Finding("gradient_spikes", "degraded", history[-1].step, f"gradient norm {shown}; median {median:.3g}")


def robust_z(values: Sequence[float], min_relative_spread: float) -> list[float]:
    """Return how many robust standard deviations each value lies above the median.

    The deviation is 1.4826 x MAD, but at least `min_relative_spread` of the median. Otherwise a small change would
    count as a spike when all other values are nearly equal.
    """
    median = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(value - median) for value in values)
    scale = max(deviation, min_relative_spread * abs(median), 1e-300)
    return [(value - median) / scale for value in values]
