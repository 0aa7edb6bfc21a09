"""The space of a search, and the trial of each of its points; imports neither torch nor Optuna.

A point maps every dimension to a value. Points that train the same adapter are one trial: the learning rate of a tower
without an adapter is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError

from sweeps.planning.space import merged_settings, steps_of, with_spaced_evals
from sweeps.study import Study
from trainables.errors import UserError, items, nearest
from trainables.spec import BASELINE_ARM, FORMAT, Format, TrialSpec, parse_spec

if TYPE_CHECKING:
    from sweeps.planning.sources import Sources

Sampler = Literal["nsga2", "tpe", "gp", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Value = int | float | str
Point = Mapping[str, Value]

PLACEMENT = ("language", "vision")
ALPHA_RATIO = "alpha_ratio"  # alpha / rank, which is the scale of the update
EPOCHS = "epochs"
MAX_EPOCHS_OR_RATIO = 1_000_000
SETTINGS = (
    "rank", "dropout", "learning_rate", "vision_learning_rate", "quantization", "steps", "weight_decay", "adam_beta2",
    "warmup_ratio",
)  # fmt: skip
RATES = {"language": "learning_rate", "vision": "vision_learning_rate"}
# Settings that can be drawn from a range. Epochs cannot: trials that differ in steps cannot train together.
RANGED = ("learning_rate", "vision_learning_rate", "weight_decay", "warmup_ratio", "dropout", ALPHA_RATIO)
EXAMPLES = {
    "language": "0,1,2", "vision": "0,2,4", ALPHA_RATIO: "1,2,4", EPOCHS: "1,2", "rank": "8,16,32",
    "dropout": "0,0.05,0.1", "learning_rate": "1e-4..1e-3", "vision_learning_rate": "3e-4..3e-3",
    "quantization": "none,nf4-double", "steps": "60,120", "weight_decay": "0,0.1", "adam_beta2": "0.95,0.999",
    "warmup_ratio": "0.1,0.2",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """One of these values; numbers are in rising order."""

    values: tuple[Value, ...]

    @property
    def edges(self) -> tuple[Value, ...]:
        """Return the values that a plan checks, which are all of them."""
        return self.values

    @property
    def is_ordered(self) -> bool:
        """True when there are several values and all are numbers, so that samplers can use their order."""
        return len(self.values) > 1 and not any(isinstance(value, str) for value in self.values)

    def as_json(self) -> list[Any]:
        """Return the values."""
        return list(self.values)

    def draw(self, random: Random) -> Value:
        """Draw a value uniformly."""
        return random.choice(self.values)

    def __str__(self) -> str:
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self.values)


@dataclass(frozen=True)
class LogRange:
    """A positive number between `low` and `high`, both included, uniform in its logarithm."""

    low: float
    high: float

    @property
    def edges(self) -> tuple[Value, ...]:
        """Return the values that a plan checks, which are both ends."""
        return (self.low, self.high)

    def as_json(self) -> list[Any]:
        """Return `log` and both ends."""
        return ["log", self.low, self.high]

    def draw(self, random: Random) -> Value:
        """Draw a number uniformly in its logarithm."""
        return math.exp(random.uniform(math.log(self.low), math.log(self.high)))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log-uniform"


Dimension = Choice | LogRange


@dataclass(frozen=True)
class Space:
    """Dimensions by name: settings of a trial, `language` and `vision` (layers), `alpha_ratio`, `epochs`.

    Raises:
        UserError: a name is unknown, a value is invalid for a trial, or no point places an adapter.
    """

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        for name in self.dimensions:
            if name not in EXAMPLES:
                raise UserError(f"a search cannot vary `{name}`", nearest(name, EXAMPLES))
        for name in PLACEMENT:
            if name not in self.dimensions:
                raise UserError(f"the space of a search must have `{name}`, but it has none", example(name))
        if EPOCHS in self.dimensions and "steps" in self.dimensions:
            raise UserError(
                "`epochs` and `steps` both set the budget, but only one of them may be varied",
                f"leave out --vary {EPOCHS} or --vary steps",
            )
        for name, dimension in self.dimensions.items():
            _check_dimension(name, dimension)
        if not any(value for name in PLACEMENT for value in self.dimensions[name].edges):
            raise UserError(
                "a search must place an adapter somewhere, but its `language` and its `vision` have only the value 0",
                example("language"),
            )

    def changed(self, changes: Mapping[str, Dimension]) -> Space:
        """Return the space with some dimensions replaced; `steps` replaces `epochs`, and vice versa."""
        dropped = {"steps": EPOCHS, EPOCHS: "steps"}
        kept = {key: one for key, one in self.dimensions.items() if key not in {dropped.get(name) for name in changes}}
        return Space({**kept, **changes})

    def draw(self, random: Random) -> dict[str, Value]:
        """Draw a point, each dimension independently."""
        return {name: dimension.draw(random) for name, dimension in self.dimensions.items()}

    def as_json(self) -> dict[str, list[Any]]:
        """Return the dimensions as plain values, which `study.json` keeps."""
        return {name: one.as_json() for name, one in self.dimensions.items()}


@dataclass(frozen=True)
class Search:
    """A study without arms, the space that its trials are drawn from, and the budget.

    `objectives` are metrics, each as NAME, NAME:higher or NAME:lower; `cohort` of the `trials` train at a time.
    """

    study: Study
    space: Space
    objectives: tuple[str, ...]
    sampler: Sampler = "nsga2"
    trials: int = 24
    cohort: int = 8
    seed: int = 0


def parse_dimension(text: str) -> tuple[str, Dimension]:
    """Read `NAME=1,2,4` (one of these values) or `NAME=1e-4..1e-3` (a number in this range, log-uniform).

    Raises:
        UserError: the text has neither form.
    """
    name, separator, values = text.partition("=")
    words = items(values, f"--vary {name}=", "8,16")
    low, dots, high = values.partition("..")
    try:
        if dots and 0 < float(low) < float(high):
            return name.strip(), LogRange(float(low), float(high))
        if separator and words and not dots:
            return name.strip(), Choice(tuple(sorted((_number(word) for word in words), key=_sort_key)))
    except ValueError:
        pass
    raise UserError(
        f"--vary must be NAME=1,2,4 or NAME=1e-4..1e-3 with 0 < low < high, but got `{text}`", example(name.strip())
    )


def parse_dimensions(texts: Sequence[str]) -> dict[str, Dimension]:
    """Read all values of `--vary`, each as `parse_dimension` does.

    Raises:
        UserError: a value is malformed, or a dimension is repeated.
    """
    found: dict[str, Dimension] = {}
    for text in texts:
        name, dimension = parse_dimension(text)
        if name in found:
            same = [one for one in texts if one.partition("=")[0].strip() == name]
            raise UserError(
                f"--vary must name a dimension once, but `{name}` is repeated: {' and '.join(same)}",
                f"give all its values in one --vary, {example(name)}",
            )
        found[name] = dimension
    return found


def example(name: str) -> str:
    """Return a hint: an example of a dimension, or the nearest name of one."""
    return f"for example --vary {name}={EXAMPLES[name]}" if name in EXAMPLES else nearest(name, EXAMPLES)


def _check_dimension(name: str, dimension: Dimension) -> None:
    if isinstance(dimension, LogRange) and name not in RANGED:
        raise UserError(
            f"only {', '.join(RANGED)} can be drawn from a range, but got `{name}` from {dimension.low:g} to "
            f"{dimension.high:g}",
            example(name),
        )
    for value in dimension.edges:
        if problem := _problem(name, value):
            raise UserError(f"a search's `{name}`: {problem}, but got `{value}`", example(name))
    if len(set(dimension.edges)) < len(dimension.edges):
        raise UserError(f"the values of a search's `{name}` must differ, but got {dimension}", example(name))


def _problem(name: str, value: Value) -> str | None:
    """Return why a trial cannot have this value of a dimension, None if it can."""
    if name in (ALPHA_RATIO, EPOCHS):
        is_valid = not isinstance(value, str) and 0 < value <= MAX_EPOCHS_OR_RATIO
        return None if is_valid else f"input should be a number greater than 0 and at most {MAX_EPOCHS_OR_RATIO:,}"
    try:
        TrialSpec.model_validate({"placement": {name: value}} if name in PLACEMENT else {name: value})
    except ValidationError as error:  # always raised, because required fields are missing too
        found = [one["msg"] for one in error.errors() if one["loc"][-1] == name]
        return found[0].lower() if found else None
    return None


def _number(word: str) -> Value:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _sort_key(value: Value) -> tuple[bool, float, str]:
    return (isinstance(value, str), 0.0 if isinstance(value, str) else value, str(value))


def is_baseline_point(point: Point) -> bool:
    """True when a point places no adapter, which makes it a baseline."""
    return not point["language"] and not point["vision"]


def spec_of(point: Point, study: Study, sources: Sources, spec_format: Format = FORMAT) -> TrialSpec:
    """Return the trial of a point; its name has placement, rank and id, and its arm is the placement.

    Raises:
        UserError: a value is out of range.
    """
    own = fixed_settings(study, sources)
    values = {**own, **{key: value for key, value in point.items() if key in SETTINGS}}
    for tower, rate in RATES.items():
        if not point[tower]:
            values[rate] = own[rate]
    epochs = point.get(EPOCHS, None if "steps" in values else values.get(EPOCHS))
    values.pop(EPOCHS, None)
    if epochs is not None:
        values["steps"] = steps_of(float(epochs), values, sources.train_rows)
    values = with_spaced_evals(values, study)
    values["alpha"] = values["rank"] * float(point.get(ALPHA_RATIO, own["alpha"] / own["rank"]))
    values["placement"] = {tower: point[tower] for tower in PLACEMENT}
    values |= {**sources.as_settings(), "format": spec_format, "name": "point"}
    spec = parse_spec(values, where=f"study {study.name}")
    arm = str(spec.placement)
    return spec.model_copy(update={"name": f"{arm}-r{spec.rank}-{spec.trial_id[:4]}", "arm": arm})


def fixed_settings(study: Study, sources: Sources) -> dict[str, Any]:
    """Return the settings of all trials of a search, before the dimensions vary some of them."""
    return merged_settings(study, None, {}, sources.is_miniature)


def corners(space: Space, study: Study, sources: Sources, spec_format: Format = FORMAT) -> Iterator[TrialSpec]:
    """Yield the baselines, then trials with each edge of each dimension, the other dimensions at their last edge.

    No check combines dimensions, so if a plan has no findings for these trials, it has none for any other trial.
    """
    last = {name: dimension.edges[-1] for name, dimension in space.dimensions.items()}
    points = [last, *({**last, name: value} for name, one in space.dimensions.items() for value in one.edges[:-1])]

    def trial(point: Point) -> TrialSpec:
        return spec_of(point, study, sources, spec_format)

    specs = {spec.trial_id: spec for point in points if not is_baseline_point(point) for spec in [trial(point)]}
    baselines = {spec.baseline().trial_id: spec.baseline() for spec in specs.values()}
    if len(baselines) == 1:
        baselines = {key: spec.model_copy(update={"name": BASELINE_ARM}) for key, spec in baselines.items()}
    yield from baselines.values()
    yield from specs.values()
