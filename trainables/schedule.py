"""The rate of every optimizer step, without torch: the optimizer follows it, a plan reads it beforehand."""

from __future__ import annotations

import math


def warmup_steps(steps: int, warmup_ratio: float) -> int:
    """Return how many optimizer steps the rate climbs to its peak."""
    return math.ceil(warmup_ratio * steps)


def rate_factor(step: int, steps: int, warmup_ratio: float, min_rate_ratio: float) -> float:
    """Return the fraction of the peak rate at optimizer step `step` (counted from 0).

    Linear warm-up over ceil(warmup_ratio x steps), then a cosine down to `min_rate_ratio`, as
    `transformers.get_cosine_with_min_lr_schedule_with_warmup` computes it.
    """
    warmup = warmup_steps(steps, warmup_ratio)
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
    return cosine * (1.0 - min_rate_ratio) + min_rate_ratio
