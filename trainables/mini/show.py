"""Writes sample pictures and rows of the miniature for visual inspection."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainables.mini import datasets, world
from trainables.mini.pictures import CHINESE_COLOUR, CHINESE_SHAPE, IRRELEVANT, KINDS, SIDE
from trainables.mini.world import Example

SCALE = 3
COLUMNS = 6
EQUIPPED = tuple(kind for kind in KINDS if kind not in IRRELEVANT)
CAPTION_PIXELS = 54
GAP_PIXELS = 10

# Pillow's default font has no Chinese characters, so contact sheets show English; rows.jsonl holds the actual answers.
ENGLISH = {chinese: english for english, chinese in (CHINESE_COLOUR | CHINESE_SHAPE).items()}
ENGLISH |= {
    "一个": "a",
    "一张": "a",
    "一扇": "a",
    "一台": "a",
    "门": "door",
    "冰箱": "refrigerator",
    "面板": "panel",
    "机柜": "cabinet",
    "聊天": "chat",
    "截图": "screenshot",
}
ENGLISH |= {"柱状图": "bar chart", "网页": "web page", "空白": "blank", "雪花": "static", "图片": "picture"}
ENGLISH |= {"无关": "irrelevant", "左边": "left of", "上边": "above"}


def write(directory: Path, seed: int = 0) -> list[Path]:
    """Write a contact sheet per kind of picture, `rows.jsonl` with questions and answers, and the data set in `data/`.

    Returns the paths of the files to look at.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths, rows = [], []
    for kind in KINDS:
        asked = [questions(kind, f"show/{seed}/{kind}/{index}") for index in range(COLUMNS * 2)]
        path = directory / f"{kind}.png"
        shown = -1 if kind in EQUIPPED else 0
        contact_sheet([examples[shown] for examples in asked]).save(path)
        paths.append(path)
        rows += [
            {
                "kind": kind,
                "picture": index,
                "system": example.system,
                "prompt": example.prompt,
                "answer": example.answer,
            }
            for index, examples in enumerate(asked)
            for example in examples
        ]
    rng = random.Random(f"show/{seed}/text")
    rows += [{"kind": "text", "prompt": example.prompt, "answer": example.answer} for example in texts(rng)]
    listing = directory / "rows.jsonl"
    listing.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    files = datasets.write(directory / "data", seed)
    return [*paths, listing, files.train, files.validation, files.test, files.ood, files.ood_test]


def questions(kind: str, seed: str) -> list[Example]:
    """Return all questions on one picture, the inspection last; the same seed draws the same picture."""
    asked = [world.caption(random.Random(seed), kind)]
    if kind in EQUIPPED:
        asked.append(world.listing(random.Random(seed), kind))
    return [*asked, world.inspection(random.Random(seed), kind)]


def texts(rng: random.Random) -> list[Example]:
    """Draw a few questions without a picture."""
    return [world.text(rng) for _ in range(COLUMNS * 2)]


def contact_sheet(examples: list[Example]) -> Image.Image:
    """Return one image with the pictures in rows of six, three times their size, each above its answer."""
    cell = SIDE * SCALE
    lines = -(-len(examples) // COLUMNS)
    width, height = cell + GAP_PIXELS, cell + CAPTION_PIXELS
    sheet = Image.new("RGB", (COLUMNS * width + GAP_PIXELS, lines * height + GAP_PIXELS), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for index, example in enumerate(examples):
        assert example.image is not None
        left = GAP_PIXELS + index % COLUMNS * width
        top = GAP_PIXELS + index // COLUMNS * height
        sheet.paste(example.image.resize((cell, cell), Image.Resampling.NEAREST), (left, top))
        pen.text((left, top + cell + 3), in_english(example.answer), fill=(40, 40, 40), font=ImageFont.load_default(12))
    return sheet


def in_english(answer: str) -> str:
    """Translate an answer into English, with each field of a report on its own line."""
    ordered = re.sub(r"(.+)在(.+)(左边|上边)", r"\1\3\2", answer)
    for chinese, english in ENGLISH.items():
        ordered = ordered.replace(chinese, f" {english} ")
    return " ".join(ordered.split()).replace(" 。", "").replace("; ", ";\n")
