"""Writes rows of which a holdout can be split off."""

from __future__ import annotations

import json
import random
from pathlib import Path


def written(directory: Path, irrelevant: int, seed: int = 0) -> tuple[Path, Path]:
    """Write validation and out-of-distribution rows in an order of the seed, pictures by relative paths."""
    from PIL import Image

    (directory / "images").mkdir(parents=True)
    kinds = ["irrelevant"] * irrelevant + ["caption"] * 5 + ["text"] * 12
    ood = []
    for number, kind in enumerate(kinds):
        row: dict[str, object] = {
            "id": f"{kind}-{number}",
            "kind": kind,
            "prompt": f"question {number}",
            "expect": "none",
        }
        if kind != "text":
            Image.new("RGB", (2, 2), (number % 256, number // 256, 1)).save(directory / f"images/{number}.png")
            row["images"] = [f"images/{number}.png"]
        ood.append(row)
    validation = [{"id": f"v{number}", "prompt": f"p {number}", "response": f"r {number}"} for number in range(20)]
    for name, rows in (("val", validation), ("ood", ood)):
        random.Random(seed).shuffle(rows)
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory / "val.jsonl", directory / "ood.jsonl"
