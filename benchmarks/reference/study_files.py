"""The keys of the files of `--config`, from their schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.reference.tables import code, page, table, type_text
from sweeps.cli.studies import line_of_study
from sweeps.cli.study_file import SCHEMA_FILE, model_of, written

STUDY = "smoke"
MOST_KINDS = 2  # an option of the command line has four, which say nothing
INTRODUCTION = f"""
`footprint STUDY --config FILE` reads a study from one YAML file, and `footprint STUDY --write-config FILE` writes
one, with `{SCHEMA_FILE}` beside it: editors that know JSON Schema complete keys and mark wrong ones. A file states
what it changes; what it leaves out keeps the value of the study. Options on the command line win over those in the
file. Paths are relative to the file. An unknown key is refused with its line and the nearest known key.
"""
SECTIONS = {"ArmInFile": "An arm", "Options": "Options", "Limits": "Limits", "Constraint": "Constraint"}


def study_files_page() -> str:
    """Return the page of the keys of a file, with those that a study has."""
    line = line_of_study("stage4")
    schema = model_of(line).model_json_schema()
    example = written(line_of_study(STUDY), {}, [])
    parts = [part for name, title in SECTIONS.items() for part in (f"## {title}", _keys(schema["$defs"][name]))]
    rules = [
        (code(name), ", ".join(code(key) for key in schema["$defs"][name]["properties"] if key != "rule"))
        for name in schema["$defs"]
        if "rule" in schema["$defs"][name]["properties"]
    ]
    return page(
        "Configuration of a study", INTRODUCTION, "## Keys", _keys(schema), *parts,
        "## Guards", "A guard has the key `rule` and the keys of its rule ([guards](guards.md)).",
        table(("rule", "keys"), rules), f"## Example: the study {STUDY}, whole", f"```yaml\n{example}```",
        "The keys of `settings` are the [settings of a trial](settings.md), or `epochs` instead of `steps`. The "
        "options are those of `footprint stage4`; the file of another study takes its own.",
    )  # fmt: skip


def _keys(schema: Mapping[str, Any]) -> str:
    rows = [
        (code(name), _type(one), _default(one), one.get("description", ""))
        for name, one in schema["properties"].items()
    ]
    described = any(row[-1] for row in rows)
    header = ("key", "type", "default", "meaning")
    return table(header if described else header[:-1], rows if described else [row[:-1] for row in rows])


def _type(schema: Mapping[str, Any]) -> str:
    given = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    kinds = list(dict.fromkeys(map(type_text, given)))
    return " or ".join(kinds) if len(kinds) <= MOST_KINDS else "text, number, or list of them"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    return "" if default is None else code(default)
