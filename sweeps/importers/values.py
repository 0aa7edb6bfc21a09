"""Converts values of other tools; each reader raises InvalidValue for a value it cannot convert."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.importers.rules import InvalidValue
from trainables.io.strict_yaml import ScientificNumber

ALL = {"all", "all-linear", "all_linear"}
DTYPES = ("float32", "bfloat16", "float16", "auto")
EXPRESSION_SIGNS = re.compile(r"[\\^$*+?()\[\]{}|]")


@dataclass(frozen=True)
class Expression:
    """A regular expression that must match whole module names, as in PEFT."""

    text: str


@dataclass(frozen=True)
class AllLinear:
    """Every linear layer of the towers that are not frozen, and the modules named besides."""

    besides: tuple[str, ...] = ()


Targets = Expression | AllLinear | tuple[str, ...]


def text(value: Any) -> str:
    """Read a text; 1e5 is the text that it was written as."""
    value = value.written if isinstance(value, ScientificNumber) else value
    if not isinstance(value, str):
        raise InvalidValue("a text")
    return value


def boolean(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise InvalidValue("true or false")
    return value


def number(value: Any) -> float:
    """Read a number; a quoted number is a text and invalid."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValue("a number", "write it without quotes")
    return float(value)


def whole(value: Any) -> int:
    """Read a whole number; 3.0 is accepted."""
    if number(value) != int(value):
        raise InvalidValue("a whole number", "write it without a fraction")
    return int(value)


def above_zero(value: Any) -> int:
    """Read a whole number of at least 1."""
    if whole(value) < 1:
        raise InvalidValue("a whole number of at least 1", "remove the key for the tool's default")
    return int(value)


def seed(value: Any) -> int:
    """Read a whole number that is not negative."""
    if whole(value) < 0:
        raise InvalidValue("a whole number of at least 0", "write seed: 42")
    return int(value)


def rate(value: Any) -> float:
    """Read a learning rate, per optimizer step."""
    if number(value) <= 0:
        raise InvalidValue("a rate above 0", "write for example 1e-4; to keep a tower untrained, freeze it")
    return float(value)


def scale(value: Any) -> float:
    """Read the scale of an adapter, above 0."""
    if number(value) <= 0:
        raise InvalidValue("a number above 0", "the rank or twice the rank is usual")
    return float(value)


def dropout(value: Any) -> float:
    """Read the share of inputs that are dropped, from 0 to below 1."""
    if not 0 <= number(value) < 1:
        raise InvalidValue("a share from 0 to below 1", "5 % is 0.05")
    return float(value)


def decay(value: Any) -> float:
    """Read the decay of a moment of the optimizer per step, from 0 to below 1."""
    if not 0 <= number(value) < 1:
        raise InvalidValue("a number from 0 to below 1", "0.95 and 0.999 are usual")
    return float(value)


def eval_strategy(value: Any) -> str:
    """Read when to evaluate; an unquoted `no` is false in YAML."""
    return EVAL_STRATEGY("no" if value is False else value)


def share(value: Any) -> float:
    """Read a share, from 0 to 1."""
    if not 0 <= number(value) <= 1:
        raise InvalidValue("a share from 0 to 1", "10 % is 0.1; a number of steps has its own key")
    return float(value)


def at_least_zero(value: Any) -> float:
    """Read a number that is not negative."""
    if number(value) < 0:
        raise InvalidValue("a number of at least 0", "0 switches it off")
    return float(value)


def system_turn(value: Any) -> str:
    """Read the system turn of rows that have none; ms-swift writes line breaks as `\\n`, and may name a text file."""
    words = text(value)
    if words.endswith(".txt"):
        raise InvalidValue("the text itself, not a file", "write the file's text in the configuration")
    return words.replace("\\n", "\n")


def dtype_name(value: Any) -> str:
    """Read the name of a floating-point type, with or without `torch.`."""
    name = text(value).removeprefix("torch.")
    if name not in DTYPES:
        raise InvalidValue(f"one of {', '.join(DTYPES)}")
    return name


def clip_norm(value: Any) -> float:
    """Read the largest gradient norm; 0, which means no clipping in some tools, is refused."""
    if number(value) <= 0:
        raise InvalidValue("a number above 0 (gradients are always clipped here)", "write a large number: 1000.0")
    return float(value)


def one_of(values: Mapping[str, Any], hint: str | None = None) -> Callable[[Any], Any]:
    """Return a reader that maps the names in `values` to their values."""

    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in values:
            raise InvalidValue(f"one of {', '.join(values)}", hint)
        return values[value]

    return read


def one_text(value: Any) -> str:
    """Read a text, or a list of one text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    value = value.written if isinstance(value, ScientificNumber) else value
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue("one path", "join the files into one, or give the rows with --train and --val")
    return value.strip()


def one_name(value: Any) -> str:
    """Read one name; LLaMA-Factory separates several by commas."""
    if isinstance(value, str) and "," in value:
        raise InvalidValue("one dataset", "join the files into one, or give the rows with --train and --val")
    return one_text(value)


def last_layers(value: Any) -> tuple[int, ...]:
    """Read the indexes of layers."""
    indexes = value if isinstance(value, list) else [value]
    return tuple(sorted({whole(index) for index in indexes}))


def targets(value: Any) -> Targets:
    """Read which modules are adapted: names (a list, or separated by commas), a regular expression, or all."""
    words = [value] if isinstance(value, str) and EXPRESSION_SIGNS.search(value) else _words(value)
    if set(words) & ALL:
        return AllLinear(tuple(word for word in words if word not in ALL))
    expressions = [word for word in words if EXPRESSION_SIGNS.search(word)]
    if expressions and len(words) > 1:
        raise InvalidValue("names of modules, or one expression", "put the names into the expression, separated by |")
    return Expression(expressions[0]) if expressions else tuple(words)


def expression(value: Any) -> Expression:
    """Read a regular expression."""
    return Expression(text(value))


def _words(value: Any) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise InvalidValue("names of modules")
    return [word.strip() for word in words]


EVAL_STRATEGY = one_of({name: name for name in ("no", "steps", "epoch")})
