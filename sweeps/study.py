"""The parts of a study: arms, settings, guards and preflight limits. A study is a file of plain values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from trainables.constraint import CONSTRAINT, Constraint, constraint_of
from trainables.decision import Guard
from trainables.guards import GUARDS, described, guard_of
from trainables.spec import EARLIER_DEFAULTS, EARLIER_FORMATS, Format, Quantization
from trainables.tested_guards import Reading, error_values

# one row per forward pass, 16 rows per optimizer step
ROW_BY_ROW: Mapping[str, Any] = {"batch_rows": 1, "accumulation_steps": 16}
ONE_EPOCH: Mapping[str, Any] = {**ROW_BY_ROW, "epochs": 1.0, "eval_every_steps": 50}


@dataclass(frozen=True)
class PreflightLimits:
    """The thresholds of the preflight checks; a share is a fraction of the rows or of the steps."""

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


PREFLIGHT_LIMITS = PreflightLimits()

World = Literal["pictures", "text"]


@dataclass(frozen=True)
class Arm:
    """One placement of a study: how many of the last layers of each tower carry LoRA.

    `settings` and `miniature` override those of the study. A `placement` in them overrides `language` and `vision`.

    >>> from sweeps import Arm
    >>> Arm("A1-attention", language=2, vision=0, settings={"target_modules": ("q_proj", "v_proj")}).language
    2
    """

    name: str
    language: int
    vision: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    miniature: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EarlierRules:
    """The guards and the constraint that a study had before, which its experiments of then keep."""

    guards: tuple[Guard, ...]
    constraint: Constraint


@dataclass(frozen=True)
class Study:
    """A question, and the trials that answer it.

    `settings` override the defaults of `TrialSpec`; `epochs` can be given instead of `steps`. On the embedded
    miniature, `miniature` overrides them, and `miniature_before_format_3` overrides `miniature` in experiments that
    were begun in an earlier format. `world` selects the miniature: Qwen3-VL on pictures, or Qwen2 on shell
    commands. `ranks`, `learning_rates` and `quantizations` are the values to vary unless the command line gives others;
    `rate_factors` multiply the learning rate of each arm. `varies` names other settings that differ between trials
    (`steps`, `train`). `winners_of` names the experiment whose winners are the arms. Arms in `refused` fail preflight
    on purpose: they are planned only by name or with --force. `tables` names the tables shown at the end. `reading`
    says whether guards decide by tests, with an error rate, or by the numbers as they are. `earlier_rules` are those
    that experiments of the study were begun with before its guards or its constraint changed. With `chosen_evals`, the
    interval between evals was chosen for this budget and stays; otherwise a short run has its evals closer together.

    >>> from sweeps import Arm, Study
    >>> arms = Arm("A1", language=2, vision=0), Arm("B1", language=0, vision=2)
    >>> study = Study("towers", "Which of the two?", arms, settings={"rank": 8, "alpha": 16.0, "epochs": 1.0})
    >>> [guard.metric for guard in study.guards]
    ['irrelevant_pass', 'hallucination', 'generalization_gap', 'caption_sanity']
    """

    name: str
    question: str
    arms: tuple[Arm, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    miniature: Mapping[str, Any] = field(default_factory=dict)
    miniature_before_format_3: Mapping[str, Any] = field(default_factory=dict)
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
    limits: PreflightLimits = PREFLIGHT_LIMITS
    reading: Reading = "tested"
    earlier_rules: EarlierRules | None = None
    chosen_evals: bool = False


def as_begun(study: Study, spec_format: Format, reading: Reading | None = None) -> Study:
    """Return a study as an experiment of a format has it, with a chosen reading of its guards.

    In earlier formats guards decide by the numbers as they are, and evals are where the defaults of then put them.
    """
    if spec_format not in EARLIER_FORMATS:
        return replace(study, reading=reading or study.reading)
    settings = {**EARLIER_DEFAULTS, **study.settings}
    miniature = {**study.miniature, **study.miniature_before_format_3}
    return replace(study, settings=settings, miniature=miniature, reading="exact", chosen_evals=True)


def with_begun_rules(study: Study, begun: Mapping[str, Any] | None, reported: Collection[str]) -> Study:
    """Return a study with its earlier rules if its experiment was begun with them.

    Args:
        study: the study as it is now.
        begun: the content of `study.json`, None for a new experiment.
        reported: the metrics that trials report; without those of the constraint another one applies.
    """
    earlier = study.earlier_rules
    if earlier is None or begun is None or not set(study.constraint.needs) <= set(reported):
        return study
    if begun.get("constraint") != asdict(earlier.constraint):
        return study
    return replace(study, guards=earlier.guards, constraint=earlier.constraint)


def rules_of(study: Study) -> dict[str, Any]:
    """Return guards, their reading and the constraint as plain values, as stored in `study.json`."""
    test = {"guard_test": error_values()} if study.reading == "tested" else {}
    return {"guards": [described(one) for one in study.guards], **test, "constraint": asdict(study.constraint)}


def as_kept(study: Study, configuration: Mapping[str, Any]) -> Study:
    """Return a study with the guards, their reading and the constraint of an experiment, from its `study.json`.

    A rule that a study of the user's own defines stays that of the study, as the file holds only its values.
    """
    guards = [guard_of(one) for one in configuration.get("guards", ())]
    constraint = constraint_of(configuration.get("constraint", {}))
    return replace(
        study,
        reading=kept_reading(configuration),
        guards=tuple(one for one in guards if one) if guards and all(guards) else study.guards,
        constraint=constraint or study.constraint,
    )


def kept_reading(configuration: Mapping[str, Any]) -> Reading:
    """Return how the guards of an experiment decide, from the content of its `study.json`."""
    return "tested" if "guard_test" in configuration else "exact"
