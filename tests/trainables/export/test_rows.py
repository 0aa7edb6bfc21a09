"""Tests exported data entries: they declare the format of the rows, or say that rows must be converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainables.data.dataset_info import locate
from trainables.export.rows import axolotl_entry, llamafactory_entry, swift_file, written_rows

DATA = Path(__file__).parents[1] / "data" / "files"


@pytest.mark.parametrize(
    ("name", "entry", "unsaid"),
    [
        ("messages.jsonl", {"type": "chat_template"}, "pictures of"),
        ("sharegpt.json", {"type": "chat_template", "field_messages": "conversations",
                           "message_property_mappings": {"role": "from", "content": "value"}}, "pictures of"),
        ("alpaca.json", {"type": "chat_template"}, "convert the rows to `messages`"),
        ("prompt.jsonl", {"type": "chat_template"}, "convert the rows to `messages`"),
        ("text.jsonl", {"type": "completion", "field": "text"}, ""),
        ("dataset_info.json:foreign", {"field_messages": "chat", "roles": {"user": ["USER"], "assistant": ["BOT"],
                                       "system": ["system"]}, "path": str(DATA / "foreign/rows.json")}, "pictures of"),
    ],
)  # fmt: skip
def test_an_entry_for_axolotl_declares_the_row_format(name: str, entry: dict[str, Any], unsaid: str) -> None:
    found, output = axolotl_entry(written_rows(DATA / name))
    assert entry.items() <= found.items()
    assert bool(output) == bool(unsaid) and unsaid in " ".join(output)


@pytest.mark.parametrize("name", ["messages.jsonl", "sharegpt.json", "alpaca.json", "prompt.jsonl", "text.jsonl",
                                  "dataset_info.json:foreign", "dataset_info.json:openai"])  # fmt: skip
def test_an_entry_for_llamafactory_is_what_our_own_reader_of_its_tables_reads(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTPRINT_DATA", str(DATA))  # the rows are not beside the table
    rows = written_rows(DATA / name)
    entry, _ = llamafactory_entry(rows)
    table = tmp_path / "dataset_info.json"
    table.write_text(json.dumps({"train": entry}))
    found = locate(Path(f"{table}:train"))
    assert found.file == rows.file and found.format is not None
    assert (found.format.mark, found.format.answer, found.format.context) == (
        rows.form.mark, rows.form.answer, rows.form.context)  # fmt: skip
    if rows.form.turns:
        assert found.format.turn_keys == (rows.turn_keys,)


def test_rows_that_ms_swift_cannot_read_are_reported() -> None:
    assert swift_file(written_rows(DATA / "sharegpt.json")) == (str(DATA / "sharegpt.json"), [])
    path, output = swift_file(written_rows(DATA / "dataset_info.json:foreign"))
    assert path == str(DATA / "foreign/rows.json") and "does not know `chat`" in output[0]
    assert "use_chat_template: false" in swift_file(written_rows(DATA / "text.jsonl"))[1][0]


@pytest.mark.parametrize(
    ("row", "known_to_swift", "unsaid"),
    [
        ({"query": "a", "response": "b"}, True, "`query` and `response` into its own"),
        ({"prompt": "a", "completion": "b"}, True, "`prompt` and `completion` into its own"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}, False,
         "are lists of turns"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, False, "a question and its answer in one object"),
    ],
)  # fmt: skip
def test_rows_of_further_formats_are_declared_or_reported(
    tmp_path: Path, row: dict[str, Any], known_to_swift: bool, unsaid: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    rows = written_rows(tmp_path / "rows.jsonl")
    assert unsaid in " ".join(axolotl_entry(rows)[1])
    assert (swift_file(rows)[1] == []) == known_to_swift


def test_an_entry_for_llamafactory_names_no_column_that_no_row_has(tmp_path: Path) -> None:
    """LLaMA-Factory fails on it."""
    for row in ({"query": "a", "response": "b"}, {"instruction": "a", "input": "", "output": "b"}):
        (tmp_path / "rows.jsonl").write_text(json.dumps(row))
        entry = llamafactory_entry(written_rows(tmp_path / "rows.jsonl"))[0]
        assert set(entry["columns"].values()) == {*row}


def test_joined_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    (tmp_path / "b.jsonl").write_text('{"text": "a"}')
    rows = written_rows(Path(f"{tmp_path}/a.jsonl,{tmp_path}/b.jsonl"))
    assert "it joins 2 files; list each file as an entry of its own" in axolotl_entry(rows)[1][0]


def test_unreadable_or_mixed_rows_are_reported(tmp_path: Path) -> None:
    assert "there is none of this name" in axolotl_entry(written_rows(DATA / "dataset_info.json:nope"))[1][0]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text('{"messages": []}\n{"prompt": "a", "response": "b"}\n')
    assert "some are of another format, prompt" in llamafactory_entry(written_rows(mixed))[1][0]
    parts = llamafactory_entry(written_rows(DATA / "parts.jsonl"))[1][0]
    assert "not lists of parts" in parts
