"""Our schedules in the words of the Trainer of `transformers`, which the other tools share."""

from __future__ import annotations

from typing import Any

from trainables.schedule import STABLE_DECAY_SHARE, warmup_steps
from trainables.spec import TrialSpec


def hf_schedule(spec: TrialSpec) -> tuple[dict[str, Any], list[str]]:
    """Return the keys that make this schedule, and in a sentence each what of it they cannot make."""
    warmup, floor = warmup_steps(spec.steps, spec.warmup_ratio), spec.min_rate_ratio
    keys: dict[str, Any] = {"lr_scheduler_type": spec.schedule}
    unsaid: list[str] = []
    if spec.schedule == "cosine" and floor:
        keys = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": floor}}
    elif spec.schedule == "stable":
        decay = round(STABLE_DECAY_SHARE * (spec.steps - warmup))
        decaying = {"num_decay_steps": decay, "decay_type": "linear", "min_lr_ratio": floor}
        keys = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": decaying}
    elif spec.schedule == "constant":
        keys = {"lr_scheduler_type": "constant_with_warmup"}
    elif spec.schedule == "linear" and floor:
        unsaid.append(f"min_rate_ratio {floor:g}: `linear` falls to nothing there")
    return {**keys, "warmup_steps": warmup}, unsaid
