"""Reads and checks PEFT's `adapter_config.json`, because PEFT's own errors name neither file nor key.

Only common keys are checked here; PEFT checks the others when it adds the adapter to its base.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainables.errors import UserError, quoted
from trainables.io.files import MOST_FOREIGN_BYTES, FileDamaged, read_json
from trainables.model.peft_files import ADAPTER_CONFIG

SAVE_AGAIN_HINT = "use the file that `model.save_pretrained(DIR)` wrote"


class ValueRule(NamedTuple):
    """Rule for the value of a key: as text, as a function, and whether null is the same as no key."""

    must: str
    holds: Callable[[Any], bool]
    may_be_null: bool = True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)


def _is_expression(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value) and re.compile(value) is not None
    except re.error:
        return False


def _are_by_name(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _are_layers(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)


RULES: dict[str, ValueRule] = {
    "peft_type": ValueRule("a text such as LORA", lambda value: isinstance(value, str), may_be_null=False),
    "base_model_name_or_path": ValueRule("a path or a name on the hub, or null", lambda value: isinstance(value, str)),
    "target_modules": ValueRule(
        "a list of module names, or one regular expression", lambda value: _are_names(value) or _is_expression(value)
    ),
}
LORA_RULES: dict[str, ValueRule] = {
    "r": ValueRule("a whole number above 0", _is_count, may_be_null=False),
    "lora_alpha": ValueRule("a number", _is_number, may_be_null=False),
    "lora_dropout": ValueRule("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1, False),
    "rank_pattern": ValueRule("an object of module names and ranks", _are_by_name(_is_count)),
    "alpha_pattern": ValueRule("an object of module names and numbers", _are_by_name(_is_number)),
    "modules_to_save": ValueRule("a list of module names", lambda value: value == [] or _are_names(value)),
    "use_rslora": ValueRule("true or false", lambda value: isinstance(value, bool)),
    "exclude_modules": ValueRule(
        "a list of module names, or one regular expression",
        lambda value: value in ("", []) or _are_names(value) or _is_expression(value),
    ),
    "layers_to_transform": ValueRule("a layer's number, or a list of them", _are_layers),
    "layers_pattern": ValueRule(
        "a name, or a list of names", lambda value: value == [] or isinstance(value, str) or _are_names(value)
    ),
}


def read_adapter_config(directory: Path) -> dict[str, Any]:
    """Read the configuration of an adapter directory.

    Raises:
        UserError: it is not a JSON object, or a value is invalid; names file and key.
    """
    path = directory / ADAPTER_CONFIG
    values = read_object(path, SAVE_AGAIN_HINT)
    if "peft_type" not in values:
        raise UserError(
            f"{path}: `peft_type` must be a text such as LORA, but there is none: it is no configuration of PEFT",
            SAVE_AGAIN_HINT,
        )
    rules = RULES | (LORA_RULES if values.get("peft_type") == "LORA" else {})
    for key, rule in rules.items():
        _check(values, key, rule, path)
    return values


def read_object(path: Path, hint: str) -> dict[str, Any]:
    """Read a JSON object from a file that is user input; if it is broken, the exit code is 2, not that of a record.

    Raises:
        UserError: the file cannot be read or is not a JSON object; names the file.
    """
    try:
        values = read_json(path, MOST_FOREIGN_BYTES)
    except (FileDamaged, OSError) as error:
        raise UserError(getattr(error, "message", f"{path}: a file must be readable, but {error}"), hint) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: it must be a JSON object, but got {quoted(values)}", hint)
    return values


def _check(values: Mapping[str, Any], key: str, rule: ValueRule, path: Path) -> None:
    value = values.get(key)
    if key not in values or (value is None and rule.may_be_null):
        return
    if key == "target_modules" and value == [] and values.get("target_parameters"):
        return  # an adapter on experts alone
    if not rule.holds(value):
        raise UserError(f"{path}: `{key}` must be {rule.must}, but got {quoted(value)}", SAVE_AGAIN_HINT)
