"""Writes a placement as one regular expression over full module names.

PEFT matches a `target_modules` string with `re.fullmatch` against each full module name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

INDEXED = re.compile(r"(?P<before>.+?)\.(?P<index>\d+)\.(?P<own>.+)")


def module_expression(modules: Sequence[str]) -> str:
    """Return an expression that `re.fullmatch` matches for exactly these module names.

    Raises:
        ValueError: a name has no layer index; every linear layer of a tower has one.
    """
    layers: dict[tuple[str, str], list[str]] = {}
    for name in modules:
        found = INDEXED.fullmatch(name)
        if found is None:
            raise ValueError(f"`{name}` has no layer index")
        layers.setdefault((found["before"], found["index"]), []).append(found["own"])
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (before, index), own in layers.items():
        alike.setdefault((before, tuple(own)), []).append(index)
    return "|".join(
        rf"{re.escape(before)}\.{_either(indexes)}\.{_linears(own)}" for (before, own), indexes in alike.items()
    )


def _linears(own: tuple[str, ...]) -> str:
    groups: dict[str, list[str]] = {}
    for name in own:
        block, _, linear = name.rpartition(".")
        groups.setdefault(block, []).append(linear)
    parts = [rf"{re.escape(block)}\.{_either(names)}" if block else _either(names) for block, names in groups.items()]
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"


def _either(words: Iterable[str]) -> str:
    escaped = [re.escape(word) for word in words]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
