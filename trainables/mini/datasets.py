"""Writes the miniature's data set: cabinets to fine-tune on, and out-of-distribution rows to measure forgetting.

Training rows are chat messages whose user text holds the tag `<image>` where the picture goes:
`{"id", "messages": [system, user, assistant], "images": ["images/train-00001.png"]}`. Rows of `ood.jsonl` are
`{"id", "kind", "images", "system"?, "prompt", "expect", "forbid"}`; their pictures come before the prompt.
Image paths are relative to the row's file.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trainables.errors import UserError
from trainables.mini import world
from trainables.mini.pictures import IRRELEVANT
from trainables.mini.world import Example

VERSION = 1  # increase it when the generated data changes, so that an older data set is not reused
TRAIN_ROWS = 960
VALIDATION_ROWS = 64
TEST_ROWS = 96
IRRELEVANT_ROWS_PER_KIND = 6
TEXT_ROWS = 32
CAPTIONED_KINDS = ("scene", "scene", "scene", "chat", "chart")  # the kinds of the five pictures to caption
MANIFEST = "manifest.json"

Row = dict[str, Any]


@dataclass(frozen=True)
class Files:
    """The paths of one data set: three splits of the task and one file of rows outside it."""

    train: Path
    validation: Path
    test: Path
    ood: Path


class Album:
    """Saves pictures under `images/`, and knows whether a picture was saved before."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: set[bytes] = set()
        (directory / "images").mkdir()

    def is_new(self, image: Image.Image | None) -> bool:
        """Return True if no picture of the album has these pixels."""
        return image is None or image.tobytes() not in self.seen

    def add(self, identity: str, image: Image.Image | None) -> list[str]:
        """Save a picture and return a list with its path relative to the album; empty without a picture."""
        if image is None:
            return []
        self.seen.add(image.tobytes())
        path = f"images/{identity}.png"
        image.save(self.directory / path)
        return [path]


def write(directory: Path, seed: int) -> Files:
    """Write the data set of one seed atomically, or reuse it if it is complete.

    Raises:
        UserError: the directory holds other files.
    """
    make_whole(directory, {"seed": seed, "version": VERSION}, lambda fresh: fill(fresh, seed))
    return files_in(directory)


def files_in(directory: Path) -> Files:
    """Return the paths of a data set's files."""
    return Files(*(directory / f"{name}.jsonl" for name in ("train", "validation", "test", "ood")))


def make_whole(directory: Path, manifest: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Fill a directory and describe it in its manifest, or reuse it if it is complete.

    Raises:
        UserError: the directory holds other files.
    """
    if is_complete(directory, manifest):
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        fill(fresh)
        (fresh / MANIFEST).write_text(json.dumps(manifest) + "\n")
        try:
            os.replace(fresh, directory)
        except OSError:
            # another process may have finished the same data set first
            if not is_complete(directory, manifest):
                raise UserError(
                    f"the miniature's data set needs an empty or absent directory, got {directory}",
                    "name another directory, or remove this one",
                ) from None


def is_complete(directory: Path, manifest: dict[str, Any]) -> bool:
    """Return True if a directory holds exactly the data set of the manifest."""
    path = directory / MANIFEST
    return path.is_file() and json.loads(path.read_text()) == manifest


def fill(directory: Path, seed: int) -> None:
    """Write every row and picture of one seed into an existing directory."""
    album = Album(directory)
    for split, count in (("train", TRAIN_ROWS), ("validation", VALIDATION_ROWS), ("test", TEST_ROWS)):
        write_lines(directory / f"{split}.jsonl", task_rows(album, split, count, seed))
    write_lines(directory / "ood.jsonl", ood_rows(album, seed))


def write_lines(path: Path, rows: Iterator[Row]) -> None:
    """Write rows as JSON lines, with Chinese characters not escaped."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def task_rows(album: Album, split: str, count: int, seed: int) -> Iterator[Row]:
    """Draw the rows of one split: cabinets with the inspection prompt and their full reports."""
    rng = random.Random(f"datasets/{seed}/{split}")
    for index in range(1, count + 1):
        identity = f"{split}-{index:05d}"
        example = unseen(album, lambda: world.task(rng))
        messages = [
            {"role": "system", "content": example.system},
            {"role": "user", "content": f"<image>{example.prompt}"},
            {"role": "assistant", "content": example.answer},
        ]
        yield {"id": identity, "messages": messages, "images": album.add(identity, example.image)}


def ood_rows(album: Album, seed: int) -> Iterator[Row]:
    """Draw the rows outside the task: irrelevant pictures to refuse, captions, and text without a picture."""
    rng = random.Random(f"datasets/{seed}/ood")
    makers = [("irrelevant", lambda kind=kind: world.inspection(rng, kind)) for kind in IRRELEVANT] * (
        IRRELEVANT_ROWS_PER_KIND
    )
    makers += [("caption", lambda kind=kind: world.caption(rng, kind)) for kind in CAPTIONED_KINDS]
    makers += [("text", lambda: world.text(rng))] * TEXT_ROWS
    for index, (kind, make) in enumerate(makers, start=1):
        identity = f"{kind}-{index:05d}"
        example = unseen(album, make)
        row: Row = {"id": identity, "kind": kind, "images": album.add(identity, example.image)}
        if example.system is not None:
            row["system"] = example.system
        forbid = list(world.TASK_WORDS) if kind == "irrelevant" else []
        yield row | {"prompt": example.prompt, "expect": example.answer, "forbid": forbid}


def unseen(album: Album, make: Any) -> Example:
    """Draw examples until one has a picture that is not in the album, or has no picture."""
    while not album.is_new((example := make()).image):
        pass
    return example
