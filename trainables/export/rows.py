"""Describes data files to other tools: the keys that declare their format, and what the tool cannot read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from trainables.data.dataset_info import locate
from trainables.data.formats import FORMATS, Format
from trainables.data.joined_files import joined
from trainables.data.turns import ROUND_KEYS
from trainables.errors import UserError
from trainables.io.jsonl import objects

SAMPLED_ROWS = 200  # rows of a file from which its format is detected
MESSAGES = FORMATS[0]
SWIFT_TURNS = ("", "messages", "conversations", "conversation")
SWIFT_QUESTIONS = ("", "prompt", "instruction", "query")
CONVERT = "convert the rows to `messages` with `role` and `content`"


@dataclass(frozen=True)
class WrittenRows:
    """Format of the first rows of a file.

    `turn_keys` are the keys of role and text, `images` is the key of pictures; `parts` is true if contents are lists of
    parts; `pictured` if a row has a picture; `others` are further formats in the same file; `unread` is the reason why
    the format is unknown.
    """

    file: Path
    form: Format = MESSAGES
    turn_keys: tuple[str, str] = ("role", "content")
    images: str = ""
    parts: bool = False
    pictured: bool = False
    system: bool = False
    history: bool = False
    shape: str = ""
    others: tuple[str, ...] = ()
    unread: str = ""


def written_rows(path: Path) -> WrittenRows:
    """Detect the format of a file or of an entry `dataset_info.json:NAME`; `unread` is set if it cannot be read."""
    try:
        files = joined(path)
        if len(files) > 1:
            return WrittenRows(path, unread=f"it joins {len(files)} files; list each file as an entry of its own")
        found = locate(path)
        sample = [row for _, row in islice(objects(found.file), SAMPLED_ROWS) if not isinstance(row, UserError)]
    except (UserError, OSError) as error:
        return WrittenRows(path, unread=error.message if isinstance(error, UserError) else str(error.strerror))
    forms = _forms_in(sample)
    form = found.format or (forms[0] if forms else None)
    if form is None:
        return WrittenRows(found.file, unread=f"{found.file} has no row of a known format")
    turns = [turn for row in sample for turn in _turns(row, form)]
    keys = next((pair for pair in form.turn_keys if any(all(key in turn for key in pair) for turn in turns)),
                form.turn_keys[0])  # fmt: skip
    images = next((key for key in form.images if any(row.get(key) for row in sample)), "")
    parts = [turn[keys[1]] for turn in turns if isinstance(turn.get(keys[1]), list)]
    return WrittenRows(
        found.file, form, keys, images, parts=bool(parts),
        pictured=bool(images) or any(_is_picture(part) for content in parts for part in content),
        system=bool(form.system) and any(row.get(form.system) for row in sample),
        history=bool(form.history) and any(row.get(form.history) for row in sample),
        shape=_shape(sample, form),
        others=() if found.format else tuple(one.name for one in forms[1:]),
    )  # fmt: skip


def axolotl_entry(rows: WrittenRows) -> tuple[dict[str, Any], list[str]]:
    """Return an entry of axolotl's `datasets`, and one sentence for each thing it cannot read."""
    entry: dict[str, Any] = {"path": str(rows.file), "ds_type": "json", "split": "train"}
    form, notes = rows.form, _format_notes(rows)
    if form.text:
        return entry | {"type": "completion", "field": form.text}, notes
    entry["type"] = "chat_template"
    if form.question:
        notes.append(f"rows of {rows.file}: axolotl puts `{form.question}` and `{form.answer}` into its own prompt "
                      f"format, not into the base's chat template; {CONVERT}")  # fmt: skip
        return entry, notes
    if form.turns != "messages":
        entry["field_messages"] = form.turns
    if rows.turn_keys != ("role", "content"):
        entry["message_property_mappings"] = dict(zip(("role", "content"), rows.turn_keys, strict=True))
    names = _speakers(form)
    if not set(names.values()) <= {"user", "human", "assistant", "gpt", "system"}:
        entry["roles"] = {role: [name] for role, name in names.items()}
    if rows.system:
        notes.append(f"rows of {rows.file}: `{form.system}` must become a first turn with the role system")
    if rows.images:
        notes.append(f"pictures of {rows.file}: axolotl expects each as a part {{type: image, path: …}} of a turn's "
                      f"content, not as `<image>` and `{rows.images}`; convert them")  # fmt: skip
    return entry, notes


