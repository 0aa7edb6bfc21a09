"""Expands a study into trial specs: the product of arms, kinds of modules, layers, ranks, rates, quantizations, seeds.

Settings are merged in this order, later ones override earlier ones: the defaults of `TrialSpec`, the study's settings,
its `miniature` settings (when the miniature is the base), the arm's settings, its `miniature` settings, and the
settings that the launch fixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from sweeps.planning.eval_spacing import spaced
from sweeps.planning.layers import LAST, LayerRule, Norms, Sizes, layer_rule, module_kind, placed_by
from sweeps.planning.sources import Sources
from sweeps.study import Arm, Study
from trainables.errors import UserError, named, nearest, quoted
from trainables.limits import MOST_ROWS
from trainables.local_paths import local_path
from trainables.model.families import family_of
from trainables.placement import ModuleKind, Placement
from trainables.spec import (
    BASELINE_ARM,
    BASELINE_IDENTITY,
    FORMAT,
    Format,
    Quantization,
    TrialSpec,
    default_settings,
    parse_spec,
)
from trainables.typed import typed

BUDGET = {"steps", "epochs"}
MODULES, LAYERS = "modules", "layers"  # settings of an arm that its placement is made of
MOST_TRIALS = 10_000  # of one launch

Measure = Callable[[TrialSpec], Norms]  # the gradient of each layer, on the base and the rows of a trial


@dataclass(frozen=True)
class Axes:
    """What a launch varies or fixes; an empty axis keeps the study's value.

    Every arm continues the adapter in `init_from`. With `restart_from` every arm has a second trial that starts from
    that adapter.

    >>> from sweeps import Axes
    >>> axes = Axes(only=("A1", "C2"), ranks=(8, 16), quantizations=("nf4", "int8"), seeds=3)
    """

    only: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()
    quantizations: tuple[Quantization, ...] = ()
    modules: tuple[ModuleKind, ...] = ()
    layers: tuple[LayerRule, ...] = ()
    seeds: int = 1
    fixed: Mapping[str, Any] = field(default_factory=dict)
    init_from: Path | None = None
    restart_from: Path | None = None

    def __post_init__(self) -> None:
        for path in filter(None, (self.init_from, self.restart_from)):
            local_path(path, "an adapter to start from")


def expand(
    study: Study, axes: Axes, sources: Sources, spec_format: Format = FORMAT, measure: Measure | None = None
) -> list[TrialSpec]:
    """Return the trials of a launch, the baseline of each quantization first; equal trials are merged.

    When ranks vary, alpha keeps its ratio to the rank; when language rates vary, the vision rate keeps its ratio to
    them; what the launch fixes stays as it is. `spec_format` is the format of the experiment. `measure` is needed where
    layers are chosen by their gradient.

    Raises:
        UserError: an arm is unknown, a value is out of range, there are more than `MOST_TRIALS`, no arm places an
            adapter on this base, or kinds or layers are chosen for baselines alone.
    """
    axes = _with_study_axes(study, axes)
    chosen = chosen_arms(study, axes.only)
    _check_count(len(chosen), axes, len(study.rate_factors or (1.0,)))
    trials = [spec for arm in chosen for spec in _expand_arm(study, arm, axes, sources, spec_format, measure)]
    if not sources.sees and all(spec.placement.is_baseline for spec in trials):
        raise UserError(
            f"an arm must place an adapter, but the base has no vision tower and "
            f"{', '.join(arm.name for arm in chosen)} has no language layers",
            "choose arms with language layers",
        )
    if (axes.modules or axes.layers) and all(spec.placement.is_baseline for spec in trials):
        raise UserError(
            f"--modules and --layers choose among the linears of an adapter, but "
            f"{', '.join(arm.name for arm in chosen)} places none",
            "choose arms that place one: --only",
        )
    kinds = {
        tuple(getattr(spec, key) for key in BASELINE_IDENTITY if key != "placement"): spec for spec in trials[::-1]
    }
    baselines = [spec.baseline() for spec in reversed(kinds.values())]
    if len({spec.quantization for spec in trials}) == 1:
        baselines = [spec.model_copy(update={"name": BASELINE_ARM}) for spec in baselines]
    distinct: dict[str, TrialSpec] = {}
    for spec in (*baselines, *trials):
        distinct.setdefault(spec.trial_id, spec)
    return list(distinct.values())


def _check_count(arms: int, axes: Axes, rates: int) -> None:
    sizes = {
        "arms": arms,
        "ranks": len(axes.ranks) or 1,
        "rates": len(axes.learning_rates) or rates,
        "quantizations": len(axes.quantizations) or 1,
        "kinds of modules": len(axes.modules) or 1,
        "rules for layers": len(axes.layers) or 1,
        "seeds": axes.seeds,
    }
    if math.prod(sizes.values()) > MOST_TRIALS:
        product = " x ".join(f"{quoted(count)} {name}" for name, count in sizes.items())
        raise UserError(
            f"a launch must have at most {MOST_TRIALS:,} trials, but got {product}",
            f"vary less at once; `{typed('search')}` draws trials from a large space",
        )


def _expand_arm(
    study: Study, arm: Arm, axes: Axes, sources: Sources, spec_format: Format, measure: Measure | None
) -> list[TrialSpec]:
    settings, where = settings_of(study, arm, axes.fixed, sources), f"study {study.name}, arm {arm.name}"
    own = {key: settings.pop(key, None) for key in (MODULES, LAYERS)}
    kinds = axes.modules or (module_kind(own[MODULES], f"{where}: `modules`") if own[MODULES] else None,)
    rules = axes.layers or (layer_rule(own[LAYERS], f"{where}: `layers`") if own[LAYERS] else None,)
    ranks = axes.ranks or (settings["rank"],)
    own_rates = tuple(factor * settings["learning_rate"] for factor in study.rate_factors or (1.0,))
    rates = axes.learning_rates or own_rates
    axes = replace(axes, learning_rates=rates)
    quantizations = axes.quantizations or (settings["quantization"],)
    seeds = range(settings["seed"], settings["seed"] + axes.seeds)
    trials = []
    for quantization, kind, rule, rank, rate, seed in product(quantizations, kinds, rules, ranks, rates, seeds):
        values = {
            **settings,
            "format": spec_format,
            "placement": _counts(arm, settings, sources, kind),
            **sources.as_settings(),
            **_scaled(settings, rank, rate, axes.fixed),
            "name": "-".join([*_placed_name(arm, axes, kind, rule), *_values(axes, rank, rate, quantization, seed)]),
            "arm": arm.name,
            "quantization": quantization,
            "seed": seed,
        }
        trials.append(placed(parse_spec(values, where), rule, measure))
    return trials


def _with_study_axes(study: Study, axes: Axes) -> Axes:
    own = {key: getattr(study, key) for key in ("ranks", "learning_rates", "quantizations")}
    return replace(axes, **{key: getattr(axes, key) or value for key, value in own.items()})


def _counts(arm: Arm, settings: Mapping[str, Any], sources: Sources, kind: ModuleKind | None) -> dict[str, Any]:
    """Return the placement of an arm before a rule chooses among the layers; a kind replaces its own."""
    placement = dict(settings.get("placement", {"language": arm.language, "vision": arm.vision}))
    if not sources.sees:
        placement |= {"vision": 0, "vision_indices": ()}
    if not any(placement.get(tower) for tower in ("language", "vision")):
        return {**placement, "modules": "all"}
    return placement if kind is None else {**placement, "modules": kind}


def placed(spec: TrialSpec, rule: LayerRule | None, measure: Measure | None) -> TrialSpec:
    """Return the trial with the layers that a rule chooses in its base; without one with those of its arm.

    Raises:
        UserError: a tower has fewer layers than the rule takes.
    """
    counts = spec.placement
    if rule is None or counts.is_baseline or (rule == LAST and counts == _last(counts)):
        return spec
    family, config = family_of(spec.base.path)
    sizes: Sizes = {tower: len(blocks) for tower, blocks in family.towers(config).items()}
    norms = measure(spec) if measure and rule.rule == "gradient" else None
    return spec.model_copy(update={"placement": placed_by(rule, counts, sizes, norms)})


def _last(counts: Placement) -> Placement:
    return Placement(language=counts.language, vision=counts.vision, modules=counts.modules)


def chosen_arms(study: Study, only: tuple[str, ...]) -> list[Arm]:
    """Return the arms of a study by name; without names, all arms except those in `study.refused`.

    Raises:
        UserError: a name is not an arm of the study.
    """
    arms = {arm.name: arm for arm in study.arms}
    for name in only:
        if name not in arms:
            raise UserError(f"an arm must be one of study {study.name}, but got `{named(name)}`", nearest(name, arms))
    return [arms[name] for name in only] if only else [arm for arm in study.arms if arm.name not in study.refused]


def settings_of(study: Study, arm: Arm | None, fixed: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """Return the merged settings of an arm; a budget in `epochs` is converted to `steps`, and evals fit the budget.

    Raises:
        UserError: `batch_rows` or `accumulation_steps` is not a whole number.
    """
    settings = merged_settings(study, arm, fixed, sources.is_miniature)
    epochs = settings.pop("epochs", None)
    if epochs is not None:
        settings["steps"] = steps_of(epochs, settings, sources.train_rows)
    return settings if "eval_every_steps" in fixed else with_spaced_evals(settings, study)


def with_spaced_evals(settings: dict[str, Any], study: Study) -> dict[str, Any]:
    """Return settings with evals that fit the number of steps, unless someone chose their interval."""
    steps, every = settings["steps"], settings["eval_every_steps"]
    if study.chosen_evals or not all(isinstance(one, int) and one > 0 for one in (steps, every)):
        return settings  # the spec refuses what is no number of steps
    return {**settings, "eval_every_steps": spaced(steps, every, study.guards)}


def merged_settings(
    study: Study, arm: Arm | None, fixed: Mapping[str, Any], is_miniature: bool
) -> dict[str, Any]:  # fmt: skip
    """Return the settings of an arm, or without an arm those of all trials; the budget is in steps or in epochs."""
    shared = (study.settings, study.miniature) if is_miniature else (study.settings,)
    own = () if arm is None else (arm.settings, arm.miniature) if is_miniature else (arm.settings,)
    return merged(default_settings(), *shared, *own, fixed)


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers of settings, later ones over earlier ones; a later `steps` replaces `epochs`, and vice versa."""
    settings: dict[str, Any] = {}
    for layer in layers:
        if BUDGET & layer.keys():
            settings = {key: value for key, value in settings.items() if key not in BUDGET}
        settings.update(layer)
    return settings


