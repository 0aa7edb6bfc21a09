"""The study of a project: Stage 4, with arms that fit the depth of a base without a vision tower."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module

from sweeps.project.base_facts import BaseFacts
from sweeps.study import Arm, Study

ROWS_A_STEP = 16
LEAST_STEPS, MOST_EPOCHS = 50, 10
QUESTION = "How many of the last layers may carry LoRA before the model loses its generality?"


def study_for(base: BaseFacts) -> Study:
    """Return the study of a base: its arms, and those to try first."""
    name = "commands" if base.world == "text" else "stage4"
    study: Study = import_module(f"sweeps.{name}").STUDY
    if base.sees:
        return study
    arms = (Arm("A0", language=0, vision=0), *(Arm(f"L{depth}", language=depth, vision=0)
                                               for depth in depths(base.layers)))  # fmt: skip
    first = tuple(arm.name for arm in arms[1:-1]) or (arms[-1].name,)
    return replace(study, question=QUESTION, arms=arms, recommended=first)


def depths(layers: int) -> tuple[int, ...]:
    """Return the numbers of last layers that carry LoRA: two, a quarter, half and all."""
    return tuple(sorted({min(2, layers), max(1, layers // 4), max(1, layers // 2), layers}))


def sensible_epochs(rows: int) -> int:
    """Return the passes over so many training rows that make fifty steps, ten at most."""
    return min(MOST_EPOCHS, max(1, math.ceil(LEAST_STEPS * ROWS_A_STEP / rows)))
