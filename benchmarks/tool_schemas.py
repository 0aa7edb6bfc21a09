"""Writes the types of the keys of axolotl, ms-swift and LLaMA-Factory that the importers know, for a test of exports.

The types are read from the sources of the tools in git repositories, without running or copying them::

    python -m benchmarks.tool_schemas axolotl=DIR ms-swift=DIR llamafactory=DIR
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.repositories import Repository, repositories
from sweeps.importers.axolotl import RATE_GROUP
from sweeps.importers.axolotl_datasets import DATASET
from sweeps.importers.files import TOOLS
from trainables.command import run

OUT = Path(__file__).parents[1] / "tests" / "trainables" / "export" / "tool_schemas.json"
JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean", "None": "null", "Any": "any",
              **dict.fromkeys(("list", "List", "tuple", "Tuple", "Sequence"), "array"),
              **dict.fromkeys(("dict", "Dict", "Mapping", "DictDefault"), "object")}  # fmt: skip
KINDS: dict[type, str] = {int: "integer", bool: "boolean", float: "number", type(None): "null"}
UNIONS, WRAPPERS = {"Optional", "Union"}, {"Annotated", "Required"}


@dataclass(frozen=True)
class ToolSource:
    """Where a tool keeps its version, and the classes of its arguments (folders or files)."""

    version: str
    arguments: tuple[str, ...]
    trains_with_transformers: bool = True


SOURCES = {
    "axolotl": ToolSource("VERSION", ("src/axolotl/utils/schemas",), trains_with_transformers=False),
    "ms-swift": ToolSource(
        "swift/version.py",
        ("swift/arguments/base_args", "swift/arguments/sft_args.py", "swift/arguments/tuner_args.py",
         "swift/trainers/arguments.py", "swift/rlhf_trainers/arguments.py"),
    ),
    "llamafactory": ToolSource("src/llamafactory/extras/env.py", ("src/llamafactory/hparams",)),
}  # fmt: skip


def types_of(annotation: ast.expr) -> list[str]:
    """Return the JSON types that an annotation allows; texts in quotes are the only allowed texts."""
    match annotation:
        case ast.Constant(value=None):
            return ["null"]
        case ast.Constant(value=str(text)):  # a forward reference
            return types_of(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, right=right):
            return _merged(left, right)
        case ast.Subscript(value=outer, slice=inner):
            return _subscript(ast.unparse(outer).rsplit(".", 1)[-1], inner)
        case _:
            # other names are enumerations of texts, or models
            return [JSON_TYPES.get(ast.unparse(annotation).rsplit(".", 1)[-1], "any")]


def _subscript(outer: str, inner: ast.expr) -> list[str]:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Literal":
        values = [part.value if isinstance(part, ast.Constant) else None for part in parts]
        return list(dict.fromkeys(f"'{one}'" if isinstance(one, str) else KINDS[type(one)] for one in values))
    if outer in UNIONS:
        return [*_merged(*parts), *(["null"] if outer == "Optional" else [])]
    if outer in WRAPPERS:
        return types_of(parts[0])
    return [JSON_TYPES.get(outer, "any")]


def _merged(*annotations: ast.expr) -> list[str]:
    return list(dict.fromkeys(name for one in annotations for name in types_of(one)))


def annotated(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the annotated fields of every class in `source`, with their types."""
    for node in ast.walk(ast.parse(source)):
        for one in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                yield one.target.id, types_of(one.annotation)


def schema_of(tool: str, repository: Repository) -> dict[str, Any]:
    """Return version, commit and date of a tool, and the types of the keys that the importer knows."""
    source = SOURCES[tool]
    found = _of_transformers() if source.trains_with_transformers else {}
    for path in source.arguments:
        for text in repository.python_files(path):
            for name, types in annotated(text):
                # a class may narrow the type of another one: all of them are allowed
                found[name] = list(dict.fromkeys([*found.get(name, []), *types]))
    known = {*TOOLS[tool].table, *(DATASET if tool == "axolotl" else ()), *(RATE_GROUP if tool == "axolotl" else ())}
    version = repository.file(source.version)
    named = re.search(r"VERSION\w* *= *['\"](.+?)['\"]", version, re.IGNORECASE)
    return {
        "version": named[1] if named else version.strip(),
        "commit": repository.git("rev-parse", "--short=9", "HEAD").strip(),
        "date": repository.git("show", "-s", "--format=%cs", "HEAD").strip(),
        "keys": {name: found[name] for name in sorted(known & found.keys())},
    }


def _of_transformers() -> dict[str, list[str]]:
    import inspect

    from transformers import training_args, training_args_seq2seq

    return {name: types for module in (training_args, training_args_seq2seq)
            for name, types in annotated(inspect.getsource(module))}  # fmt: skip


def main(
    directories: Annotated[list[str], typer.Argument(metavar="TOOL=DIR...", help="The git directory of each tool.")],
) -> None:
    """Write the table."""
    found = repositories(directories, SOURCES)
    tools = {tool: schema_of(tool, found[tool]) for tool in SOURCES}
    lines = []
    for tool, schema in tools.items():
        keys = ",\n".join(f"   {json.dumps(name)}: {json.dumps(types)}" for name, types in schema["keys"].items())
        head = ", ".join(f"{json.dumps(name)}: {json.dumps(schema[name])}" for name in ("version", "commit", "date"))
        lines.append(f' {json.dumps(tool)}: {{{head}, "keys": {{\n{keys}}}}}')
    OUT.write_text("{\n" + ",\n".join(lines) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
