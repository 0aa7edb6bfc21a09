"""Axes over a study become trial specs: the product of placements, ranks, rates, quantizations and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from sweeps.planning.sources import Sources
from sweeps.study import Arm, Study
from trainables.errors import UserError, nearest
from trainables.spec import Quantization, TrialSpec, parse_spec

RESTART = "-restart"  # behind the name of a trial that goes on from an earlier adapter, for contrast


BUDGET = {"steps", "epochs"}


@dataclass(frozen=True)
class Axes:
    """What a launch varies or fixes; an empty axis keeps the study's own value.

    `init_from` is the adapter that every arm goes on from, `restart_from` that of a second trial of every arm.
    """

    only: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    quantizations: tuple[Quantization, ...] = ()
    seeds: int = 1
    fixed: Mapping[str, Any] = field(default_factory=dict)
    init_from: Path | None = None
    restart_from: Path | None = None


def expand(study: Study, axes: Axes, sources: Sources) -> list[TrialSpec]:
    """Return the trials of a launch, baseline of each quantization first; equal trials are one trial.

    A rank keeps the study's ratio of alpha to rank, a rate its ratio of the vision to the language rate.

    Raises:
        UserError: an arm is unknown, a value is out of range, or no arm places anything on this base.
    """
    axes = _with_own(study, axes)
    chosen = chosen_arms(study, axes.only)
    trials = [spec for arm in chosen for spec in _expand_arm(study, arm, axes, sources)]
    if not sources.sees and all(spec.placement.is_baseline for spec in trials):
        raise UserError(
            f"an arm must place something, but the base has no vision tower and "
            f"{', '.join(arm.name for arm in chosen)} places nothing else",
            "choose arms with language layers",
        )
    baselines = [spec.baseline() for spec in trials]
    if len({spec.quantization for spec in trials}) == 1:
        baselines = [spec.model_copy(update={"name": "A0"}) for spec in baselines]
    distinct: dict[str, TrialSpec] = {}
    for spec in (*baselines, *trials):
        distinct.setdefault(spec.trial_id, spec)
    return list(distinct.values())


def _expand_arm(study: Study, arm: Arm, axes: Axes, sources: Sources) -> list[TrialSpec]:
    settings = _settings(study, arm, axes, sources)
    ranks = axes.ranks or (settings["rank"],)
    own_rates = tuple(factor * settings["learning_rate"] for factor in study.rate_factors or (1.0,))
    rates = axes.learning_rates or own_rates
    axes = replace(axes, learning_rates=rates)
    quantizations = axes.quantizations or (settings.get("quantization", "nf4-double"),)
    seeds = range(settings.get("seed", 0), settings.get("seed", 0) + axes.seeds)
    return [
        parse_spec(
            {
                **settings,
                "placement": _placed(arm, settings, sources),
                **sources.as_settings(),
                **_scaled(settings, rank, rate),
                "name": _name(arm, axes, rank, rate, quantization, seed),
                "quantization": quantization,
                "seed": seed,
            },
            where=f"study {study.name}, arm {arm.name}",
        )
        for quantization, rank, rate, seed in product(quantizations, ranks, rates, seeds)
    ]


def _with_own(study: Study, axes: Axes) -> Axes:
    own = {key: getattr(study, key) for key in ("ranks", "learning_rates", "quantizations")}
    return replace(axes, **{key: getattr(axes, key) or value for key, value in own.items()})


def _placed(arm: Arm, settings: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    placement = settings.get("placement", {"language": arm.language, "vision": arm.vision})
    return placement if sources.sees else {**placement, "vision": 0}


def chosen_arms(study: Study, only: tuple[str, ...]) -> list[Arm]:
    """Return the arms of a study that a launch asks for; without any named, all but those its plan refuses.

    Raises:
        UserError: a name is no arm.
    """
    arms = {arm.name: arm for arm in study.arms}
    for name in only:
        if name not in arms:
            raise UserError(f"an arm must be one of study {study.name}, but got `{name}`", nearest(name, arms))
    return [arms[name] for name in only] if only else [arm for arm in study.arms if arm.name not in study.refused]


def _settings(study: Study, arm: Arm, axes: Axes, sources: Sources) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    miniature = (study.miniature, arm.settings, arm.miniature) if sources.is_miniature else (arm.settings,)
    for layer in (study.settings, *miniature, axes.fixed):
        # a later budget replaces an earlier one, whichever way either is given
        if BUDGET & layer.keys():
            settings = {key: value for key, value in settings.items() if key not in BUDGET}
        settings.update(layer)
    epochs = settings.pop("epochs", None)
    if epochs is not None:
        settings["steps"] = max(1, round(epochs * sources.train_rows / _rows_a_step(settings)))
    return settings


def _rows_a_step(settings: Mapping[str, Any]) -> int:
    rows = 1
    for key in ("batch_rows", "accumulation_steps"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise UserError(f"`{key}` must be a whole number, 1 or more, but got {settings[key]!r}", f"--set {key}=16")
        rows *= settings[key]
    return rows


def _scaled(settings: Mapping[str, Any], rank: int, rate: float) -> dict[str, Any]:
    return {
        "rank": rank,
        "alpha": settings["alpha"] * rank / settings["rank"],
        "learning_rate": rate,
        "vision_learning_rate": settings["vision_learning_rate"] * rate / settings["learning_rate"],
    }


def _name(arm: Arm, axes: Axes, rank: int, rate: float, quantization: str, seed: int) -> str:
    parts = [arm.name]
    parts += [f"r{rank}"] if len(axes.ranks) > 1 else []
    parts += [f"lr{rate:g}"] if len(axes.learning_rates) > 1 else []
    parts += [quantization] if len(axes.quantizations) > 1 else []
    parts += [f"s{seed}"] if axes.seeds > 1 else []
    return "-".join(parts)


def arm_of(spec: TrialSpec) -> str:
    """Return the arm a trial is a variant of; its restart from an earlier adapter is an arm of its own."""
    return spec.name.split("-", 1)[0] + (RESTART if spec.name.endswith(RESTART) else "")
