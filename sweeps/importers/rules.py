"""Rules for keys of other tools: a key sets a field, has no effect for a stated reason, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainables.errors import UserError, nearest
from trainables.io.strict_yaml import Document, KeyPath, key_text

EMPTY = (None, "", [], {})


class InvalidValue(ValueError):
    """A key has an invalid value: what it must be, and a hint."""

    def __init__(self, must: str, hint: str | None = None) -> None:
        super().__init__(must)
        self.must, self.hint = must, hint


@dataclass(frozen=True)
class Sets:
    """The key sets a field; `read` converts its value or raises InvalidValue; `needed` refuses an empty value."""

    field: str
    read: Callable[[Any], Any]
    needed: bool = False


@dataclass(frozen=True)
class Ignored:
    """The key has no effect, whatever its value."""

    reason: str


@dataclass(frozen=True)
class Accepts:
    """Values without effect, each with its reason; every other value is refused."""

    harmless: Mapping[Any, str]
    refused: str
    hint: str | None = None


@dataclass(frozen=True)
class CheckedBy:
    """`check` gets the value and the whole file; it returns why the value has no effect, or raises InvalidValue."""

    check: Callable[[Any, Mapping[str, Any]], str]


@dataclass(frozen=True)
class Section:
    """A nested mapping; `table` holds the rules of its keys."""

    table: Mapping[str, KeyRule]


@dataclass(frozen=True)
class Entries:
    """A list with exactly one entry, a mapping; `table` holds the rules of its keys."""

    field: str
    table: Mapping[str, KeyRule]
    must: str


KeyRule = Sets | Ignored | Accepts | CheckedBy | Section | Entries
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


@dataclass(frozen=True)
class KeyLine:
    """One key of the file and its effect."""

    key: str
    number: int
    value: Any
    used: bool
    effect: str


@dataclass(frozen=True)
class ParsedConfig:
    """A configuration by fields of this project; `origins` holds the key that set each field."""

    document: Document
    tool: Tool
    fields: Mapping[str, Any]
    origins: Mapping[str, KeyPath]
    lines: tuple[KeyLine, ...]

    def value(self, name: str) -> Any:
        """Return the value in the file, else the tool's default, else None."""
        return self.fields.get(name, self.tool.defaults.get(name))

    def origin(self, *names: str) -> str:
        """Return the key that set the first of these fields, or that it is the tool's default."""
        for name in names:
            if name in self.origins:
                return f"`{key_text(self.origins[name])}`"
        return f"default of {self.tool.name}"

    def error(self, name: str, message: str, hint: str | None = None) -> UserError:
        """Return an error about a field, with file, line and key if the file sets it."""
        keys = self.origins.get(name)
        place = self.document.where(*keys) if keys else f"{self.document.path}: `{name}` ({self.origin(name)})"
        return UserError(f"{place} {message}", hint)


@dataclass
class _Parsing:
    fields: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, KeyPath] = field(default_factory=dict)
    lines: list[KeyLine] = field(default_factory=list)
    problems: list[tuple[str, str | None]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)  # fields whose key has an invalid value


def parse_config(document: Document, tool: Tool, given: Collection[str] = ()) -> ParsedConfig:
    """Apply the rules of the tool to every key of a file; the fields in `given` need no key.

    Raises:
        UserError: names every key that is refused, unknown (with the nearest known one), invalid or missing, each with
            its own hint.
    """
    found = _Parsing()
    _walk(document, tool, tool.table, (), document.values, found)
    for name, message in tool.required.items():
        if name not in found.fields and name not in given and name not in found.broken:
            found.problems.append((f"{document.path}: {message}", tool.missing.get(name)))
    if found.problems:
        raise combined_error(found.problems)
    return ParsedConfig(document, tool, found.fields, found.origins, tuple(found.lines))


