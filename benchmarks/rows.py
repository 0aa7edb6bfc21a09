"""Writes the rows that the shapes train on: a few of each kind of the miniature's, so that evals stay short."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from trainables.data.duplicates import digest_of
from trainables.mini import datasets
from trainables.spec import Source

Row = dict[str, Any]

OOD_ROWS = {"irrelevant": 1, "caption": 1, "text": 1}
VALIDATION_ROWS = 1
WORDS = ("red", "green", "blue", "yellow", "white", "purple")


@dataclass(frozen=True)
class Amounts:
    """The number of training rows and their lengths in tokens: before and after the picture, and of the answer.

    Every picture is scaled to the size `picture` (pixels); None leaves rows and pictures unchanged.
    """

    train: int
    picture: tuple[int, int] | None = None
    before: int = 0
    after: int = 0
    answer: int = 0


def write(directory: Path, amounts: Amounts) -> Mapping[str, Source]:
    """Write train, validation and out-of-distribution rows below `directory`; returns them as settings of a trial."""
    files = datasets.write(directory / "rows", seed=0)
    ood = _rows(files.ood)
    kept = {
        "train": _rows(files.train)[: amounts.train],
        "validation": _rows(files.validation)[:VALIDATION_ROWS],
        "ood": [row for kind, count in OOD_ROWS.items() for row in [o for o in ood if o["kind"] == kind][:count]],
    }
    if amounts.picture:
        kept["train"] = [_lengthened(row, amounts) for row in kept["train"]]
        _scale_pictures(files.train.parent, [row for rows in kept.values() for row in rows], amounts.picture)
    sources = {}
    for name, rows in kept.items():
        path = files.train.parent / f"few-{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        sources[name] = Source(path=path, sha256=digest_of(path))
    return sources


def _rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _lengthened(row: Row, amounts: Amounts) -> Row:
    system, user, _ = row["messages"]
    return row | {
        "messages": [
            system | {"content": _words(amounts.before)},
            user | {"content": f"<image>{_words(amounts.after)}"},
            {"role": "assistant", "content": _words(amounts.answer)},
        ]
    }


def _words(count: int) -> str:
    # each word is a single token of the miniature's tokenizer
    return " ".join(WORDS[index % len(WORDS)] for index in range(count))


def _scale_pictures(directory: Path, rows: list[Row], size: tuple[int, int]) -> None:
    scale: Callable[[Path], None] = lambda path: Image.open(path).convert("RGB").resize(size).save(path)  # noqa: E731
    for name in {name for row in rows for name in row["images"]}:
        scale(directory / name)
