"""Fields of the cloud providers' and Kubernetes' APIs that `clusters/` uses, and their types, by `api_fields.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

TABLES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,), "integer": (int,), "string": (str,), "quantity": (int, str), "object": (dict,),
}  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no others, with its path; `[]` stands for every element of a list.

    A key with a dot or a slash, as labels and resources have, is written as it is.
    """
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, value


def field_of(path: str, known: Mapping[str, str]) -> str | None:
    """Return the field of a table that a path is: itself, or `PARENT.*` where a user chooses the keys."""
    if path in known:
        return path
    return next((one for one in known if one.endswith(".*") and path.startswith(one[:-1])), None)


def faults(value: Any, api: str) -> list[str]:
    """Return what an API does not take: unknown fields, and values of another type."""
    known = TABLES[api]["fields"]
    found = []
    for path, leaf in leaves(value):
        field = field_of(path, known)
        if field is None:
            found.append(f"{api} has no field {path}")
        elif not isinstance(leaf, TYPES[known[field]]) or (isinstance(leaf, bool) and known[field] != "boolean"):
            found.append(f"{path} must be of type {known[field]}, but is {leaf!r}")
    return found
