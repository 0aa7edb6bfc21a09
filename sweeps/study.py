"""A study: which placements are compared, with which settings, under which guards; a file of plain values each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.guards import CONSTRAINT, GUARDS, BestConstraint, Guard
from trainables.spec import Quantization


@dataclass(frozen=True)
class Arm:
    """One placement of a study by its name: how many of the last layers of each tower carry LoRA.

    `settings` and `miniature` replace those of the study for this arm alone.
    """

    name: str
    language: int
    vision: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    miniature: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A question put as trials.

    `settings` are the values of `TrialSpec` for a real base; `miniature` replaces those that the embedded miniature
    needs otherwise. `ranks`, `learning_rates` and `quantizations` are varied unless the command line varies them;
    `varies` names what else its trials do not share (`steps`, `train`).
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    settings: Mapping[str, Any]
    miniature: Mapping[str, Any] = field(default_factory=dict)
    recommended: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    quantizations: tuple[Quantization, ...] = ()
    varies: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = GUARDS
    constraint: BestConstraint = CONSTRAINT
