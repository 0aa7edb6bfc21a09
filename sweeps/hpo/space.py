"""The space of a search, a study without arms; imports neither torch nor Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, get_args

from pydantic import ValidationError

from sweeps.planning.layers import layer_rule, module_kind
from sweeps.planning.space import LAYERS, MODULES
from sweeps.study import Study
from trainables.errors import UserError, items, nearest
from trainables.metrics import generality
from trainables.pareto import parse_objectives
from trainables.spec import TrialSpec

Sampler = Literal["nsga2", "tpe", "gp", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Value = int | float | str
Point = Mapping[str, Value]

PLACEMENT = ("language", "vision")
FIT = "exact_match"
RATES = {"language": "learning_rate", "vision": "vision_learning_rate"}
ALPHA_RATIO = "alpha_ratio"  # alpha / rank, which is the scale of the update
EPOCHS = "epochs"
MAX_EPOCHS_OR_RATIO = 1_000_000
SETTINGS = (
    "rank", "dropout", "learning_rate", "vision_learning_rate", "quantization", "steps", "weight_decay", "adam_beta2",
    "warmup_ratio",
)  # fmt: skip
# Settings that can be drawn from a range. Epochs cannot: trials that differ in steps cannot train together.
RANGED = ("learning_rate", "vision_learning_rate", "weight_decay", "warmup_ratio", "dropout", ALPHA_RATIO)
WORDS: Mapping[str, Callable[[str, str], object]] = {MODULES: module_kind, LAYERS: layer_rule}  # and what reads them
EXAMPLES = {
    "language": "0,1,2", "vision": "0,2,4", MODULES: "attention,mlp", LAYERS: "last,first",
    ALPHA_RATIO: "1,2,4", EPOCHS: "1,2", "rank": "8,16,32",
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
    """Dimensions by name: settings of a trial, `language` and `vision` (numbers of layers), `modules` and `layers`
    (kinds of linears, and rules by which the layers are chosen), `alpha_ratio`, `epochs`.

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

    `objectives` are metrics, each as NAME, NAME:higher or NAME:lower; without any they are those that `measurable`
    chooses. `cohort` of the `trials` train at a time. `named` are the dimensions that the user asks for.
    """

    study: Study
    space: Space
    objectives: tuple[str, ...] = ()
    sampler: Sampler = "nsga2"
    trials: int = 24
    cohort: int = 8
    seed: int = 0
    named: tuple[str, ...] = ()


def measurable(search: Search, reported: Collection[str], sees: bool) -> Search:
    """Return a search as it is on a base and its data: with objectives that are measured, and without a tower that the
    base lacks.

    Without objectives of its own it has task fit, and generality in the metric that trials report.

    Raises:
        UserError: an objective is not reported, or no point places an adapter on this base.
    """
    objectives = search.objectives or (FIT, generality(reported))
    for one in parse_objectives(objectives):
        if one.name not in reported:
            raise UserError(
                f"an objective must be measured, but trials on this data report no `{one.name}`",
                f"the metric of generality on this data is {generality(reported)}",
            )
    if sees:
        return replace(search, objectives=objectives)
    named = [name for name in ("vision", RATES["vision"]) if name in search.named]
    if named and search.space.dimensions.get("vision") != Choice((0,)):
        raise UserError(
            f"a dimension must be of a tower that the base has, but --vary names {' and '.join(named)} and the base "
            "has no vision tower",
            f"leave out --vary {named[0]}=",
        )
    kept = {name: one for name, one in search.space.dimensions.items() if name != RATES["vision"]}
    return replace(search, objectives=objectives, space=Space({**kept, "vision": Choice((0,))}))


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
    if name in WORDS:
        return _problem_of_word(name, str(value))
    if name in (ALPHA_RATIO, EPOCHS):
        is_valid = not isinstance(value, str) and 0 < value <= MAX_EPOCHS_OR_RATIO
        return None if is_valid else f"input should be a number greater than 0 and at most {MAX_EPOCHS_OR_RATIO:,}"
    try:
        TrialSpec.model_validate({"placement": {name: value}} if name in PLACEMENT else {name: value})
    except ValidationError as error:  # always raised, because required fields are missing too
        found = [one["msg"] for one in error.errors() if one["loc"][-1] == name]
        return found[0].lower() if found else None
    return None


def _problem_of_word(name: str, word: str) -> str | None:
    try:
        WORDS[name](word, f"`{name}`")
    except UserError as error:
        return error.message.removeprefix(f"`{name}`").lstrip(": ").partition(", but got")[0]
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
