"""Reads entries of LLaMA-Factory's `dataset_info.json`: `dataset_info.json:NAME` is the data of that entry.

`file_name`, `formatting`, `columns` and `tags` are supported; image paths are relative to the table. An entry is read
as LLaMA-Factory reads it: without `columns` these are `instruction`, `input` and `output`, or `conversations`; with
`columns` or `tags` what they name, and nothing else. Other columns are ignored. Keys that would change which rows are
read or what is trained on are errors.
Source: LLaMA-Factory, data/README.md and src/llamafactory/data/parser.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainables.data.formats import Format, typo
from trainables.errors import UserError, nearest
from trainables.io.files import resolved
from trainables.io.jsonl import parse
from trainables.io.places import elsewhere, is_elsewhere, permitted
from trainables.local_paths import local_path

TABLE = "dataset_info.json"
ALPACA = Format("alpaca", question="instruction", context="input", answer="output", images=(), is_entry=True)
SHAREGPT = Format(
    "conversations", turns="conversations", images=(), turn_keys=(("from", "value"),),
    speakers={"human": "user", "gpt": "assistant", "system": "system"}, is_entry=True,
)  # fmt: skip
ALPACA_COLUMNS = {"prompt": "question", "query": "context", "response": "answer", "history": "history"}
SHARED_COLUMNS = {"system": "system", "images": "images"}
REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
OTHERS = {  # keys that are accepted only with values that have no effect
    "ranking": (False,),
    "split": ("train",),
    "subset": (),
    "folder": (),
    "num_samples": (),
    "revision": (),
}
TAGS = (
    "role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag", "observation_tag", "function_tag",
)  # fmt: skip
KNOWN = ("file_name", "formatting", "columns", "tags")
UNREAD_COLUMNS = ("tools", "videos", "audios", "chosen", "rejected", "kto_tag")


@dataclass(frozen=True)
class DataFile:
    """A data file, its format (None: detected by keys), the directory of its images, its entry's settings as JSON.

    `prefix` begins the ids of its rows, where several files are joined.
    """

    file: Path
    format: Format | None
    pictures: Path
    entry: str = ""
    prefix: str = ""


def locate(path: Path) -> DataFile:
    """Resolve `path`: a data file, or an entry `TABLE.json:NAME`.

    Raises:
        UserError: the table or the entry does not exist, or the entry is not supported; names file and key.
    """
    table, colon, name = str(path).rpartition(":")
    if path.exists() or not colon or not table.endswith(".json"):
        if path.name == TABLE and path.is_file():
            raise UserError(f"{path}: an entry must be chosen, but none is named",
                            f"add it: `{path}:NAME`, with one of {', '.join(_entries(path))}")  # fmt: skip
        return DataFile(path, None, path.parent)
    entries = _entries(Path(table))
    if name not in entries:
        raise UserError(f"{table}: `{name}` must be an entry, but there is none of this name", nearest(name, entries))
    return _data_file(Path(table), entries[name], f"{table}: `{name}`")


def _entries(table: Path) -> Mapping[str, Any]:
    if not table.is_file():
        raise UserError(f"a table of data must exist, but {table} does not", "check the path; it may be relative")
    try:
        values = parse(table.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}: a table of data must be one JSON object in UTF-8, but {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{table}: a table of data must be a JSON object, but got {type(values).__name__}")
    return values


def _data_file(table: Path, entry: Any, where: str) -> DataFile:
    if not isinstance(entry, dict):
        raise UserError(f"{where} must be an object, but got {entry!r}")
    for key, value in entry.items():
        _check_key(key, value, where)
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: `file_name` must name a file, but got {name!r}")
    form = _format(entry, where)
    settings = json.dumps({key: entry[key] for key in KNOWN[1:] if key in entry}, sort_keys=True)
    path = table.parent / local_path(name, f"{where}: `file_name`")
    file, directories = resolved(path, f"{where}: `file_name`"), permitted([table.parent])
    if is_elsewhere(file, directories):
        raise elsewhere(where, "`file_name`", file, directories)
    return DataFile(path, form, table.parent, settings)


def _check_key(key: str, value: Any, where: str) -> None:
    if key in REMOTE:
        raise UserError(f"{where}: `{key}` must not be given, because rows are read from files, but got {value!r}",
                        "download the rows and name their file in `file_name`")  # fmt: skip
    if key in OTHERS and value is not None and value not in OTHERS[key]:
        raise UserError(f"{where}: `{key}` must not be given, because it is not supported, but got {value!r}",
                        "write the rows to use into a separate file")  # fmt: skip
    if key not in (*KNOWN, *OTHERS):
        raise UserError(f"{where}: `{key}` is not a key of an entry", nearest(key, KNOWN))


def _format(entry: Mapping[str, Any], where: str) -> Format:
    formatting = entry.get("formatting") or "alpaca"
    if formatting not in {"alpaca", "sharegpt"}:
        raise UserError(f"{where}: `formatting` must be alpaca or sharegpt, but got {formatting!r}",
                        "for rows in OpenAI's format write `sharegpt` with `tags`")  # fmt: skip
    columns = _names(entry, "columns", where)
    if formatting == "alpaca":
        if entry.get("tags"):
            raise UserError(f"{where}: `tags` must not be given, because rows of `alpaca` have no turns, but it is")
        return _of_columns(columns, ALPACA, ALPACA_COLUMNS, where)
    form = _of_columns(columns, SHAREGPT, {"messages": "turns"}, where)
    return _tagged(form, _names(entry, "tags", where), where)


def _of_columns(columns: Mapping[str, str], usual: Format, own: Mapping[str, str], where: str) -> Format:
    known = {**own, **SHARED_COLUMNS}
    for column, name in columns.items():
        if column in UNREAD_COLUMNS:
            raise UserError(f"{where}: `columns.{column}` must not be given, but it names `{name}`",
                            "tools, audio, video and preferences are not supported")  # fmt: skip
        if column not in known:
            raise UserError(f"{where}: `columns.{column}` is not a column of `{usual.name}`", nearest(column, known))
    if not columns:
        return usual
    parts: dict[str, Any] = {known[column]: name for column, name in columns.items()}
    parts["images"] = (columns["images"],) if "images" in columns else ()
    if not {"question", "turns"} & parts.keys():
        raise UserError(f"{where}: `columns` must name `{next(iter(own))}`, but names {', '.join(columns)}")
    if usual is ALPACA and parts.keys() == {"question", "images"}:
        return Format("text", text=parts["question"], images=(), is_entry=True)
    if usual is ALPACA and "answer" not in parts:
        raise UserError(f"{where}: `columns` must name `response`, but names {', '.join(columns)}")
    return replace(usual, **{part: "" for part in own.values()} | parts)


def _tagged(form: Format, tags: Mapping[str, str], where: str) -> Format:
    for tag in tags:
        if tag not in TAGS:
            raise UserError(f"{where}: `tags.{tag}` is not a tag", typo(tag, TAGS))
    if not tags:
        return form
    missing = [tag for tag in TAGS[:4] if tag not in tags]
    if missing:
        raise UserError(f"{where}: `tags` must name {', '.join(TAGS[:4])}, but not {', '.join(missing)}",
                        "LLaMA-Factory has no default for a tag that an entry with `tags` does not name")  # fmt: skip
    speakers = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant"}
    if "system_tag" in tags:
        speakers[tags["system_tag"]] = "system"
    if len(speakers) < len(tags.keys() & {"user_tag", "assistant_tag", "system_tag"}):
        raise UserError(f"{where}: `tags` must name different speakers, but two of them are the same")
    return replace(form, turn_keys=((tags["role_tag"], tags["content_tag"]),), speakers=speakers)


def _names(entry: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    values = entry.get(key) or {}
    if not isinstance(values, dict):
        raise UserError(f"{where}: `{key}` must be an object of names, but got {values!r}")
    named = {part: name for part, name in values.items() if name is not None}
    for part, name in named.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: `{key}.{part}` must be a name, but got {name!r}")
    return named
