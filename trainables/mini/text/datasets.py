"""Writes the text miniature's data set: instructions to fine-tune on, and questions to measure forgetting.

Training rows are chat messages, `{"id", "messages": [user, assistant]}`; no command is in two splits. Rows of
`ood.jsonl` and `ood-test.jsonl` are `{"id", "kind": "text", "group", "prompt", "expect"}`: general questions, commands
to explain, requests to decline; no question is in both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from trainables.mini.datasets import Files, Row, files_in, make_whole, write_lines
from trainables.mini.text import world

VERSION = 2  # increase it when the generated data changes, so that an older data set is not reused
SPLITS = (("train", 600), ("validation", 64), ("test", 64))
# 112 rows, of which a fall of ten points can be seen
OOD_ROWS = (("general", world.general, 56), ("declined", world.declined, 34), ("explained", world.explained, 22))


def write(directory: Path, seed: int) -> Files:
    """Write the data set of one seed atomically, or reuse it if it is complete.

    Raises:
        UserError: the directory holds other files.
    """
    make_whole(directory, {"world": "text", "seed": seed, "version": VERSION}, lambda fresh: fill(fresh, seed))
    return files_in(directory)


def fill(directory: Path, seed: int) -> None:
    """Write every row of one seed into an existing directory."""
    seen: set[str] = set()
    for split, count in SPLITS:
        write_lines(directory / f"{split}.jsonl", task_rows(split, count, seed, seen))
    asked: set[str] = set()
    for name in ("ood", "ood-test"):
        write_lines(directory / f"{name}.jsonl", ood_rows(seed, asked, name))


def task_rows(split: str, count: int, seed: int, seen: set[str]) -> Iterator[Row]:
    """Draw the rows of one split, without answers in `seen`, and add their answers to it."""
    rng = random.Random(f"text/{seed}/{split}")
    for index in range(1, count + 1):
        while (example := world.task(rng)).answer in seen:
            pass
        seen.add(example.answer)
        turns = [{"role": "user", "content": example.prompt}, {"role": "assistant", "content": example.answer}]
        yield {"id": f"{split}-{index:05d}", "messages": turns}


def ood_rows(seed: int, seen: set[str], name: str = "ood") -> Iterator[Row]:
    """Draw out-of-distribution rows, without questions in `seen`, and add their questions to it."""
    rng = random.Random(f"text/{seed}/{name}")
    prefix = "test-" if name == "ood-test" else ""
    for group, make, count in OOD_ROWS:
        for index in range(1, count + 1):
            while (example := make(rng)).prompt in seen:
                pass
            seen.add(example.prompt)
            row = {"id": f"{prefix}{group}-{index:05d}", "kind": "text", "group": group}
            yield row | {"prompt": example.prompt, "expect": example.answer}
