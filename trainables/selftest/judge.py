"""Checks the values that the self-test measures before the first step (failure corpus, section S1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from trainables.health.checks import Finding

OUT_OF_MEMORY = "OutOfMemoryError"


@dataclass(frozen=True)
class SelfTestLimits:
    """The thresholds of the self-test, units in their names."""

    max_loss_of_uniform: float = 1.5
    max_relative_move_error: float = 0.1
    max_relative_rate_error: float = 0.01
    max_reload_share_of_effect: float = 0.05
    max_reload_rounding: float = 1e-4


LIMITS = SelfTestLimits()


@dataclass(frozen=True)
class TowerFacts:
    """One tower that carries LoRA: counts of modules and parameters, rates per step, and names of faulty parameters.

    `dead_b` are the lora_B parameters without a gradient in the first step, `dead_a` the lora_A parameters without one
    in the second (the gradient of lora_A is exactly 0 while lora_B is 0). `first_move` is the largest change of a
    lora_B weight in the first step; with AdamW it equals the learning rate.
    """

    expected_modules: int
    adapted_modules: int
    expected_parameters: int
    trainable_parameters: int
    optimized_parameters: int
    configured_rate: float
    rate: float
    dead_b: tuple[str, ...]
    dead_a: tuple[str, ...]
    unmoved: tuple[str, ...]
    first_move: float


@dataclass(frozen=True)
class BatchFacts:
    """One probe batch: counts of rows and tokens, and the loss of every step on it in nats per token.

    `trained_before` is true if steps on another batch came before the first loss, which then also depends on the rate.
    """

    rows: int
    images: int
    image_tokens: int
    image_features: int
    tokens: int
    padding_tokens: int
    supervised_tokens: int
    losses: tuple[float, ...] = ()
    trained_before: bool = False


@dataclass(frozen=True)
class Reloaded:
    """A saved adapter loaded by another process: the largest difference of its logits, and the adapter's effect."""

    difference: float
    effect: float
    process: int
    failure: str | None = None


@dataclass(frozen=True)
class SelfTestFacts:
    """All values that one self-test measures.

    `effect_*` is the largest difference of logits with and without the adapter. `noise` is the same between two passes
    without it; it is 0 on a deterministic machine.
    """

    adapters: tuple[str, ...]
    active_adapters: tuple[str, ...]
    foreign_trainable: tuple[str, ...]
    foreign_optimized: int
    changed_base: tuple[str, ...]
    towers: Mapping[str, TowerFacts]
    batches: Mapping[str, BatchFacts]
    uniform_loss: float
    fresh_adapter: bool
    fresh_optimizer: bool
    noise: float
    effect_before: float
    effect_after: float
    changed_after: bool
    restored: bool
    handover: Finding | None = None
    reload: Reloaded | None = field(default=None)


def judge_selftest(facts: SelfTestFacts, limits: SelfTestLimits = LIMITS) -> Finding | None:
    """Return the first fault as a finding, or None; an arm with a fault does not train."""
    for check, evidence in _faults(facts, limits):
        return Finding(check, "invalid", 0, evidence)
    return facts.handover if facts.handover and facts.handover.level == "invalid" else None


def judge_batches(
    batches: Mapping[str, BatchFacts], uniform_loss: float, limits: SelfTestLimits = LIMITS
) -> Finding | None:
    """Return the first fault of the probe batches, or None; faults in their counts are found before a forward pass."""
    for name, batch in batches.items():
        for check, evidence in _batch_faults(name, batch, uniform_loss, limits):
            return Finding(check, "invalid", 0, evidence)
    return None


def judge_reload(reloaded: Reloaded, limits: SelfTestLimits = LIMITS) -> Finding | None:
    """Compare the logits of the reloaded adapter with the live one's, relative to the effect of the adapter."""
    if reloaded.failure and OUT_OF_MEMORY in reloaded.failure:
        evidence = f"not checked, because the device has no memory for a second base: {reloaded.failure}"
        return Finding("reload", "degraded", 0, evidence)
    if reloaded.failure:
        return Finding("reload", "invalid", 0, f"another process cannot load the saved adapter: {reloaded.failure}")
    limit = max(limits.max_reload_share_of_effect * reloaded.effect, limits.max_reload_rounding)
    if math.isfinite(reloaded.difference) and reloaded.difference <= limit:
        return None
    evidence = f"saved and loaded in another process, logits differ by {reloaded.difference:.3g} > {limit:.3g}"
    return Finding("reload", "invalid", 0, f"{evidence}; the effect of the adapter is {reloaded.effect:.3g}")


def _faults(facts: SelfTestFacts, limits: SelfTestLimits) -> Iterator[tuple[str, str]]:
    yield from _adapter_faults(facts)
    for tower, one in facts.towers.items():
        yield from _set_faults(tower, one, limits)
    found = judge_batches(facts.batches, facts.uniform_loss, limits)
    if found:
        yield found.check, found.evidence
    if not facts.batches:
        yield "no_rows", "the self-test needs a training row with an image or a text row, but there is none"
    for tower, one in facts.towers.items():
        yield from _gradient_faults(tower, one, facts, limits)
    yield from _effect_faults(facts)


