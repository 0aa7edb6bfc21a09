"""One picture that shows samples of all kinds, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from PIL import Image

from trainables.probes.kit.canvas import DESIGN_HEIGHT, OVERSAMPLING, Canvas, Drawing

COLUMNS, CELL, CAPTION, GAP = 6, (300, 225), 62, 12
BACKGROUND, INK = (236, 237, 240), (40, 42, 48)


def contact_sheet(rows: Sequence[Sequence[Drawing]]) -> Image.Image:
    """Return a sheet with one row of pictures for each kind, each over its caption."""
    height = (CELL[1] + CAPTION + GAP) * len(rows) + GAP
    width = (CELL[0] + GAP) * COLUMNS + GAP
    canvas = Canvas((width, height), BACKGROUND, Random(0))
    scale = DESIGN_HEIGHT / height
    for row, pictures in enumerate(rows):
        for column, one in enumerate(pictures[:COLUMNS]):
            left, top = GAP + column * (CELL[0] + GAP), GAP + row * (CELL[1] + CAPTION + GAP)
            small = one.image.copy()
            small.thumbnail((CELL[0] * OVERSAMPLING, CELL[1] * OVERSAMPLING), Image.Resampling.LANCZOS)
            canvas.image.paste(small, (left * OVERSAMPLING, top * OVERSAMPLING))
            lines = canvas.wrapped(one.caption, 12 * scale, CELL[0] * scale)
            for number, line in enumerate(lines[:4]):
                canvas.text((left * scale, (top + CELL[1] + 4 + 14 * number) * scale), line, 12 * scale, INK)
    return canvas.finished()
