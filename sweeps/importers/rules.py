"""Rules for keys of other tools: a key sets a field, has no effect for a stated reason, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class InvalidValue(ValueError):
    """A key has an invalid value: what it must be, and a hint."""

    def __init__(self, must: str, hint: str | None = None) -> None:
        super().__init__(must)
        self.must, self.hint = must, hint


@dataclass(frozen=True)
class Differs:
    """An effect that makes the trial's results differ from the tool's; the report lists these apart."""

    text: str


Effect = str | Differs  # a text says why the key has no effect on the trial


@dataclass(frozen=True)
class Sets:
    """The key sets a field; `read` converts its value or raises InvalidValue; `needed` refuses an empty value."""

    field: str
    read: Callable[[Any], Any]
    needed: bool = False


@dataclass(frozen=True)
class Ignored:
    """The key has no effect, or the stated one, whatever its value."""

    reason: Effect


@dataclass(frozen=True)
class Accepts:
    """Accepted values, each with its effect; every other value is refused."""

    harmless: Mapping[Any, Effect]
    refused: str
    hint: str | None = None


@dataclass(frozen=True)
class CheckedBy:
    """`check` gets the value and the whole file; it returns the effect of the value, or raises InvalidValue."""

    check: Callable[[Any, Mapping[str, Any]], Effect]


@dataclass(frozen=True)
class Section:
    """A nested mapping; `table` holds the rules of its keys."""

    table: Mapping[str, KeyRule]


@dataclass(frozen=True)
class Entries:
    """A list with exactly one entry, a mapping; `table` holds the rules of its keys.

    If the command line replaces the field, the list may have any entries, and only the rules in `still` apply to them.
    """

    field: str
    table: Mapping[str, KeyRule]
    must: str
    still: Mapping[str, KeyRule]


@dataclass(frozen=True)
class Replaced:
    """A key about the rows of `field`: if the command line gives these rows, it has no effect, else `rule` applies."""

    field: str
    rule: KeyRule


KeyRule = Sets | Ignored | Accepts | CheckedBy | Section | Entries | Replaced
Table = Mapping[str, KeyRule]


def off(refused: str, hint: str | None = "remove the key") -> Accepts:
    """Accept a switch that is off or a number that is 0; refuse other values."""
    return Accepts({False: "off"}, refused, hint)


@dataclass(frozen=True)
class Tool:
    """A tool: its keys and the defaults of missing keys.

    `signs` are keys that identify its files. `defaults` are by field; `required` fields have no default, and `missing`
    holds a hint for each. `sections` are mappings whose keys are read like top-level keys.
    """

    name: str
    signs: tuple[str, ...]
    table: Table
    defaults: Mapping[str, Any]
    required: Mapping[str, str]
    sections: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
