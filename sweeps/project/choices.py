"""The answers to the four questions of `footprint init`, each checked by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.project.base_facts import BaseFacts
from sweeps.project.kept_questions import questions_in
from sweeps.project.own_pictures import pictures_in
from trainables.data.joined_files import absolute
from trainables.data.picture_places import check_places
from trainables.data.rows import Row, read_rows, read_validation
from trainables.errors import UserError, quoted

MOST_EPOCHS = 1000.0


@dataclass(frozen=True)
class TaskRows:
    """The training rows of the user, and the file of validation rows if there is one."""

    path: Path
    rows: tuple[Row, ...]
    validation: Path | None = None


@dataclass(frozen=True)
class Kept:
    """What the model must keep: a directory of pictures outside the task, and a file of general questions."""

    pictures: Path | None = None
    questions: Path | None = None


@dataclass(frozen=True)
class Choices:
    """What a project is made from; without rows those of the miniature."""

    base: BaseFacts
    task: TaskRows | None
    kept: Kept
    refusal: str = ""
    epochs: float = 0.0


def task_rows(train: Path, validation: Path | None, base: BaseFacts) -> TaskRows:
    """Read the rows of the task.

    Raises:
        UserError: a file cannot be read, a row is broken, or rows show pictures that the base does not see.
    """
    path = absolute(train)
    rows = read_rows(path)
    check_places(path, rows)
    with_pictures = sum(bool(row.images) for row in rows)
    if with_pictures and not base.sees:
        raise UserError(f"{path}: rows for a base without a vision tower must have no pictures, but {with_pictures:,} "
                        "have some", "name a base that sees, such as Qwen3-VL")  # fmt: skip
    checked = absolute(validation) if validation else None
    if checked:
        check_places(checked, read_validation(checked))
    return TaskRows(path, tuple(rows), checked)


def kept_of(paths: Sequence[Path], sees: bool) -> Kept:
    """Tell a directory of pictures from a file of questions.

    Raises:
        UserError: one does not exist, is empty or unusable, there are two of a kind, or the base does not see.
    """
    directories = [one for one in paths if one.expanduser().is_dir()]
    files = [one for one in paths if one not in directories]
    if len(directories) > 1 or len(files) > 1:
        raise UserError("--keep must name one directory of pictures and one file of questions at most, but got "
                        f"{len(directories)} and {len(files)}", "put them together")  # fmt: skip
    if directories and not sees:
        raise UserError(f"a base without a vision tower keeps questions, but {directories[0]} is a directory",
                        "name a file with one question a line")  # fmt: skip
    kept = Kept(*(found[0].expanduser().resolve() if found else None for found in (directories, files)))
    if kept.pictures:
        pictures_in(kept.pictures)
    if kept.questions:
        questions_in(kept.questions)
    return kept


def epochs_of(text: str) -> float:
    """Read a number of passes over the training rows.

    Raises:
        UserError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.0 < found <= MOST_EPOCHS:
        raise UserError(f"passes over the training rows must be a number above 0 and at most {MOST_EPOCHS:g}, but got "
                        f"{quoted(text)}", "for example 1 or 0.5")  # fmt: skip
    return found


def refusal_of(text: str) -> str:
    """Read the right answer to a picture outside the task.

    Raises:
        UserError: it has no words.
    """
    if not any(map(str.isalnum, text)):
        raise UserError(f"the answer to a picture outside the task must have words, but got {quoted(text)}",
                        'for example --refusal "Unrelated picture."')  # fmt: skip
    return text.strip()


def yes_or_no(text: str) -> bool:
    """Read yes or no.

    Raises:
        UserError: it is neither.
    """
    if text.lower() not in ("y", "yes", "n", "no"):
        raise UserError(f"the answer must be yes or no, but got {quoted(text)}")
    return text.lower().startswith("y")
