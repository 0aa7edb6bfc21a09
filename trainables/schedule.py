"""Learning-rate schedules and batch growth per optimizer step; imports no torch, because planning uses it too."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable

INITIAL_ROWS_SHARE = 0.25  # of the rows per optimizer step, at step 0 of batch warm-up


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _linear(progress: float) -> float:
    return 1.0 - progress


def _constant(_: float) -> float:
    return 1.0


def _stable_then_linear(progress: float) -> float:
    return min(1.0, (1.0 - progress) / STABLE_DECAY_SHARE)


STABLE_DECAY_SHARE = 0.2  # of the steps after warm-up, at the end of `stable`

# each maps progress through the steps after warm-up (0 to 1) to a rate between the minimum (0) and the peak (1)
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "stable": _stable_then_linear,
}


def warmup_steps(steps: int, warmup_ratio: float) -> int:
    """Return the number of warm-up steps."""
    return math.ceil(warmup_ratio * steps)


def rate_factor(step: int, steps: int, warmup_ratio: float, min_rate_ratio: float, schedule: str = "cosine") -> float:
    """Return the fraction of the peak rate at optimizer step `step` (counted from 0).

    Linear warm-up over ceil(warmup_ratio x steps), then the schedule's decay to `min_rate_ratio`. `cosine` equals
    `transformers.get_cosine_with_min_lr_schedule_with_warmup`.
    """
    warmup = warmup_steps(steps, warmup_ratio)
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, steps - warmup)
    return SCHEDULES[schedule](progress) * (1.0 - min_rate_ratio) + min_rate_ratio


def rows_at(step: int, effective_rows: int, growing_steps: int) -> int:
    """Return the rows of optimizer step `step` (counted from 0): from a quarter at step 0 to all at `growing_steps`."""
    if step >= growing_steps:
        return effective_rows
    share = INITIAL_ROWS_SHARE + (1.0 - INITIAL_ROWS_SHARE) * step / growing_steps
    return max(1, round(share * effective_rows))


def rows_before(step: int, effective_rows: int, growing_steps: int) -> int:
    """Return the sum of `rows_at` over all steps before `step`; counts steps of equal rows instead of walking them."""
    growing = range(min(step, growing_steps))
    grown = effective_rows * (step - len(growing))
    if not growing:
        return grown

    def rows(earlier: int) -> int:
        return rows_at(earlier, effective_rows, growing_steps)

    # rows never fall from step to step: those below `least` end where the first step with at least `least` rows is
    fewest, most = rows(0), rows(growing[-1])
    below = (bisect_left(growing, least, key=rows) for least in range(fewest + 1, most + 1))
    return grown + most * len(growing) - sum(below)


def steps_at_rate(
    least: float, steps: int, warmup_ratio: float, min_rate_ratio: float, schedule: str = "cosine"
) -> int:  # fmt: skip
    """Return how many steps have a `rate_factor` of at least `least`; the factor rises in warm-up, then never rises."""

    def factor(step: int) -> float:
        return rate_factor(step, steps, warmup_ratio, min_rate_ratio, schedule)

    warmup = min(warmup_steps(steps, warmup_ratio), steps)
    rising, falling = range(warmup), range(warmup, steps)
    return warmup - bisect_left(rising, least, key=factor) + bisect_right(falling, -least, key=lambda one: -factor(one))


def planned_evals(steps: int, eval_every_steps: int, is_continued: bool = False) -> int:
    """Return how often a trial evaluates, its last step included; a continued one also before its first step."""
    return math.ceil(steps / eval_every_steps) + is_continued


def next_eval(step: int, steps: int, eval_every_steps: int) -> int:
    """Return the step of the first eval after `step`."""
    return min(steps, (step // eval_every_steps + 1) * eval_every_steps)
