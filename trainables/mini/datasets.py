"""Writes the miniature's data set: cabinets to fine-tune on, and out-of-distribution rows to measure forgetting.

Training rows are chat messages whose user text holds the tag `<image>` where the picture goes:
`{"id", "messages": [system, user, assistant], "images": ["images/train-00001.png"]}`. Rows of `ood.jsonl` and
`ood-test.jsonl` are `{"id", "kind", "group", "images", "system"?, "prompt", "expect", "forbid"}`; their pictures come
before the prompt. No picture and no text question is in two files. Image paths are relative to the row's file.
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

from trainables.errors import UserError
from trainables.mini import world
from trainables.mini.pictures import IRRELEVANT
from trainables.mini.world import Example

VERSION = 2  # increase it when the generated data changes, so that an older data set is not reused
TRAIN_ROWS = 960
VALIDATION_ROWS = 64
TEST_ROWS = 96
IRRELEVANT_ROWS_PER_KIND = 24  # six of each kind are asked at every eval, the others only by guards
CAPTION_ROUNDS, TEXT_ROWS = 6, 112  # a binomial test needs 30 captions, and a fall of ten points 110 text rows
CAPTIONED_KINDS = ("scene", "scene", "scene", "chat", "chart")  # the kinds of the pictures to caption, in one round
MANIFEST = "manifest.json"

Row = dict[str, Any]


@dataclass(frozen=True)
class Files:
    """The paths of one data set: three splits of the task, and two of rows outside it.

    `test` and `ood_test` are for what was chosen on the other files; no trial reads them.
    """

    train: Path
    validation: Path
    test: Path
    ood: Path
    ood_test: Path


class Album:
    """Saves pictures under `images/`, and knows which pictures and text questions it has had."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seen: set[bytes | str] = set()
        (directory / "images").mkdir()

    def is_new(self, example: Example) -> bool:
        """Return True if no row has the example's pixels or, without a picture, its question."""
        return _content(example) not in self.seen

    def add(self, identity: str, example: Example) -> list[str]:
        """Save a picture and return a list with its path relative to the album; empty without a picture."""
        self.seen.add(_content(example))
        if example.image is None:
            return []
        path = f"images/{identity}.png"
        example.image.save(self.directory / path)
        return [path]


def _content(example: Example) -> bytes | str:
    return example.prompt if example.image is None else example.image.tobytes()


def write(directory: Path, seed: int) -> Files:
    """Write the data set of one seed atomically, or reuse it if it is complete.

    Raises:
        UserError: the directory holds other files.
    """
    make_whole(directory, {"seed": seed, "version": VERSION}, lambda fresh: fill(fresh, seed))
    return files_in(directory)


def files_in(directory: Path) -> Files:
    """Return the paths of a data set's files."""
    return Files(*(directory / f"{name}.jsonl" for name in ("train", "validation", "test", "ood", "ood-test")))


def current(directory: Path, version: int) -> Path:
    """Return the directory for rows of a version: another one beside it, if it holds those of an earlier version.

    Experiments begun with the earlier rows still read them.
    """
    path = directory / MANIFEST
    is_earlier = path.is_file() and json.loads(path.read_text()).get("version") != version
    return directory.with_name(f"{directory.name}-v{version}") if is_earlier else directory


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


def is_generated(directory: Path) -> bool:
    """Return True if a directory holds rows that this package made, not rows of one's own."""
    return (directory / MANIFEST).is_file()


def is_complete(directory: Path, manifest: dict[str, Any]) -> bool:
    """Return True if a directory holds exactly the data set of the manifest."""
    path = directory / MANIFEST
    return path.is_file() and json.loads(path.read_text()) == manifest


def fill(directory: Path, seed: int) -> None:
    """Write every row and picture of one seed into an existing directory."""
    album = Album(directory)
    for split, count in (("train", TRAIN_ROWS), ("validation", VALIDATION_ROWS), ("test", TEST_ROWS)):
        write_lines(directory / f"{split}.jsonl", task_rows(album, split, count, seed))
    write_ood(directory, album, seed)


def write_ood(directory: Path, album: Album, seed: int) -> None:
    """Write the rows outside the task: those of every eval and of the guards, and those of the test."""
    for name in ("ood", "ood-test"):
        write_lines(directory / f"{name}.jsonl", ood_rows(album, seed, name))


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
        yield {"id": identity, "messages": messages, "images": album.add(identity, example)}


def ood_rows(album: Album, seed: int, name: str = "ood") -> Iterator[Row]:
    """Draw the rows outside the task: irrelevant pictures to refuse, captions, and text without a picture."""
    rng = random.Random(f"datasets/{seed}/{name}")
    makers = [("irrelevant", kind, lambda kind=kind: world.inspection(rng, kind)) for kind in IRRELEVANT] * (
        IRRELEVANT_ROWS_PER_KIND
    )
    makers += [
        ("caption", kind, lambda kind=kind: world.caption(rng, kind)) for kind in CAPTIONED_KINDS * CAPTION_ROUNDS
    ]
    makers += [("text", "", lambda: world.text(rng))] * TEXT_ROWS
    prefix = "test-" if name == "ood-test" else ""
    for index, (kind, group, make) in enumerate(makers, start=1):
        identity = f"{prefix}{kind}-{index:05d}"
        example = unseen(album, make)
        row: Row = {"id": identity, "kind": kind, "group": group or world.text_group(example)}
        row["images"] = album.add(identity, example)
        if example.system is not None:
            row["system"] = example.system
        forbid = list(world.TASK_WORDS) if kind == "irrelevant" else []
        yield row | {"prompt": example.prompt, "expect": example.answer, "forbid": forbid}


def unseen(album: Album, make: Callable[[], Example]) -> Example:
    """Draw examples until one has a picture, or without a picture a question, that no row of the album has."""
    while not album.is_new(example := make()):
        pass
    return example
