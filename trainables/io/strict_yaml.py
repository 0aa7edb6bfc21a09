"""Strict YAML: duplicate keys, ambiguous numbers and alias bombs are errors; the line of every key is kept.

`docs/decisions/strict-yaml.md` compares it with libraries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError

if TYPE_CHECKING:
    import yaml


KeyPath = tuple[str | int, ...]

MAXIMUM_BYTES = 2**20
MAXIMUM_VALUES = 10_000  # with all aliases expanded
MAXIMUM_DEPTH = 32
TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null")}
MERGE = "tag:yaml.org,2002:merge"

# looks like a number, but YAML 1.1 reads it as text: 1e-4 without a point, 1.0e4 without a sign, 08
NUMBER_LIKE = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?")
# YAML 1.1 reads these as octal and base-60 numbers: 010 is 8, 1:30 is 90
SURPRISING = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


class ScientificNumber(float):
    """A number such as 1e-4, which YAML 1.1 reads as text; `written` is that text, for keys that are texts."""

    written: str

    def __new__(cls, written: str) -> ScientificNumber:
        """Read the number that `written` shows."""
        number = super().__new__(cls, written.replace("_", ""))
        number.written = written
        return number

    def __reduce__(self) -> tuple[type[ScientificNumber], tuple[str]]:  # copies keep the text
        return ScientificNumber, (self.written,)


MAPPING_HINT = "write `key: value`, one per line"


@dataclass(frozen=True)
class Document:
    """Values of a YAML file and the line of each key, counted from 1: `lines[("datasets", 0, "path")]`."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def where(self, *keys: str | int) -> str:
        """Return "file:line: `key`" for the value at `keys`; a missing key gets the line of its nearest parent."""
        known = next((keys[:end] for end in range(len(keys), 0, -1) if keys[:end] in self.lines), None)
        place = f"{self.path}:{self.lines[known]}" if known else str(self.path)
        return f"{place}: `{key_text(keys)}`" if keys else place


