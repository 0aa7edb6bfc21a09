"""Reads a configuration file, YAML or JSON, and tells trials of this project from configurations of other tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json
from trainables.io.strict_yaml import Document, parse_yaml, read_text
from trainables.spec import TrialSpec, read_spec

RECORD_FILES = ("spec.json", "provenance.json")
RECORD_KEYS = ("spec", "placement")  # of a provenance.json, of a spec.json


def own_spec(config: Path, form: str) -> TrialSpec | None:
    """Return the trial in a spec.json or provenance.json; None for a configuration of another tool.

    Raises:
        UserError: the file is a broken trial.
    """
    if form or config.suffix != ".json" or not config.is_file():
        return None
    try:
        values = read_json(config)
    except FileDamaged as error:
        if config.name in RECORD_FILES:
            raise UserError(error.message, "take the file from the record's directory again") from None
        return None  # reading it as a configuration names the line
    is_object = isinstance(values, Mapping)
    is_own = config.name in RECORD_FILES or (is_object and any(key in values for key in RECORD_KEYS))
    return read_spec(values.get("spec", values) if is_object else values, where=str(config)) if is_own else None


def read_document(path: Path) -> Document:
    """Read a configuration with the line of each key.

    Raises:
        UserError: the file cannot be read, or is no strict YAML or JSON; names file and line.
    """
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return parse_yaml(text, path)
    # JSON is YAML if its tabs are spaces; a string of JSON holds no tab
    lines = parse_yaml(text.replace("\t", " "), path).lines
    try:
        values = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: must be JSON, but {error.msg.lower()}",
                        "name a YAML file .yaml") from None  # fmt: skip
    except ValueError as error:
        raise UserError(f"{path}: numbers must be finite, but got {error}", "write a number") from None
    return Document(path, _object(values), lines)


def _no_number(text: str) -> float:
    raise ValueError(text)


def _object(values: Any) -> Mapping[str, Any]:
    # parse_yaml has refused everything else
    return values if isinstance(values, Mapping) else {}
