"""The rate and the rows of every optimizer step, without torch: training follows them, a plan reads them beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable

INITIAL_ROWS_SHARE = 0.25  # of an optimizer step's rows, where they grow


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _linear(progress: float) -> float:
    return 1.0 - progress


def _constant(_: float) -> float:
    return 1.0


def _stable_then_linear(progress: float) -> float:
    return min(1.0, (1.0 - progress) / STABLE_DECAY_SHARE)


STABLE_DECAY_SHARE = 0.2  # of the steps after warm-up, at the end of `stable`

# from the share of the steps after warm-up that is done (0 to 1) to the height between the lowest and the peak rate;
# a schedule of your own is a line here
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "stable": _stable_then_linear,
}


def warmup_steps(steps: int, warmup_ratio: float) -> int:
    """Return how many optimizer steps the rate climbs to its peak."""
    return math.ceil(warmup_ratio * steps)


def rate_factor(step: int, steps: int, warmup_ratio: float, min_rate_ratio: float, schedule: str = "cosine") -> float:
    """Return the fraction of the peak rate at optimizer step `step` (counted from 0).

    Linear warm-up over ceil(warmup_ratio x steps), then the schedule's own way down to `min_rate_ratio`; with
    `cosine` as `transformers.get_cosine_with_min_lr_schedule_with_warmup` computes it.
    """
    warmup = warmup_steps(steps, warmup_ratio)
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    return SCHEDULES[schedule](progress) * (1.0 - min_rate_ratio) + min_rate_ratio


def rows_at(step: int, effective_rows: int, growing_steps: int) -> int:
    """Return the rows of optimizer step `step` (counted from 0): a quarter at first, all after `growing_steps`."""
    if step >= growing_steps:
        return effective_rows
    share = INITIAL_ROWS_SHARE + (1.0 - INITIAL_ROWS_SHARE) * step / growing_steps
    return max(1, round(share * effective_rows))