def key_text(keys: KeyPath) -> str:
    """Format a key path: `datasets[0].path`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def read_yaml(path: Path, list_key: str | None = None) -> Document:
    """Read one mapping of texts, numbers, booleans, nulls, lists and mappings.

    With `list_key` the file may be one list instead, which becomes the value of this key.

    Raises:
        UserError: the file cannot be read, is not YAML, or holds a value that YAML 1.1 does not read as it looks; names
            file, line and key.
    """
    return parse_yaml(read_text(path), path, list_key)


def parse_yaml(text: str, path: Path, list_key: str | None = None) -> Document:
    """Read one mapping from `text`; errors name `path`.

    Raises:
        UserError: as `read_yaml`.
    """
    import yaml

    try:
        _check_depth(text, path)
        loader, aliases = _loader_of(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _broken(error, text, path) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: must be YAML, but {str(error).splitlines()[0]}", "save it as plain text") from None
    reading = _Reading(path, loader, {}, aliases)
    if list_key and isinstance(node, yaml.SequenceNode):
        return Document(path, {list_key: reading.value(node, (list_key,), ())}, reading.lines)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: a configuration must be `key: value` lines, but there are none", MAPPING_HINT)
    return Document(path, reading.value(node, (), ()), reading.lines)


def _loader_of(text: str) -> tuple[yaml.SafeLoader, list[yaml.Node]]:
    """Return a loader that gives each alias a node with its own line, and the list of these nodes."""
    import yaml

    aliases: list[yaml.Node] = []

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None
            node = super().compose_node(parent, index)
            if alias is None or node is None:
                return node
            node = copy(node)  # shares `value` with the anchor's node, which may still be incomplete
            node.start_mark = alias.start_mark
            aliases.append(node)
            return node

    return Loader(text), aliases


class _Reading:
    """Converts nodes to values and counts them, with aliases expanded."""

    def __init__(
        self, path: Path, loader: yaml.SafeLoader, lines: dict[KeyPath, int], aliases: list[yaml.Node]
    ) -> None:
        self.path, self.loader, self.lines = path, loader, lines
        self.aliases = {id(node) for node in aliases}
        self.count = 0

    def value(self, node: yaml.Node, keys: KeyPath, above: tuple[yaml.Node, ...]) -> Any:
        """Return the value of `node` at `keys`; `above` are the nodes that contain it."""
        import yaml

        self.count += 1
        if self.count > MAXIMUM_VALUES:
            raise self._too_many((*above, node), keys)
        if any(isinstance(node.value, list) and node.value is one.value for one in above):
            raise UserError(
                f"{self._place(node, keys)} must not contain itself, but its alias refers to a value that contains it",
                "replace the alias by the value",
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys, (*above, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            self.lines[keys] = self.lines.get(keys, node.start_mark.line + 1)
            return [self._item(one, (*keys, index), (*above, node)) for index, one in enumerate(node.value)]
        return self._scalar(node, keys)

    def _too_many(self, nodes: tuple[yaml.Node, ...], keys: KeyPath) -> UserError:
        # nodes[i] is the node at keys[:i]; report the outermost of nested aliases
        for depth, node in enumerate(nodes):
            if id(node) in self.aliases:
                return UserError(
                    f"{self._place(node, keys[:depth])} must expand to at most {MAXIMUM_VALUES:,} values, but its "
                    "aliases give more",
                    "replace the alias by the values",
                )
        return UserError(
            f"{self._place(nodes[-1], keys)}: a configuration must hold at most {MAXIMUM_VALUES:,} values, but it "
            "holds more",
            "put rows into a data file",
        )

    def _item(self, node: yaml.Node, keys: KeyPath, above: tuple[yaml.Node, ...]) -> Any:
        self.lines[keys] = node.start_mark.line + 1
        return self.value(node, keys, above)

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            raise self._tagged(node, keys)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, keys)
            if key in values:
                raise UserError(
                    f"{self._place(key_node, (*keys, key))} must occur once, but it is also on line "
                    f"{self.lines[(*keys, key)]}",
                    "remove one of the two; plain YAML would silently use the last",
                )
            self.lines[(*keys, key)] = key_node.start_mark.line + 1
            values[key] = self.value(value_node, (*keys, key), above)
        return values

    def _key(self, node: yaml.Node, keys: KeyPath) -> str:
        if node.tag == MERGE:
            raise UserError(f"{self._place(node, (*keys, '<<'))} is not supported", "write out the merged keys")
        if TAGS.get(node.tag) != "str" or not node.value:
            raise UserError(
                f"{self._place(node, keys)}: a key must be a text, but got {node.value!r}"[:400],
                'YAML reads on, off, yes and no as booleans and 1 as a number: write them quoted, "on"',
            )
        return node.value

    def _scalar(self, node: yaml.Node, keys: KeyPath) -> Any:
        tag, text = TAGS.get(node.tag), node.value
        if tag is None:
            raise self._tagged(node, keys)
        plain = getattr(node, "style", None) is None
        if tag == "str" and plain and NUMBER_LIKE.fullmatch(text):
            if "e" in text.lower():
                return self._finite(ScientificNumber(text), node, keys)
            raise UserError(f"{self._place(node, keys)} must be a number or a text, but `{text}` could be either",
                            "write a number without leading zeros, quote a text")  # fmt: skip
        if tag in {"int", "float"} and SURPRISING.fullmatch(text):
            value = self.loader.construct_object(node)
            raise UserError(f"{self._place(node, keys)} must be a plain number, but YAML 1.1 reads `{text}` as {value}",
                            "write the number out, or quote it if it is a text")  # fmt: skip
        try:
            value = self.loader.construct_object(node)
        except (ValueError, KeyError):  # a tag that does not match the text, or a number with thousands of digits
            raise UserError(f"{self._place(node, keys)} must be of type {tag}, but got `{text[:40]}`",
                            "quote it if it is a text") from None  # fmt: skip
        return self._finite(value, node, keys)

    def _finite(self, value: Any, node: yaml.Node, keys: KeyPath) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{self._place(node, keys)} must be a finite number, but got `{node.value}`",
                            "quote it if it is a text")  # fmt: skip
        return value

    def _tagged(self, node: yaml.Node, keys: KeyPath) -> UserError:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        return UserError(
            f"{self._place(node, keys)} must be a text, a number, a boolean, null, a list or a mapping, "
            f"but YAML reads a value of type `{kind}`",
            "quote it if it is a text",
        )

    def _place(self, node: yaml.Node, keys: KeyPath) -> str:
        place = f"{self.path}:{node.start_mark.line + 1}"
        return f"{place}: `{key_text(keys)}`" if keys else place


def read_text(path: Path) -> str:
    """Read a configuration file.

    Raises:
        UserError: the file cannot be read, is larger than 1 MiB, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"a configuration must be a readable file, but {path}: {error.strerror}",
            "check the path, which may be relative, and the file's permissions",
        ) from None
    if len(content) > MAXIMUM_BYTES:
        raise UserError(f"{path}: a configuration must be at most {MAXIMUM_BYTES:,} bytes, but this is larger",
                        "is it a data file?")  # fmt: skip
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: must be UTF-8, but byte {error.start} is not", "save it as UTF-8") from None


def _check_depth(text: str, path: Path) -> None:
    # parsing events does not recurse, but composing nodes does and could exhaust the stack
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAXIMUM_DEPTH:
            raise UserError(
                f"{path}:{event.start_mark.line + 1}: values must nest at most {MAXIMUM_DEPTH} levels deep, but these "
                "nest deeper",
                "check for an unclosed bracket",
            )


def _broken(error: yaml.MarkedYAMLError, text: str, path: Path) -> UserError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())] or "'\\t'" in str(error.problem):
        return UserError(f"{path}:{line}: must be indented with spaces, but there is a tab: {_key_of(written)}",
                         "replace tabs by spaces")  # fmt: skip
    problem = str(error.problem or error.context).removeprefix("but ")
    return UserError(
        f"{path}:{line}: must be YAML, but {problem}: {_key_of(written)}",
        "close every quote and bracket, indent consistently, quote a text that contains `: ` or ` #`, and write one "
        "document per file",
    )


def _key_of(line: str) -> str:
    return f"`{line.strip().split(':')[0][:60]}`"
