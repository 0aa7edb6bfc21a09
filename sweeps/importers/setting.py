"""One setting of an imported trial, and where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeps.importers.parsing import ParsedConfig


@dataclass(frozen=True)
class Setting:
    """One setting of the trial; `source` is the key, default or computation that it comes from.

    `differs` says in one sentence how results differ from the tool's because of this setting; empty if they do not.
    """

    name: str
    value: Any
    source: str
    differs: str = ""


def plain(parsed: ParsedConfig, name: str, field: str | None = None) -> Setting:
    """Return a setting with the value of a field, the setting's own name unless given."""
    return Setting(name, parsed.value(field or name), parsed.origin(field or name))
