"""Tests `footprint init`: what it writes can be used at once, and bad input writes nothing."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ended import Ended, ended, ended_by
from PIL import Image

from sweeps.cli import footprint
from sweeps.project import files
from sweeps.project.command import init
from trainables.data.check import check_file
from trainables.errors import ExitCode
from trainables.mini.text import BASE_DIRECTORY

ROWS = [{"prompt": f"List the files of folder {number}.", "response": f"ls folder-{number}"} for number in range(40)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def printed_commands(found: Ended) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in found.stdout.splitlines()]
    return [words for words in lines if words and words[0] in ("footprint", "python")]


def assert_can_be_used(directory: Path, found: Ended) -> None:
    assert found.exit_code == 0, found.output
    for name in ("train.jsonl", "val.jsonl", "ood.jsonl"):
        assert check_file(directory / name).problems == ()
    [dry_run] = [words for words in printed_commands(found) if "--dry-run" in words]
    planned = ended_by(footprint.main, *dry_run)
    assert planned.exit_code == 0, planned.output
    assert not [one for one in directory.parent.iterdir() if one.name.startswith(".")]


def test_a_text_base_gets_its_rows_split_and_a_plan(tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", ROWS)
    found = ended(init, "mine", "--base", "mini-text", "--train", rows)
    assert_can_be_used(tmp_path / "mine", found)
    train, validation = (check_file(tmp_path / "mine" / name).rows for name in ("train.jsonl", "val.jsonl"))
    assert (len(train), len(validation)) == (36, 4)
    assert not {row.prompt for row in train} & {row.prompt for row in validation}


def test_a_base_that_sees_is_asked_its_task_about_the_users_pictures(tmp_path: Path) -> None:
    assert ended(init, "first", "--yes").exit_code == 0
    pictures = tmp_path / "holiday" / "deeper"
    pictures.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 64), (90 * number, 20, 40)).save(pictures / f"{number}.jpg")
    task = check_file(tmp_path / "first" / "train.jsonl").rows[0]
    found = ended(init, "mine", "--train", "first/train.jsonl", "--keep", "holiday", "--refusal", "no cabinet")
    assert_can_be_used(tmp_path / "mine", found)
    asked = [row for row in check_file(tmp_path / "mine" / "ood.jsonl").questions if row.kind == "irrelevant"]
    assert [row.expect for row in asked] == ["no cabinet"] * 3
    assert {row.messages for row in asked} == {task.prompt}
    assert {row.images[0].parent.parent for row in asked} == {tmp_path / "mine"}


def answers(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines: Iterator[str] = iter(texts)

    def read() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)


def test_four_questions_are_asked_and_a_wrong_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", ROWS)
    answers(["no-such-base", "mini-text", "gone.jsonl", str(rows), "", "none", "2"], monkeypatch)
    found = ended(init, "mine")
    assert found.exit_code == 0, found.output
    assert found.stderr.count("error: ") == found.stderr.count("hint: ") == 3
    assert "epochs: 2.0" in (tmp_path / "mine" / "study.yaml").read_text()


def test_input_that_ends_before_an_answer_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(["mini-text"], monkeypatch)
    found = ended(init, "mine")
    assert found.exit_code == ExitCode.BAD_INPUT and "--yes" in found.stderr
    assert not list(tmp_path.iterdir())


def test_questions_without_answers_are_for_the_base_to_answer_first(tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "general.txt").write_text("Name a fruit.\nWhat do bees make?\thoney\n")
    found = ended(init, "mine", "--base", "mini-text", "--train", rows, "--keep", "general.txt", "--no-answer")
    assert found.exit_code == 0, found.output
    first = printed_commands(found)[0]
    assert first[:3] == ["footprint", "data", "answer"]
    assert not (tmp_path / "mine" / "ood.jsonl").exists() and (tmp_path / "mine" / "questions.jsonl").exists()


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        assert list(tmp_path.glob(".mine-*/fresh/train.jsonl"))
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_kept_rows", stopped)
    rows = jsonl(tmp_path / "rows.jsonl", ROWS)
    found = ended(init, "mine", "--base", "mini-text", "--train", rows)
    assert found.exit_code == ExitCode.STOPPED
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


def without_template(directory: Path) -> Path:
    shutil.copytree(BASE_DIRECTORY, directory)
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    file = directory / "tokenizer_config.json"
    values = json.loads(file.read_text())
    values.pop("chat_template", None)
    file.write_text(json.dumps(values))
    return directory


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("full", "--yes"), "not empty"),
        (("rows.jsonl", "--yes"), "is a file"),
        (("new", "--base", "bare", "--train", "rows.jsonl"), "chat template"),
        (("new", "--base", "full", "--train", "rows.jsonl"), "config.json"),
        (("new", "--base", "mini-text", "--train", "few.jsonl"), "20 rows"),
        (("new", "--base", "mini-text", "--train", "rows.csv"), "must hold JSON"),
        (("new", "--base", "mini-text", "--train", "rows.jsonl", "--keep", "full"), "keeps questions"),
        (("new", "--base", "mini-text", "--train", "rows.jsonl", "--keep", "gone.txt"), "not there"),
        (("new", "--base", "mini-text", "--train", "rows.jsonl", "--epochs", "-1"), "above 0"),
        (("new", "--base", "mini-text", "--train", "rows.jsonl", "--refusal", "no"), "--refusal"),
        (("new", "--base", "mini", "--train", "rows.jsonl", "--keep", "full"), "full/broken.png"),
        (("new", "--base", "mini", "--train", "rows.jsonl", "--keep", "empty"), "none is found"),
        (("new", "--base", str(BASE_DIRECTORY)), "--train"),
        (("new", "--base", "mini-text", "--val", "rows.jsonl"), "--train"),
    ],
)
def test_bad_input_is_named_with_a_hint_and_writes_nothing(words: tuple[str, ...], named: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "rows.jsonl", ROWS)
    jsonl(tmp_path / "few.jsonl", ROWS[:19])
    (tmp_path / "rows.csv").write_text("a,b\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "broken.png").write_text("no picture")
    without_template(tmp_path / "bare")
    before = sorted(tmp_path.rglob("*"))
    found = ended(init, *words)
    assert found.exit_code == ExitCode.BAD_INPUT
    assert named in found.stderr and "hint: " in found.stderr
    assert sorted(tmp_path.rglob("*")) == before