def swift_file(rows: WrittenRows) -> tuple[str, list[str]]:
    """Return the data set's name for ms-swift, and one sentence for each thing it cannot read."""
    form, notes = rows.form, _format_notes(rows)
    if form.text:
        notes.append(f"rows of {rows.file}: ms-swift reads bare texts as answers; write each as `messages` of one "
                      "assistant turn, and add use_chat_template: false")  # fmt: skip
    elif form.turns not in SWIFT_TURNS or form.question not in SWIFT_QUESTIONS:
        notes.append(f"rows of {rows.file}: ms-swift does not know `{form.mark}`; {CONVERT}")
    elif form.turns and rows.turn_keys not in {("role", "content"), ("from", "value")}:
        notes.append(f"rows of {rows.file}: ms-swift does not know turns of {' and '.join(rows.turn_keys)}; {CONVERT}")
    if rows.images not in {"", "images", "image"}:
        notes.append(f"pictures of {rows.file}: ms-swift reads `images`, not `{rows.images}`; rename the key")
    return str(rows.file), notes


def llamafactory_entry(rows: WrittenRows) -> tuple[dict[str, Any], list[str]]:
    """Return an entry of LLaMA-Factory's table, and one sentence for each thing it cannot read."""
    form, notes = rows.form, _format_notes(rows)
    entry: dict[str, Any] = {"file_name": str(rows.file)}
    shared = {"images": rows.images or ("images" if form is MESSAGES else ""), "system": form.system * rows.system}
    if form.turns:
        if rows.parts:
            notes.append(f"rows of {rows.file}: LLaMA-Factory reads texts, not lists of parts; write `<image>` in the "
                          "text and the paths in `images`")  # fmt: skip
        columns = {"messages": form.turns, **shared}
        tags = {"role_tag": rows.turn_keys[0], "content_tag": rows.turn_keys[1],
                **{f"{role}_tag": name for role, name in _speakers(form, rows.turn_keys).items()}}  # fmt: skip
        return entry | {"formatting": "sharegpt", "columns": _without_empty(columns), "tags": tags}, notes
    if form.text:
        notes.append(f"rows of {rows.file}: LLaMA-Factory trains on bare texts only with stage: pt, which cuts them "
                      "into blocks; write each as a question and an answer")  # fmt: skip
        return entry | {"formatting": "alpaca", "columns": {"prompt": form.text}}, notes
    columns = {
        "prompt": form.question,
        "query": form.context,
        "response": form.answer,
        "history": form.history * rows.history,
    }
    return entry | {"formatting": "alpaca", "columns": _without_empty({**columns, **shared})}, notes


def _forms_in(sample: Sequence[Mapping[str, Any]]) -> list[Format]:
    """Return the formats of the rows, each once; of two with the same mark, the one whose answer a row has."""
    found = []
    for row in sample:
        marked = [form for form in FORMATS if row.get(form.mark) is not None]
        found += [form for form in marked if not form.answer or row.get(form.answer) is not None] or marked[:1]
    return [form for form in FORMATS if form in found]


def _shape(sample: Sequence[Mapping[str, Any]], form: Format) -> str:
    if any(isinstance(row.get(form.question), list) for row in sample):
        return f"`{form.question}` and `{form.answer}` are lists of turns"
    turns = [turn for row in sample for turn in _turns(row, form)]
    if any(set(ROUND_KEYS) <= turn.keys() for turn in turns):
        return f"`{form.turns}` holds a question and its answer in one object"
    return ""


def _turns(row: Mapping[str, Any], form: Format) -> list[Mapping[str, Any]]:
    turns = row.get(form.turns) if form.turns else None
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


def _is_picture(part: object) -> bool:
    return isinstance(part, dict) and str(part.get("type", "")).startswith("image")


def _speakers(form: Format, turn_keys: tuple[str, str] = ("", "")) -> dict[str, str]:
    """Return the name of each role in the rows: OpenAI's names with the key `role`, ShareGPT's with `from`."""
    if turn_keys[0] == "role" and "human" in form.speakers:
        return {role: role for role in ("user", "assistant", "system")}
    named = {role: name for name, role in reversed(tuple(form.speakers.items())) if name != "developer"}
    return {role: named.get(role, role) for role in ("user", "assistant", "system")}


def _without_empty(columns: Mapping[str, str]) -> dict[str, str]:
    return {column: name for column, name in columns.items() if name}


def _format_notes(rows: WrittenRows) -> list[str]:
    if rows.unread:
        return [
            f"rows of {rows.file} are of unknown format: {rows.unread}; `messages` with `role` and `content` is assumed"
        ]
    if rows.shape:
        return [f"rows of {rows.file}: {rows.shape}; {CONVERT}"]
    if rows.others:
        return [f"rows of {rows.file}: some are of another format, {', '.join(rows.others)}; {CONVERT}"]
    return []
