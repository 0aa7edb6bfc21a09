"""Tables and texts in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.templates import TAG_START


def page(title: str, *parts: str) -> str:
    """Return a page of the reference, which says where it comes from."""
    made = "<!-- `make reference` writes this page from the code. -->"
    return "\n\n".join([f"# {title}", made, *(part.strip() for part in parts)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(value: object) -> str:
    """Return a value as code, nothing for an empty text."""
    return f"`{value}`" if str(value) else ""


def type_text(schema: Mapping[str, Any]) -> str:
    """Return the type of a value in a JSON schema in words, with its range."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_text(one) for one in schema["anyOf"]))
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if values:
        return ", ".join(map(code, values))
    if schema.get("type") == "array":
        return f"list of {type_text(schema.get('items', {}))}"
    kind = str(schema.get("type", "any"))
    return " ".join([NAMES.get(kind, kind), *_range(schema)])


NAMES = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "none", "object": "mapping"}
LIMITS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))


def _range(schema: Mapping[str, Any]) -> list[str]:
    found = [f"{sign} {schema[key]:,}" for key, sign in LIMITS if key in schema]
    return [", ".join(found)] if found else []


def _cell(text: str) -> str:
    """Escape what stands outside of code spans; a bar ends a cell even in code."""
    parts = text.split("`")
    escaped = [TAG_START.sub("&lt;", one) if number % 2 == 0 else one for number, one in enumerate(parts)]
    return "`".join(escaped).replace("|", "\\|").replace("\n", " ")
