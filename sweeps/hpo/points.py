"""The trial of each point of a search's space; imports neither torch nor Optuna.

A point maps every dimension to a value. Points that train the same adapter are one trial: the learning rate of a tower
without an adapter is ignored, and so are equal layers that several rules choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from sweeps.hpo.space import ALPHA_RATIO, EPOCHS, PLACEMENT, RATES, SETTINGS, Dimension, Point, Space
from sweeps.planning.layers import layer_rule, module_kind
from sweeps.planning.space import (
    LAYERS,
    MODULES,
    Measure,
    merged_settings,
    placed,
    steps_of,
    with_spaced_evals,
)  # fmt: skip
from sweeps.study import Study
from trainables.data_files import rows_of_a_pass
from trainables.spec import BASELINE_ARM, FORMAT, Format, TrialSpec, parse_spec

if TYPE_CHECKING:
    from sweeps.planning.sources import Sources


def is_baseline_point(point: Point) -> bool:
    """True when a point places no adapter, which makes it a baseline."""
    return not point["language"] and not point["vision"]


def spec_of(
    point: Point, study: Study, sources: Sources, spec_format: Format = FORMAT, measure: Measure | None = None
) -> TrialSpec:
    """Return the trial of a point; its name has placement, rank and id, and its arm is the placement.

    `measure` is needed where layers are chosen by their gradient.

    Raises:
        UserError: a value is out of range.
    """
    own = fixed_settings(study, sources)
    kind, rule = (point.get(name, own.pop(name, None)) for name in (MODULES, LAYERS))
    values = {**own, **{key: value for key, value in point.items() if key in SETTINGS}}
    for tower, rate in RATES.items():
        if not point[tower]:
            values[rate] = own[rate]
    epochs = point.get(EPOCHS, None if "steps" in values else values.get(EPOCHS))
    values.pop(EPOCHS, None)
    if epochs is not None:
        a_pass = rows_of_a_pass(sources.train_rows, values.get("replay_ratio", 0.0))
        values["steps"] = steps_of(float(epochs), values, a_pass)
    values = with_spaced_evals(values, study)
    values["alpha"] = values["rank"] * float(point.get(ALPHA_RATIO, own["alpha"] / own["rank"]))
    values["placement"] = {tower: point[tower] for tower in PLACEMENT}
    if kind and not is_baseline_point(point):
        values["placement"]["modules"] = module_kind(str(kind), f"study {study.name}: `{MODULES}`")
    values |= {**sources.as_settings(), "format": spec_format, "name": "point"}
    spec = parse_spec(values, where=f"study {study.name}")
    spec = placed(spec, layer_rule(str(rule), f"study {study.name}: `{LAYERS}`") if rule else None, measure)
    arm = str(spec.placement)
    return spec.model_copy(update={"name": f"{arm}-r{spec.rank}-{spec.trial_id[:4]}", "arm": arm})


def fixed_settings(study: Study, sources: Sources) -> dict[str, Any]:
    """Return the settings of all trials of a search, before the dimensions vary some of them."""
    return merged_settings(study, None, {}, sources.is_miniature)


def corners(
    space: Space, study: Study, sources: Sources, spec_format: Format = FORMAT, measure: Measure | None = None
) -> Iterator[TrialSpec]:
    """Yield the baselines, then trials with each edge of each dimension, the other numbers at their last edge.

    Words (quantization, kinds of linears, rules for layers) are combined, for memory depends on all of them. No check
    combines other dimensions, so if a plan has no findings for these trials, it has none for any other trial.
    """
    points = edges_of(space)

    def trial(point: Point) -> TrialSpec:
        return spec_of(point, study, sources, spec_format, measure)

    specs = {spec.trial_id: spec for point in points if not is_baseline_point(point) for spec in [trial(point)]}
    baselines = {spec.baseline().trial_id: spec.baseline() for spec in specs.values()}
    if len(baselines) == 1:
        baselines = {key: spec.model_copy(update={"name": BASELINE_ARM}) for key, spec in baselines.items()}
    yield from baselines.values()
    yield from specs.values()


def edges_of(space: Space) -> list[Point]:
    """Return the points that a plan checks, the one with all last edges first."""
    last = {name: dimension.edges[-1] for name, dimension in space.dimensions.items()}
    words = {name: one.edges for name, one in space.dimensions.items() if _has_words(one)}
    points = [{**last, name: value} for name, one in space.dimensions.items() for value in one.edges[:-1]]
    points += [{**last, **dict(zip(words, values, strict=True))} for values in product(*words.values())]
    return [last, *points]


def _has_words(dimension: Dimension) -> bool:
    return any(isinstance(value, str) for value in dimension.edges)
