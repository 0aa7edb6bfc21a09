"""Applies the rules of a tool to every key of a configuration, and reports all problems together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps.importers.rules import (
    Accepts,
    CheckedBy,
    Differs,
    Effect,
    Entries,
    Ignored,
    InvalidValue,
    KeyRule,
    Replaced,
    Section,
    Sets,
    Table,
    Tool,
)
from trainables.errors import UserError, nearest
from trainables.io.strict_yaml import Document, KeyPath, key_text

EMPTY = (None, "", [], {})
AS_NO_KEY = "empty: same as no key"


@dataclass(frozen=True)
class KeyLine:
    """One key of the file and its effect; `differs` is true if results differ from the tool's for it."""

    key: str
    number: int
    value: Any
    used: bool
    effect: str
    differs: bool = False


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


@dataclass(frozen=True)
class _File:
    """What every key of one file is read with; `given` says by field what the command line replaces."""

    document: Document
    tool: Tool
    given: Mapping[str, str]


def parse_config(document: Document, tool: Tool, given: Mapping[str, str] | Collection[str] = ()) -> ParsedConfig:
    """Apply the rules of the tool to every key of a file.

    The fields in `given` need no key: the command line gives them. As a mapping, `given` names what gives each.

    Raises:
        UserError: names every key that is refused, unknown (with the nearest known one), invalid or missing, each with
            its own hint.
    """
    named = given if isinstance(given, Mapping) else dict.fromkeys(given, "the command line")
    found = _Parsing()
    _walk(_File(document, tool, named), tool.table, (), document.values, found)
    for name, message in tool.required.items():
        if name not in found.fields and name not in named and name not in found.broken:
            found.problems.append((f"{document.path}: {message}", tool.missing.get(name)))
    if found.problems:
        raise combined_error(found.problems)
    return ParsedConfig(document, tool, found.fields, found.origins, tuple(found.lines))


def combined_error(problems: Sequence[tuple[str, str | None]]) -> UserError:
    """Return one error for several problems, each followed by its hint."""
    if len(problems) == 1:
        return UserError(*problems[0])
    return UserError("\n".join(str(UserError(*problem)) for problem in problems))


def _walk(file: _File, table: Table, above: KeyPath, values: Mapping[str, Any], found: _Parsing) -> None:
    for key, value in values.items():
        keys = (*above, key)
        if not above and key in file.tool.sections and isinstance(value, Mapping):
            _walk(file, table, keys, value, found)
        elif key in table:
            _apply(file, table[key], keys, value, found)
        elif _is_empty(value):
            _add(file, keys, value, AS_NO_KEY, found)
        else:
            found.problems.append((f"{file.document.where(*keys)} is not a known key of {file.tool.name}",
                                   _unknown(key, table)))  # fmt: skip


def _unknown(key: str, table: Table) -> str:
    hint = nearest(key, table)
    return hint if hint.endswith("?") else f"{hint}; remove the key if the result does not depend on it"


def _add(file: _File, keys: KeyPath, value: Any, effect: Effect, found: _Parsing, used: bool = False) -> None:
    text, differs = (effect.text, True) if isinstance(effect, Differs) else (effect, False)
    found.lines.append(KeyLine(key_text(keys), file.document.lines[keys], value, used, text, differs))


def _apply(file: _File, rule: KeyRule, keys: KeyPath, value: Any, found: _Parsing) -> None:
    try:
        _effect_of(file, rule, keys, value, found)
    except InvalidValue as error:
        while isinstance(rule, Replaced):
            rule = rule.rule
        if isinstance(rule, Sets | Entries):
            found.broken.add(rule.field)
        where = file.document.where(*keys)
        found.problems.append((f"{where} must be {error.must}, but got {shown(value)}", error.hint))


def _effect_of(file: _File, rule: KeyRule, keys: KeyPath, value: Any, found: _Parsing) -> None:  # noqa: C901
    # one case per kind of rule
    match rule:
        case Ignored(reason):
            _add(file, keys, value, reason, found)
        case Sets(needed=False) | Accepts() | CheckedBy() | Section() if _is_empty(value):
            _add(file, keys, value, AS_NO_KEY, found)
        case Replaced(name, within):
            if name in file.given:
                _add(file, keys, value, _by(file, name), found)
            else:
                _effect_of(file, within, keys, value, found)
        case Sets(name) | Entries(name) if name in file.given:
            _replace(file, rule, keys, value, found)
        case Sets(name, read):
            _set(found, name, read(_given(value)), keys)
            _add(file, keys, value, name.replace("_", " "), found, used=True)
        case Accepts(harmless, refused, hint):
            _add(file, keys, value, _harmless(value, harmless, refused, hint), found)
        case CheckedBy(check):
            _add(file, keys, value, check(value, file.document.values), found)
        case Section(table):
            _walk(file, table, keys, _mapping(value), found)
        case Entries(name, table, must):
            below = _Parsing()
            _walk(file, table, (*keys, 0), _only(value, must), below)
            _enter(found, name, below, (*keys, 0))


def _by(file: _File, name: str) -> str:
    return f"replaced by {file.given[name]}"


def _replace(file: _File, rule: Sets | Entries, keys: KeyPath, value: Any, found: _Parsing) -> None:
    """Report a key whose field the command line gives; some keys of its entries still say how rows are trained on."""
    entries = value if isinstance(rule, Entries) and isinstance(value, list) else []
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        _add(file, keys, value, _by(file, rule.field), found)
    for index, entry in enumerate(entries):
        for key, own in entry.items() if isinstance(entry, Mapping) else ():
            still = rule.still.get(key) if isinstance(rule, Entries) else None
            if still is None or _is_empty(own):
                _add(file, (*keys, index, key), own, _by(file, rule.field), found)
            else:
                _apply(file, still, (*keys, index, key), own, found)


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


def _is_empty(value: Any) -> bool:
    return value in EMPTY and value is not False


def _given(value: Any) -> Any:
    if _is_empty(value):
        raise InvalidValue("given, not empty")
    return value


def _harmless(value: Any, harmless: Mapping[Any, Effect], refused: str, hint: str | None) -> Effect:
    value = tuple(value) if isinstance(value, list) else value
    for known, reason in harmless.items():
        if value == known and isinstance(value, bool) <= isinstance(known, bool):
            return reason
    others = [key for key in harmless if key is not False]
    must = "off" if harmless else "left out"
    if others:
        must = "one of " * (len(others) > 1) + ", ".join(shown(key) for key in others)
    raise InvalidValue(f"{must} ({refused})", hint)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValue("a mapping of keys to values")
    return value


def _only(value: Any, must: str) -> Mapping[str, Any]:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping) or not value[0]:
        raise InvalidValue(must, "join the files into one, or give the rows with --train and --val")
    return value[0]


def shown(value: Any) -> str:
    """Return a value as it is named in messages."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else f"{list(value) if isinstance(value, tuple) else value}"