def _adapter_faults(facts: SelfTestFacts) -> Iterator[tuple[str, str]]:
    if len(facts.adapters) != 1 or facts.active_adapters != facts.adapters:
        yield (
            "adapters",
            f"expected one active adapter, but {facts.adapters} exist and {facts.active_adapters} are active",
        )
    if facts.foreign_trainable:
        shown = ", ".join(facts.foreign_trainable[:3])
        yield "trainable_set", f"{len(facts.foreign_trainable)} tensors outside the placement are trainable: {shown}"
    if facts.foreign_optimized:
        yield (
            "optimizer_set",
            f"the optimizer holds {facts.foreign_optimized} tensors that do not belong to the adapter",
        )


def _set_faults(tower: str, one: TowerFacts, limits: SelfTestLimits) -> Iterator[tuple[str, str]]:
    if one.adapted_modules != one.expected_modules:
        yield "placement", f"{tower}: {one.adapted_modules} adapted modules, but {one.expected_modules} were requested"
    if one.trainable_parameters != one.expected_parameters:
        counts = f"{one.trainable_parameters:,} trainable parameters, but {one.expected_parameters:,} were requested"
        yield "trainable_set", f"{tower}: {counts}"
    if one.optimized_parameters != one.expected_parameters:
        counts = f"the optimizer holds {one.optimized_parameters:,} parameters of {one.expected_parameters:,}"
        yield "optimizer_set", f"{tower}: {counts}"
    if abs(one.rate - one.configured_rate) > limits.max_relative_rate_error * one.configured_rate:
        yield "rate", f"{tower}: the peak rate is {one.rate:.4g}, but {one.configured_rate:.4g} was requested"


def _batch_faults(
    name: str, batch: BatchFacts, uniform_loss: float, limits: SelfTestLimits
) -> Iterator[tuple[str, str]]:
    if batch.image_tokens != batch.image_features:
        counts = f"{batch.image_tokens} image tokens for {batch.image_features} image features"
        yield "image_tokens", f"{name} batch: {counts}"
    if batch.supervised_tokens == 0:
        yield "supervised_tokens", f"{name} batch: none of {batch.tokens} tokens is supervised"
    if batch.supervised_tokens >= batch.tokens - batch.rows:
        yield "supervised_tokens", f"{name} batch: all {batch.tokens} tokens are supervised, including the prompts"
    limit = limits.max_loss_of_uniform * uniform_loss
    for number, loss in enumerate(batch.losses, start=1):
        padded = f", {batch.padding_tokens} padding tokens" if batch.padding_tokens else ""
        if not math.isfinite(loss):
            yield "non_finite_loss", f"{name} batch: loss {loss} at probe step {number}{padded}"
        if number == 1 and loss > limit and not batch.trained_before:
            yield "loss_too_large", f"{name} batch: loss {loss:.2f} > {limit:.2f} before any training"


def _gradient_faults(
    tower: str, one: TowerFacts, facts: SelfTestFacts, limits: SelfTestLimits
) -> Iterator[tuple[str, str]]:
    if tower == "vision" and "image" not in facts.batches:
        yield "zero_gradient", "vision: LoRA was requested, but no training row has an image"
    for factor, dead, step in (("lora_B", one.dead_b, 1), ("lora_A", one.dead_a, 2)):
        if dead:
            count = f"{len(dead)} of {one.expected_modules} modules"
            yield "zero_gradient", f"{tower}: no {factor} gradient in {count} at probe step {step}, first {dead[0]}"
    if one.unmoved:
        yield "unmoved", f"{tower}: {len(one.unmoved)} adapter tensors did not move, the first is {one.unmoved[0]}"
    error = abs(one.first_move / one.configured_rate - 1.0)
    if facts.fresh_optimizer and error > limits.max_relative_move_error:
        moved = f"the first step moved lora_B by {one.first_move:.3g}, but the first step of AdamW equals the rate"
        yield "unmoved", f"{tower}: {moved}, {one.configured_rate:.3g}"


def _effect_faults(facts: SelfTestFacts) -> Iterator[tuple[str, str]]:
    if facts.changed_base:
        yield "base_changed", f"{len(facts.changed_base)} tensors of the frozen base changed: {facts.changed_base[0]}"
    noise = f"; noise {facts.noise:.3g}"
    if facts.fresh_adapter and facts.effect_before > facts.noise:
        yield (
            "adapter_effect",
            f"a fresh adapter must have no effect, but logits differ by {facts.effect_before:.3g}{noise}",
        )
    if not facts.fresh_adapter and facts.effect_before <= facts.noise:
        evidence = "a continued adapter must have an effect, but logits with and without it differ by"
        yield "adapter_effect", f"{evidence} {facts.effect_before:.3g}{noise}"
    if not facts.changed_after or facts.effect_after <= facts.noise:
        yield "adapter_effect", f"after training, logits with and without it differ by {facts.effect_after:.3g}{noise}"
    if not facts.restored:
        yield "restored", "adapter and optimizer could not be restored to their state before the self-test"
