"""Tests entries of LLaMA-Factory's table: supported keys are read, all others are refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainables.data.duplicates import digest_of
from trainables.data.rows import read_rows
from trainables.errors import UserError

FILES = Path(__file__).parent / "files"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "data"))


def entry_error(folder: Path, entry: Any) -> str:
    (folder / "dataset_info.json").write_text(json.dumps({"mine": entry}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_rows(folder / "dataset_info.json:mine")
    assert f"{folder}/dataset_info.json: `mine`" in caught.value.message
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"hf_hub_url": "a/b"}, "`hf_hub_url` must not be given, because rows are read from files, but got 'a/b'"),
        ({"file_name": "alpaca.json", "ranking": True}, "`ranking` must not be given, because it is not supported"),
        ({"file_name": "alpaca.json", "num_samples": 5}, "`num_samples` must not be given"),
        ({"file_name": "alpaca.json", "split": "test"}, "`split` must not be given"),
        ({"file_name": "alpaca.json", "formating": "sharegpt"}, "`formating` is not a key of an entry"),
        ({"file_name": "alpaca.json", "formating": "sharegpt"}, "did you mean `formatting`?"),
        ({"file_name": "alpaca.json", "formatting": "openai"}, "`formatting` must be alpaca or sharegpt"),
        ({"formatting": "alpaca"}, "`file_name` must name a file, but got None"),
        ({"file_name": "alpaca.json", "columns": {"promt": "x"}}, "`columns.promt` is not a column of `alpaca`"),
        ({"file_name": "alpaca.json", "columns": {"prompt": 3}}, "`columns.prompt` must be a name, but got 3"),
        ({"file_name": "alpaca.json", "columns": {"tools": "x"}}, "`columns.tools` must not be given"),
        ({"file_name": "alpaca.json", "columns": {"prompt": "a", "query": "b"}}, "must name `response`"),
        ({"file_name": "alpaca.json", "columns": {"response": "a"}}, "must name `prompt`, but names response"),
        ({"file_name": "alpaca.json", "tags": {"role_tag": "x"}}, "`tags` must not be given"),
        ({"file_name": "s", "formatting": "sharegpt", "tags": {"user": "x"}}, "`tags.user` is not a tag"),
        ({"file_name": "s", "formatting": "sharegpt", "tags": {"user_tag": "gpt"}}, "but not role_tag, content_tag"),
        ({"file_name": "s", "formatting": "sharegpt", "tags": {"role_tag": "a", "content_tag": "b", "user_tag": "c",
                                                               "assistant_tag": "c"}}, "two of them are the same"),
        ([], "must be an object, but got []"),
    ],
)  # fmt: skip
def test_unsupported_keys_of_an_entry_are_refused_by_name(folder: Path, entry: Any, expected: str) -> None:
    assert expected in entry_error(folder, entry)


def test_default_values_of_an_entry_are_accepted(folder: Path) -> None:
    entry = {"file_name": "alpaca.json", "ranking": False, "split": "train", "subset": None}
    (folder / "dataset_info.json").write_text(json.dumps({"mine": entry}), encoding="utf-8")
    assert len(read_rows(folder / "dataset_info.json:mine")) == 2


def test_an_entry_must_be_chosen_and_exist(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_rows(folder / "dataset_info.json")
    assert "conversations, alpaca, foreign" in (caught.value.hint or "")
    with pytest.raises(UserError, match="`foriegn` must be an entry"):
        read_rows(folder / "dataset_info.json:foriegn")
    with pytest.raises(UserError, match=r"no/dataset_info.json does not"):
        read_rows(folder / "no" / "dataset_info.json:x")
    (folder / "dataset_info.json").write_text('{"a": {}, "a": {}}', encoding="utf-8")
    with pytest.raises(UserError, match="the key `a` occurs twice"):
        read_rows(folder / "dataset_info.json:a")


def test_a_broken_row_behind_an_entry_names_the_file_of_the_row(folder: Path) -> None:
    (folder / "foreign" / "rows.json").write_text('[\n{"chat": []}\n]', encoding="utf-8")
    with pytest.raises(UserError, match=r"foreign/rows.json:2: `chat` must be a list of turns"):
        read_rows(folder / "dataset_info.json:foreign")


def test_other_columns_are_ignored_but_misspelt_ones_are_errors(folder: Path) -> None:
    rows = json.loads((folder / "alpaca.json").read_text(encoding="utf-8"))
    rows[0] |= {"quality": 3, "imagse": rows[0].pop("images")}
    (folder / "alpaca.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(UserError, match="must have the column `images` of its entry, but it has `imagse`"):
        read_rows(folder / "dataset_info.json:columns")


def test_the_digest_of_an_entry_covers_its_settings(folder: Path) -> None:
    """The same file read by other columns is other data."""
    path = folder / "dataset_info.json"
    before = digest_of(folder / "dataset_info.json:columns"), digest_of(folder / "dataset_info.json:alpaca")
    assert before[0] != before[1]
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["columns"]["columns"]["system"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert digest_of(folder / "dataset_info.json:columns") != before[0]
    assert digest_of(folder / "dataset_info.json:alpaca") == before[1]
