"""Draws a kit and writes its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from PIL import Image

from trainables.io.files import write_text
from trainables.probes.kit import charts, chats, documents, pages, plain, scenes
from trainables.probes.kit.canvas import Drawing, Size
from trainables.probes.kit.contact_sheet import COLUMNS, contact_sheet
from trainables.probes.kit.rows import Task, rows_of

PICTURES, ROWS, SHEET, LICENCE, TRUTH = "pictures", "ood.jsonl", "contact-sheet.png", "LICENCE.txt", "truth.jsonl"
NOTHING = Image.new("RGB", (1, 1))
LICENCE_TEXT = """\
These pictures, their captions and their questions were drawn and written by Footprint's picture kit
(footprint data kit, Apache-2.0). They hold no photograph, no logo, no text and no data of anyone else,
and no real person. You may use them for any purpose, without naming a source (CC0 1.0).

The letters were drawn with {font}.
"""
SHIPPED_FONT = """\
DejaVu Sans, as matplotlib ships it. Its licence (Bitstream Vera, with changes in the public
domain) permits pictures of text without any condition; the font itself is not part of this directory"""


@dataclass(frozen=True)
class Kit:
    """What is to be drawn: how many pictures, of which size, from which seed; and a font with further letters."""

    count: int
    size: Size
    seed: int
    font_file: Path | None = None

    def pictures(self) -> Iterator[Drawing]:
        """Yield the pictures; the kinds take turns, so that none has more than one more than another."""
        kinds: tuple[tuple[str, Callable[[Random, int], Drawing]], ...] = (
            ("chat", lambda rng, index: chats.draw(rng, self.size, index, self.font_file)),
            ("page", lambda rng, index: pages.draw(rng, self.size, index)),
            ("chart", lambda rng, index: charts.draw(rng, self.size, index)),
            ("document", lambda rng, index: documents.draw(rng, self.size, index, self.font_file)),
            ("plain", lambda rng, index: plain.draw(rng, self.size, index)),
            ("scene", lambda rng, index: scenes.draw(rng, self.size, index)),
        )
        for number in range(self.count):
            kind, draw = kinds[number % len(kinds)]
            yield draw(Random(f"{self.seed}/{kind}/{number}"), number // len(kinds))


def write_kit(kit: Kit, task: Task, directory: Path) -> Counter[str]:
    """Write pictures, rows, truth, contact sheet and licence; return the number of rows by kind."""
    (directory / PICTURES).mkdir(parents=True)
    named: list[tuple[str, Drawing]] = []
    shown: dict[str, list[Drawing]] = {}
    truth = []
    for number, one in enumerate(kit.pictures()):
        file = f"{PICTURES}/{one.kind}-{number:04d}.png"
        one.image.save(directory / file)
        facts = [{"topic": fact.topic, "question": fact.question, "accept": fact.accept} for fact in one.facts]
        truth.append({"image": file, "kind": one.kind, "caption": one.caption, "facts": facts})
        samples = shown.setdefault(one.kind, [])
        if len(samples) < COLUMNS:
            samples.append(one)
        named.append((file, replace(one, image=NOTHING)))  # thousands of pictures would not fit in memory
    rows = list(rows_of(named, task))
    write_text(directory / TRUTH, _lines(truth))
    contact_sheet(list(shown.values())).save(directory / SHEET)
    font = f"the font {kit.font_file.name} (Chinese) and {SHIPPED_FONT}" if kit.font_file else SHIPPED_FONT
    write_text(directory / LICENCE, LICENCE_TEXT.format(font=font))
    write_text(directory / ROWS, _lines(rows))
    return Counter(row["kind"] for row in rows)


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
