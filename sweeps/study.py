"""A study: which placements are compared, with which settings, under which guards; a file of plain values each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainables.constraint import CONSTRAINT, Constraint
from trainables.decision import Guard
from trainables.guards import GUARDS
from trainables.spec import Quantization


@dataclass(frozen=True)
class Limits:
    """The thresholds; a share is a fraction of the rows, or of the steps."""

    refuse_below_coverage_epochs: float = 0.10
    warn_below_coverage_epochs: float = 0.90
    warn_above_coverage_epochs: float = 10.0
    warn_below_effective_rows: int = 16
    usable_rate_ratio: float = 0.10
    refuse_below_usable_share: float = 0.50
    warn_below_usable_share: float = 0.85
    refuse_above_warmup_share: float = 0.50
    warn_above_warmup_share: float = 0.25
    refuse_above_unlabelled_share: float = 0.01
    refuse_above_leaked_share: float = 0.10
    warn_above_repeated_share: float = 0.05
    warn_above_contradictory_share: float = 0.01


LIMITS = Limits()


World = Literal["pictures", "text"]


@dataclass(frozen=True)
class Arm:
    """One placement of a study by its name: how many of the last layers of each tower carry LoRA.

    `settings` and `miniature` replace those of the study for this arm alone; where the miniature is placed otherwise
    than a real base, they hold a `placement`.
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
    needs otherwise, and `world` says which miniature that is: Qwen3-VL on pictures, or Qwen2 on shell commands.
    `ranks`, `learning_rates` and `quantizations` are varied unless the command line varies them, and so are the rates
    at `rate_factors` of an arm's own; `varies` names what else its trials do not share (`steps`, `train`). With
    `winners_of` its arms are placed as the winners of that experiment. Arms that are `refused` by the plan, as they
    are meant to be, run when they are named or with --force. `tables` name what it shows at its end (`tables.py`).
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    settings: Mapping[str, Any]
    miniature: Mapping[str, Any] = field(default_factory=dict)
    world: World = "pictures"
    recommended: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    rate_factors: tuple[float, ...] = ()
    quantizations: tuple[Quantization, ...] = ()
    varies: tuple[str, ...] = ()
    winners_of: str = ""
    refused: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = GUARDS
    constraint: Constraint = CONSTRAINT
    limits: Limits = LIMITS
