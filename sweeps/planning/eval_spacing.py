"""Spaces the evals of a trial: as its study says, or closer together where that leaves too few to decide anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainables.decision import Guard
from trainables.schedule import planned_evals

EVALS = 5  # of a run whose study would evaluate too rarely; what five cost and bracket is in docs/log.md
LEAST_EVALS = 3  # they enclose two intervals, between which a curve can turn


def spaced(steps: int, every: int, guards: Sequence[Guard]) -> int:
    """Return the steps between evals: `every`, unless so few evals fit that a guard could never act.

    A study spaces its evals for the budget it has in mind. With fewer steps, the evals come at equal distances instead:
    `EVALS` of them, or as many as a guard needs.
    """
    least = max((LEAST_EVALS, *(guard.evals_needed for guard in guards)))
    if planned_evals(steps, every) >= least:
        return every
    closer = math.ceil(steps / max(EVALS, least))
    if planned_evals(steps, closer) < least:  # rounding up may leave out one
        closer = max(1, (steps - 1) // (least - 1))
    return closer
