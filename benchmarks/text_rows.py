"""Writes rows of text for benchmarks of a text-only base: requests and answers of common words, of unlike lengths."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from trainables.data.duplicates import digest_of
from trainables.mini import defaults
from trainables.spec import Source

WORDS = (
    "list",
    "files",
    "older",
    "than",
    "two",
    "days",
    "in",
    "the",
    "home",
    "folder",
    "and",
    "print",
    "their",
    "names",
)
TRAIN_ROWS, VALIDATION_ROWS, OUTSIDE_ROWS = 48, 1, 1
REQUEST_WORDS, ANSWER_WORDS = (12, 40), (6, 24)
BATCH_ROWS = 4


def settings(directory: Path, base: Path, steps: int) -> dict[str, Any]:
    """Write rows below `directory`; return the settings of trials of `steps` steps on `base`, unquantized."""
    directory.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    words = lambda bounds: " ".join(draw.choices(WORDS, k=draw.randint(*bounds)))  # noqa: E731
    rows = [
        {"id": f"r{number}", "messages": [{"role": "user", "content": words(REQUEST_WORDS)},
                                          {"role": "assistant", "content": words(ANSWER_WORDS)}]}
        for number in range(TRAIN_ROWS + VALIDATION_ROWS)
    ]  # fmt: skip
    outside = [{"id": f"t{n}", "kind": "text", "prompt": words((4, 8)), "expect": "two"} for n in range(OUTSIDE_ROWS)]
    lines = {"train": rows[:TRAIN_ROWS], "validation": rows[TRAIN_ROWS:], "ood": outside}
    found: dict[str, Source] = {}
    for name, one in lines.items():
        path = directory / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in one), encoding="utf-8")
        found[name] = Source(path=path, sha256=digest_of(path))
    own = {"quantization": "none", "batch_rows": BATCH_ROWS, "steps": steps, "eval_every_steps": steps}
    return {**defaults.SETTINGS, **found, "base": Source(path=base, sha256=digest_of(base / "config.json")), **own}
