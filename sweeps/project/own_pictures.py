"""Puts pictures into a project: those of the user's rows, and those that lie outside the task."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.data.formats import IMAGE_TAG
from trainables.data.images import FORMATS, picture_problem
from trainables.data.rows import Row
from trainables.errors import UserError
from trainables.probes.kit.rows import Task

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
ROW_PICTURES, KEPT_PICTURES = "row-pictures", "pictures"
MOST_ASKED, CAPTIONED, SHOWN = 192, 30, 5
CAPTION_PROMPT = "Describe this picture in one or two sentences."


def task_of(rows: Iterable[Row], refusal: str) -> Task:
    """Return the question that most rows with a picture ask first.

    Raises:
        UserError: no row shows a picture.
    """
    asked: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.images:
            system = next((one.text for one in row.messages if one.role == "system"), "")
            user = next((one.text for one in row.messages if one.role == "user"), "")
            asked[system, user.replace(IMAGE_TAG, "").strip()] += 1
    if not asked:
        raise UserError("rows for a base that sees must show pictures to ask the task about others, but none does",
                        "name rows with `images`, or a base without a vision tower")  # fmt: skip
    [((system, prompt), _)] = asked.most_common(1)
    return Task(prompt or CAPTION_PROMPT, refusal, system)


def pictures_in(directory: Path) -> list[Path]:
    """Return the pictures below a directory, at most as many as are asked about, evenly taken.

    Raises:
        UserError: there are none, or some cannot be used.
    """
    found = sorted(one for one in directory.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
    if not found:
        raise UserError(f"{directory}: there must be pictures outside the task, but none is found",
                        f"put some there: {', '.join(FORMATS)}")  # fmt: skip
    taken = [found[number * len(found) // MOST_ASKED] for number in range(MOST_ASKED)] if len(found) > MOST_ASKED \
        else found  # fmt: skip
    problems = [f"{one} {problem}" for one in taken if (problem := picture_problem(one))]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(f"{directory}: every picture must be usable, but {'; '.join(problems[:SHOWN])}{more}",
                        "convert, repair or remove them")  # fmt: skip
    return taken


def kept_picture_rows(pictures: Sequence[Path], task: Task, directory: Path) -> list[dict[str, Any]]:
    """Copy pictures into a project; return rows that ask the task about each, and for captions of some."""
    rows: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        name = f"{KEPT_PICTURES}/{number:04d}{picture.suffix.lower()}"
        _place(picture, directory / name)
        system = {"system": task.system} if task.system else {}
        rows.append({"id": f"irrelevant-{number:04d}", "kind": "irrelevant", "images": [name], **system,
                     "prompt": task.prompt, "expect": task.refusal})  # fmt: skip
    captions = [{"id": one["id"].replace("irrelevant", "caption"), "kind": "caption", "images": one["images"],
                 "prompt": CAPTION_PROMPT} for one in rows[:CAPTIONED]]  # fmt: skip
    return rows + captions


def with_own_pictures(rows: Sequence[Row], directory: Path) -> list[Row]:
    """Put the pictures of rows below a project, by hard links where the file system has them; return the rows."""
    names: dict[Path, Path] = {}
    for row in rows:
        for picture in row.images:
            if picture not in names:
                names[picture] = Path(ROW_PICTURES) / f"{len(names) + 1:06d}{picture.suffix.lower()}"
                _place(picture, directory / names[picture])
    return [replace(row, images=tuple(names[one] for one in row.images)) for row in rows]


def _place(picture: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(picture.resolve(), target)
    except OSError:  # another file system
        shutil.copyfile(picture, target)
