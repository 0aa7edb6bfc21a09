"""The space of a search as plain dimensions, and the trial of a point; without torch and Optuna.

A point maps every dimension to a value. Points that would train the same adapter are one trial: the values of a tower
without an adapter are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError

from sweeps.planning.space import merged_settings, steps_of
from sweeps.study import Study
from trainables.errors import UserError, nearest
from trainables.spec import BASELINE_ARM, FORMAT, Format, TrialSpec, parse_spec

if TYPE_CHECKING:
    from sweeps.planning.sources import Sources


Sampler = Literal["nsga2", "tpe", "gp", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Value = int | float | str
Point = Mapping[str, Value]

PLACEMENT = ("language", "vision")
ALPHA_RATIO = "alpha_ratio"  # alpha over rank: the scale of the update, whatever its rank
EPOCHS = "epochs"
MAX_EPOCHS_OR_RATIO = 1_000_000  # over the data; no alpha is as many times its rank either
SETTINGS = (
    "rank", "dropout", "learning_rate", "vision_learning_rate", "quantization", "steps", "weight_decay", "warmup_ratio",
)  # fmt: skip
RATES = {"language": "learning_rate", "vision": "vision_learning_rate"}
# Real numbers. Epochs are not among them: steps are whole, and trials that differ in them train apart.
RANGED = ("learning_rate", "vision_learning_rate", "weight_decay", "warmup_ratio", "dropout", ALPHA_RATIO)
EXAMPLES = {
    "language": "0,1,2", "vision": "0,2,4", ALPHA_RATIO: "1,2,4", EPOCHS: "1,2", "rank": "8,16,32",
    "dropout": "0,0.05,0.1", "learning_rate": "1e-4..1e-3", "vision_learning_rate": "3e-4..3e-3",
    "quantization": "none,nf4-double", "steps": "60,120", "weight_decay": "0,0.1", "warmup_ratio": "0.1,0.2",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """One of these values; numbers in rising order, so that samplers may know what lies near."""

    values: tuple[Value, ...]

    @property
    def edges(self) -> tuple[Value, ...]:
        """Return the values that a plan checks: all."""
        return self.values

    @property
    def is_counted(self) -> bool:
        """True when there are several and all are numbers: their order says which lie near each other."""
        return len(self.values) > 1 and not any(isinstance(value, str) for value in self.values)

    def as_json(self) -> list[Any]:
        """Return the values."""
        return list(self.values)

    def draw(self, random: Random) -> Value:
        """Draw one, each as likely as the others."""
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
        """Return the values that a plan checks: both ends."""
        return (self.low, self.high)

    def as_json(self) -> list[Any]:
        """Return `log` and both ends."""
        return ["log", self.low, self.high]

    def draw(self, random: Random) -> Value:
        """Draw a number."""
        return math.exp(random.uniform(math.log(self.low), math.log(self.high)))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, by its logarithm"


Dimension = Choice | LogRange


@dataclass(frozen=True)
class Space:
    """Dimensions by name: settings of a trial, `language` and `vision` (layers), `alpha_ratio`, `epochs` for steps.

    Raises:
        UserError: a name is unknown, a value is none that a trial could have, or there is nothing to search.
    """

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        for name in self.dimensions:
            if name not in EXAMPLES:
                raise UserError(f"a search can vary settings it knows, but got `{name}`", nearest(name, EXAMPLES))
        for name in PLACEMENT:
            if name not in self.dimensions:
                raise UserError(f"a search is over placements, but its space has no `{name}`", example(name))
        if EPOCHS in self.dimensions and "steps" in self.dimensions:
            raise UserError(
                "`epochs` and `steps` both set the budget, but only one of them may be varied",
                f"leave out --vary {EPOCHS} or --vary steps",
            )
        for name, dimension in self.dimensions.items():
            _check_dimension(name, dimension)
        if not any(value for name in PLACEMENT for value in self.dimensions[name].edges):
            raise UserError(
                "a search must place an adapter somewhere, but its `language` and its `vision` are 0 alone",
                example("language"),
            )

    def changed(self, changes: Mapping[str, Dimension]) -> Space:
        """Return the space with some dimensions replaced; a budget in steps replaces one in epochs, and back."""
        dropped = {"steps": EPOCHS, EPOCHS: "steps"}
        kept = {key: one for key, one in self.dimensions.items() if key not in {dropped.get(name) for name in changes}}
        return Space({**kept, **changes})

    def draw(self, random: Random) -> dict[str, Value]:
        """Draw a point, every dimension by itself."""
        return {name: dimension.draw(random) for name, dimension in self.dimensions.items()}

    def as_json(self) -> dict[str, list[Any]]:
        """Return the dimensions as plain values, to be compared with those an experiment was begun with."""
        return {name: one.as_json() for name, one in self.dimensions.items()}


@dataclass(frozen=True)
class Search:
    """A study without arms, the space that its trials are drawn from, and the budget.

    `objectives` are metrics, each NAME, NAME:higher or NAME:lower; `cohort` of the `trials` are asked for at a time.
    """

    study: Study
    space: Space
    objectives: tuple[str, ...]
    sampler: Sampler = "nsga2"
    trials: int = 24
    cohort: int = 8
    seed: int = 0


def parse_dimension(text: str) -> tuple[str, Dimension]:
    """Read `NAME=1,2,4` (one of these) or `NAME=1e-4..1e-3` (a number between, by its logarithm).

    Raises:
        UserError: the text says neither.
    """
    name, separator, values = text.partition("=")
    words = [word.strip() for word in values.split(",") if word.strip()]
    low, dots, high = values.partition("..")
    try:
        if dots and 0 < float(low) < float(high):
            return name.strip(), LogRange(float(low), float(high))
        if separator and words and not dots:
            return name.strip(), Choice(tuple(sorted((_number(word) for word in words), key=_rising)))
    except ValueError:
        pass
    raise UserError(
        f"--vary must be NAME=1,2,4 or NAME=1e-4..1e-3 with 0 < low < high, but got `{text}`", example(name.strip())
    )


def parse_dimensions(texts: Sequence[str]) -> dict[str, Dimension]:
    """Read what `--vary` was given, each as `parse_dimension` does.

    Raises:
        UserError: one says neither, or names a dimension that another names.
    """
    found: dict[str, Dimension] = {}
    for text in texts:
        name, dimension = parse_dimension(text)
        if name in found:
            same = [one for one in texts if one.partition("=")[0].strip() == name]
            raise UserError(
                f"--vary must name a dimension once, but `{name}` is repeated: {' and '.join(same)}",
                f"say all of it in one, {example(name)}",
            )
        found[name] = dimension
    return found


def example(name: str) -> str:
    """Return a hint: how a dimension is given, or which one was meant."""
    return f"for example --vary {name}={EXAMPLES[name]}" if name in EXAMPLES else nearest(name, EXAMPLES)


def _check_dimension(name: str, dimension: Dimension) -> None:
    if isinstance(dimension, LogRange) and name not in RANGED:
        raise UserError(
            f"only {', '.join(RANGED)} can be drawn from a range, but got `{name}` from {dimension.low:g} to "
            f"{dimension.high:g}",
            example(name),
        )
    for value in dimension.edges:
        if wrong := _problem(name, value):
            raise UserError(f"a search's `{name}`: {wrong}, but got `{value}`", example(name))
    if len(set(dimension.edges)) < len(dimension.edges):
        raise UserError(f"a search's `{name}` must have each value once, but got {dimension}", example(name))


def _problem(name: str, value: Value) -> str | None:
    """Return why a trial cannot have this value of a dimension; None where it can."""
    if name in (ALPHA_RATIO, EPOCHS):
        is_sane = not isinstance(value, str) and 0 < value <= MAX_EPOCHS_OR_RATIO
        return None if is_sane else f"input should be a number greater than 0 and at most {MAX_EPOCHS_OR_RATIO:,}"
    try:
        TrialSpec.model_validate({"placement": {name: value}} if name in PLACEMENT else {name: value})
    except ValidationError as error:  # always: a trial has sources as well
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


def _rising(value: Value) -> tuple[bool, float, str]:
    return (isinstance(value, str), 0.0 if isinstance(value, str) else value, str(value))


def is_baseline_point(point: Point) -> bool:
    """True when a point places no adapter: that is the baseline, and no arm."""
    return not point["language"] and not point["vision"]


def spec_of(point: Point, study: Study, sources: Sources, spec_format: Format = FORMAT) -> TrialSpec:
    """Return the trial of a point, named by its placement, rank and id; its arm is its placement.

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
    values["alpha"] = values["rank"] * float(point.get(ALPHA_RATIO, own["alpha"] / own["rank"]))
    values["placement"] = {tower: point[tower] for tower in PLACEMENT}
    values |= {**sources.as_settings(), "format": spec_format, "name": "point"}
    spec = parse_spec(values, where=f"study {study.name}")
    arm = str(spec.placement)
    return spec.model_copy(update={"name": f"{arm}-r{spec.rank}-{spec.trial_id[:4]}", "arm": arm})


def fixed_settings(study: Study, sources: Sources) -> dict[str, Any]:
    """Return the settings that all trials of a search share where no dimension varies them."""
    return merged_settings(study, None, {}, sources.is_miniature)


def corners(space: Space, study: Study, sources: Sources, spec_format: Format = FORMAT) -> Iterator[TrialSpec]:
    """Yield the baselines, then trials with every edge of every dimension, the other dimensions at their last edge.

    No check combines dimensions, so a plan that finds nothing in these trials finds nothing in any of the search.
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
