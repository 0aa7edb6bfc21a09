"""Tests `--drop`: it filters only the training rows, and trials then name the filtered file by its content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import invoke

from sweeps.planning.sources import Sources, gather
from sweeps.stage4 import STUDY
from trainables.data.duplicates import digest_of
from trainables.data.rows import read_rows
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY

ROWS = {
    "train": [("one", "1"), ("one", "1"), ("two", "2"), ("three", "3"), ("three", "4")],
    "validation": [("four", "4"), ("four", "4")],
    "ood": [],
}
PROBES = [
    {"kind": "irrelevant", "prompt": "<image>?", "images": ["p.png"], "expect": "no"},
    {"kind": "caption", "prompt": "<image>?", "images": ["p.png"]},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
]


@pytest.fixture
def gathered(tmp_path: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (16, 16), "red").save(tmp_path / "p.png")
    for name, pairs in ROWS.items():
        rows = [{"prompt": prompt, "response": response} for prompt, response in pairs] or PROBES
        rows += [{"prompt": "<image>?", "response": "red", "images": ["p.png"]}] * (name == "validation")
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def found(folder: Path, drop: str) -> Sources:
    files = (folder / f"{name}.jsonl" for name in ("train", "validation", "ood"))
    return gather(str(BASE_DIRECTORY), *files, folder / "runs" / "data", drop=drop)


def test_only_the_training_rows_are_filtered(gathered: Path) -> None:
    plain, less = found(gathered, ""), found(gathered, "duplicates,contradictions")
    assert (plain.train_rows, less.train_rows) == (5, 2)
    assert (plain.dropped, plain.train.path) == ("", gathered / "train.jsonl")
    assert less.dropped.startswith("dropped 3 of 5 training rows: duplicates 1, contradictions 2 (filtered/")
    assert [row.answer for row in read_rows(less.train.path)] == ["1", "2"]
    assert less.train.path.is_relative_to(gathered / "runs" / "filtered")
    assert less.train.sha256 == digest_of(less.train.path) != plain.train.sha256
    assert (less.validation, less.ood) == (plain.validation, plain.ood)
    assert found(gathered, "duplicates,contradictions") == less


def test_a_filter_that_does_not_exist_writes_nothing(gathered: Path) -> None:
    with pytest.raises(UserError, match="`twins` must be a filter"):
        found(gathered, "twins")
    assert not (gathered / "runs").exists()


def test_the_command_line_refuses_it(
    gathered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(gathered)
    files = [f"--{option}={name}.jsonl" for option, name in (("train", "train"), ("val", "validation"), ("ood", "ood"))]
    code = invoke(STUDY, monkeypatch, f"--base={BASE_DIRECTORY}", *files, "--drop=duplicates,short", "--dry-run")
    assert code == 2
    assert "error: --drop: `short` needs a number of characters" in capsys.readouterr().err
