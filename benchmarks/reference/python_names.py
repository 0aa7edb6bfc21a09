"""The public names of `sweeps` and `analysis`."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import analysis
import sweeps
from benchmarks.reference.tables import page

LONGEST = 40  # letters of a default that is shown
INTRODUCTION = """
What is not here may change without notice. Importing a package loads no library; a name loads its own when it is
used. Types are complete (`py.typed`). The examples run as a test, on an experiment `stage4` below `runs`.
"""


def python_page() -> str:
    """Return the page of the public names, with signature and docstring."""
    parts = [part for package in (sweeps, analysis) for part in _package(package)]
    return page("Python", INTRODUCTION, *parts)


def _package(package: ModuleType) -> list[str]:
    names = [name for name in package.__all__ if not name.startswith("_")]
    return [f"## {package.__name__}", *(part for name in names for part in _name(package.__name__, name))]


def _name(package: str, name: str) -> list[str]:
    value = getattr(sweeps if package == "sweeps" else analysis, name)
    return [f"### `{package}.{name}`", f"```python\n{_signature(name, value)}\n```", _docstring(value)]


def _signature(name: str, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        fields = [f"    {one.name}: {one.type}{_default(one)}," for one in dataclasses.fields(value)]
        return "\n".join([f"{name}(", *fields, ")"])
    found = inspect.signature(value)
    parts = [f"    {one.name}: {one.annotation}{_shown(one.default)}," for one in found.parameters.values()]
    return "\n".join([f"{name}(", *parts, f") -> {found.return_annotation}"])


def _default(one: dataclasses.Field[Any]) -> str:
    return " = ..." if one.default_factory is not dataclasses.MISSING else _shown(one.default)


def _shown(default: Any) -> str:
    if default in (dataclasses.MISSING, inspect.Parameter.empty):
        return ""
    text = repr(str(default) if isinstance(default, Path) else default)
    return f" = {text}" if len(text) <= LONGEST else " = ..."


def _docstring(value: Any) -> str:
    """Return a docstring in Markdown; its examples, as doctest finds them, are code."""
    text = inspect.getdoc(value) or ""
    before, marker, examples = text.partition("\n\n>>> ")
    return f"{before}\n\n```pycon\n>>> {examples}\n```" if marker else before
