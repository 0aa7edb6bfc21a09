"""Tests that a URL is refused wherever a path of a file system is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables.checkpoints.base_lookup import base_directory
from trainables.data.dataset_info import locate
from trainables.data.formats import Message
from trainables.data.images import picture_files
from trainables.errors import UserError
from trainables.local_paths import local_path

URLS = (
    "s3://bucket/runs", "gs://bucket/runs", "az://container/runs", "abfs://container@account/runs", "hdfs:///runs",
    "file:///mnt/runs", "memory://runs", "http://host/runs", "https://user:secret@host/runs", "S3://bucket", "s3a://b",
    "rows.jsonl,s3://bucket/more.jsonl", "rows.jsonl, gs://bucket/more.jsonl",
)  # fmt: skip
PATHS = ("runs", "/mnt/runs", "./s3", "a:b", "C:/runs", "rows.jsonl,more.jsonl", "dataset_info.json:name", "~/runs",
         "data.json:/name")  # fmt: skip


@pytest.mark.parametrize("given", [*URLS, *map(Path, URLS)], ids=str)
def test_a_url_is_refused_by_name(given: str | Path) -> None:
    scheme = str(given).rpartition(",")[2].strip().partition(":")[0].lower()
    with pytest.raises(UserError, match=f"^--storage must be a path.* begins with `{scheme}:`") as refused:
        local_path(given, "--storage")
    assert "secret" not in str(refused.value) and refused.value.hint


@pytest.mark.parametrize("given", PATHS)
def test_a_path_is_kept(given: str) -> None:
    assert local_path(given, "--storage") == Path(given)


def test_what_a_table_of_data_names(tmp_path: Path) -> None:
    table = tmp_path / "dataset_info.json"
    table.write_text(json.dumps({"rows": {"file_name": "https://host/rows.json"}}))
    with pytest.raises(UserError, match=r"`file_name` must be a path.* `https:`"):
        locate(Path(f"{table}:rows"))


def test_what_a_row_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.jsonl:1: the image `s3://b/x.png` must be a path"):
        picture_files(["s3://b/x.png"], [Message("user", "<image>what?")], tmp_path, "rows.jsonl:1")


def test_what_an_adapter_names_as_its_base() -> None:
    with pytest.raises(UserError, match=r"a base must be a path.* `s3:`"):
        base_directory("s3://bucket/base")
