"""The settings of a trial, from its model."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from benchmarks.reference.tables import code, page, table, type_text
from trainables.placement import Placement
from trainables.schedule import SCHEDULES
from trainables.setting_meanings import MEANINGS, PLACEMENT_MEANINGS
from trainables.spec import TrialSpec, default_settings

HEADER = ("setting", "type and range", "default", "meaning")
INTRODUCTION = """
A study sets them in its `settings`, an arm in its own, a launch by an option or by `--set NAME=VALUE`, a file of
`--config` under `settings`. A study may set others than these defaults: its plan shows what holds. Rates are per
optimizer step.
"""
PLANNED = """
A plan fills these in from the base, the files and the arms; `spec.json` of a record holds them. Files count in a
trial's id by their hash.
"""


def settings_page() -> str:
    """Return the page of all settings of a trial."""
    chosen = default_settings()
    return page(
        "Settings of a trial", INTRODUCTION, _table(TrialSpec, MEANINGS, chosen),
        "## What a plan fills in", PLANNED, _table(TrialSpec, MEANINGS, TrialSpec.model_fields.keys() - chosen.keys()),
        "## Placement", _table(Placement, PLACEMENT_MEANINGS, Placement.model_fields),
    )  # fmt: skip


def _table(model: type[BaseModel], meanings: Mapping[str, str], names: Mapping[str, object] | set[str]) -> str:
    properties = model.model_json_schema(mode="validation")["properties"]
    kinds = {name: type_text(properties[name]) for name in model.model_fields}
    if model is TrialSpec:
        kinds["schedule"] = ", ".join(map(code, SCHEDULES))  # checked by a validator, which no schema shows
    return table(
        HEADER,
        [
            (code(name), kinds[name], _default(model, name), meanings[name])
            for name in model.model_fields
            if name in names
        ],
    )


def _default(model: type[BaseModel], name: str) -> str:
    default = model.model_fields[name].get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "must be given"
    if isinstance(default, BaseModel):
        return "none"
    return code(default) if default not in (None, (), "") else "none"