def steps_of(epochs: float, settings: Mapping[str, Any], train_rows: int) -> int:
    """Return the number of optimizer steps in `epochs` passes over the training rows, at least 1.

    Raises:
        UserError: `batch_rows` or `accumulation_steps` is not a whole number, or `epochs` is not a finite number.
    """
    if not 0 < epochs <= MOST_ROWS:
        raise UserError(
            f"epochs must be above 0 and at most {MOST_ROWS:,}, but got {quoted(epochs)}", "--epochs 1 is one pass"
        )
    return max(1, round(epochs * train_rows / _rows_per_step(settings)))


def _rows_per_step(settings: Mapping[str, Any]) -> int:
    rows = 1
    for key in ("batch_rows", "accumulation_steps"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise UserError(
                f"`{key}` must be a whole number, 1 or more, but got {quoted(settings[key])}", f"--set {key}=16"
            )
        rows *= settings[key]
    return rows


def _scaled(settings: Mapping[str, Any], rank: int, rate: float, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return ranks and rates; alpha and the vision rate keep their ratio unless the launch fixes them."""
    alpha = settings["alpha"] if "alpha" in fixed else settings["alpha"] * rank / settings["rank"]
    own_rate, vision_rate = settings["learning_rate"], settings["vision_learning_rate"]
    return {
        "rank": rank,
        "alpha": alpha,
        "learning_rate": rate,
        "vision_learning_rate": vision_rate if "vision_learning_rate" in fixed else vision_rate * rate / own_rate,
    }


def _placed_name(arm: Arm, axes: Axes, kind: ModuleKind | None, rule: LayerRule | None) -> list[str]:
    return [arm.name, *([str(kind)] if len(axes.modules) > 1 else []), *([str(rule)] if len(axes.layers) > 1 else [])]


def _values(axes: Axes, rank: int, rate: float, quantization: str, seed: int) -> list[str]:
    parts = [f"r{rank}"] if len(axes.ranks) > 1 else []
    parts += [f"lr{rate:g}"] if len(axes.learning_rates) > 1 else []
    parts += [quantization] if len(axes.quantizations) > 1 else []
    return [*parts, *([f"s{seed}"] if axes.seeds > 1 else [])]
