"""Three curriculum stages of the miniature's task, each with its own splits: cabinets in good, dim and poor light.

All stages use the out-of-distribution rows of the whole data set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from trainables.mini import world
from trainables.mini.datasets import Album, Files, Row, current, files_in, make_whole, unseen, write_lines, write_ood
from trainables.mini.pictures import SIDE
from trainables.mini.world import Example

VERSION = 2  # increase it when a stage changes, so that an older data set is not reused
TRAIN_ROWS = 640
VALIDATION_ROWS = 48
TEST_ROWS = 48


def in_good_light(rng: random.Random) -> Example:
    """Draw a full report on an untagged cabinet in good light, as in the base's training."""
    return replace(world.inspection(rng, "cabinet"), capacity="task")


def in_dim_light(rng: random.Random) -> Example:
    """Draw a full report on an untagged cabinet, darkened by 20 to 40 %, without noise."""
    example = in_good_light(rng)
    assert example.image is not None
    darker = Image.blend(example.image, Image.new("RGB", (SIDE, SIDE)), rng.uniform(0.2, 0.4))
    return replace(example, image=darker)


STAGES: tuple[Callable[[random.Random], Example], ...] = (in_good_light, in_dim_light, world.task)


def write(directory: Path, seed: int, keeps_earlier: bool = False) -> tuple[Files, ...]:
    """Write the data sets `stage1/` to `stage3/` of one seed below `directory`, or reuse them if they are complete.

    With `keeps_earlier`, stages of an earlier version are returned where they are there.

    Raises:
        UserError: a directory holds other files.
    """
    found = []
    for stage in range(1, len(STAGES) + 1):
        own = directory / f"stage{stage}"
        target = current(own, VERSION)
        manifest = {"seed": seed, "version": VERSION, "stage": stage}
        if keeps_earlier and target != own:
            target = own
        else:
            make_whole(target, manifest, lambda fresh, stage=stage: fill(fresh, seed, stage))
        found.append(files_in(target))
    return tuple(found)


def fill(directory: Path, seed: int, stage: int) -> None:
    """Write every row and picture of one stage into an existing directory."""
    album = Album(directory)
    for split, count in (("train", TRAIN_ROWS), ("validation", VALIDATION_ROWS), ("test", TEST_ROWS)):
        write_lines(directory / f"{split}.jsonl", stage_rows(album, split, count, seed, stage))
    write_ood(directory, album, seed)


def stage_rows(album: Album, split: str, count: int, seed: int, stage: int) -> Iterator[Row]:
    """Draw the rows of one split of one stage."""
    rng = random.Random(f"stages/{seed}/{stage}/{split}")
    for index in range(1, count + 1):
        identity = f"stage{stage}-{split}-{index:05d}"
        example = unseen(album, lambda: STAGES[stage - 1](rng))
        messages = [
            {"role": "system", "content": example.system},
            {"role": "user", "content": f"<image>{example.prompt}"},
            {"role": "assistant", "content": example.answer},
        ]
        yield {"id": identity, "messages": messages, "images": album.add(identity, example)}