def combined_error(problems: Sequence[tuple[str, str | None]]) -> UserError:
    """Return one error for several problems, each followed by its hint."""
    if len(problems) == 1:
        return UserError(*problems[0])
    return UserError("\n".join(str(UserError(*problem)) for problem in problems))


def _walk(
    document: Document, tool: Tool, table: Table, above: KeyPath, values: Mapping[str, Any], found: _Parsing
) -> None:
    for key, value in values.items():
        keys = (*above, key)
        if not above and key in tool.sections and isinstance(value, Mapping):
            _walk(document, tool, table, keys, value, found)
            continue
        rule = table.get(key)
        if rule is None:
            found.problems.append((f"{document.where(*keys)} is not a known key of {tool.name}",
                                   _unknown(key, table)))  # fmt: skip
            continue
        _apply(document, tool, rule, keys, value, found)


def _unknown(key: str, table: Table) -> str:
    hint = nearest(key, table)
    return hint if hint.endswith("?") else f"{hint}; remove the key if the result does not depend on it"


def _apply(document: Document, tool: Tool, rule: KeyRule, keys: KeyPath, value: Any, found: _Parsing) -> None:  # noqa: C901
    # one case per kind of rule
    where = document.where(*keys)

    def effect(text: str, used: bool = False) -> None:
        found.lines.append(KeyLine(key_text(keys), document.lines[keys], value, used, text))

    try:
        match rule:
            case Ignored(reason):
                effect(reason)
            case Sets(needed=False) | Accepts() | CheckedBy() | Section() if value in EMPTY and value is not False:
                effect("empty: same as no key")
            case Sets(name, read):
                _set(found, name, read(_given(value)), keys)
                effect(name.replace("_", " "), used=True)
            case Accepts(harmless, refused, hint):
                effect(_harmless(value, harmless, refused, hint))
            case CheckedBy(check):
                effect(check(value, document.values))
            case Section(table):
                _walk(document, tool, table, keys, _mapping(value), found)
            case Entries(name, table, must):
                below = _Parsing()
                _walk(document, tool, table, (*keys, 0), _only(value, must), below)
                _enter(found, name, below, (*keys, 0))
    except InvalidValue as error:
        if isinstance(rule, Sets | Entries):
            found.broken.add(rule.field)
        found.problems.append((f"{where} must be {error.must}, but got {_shown(value)}", error.hint))


def _enter(found: _Parsing, name: str, below: _Parsing, keys: KeyPath) -> None:
    found.lines += [replace(line, effect=f"{name.replace('_', ' ')} {line.effect}") if line.used else line
                    for line in below.lines]  # fmt: skip
    found.problems += below.problems
    if below.problems:
        found.broken.add(name)
    else:
        _set(found, name, below.fields, keys)


def _set(found: _Parsing, name: str, value: Any, keys: KeyPath) -> None:
    if name in found.fields:
        raise InvalidValue(
            f"the only key for this, but there is also `{key_text(found.origins[name])}`", "remove one of the two"
        )
    found.fields[name], found.origins[name] = value, keys


def _given(value: Any) -> Any:
    if value in EMPTY and value is not False:
        raise InvalidValue("given, not empty")
    return value


def _harmless(value: Any, harmless: Mapping[Any, str], refused: str, hint: str | None) -> str:
    value = tuple(value) if isinstance(value, list) else value
    for known, reason in harmless.items():
        if value == known and isinstance(value, bool) <= isinstance(known, bool):
            return reason
    others = [key for key in harmless if key is not False]
    must = "off" if harmless else "left out"
    if others:
        must = "one of " * (len(others) > 1) + ", ".join(_shown(key) for key in others)
    raise InvalidValue(f"{must} ({refused})", hint)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue("a mapping of keys to values")
    return value


def _only(value: Any, must: str) -> Mapping[str, Any]:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping) or not value[0]:
        raise InvalidValue(must, "join the files into one")
    return value[0]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else f"{list(value) if isinstance(value, tuple) else value}"
