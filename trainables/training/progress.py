"""The progress of a trial, which its checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Progress:
    """The progress of a trial, saved in every checkpoint, so that a resumed trial equals an uninterrupted one."""

    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    interval_losses: tuple[float, ...] = ()
    interval_norms: tuple[float, ...] = ()
