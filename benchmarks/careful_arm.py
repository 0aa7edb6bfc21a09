"""Times the loop of a careful user on a shape, with the rows, rates and steps of the other arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.careful import train_step
from benchmarks.families import modelled
from benchmarks.sharing import ArmFigures, Bench
from benchmarks.timing import begin_peak, now, peak_mb
from trainables.model.lora import Adapter, place
from trainables.model.optimizer import ADAM_BETA1
from trainables.model.placement import resolve
from trainables.model.quantization import QUANTIZATION_TABLE
from trainables.model.residency import settle
from trainables.schedule import rate_factor
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from trainables.model.base import Base


def dequantized_base(base: Base, spec: TrialSpec) -> Base:
    """Return a loaded base with its 4-bit weights dequantized once; other weights are left as they are."""
    if QUANTIZATION_TABLE[spec.quantization].bits != 4:
        return base
    residency = settle(base.model, "dequantized", spec.quantization, base.model.dtype, base.device)
    return replace(base, residency=residency)


def measure_careful(
    bench: Bench, base: Base, specs: Sequence[TrialSpec], repeats: int, found: ArmFigures | None = None
) -> ArmFigures:
    """Train every trial `repeats` times by the careful loop; add the seconds to those `found` before."""
    cost = bench.cost(specs)
    found = found or ArmFigures("careful", sum(cost.solo(modelled(spec)) for spec in specs))
    begin_peak(base.device)
    for _ in range(repeats):
        found.step_seconds.append(sum(_step_seconds(bench, base, spec) for spec in specs))
    found.peak_mb = max(found.peak_mb, peak_mb(base.device))
    return found


def _step_seconds(bench: Bench, base: Base, spec: TrialSpec) -> float:
    """Return the mean seconds of a step, the first aside."""
    adapter = place(base, spec, resolve(spec.placement, base.towers, spec.target_modules))
    for module in adapter.peft_model.modules():
        dropout: Any = getattr(module, "lora_dropout", None)
        if dropout is not None:
            dropout["default"] = torch.nn.Dropout(spec.dropout)
    optimizer, rates = _optimizer(adapter, spec)
    rows, times = bench.engine.row_stream(spec, 0), [now(base.device)]
    base.model.train()
    for step in range(spec.steps):
        factor = rate_factor(step, spec.steps, spec.warmup_ratio, spec.min_rate_ratio, spec.schedule)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        for batch in bench.engine.batches(rows, spec, step):
            train_step(base.model, optimizer, batch.inputs, batch.labels, spec.max_gradient_norm)
        times.append(now(base.device))
    base.model.eval()
    adapter.remove()
    seconds = [later - earlier for earlier, later in pairwise(times[1:])]
    return sum(seconds) / len(seconds)


def _optimizer(adapter: Adapter, spec: TrialSpec) -> tuple[torch.optim.AdamW, list[float]]:
    rates = {"language": spec.learning_rate, "vision": spec.vision_learning_rate}
    towers = [tower for tower in ("language", "vision") if adapter.parameters(tower)]
    groups = [{"params": [p for _, p in adapter.parameters(tower)]} for tower in towers]
    betas = (ADAM_BETA1, spec.adam_beta2)
    return torch.optim.AdamW(groups, betas=betas, weight_decay=spec.weight_decay), [rates[one] for one in towers]
