"""Blank pictures, gradients and noise."""

from __future__ import annotations

from random import Random

from PIL import Image

from trainables.probes.kit.canvas import Canvas, Drawing, Fact, Size
from trainables.probes.kit.texts import COLOURS

GREYS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
NOISE_CELLS = (1, 4, 16)  # pixels of one spot


def draw(rng: Random, size: Size, index: int) -> Drawing:
    """Draw the plain picture of this number: blank, a gradient and noise take turns."""
    return (_blank, _noise, _gradient, _noise)[index % 4](rng, size)


def _blank(rng: Random, size: Size) -> Drawing:
    name, colour = rng.choice(sorted({**GREYS, **COLOURS}.items()))
    accept = (name, "gray") if name == "grey" else (name,)
    fact = Fact("colour", "Which colour is this picture? Answer in one word.", accept)
    return Drawing("plain", Image.new("RGB", size, colour), f"A blank {name} picture.", (fact,))


def _noise(rng: Random, size: Size) -> Drawing:
    cell, mode = rng.choice(NOISE_CELLS), rng.choice(("L", "RGB"))
    columns, rows = -(-size[0] // cell), -(-size[1] // cell)
    spots = Image.frombytes(mode, (columns, rows), rng.randbytes(columns * rows * len(mode)))
    image = spots.resize((columns * cell, rows * cell), Image.Resampling.NEAREST).crop((0, 0, *size)).convert("RGB")
    return Drawing("plain", image, f"{'Grey' if mode == 'L' else 'Coloured'} noise that shows nothing.")


def _gradient(rng: Random, size: Size) -> Drawing:
    (first, one), (second, other) = rng.sample(sorted(COLOURS.items()), 2)
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.composite(Image.new("RGB", size, other), Image.new("RGB", size, one), ramp)
    is_vertical = rng.random() < 0.5
    if not is_vertical:
        canvas = Canvas(size, one, rng)
        ramp = Image.linear_gradient("L").rotate(90).resize(canvas.image.size)
        solid = [Image.new("RGB", canvas.image.size, colour) for colour in (other, one)]
        canvas.image = Image.composite(solid[0], solid[1], ramp)
        image = canvas.finished()
    where, there = ("top", "bottom") if is_vertical else ("left", "right")
    return Drawing(
        "plain",
        image,
        f"A gradient from {first} at the {where} to {second} at the {there}.",
        (Fact("colour", f"Which colour is at the {where} edge of this picture? Answer in one word.", (first,)),),
    )
