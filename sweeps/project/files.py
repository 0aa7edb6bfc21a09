"""Writes the files of a project, all or none."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.project.base_answers import KeptRows, with_base_answers
from sweeps.project.choices import Choices
from sweeps.project.kept_questions import GENERAL, is_open, questions_in
from sweeps.project.own_pictures import kept_picture_rows, pictures_in, task_of, with_own_pictures
from sweeps.project.split_rows import split
from trainables.data.check import check_file
from trainables.data.filtered_file import as_jsonl
from trainables.data.rows import read_rows, read_validation
from trainables.errors import UserError
from trainables.io.files import write_text
from trainables.mini import datasets
from trainables.mini.text import datasets as commands
from trainables.probes.kit.rows import Task
from trainables.probes.kit.write import Kit, write_kit
from trainables.spec import Quantization

TRAIN, VALIDATION, OOD, OPEN = "train.jsonl", "val.jsonl", "ood.jsonl", "questions.jsonl"
DRAWN_PICTURES, DRAWN_SIZE = 192, (640, 480)


@dataclass(frozen=True)
class DataFiles:
    """The data files of a project, as its study file names them, and the numbers of rows.

    `is_open` means that the base has still to answer the rows of `questions.jsonl`.
    """

    train: Path
    validation: Path
    train_rows: int
    validation_rows: int
    kept: KeptRows
    is_open: bool = False


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes `directory` at the end; after an error nothing is left.

    Raises:
        UserError: `directory` is there and not empty, or cannot be made.
    """
    check_new(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-")
    except OSError as error:
        raise UserError(f"{directory} must be a directory that can be made, but: {error}", "name another") from None
    with scratch as made:
        fresh = Path(made) / "fresh"
        fresh.mkdir()
        yield fresh
        os.replace(fresh, directory)


def check_new(directory: Path) -> None:
    """Refuse a directory that holds something.

    Raises:
        UserError: it does, or is a file.
    """
    if directory.is_symlink() or directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        what = "is not empty" if directory.is_dir() else "is a file"
        raise UserError(f"a project must be a new directory, but {directory} {what}",
                        "name another; nothing is overwritten")  # fmt: skip


def write_data(directory: Path, choices: Choices, quantization: Quantization | None, say: Callable[[str], None]
               ) -> DataFiles:  # fmt: skip
    """Write rows inside and outside the task; with a quantization the base is asked its questions.

    Raises:
        UserError: rows are too few or broken, pictures cannot be used, or the base answers nothing.
    """
    if choices.task is None:
        return _rows_of_miniature(directory, choices)
    train, validation, train_count, validation_count = _task_files(directory, choices)
    kept = KeptRows(tuple(_kept_rows(directory, choices)))
    if quantization is not None:
        asked = sum(row["kind"] == "text" for row in kept.rows)
        say(f"asking the base {asked:,} questions; a small base takes a minute or two without a GPU")
        kept = with_base_answers(kept.rows, directory / OOD, choices.base.directory, quantization)
    open_rows = any(map(is_open, kept.rows))
    (directory / OOD).unlink(missing_ok=True)
    write_text(directory / (OPEN if open_rows else OOD), _lines(kept.rows))
    _check(directory, [one for one in (train, validation) if not one.is_absolute()], open_rows)
    return DataFiles(train, validation, train_count, validation_count, kept, open_rows)


def _task_files(directory: Path, choices: Choices) -> tuple[Path, Path, int, int]:
    assert choices.task is not None
    path, rows, validation = choices.task.path, choices.task.rows, choices.task.validation
    if validation is not None:
        return path, validation, len(rows), len(read_validation(validation))
    train_rows, validation_rows = split(rows, path)
    own = with_own_pictures([*train_rows, *validation_rows], directory)
    write_text(directory / TRAIN, as_jsonl(own[: len(train_rows)]))
    write_text(directory / VALIDATION, as_jsonl(own[len(train_rows) :]))
    return Path(TRAIN), Path(VALIDATION), len(train_rows), len(validation_rows)


def _kept_rows(directory: Path, choices: Choices) -> list[dict[str, Any]]:
    if choices.base.is_miniature and not (choices.kept.pictures or choices.kept.questions):
        return _kept_by_miniature(directory, choices)
    questions = questions_in(choices.kept.questions or GENERAL)
    if not choices.base.sees or choices.task is None:
        return questions
    task = task_of(choices.task.rows, choices.refusal)
    if choices.kept.pictures:
        return [*kept_picture_rows(pictures_in(choices.kept.pictures), task, directory), *questions]
    return [*_drawn(directory, task), *questions]


def _drawn(directory: Path, task: Task) -> list[dict[str, Any]]:
    scratch = directory / "drawn"
    write_kit(Kit(DRAWN_PICTURES, DRAWN_SIZE, 0), task, scratch)
    rows = [json.loads(line) for line in (scratch / OOD).read_text(encoding="utf-8").splitlines()]
    for file in ("pictures", "LICENCE.txt", "contact-sheet.png"):
        (scratch / file).rename(directory / file)
    for left in scratch.iterdir():
        left.unlink()
    scratch.rmdir()
    return [row for row in rows if row["kind"] != "text"]


def _kept_by_miniature(directory: Path, choices: Choices) -> list[dict[str, Any]]:
    if choices.base.sees:
        datasets.write_ood(directory, datasets.Album(directory), 0)
        (directory / "ood-test.jsonl").unlink()
        return [json.loads(line) for line in (directory / OOD).read_text(encoding="utf-8").splitlines()]
    return [dict(row) for row in commands.ood_rows(0, set(), "ood")]


def _rows_of_miniature(directory: Path, choices: Choices) -> DataFiles:
    made = datasets if choices.base.sees else commands
    made.fill(directory, 0)
    (directory / "validation.jsonl").rename(directory / VALIDATION)
    for held_out in ("test.jsonl", "ood-test.jsonl"):
        (directory / held_out).unlink()
    train, validation = (len(read_rows(directory / name)) for name in (TRAIN, VALIDATION))
    kinds = tuple({"kind": one.kind} for one in check_file(directory / OOD).questions)
    return DataFiles(Path(TRAIN), Path(VALIDATION), train, validation, KeptRows(kinds))


def _check(directory: Path, own: Sequence[Path], open_rows: bool) -> None:
    """Check the written files as `footprint data check` does.

    Raises:
        UserError: the first problem.
    """
    for name in (*own, *([] if open_rows else [Path(OOD)])):
        for problem in check_file(directory / name).problems:
            raise UserError(problem)


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
